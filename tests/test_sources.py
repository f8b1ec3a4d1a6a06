"""How bytes become text, and where the texts known by name come from."""

import contextlib
import hashlib
import http.server
import re
import subprocess
import sys
import threading
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import charlstm
from charlstm.sources import SOURCES, SourceUnavailable, find_file, read_blocks, slice_between

GERMAN = "Es war einmal ein Mädchen, das hütete Gänse für den König. " * 20
TEXTS = {
    "cp1252 utf_16 utf_16_le utf_16_be": GERMAN,
    "cp949 utf_16_le": "옛날 옛적에 거위 치는 소녀가 살았습니다. 소녀는 매일 들로 나갔습니다. " * 20,
    "cp1251 koi8_r mac_cyrillic": "Жили-были старик со старухой у самого синего моря. Старик ловил неводом рыбу. " * 20,
    "shift_jis euc_jp iso2022_jp": "むかしむかし、あるところに、おじいさんとおばあさんが住んでいました。" * 20,
    "cp1253": "Μια φορά κι έναν καιρό ήταν ένας βασιλιάς που είχε τρεις κόρες. " * 20,
    "cp1250 iso8859_2": "Dawno, dawno temu żyła sobie gęsiarka, która była królewną; pasła gęsi całą wiosnę. " * 20,
    "cp1254": "Bir varmış bir yokmuş, şehirde güzel bir kız yaşarmış; çığlık atmış ağlamış. " * 20,
}
ENCODINGS = "utf-8", "utf-8-sig", "utf_16", "utf_16_be", "cp949", "shift_jis", "cp1252"
CHARACTERS = st.sampled_from("ab \n\r\x85éß가각ᄀ\u1161\u11a8\u0301\u0316\u0f73\u0338=か\u3099\u0958😀,")


@pytest.mark.parametrize(("text", "missing"), [("once END", "TALES"), ("TALES once", "END"), ("END once TALES", "END")])
def test_slice_between_keeps_the_start_and_names_a_missing_marker(text, missing):
    assert slice_between("notes TALES once END licence", "TALES", "END") == "TALES once "
    with pytest.raises(ValueError, match=missing):
        slice_between(text, "TALES", "END")


@example("ß가", 1, "utf_16_be")  # whose bytes are UTF-8, too, but for those that are 0
@example("か\u3099" * 150, 7, "utf-8")  # no space far and wide
@given(st.text(CHARACTERS), st.integers(1, 9), st.sampled_from(ENCODINGS))
@settings(max_examples=300)
def test_the_blocks_make_the_whole_text(tmp_path_factory, text, size, encoding):
    """Whatever the borders of the blocks cut through: a character's bytes, a line end, a combining character."""
    path, data = tmp_path_factory.getbasetemp() / "own.txt", ("xy" + text).encode(encoding, "ignore")
    path.write_bytes(data)
    whole = unicodedata.normalize("NFC", re.sub("\r\n?", "\n", data.decode(encoding)))
    assert "".join(read_blocks(path, encoding, size)) == whole


@pytest.mark.parametrize("size", [1, 7, 64, 2**20])
@pytest.mark.parametrize("place", [0, 5, 63, 64, 438])
def test_a_byte_that_cannot_be_read_is_named_with_its_line(tmp_path, place, size):
    data = bytearray(b"some words\n" * 40)
    data[place] = 0xFF
    (tmp_path / "own.txt").write_bytes(data)
    with pytest.raises(ValueError, match=rf"own.txt can't .*0xFF in line {data[:place].count(10) + 1}\b"):
        list(read_blocks(tmp_path / "own.txt", size=size))


@pytest.mark.parametrize("before", ["", "a"])
@pytest.mark.parametrize(("text", "encoding"), [(TEXTS[key], name) for key in TEXTS for name in key.split()])
def test_the_advice_shows_how_the_text_would_read(tmp_path, text, encoding, before):
    text = before + text * (1 if encoding == "iso2022_jp" else 20)
    path = tmp_path / "own.txt"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match="reads right") as caught:
        charlstm.load_corpus(path)
    first = next(place for place, char in enumerate(text) if char > "\x7f")
    suggestions = dict(re.findall(r"encoding='(\w+)' reads ['\"](.*?)['\"](?:,|$)", str(caught.value)))
    right = [name for name, passage in suggestions.items() if repr(text[first : first + 20])[1:-1] in passage]
    assert right and len(suggestions) <= 2
    assert charlstm.load_corpus(path, encoding=right[0]).text == text


REFUSED = {
    "holds no text": b"",
    "holds no text,": b" \n\n",
    "over and over": b"aaaa\naaaa\n",
    "0x00 in line 2;": b"once\nupon\0a time",
    "0x1B in line 1;": b"once upon\x1b[0m a time",
    "no text at": bytes(range(256)) * 50,
    "0x00 .*mend this byte": GERMAN.encode() + b"\0",
    "0xFC .*mend this byte": GERMAN.encode() + "für".encode("cp1252"),
    "line 1000001; (?!it is UTF-8)": b"some words\n" * 10**6 + "für".encode("cp1252"),
    **dict.fromkeys(["as ascii.*cp1252", "as nonsense: ", "as utf_16: .*BOM", "as hex: "], GERMAN.encode("cp1252")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_read_is_refused(tmp_path, message):
    (tmp_path / "own.txt").write_bytes(REFUSED[message])
    encoding = re.match(r"(?:as (\w+))?", message)[1] or "utf-8"
    with pytest.raises(ValueError, match=f"own.txt .*{message}"):
        charlstm.load_corpus(tmp_path / "own.txt", encoding)


CONTENT = b"notes\r\nTHE GOOSE-GIRL and her geese\r\nEND OF THE PROJECT GUTENBERG" + b" licence" * 20_000
TEXT = "THE GOOSE-GIRL and her geese\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path that is asked for; counts the requests."""

    requests = 0

    def do_GET(self):
        type(self).requests += 1
        time.sleep(10 if self.path == "/silent" else 0)
        body = b"<html>sign in to the hotel's network</html>" if self.path == "/html" else CONTENT
        with contextlib.suppress(ConnectionError):  # some of our clients hang up
            self.send_response(404 if self.path == "/missing" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for start in range(0, len(body) // (2 if self.path == "/cut" else 1), 8192):
                time.sleep(0.1 if self.path == "/slow" else 0)
                self.wfile.write(body[start : start + 8192])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve("good"): this is Grimm's address now, on a server of ours. Gives the path where the text is to lie."""
    Handler.requests, server = 0, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("CHARLSTM_DATA", str(tmp_path / "texts"))
    monkeypatch.setattr(SOURCES["grimm"], "sha256", hashlib.sha256(CONTENT).hexdigest())

    def set_address(path):
        port = 9 if path == "nobody" else server.server_port
        monkeypatch.setattr(SOURCES["grimm"], "url", f"http://127.0.0.1:{port}/{path}")
        return tmp_path / "texts" / "11027.txt"

    yield set_address
    server.shutdown()
    server.server_close()


def test_a_download_is_kept_and_the_second_time_nothing_is_printed(serve, capfd):
    path = serve("good")
    assert charlstm.load_corpus("grimm").text == TEXT and path.read_bytes() == CONTENT
    capfd.readouterr()
    assert charlstm.load_corpus("grimm").text == TEXT and capfd.readouterr() == ("", "")
    assert charlstm.load_corpus().text == TEXT and "Using Grimm's" in capfd.readouterr().out
    assert Handler.requests == 1 and list(path.parent.iterdir()) == [path]


BAD = {"html": "hash", "missing": "HTTPError", "cut": "ChunkedEncodingError", "nobody": "ConnectionError"}


@pytest.mark.parametrize(("address", "said"), [*BAD.items(), ("silent", "ReadTimeout")])
def test_bad_downloads_leave_nothing_behind_and_the_default_is_the_tales(serve, capsys, address, said):
    path = serve(address)
    assert charlstm.load_corpus().name == "tales"
    printed = capsys.readouterr().out
    assert "the bundled tales" in printed and said in printed and printed.count("\n") == 1
    assert f"save {SOURCES['grimm'].url} as {path}" in printed and not list(path.parent.iterdir())


def test_a_wrong_file_is_named_and_kept_as_it_is(serve):
    path = serve("good")
    path.parent.mkdir()
    path.write_bytes(CONTENT[:100])
    with pytest.raises(SourceUnavailable, match="11027.txt is another"):
        charlstm.load_corpus("grimm")
    assert path.read_bytes() == CONTENT[:100] and Handler.requests == 0


def test_a_folder_that_cannot_be_made(serve):
    serve("good").parent.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(SourceUnavailable, match="Error"):
        charlstm.load_corpus("grimm")


@pytest.mark.skipif(sys.platform != "linux", reason="the variable that names the cache is Linux's")
def test_without_a_folder_it_is_the_cache(serve, monkeypatch, tmp_path):
    serve("good")
    monkeypatch.delenv("CHARLSTM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_file("grimm") == tmp_path / "charlstm" / "11027.txt"


def fetch():
    """Another process, which brings Grimm into the same folder."""
    source = SOURCES["grimm"]
    code = f"from charlstm import sources as s; vars(s.SOURCES['grimm']).update({vars(source)}); s.find_file('grimm')"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def test_two_processes_may_download_at_once_though_a_third_was_killed(serve):
    path, process = serve("slow"), fetch()
    while not any(partial.stat().st_size > 8000 for partial in path.parent.glob("*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not path.exists()
    assert [process.wait(timeout=60) for process in [fetch(), fetch()]] == [0, 0] and Handler.requests == 3
    assert path.read_bytes() == CONTENT
