"""Known texts: files, downloads, markers."""

import dataclasses
import functools
import hashlib
import http.server
import threading

import pytest

import charlstm
from charlstm.sources import SOURCES, SourceUnavailable, find_file, slice_between


def test_slice_between_keeps_the_start_and_drops_the_end():
    assert slice_between("notes TALES once END licence", "TALES", "END") == "TALES once "


@pytest.mark.parametrize(("text", "missing"), [("once END", "TALES"), ("TALES once", "END"), ("END once TALES", "END")])
def test_slice_between_names_the_missing_marker(text, missing):
    with pytest.raises(ValueError, match=missing):
        slice_between(text, "TALES", "END")


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server on the loopback address in place of Grimm's real one; gives the folder that it serves."""
    served = tmp_path / "served"
    served.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    content = b"notes\r\nTHE GOOSE-GIRL and her geese\r\nEND OF THE PROJECT GUTENBERG"
    monkeypatch.setitem(
        SOURCES, "grimm",
        dataclasses.replace(
            SOURCES["grimm"],
            url=f"http://127.0.0.1:{server.server_port}/11027.txt",
            sha256=hashlib.sha256(content).hexdigest(),
        ),
    )  # fmt: skip
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")
    monkeypatch.delenv("CHARLSTM_DATA", raising=False)
    (served / "right").write_bytes(content)
    yield served
    server.shutdown()
    server.server_close()


def test_download_is_kept_in_the_cache(mirror):
    (mirror / "right").rename(mirror / "11027.txt")
    assert charlstm.load_corpus("grimm").text == "THE GOOSE-GIRL and her geese\n"
    (mirror / "11027.txt").unlink()
    assert charlstm.load_corpus("grimm").text == "THE GOOSE-GIRL and her geese\n"


def test_wrong_bytes_are_refused_and_not_kept(mirror):
    (mirror / "11027.txt").write_text("<html>sign in to the hotel's network</html>", encoding="utf-8")
    with pytest.raises(SourceUnavailable, match="the download failed"):
        charlstm.load_corpus("grimm")
    assert not (mirror.parent / "cache" / "11027.txt").exists()


def test_default_says_why_it_took_the_tales(mirror, capsys):
    assert charlstm.load_corpus().name == "tales"
    printed = capsys.readouterr().out
    assert printed.startswith("Using the bundled tales") and "could not be had" in printed and printed.count("\n") == 1


def test_folder_named_by_the_variable_comes_first(mirror, monkeypatch, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    monkeypatch.setenv("CHARLSTM_DATA", str(folder))
    (mirror / "right").rename(folder / "11027.txt")
    assert find_file("grimm") == folder / "11027.txt"
    (folder / "11027.txt").write_text("some other file", encoding="utf-8")
    with pytest.raises(SourceUnavailable, match="wrong SHA-256"):
        find_file("grimm")
