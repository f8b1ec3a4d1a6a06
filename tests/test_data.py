"""Corpora, vocabulary and split."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlstm

texts = st.text(st.characters(codec="utf-8"), min_size=1)


@given(texts)
def test_decode_undoes_encode(text):
    vocabulary = charlstm.Vocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32 and ids.shape == (len(text),)
    assert vocabulary.decode(ids) == text


@given(texts)
def test_encode_equals_the_plain_dictionary(text):
    vocabulary = charlstm.Vocabulary.from_text(text)
    id_of = {char: i for i, char in enumerate(sorted(set(text)))}
    assert vocabulary.encode(text).tolist() == [id_of[char] for char in text]


def test_vocabulary_is_a_sorted_set():
    vocabulary = charlstm.Vocabulary.from_text("goose")
    assert vocabulary.chars == "egos" and len(vocabulary) == 4
    assert "g" in vocabulary and "x" not in vocabulary and "go" not in vocabulary
    assert vocabulary == charlstm.Vocabulary.from_text("segoo") != charlstm.Vocabulary.from_text("go")


def test_unknown_character_is_named_with_its_position():
    with pytest.raises(ValueError, match=r"'€' \(U\+20AC\) at position 2 "):
        charlstm.Vocabulary.from_text("abc").encode("ab€")


@pytest.mark.parametrize("ids", [[-1], [0, 3]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match="between 0 and 2"):
        charlstm.Vocabulary.from_text("abc").decode(ids)


@pytest.mark.parametrize("value", ["ba", "aa", "", 3, ["a", "b"]])
def test_characters_in_disorder_are_refused(value):
    with pytest.raises(ValueError, match="in sorted order"):
        charlstm.Vocabulary(value)


def test_empty_text_has_no_vocabulary():
    with pytest.raises(ValueError, match="different characters in sorted order"):
        charlstm.Vocabulary.from_text("")


def test_split_is_contiguous_and_copies_nothing():
    ids = np.arange(100)
    head, tail = charlstm.split(ids, held_out=0.1)
    assert head.tolist() + tail.tolist() == ids.tolist() and len(tail) == 10
    assert np.shares_memory(head, ids) and np.shares_memory(tail, ids)


@pytest.mark.parametrize("held_out", [0, 1, -0.5, 1.5, 0.999])
def test_split_refuses_an_empty_part(held_out):
    with pytest.raises(ValueError, match="held_out"):
        charlstm.split(np.arange(100), held_out)


def test_grimm_figures(grimm):
    assert (len(grimm), len(grimm.vocabulary)) == (266_073, 70)
    assert repr(grimm) == "Corpus('grimm': 266,073 characters, 70 unique)"


def test_mysterious_island_figures(mysterious_island):
    assert (len(mysterious_island), len(mysterious_island.vocabulary)) == (1_112_350, 80)


def test_tales_come_with_the_package():
    tales = charlstm.load_corpus("tales")
    assert len(tales) >= 200_000 and 60 <= len(tales.vocabulary) <= 80
    assert tales.text.startswith("THE GOOSE-GIRL") and "END OF" not in tales.text


def test_there_are_many_tales():
    lines = charlstm.load_corpus("tales").text.splitlines()
    titles = {
        line for line in lines if line.isupper() and lines.count(line) == 2
    }  # in the contents, and above the tale
    assert len(titles) >= 40


def test_tales_do_not_repeat_themselves():
    sentences = " ".join(charlstm.load_corpus("tales").text.split()).replace("?", ".").replace("!", ".").split(". ")
    long_sentences = [sentence for sentence in sentences if len(sentence) > 60]
    assert max(map(long_sentences.count, set(long_sentences))) <= 3


GERMAN = "Es war einmal ein Mädchen, das hütete Gänse für den König. " * 20
KOREAN = "옛날 옛적에 거위 치는 소녀가 살았습니다. 소녀는 매일 들로 나갔습니다. " * 20


@pytest.fixture
def own(tmp_path):
    """own(content): a file of these bytes, or of this text in UTF-8."""

    def write(content):
        path = tmp_path / "own.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_own_text(own, capsys):
    corpus = charlstm.load_corpus(own("\ufeffEin Märchen\r\nzweite Zeile\rdritte\n"))
    assert (corpus.name, corpus.text) == ("own", "Ein Märchen\nzweite Zeile\ndritte\n")
    assert capsys.readouterr().out.startswith("own: 32 characters, 17 unique\nrarest: 'E' 1, 'M' 1, 'ä' 1")


def test_combined_characters_are_normalised_and_it_says_so(own, capsys):
    assert charlstm.load_corpus(own(unicodedata.normalize("NFD", KOREAN))).text == KOREAN
    assert "NFC" in capsys.readouterr().out
    charlstm.load_corpus(own(KOREAN))
    assert "NFC" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "encoding", "where"),
    [(GERMAN, "cp1252", "byte 0xE4 at offset 19, in line 1"), (KOREAN, "cp949", "byte 0xBF at offset 0, in line 1")],
)
def test_another_encoding_is_diagnosed_and_can_be_given(own, text, encoding, where):
    path = own(text.encode(encoding))
    with pytest.raises(ValueError, match=f"{where}.*encoding='{encoding}'"):
        charlstm.load_corpus(path)
    assert charlstm.load_corpus(path, encoding=encoding).text == text


def test_utf_16_is_diagnosed_and_can_be_given(own):
    path = own(GERMAN.encode("utf-16"))
    with pytest.raises(ValueError, match="encoding='utf_16'"):
        charlstm.load_corpus(path)
    assert charlstm.load_corpus(path, encoding="utf_16").text == GERMAN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b" \n\n", "holds no text"),
        (b"aaaa\naaaa\n", "one character over and over"),
        (b"once upon\0a time", "NUL at character 9"),
        (bytes(range(256)) * 50, "no text at all"),
        (GERMAN.encode() + "für".encode("cp1252"), "byte 0xFC at offset .* mixes encodings: mend 1 bytes"),
    ],
)
def test_files_that_are_no_text_are_refused(own, content, message):
    with pytest.raises(ValueError, match=message):
        charlstm.load_corpus(own(content))


def test_an_encoding_that_does_not_exist(own):
    with pytest.raises(ValueError, match="nonsense"):
        charlstm.load_corpus(own("once"), encoding="nonsense")


def test_missing_file_folder_and_unknown_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        charlstm.load_corpus("nowhere/own.txt")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        charlstm.load_corpus(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'grimm'"):
        charlstm.load_corpus("grim")
    with pytest.raises(ValueError, match="grimm, mysterious_island, tales"):
        charlstm.load_corpus("xyz")


def test_description_warns_of_short_texts_and_rare_characters():
    short = charlstm.Corpus("short", "the goose-girl " * 20, "").describe(seq_length=9, batch_size=8)
    assert "300 characters, 11 unique" in short and "30 sequences of 9, 4 batches of 8" in short
    assert "too short" in short and "too rarely" not in short
    many = charlstm.Corpus("many", "a" * 30_000 + "".join(map(chr, range(0xAC00, 0xAD00))), "").describe()
    assert "256 of the 257 unique characters occur less than 10 times" in many and "too short" not in many
    assert "Warning" not in charlstm.load_corpus("tales").describe()
