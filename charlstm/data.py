"""From a text file to an array of integers, one for each character. Built by hand in notebook 01_data."""

import difflib
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from charlstm.sources import SOURCES, SourceUnavailable, find_file, read_text, slice_between


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a text in sorted order. A character's place in that order, from 0, is its id.

    Chapter 16's two mappings, built in notebook 01_data: ``encode`` makes ids of characters, ``decode`` the reverse.
    """

    chars: str

    def __post_init__(self):
        if not isinstance(self.chars, str) or not self.chars or list(self.chars) != sorted(set(self.chars)):
            raise ValueError("a vocabulary is made of different characters in sorted order: use from_text(some_text)")

    @classmethod
    def from_text(cls, text: str) -> "Vocabulary":
        """The vocabulary of all characters that occur in ``text``. Raises ValueError if there are none."""
        return cls("".join(sorted(set(text))))

    @cached_property
    def _codes(self) -> np.ndarray:
        return _code_points(self.chars)

    @cached_property
    def _id_of_code(self) -> np.ndarray:
        # Position = code point, value = id, -1 = unknown: one array look-up encodes a whole text.
        table = np.full(self._codes.max() + 2, -1, dtype=np.int32)
        table[self._codes] = np.arange(len(self))
        return table

    def encode(self, text: str) -> np.ndarray:
        """The ids of the characters of ``text``: int32 of shape ``[len(text)]``.

        Raises ValueError for a character that the vocabulary lacks, naming it and its position.
        """
        codes = _code_points(text)
        ids = self._id_of_code[np.minimum(codes, len(self._id_of_code) - 1)]
        if (unknown := ids < 0).any():
            position = int(unknown.argmax())
            raise ValueError(
                f"character {text[position]!r} (U+{codes[position]:04X}) at position {position} is not one of the "
                f"{len(self)} characters of the vocabulary: {self._suggest(text, text[position])}"
            )
        return ids

    def _suggest(self, text: str, char: str) -> str:
        for form in ("NFC", "NFD"):
            if set(unicodedata.normalize(form, text)) <= set(self.chars):
                return f"write the text in another Unicode form, unicodedata.normalize({form!r}, text)"
        plain = unicodedata.normalize("NFKD", char)[0].translate(str.maketrans("‘’“”–—", "''\"\"--"))
        similar = [repr(other) for other in (plain, plain.swapcase()) if other != char and other in self]
        return f"did you mean {similar[0]}?" if similar else "leave it out or replace it (vocabulary.chars lists them)"

    def decode(self, ids: np.ndarray) -> str:
        """The text that ``ids``, integers of shape ``[n]``, stand for. Raises ValueError for an id out of range."""
        ids = np.asarray(ids, dtype=np.int64)
        if ids.size and not (0 <= ids.min() and ids.max() < len(self)):
            raise ValueError(f"ids must lie between 0 and {len(self) - 1}, but run from {ids.min()} to {ids.max()}")
        return self._codes[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def __len__(self) -> int:
        return len(self.chars)

    def __contains__(self, char: str) -> bool:
        return len(char) == 1 and char in self.chars


@dataclass(frozen=True)
class Corpus:
    """A text to learn from (notebook 01_data); ``len(corpus)`` is its number of characters.

    name: a key of ``SOURCES``, or your file's name; text: the whole text; origin: the title or path it came from.
    """

    name: str
    text: str = field(repr=False)
    origin: str

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_text(self.text)

    def describe(self, seq_length: int = 50, batch_size: int = 64) -> str:
        """What to know before training, to print: sizes, the rarest characters, and warnings if there is cause."""
        counts = sorted(Counter(self.text).items(), key=lambda item: item[1])
        rare = sum(count < 10 for _, count in counts)
        sequences = len(self) // (seq_length + 1)
        batches = -(-sequences // batch_size)
        rarest = ", ".join(f"{char!r} {count:,}" for char, count in counts[:8])
        lines = f"{self.name}: {len(self):,} characters, {len(counts):,} unique\nrarest: {rarest}\n"
        lines += f"{sequences:,} sequences of {seq_length}, {batches:,} batches of {batch_size} an epoch"
        if len(self) < 20_000:
            lines += "\nWarning: too short to learn from. Take 20,000 characters at least, better 100,000."
        if rare > len(counts) / 2:
            lines += f"\nWarning: {rare:,} of the {len(counts):,} unique characters occur less than 10 times, "
            lines += "too rarely to be learned. Take more text, or replace them."
        return lines

    def __len__(self) -> int:
        return len(self.text)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}: {len(self):,} characters, {len(self.vocabulary)} unique)"


def load_corpus(source: str | os.PathLike | None = None, encoding: str = "utf-8") -> Corpus:
    """The text to learn from. Built in notebook 01_data.

    source: ``"grimm"``, ``"mysterious_island"`` or ``"tales"`` (bundled with this package), or the path to a text of
        your own. None takes Grimm if it can be had, else the tales, and says in one line which and why.
    encoding: of your own file. What there is to know of the file before training is printed (``Corpus.describe``).

    Raises ValueError (unknown name, another encoding, no text), FileNotFoundError or IsADirectoryError (no such file),
    or SourceUnavailable (a known text that could be had nowhere).
    """
    if source is None:
        return _load_default()
    if source in SOURCES:
        return _load_known(source)
    if Path(source).is_dir():
        raise IsADirectoryError(f"{source} is a folder: give the path of one text file in it")
    if Path(source).is_file():
        corpus = Corpus(Path(source).stem, read_text(Path(source), encoding), str(source))
        print(corpus.describe())
        return corpus
    if Path(source).suffix or len(Path(source).parts) > 1:
        raise FileNotFoundError(f"there is no file {source}: check the folder and the spelling")
    close = difflib.get_close_matches(str(source), SOURCES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"give one of {', '.join(SOURCES)}, or the path to a text file"
    raise ValueError(f"{str(source)!r} is neither the name of a text nor a file: {hint}")


def split(ids: np.ndarray, held_out: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """``ids`` as a head to train on and a contiguous tail, the fraction ``held_out``, which training never sees.

    Both are views. Raises ValueError if a part would be empty. Used from notebook 01_data on.
    """
    border = int(len(ids) * (1 - held_out))
    if not 0 < border < len(ids):
        raise ValueError(f"held_out={held_out} leaves a part of {len(ids)} characters empty: give one such as 0.1")
    return ids[:border], ids[border:]


def _code_points(text: str) -> np.ndarray:
    # UTF-32 gives every character four bytes, so NumPy can read a text as an array of integers.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _load_default() -> Corpus:
    try:
        corpus = _load_known("grimm", seconds=6)
        print(f"Using {corpus.origin}.")
    except SourceUnavailable as error:
        corpus = _load_known("tales")
        print(f"Using {corpus.origin}: {error}.")
    return corpus


def _load_known(name: str, seconds: float = 600) -> Corpus:
    source = SOURCES[name]
    text = find_file(name, seconds).read_text(encoding="utf-8")  # in text mode every line end becomes "\n"
    return Corpus(name, slice_between(text, source.start, source.end), source.title)
