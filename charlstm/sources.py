"""Where texts come from: the files of the texts known by name, and how a file becomes text. Used in 01_data."""

import hashlib
import itertools
import os
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

TEXTS = Path(__file__).parent / "texts"
# That a text may have if it is not UTF-8, the commoner first. More would make the guess worse, not better.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "iso8859_2", "koi8_r", "mac_cyrillic"]
ENCODINGS += ["cp949", "shift_jis", "euc_jp", "iso2022_jp", "gb18030", "big5", "utf_16", "utf_16_le", "utf_16_be"]
# What no text has: the bytes NUL and ESC, and what could not be decoded (surrogateescape).
STRANGE = re.compile("[\0\x1b\udc80-\udcff]")

# The texts known by name: title, file, markers, encoding, checksum and addresses.
_tables = tomllib.loads((TEXTS / "sources.toml").read_text(encoding="utf-8"))
SOURCES = {name: SimpleNamespace(**table) for name, table in _tables.items()}


class SourceUnavailable(OSError):
    """A known text was found neither on this machine nor on the network."""


def find_file(name: str) -> Path:
    """The file of the known text ``name`` (a key of ``SOURCES``), its SHA-256 checked wherever it comes from.

    It lies in the folder that the environment variable CHARLSTM_DATA names, or else in the user's cache; what is not
    there yet is downloaded into it. Raises SourceUnavailable, saying why, and what to do.
    """
    import pooch

    source = SOURCES[name]
    if not source.url:
        return TEXTS / source.file_name
    folder = os.environ.get("CHARLSTM_DATA") or pooch.os_cache("charlstm")
    path = Path(os.path.expanduser(folder)) / source.file_name
    try:
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
            raise ValueError(f"{path} is another file (wrong SHA-256): move it away")
        pooch.get_logger().setLevel("WARNING")  # its note of address and path does not belong in a notebook
        patient = pooch.HTTPDownloader(timeout=6)  # seconds without an answer
        return Path(pooch.retrieve(source.url, source.sha256, path.name, path.parent, downloader=patient))
    except (OSError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        advice = f"save {source.url} as {path}, or in a folder that CHARLSTM_DATA names"
        raise SourceUnavailable(f"{source.title} is unavailable ({reason}): {advice}") from None


def slice_between(text: str, start: str = "", end: str = "") -> str:
    """``text`` from the first ``start`` up to the first ``end`` after it; without a marker, from or to its own end.

    Raises ValueError for a missing marker, where ``str.find`` gives -1 and the slice would be some wrong text.
    """
    begin = text.find(start)
    stop = text.find(end, begin + len(start)) if end else len(text)
    if min(begin, stop) < 0:
        marker = start if begin < 0 else end
        raise ValueError(f"the marker {marker!r} is missing, or before its turn: is it the right file, and whole?")
    return text[begin:stop]


def read_blocks(path: Path, encoding: str = "utf-8", size: int = 2**20) -> Iterator[str]:
    """The text in the file ``path`` in pieces of about ``size`` characters: without a byte-order mark, with ``"\\n"`` as
    line ends, in the Unicode form NFC. A file that is UTF-8 is read so, whatever ``encoding`` says.

    Raises ValueError, with what to do, for a file that is empty, binary, in another encoding or in several.
    """
    held, line, chars = "", 1, set()
    try:
        encoding = "utf-8" if encoding != "utf-8" and _is_utf8(path) else encoding
        with open(path, encoding=encoding, errors="surrogateescape") as file:
            for block in itertools.chain(iter(lambda: file.read(size), ""), [""]):
                block = block if chars else block.removeprefix("\ufeff")
                if strange := STRANGE.search(block):
                    line += block[: strange.start()].count("\n")
                    place = f"byte 0x{ord(strange[0]) % 256:02X} in line {line}"
                    raise ValueError(f"{path} can't be read as {encoding}: {place}; {_advice(path)}")
                held, line, chars = held + block, line + block.count("\n"), chars | set(block)
                # The form NFC combines nothing with a space or a line end, so that a piece may end before one.
                cut = max(held.rfind(" "), held.rfind("\n"), 0) if block else len(held)
                yield unicodedata.normalize("NFC", held[:cut])
                held = held[cut:]
    except (UnicodeError, LookupError) as error:
        raise ValueError(f"{path} can't be read as {encoding}: {error}") from None
    if sum(not char.isspace() for char in chars) < 2:
        raise ValueError(f"{path} holds no text, or one character over and over: give a file with a text to learn from")


def _is_utf8(path: Path) -> bool:
    # A file that has more than ASCII in it, and nothing strange if it is read as UTF-8, is no other.
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        blocks = [(block.isascii(), bool(STRANGE.search(block))) for block in iter(lambda: file.read(2**20), "")]
    return not all(is_ascii for is_ascii, _ in blocks) and not any(is_strange for _, is_strange in blocks)


def passage_of(text: str) -> str:
    """A few words around the first character in which encodings differ."""
    first = next((place for place, char in enumerate(text) if char > "\x7f"), 0)
    return text[max(0, first - 20) : first + 40]


def _advice(path: Path) -> str:
    # What to do with a file that can't be read, judged by its first ten million bytes.
    from charset_normalizer import from_bytes

    with path.open("rb") as file:
        data = file.read(10**7)
    characters = data.decode("utf-8", "surrogateescape")
    unreadable = len(STRANGE.findall(characters))
    if unreadable <= sum(char > "\x7f" for char in characters) - unreadable:
        return "most of the rest is UTF-8: mend this byte, and those like it"
    passages = {}  # and the encoding that gives them, the likeliest first
    for match in from_bytes(data, cp_isolation=ENCODINGS):
        text = str(match)
        if not STRANGE.search(text):
            encoding = min(match.could_be_from_charset, key=ENCODINGS.index)  # of those that read the same
            passages.setdefault(passage_of(text), encoding)
    if not passages:
        return "it seems to be no text at all; give a plain text file"
    choices = [f"encoding={encoding!r} reads {passage!r}" for passage, encoding in passages.items()]
    return f"save it as UTF-8, or give the encoding that reads right: {', or '.join(choices[:2])}"
