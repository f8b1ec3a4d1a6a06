"""Texts, vocabularies and ids, and the mistakes that newcomers make with them."""

import json
import math
import re
import unicodedata
from pathlib import Path

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
    (charlstm.load_corpus, "nowhere/own.txt", FileNotFoundError, "no file 'nowhere/own.txt'"),
    (charlstm.load_corpus, "~nobody/own.txt", FileNotFoundError, "no file '~nobody/own.txt'"),
    (charlstm.load_corpus, "grim", FileNotFoundError, "grimm, mysterious_island, tales"),
    (charlstm.load_corpus, [], FileNotFoundError, "no .txt file"),
    (charlstm.load_corpus, "", FileNotFoundError, "no file ''"),
    (charlstm.load_corpus, Path("grimm"), FileNotFoundError, "load_corpus knows"),
    (charlstm.load_corpus, ["grimm", "tales"], FileNotFoundError, "load_corpus knows"),
    (charlstm.load_corpus, "C:\\Temp\new.txt", ValueError, "write r'C:"),
    (charlstm.load_corpus, "C:\texts\book.txt", ValueError, "write r'C:"),
    (charlstm.Vocabulary.from_text, "\ud83d and \ude00", ValueError, "surrogates"),
    (ABC.decode, np.array([0.2, 0.7]), TypeError, "argmax"),
    (ABC.decode, [True, False], TypeError, "bool"),
    (lambda part: charlstm.split(np.arange(9), part), math.nan, ValueError, "held_out"),
    (lambda part: charlstm.split(np.arange(9), part), "0.1", TypeError, "held_out"),
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
    assert "32 characters, 17 unique" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["가 나 다", "the\u0301 a", "\u0958 a", "\u212b a"])
def test_characters_in_another_form_are_joined(tmp_path, text):
    for form in text, unicodedata.normalize("NFD", text):
        (tmp_path / "own.txt").write_text(form, encoding="utf-8")
        assert charlstm.load_corpus(tmp_path / "own.txt").text == unicodedata.normalize("NFC", text)


def test_a_folder_or_a_list_of_files_is_one_text(tmp_path, capsys, monkeypatch):
    left_out = "c.md", ".hidden.txt", "._a.txt", "a folder.txt"  # ._a.txt: what a Mac adds, on a stick
    for name, text in (("b.TXT", "first"), ("a.txt", "second"), *((name, "\0") for name in left_out[:3])):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / left_out[3]).mkdir()
    corpus, printed = charlstm.load_corpus(tmp_path), capsys.readouterr().out
    assert (corpus.text, corpus.name) == ("second\nfirst", tmp_path.name) and "2 files" in printed
    assert all(name in printed.split("left out: ")[1] for name in left_out)
    monkeypatch.chdir(tmp_path)
    Path("b.txt").write_text("second", encoding="utf-8")
    Path("a.txt").write_text("first", encoding="utf-8")
    assert charlstm.load_corpus(["b.txt", tmp_path / "a.txt"]).text == "second\nfirst"
    assert charlstm.load_corpus({"b.txt": b"second"}).text == "second"  # what Colab's files.upload() gives


def test_an_encoding_is_that_of_the_files_that_are_not_utf8(tmp_path, capsys):
    texts = {
        "a.txt": ("für Mädchen\n" * 90, "utf-8"),
        "b.txt": ("größer, König\n" * 90, "cp1252"),
        "c.txt": ("a b", "ascii"),
    }
    for name, (text, encoding) in texts.items():
        (tmp_path / name).write_text(text, encoding=encoding, newline="\n")
    with pytest.raises(ValueError, match=r"b.txt can't") as caught:
        charlstm.load_corpus(tmp_path)
    advice = dict(re.findall(r"encoding='(\w+)' reads (['\"].*?['\"])(?:,|$)", str(caught.value)))
    followed = next(name for name, passage in advice.items() if "größer" in passage)
    assert charlstm.load_corpus(tmp_path, encoding=followed).text == "\n".join(text for text, _ in texts.values())
    printed = capsys.readouterr().out
    assert all(f"{name} reads {text[:9]!r}"[:-1] in printed for name, (text, _) in texts.items())


@given(st.text())  # surrogates, too, where there is no coder that they must fit
def test_what_json_changes_is_no_vocabulary_and_the_advice_helps(text):
    chars = "".join(sorted({*text, "a"}))
    try:
        assert charlstm.Vocabulary(chars).chars == json.loads(json.dumps(chars))
    except ValueError as error:
        followed = eval(re.search("text.*decode.*?\\)", str(error))[0], {"text": chars})
        assert charlstm.Vocabulary.from_text(followed).chars == re.sub("[\ud800-\udfff]", "", chars)


def test_description_warns_of_short_texts_and_rare_characters():
    short = charlstm.Corpus("short", "the goose-girl " * 20, "").describe()
    assert "300 characters, 11 unique" in short and "too short" in short and "too rarely" not in short
    many = charlstm.Corpus("many", "a" * 30_000 + "".join(map(chr, range(0xAC00, 0xAD00))), "").describe()
    assert "256 of the" in many and "too rarely" in many and "too short" not in many
