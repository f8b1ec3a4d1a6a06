"""charlstm.text_file: files of ids from texts of any size."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import charlstm
from charlstm import text_file
from charlstm.sources import read_text
from charlstm.text_file import encode_file, open_ids

CHARACTERS = st.sampled_from("ab \n\r\x85éß가각ᄀ\u1161\u11a8\u0301\u0316\u0f73\u0338=か\u3099😀,")


@settings(max_examples=60)
@example(text="か\u3099" * 150, block=7, mark=False)  # no space far and wide
@given(text=st.text(CHARACTERS, min_size=3), block=st.integers(1, 9), mark=st.booleans())
def test_the_ids_are_those_of_the_whole_text(tmp_path_factory, text, block, mark):
    """Whatever the borders of the blocks cut through: a character's bytes, a line end, a combining character."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "text.txt").write_bytes(b"\xef\xbb\xbf" * mark + ("xy" + text).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_file, "BLOCK", block)
        ids = encode_file(folder / "text.txt", folder / "ids")
    expected = read_text(folder / "text.txt")
    assert ids.vocabulary.decode(ids) == expected and len(ids) == len(expected)
    assert ids.vocabulary == charlstm.Vocabulary.from_text(expected)
    assert sorted(path.name for path in folder.iterdir()) == ["ids", "text.txt"]


@pytest.mark.parametrize(("n_characters", "dtype"), [(200, np.uint8), (300, np.uint16)])
def test_the_numbers_are_as_small_as_can_be(tmp_path, n_characters, dtype):
    text = "".join(chr(0x4E00 + i) for i in range(n_characters)) * 30
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    ids = encode_file(tmp_path / "text.txt", tmp_path / "ids")
    assert ids.dtype == dtype and ids.vocabulary.decode(ids[:500]) == text[:500]


def test_a_mapped_file_is_trained_on_like_an_array(tmp_path):
    text = "the goose girl went over the hill. " * 100
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    mapped = encode_file(tmp_path / "text.txt", tmp_path / "ids")
    train_ids, held_out_ids = charlstm.split(mapped)
    assert train_ids.vocabulary == held_out_ids.vocabulary == mapped.vocabulary
    whole = mapped.vocabulary.encode(text)
    for ours, other in zip(
        charlstm.make_dataset(mapped, 20, seed=1), charlstm.make_dataset(whole, 20, seed=1), strict=True
    ):
        assert all(map(np.array_equal, ours, other))
    assert charlstm.make_dataset(mapped, 20).vocabulary == mapped.vocabulary


@pytest.mark.parametrize("place", [5, text_file.BLOCK - 1, text_file.BLOCK + 7])
def test_a_byte_that_cannot_be_read_is_named_with_its_place(tmp_path, place):
    data = bytearray(b"some words\n" * (text_file.BLOCK // 11 + 100))
    data[place] = 0xFF
    (tmp_path / "text.txt").write_bytes(data)
    line = data[:place].count(b"\n") + 1
    with pytest.raises(ValueError, match=f"byte 0xFF at offset {place}, in line {line}"):
        encode_file(tmp_path / "text.txt", tmp_path / "ids")
    assert not (tmp_path / "ids").exists()


def test_an_interrupted_run_leaves_what_was_there(tmp_path):
    (tmp_path / "text.txt").write_text("old and short " * 9, encoding="utf-8")
    before = encode_file(tmp_path / "text.txt", tmp_path / "ids").vocabulary
    (tmp_path / "text.txt").write_text("new and long, 0123456789\n" * 200_000, encoding="utf-8")
    code = f"""
import os
from charlstm import text_file
encode = text_file.Vocabulary.encode
def die(self, text):
    die.calls += 1
    os._exit(9) if die.calls == 3 else None
    return encode(self, text)
die.calls = 0
text_file.Vocabulary.encode = die
text_file.encode_file({str(tmp_path / "text.txt")!r}, {str(tmp_path / "ids")!r})
"""
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONUTF8": "1"}).returncode == 9
    assert open_ids(tmp_path / "ids").vocabulary == before


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "model"])
def test_a_file_that_is_no_whole_file_of_ids_is_refused(tmp_path, damage):
    (tmp_path / "text.txt").write_text("words and words " * 9, encoding="utf-8")
    encode_file(tmp_path / "text.txt", tmp_path / "ids")
    data = (tmp_path / "ids").read_bytes()
    damaged = {"cut": data[:-20], "other": b"some text " * 30, "empty": b""}
    damaged["model"] = charlstm.model_file.PRETRAINED.read_bytes()
    (tmp_path / "ids").write_bytes(damaged[damage])
    with pytest.raises(ValueError, match="is not a whole file of encode_file"):
        open_ids(tmp_path / "ids")


def test_bad_paths_are_refused_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        encode_file(tmp_path / "none.txt", tmp_path / "ids")
    (tmp_path / "text.txt").write_text("words", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        encode_file(tmp_path / "text.txt", tmp_path / "no" / "ids")
    for content in b"", b"words\0and words":
        (tmp_path / "text.txt").write_bytes(content)
        with pytest.raises(ValueError, match="holds no text, or bytes that are none"):
            encode_file(tmp_path / "text.txt", tmp_path / "ids")
    with pytest.raises(ValueError, match="can't be read as utf-7000: unknown encoding"):
        encode_file(tmp_path / "text.txt", tmp_path / "ids", "utf-7000")
    assert not (tmp_path / "ids").exists()
