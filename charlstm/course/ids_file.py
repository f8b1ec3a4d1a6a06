"""A text that never fits into memory: a file of its ids, which the system maps. Used in notebook 10_scale."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from charlstm.console import say
from charlstm.data import Ids, Vocabulary, find_own
from charlstm.files import path_to_write, replacing, to_json
from charlstm.sources import passage_of, read_blocks


def encode_file(source: str | os.PathLike | list, target: str | os.PathLike, encoding: str = "utf-8") -> Ids:
    """Turn a text of any size into a file of ids, and open it (``open_ids``). Built in notebook 10_scale.

    source: as ``load_corpus`` takes your own files; it is read twice, a million characters at a time.
    target: an .npy file, with ids of 1, 2 or 4 bytes, as few as will do; behind them stands the vocabulary, as JSON.

    Raises like ``load_corpus``, ValueError or OSError if ``target`` can't be written or holds something else, and
    ValueError if the text changes meanwhile; ``target`` is then as it was.
    """
    target, paths = path_to_write(target, ".npy"), find_own(source)
    if target in map(Path.resolve, paths):
        raise ValueError(f"{target} is the text itself: give another path for its ids")
    if target.exists() and target.stat().st_size:
        open_ids(target)  # or else it is no file to replace
    chars, length = set(), 0
    for block in _blocks(paths, encoding):
        chars |= set(block)
        length += len(block)
    vocabulary = Vocabulary("".join(sorted(chars)))
    dtype = np.min_scalar_type(len(vocabulary) - 1)
    changed = ValueError(f"{', '.join(map(str, paths))} changed while it was read: run this again when it is whole")
    with replacing(target) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(paths, encoding):
            length -= len(block)
            if length < 0 or not set(block) <= chars:
                raise changed
            file.write(vocabulary.encode(block).astype(dtype).tobytes())
        if length:
            raise changed
        file.write(to_json(vocabulary.chars).encode())
    if encoding != "utf-8":
        say("\n".join(f"{path.name} reads {passage_of(next(read_blocks(path, encoding)))!r}" for path in paths))
    ids = open_ids(target)
    say(f"{target.name}: {len(ids):,} characters, {len(vocabulary)} unique")
    return ids


def open_ids(path: str | os.PathLike) -> Ids:
    """The ids in a file of ``encode_file``, uint8, uint16 or uint32 ``[n]``: the operating system brings those that are
    looked at. Raises FileNotFoundError, or ValueError for another or a shortened file."""
    path = Path(os.path.expanduser(path))
    try:
        mapped = np.load(path, mmap_mode="r")
        if mapped.ndim != 1 or mapped.dtype.kind != "u":
            raise ValueError("no ids")
        with path.open("rb") as file:
            file.seek(mapped.offset + mapped.nbytes)
            vocabulary = Vocabulary(json.loads(file.read()))
    except FileNotFoundError:
        raise
    except Exception:  # noqa: BLE001
        raise ValueError(f"{path} is not a whole file of encode_file: make it again, at another path") from None
    ids = mapped.view(Ids)
    ids.vocabulary = vocabulary
    return ids


def _blocks(paths: list[Path], encoding: str) -> Iterator[str]:
    # The texts of all files, joined by line ends, in pieces of about a million characters.
    for number, path in enumerate(paths):
        yield "\n" * (number > 0)
        yield from read_blocks(path, encoding)
