"""What the unit tests share: tiny models, and the real texts where they can be had."""

import os
import shutil

import matplotlib
import matplotlib.pyplot as plt
import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
matplotlib.use("Agg")
# A slow machine is no failure: no test here fails for the time it takes.
settings.register_profile("charlstm", deadline=None)
settings.load_profile("charlstm")

import charlstm
from charlstm.sources import SourceUnavailable


@pytest.fixture(scope="session")
def text():
    return "the goose-girl went to the well, and the goose went with her. " * 40


@pytest.fixture(scope="session")
def vocabulary(text):
    return charlstm.Vocabulary.from_text(text)


@pytest.fixture
def model(vocabulary):
    import keras

    keras.utils.set_random_seed(1)
    return charlstm.build_model(len(vocabulary), embedding_dim=8, rnn_units=12)


@pytest.fixture
def no_other_figure():
    plt.close("all")
    yield
    plt.close("all")


def known_text(name: str) -> charlstm.Corpus:
    try:
        return charlstm.load_corpus(name)
    except SourceUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def grimm():
    return known_text("grimm")


@pytest.fixture(scope="session")
def mysterious_island():
    return known_text("mysterious_island")


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, of Playwright: test_browser.py says what that needs."""
    reason = "Playwright is not installed: pip install playwright"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt install chromium, or playwright install chromium ({error.message[:80]})")
        yield browser
        browser.close()
