"""Corpora, vocabulary and split."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlstm
from charlstm import sources
from charlstm.sources import Source

texts = st.text(st.characters(codec="utf-8"), min_size=1)


@given(texts)
def test_decode_undoes_encode(text):
    vocabulary = charlstm.Vocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32 and ids.shape == (len(text),)
    assert vocabulary.decode(ids) == text


@given(texts)
def test_encode_equals_the_plain_dictionary(text):
    vocabulary = charlstm.Vocabulary.from_text(text)
    id_of = {char: i for i, char in enumerate(sorted(set(text)))}
    assert vocabulary.encode(text).tolist() == [id_of[char] for char in text]


def test_vocabulary_is_a_sorted_set():
    vocabulary = charlstm.Vocabulary.from_text("goose")
    assert vocabulary.chars == "egos" and len(vocabulary) == 4
    assert "g" in vocabulary and "x" not in vocabulary and "go" not in vocabulary
    assert vocabulary == charlstm.Vocabulary.from_text("segoo") != charlstm.Vocabulary.from_text("go")


def test_unknown_unicode_forms_get_a_suggestion():
    with pytest.raises(ValueError, match=r"normalize\('NFC', text\)"):
        charlstm.Vocabulary.from_text("thé ").encode("the\u0301")
    with pytest.raises(ValueError, match=r"normalize\('NFD', text\)"):
        charlstm.Vocabulary.from_text("the\u0301 ").encode("thé")
    with pytest.raises(ValueError, match="did you mean '\"'"):
        charlstm.Vocabulary.from_text('"a').encode("“a")


def test_unknown_character_is_named_with_its_position():
    vocabulary = charlstm.Vocabulary.from_text("abc")
    with pytest.raises(
        ValueError, match=r"'€' \(U\+20AC\) at position 2 .*nor are 2 more: 'xy'.*leave out what it lacks"
    ) as caught:
        vocabulary.encode(text := "ab€xy€")
    line = re.search(r"text = (.*)", str(caught.value))[1]  # as it stands in the message
    assert eval(line, {"text": text, "vocabulary": vocabulary}) == "ab"


@pytest.mark.parametrize("ids", [[-1], [0, 3]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match="between 0 and 2"):
        charlstm.Vocabulary.from_text("abc").decode(ids)


@pytest.mark.parametrize("value", ["ba", "aa", "", 3, ["a", "b"]])
def test_characters_in_disorder_are_refused(value):
    with pytest.raises(ValueError, match="in sorted order"):
        charlstm.Vocabulary(value)


def test_empty_text_has_no_vocabulary():
    with pytest.raises(ValueError, match="different characters in sorted order"):
        charlstm.Vocabulary.from_text("")


def test_split_is_contiguous_and_copies_nothing():
    ids = np.arange(100)
    head, tail = charlstm.split(ids, held_out=0.1)
    assert head.tolist() + tail.tolist() == ids.tolist() and len(tail) == 10
    assert np.shares_memory(head, ids) and np.shares_memory(tail, ids)


@pytest.mark.parametrize("held_out", [0, 1, -0.5, 1.5, 0.999])
def test_split_refuses_an_empty_part(held_out):
    with pytest.raises(ValueError, match="held_out"):
        charlstm.split(np.arange(100), held_out)


def test_grimm_figures(grimm):
    assert (len(grimm), len(grimm.vocabulary)) == (266_073, 70)
    assert repr(grimm) == "Corpus('grimm': 266,073 characters, 70 unique)"


def test_mysterious_island_figures(mysterious_island):
    assert (len(mysterious_island), len(mysterious_island.vocabulary)) == (1_112_350, 80)


def test_tales_come_with_the_package():
    tales = charlstm.load_corpus("tales")
    assert len(tales) >= 200_000 and 60 <= len(tales.vocabulary) <= 80
    assert tales.text.startswith("THE GOOSE-GIRL") and "END OF" not in tales.text


def test_there_are_many_tales():
    lines = charlstm.load_corpus("tales").text.splitlines()
    titles = {
        line for line in lines if line.isupper() and lines.count(line) == 2
    }  # in the contents, and above the tale
    assert len(titles) >= 40


def test_tales_do_not_repeat_themselves():
    sentences = " ".join(charlstm.load_corpus("tales").text.split()).replace("?", ".").replace("!", ".").split(". ")
    long_sentences = [sentence for sentence in sentences if len(sentence) > 60]
    assert max(map(long_sentences.count, set(long_sentences))) <= 3


GERMAN = "Es war einmal ein Mädchen, das hütete Gänse für den König. " * 20
KOREAN = "옛날 옛적에 거위 치는 소녀가 살았습니다. 소녀는 매일 들로 나갔습니다. " * 20


@pytest.fixture
def own(tmp_path):
    """own(content): a file of these bytes, or of this text in UTF-8."""

    def write(content):
        path = tmp_path / "own.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_own_text(own, capsys):
    corpus = charlstm.load_corpus(own("\ufeffEin Märchen\r\nzweite Zeile\rdritte\n"))
    assert (corpus.name, corpus.text) == ("own", "Ein Märchen\nzweite Zeile\ndritte\n")
    assert capsys.readouterr().out.startswith("own: 32 characters, 17 unique\nrarest: 'E' 1, 'M' 1, 'ä' 1")


def test_combined_characters_are_normalised_and_it_says_so(own, capsys):
    assert charlstm.load_corpus(own(unicodedata.normalize("NFD", KOREAN))).text == KOREAN
    assert "NFC" in capsys.readouterr().out
    charlstm.load_corpus(own(KOREAN))
    assert "NFC" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "encoding", "where"),
    [(GERMAN, "cp1252", "byte 0xE4 at offset 19, in line 1"), (KOREAN, "cp949", "byte 0xBF at offset 0, in line 1")],
)
def test_another_encoding_is_diagnosed_and_can_be_given(own, text, encoding, where):
    path = own(text.encode(encoding))
    with pytest.raises(ValueError, match=f"{where}.*encoding='{encoding}' reads"):
        charlstm.load_corpus(path)
    assert charlstm.load_corpus(path, encoding=encoding).text == text


def test_utf_16_is_diagnosed_and_can_be_given(own):
    path = own(GERMAN.encode("utf-16"))
    with pytest.raises(ValueError, match="encoding='utf_16'"):
        charlstm.load_corpus(path)
    assert charlstm.load_corpus(path, encoding="utf_16").text == GERMAN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b" \n\n", "holds no text"),
        (b"aaaa\naaaa\n", "one character over and over"),
        (b"once upon\0a time", "the byte NUL at character 9"),
        (b"once upon\x1b[0m a time", "the byte ESC at character 9"),
        (bytes(range(256)) * 50, "no text at all"),
        (GERMAN.encode() + "für".encode("cp1252"), "byte 0xFC at offset .* mixes encodings: mend 1 bytes"),
    ],
)
def test_files_that_are_no_text_are_refused(own, content, message):
    with pytest.raises(ValueError, match=message):
        charlstm.load_corpus(own(content))


def test_a_file_of_utf_8_needs_no_other_encoding(own):
    with pytest.raises(ValueError, match="byte 0x.. at offset .*; it is UTF-8: leave encoding= out"):
        charlstm.load_corpus(own(GERMAN), encoding="ascii")


def test_an_encoding_that_does_not_exist(own):
    with pytest.raises(ValueError, match="nonsense"):
        charlstm.load_corpus(own("once"), encoding="nonsense")


RUSSIAN = "Жили-были старик со старухой у самого синего моря. Старик ловил неводом рыбу. " * 20
JAPANESE = "むかしむかし、あるところに、おじいさんとおばあさんが住んでいました。" * 20
GREEK = "Μια φορά κι έναν καιρό ήταν ένας βασιλιάς που είχε τρεις κόρες. " * 20
POLISH = "Dawno, dawno temu żyła sobie gęsiarka, która była królewną; pasła gęsi całą wiosnę. " * 20
TURKISH = "Bir varmış bir yokmuş, şehirde güzel bir kız yaşarmış; çığlık atmış ağlamış. " * 20


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (RUSSIAN, "mac_cyrillic"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (GREEK, "cp1253"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859_2"),
        (TURKISH, "cp1254"),
        (KOREAN, "utf_16_le"),
        (GERMAN, "utf_16_le"),
        (GERMAN, "utf_16_be"),
    ],
)
def test_the_advice_shows_how_the_text_would_read(own, text, encoding):
    with pytest.raises(ValueError, match="encoding that reads right") as caught:
        charlstm.load_corpus(own(text.encode(encoding)))
    first = next(place for place, char in enumerate(text) if char > "\x7f")
    assert repr(text[max(0, first - 20) : first + 20])[1:-1] in str(caught.value)


@pytest.mark.parametrize("before", ["", "a"])
def test_the_advice_for_a_long_text(own, before):
    with pytest.raises(ValueError, match="encoding='cp949' reads"):
        charlstm.load_corpus(own((before + KOREAN * 300).encode("cp949")))


def test_escape_bytes_and_nuls_are_named(own):
    for content, name in ((JAPANESE.encode("iso2022_jp"), "ESC"), ("Once upon a time".encode("utf_16_be"), "NUL")):
        with pytest.raises(ValueError, match=f"has the byte {name} at character 0"):
            charlstm.load_corpus(own(content))


def test_a_folder_or_a_list_of_files_is_one_text(tmp_path, capsys, monkeypatch):
    for name, text in (("b.txt", "second"), ("a.txt", "first"), ("c.md", "not this one")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert charlstm.load_corpus(tmp_path).text == "first\nsecond"
    assert charlstm.load_corpus(tmp_path).name == tmp_path.name and "2 files: " in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert charlstm.load_corpus(["b.txt", tmp_path / "a.txt"]).text == "second\nfirst"
    assert charlstm.load_corpus({"b.txt": b"second"}).text == "second"  # what Colab's files.upload() gives
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", []):
        with pytest.raises(FileNotFoundError, match="no .txt file"):
            charlstm.load_corpus(nothing)


def test_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "own.txt").write_text("once upon", encoding="utf-8")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert charlstm.load_corpus("~/own.txt").text == "once upon"


def test_what_is_no_path_is_answered(text):
    for value in (text, "once\nupon", "가" * 200, KOREAN, "and/or " * 1000, "~~~ " * 90):
        with pytest.raises(ValueError, match="this is a text, not the path") as caught:
            charlstm.load_corpus(value)
        assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="is an address: download"):
        charlstm.load_corpus("https://www.gutenberg.org/files/11027/11027.txt")
    with pytest.raises(TypeError, match="int"):
        charlstm.load_corpus(3)


def test_ids_remember_their_vocabulary(text, vocabulary):
    ids = vocabulary.encode(text)
    assert ids.vocabulary is vocabulary and charlstm.split(ids)[0][5:].vocabulary is vocabulary
    assert type(ids + 1) is np.ndarray and isinstance(ids.max(), np.integer)
    assert np.array(ids.tolist()).tolist() == ids.tolist()


def test_only_a_text_can_be_encoded(vocabulary):
    with pytest.raises(TypeError, match="only a string"):
        vocabulary.encode(["the", "goose"])


def test_a_known_text_goes_the_way_of_all_texts(tmp_path, monkeypatch):
    path = tmp_path / "new.txt"
    path.write_bytes(unicodedata.normalize("NFD", "Märchen\r\n").encode("cp949", "ignore") + "가".encode("cp949"))
    source = Source("A new text", "new.txt", encoding="cp949")
    monkeypatch.setitem(sources.SOURCES, "new", source)
    monkeypatch.setattr(sources, "TEXTS", tmp_path)
    assert charlstm.load_corpus("new").text == "Marchen\n가"


def test_missing_file_and_unknown_name():
    with pytest.raises(FileNotFoundError, match="there is no file"):
        charlstm.load_corpus("nowhere/own.txt")
    with pytest.raises(ValueError, match="did you mean 'grimm'"):
        charlstm.load_corpus("grim")
    with pytest.raises(ValueError, match="grimm, mysterious_island, tales"):
        charlstm.load_corpus("xyz")


def test_description_warns_of_short_texts_and_rare_characters():
    short = charlstm.Corpus("short", "the goose-girl " * 20, "").describe(seq_length=9, batch_size=8)
    assert "300 characters, 11 unique" in short and "30 sequences of 9, 4 batches of 8" in short
    assert "too short" in short and "too rarely" not in short
    many = charlstm.Corpus("many", "a" * 30_000 + "".join(map(chr, range(0xAC00, 0xAD00))), "").describe()
    assert "256 of the 257 unique characters occur less than 10 times" in many and "too short" not in many
    assert "Warning" not in charlstm.load_corpus("tales").describe()
