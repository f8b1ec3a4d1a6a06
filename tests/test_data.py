"""Texts, vocabularies and ids, and the mistakes that newcomers make with them."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlstm

KOREAN = "옛날 옛적에 거위 치는 소녀가 살았습니다. 소녀는 매일 들로 나갔습니다. " * 20
PLAIN_TEXTS = "once upon a time\n" * 200, "once\nupon", "가" * 200, KOREAN, "and/or " * 1000, "~~~ " * 90


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_an_id_is_a_place_among_the_sorted_characters(text):
    vocabulary = charlstm.Vocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert vocabulary.chars == "".join(sorted(set(text))) and len(vocabulary) == len(set(text))
    assert ids.dtype == np.int32 and ids.tolist() == [vocabulary.chars.index(char) for char in text]
    assert vocabulary.decode(ids) == text


def test_ids_remember_their_vocabulary(text, vocabulary):
    ids = vocabulary.encode(text)
    assert ids.vocabulary is vocabulary and charlstm.split(ids)[0][5:].vocabulary is vocabulary
    assert type(ids + 1) is np.ndarray and isinstance(ids.max(), np.integer)


def test_unknown_characters_are_named_with_the_line_that_leaves_them_out():
    vocabulary, text = charlstm.Vocabulary.from_text("abc"), "ab€xy€"
    with pytest.raises(ValueError, match=r"lack 'xy€' .*'€' \(U\+20AC\) at position 2") as caught:
        vocabulary.encode(text)
    line = re.search(r"text = (.*)", str(caught.value))[1]  # as it stands in the message
    assert eval(line, {"text": text, "vocabulary": vocabulary}) == "ab"


def test_split_is_contiguous_and_copies_nothing():
    ids = np.arange(100)
    head, tail = charlstm.split(ids, held_out=0.1)
    assert head.tolist() + tail.tolist() == ids.tolist() and len(tail) == 10
    assert np.shares_memory(head, ids) and np.shares_memory(tail, ids)


ABC = charlstm.Vocabulary.from_text("abc")
MISTAKES = [(charlstm.Vocabulary, value, ValueError, "sorted order") for value in ("ba", "aa", "", 3, ["a", "b"])]
MISTAKES += [(ABC.decode, ids, ValueError, "between 0 and 2") for ids in ([-1], [0, 3])]
MISTAKES += [(charlstm.load_corpus, text, ValueError, "is a text") for text in PLAIN_TEXTS]
MISTAKES += [
    (lambda part: charlstm.split(np.arange(9), part), part, ValueError, "held_out") for part in (0, 1, -0.5, 1.5, 0.999)
]
MISTAKES += [
    (charlstm.Vocabulary.from_text, "", ValueError, "sorted order"),
    (ABC.encode, ["the", "goose"], TypeError, "only a string"),
    (charlstm.load_corpus, "https://www.gutenberg.org/files/11027/11027.txt", ValueError, "is an address"),
    (charlstm.load_corpus, 3, TypeError, "int"),
    (charlstm.load_corpus, "nowhere/own.txt", FileNotFoundError, "no file nowhere/own.txt"),
    (charlstm.load_corpus, "~nobody/own.txt", FileNotFoundError, "no file ~nobody/own.txt"),
    (charlstm.load_corpus, "grim", FileNotFoundError, "grimm, mysterious_island, tales"),
    (charlstm.load_corpus, [], FileNotFoundError, "no .txt file"),
]


@pytest.mark.parametrize(("function", "value", "error", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_get_a_short_answer(function, value, error, message):
    with pytest.raises(error, match=message) as caught:
        function(value)
    assert len(str(caught.value)) < 200


def test_grimm_figures(grimm):
    assert (len(grimm), len(grimm.vocabulary)) == (266_073, 70)
    goose_girl = [34, 22, 19, 1, 21, 29, 29, 33, 19, 9, 21, 23, 32, 26]
    assert grimm.vocabulary.encode("THE GOOSE-GIRL").tolist() == goose_girl
    assert grimm.text.startswith("THE GOOSE-GIRL\n\nTHE LITTLE BROTHER AND SISTER\n\nHANS")


def test_mysterious_island_figures(mysterious_island):
    assert (len(mysterious_island), len(mysterious_island.vocabulary)) == (1_112_350, 80)


def test_many_tales_come_with_the_package_and_do_not_repeat_themselves():
    tales = charlstm.load_corpus("tales")
    assert len(tales) >= 200_000 and 60 <= len(tales.vocabulary) <= 80 and "Warning" not in tales.describe()
    assert tales.text.startswith("THE GOOSE-GIRL") and "END OF" not in tales.text
    lines = tales.text.splitlines()  # a title stands in the contents, and above its tale
    assert len({line for line in lines if line.isupper() and lines.count(line) == 2}) >= 40
    sentences = [sentence for sentence in re.split("[.?!] ", " ".join(tales.text.split())) if len(sentence) > 60]
    assert max(map(sentences.count, set(sentences))) <= 3


def test_own_text(tmp_path, monkeypatch, capsys):
    (tmp_path / "own.txt").write_bytes("\ufeffEin Märchen\r\nzweite Zeile\rdritte\n".encode())
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    corpus = charlstm.load_corpus("~/own.txt")
    assert (corpus.name, corpus.text) == ("own", "Ein Märchen\nzweite Zeile\ndritte\n")
    assert repr(corpus) == "Corpus('own': 32 characters, 17 unique)"
    assert "32 characters, 17 unique" in capsys.readouterr().out


@pytest.mark.parametrize("decomposed", ["가 나 다", "the\u0301 a", "\u0958 a", "\u212b a"])
def test_characters_in_another_form_are_joined_and_it_says_so(tmp_path, decomposed, capsys):
    composed = unicodedata.normalize("NFC", decomposed)
    for text, said in (composed, 0), (unicodedata.normalize("NFD", decomposed), 1), (decomposed, 1):
        (tmp_path / "own.txt").write_text(text, encoding="utf-8")
        assert charlstm.load_corpus(tmp_path / "own.txt").text == composed
        printed = capsys.readouterr().out
        assert printed.count("NFC") == (said if text != composed else 0) and "-" not in printed


def test_a_folder_or_a_list_of_files_is_one_text(tmp_path, capsys, monkeypatch):
    for name, text in (("b.txt", "second"), ("a.txt", "first"), ("c.md", "not this one")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    corpus = charlstm.load_corpus(tmp_path)
    assert (corpus.text, corpus.name) == ("first\nsecond", tmp_path.name) and "2 files" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert charlstm.load_corpus(["b.txt", tmp_path / "a.txt"]).text == "second\nfirst"
    assert charlstm.load_corpus({"b.txt": b"second"}).text == "second"  # what Colab's files.upload() gives


def test_description_warns_of_short_texts_and_rare_characters():
    short = charlstm.Corpus("short", "the goose-girl " * 20, "").describe()
    assert "300 characters, 11 unique" in short and "too short" in short and "too rarely" not in short
    many = charlstm.Corpus("many", "a" * 30_000 + "".join(map(chr, range(0xAC00, 0xAD00))), "").describe()
    assert "256 of the" in many and "too rarely" in many and "too short" not in many
