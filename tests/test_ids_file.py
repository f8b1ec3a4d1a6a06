"""Files of ids from texts of any size."""

import threading
import time

import numpy as np
import pytest

import charlstm
from charlstm.course.ids_file import encode_file, open_ids

TEXTS = {"few characters": "the goose girl went over the hill. ", "many": "".join(map(chr, range(0x4E00, 0x4F40)))}


@pytest.mark.parametrize(("name", "dtype"), [("few characters", np.uint8), ("many", np.uint16)])
@pytest.mark.parametrize("parts", [["a.txt"], ["b.txt", "a.txt"], "."])
def test_the_ids_are_those_of_the_corpus(tmp_path, monkeypatch, name, dtype, parts):
    monkeypatch.chdir(tmp_path)
    for number, file_name in enumerate(("a.txt", "b.txt")):  # each longer than what is read at once
        text = ("x\r\ny\u0308 " * number + TEXTS[name]) * (1_200_000 // len(TEXTS[name]))
        (tmp_path / file_name).write_text(text, encoding="utf-16")
    ids = encode_file(parts, "ids.npy", "utf-16")
    corpus = charlstm.load_corpus(parts, "utf-16")
    assert ids.vocabulary == corpus.vocabulary and np.array_equal(ids, corpus.vocabulary.encode(corpus.text))
    assert charlstm.make_dataset(charlstm.split(ids)[1]).vocabulary == ids.vocabulary
    assert ids.dtype == dtype and np.array_equal(np.load("ids.npy", mmap_mode="r"), ids)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "ids.npy"]


@pytest.fixture
def own(tmp_path):
    """A small text, and where its ids shall lie."""
    (tmp_path / "own.txt").write_text("the goose girl. " * 100, encoding="utf-8")
    return tmp_path / "own.txt", tmp_path / "ids.npy"


CHANGES = {
    "longer": lambda file: file.write(b" and more"),
    "shorter": lambda file: file.truncate(2**24),
    "a new character": lambda file: file.seek(-1, 2) and file.write(b"?"),
    "another one, and a new one": lambda file: file.write(b"?"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_text_that_changes_while_it_is_read_replaces_nothing(own, change):
    encode_file(*own)
    before = own[1].read_bytes()
    own[0].write_bytes(b"the goose girl. " * 1_200_000)

    def change_it():  # as soon as it is read for the second time, and its ids are written
        while not [*own[1].parent.glob("*.partial")]:
            time.sleep(0.001)
        with own[0].open("r+b") as file:
            file.seek(0, 2)
            change(file)

    (thread := threading.Thread(target=change_it, daemon=True)).start()
    with pytest.raises(ValueError, match=r"own.txt changed while it was read"):
        encode_file(*own)
    thread.join()
    assert own[1].read_bytes() == before and len([*own[1].parent.iterdir()]) == 2


def test_a_text_is_not_replaced_by_its_ids(own):
    own[0].rename(own[1])
    with pytest.raises((ValueError, OSError), match="ids.npy"):
        encode_file(own[1], own[1])
    assert own[1].read_text(encoding="utf-8").startswith("the goose")


DAMAGES = {f"cut to {length}": lambda data, length=length: data[:length] for length in (0, 5, 127, 128, 1000, -20, -1)}
DAMAGES |= {"a text": lambda data: b"some text " * 30, "longer": lambda data: data + b"!"}
DAMAGES |= {"a model": lambda data: charlstm.PRETRAINED.read_bytes()}
DAMAGES |= {"no ids": lambda data: data.replace(b"|u1", b"|b1"), "a list": lambda data: data[:1728] + b"[1]"}
DAMAGES |= {"a table": lambda data: data.replace(b"(1600,)", b"(80,20)"), "open": lambda data: data.replace(b"}", b" ")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_file_of_ids_is_refused(own, damage):
    encode_file(*own)
    own[1].write_bytes(DAMAGES[damage](own[1].read_bytes()))
    with pytest.raises(ValueError, match="ids.npy is not"):
        open_ids(own[1])


@pytest.mark.parametrize(
    ("source", "message"),
    [("none.txt", "no file"), ("once\nupon", "is a text"), (["own.txt", "empty.txt"], "empty.txt holds no")],
)
def test_what_cannot_be_read_leaves_no_file(own, monkeypatch, source, message):
    monkeypatch.chdir(own[0].parent)
    own[0].with_name("empty.txt").touch()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        encode_file(source, own[1])
    assert len(list(own[0].parent.iterdir())) == 2
