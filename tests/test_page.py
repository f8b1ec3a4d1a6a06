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
from charlstm.data import Vocabulary
from charlstm.model import StepwiseLSTM, weights_of
from charlstm.model_file import PRETRAINED, read_model_file
from charlstm.page import TEMPLATE
from charlstm.sampling import _draw

browser_test = pytest.mark.browser
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><img src=x onerror=alert(1)>",
    "\"'`${alert(1)}\\",
    "\u2028alert(1)\u2029",
    "\u202eright to left\u2066\u200f",
    "&lt;b&gt;&amp;",
    "\x00\x07\ufeff",
    "__proto__",
    "MODEL POLICY",
]
CHARS = Vocabulary.from_text("\n !\"'-.AELaehilnorstuvw" + "".join(HOSTILE) + "é😀𝒜한")


def small_weights(n_chars=len(CHARS)):
    """Of an LSTM that is sure of itself; its 13 units are no multiple of four."""
    rng = np.random.default_rng(1)
    shapes = StepwiseLSTM.weight_shapes(n_chars, 7, 13).items()
    return {name: (0.6 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes}


def rounded(weights):
    """As the page has them."""
    return {name: weight.astype(np.float16).astype(np.float32) for name, weight in weights.items()}


class Scripts(html.parser.HTMLParser):
    """The elements of a page, each with its attributes and the text in it, as a browser would find them."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.is_inside = [], False
        self.feed(Path(path).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        self.is_inside = True

    def handle_endtag(self, tag):
        self.is_inside = False

    def handle_data(self, data):
        if self.is_inside:
            self.elements[-1][2] += data

    def all(self, tag):
        return [element[1:] for element in self.elements if element[0] == tag]


# ---- The file


def test_the_template_can_be_read_in_one_sitting():
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350 and max(map(len, lines)) <= 120


def test_nothing_of_a_stranger_ends_the_data(tmp_path):
    card = {text: text for text in HOSTILE} | {"nested": [{"x": HOSTILE}], "loss": float("nan"), "n": np.float32(1.5)}
    charlstm.save_page(tmp_path / "page.html", small_weights(), CHARS, card)
    page = Scripts(tmp_path / "page.html")
    assert [attributes for attributes, _ in page.all("script")] == [{"type": "application/json", "id": "model"}, {}]
    data = json.loads(page.all("script")[0][1], parse_constant=pytest.fail)  # browsers know no NaN
    assert "".join(map(chr, data["codes"])) == CHARS.chars
    assert data["card"] == card | {"loss": "NaN", "n": 1.5}
    assert len(page.elements) == len(Scripts(TEMPLATE).elements)


def test_only_the_pages_own_script_and_style_may_run(tmp_path):
    charlstm.save_page(tmp_path / "page.html", small_weights(), CHARS)
    page = Scripts(tmp_path / "page.html")
    policy = next(a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for kind, (_, inside) in (("script", page.all("script")[1]), ("style", page.all("style")[0])):
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    names = {name for _, attributes, _ in page.elements for name in attributes}
    assert not names & {"src", "href", "style"} and not [name for name in names if name.startswith("on")]


def test_the_weights_are_those_of_the_model_in_half_precision(tmp_path, model, vocabulary):
    charlstm.save_page(tmp_path / "one.html", model, vocabulary, {"text": "geese"})
    charlstm.save_page(tmp_path / "two.html", weights_of(model), vocabulary, {"text": "geese"})
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    data = json.loads(Scripts(tmp_path / "one.html").all("script")[0][1])
    for name, weight in weights_of(model).items():
        stored = np.frombuffer(base64.b64decode(data["weights"][name]), "<f2").reshape(weight.shape)
        assert np.array_equal(stored, weight.astype(np.float16))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dense_bias": np.full(len(CHARS), np.nan)}, ValueError, "dense_bias holds NaN or infinity"),
        ({"dense_bias": np.full(len(CHARS), 1e5)}, ValueError, "dense_bias holds NaN or infinity"),  # for float16
        ({"lstm_kernel": np.zeros((7, 51))}, ValueError, r"lstm_kernel has the shape \(7, 51\)"),
        ({"lstm_kernel": None}, ValueError, "the weights lack lstm_kernel"),
        ({"vocabulary": Vocabulary("abc")}, ValueError, "but the vocabulary 3"),
        ({"vocabulary": "abc"}, TypeError, "give a Vocabulary, such as corpus.vocabulary, not a str"),
        ({"card": {"model": object()}}, TypeError, "the card can't hold <object .*: give numbers"),
        ({"path": "no/such/folder/page.html"}, FileNotFoundError, "there is no folder .*no.such.folder"),
        ({"path": "."}, IsADirectoryError, "is a folder"),
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
    with pytest.raises(ValueError, match="Embedding, GRU, Dense"):
        charlstm.save_page(tmp_path / "page.html", other, Vocabulary("abc"))


def test_python_m_charlstm_writes_the_page_and_opens_it_without_tensorflow(tmp_path):
    code = (
        "import runpy, sys, webbrowser; opened = []; webbrowser.open = opened.append; sys.argv[1:] = {}\n"
        "runpy.run_module('charlstm', run_name='__main__'); print(opened, 'tensorflow' in sys.modules)"
    )

    def run(*arguments):
        command = [sys.executable, "-c", code.format(list(arguments))]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    path = tmp_path / "page.html"
    assert run(str(path)).splitlines()[1] == f"{[path.as_uri()]} False" and path.stat().st_size > 4_000_000
    out = run("--no-browser")
    path = Path(re.search(r"page is (.*?): open it", out)[1])
    assert out.endswith("[] False\n") and path.stat().st_size > 4_000_000
    shutil.rmtree(path.parent)


# ---- In the browser


@pytest.fixture
def show(browser, tmp_path):
    """show(weights, vocabulary, card, **options): the page of this model in the browser. In the end it must be that
    nothing was asked of the network, no dialog opened and the console was silent."""
    found, contexts = [], []

    def show(weights, vocabulary, card=None, **options):
        charlstm.save_page(tmp_path / "page.html", weights, vocabulary, card)
        address = (tmp_path / "page.html").as_uri()
        context = browser.new_context(offline=True, **({"reduced_motion": "reduce"} | options))  # writes when told to
        contexts.append(context)
        page = context.new_page()
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
    """Weights, vocabulary, and a text for them."""
    if request.param == "small":
        ids = np.random.default_rng(2).integers(len(CHARS), size=300)
        return small_weights(), CHARS, CHARS.decode(ids)
    weights, vocabulary, _ = read_model_file(PRETRAINED)
    _, held_out = charlstm.split(request.getfixturevalue("grimm").text)
    return weights, vocabulary, held_out[1000:1300]


def write(page, prompt, waits=True, **fields):
    for label, value in {"Prompt": prompt, **fields}.items():
        page.get_by_label(label).fill(str(value))
    page.get_by_role("button", name="Write").click()
    if waits:
        wait(page)


def wait(page, text="Done"):
    page.get_by_role("status").filter(has_text=text).wait_for(timeout=120_000)


def written(page):
    return page.locator("#text").evaluate("text => text.textContent")


@browser_test
def test_the_probabilities_are_those_of_the_generator(show, case):
    weights, vocabulary, text = case
    page = show(weights, vocabulary)
    found = page.evaluate(
        """ids => { let state = emptyState; return ids.map(id => {
            const next = step(id, state); state = next.state; return [softmax(next.logits), Array.from(state.cell)]; }) }""",
        vocabulary.encode(text)[:200].tolist(),
    )
    network = StepwiseLSTM(rounded(weights))
    state = network.empty_state()
    for (probabilities, cell), char_id in zip(found, vocabulary.encode(text)[:200], strict=True):
        logits, state = network.step([char_id], state)
        np.testing.assert_allclose(probabilities, charlstm.scaled_softmax(logits[0]), rtol=0, atol=1e-4)
        np.testing.assert_allclose(cell, state[1][0], rtol=0, atol=1e-3)


@browser_test
def test_the_likeliest_text_is_the_generators(show, case):
    weights, vocabulary, text = case
    generator = charlstm.Generator(rounded(weights), vocabulary)
    prompt = text[:20].replace("\r", " ")
    page = show(weights, vocabulary)
    write(page, prompt, Temperature=0, Characters=500)
    assert written(page) == generator.generate(prompt, 500, temperature=0)
    network = page.evaluate("places.slice(1).map(bitsOf)")
    np.testing.assert_allclose(network, generator.surprise(written(page)), atol=2e-3)


@browser_test
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.9}, {"temperature": 0}])
def test_draws_are_those_of_the_generator(show, options):
    page = show(small_weights(), CHARS)
    rng = np.random.default_rng(3)
    for temperature in (options.get("temperature"),) if "temperature" in options else (1e-3, 0.7, 1.0, 2.0):
        logits, points = rng.normal(scale=3, size=(200, 20)), rng.random((200, 1))
        logits[:, 5] = logits[:, 6]  # of two equals the first comes first
        choices = {"temperature": temperature, "top_k": options.get("top_k"), "top_p": options.get("top_p")}
        found = page.evaluate(
            "([rows, points, temperature, topK, topP]) => rows.map((row, i) => draw(row, points[i][0], "
            "{ temperature, topK, topP }))",
            [logits.tolist(), points.tolist(), temperature, choices["top_k"] or 20, choices["top_p"] or 1],
        )
        assert found == _draw(logits, points, **choices).tolist()


@browser_test
def test_a_seed_repeats_and_a_stop_changes_nothing(show):
    page = show(small_weights(), CHARS)
    texts = []
    for seed in (7, 7, 8):
        write(page, '\n"a', Seed=seed, Characters=400)
        texts.append(written(page))
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0][-100:])) > 10
    write(page, '\n"a', Seed=7, Characters=150)
    page.get_by_role("button", name="Go on").click()
    wait(page, "300 new")
    assert written(page) == texts[0][:303]
    write(page, '\n"a', waits=False, Seed=7, Characters=100_000)
    page.get_by_role("button", name="Stop").click()  # the page still listens
    wait(page, "Stopped")
    before = written(page)
    page.wait_for_timeout(300)
    assert written(page) == before and 3 < len(before) < 100_003
    numbers = page.evaluate("(random => Array.from({ length: 100000 }, random))(randomNumbers(5))")
    assert 0 <= min(numbers) and max(numbers) < 1
    assert max(abs(np.histogram(numbers, 20, (0, 1))[0] - 5000)) < 400


@browser_test
def test_unknown_characters_are_named_as_python_names_them(show):
    page = show(small_weights(), CHARS)
    assert "é" in CHARS and "á" not in CHARS
    for text in (
        *("", "á", "a–b", "‘a’", "ß", "aZ", "𝒵", "nothing𝔄😎", "\x1f", "\x85", "\u202d", "\u3000", "é", "e\u0301x" * 9),
        *("ÀÉ", "the ﬁr", "I've \\ \t", "𐐀𐐁" + "бвгд" * 9, "Ǆ", "١", "\U000e0001", "ï'\"ÿ", "\u1e9e", "\u0345"),
    ):
        try:
            expected = CHARS.encode(text).tolist()
            if not text:
                charlstm.Generator(small_weights(), CHARS).probabilities(text)
        except ValueError as error:
            expected = str(error)
        found = page.evaluate("text => { try { return encode(text) } catch (error) { return error.message } }", text)
        assert found == expected
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 1500)))  # more than a thousand
    with pytest.raises(ValueError, match="1,499 more") as error:
        CHARS.encode(many)
    write(page, many, waits=False)
    assert page.get_by_role("status").inner_text() == str(error.value) and written(page) == ""


@browser_test
def test_numbers_that_cannot_be_used_are_named(show):
    page = show(small_weights(), CHARS)
    for label, value, message in (
        ("Top-k", "0", f"Top-k must be a whole number from 1 to {len(CHARS)}, but is 0"),
        ("Top-k", "2.5", f"Top-k must be a whole number from 1 to {len(CHARS)}, but is 2.5"),
        ("Top-p", "1.5", "Top-p must be a number from 0.001 to 1, but is 1.5"),
        ("Seed", "-1", "Seed must be a whole number from 0 to 4294967295, but is -1"),
        ("Characters", "0", "Characters must be a whole number from 1 to 100000, but is 0"),
    ):
        write(page, "a", waits=False, **{label: value})
        assert page.get_by_role("status").inner_text() == message
        assert page.get_by_label(label).evaluate("field => field === document.activeElement")
        page.get_by_label(label).fill("")
    write(page, "a")
    assert len(written(page)) == 501


@browser_test
def test_nothing_of_a_stranger_becomes_markup_or_code(show):
    card = {text: [text, {"x": text}] for text in HOSTILE} | {"units": {text: 3 for text in HOSTILE}}
    page = show(small_weights(), CHARS, card)
    write(page, "a", Temperature=2, Characters=3000)  # every character comes up
    assert {char for char in written(page)} == {*CHARS.chars}
    assert page.evaluate("document.querySelectorAll('img, iframe, a, script').length") == 2  # both the page's own
    rows = page.locator("#card tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    assert rows[1:-1] == [[text.replace("_", " "), f"{text}, x: {text}"] for text in HOSTILE]
    options = page.locator("#colours option").evaluate_all("options => options.map(option => option.label)")
    assert len(options) == 1 + len(HOSTILE) + 13
    assert page.evaluate("getComputedStyle(document.getElementById('text')).unicodeBidi") == "isolate"
    for span in page.locator("#text span").all()[:60]:
        span.dispatch_event("pointerover")
    assert page.locator("#guesses li").count() == 5


@browser_test
@pytest.mark.parametrize("units", [None, 3, "abc", [1, "x"], {"a": -1, "b": 13, "c": 1.5, "d": "1", "e": None}])
def test_units_that_are_none_are_not_offered(show, units):
    page = show(small_weights(), CHARS, {"units": units})
    labels = page.locator("#colours option").evaluate_all("options => options.map(option => option.textContent)")
    named = ["0 (unit 1)"] if isinstance(units, list) else []
    assert labels == ["its surprise", *named, *(f"unit {number}" for number in range(13))]


@browser_test
def test_the_vocabulary_may_hold_halves_of_surrogate_pairs(show):
    vocabulary = Vocabulary("a\ud83d\ude00")
    page = show(small_weights(3), vocabulary)
    write(page, "a", Characters=20)
    assert page.evaluate("places.length") == 21 and "is not one of" in page.evaluate(
        "try { encode('😀') } catch (error) { error.message }"
    )


@browser_test
def test_guesses_and_units_with_the_keyboard_alone(show, case):
    weights, vocabulary, text = case
    text = text[:60].replace("\r", " ")
    generator = charlstm.Generator(rounded(weights), vocabulary)
    page = show(weights, vocabulary, {"units": {"fairy tales": 9}})
    page.get_by_label("Prompt").fill("")
    page.keyboard.insert_text(text)
    reached = []
    while not reached or reached[-1] != "text":
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid"  # one sees where one is
        if reached[-1] == "Write":
            page.keyboard.press("Enter")
            wait(page)
        if reached[-1] == "colours":
            page.keyboard.press("ArrowDown")
    assert reached == ["temperature", "topK", "topP", "seed", "length", "Write", "stop", "goOn", "colours", "text"]
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    probabilities = generator.probabilities(written(page)[:10])
    likeliest = np.sort(probabilities)[::-1][:5]
    guesses = page.locator("#guesses li").all_inner_texts()
    assert [float(re.search(r"([\d.]+)%", guess)[1]) / 100 for guess in guesses] == pytest.approx(likeliest, abs=1e-3)
    network, state = StepwiseLSTM(rounded(weights)), None
    state = network.empty_state()
    for char_id in vocabulary.encode(written(page)[:11]):
        _, state = network.step([char_id], state)
    bits = -np.log2(probabilities[vocabulary.encode(written(page)[10])[0]])
    said = page.locator("#surprise").inner_text()
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", said)]
    assert numbers == pytest.approx([bits, np.tanh(state[1][0, 9])], abs=0.011) and "Unit 9" in said
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("chosen") == 9
    page.get_by_role("button", name="Later character").press("Enter")
    assert page.evaluate("chosen") == 10


@browser_test
def test_the_ground_is_as_dark_as_the_surprise(show):
    page = show(small_weights(), CHARS, {"units": {"x": 2}})
    write(page, "a!", Temperature=1.5)

    def shares():
        return page.evaluate(
            r"""places.map(place => { const [, name, share] = place.span.style.background.match(
            /--(\w+)\) ([\d.e-]+)%/); return [name, Number(share)]; })"""
        )

    found = shares()
    bits = page.evaluate("places.map(bitsOf)")
    assert {name for name, _ in found} == {"surprise"}
    assert [share for _, share in found] == pytest.approx([100 * min(value / 8, 1) for value in bits], abs=0.01)
    page.get_by_label("Colour").select_option("x (unit 2)")
    states = page.evaluate("places.map(place => Math.tanh(place.cell[2]))")
    assert min(states) < 0 < max(states)
    for (name, share), value in zip(shares(), states, strict=True):
        assert name == ("negative" if value < 0 else "positive") and share == pytest.approx(100 * abs(value), abs=0.01)


@browser_test
@pytest.mark.parametrize("width", [320, 390, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_light_and_dark(show, width, scheme):
    card = {"a" * 80: "b" * 300}
    page = show(small_weights(), CHARS, card, viewport={"width": width, "height": 800}, color_scheme=scheme)
    write(page, "a" * 300)
    page.locator("#text span").nth(3).hover()
    assert page.locator("#guesses li").count() == 5
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    ink, paper = page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) > 380 for colour in (ink, paper)]
    assert light == ([False, True] if scheme == "light" else [True, False])


@browser_test
def test_it_writes_a_first_text_by_itself(show):
    page = show(*read_model_file(PRETRAINED), reduced_motion="no-preference")
    page.locator("#text span").nth(60).wait_for()
    assert written(page).startswith("Once upon a time")
