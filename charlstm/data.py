"""From a text file to an array of integers, one for each character. Built by hand in notebook 01_data."""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from charlstm.console import check_number, say
from charlstm.sources import SOURCES, SourceUnavailable, find_file, passage_of, read_blocks, slice_between


class Ids(np.ndarray):
    """An array of ids that remembers the ``vocabulary`` it was made with, as do its slices, but not what is computed."""

    vocabulary: "Vocabulary | None" = None

    def __array_finalize__(self, source):
        self.vocabulary = getattr(source, "vocabulary", None)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if return_scalar else np.asarray(array)


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a text in sorted order. A character's place in that order, from 0, is its id.

    Chapter 16's two mappings, built in notebook 01_data: ``encode`` makes ids of characters, ``decode`` the reverse.
    """

    chars: str

    def __post_init__(self):
        if not isinstance(self.chars, str) or not self.chars or list(self.chars) != sorted(set(self.chars)):
            raise ValueError("a vocabulary is made of different characters in sorted order: use from_text(some_text)")
        if json.loads(json.dumps(self.chars)) != self.chars:  # of two surrogates it makes one character
            raise ValueError("no file can hold surrogates: text.encode('utf-8', 'ignore').decode() leaves them out")

    @classmethod
    def from_text(cls, text: str) -> "Vocabulary":
        """The vocabulary of all characters that occur in ``text``. Raises ValueError if there are none."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> Ids:
        """The ids of the characters of ``text``: int32 of shape ``[len(text)]``, in an array that remembers this
        vocabulary.

        Raises ValueError for characters that the vocabulary lacks, naming them, the first one's position, and what to
        do; TypeError if ``text`` is no string.
        """
        if not isinstance(text, str):
            raise TypeError(f"only a string can be encoded, such as corpus.text, not a {type(text).__name__}")
        codes, known = _code_points(text), _code_points(self.chars)
        table = np.full(known[-1] + 2, -1, np.int32)  # place: code point, value: id; -1: unknown
        table[known] = np.arange(len(self))
        ids = table[np.minimum(codes, known[-1] + 1)]
        if (unknown := np.flatnonzero(ids < 0)).size:
            place, chars = unknown[0], "".join(sorted({text[i] for i in unknown}))
            first = f"the first is {text[place]!r} (U+{codes[place]:04X}) at position {place}"
            advice = "leave them out: text = ''.join(char for char in text if char in vocabulary)"
            raise ValueError(f"the {len(self)} characters of the vocabulary lack {chars[:20]!r} ({first}): {advice}")
        ids = ids.view(Ids)
        ids.vocabulary = self
        return ids

    def decode(self, ids: np.ndarray) -> str:
        """The text that ``ids``, integers of shape ``[n]``, stand for. Raises TypeError for anything else, and ValueError
        for an id out of range."""
        ids = np.asarray(ids) if np.size(ids) else np.zeros(0, int)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"ids must be integers, not {ids.dtype}: of probabilities, take argmax, or draw")
        if ids.size and not (0 <= ids.min() and ids.max() < len(self)):
            raise ValueError(f"ids must lie between 0 and {len(self) - 1}, but run from {ids.min()} to {ids.max()}")
        return _code_points(self.chars)[ids].tobytes().decode("utf-32-le", "surrogatepass")

    def difference(self, other: "Vocabulary") -> str:
        """In words, which characters one of the two has and the other lacks."""
        lacking, more = ("".join(sorted({*a.chars} - {*b.chars})) for a, b in ((other, self), (self, other)))
        return f"{len(self)} characters, without {lacking[:40]!r}, but with {more[:40]!r}"

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

    def describe(self) -> str:
        """What to know before training, to print: sizes, the rarest characters, and warnings if there is cause."""
        counts = Counter(self.text).most_common()[::-1]
        rarest = ", ".join(f"{char!r} {count:,}" for char, count in counts[:8])
        lines = [f"{self.name}: {len(self):,} characters, {len(counts):,} unique", f"rarest: {rarest}"]
        if len(self) < 20_000:
            lines += ["Warning: too short to learn from. Take 20,000 characters at least, better 100,000."]
        if (rare := sum(count < 10 for _, count in counts)) > len(counts) / 2:
            lines += [f"Warning: {rare:,} of the unique characters occur less than 10 times, too rarely to be learned."]
        return "\n".join(lines)

    def __len__(self) -> int:
        return len(self.text)


def load_corpus(source: str | os.PathLike | list | None = None, encoding: str = "utf-8") -> Corpus:
    """The text to learn from. Built in notebook 01_data.

    source: the name of a text in ``texts/sources.toml``, such as ``"grimm"``; or the path to a text of your own, to a
        folder (``find_own``), or a list of paths. None takes Grimm if it is available, else the tales that come with this
        package, and says in one line which and why.
    encoding: of those of your own files that are not UTF-8. What was read, and what there is to know of it before
        training, is printed (``Corpus.describe``).

    Raises ValueError (unknown name, another encoding, no text), FileNotFoundError (no such file), or SourceUnavailable
    (a known text that was found nowhere).
    """
    if source is None:
        return _load_default()
    if isinstance(source, str) and source in SOURCES:
        known = SOURCES[source]
        text = "".join(read_blocks(find_file(source), known.encoding))
        return Corpus(source, slice_between(text, known.start, known.end), known.title)
    paths = find_own(source)
    name = paths[0].stem if len(paths) == 1 else paths[0].absolute().parent.name
    texts = ["".join(read_blocks(path, encoding)) for path in paths]
    corpus = Corpus(name, "\n".join(texts), ", ".join(map(str, paths)))
    lines = [f"{len(paths)} files: {corpus.origin}"] * (len(paths) > 1)
    if encoding != "utf-8":
        lines += [f"{path.name} reads {passage_of(text)!r}" for path, text in zip(paths, texts, strict=True)]
    say("\n".join([*lines, corpus.describe()]))
    return corpus


def _load_default() -> Corpus:
    try:
        corpus, why = load_corpus("grimm"), ""
    except SourceUnavailable as error:
        corpus, why = load_corpus("tales"), f": {error}"
    say(f"Using {corpus.origin}{why}.")
    return corpus


def find_own(source: str | os.PathLike | list | tuple | dict) -> list[Path]:
    """The files of your own that ``load_corpus`` takes: a file, those of a list, or those of a folder, in the order of
    their names, that end in .txt or .TXT and are not hidden; a line names the others. (A list may be the dictionary that
    Colab's ``files.upload()`` gives: its keys are the names.)

    Raises FileNotFoundError, or ValueError for what can be no path, saying what it is instead.
    """
    if isinstance(source, list | tuple | dict):
        paths = [path for part in source for path in find_own(part)]
    else:
        path = Path(os.path.expanduser(source))
        if not (str(source) and os.path.exists(path)):  # where Path would raise, for what can be no path, this is False
            raise _not_there(str(source), path)
        paths = _texts_in(path) if path.is_dir() else [path]
    if not paths:
        raise FileNotFoundError(f"there is no .txt file in {str(source)!r}: give the path of a text file")
    return paths


def _texts_in(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir(), key=lambda path: path.name)  # on Windows, too, capital letters first
    texts = [path for path in paths if path.suffix.lower() == ".txt" and path.name[0] != "." and path.is_file()]
    if left := [path.name for path in paths if path not in texts]:
        say(f"Only files that end in .txt, and are not hidden, are read in {folder}; left out: {', '.join(left[:20])}")
    return texts


def _not_there(source: str, path: Path) -> Exception:
    if re.match("[a-z0-9]+://", source):
        return ValueError(f"{source} is an address: download the text first, and give the path of its file")
    if re.search("[\0-\x1f]", source) or len(source) > 1000 or any(len(os.fsencode(part)) > 255 for part in path.parts):
        advice = "charlstm.Corpus('my text', text, 'my own') takes it; for a path with backslashes write r'C:\\new.txt'"
        return ValueError(f"{source[:40]!r} is a text, not the path of a file: {advice}")
    return FileNotFoundError(f"there is no file {source!r}: check its path; load_corpus knows {', '.join(SOURCES)}")


def split(ids: np.ndarray, held_out: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """``ids`` as a head to train on and a contiguous tail, the fraction ``held_out``, which training never sees.

    Both are views. Raises ValueError if a part would be empty. Used from notebook 01_data on.
    """
    check_number("held_out", held_out, 0, 1)
    border = int(len(ids) * (1 - held_out) + 1e-9)
    if not 0 < border < len(ids):
        raise ValueError(f"held_out={held_out} leaves a part of {len(ids)} characters empty: give one such as 0.1")
    return ids[:border], ids[border:]


def _code_points(text: str) -> np.ndarray:
    # UTF-32 gives every character four bytes, so NumPy can read a text as an array of integers.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
