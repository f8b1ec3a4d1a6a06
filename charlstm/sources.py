"""Where texts come from: the files of the texts known by name, and how a file becomes text. Used in 01_data."""

import hashlib
import os
import sys
import tempfile
import time
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import whitespace
from urllib.parse import urlsplit

import platformdirs

from charlstm.console import say

TEXTS = Path(__file__).parent / "texts"
# That a text may have if it is not UTF-8, the commoner first. More would make the guess worse, not better.
ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "iso8859_2", "koi8_r", "mac_cyrillic"]
ENCODINGS += ["cp949", "shift_jis", "euc_jp", "iso2022_jp", "gb18030", "big5", "utf_16", "utf_16_le", "utf_16_be"]
NO_TEXT = {"\0": "NUL", "\x1b": "ESC"}  # what no text has, but a file of something else


@dataclass(frozen=True)
class Source:
    """A text known by name: its file, the addresses of these very bytes, the markers between which the text stands."""

    title: str
    file_name: str
    start: str = ""  # empty: from the first character
    end: str = ""  # empty: to the last
    encoding: str = "utf-8"
    sha256: str = ""  # empty, like urls: the file comes with this package
    urls: tuple[str, ...] = ()


_tables = tomllib.loads((TEXTS / "sources.toml").read_text(encoding="utf-8"))
SOURCES = {name: Source(**table) for name, table in _tables.items()}


class SourceUnavailable(OSError):
    """A known text was found neither on this machine nor on the network."""


def find_file(name: str, seconds: float = 600) -> Path:
    """The file of the known text ``name`` (a key of ``SOURCES``), its SHA-256 checked wherever it comes from.

    Looked for in the folder that the environment variable CHARLSTM_DATA names, then in the user's cache, then at the
    source's addresses, for ``seconds`` at most; from there it goes into the cache, or, saying so, into a temporary
    folder if the cache can't be written. Raises SourceUnavailable with what was tried and what to do.
    """
    source = SOURCES[name]
    if not source.urls:
        return TEXTS / source.file_name
    cache = Path(platformdirs.user_cache_dir("charlstm"))
    tried = []
    for folder in filter(None, (os.environ.get("CHARLSTM_DATA"), cache)):
        path = Path(folder).expanduser() / source.file_name
        if _is_right(path, source):
            return path
        tried.append(f"{path} " + ("is another file (wrong SHA-256)" if path.is_file() else "does not exist"))
        if path.is_file():
            say(f"{tried[-1]}, so it is not used.")
    deadline, folder = time.monotonic() + seconds, None
    for url in source.urls:
        try:
            folder = folder or _folder_for(source, cache)
            return _download(url, source, folder, deadline)
        except (OSError, ValueError) as error:
            if _is_right(cache / source.file_name, source):  # another process has brought it meanwhile
                return cache / source.file_name
            reason = "sent another file (wrong SHA-256)" if isinstance(error, ValueError) else type(error).__name__
            tried.append(f"{urlsplit(url).hostname}: {reason}")
    advice = f"save {source.urls[0]} as {source.file_name} in {cache} or in a folder that CHARLSTM_DATA names"
    raise SourceUnavailable(f"{source.title} is unavailable ({'; '.join(tried)}): {advice}")


def slice_between(text: str, start: str = "", end: str = "") -> str:
    """``text`` from the first ``start`` up to the first ``end`` after it; without a marker, from or to its own end.

    Raises ValueError for a missing marker, where ``str.find`` gives -1 and the slice would be some wrong text.
    """
    begin = text.find(start)
    stop = text.find(end, begin + len(start)) if end else len(text)
    for place, marker in (begin, start), (stop, end):
        if place < 0:
            raise ValueError(f"the marker {marker!r} is missing, or before its turn: is it the right file, and whole?")
    return text[begin:stop]


def read_blocks(path: Path, encoding: str = "utf-8", size: int = 2**20) -> Iterator[str]:
    """The text in the file ``path`` in pieces of about ``size`` characters: without a byte-order mark, with ``"\\n"`` as
    line ends, in the Unicode form NFC; a line says so if it had to be brought into this form.

    Raises ValueError, with what to do, for a file that is empty, binary, in another encoding or in several.
    """
    held, n_read, n_given, chars = "", 0, 0, set()
    for block in _decode(path, encoding, size):
        if strange := NO_TEXT.keys() & set(block):
            place, char = min((block.index(char), char) for char in strange)
            where = f"the byte {NO_TEXT[char]} at character {n_read + place}"
            raise ValueError(f"{path} has {where}: {_guess(path.open('rb').read(2**20))}")
        held, n_read, chars = held + block, n_read + len(block), chars | set(block)
        # The form NFC combines nothing with a space or a line end, so that a piece may end before one.
        cut = max(held.rfind(" "), held.rfind("\n"), 0)
        yield (piece := unicodedata.normalize("NFC", held[:cut]))
        held, n_given = held[cut:], n_given + len(piece)
    if len(chars - set(whitespace)) < 2:
        raise ValueError(f"{path} holds no text, or one character over and over: give a file with a text to learn from")
    yield (piece := unicodedata.normalize("NFC", held))
    if n_read != (n_given := n_given + len(piece)):
        say(f"{path.name}: combined characters (Unicode form NFC): {n_read:,} became {n_given:,}.")


def _decode(path: Path, encoding: str, size: int) -> Iterator[str]:
    try:
        file = open(path, encoding=encoding)  # noqa: SIM115
    except LookupError as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    with file:
        try:
            yield file.read(size).removeprefix("\ufeff")
            while block := file.read(size):
                yield block
        except UnicodeError as error:
            reason = _diagnose(path, error, file.buffer.tell())
            raise ValueError(f"{path} can't be read as {encoding}: {reason}") from None


def _is_right(path: Path, source: Source) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256


def _folder_for(source: Source, cache: Path) -> Path:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
        return cache
    except OSError:
        say(f"{cache} can't be written, so {source.file_name} is not kept and has to be downloaded again next time.")
        return Path(tempfile.mkdtemp(prefix="charlstm-"))


def _download(url: str, source: Source, folder: Path, deadline: float) -> Path:
    # pooch downloads to a temporary name, checks the hash, and only then moves the file to its place.
    import pooch
    from tqdm import tqdm

    class Progress(tqdm):
        def update(self, n=1):
            if time.monotonic() > deadline:
                raise TimeoutError
            return super().update(n)

    pooch.get_logger().setLevel("WARNING")  # its note of address and path does not belong in a notebook
    # Without a console there is no stderr.
    settings = {"total": 1, "unit": "B", "unit_scale": True, "ncols": 79, "leave": False, "disable": sys.stderr is None}
    with Progress(desc=source.file_name, **settings) as progress:
        timeout = min(10, max(0.1, deadline - time.monotonic()))
        download = pooch.HTTPDownloader(progressbar=progress, timeout=timeout)
        return Path(pooch.retrieve(url, f"sha256:{source.sha256}", source.file_name, folder, downloader=download))


def _diagnose(path: Path, error: UnicodeError, end: int) -> str:
    # Where the first byte is that can't be read, and what to do; `end`: of the bytes in which the decoder stopped.
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    offset = end - len(error.object) + error.start
    with path.open("rb") as file:
        data = file.read(offset + 2**20)
    where = f"byte 0x{data[offset]:02X} at offset {offset}, in line {data[:offset].count(10) + 1}"
    characters = data.decode("utf-8", "surrogateescape")
    unreadable = sum("\udc80" <= char <= "\udcff" for char in characters)
    if not unreadable and NO_TEXT.keys().isdisjoint(characters):
        return f"{where}; it is UTF-8: leave encoding= out"
    if unreadable < sum(char > "\x7f" for char in characters) - unreadable:
        return f"{where}; most of the rest is UTF-8, so the file mixes encodings: mend {unreadable} bytes like this one"
    return f"{where}; {_guess(data)}"


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    passages = {}  # and the encoding that gives them, the likeliest first
    for match in from_bytes(data, cp_isolation=ENCODINGS):
        text = str(match)
        if NO_TEXT.keys().isdisjoint(text):
            first = next((place for place, char in enumerate(text) if char > "\x7f"), 0)
            encoding = min(match.could_be_from_charset, key=ENCODINGS.index)  # of those that read the same
            passages.setdefault(text[max(0, first - 20) : first + 40], encoding)
    if not passages:
        return "it seems to be no text at all; give a plain text file"
    choices = [f"encoding={encoding!r} reads {passage!r}" for passage, encoding in passages.items()]
    return f"save it as UTF-8, or give load_corpus the encoding that reads right: {', or '.join(choices[:2])}"
