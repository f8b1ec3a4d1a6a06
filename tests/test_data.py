"""Corpora, vocabulary and split."""

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


def test_empty_text_has_no_vocabulary():
    with pytest.raises(ValueError, match="empty text"):
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


def test_tales_do_not_repeat_themselves():
    sentences = " ".join(charlstm.load_corpus("tales").text.split()).replace("?", ".").replace("!", ".").split(". ")
    long_sentences = [sentence for sentence in sentences if len(sentence) > 60]
    assert max(map(long_sentences.count, set(long_sentences))) <= 3


def test_own_text(tmp_path):
    path = tmp_path / "own.txt"
    path.write_bytes("\ufeffEin Märchen\r\nzweite Zeile\r\n".encode())
    corpus = charlstm.load_corpus(path)
    assert (corpus.name, corpus.text) == ("own", "Ein Märchen\nzweite Zeile\n")


def test_own_text_in_another_encoding(tmp_path):
    path = tmp_path / "own.txt"
    path.write_bytes("옛날 옛적에".encode("cp949"))
    with pytest.raises(ValueError, match="UTF-8"):
        charlstm.load_corpus(path)
    assert charlstm.load_corpus(path, encoding="cp949").text == "옛날 옛적에"
    with pytest.raises(ValueError, match="nonsense"):
        charlstm.load_corpus(path, encoding="nonsense")


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "own.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no text"):
        charlstm.load_corpus(tmp_path / "own.txt")


def test_missing_file_and_unknown_name():
    with pytest.raises(FileNotFoundError, match="there is no file"):
        charlstm.load_corpus("nowhere/own.txt")
    with pytest.raises(ValueError, match="did you mean 'grimm'"):
        charlstm.load_corpus("grim")
    with pytest.raises(ValueError, match="grimm, mysterious_island, tales"):
        charlstm.load_corpus("xyz")
