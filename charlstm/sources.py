"""The texts that ``load_corpus`` knows by name, and how their files get here. Used in notebook 01_data."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"


@dataclass(frozen=True)
class Source:
    """A text known by name: its file, the address of these very bytes, the markers between which the text stands."""

    title: str
    file_name: str
    start: str
    end: str
    sha256: str | None = None  # None, like url: the file comes with this package
    url: str | None = None


_tables = tomllib.loads((TEXTS / "sources.toml").read_text(encoding="utf-8"))
SOURCES = {name: Source(**table) for name, table in _tables.items()}


class SourceUnavailable(OSError):
    """A known text was found neither on this machine nor on the network."""


def find_file(name: str) -> Path:
    """The file of the known text ``name`` (a key of ``SOURCES``), its SHA-256 checked.

    Looked for in the folder that the environment variable CHARLSTM_DATA names, then in the user's cache, then at the
    source's address, from where it goes into the cache. Raises SourceUnavailable with what was tried and what to do.
    """
    import pooch

    source = SOURCES[name]
    if source.url is None:
        return TEXTS / source.file_name
    tried = []
    if folder := os.environ.get("CHARLSTM_DATA"):
        path = Path(folder) / source.file_name
        if path.is_file() and pooch.file_hash(path) == source.sha256:
            return path
        tried.append(f"{path} " + ("has the wrong SHA-256" if path.is_file() else "does not exist"))
    cache = Path(pooch.os_cache("charlstm"))
    pooch.get_logger().setLevel("WARNING")  # its note of the address and the path does not belong in a notebook
    download = pooch.HTTPDownloader(progressbar=True, timeout=5)
    try:
        return Path(pooch.retrieve(source.url, f"sha256:{source.sha256}", source.file_name, cache, downloader=download))
    except (OSError, ValueError) as error:  # no network, no place in the cache, or other bytes than these
        tried.append(f"the download failed ({type(error).__name__})")
        raise SourceUnavailable(
            f"{source.title} could not be had ({'; '.join(tried)}): save {source.url} as {source.file_name} "
            f"in {cache}, or in a folder that CHARLSTM_DATA names"
        ) from None


def slice_between(text: str, start: str, end: str) -> str:
    """``text`` from the first ``start`` up to the first ``end`` after it.

    Raises ValueError for a missing marker, where ``str.find`` gives -1 and the slice would be some wrong text.
    """
    _, found_start, rest = text.partition(start)
    body, found_end, _ = rest.partition(end)
    if not (found_start and found_end):
        missing = end if found_start else start
        raise ValueError(
            f"the marker {missing!r} is missing, or stands in the wrong order: is this the right file, and whole?"
        )
    return start + body
