"""The page: what is in the file, and, in a headless Chromium (see test_browser.py), what it computes and shows."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import charlstm
from charlstm import StepwiseLSTM, Vocabulary

TEMPLATE = Path(charlstm.__file__).with_name("page.html").read_text(encoding="utf-8")
HOSTILE = ["</script><script>alert(1)</script>", "<!--<script>", "]]><img src=x onerror=alert(1)>", "__proto__"]
HOSTILE += ["\"'`${alert(1)}\\", "\u2028alert(1)\u2029", "\u202eright to left\u2066\u200f", "&lt;b&gt;&amp;"]
HOSTILE += ["\x00\x07\ufeff", "MODEL POLICY"]
CHARS = Vocabulary.from_text("\n !\"'-.AELaehilnorstuvw" + "".join(HOSTILE) + "é😀𝒜한")


def small_weights(n_chars=None):
    """Of an LSTM that is sure of itself, in half precision; its 13 units are no multiple of four."""
    rng, shapes = np.random.default_rng(1), StepwiseLSTM.weight_shapes(n_chars or len(CHARS), 7, 13)
    return {name: np.float32(np.float16(0.6 * rng.normal(size=shape))) for name, shape in shapes.items()}


def run(weights, ids):
    """After each of the ids: the probabilities of the next one, [n, V], and the cell state, [n, H]."""
    network, found = StepwiseLSTM(weights), []
    state = network.empty_state()
    for char_id in ids:
        logits, state = network.step([char_id], state)
        found.append((charlstm.scaled_softmax(logits[0]), state[1][0]))
    return [np.array(part) for part in zip(*found, strict=True)]


# ---- The file


def test_the_template_can_be_read_in_one_sitting():
    assert TEMPLATE.count("\n") <= 350 and max(map(len, TEMPLATE.splitlines())) <= 120


def test_nothing_of_a_stranger_is_markup(tmp_path):
    card = {text: text for text in HOSTILE} | {"nested": [{"x": HOSTILE}], "loss": float("nan"), "n": np.float32(1.5)}
    charlstm.save_page(tmp_path / "page.html", small_weights(), CHARS, card)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    data = re.search(r'id="model">(.*?)</script>', page, re.DOTALL)[1]
    assert not {*"<>&"} & {*data} and page.count("<") == TEMPLATE.count("<")
    found = json.loads(data, parse_constant=pytest.fail)  # browsers know no NaN
    assert found["codes"] == [*map(ord, CHARS.chars)] and found["card"] == card | {"loss": "NaN", "n": 1.5}
    policy = re.search('Content-Security-Policy" content="(.*?)"', page)[1]  # a browser obeys, or the tests below fail
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


UNFIT = [
    (
        {"dense_bias": np.full(len(CHARS), 1e5)},
        ValueError,
        "dense_bias holds 100000.*65504",
    ),  # more than half precision can hold
    ({"dense_bias": np.zeros(3)}, ValueError, "3 characters"),
    ({"card": {"model": object()}}, TypeError, "<object .*"),
    ({"path": "page.txt"}, ValueError, "page.txt"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), UNFIT)
def test_what_cannot_be_saved_leaves_the_older_file(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    charlstm.save_page("page.html", small_weights(), CHARS)
    older = Path("page.html").read_bytes()
    settings = {"path": "page.html", "vocabulary": CHARS} | small_weights() | arguments
    weights = {name: settings.pop(name) for name in StepwiseLSTM.weight_names}
    with pytest.raises(error, match=message):
        charlstm.save_page(model=weights, **settings)
    assert Path("page.html").read_bytes() == older and len(list(tmp_path.iterdir())) == 1


def test_the_command_writes_the_page_of_a_model_without_tensorflow(tmp_path, model, vocabulary):
    code = "import runpy, sys, webbrowser; webbrowser.open = lambda page: print('opened', page)\n"
    code += "runpy.run_module('charlstm', run_name='__main__'); assert 'tensorflow' not in sys.modules"

    def run(argument):
        return subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True).stdout

    out = run("--no-browser")
    page = Path(re.search(r"is (.*\.html)", out)[1])
    assert "opened" not in out and page.stat().st_size > 4_000_000
    shutil.rmtree(page.parent)
    charlstm.save_model(mine := tmp_path / "mine.safetensors", model, vocabulary, {"text": "of geese"})
    before, page = mine.read_bytes(), mine.with_suffix(".html")
    assert f"opened {page.as_uri()}" in run(str(mine)) and mine.read_bytes() == before
    assert "of geese" in page.read_text(encoding="utf-8")


# ---- In the browser


@pytest.fixture(params=[pytest.param(0, marks=pytest.mark.browser, id="chromium")])
def show(browser, tmp_path):
    """show(weights, vocabulary, card): the page of this model in the browser. In the end it must be that nothing was
    asked of the network, no dialog opened and the console was silent."""
    found, address = [], (tmp_path / "page.html").as_uri()
    with browser.new_context(offline=True, reduced_motion="reduce") as context:
        context.on("request", lambda request: request.url == address or found.append(request.url))
        context.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
        context.on("console", lambda message: found.append(message.text))
        context.on("weberror", lambda error: found.append(str(error.error)))

        def show(weights, vocabulary=CHARS, card=None):
            charlstm.save_page(tmp_path / "page.html", weights, vocabulary, card)
            page = context.new_page()
            page.goto(address)
            return page

        yield show
    assert found == []


@pytest.fixture(scope="module", params=["small", "packaged"])
def case(request):
    """Weights, which half precision holds exactly, their vocabulary, and ids."""
    if request.param == "small":
        return small_weights(), CHARS, np.random.default_rng(2).integers(len(CHARS), size=200)
    weights, vocabulary, _ = charlstm.read_model_file()
    return weights, vocabulary, vocabulary.encode("There was once a poor miller, " * 7)


def write(page, prompt, until="Done", **fields):
    for label, value in {"Prompt": prompt, **fields}.items():
        page.get_by_label(label).fill(str(value))
    click(page, "Write", until)


def click(page, name, until):
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("status").filter(has_text=until).wait_for(state="attached", timeout=120_000)


def written(page):
    return page.locator("#text").evaluate("text => text.textContent")


def chosen(page):
    """The place that is framed, and all numbers shown beside the text: surprise, unit, guesses."""
    index = "[...document.querySelectorAll('#text span')].findIndex(span => span.classList.contains('chosen'))"
    return page.evaluate(index), [float(n) for n in re.findall(r"-?\d+\.\d+", page.locator("aside").inner_text())]


def test_the_network_and_its_likeliest_text_are_those_of_python(show, case):
    weights, vocabulary, ids = case
    script = """ids => { let next = { state: emptyState };
        return ids.map(id => (next = step(id, next.state), [Array.from(softmax(next.logits)), [...next.state.cell]])) }"""
    found = (page := show(weights, vocabulary)).evaluate(script, ids.tolist())
    for ours, expected, tolerance in zip(zip(*found, strict=True), run(weights, ids), (1e-4, 1e-3), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)
    write(page, prompt := vocabulary.decode(ids[:20]).replace("\r", " "), Temperature=0)
    assert written(page) == charlstm.Generator(StepwiseLSTM(weights), vocabulary).generate(prompt, temperature=0)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.9}])
def test_draws_are_those_of_python(show, options):
    page, rng = show(small_weights()), np.random.default_rng(3)
    script = "([rows, points, choices]) => rows.map((row, i) => draw(row, points[i][0], choices))"
    for temperature in (0, 1e-3, 0.7, 1.0, 2.0):
        logits, points = rng.normal(scale=3, size=(200, 20)), rng.random((200, 1))
        logits[:, 5] = logits[:, 6]  # of two equals the first comes first
        choices = {"temperature": temperature, "topK": options.get("top_k", 20), "topP": options.get("top_p", 1)}
        expected = charlstm.draw(logits, points, temperature, **options).tolist()
        assert page.evaluate(script, [logits.tolist(), points.tolist(), choices]) == expected


def test_a_seed_repeats_and_a_stop_changes_nothing(show):
    page, texts = show(small_weights()), []
    for seed in (7, 7, 8):
        write(page, '\n"a', Seed=seed, Characters=400)
        texts.append(written(page))
    assert texts[0] == texts[1] != texts[2] and len(set(texts[0][-100:])) > 10
    write(page, '\n"a', Seed=7, Characters=150)
    click(page, "Go on", "300 new")
    assert written(page) == texts[0][:303]
    write(page, '\n"a', "Writing", Characters=100_000)
    click(page, "Stop", "Stopped")  # the page still listens
    assert 3 < len(before := written(page)) < 100_003
    page.wait_for_timeout(300)
    assert written(page) == before
    numbers = page.evaluate("Array.from({ length: 100000 }, randomNumbers(5))")
    assert np.histogram(numbers, 20, (0, 1))[0] == pytest.approx(5000, abs=400)


def test_unknown_characters_are_named_to_a_visitor(show):
    page = show(small_weights())
    prompts = {"": "at least one", "aß": "“ß”", "Zß ß𝔄\x85": "“Z”, “ß”, “𝔄”, or U+0085", "e\u0301ñ": "seen “ñ”."}
    prompts["".join(map(chr, range(0x4E00, 0x4E00 + 1500)))] = "“一”, “丁”, “丂”, “七”, “丄”, or 1495 more"
    for prompt, named in prompts.items():
        write(page, prompt, named)
        assert written(page) == ""
    write(page, "e\u0301a")  # looks like é, and is taken for it
    assert written(page).startswith("éa")
    page = show(small_weights(2), Vocabulary("a\ud83d"))  # half is not the whole
    write(page, "😀", "“😀”")


def test_numbers_that_cannot_be_used_are_shown(show):
    page = show(small_weights())
    for label, value in {"Top-k": "2.5", "Top-p": "1.5", "Seed": "-1", "Characters": "0"}.items():
        write(page, "a", "", **{label: value})
        assert page.locator(":invalid:focus").count() == 1 and written(page) == ""
        page.get_by_label(label).fill("")
    write(page, "a", **{"Top-k": 1000})


def test_nothing_of_a_stranger_becomes_markup_or_code(show):
    card = {text: [text, {"x": text}] for text in HOSTILE} | {"units": dict.fromkeys(HOSTILE, 3)}
    page = show(small_weights(), card=card)
    write(page, "a", Temperature=2, Characters=3000)  # every character comes up
    assert set(written(page)) == set(CHARS.chars)
    assert page.locator("img, iframe, a, script").count() == 2  # both the page's own
    rows = page.locator("#card tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    assert rows[1:-1] == [[text.replace("_", " "), f"{text}, x: {text}"] for text in HOSTILE]
    for span in page.locator("#text span").all()[1:60]:
        span.dispatch_event("pointerdown")


@pytest.mark.parametrize("units", [None, 3, "abc", [1, "x"], {"a": -1, "b": 13, "c": 1.5, "d": "1", "e": None}])
def test_units_that_are_none_are_not_offered(show, units):
    labels = show(small_weights(), card={"units": units}).locator("#colours option").all_text_contents()
    assert labels[1:] == ["0 (unit 1)"] * isinstance(units, list) + [f"unit {number}" for number in range(13)]


def test_guesses_and_units_with_the_keyboard_alone(show, case):
    weights, vocabulary, ids = case
    page, reached = show(weights, vocabulary, {"units": {"fairy tales": 9}}), [""]
    page.get_by_label("Prompt").fill(vocabulary.decode(ids[:60]).replace("\r", " "))
    while reached[-1] != "text":
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # one sees where it is
        if key := {"Write": "Enter", "colours": "ArrowDown"}.get(reached[-1]):
            page.keyboard.press(key)
            page.get_by_role("status").filter(has_text="Done").wait_for(timeout=120_000)
    assert reached[1:] == ["temperature", "topK", "topP", "seed", "length", "Write", "stop", "goOn", "colours", "text"]
    for key in ["ArrowRight"] * 12 + ["ArrowLeft"]:
        page.keyboard.press(key)
    ids = vocabulary.encode(written(page)[:11])
    probabilities, cells = run(weights, ids)
    percents, bits = 100 * np.sort(probabilities[9])[:-6:-1], -np.log2(probabilities[9, ids[10]])
    assert chosen(page) == (10, pytest.approx([bits, np.tanh(cells[10, 9]), *percents], abs=0.06))
    for key, index in (("Tab", 10), ("Enter", 9), ("Tab", 9), ("Enter", 10)):
        page.keyboard.press(key)
        assert chosen(page)[0] == index


def test_the_ground_is_as_dark_as_the_surprise(show):
    page = show(weights := small_weights(), card={"units": {"x": 2}})
    write(page, "a!", Temperature=1.5)

    def grounds():
        script = "spans => spans.map(span => span.style.background.replace('negative) ', '-')).join()"
        found = page.locator("#text span").evaluate_all(script)
        return [float(percent) for percent in re.findall(r"(-?\d\S*)%", found)]

    ids = CHARS.encode(written(page))
    bits = np.minimum([0, *charlstm.surprise(StepwiseLSTM(weights), ids)], 8)
    assert grounds() == pytest.approx(100 * bits / 8, abs=0.1)
    page.get_by_label("Colour").select_option("x (unit 2)")
    assert grounds() == pytest.approx(100 * np.tanh(run(weights, ids)[1][:, 2]), abs=0.1)


def test_a_text_from_right_to_left_is_read_so(show):
    page = show(small_weights(15), Vocabulary.from_text("אבגדהוזחט abcAB"))
    write(page, "ab" + "אבגדה")  # whatever its first character is
    assert [page.locator(f"{name}:dir(rtl)").count() for name in ("#prompt", "#text", "main")] == [1, 1, 0]
    for places in (page.locator("#text span").all()[2:7], page.locator("aside button").all()):
        left = [place.bounding_box()["x"] for place in places]
        assert left == sorted(left, reverse=True)
    for key, index in {"Home": 0, "ArrowLeft": 1, "End": 506, "ArrowRight": 505}.items():
        page.locator("#text").press(key)
        assert chosen(page)[0] == index


def test_a_long_text_is_copied_as_it_is(show):
    write(page := show(small_weights(3), Vocabulary("abc")), "a", Characters=10_000)  # without an end of line
    copied = page.locator("#text").evaluate("text => (getSelection().selectAllChildren(text), `${getSelection()}`)")
    assert copied == written(page) and len(copied) == 10_001


def test_it_fits_a_phone_light_and_dark(show):
    write(page := show(small_weights(), card={"a" * 80: "b" * 300}), "a" * 300)
    page.locator("#text span").nth(3).hover()
    for width in (320, 390, 1100):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    for scheme, is_light in (("light", [False, True]), ("dark", [True, False])):
        page.emulate_media(color_scheme=scheme)
        colours = page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")
        assert [sum(map(int, re.findall(r"\d+", colour)[:3])) > 380 for colour in colours] == is_light


def test_it_writes_a_first_text_by_itself_unless_motion_is_to_be_reduced(show):
    weights, vocabulary, _ = charlstm.read_model_file()
    page = show(weights, vocabulary)
    assert written(page) == ""
    page.emulate_media(reduced_motion="no-preference")
    page.reload()
    page.locator("#text", has_text=re.compile("^Once upon a.{50}", re.DOTALL)).wait_for()
