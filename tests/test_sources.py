"""Known texts and files: where they are looked for, what is refused, and how bytes become text."""

import contextlib
import dataclasses
import hashlib
import http.server
import subprocess
import sys
import threading
import time

import pytest

import charlstm
from charlstm.sources import SOURCES, SourceUnavailable, find_file, slice_between

CONTENT = b"notes\r\nTHE GOOSE-GIRL and her geese\r\nEND OF THE PROJECT GUTENBERG" + b" licence" * 20_000
TEXT = "THE GOOSE-GIRL and her geese\n"


def test_slice_between_keeps_the_start_and_drops_the_end():
    assert slice_between("notes TALES once END licence", "TALES", "END") == "TALES once "


@pytest.mark.parametrize(("text", "missing"), [("once END", "TALES"), ("TALES once", "END"), ("END once TALES", "END")])
def test_slice_between_names_the_missing_marker(text, missing):
    with pytest.raises(ValueError, match=missing):
        slice_between(text, "TALES", "END")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path that is asked for; counts the requests."""

    requests = 0

    def do_GET(self):
        type(self).requests += 1
        html = b"<html>sign in to the hotel's network</html>"
        body = html if self.path == "/html" else CONTENT
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/silent":
            time.sleep(2)
        with contextlib.suppress(ConnectionError):  # some of our clients hang up
            self.answer(body)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/cut":
            body = body[: len(body) // 2]
        for start in range(0, len(body), 8192):
            time.sleep(0.1 if self.path == "/slow" else 0)
            self.wfile.write(body[start : start + 8192])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve("html", "good"): these are Grimm's addresses now, on a server of ours; the cache is tmp_path / "cache"."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    Handler.requests = 0
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.delenv("CHARLSTM_DATA", raising=False)

    def set_addresses(*paths):
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{path}" for path in paths)
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        monkeypatch.setitem(SOURCES, "grimm", dataclasses.replace(SOURCES["grimm"], urls=urls, sha256=sha256))
        return tmp_path / "cache" / "11027.txt"

    yield set_addresses
    server.shutdown()
    server.server_close()


def test_download_is_kept_and_the_second_time_nothing_is_printed(serve, capfd):
    cached = serve("good")
    assert charlstm.load_corpus("grimm").text == TEXT
    assert cached.read_bytes() == CONTENT and Handler.requests == 1
    assert "11027.txt" in capfd.readouterr().err  # the progress bar
    assert charlstm.load_corpus("grimm").text == TEXT
    assert Handler.requests == 1 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("path", "said"), [("html", "another file"), ("missing", "HTTPError"), ("cut", "127.0.0.1: ChunkedEncodingError")]
)
def test_bad_downloads_are_refused_and_leave_nothing_behind(serve, path, said):
    cached = serve(path)
    with pytest.raises(SourceUnavailable, match=f"{said}.*save http.* as 11027.txt in "):
        charlstm.load_corpus("grimm")
    assert not list(cached.parent.iterdir())


def test_no_server_at_all(serve, monkeypatch):
    serve()
    monkeypatch.setitem(SOURCES, "grimm", dataclasses.replace(SOURCES["grimm"], urls=("http://127.0.0.1:9/11027.txt",)))
    with pytest.raises(SourceUnavailable, match="ConnectionError"):
        charlstm.load_corpus("grimm")


def test_the_next_address_is_tried(serve):
    serve("html", "cut", "good")
    assert charlstm.load_corpus("grimm").text == TEXT and Handler.requests == 3


@pytest.mark.parametrize(("path", "said"), [("slow", "TimeoutError"), ("silent", "ReadTimeout")])
def test_a_download_that_takes_too_long_is_given_up(serve, path, said):
    cached = serve(path)
    with pytest.raises(SourceUnavailable, match=said):
        find_file("grimm", seconds=0.5)
    assert not list(cached.parent.iterdir())


def test_the_default_falls_back_in_one_line_that_says_why(serve, capsys):
    serve("html")
    assert charlstm.load_corpus().name == "tales"
    printed = capsys.readouterr().out
    assert printed.startswith("Using the bundled tales") and "another file" in printed and printed.count("\n") == 1


def test_the_default_takes_grimm_if_it_can_be_had(serve, capsys):
    serve("good")
    assert charlstm.load_corpus().text == TEXT
    assert capsys.readouterr().out == "Using Grimm's Fairy Stories (Project Gutenberg eBook 11027).\n"


def test_a_damaged_cache_is_named_and_replaced(serve, capsys):
    cached = serve("good")
    cached.parent.mkdir()
    cached.write_bytes(CONTENT[:100])
    assert charlstm.load_corpus("grimm").text == TEXT and cached.read_bytes() == CONTENT
    assert capsys.readouterr().out == f"{cached} is another file (wrong SHA-256), so it is not used.\n"


def test_a_damaged_cache_is_refused_by_name(serve):
    cached = serve("missing")
    cached.parent.mkdir()
    cached.write_bytes(CONTENT[:100])
    with pytest.raises(SourceUnavailable, match=r"11027.txt is another file \(wrong SHA-256\)"):
        charlstm.load_corpus("grimm")


def test_a_cache_that_cannot_be_written(serve, capsys):
    cached = serve("good")
    cached.parent.write_text("a file where the folder should be", encoding="utf-8")
    assert charlstm.load_corpus("grimm").text == TEXT
    assert "can't be written" in capsys.readouterr().out


def test_the_folder_that_the_variable_names_comes_first(serve, monkeypatch, tmp_path):
    serve("good")
    folder = tmp_path / "texts"
    folder.mkdir()
    monkeypatch.setenv("CHARLSTM_DATA", str(folder))
    (folder / "11027.txt").write_bytes(CONTENT)
    assert find_file("grimm") == folder / "11027.txt" and Handler.requests == 0


def test_that_folder_may_lie_in_the_home_folder(serve, monkeypatch, tmp_path):
    serve("missing")
    for name, value in {"CHARLSTM_DATA": "~", "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "11027.txt").write_bytes(CONTENT)
    assert find_file("grimm") == tmp_path / "11027.txt"


def test_a_wrong_file_in_that_folder_is_refused_by_name(serve, monkeypatch, tmp_path):
    serve("missing")
    monkeypatch.setenv("CHARLSTM_DATA", str(tmp_path))
    (tmp_path / "11027.txt").write_text("some other file", encoding="utf-8")
    with pytest.raises(SourceUnavailable, match=r"11027.txt is another file \(wrong SHA-256\)"):
        find_file("grimm")


FETCH = (
    "import dataclasses, sys, platformdirs, charlstm.sources as s; platformdirs.user_cache_dir = lambda n: sys.argv[1];"
    "s.SOURCES['grimm'] = dataclasses.replace(s.SOURCES['grimm'], urls=(sys.argv[2],), sha256=sys.argv[3]);"
    "print(s.find_file('grimm'))"
)


def fetch(cached):
    """Another process, which brings Grimm into this cache."""
    source = SOURCES["grimm"]
    command = [sys.executable, "-c", FETCH, str(cached.parent), source.urls[0], source.sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_two_processes_may_download_at_once(serve):
    cached = serve("slow")
    processes = [fetch(cached) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [str(cached)] * 2
    assert [path.name for path in cached.parent.iterdir()] == ["11027.txt"] and cached.read_bytes() == CONTENT


def test_a_killed_download_is_not_taken_for_the_text(serve):
    cached = serve("slow", "good")
    process = fetch(cached)
    while not any(path.stat().st_size > 8000 for path in cached.parent.glob("*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not cached.exists()
    serve("good")
    assert charlstm.load_corpus("grimm").text == TEXT
