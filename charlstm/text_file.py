"""A text that never fits into memory: a file of ids, made in constant memory and read by mapping. Used in 10_scale."""

import codecs
import io
import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from charlstm.console import say, someone_watches
from charlstm.data import Ids, Vocabulary
from charlstm.model_file import path_to_write, write_whole

FILE_FORMAT = "charlstm-ids 1"
BLOCK = 2**20  # bytes that are read at once


class MappedIds(Ids, np.memmap):
    """Ids in a file, of which the operating system brings those that are looked at; with their ``vocabulary``."""


def encode_file(path: str | os.PathLike, target: str | os.PathLike, encoding: str = "utf-8") -> MappedIds:
    """Turn the text in the file ``path``, of any size, into a file of ids, and open it (``open_ids``).

    The text is read twice, a million bytes at a time: for its vocabulary, and for its ids, which are uint8, or uint16
    or uint32 where there are more characters. Byte-order mark, line ends and Unicode form are treated as by
    ``load_corpus``. ``target`` is a .safetensors file, and is there only when it is whole.

    Raises FileNotFoundError; ValueError for a file without text, or in another encoding, with the place of the first
    byte that can't be read; and OSError like ``path_to_write``. Built in notebook 10_scale.
    """
    path, target = Path(path).expanduser(), path_to_write(target)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the folder and the spelling")
    characters, length = set(), 0
    for text in _blocks(path, encoding, "vocabulary"):
        characters |= set(text)
        length += len(text)
    if len(characters) < 2 or not characters.isdisjoint("\0\x1b"):
        raise ValueError(f"{path} holds no text, or bytes that are none (NUL, ESC): give a plain text file")
    vocabulary = Vocabulary("".join(sorted(characters)))
    dtype = np.min_scalar_type(len(vocabulary) - 1).newbyteorder("<")
    offsets = {"dtype": f"U{8 * dtype.itemsize}", "shape": [length], "data_offsets": [0, length * dtype.itemsize]}
    metadata = {"format": FILE_FORMAT, "vocabulary": json.dumps(vocabulary.chars)}
    header = json.dumps({"__metadata__": metadata, "ids": offsets}).encode("ascii")
    header += b" " * (-len(header) % 8)

    def parts() -> Iterator[bytes]:
        yield len(header).to_bytes(8, "little") + header
        try:
            for text in _blocks(path, encoding, "ids"):
                yield vocabulary.encode(text).astype(dtype).tobytes()
        except OSError as error:  # of the text, not of the file that is written
            raise ValueError(f"{path} can't be read any more: {error.strerror}") from None

    write_whole(target, parts())
    say(f"{target.name}: {length:,} characters, {len(vocabulary)} unique")
    return open_ids(target)


def open_ids(path: str | os.PathLike) -> MappedIds:
    """The ids in a file of ``encode_file``, uint8, uint16 or uint32 ``[n]``, for ``split`` and ``make_dataset``.

    Raises FileNotFoundError, or ValueError for another or a shortened file.
    """
    path = Path(path).expanduser()
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(start, path.stat().st_size) - 8))
            if header["__metadata__"]["format"] != FILE_FORMAT:
                raise ValueError("another format")
            (length,), dtype = header["ids"]["shape"], f"<u{int(header['ids']['dtype'][1:]) // 8}"
            vocabulary = Vocabulary(json.loads(header["__metadata__"]["vocabulary"]))
            ids = MappedIds(path, dtype, "r", start, (length,))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is not a whole file of encode_file ({error}): make it again") from None
    ids.vocabulary = vocabulary
    return ids


def _blocks(path: Path, encoding: str, title: str) -> Iterator[str]:
    """The text in pieces of about a million characters, as ``read_text`` would give it."""
    from tqdm import tqdm

    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise ValueError(f"{path} can't be read as {encoding}: {error}") from None
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    held, start, lines = "", 0, 1  # held: what a combining character of the next piece could still change
    settings = {"unit": "B", "unit_scale": True, "ncols": 79, "leave": False, "disable": not someone_watches()}
    is_first = True
    with path.open("rb") as file, tqdm(desc=title, total=path.stat().st_size, **settings) as bar:
        while True:
            waiting, data = decoder.getstate()[0], file.read(BLOCK)
            try:
                text = newlines.decode(decoder.decode(data, final=not data))
            except UnicodeDecodeError as error:
                offset = start - len(waiting) + error.start
                line = lines + data[: max(0, offset - start)].count(10)
                found = f"byte 0x{error.object[error.start]:02X} at offset {offset}, in line {line}"
                raise ValueError(f"{path} can't be read as {encoding}: {found}; name its encoding") from None
            if text and is_first:
                text, is_first = text.removeprefix("\ufeff"), False
            text = held + text
            cut = len(text) - 1
            while cut > 0 and _joins(text, cut):
                cut -= 1
            held = text[cut:]
            yield unicodedata.normalize("NFC", text[:cut])
            start, lines = start + len(data), lines + data.count(10)
            bar.update(len(data))
            if not data:
                break
    yield unicodedata.normalize("NFC", held + newlines.decode("", final=True))


def _joins(text: str, place: int) -> bool:
    # Whether the form NFC may combine the character at this place with what stands before it.
    before, char = text[max(0, place - 4) : place], text[place]
    apart = [unicodedata.normalize("NFC", part) for part in (before, char)]
    combining = unicodedata.combining(unicodedata.normalize("NFD", char)[0])
    return combining > 0 or unicodedata.normalize("NFC", before + char) != "".join(apart)
