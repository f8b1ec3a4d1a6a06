"""The page: what is in the file, and, in a headless Chromium (see test_browser.py), what it computes and shows."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import charlstm
from charlstm import StepwiseLSTM, Vocabulary, weights_of

TEMPLATE = Path(charlstm.__file__).with_name("page.html")
HOSTILE = [
    *("</script><script>alert(1)</script>", "<!--<script>", "]]><img src=x onerror=alert(1)>", "\"'`${alert(1)}\\"),
    *("\u2028alert(1)\u2029", "\u202eright to left\u2066\u200f", "&lt;b&gt;&amp;", "\x00\x07\ufeff"),
    *("__proto__", "MODEL POLICY"),
]
CHARS = Vocabulary.from_text("\n !\"'-.AELaehilnorstuvw" + "".join(HOSTILE) + "é😀𝒜한")
browser_test = pytest.mark.browser


def small_weights(n_chars=len(CHARS)):
    """Of an LSTM that is sure of itself, in half precision; neither its 13 units nor its 55 characters are fours."""
    rng, shapes = np.random.default_rng(1), StepwiseLSTM.weight_shapes(n_chars, 7, 13)
    return halved({name: 0.6 * rng.normal(size=shape) for name, shape in shapes.items()})


def halved(weights):
    return {name: weight.astype(np.float16).astype(np.float32) for name, weight in weights.items()}


class Elements(html.parser.HTMLParser):
    """The elements of a page as a browser would find them, each with its name, attributes and text."""

    def __init__(self, path):
        super().__init__()
        self.found = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        self.handle_starttag(f"/{tag}", {})

    def handle_data(self, data):
        self.found[-1:] = [[*element[:2], element[2] + data] for element in self.found[-1:]]

    def all(self, tag):
        return [element[1:] for element in self.found if element[0] == tag]


# ---- The file


def test_the_template_can_be_read_in_one_sitting():
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350 and max(map(len, lines)) <= 120


def test_nothing_of_a_stranger_ends_the_data(tmp_path):
    card = {text: text for text in HOSTILE} | {"nested": [{"x": HOSTILE}], "loss": float("nan"), "n": np.float32(1.5)}
    charlstm.save_page(tmp_path / "page.html", small_weights(), CHARS, card)
    page = Elements(tmp_path / "page.html")
    assert [attributes for attributes, _ in page.all("script")] == [{"type": "application/json", "id": "model"}, {}]
    data = json.loads(page.all("script")[0][1], parse_constant=pytest.fail)  # browsers know no NaN
    assert "".join(map(chr, data["codes"])) == CHARS.chars
    assert data["card"] == card | {"loss": "NaN", "n": 1.5}
    assert len(page.found) == len(Elements(TEMPLATE).found)


def test_only_the_pages_own_script_and_style_may_run(tmp_path):
    charlstm.save_page(tmp_path / "page.html", small_weights(), CHARS)
    page = Elements(tmp_path / "page.html")
    policy = next(a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for kind, (_, inside) in (("script", page.all("script")[1]), ("style", page.all("style")[0])):
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    names = {name for _, attributes, _ in page.found for name in attributes}
    assert not names & {"src", "href", "style"} and not [name for name in names if name.startswith("on")]


def test_the_weights_are_those_of_the_model_in_half_precision(tmp_path, model, vocabulary):
    charlstm.save_page(tmp_path / "one.html", model, vocabulary)
    charlstm.save_page(tmp_path / "two.html", weights_of(model), vocabulary)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    stored = json.loads(Elements(tmp_path / "one.html").all("script")[0][1])["weights"]
    for name, weight in weights_of(model).items():
        assert base64.b64decode(stored[name]) == weight.astype("<f2").tobytes()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dense_bias": np.full(len(CHARS), np.nan)}, ValueError, "dense_bias"),
        ({"dense_bias": np.full(len(CHARS), 1e5)}, ValueError, "dense_bias"),  # more than half precision can hold
        ({"lstm_kernel": np.zeros((7, 51))}, ValueError, r"lstm_kernel .*\(7, 51\)"),
        ({"lstm_kernel": None}, ValueError, "lstm_kernel"),
        ({"vocabulary": Vocabulary("abc")}, ValueError, "vocabulary 3"),
        ({"vocabulary": "abc"}, TypeError, "Vocabulary"),
        ({"card": {"model": object()}}, TypeError, "<object .*"),
        ({"path": "no/such/folder/page.html"}, FileNotFoundError, "no.such.folder"),
        ({"path": "page.txt"}, ValueError, ".html"),
        ({"path": "."}, IsADirectoryError, "folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_saved_leaves_the_older_file(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    Path("page.html").write_bytes(b"older")
    settings = {"path": "page.html", "vocabulary": CHARS, "card": None} | arguments
    changed = small_weights() | {name: settings.pop(name) for name in arguments if "_" in name}
    with pytest.raises(error, match=message):
        charlstm.save_page(model={name: weight for name, weight in changed.items() if weight is not None}, **settings)
    assert Path("page.html").read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


def test_another_network_is_refused_by_its_layers(tmp_path):
    import keras

    other = keras.Sequential([keras.layers.Embedding(3, 4), keras.layers.GRU(4), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="GRU"):
        charlstm.save_page(tmp_path / "page.html", other, Vocabulary("abc"))


def test_the_command_writes_a_models_page_without_tensorflow(tmp_path, model, vocabulary):
    code = (
        "import runpy, sys, webbrowser; webbrowser.open = lambda page: print('opened', page)\n"
        "runpy.run_module('charlstm', run_name='__main__'); assert 'tensorflow' not in sys.modules"
    )

    def run(*arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    out = run("--no-browser")
    page = Path(re.search(r" (\S+\.html)\b", out)[1])
    assert "opened" not in out and page.stat().st_size > 4_000_000
    shutil.rmtree(page.parent)
    charlstm.save_model(mine := tmp_path / "mine.safetensors", model, vocabulary)
    before = mine.read_bytes()
    assert f"opened {mine.with_suffix('.html').as_uri()}" in run(mine) and mine.read_bytes() == before
    charlstm.save_page(tmp_path / "expected.html", model, vocabulary, charlstm.read_card(mine))
    assert mine.with_suffix(".html").read_bytes() == (tmp_path / "expected.html").read_bytes()


# ---- In the browser


@pytest.fixture
def show(browser, tmp_path):
    """show(weights, vocabulary, card, **options): the page of this model in the browser. In the end it must be that
    nothing was asked of the network, no dialog opened and the console was silent."""
    found, contexts = [], []

    def show(weights, vocabulary=CHARS, card=None, **options):
        charlstm.save_page(tmp_path / "page.html", weights, vocabulary, card)
        address = (tmp_path / "page.html").as_uri()
        contexts.append(browser.new_context(offline=True, **({"reduced_motion": "reduce"} | options)))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: request.url == address or found.append(request.url))
        page.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: found.append(message.text))
        page.on("pageerror", lambda error: found.append(str(error)))
        page.goto(address)
        return page

    yield show
    for context in contexts:
        context.close()
    assert found == []


@pytest.fixture(scope="module", params=["small", "packaged"])
def case(request):
    """Weights in half precision, vocabulary, and a text for them."""
    if request.param == "small":
        return small_weights(), CHARS, CHARS.decode(np.random.default_rng(2).integers(len(CHARS), size=300))
    weights, vocabulary, _ = charlstm.read_model_file()
    return halved(weights), vocabulary, request.getfixturevalue("grimm").text[-1300:-1000]


def write(page, prompt, until="Done", **fields):
    for label, value in {"Prompt": prompt, **fields}.items():
        page.get_by_label(label).fill(str(value))
    click(page, "Write", until)


def click(page, name, until):
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("status").filter(has_text=until).wait_for(timeout=120_000)


def written(page):
    return page.locator("#text").evaluate("text => text.textContent")


def shown(page):
    """The surprise, the unit's value, and the guesses at the chosen character."""
    numbers = re.findall(r"-?\d+\.\d+", page.locator("#surprise").inner_text())
    guesses = page.locator("#guesses li").all_inner_texts()
    return [float(number) for number in numbers], [float(re.search(r"([\d.]+)%", guess)[1]) / 100 for guess in guesses]


@browser_test
def test_the_probabilities_are_those_of_the_network(show, case):
    weights, vocabulary, text = case
    ids, network = vocabulary.encode(text)[:200], StepwiseLSTM(weights)
    script = """ids => { let next = { state: emptyState };
        return ids.map(id => (next = step(id, next.state), [Array.from(softmax(next.logits)), [...next.state.cell]])) }"""
    found, state = show(weights, vocabulary).evaluate(script, ids.tolist()), network.empty_state()
    for (probabilities, cell), char_id in zip(found, ids, strict=True):
        logits, state = network.step([char_id], state)
        np.testing.assert_allclose(probabilities, charlstm.scaled_softmax(logits[0]), rtol=0, atol=1e-4)
        np.testing.assert_allclose(cell, state[1][0], rtol=0, atol=1e-3)


@browser_test
def test_the_likeliest_text_is_the_generators(show, case):
    weights, vocabulary, text = case
    prompt, generator = text[:20].replace("\r", " "), charlstm.Generator(StepwiseLSTM(weights), vocabulary)
    page = show(weights, vocabulary)
    write(page, prompt, Temperature=0, Characters=500)
    assert written(page) == generator.generate(prompt, 500, temperature=0)


@browser_test
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.9}])
def test_draws_are_those_of_python(show, options):
    page, rng = show(small_weights()), np.random.default_rng(3)
    for temperature in (0, 1e-3, 0.7, 1.0, 2.0):
        logits, points = rng.normal(scale=3, size=(200, 20)), rng.random((200, 1))
        logits[:, 5] = logits[:, 6]  # of two equals the first comes first
        choices = {"temperature": temperature, "topK": options.get("top_k", 20), "topP": options.get("top_p", 1)}
        found = page.evaluate(
            "([rows, points, choices]) => rows.map((row, i) => draw(row, points[i][0], choices))",
            [logits.tolist(), points.tolist(), choices],
        )
        assert found == charlstm.draw(logits, points, temperature, **options).tolist()


@browser_test
def test_a_seed_repeats_and_a_stop_changes_nothing(show):
    page, texts = show(small_weights()), []
    for seed in (7, 7, 8):
        write(page, '\n"a', Seed=seed, Characters=400)
        texts.append(written(page))
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0][-100:])) > 10
    write(page, '\n"a', Seed=7, Characters=150)
    click(page, "Go on", "300 new")
    assert written(page) == texts[0][:303]
    write(page, '\n"a', "Writing", Seed=7, Characters=100_000)
    click(page, "Stop", "Stopped")  # the page still listens
    before = written(page)
    page.wait_for_timeout(300)
    assert written(page) == before and 3 < len(before) < 100_003
    numbers = page.evaluate("(random => Array.from({ length: 100000 }, random))(randomNumbers(5))")
    counts, _ = np.histogram(numbers, 20, (0, 1))
    assert counts.sum() == 100_000 and abs(counts - 5000).max() < 400


@browser_test
def test_a_prompt_of_unknown_characters_is_told_in_a_visitors_words(show):
    page = show(small_weights())
    for prompt, named in (
        ("", "at least one"),
        *(("aß", "“ß”"), ("Zß ß𝔄\x85", "“Z”, “ß”, “𝔄”, or U+0085"), ("e\u0301ñ", "seen “ñ”."), ("١", "“١”")),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 1500))), "“一”, “丁”, “丂”, “七”, “丄”, or 1495 more"),
    ):
        write(page, prompt, named)
        assert written(page) == "" and "'" not in page.get_by_role("status").inner_text().replace("n't", "")
    write(page, "e\u0301a", Characters=5)  # looks like é, and is taken for it
    assert written(page).startswith("éa") and len(written(page)) == 7


@browser_test
def test_numbers_that_cannot_be_used_are_shown(show):
    page = show(small_weights())
    for label, value in (("Top-k", "2.5"), ("Top-p", "1.5"), ("Seed", "-1"), ("Characters", "0"), ("Characters", "1e6")):
        write(page, "a", "", **{label: value})
        assert page.get_by_label(label).evaluate("field => field === document.activeElement && !field.checkValidity()")
        assert written(page) == ""
        page.get_by_label(label).fill("")
    write(page, "a", **{"Top-k": 1000})
    assert len(written(page)) == 501


@browser_test
def test_nothing_of_a_stranger_becomes_markup_or_code(show):
    card = {text: [text, {"x": text}] for text in HOSTILE} | {"units": dict.fromkeys(HOSTILE, 3)}
    page = show(small_weights(), card=card)
    write(page, "a", Temperature=2, Characters=3000)  # every character comes up
    assert set(written(page)) == set(CHARS.chars)
    assert page.evaluate("document.querySelectorAll('img, iframe, a, script').length") == 2  # both the page's own
    rows = page.locator("#card tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    assert rows[1:-1] == [[text.replace("_", " "), f"{text}, x: {text}"] for text in HOSTILE]
    assert page.locator("#colours option").count() == 1 + len(HOSTILE) + 13
    assert page.locator("#text").evaluate("text => getComputedStyle(text).unicodeBidi") == "isolate"
    for span in page.locator("#text span").all()[1:60]:
        span.dispatch_event("pointerover")
        assert page.locator("#guesses li").count() == 5


@browser_test
@pytest.mark.parametrize("units", [None, 3, "abc", [1, "x"], {"a": -1, "b": 13, "c": 1.5, "d": "1", "e": None}])
def test_units_that_are_none_are_not_offered(show, units):
    labels = show(small_weights(), card={"units": units}).locator("#colours option").all_text_contents()
    assert labels[1:] == ["0 (unit 1)"] * isinstance(units, list) + [f"unit {number}" for number in range(13)]


@browser_test
def test_the_vocabulary_may_hold_halves_of_surrogate_pairs(show):
    page = show(small_weights(3), Vocabulary("a\ud83d\ude00"))
    write(page, "😀", "never seen")
    write(page, "a", Characters=20)
    assert page.locator("#text span").count() == 21


@browser_test
def test_guesses_and_units_with_the_keyboard_alone(show, case):
    weights, vocabulary, text = case
    page, reached = show(weights, vocabulary, {"units": {"fairy tales": 9}}), [""]
    page.get_by_label("Prompt").fill(text[:60].replace("\r", " "))
    while reached[-1] != "text":
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # one sees where one is
        if reached[-1] in ("Write", "colours"):
            page.keyboard.press({"Write": "Enter", "colours": "ArrowDown"}[reached[-1]])
            page.get_by_role("status").filter(has_text="Done").wait_for()
    assert reached[1:] == ["temperature", "topK", "topP", "seed", "length", "Write", "stop", "goOn", "colours", "text"]
    for key in ["ArrowRight"] * 12 + ["ArrowLeft"]:
        page.keyboard.press(key)
    ids, network = vocabulary.encode(written(page)[:12]), StepwiseLSTM(weights)
    state = network.empty_state()
    for before, char_id in zip(ids[:10], ids[1:11], strict=True):
        logits, state = network.step([before], state)
        probabilities = charlstm.scaled_softmax(logits[0])
    cell = network.step([char_id], state)[1][1]
    numbers, guesses = shown(page)
    assert numbers == pytest.approx([-np.log2(probabilities[char_id]), np.tanh(cell[0, 9])], abs=0.011)
    assert guesses == pytest.approx(np.sort(probabilities)[:-6:-1], abs=1e-3)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    earlier = shown(page)
    page.get_by_role("button", name="Later character").press("Enter")
    assert earlier != shown(page) == (numbers, guesses)


@browser_test
def test_the_ground_is_as_dark_as_the_surprise(show):
    weights, places = small_weights(), "#text span"
    page = show(weights, card={"units": {"x": 2}})
    write(page, "a!", Temperature=1.5, Characters=200)

    def grounds():
        styles = page.locator(places).evaluate_all("spans => spans.map(span => span.style.background)")
        return [(match[1], float(match[2])) for match in (re.search(r"--(\w+)\) ([\d.e-]+)%", s) for s in styles)]

    ids, network = CHARS.encode(written(page)), StepwiseLSTM(weights)
    bits = np.minimum([0, *charlstm.surprise(network, ids)], 8)
    found = grounds()
    assert {name for name, _ in found} == {"surprise"}
    assert [share for _, share in found] == pytest.approx(bits / 8 * 100, abs=0.1)
    page.get_by_label("Colour").select_option("x (unit 2)")
    state, expected = network.empty_state(), []
    for char_id in ids:
        _, state = network.step([char_id], state)
        expected.append(100 * np.tanh(state[1][0, 2]))
    signed = [share * {"negative": -1, "positive": 1}[name] for name, share in grounds()]
    assert min(signed) < 0 < max(signed) and signed == pytest.approx(expected, abs=0.1)


@browser_test
@pytest.mark.parametrize("known", ["אבגדהוזחט abcAB", "ابتثجح ab"])
def test_a_text_from_right_to_left_is_read_so(show, known):
    page = show(small_weights(len(known)), Vocabulary.from_text(known))
    write(page, "ab" + known[:5], Characters=5)  # whatever its first character is
    directions = "ids => ids.map(id => getComputedStyle(document.getElementById(id)).direction)"
    assert page.evaluate(directions, ["prompt", "text", "status"]) == ["rtl", "rtl", "ltr"]
    places = [span.bounding_box()["x"] for span in page.locator("#text span").all()[2:6]]
    assert places == sorted(places, reverse=True)
    page.locator("#text").focus()
    chosen = "document.querySelectorAll('#text span').values().toArray().findIndex(span => span.className.includes('chosen'))"
    for key, index in (("Home", 0), ("ArrowLeft", 1), ("ArrowLeft", 2), ("ArrowRight", 1)):
        page.keyboard.press(key)
        assert page.evaluate(chosen) == index
    earlier, later = (page.get_by_role("button", name=f"{name} character") for name in ("Earlier", "Later"))
    assert earlier.bounding_box()["x"] > later.bounding_box()["x"]


@browser_test
def test_a_long_text_is_copied_as_it_is(show):
    page = show(small_weights(3), Vocabulary("abc"))  # without an end of line
    write(page, "a", Characters=10_000)
    page.evaluate("addEventListener('copy', event => copied = event.clipboardData.getData('text/plain')); var copied")
    page.evaluate("getSelection().selectAllChildren(document.getElementById('text')); document.execCommand('copy')")
    assert page.evaluate("copied") == written(page) and len(written(page)) == 10_001


@browser_test
@pytest.mark.parametrize("width", [320, 390, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_light_and_dark(show, width, scheme):
    size = {"width": width, "height": 800}
    page = show(small_weights(), CHARS, {"a" * 80: "b" * 300}, viewport=size, color_scheme=scheme)
    write(page, "a" * 300)
    page.locator("#text span").nth(3).hover()
    assert page.locator("#guesses li").count() == 5
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    ink, paper = page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) > 380 for colour in (ink, paper)]
    assert light == ([False, True] if scheme == "light" else [True, False])


@browser_test
def test_it_writes_a_first_text_by_itself_unless_motion_is_to_be_reduced(show):
    weights, vocabulary, _ = charlstm.read_model_file()
    page = show(weights, vocabulary, reduced_motion="no-preference")
    page.locator("#text span").nth(60).wait_for()
    assert written(page).startswith("Once upon a time")
    assert written(show(weights, vocabulary)) == ""
