"""JupyterLab as a reader sees it, in a headless Chromium.

It needs JupyterLab (the extra "lab"), Playwright (pip install playwright) and a Chromium: on Debian and Ubuntu
apt install chromium, elsewhere playwright install chromium. Without them these tests are skipped, and say so.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install -e '.[lab]'")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SETTINGS = {"@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"}}  # draw every cell


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt install chromium, or playwright install chromium ({error.message[:80]})")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on the loopback address, in a folder with the notebooks without their outputs; its address and folder."""
    folder = tmp_path_factory.mktemp("lab")
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / path.name)
    for name, setting in SETTINGS.items():
        (folder / "settings" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "settings" / name).write_text(json.dumps(setting), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=secret", f"--ServerApp.root_dir={folder}"]
    environment = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=secret").close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token=secret&reset", folder
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def run_all(browser, server):
    """run_all(name): the page of a notebook after Run All Cells, and the notebook as JupyterLab saved it."""
    address, folder = server
    pages = []

    def run(name):
        page = browser.new_page(viewport={"width": 1300, "height": 1200})
        pages.append(page)
        page.goto(address.format(name), timeout=120_000)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=120_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells").last.click()
        cells = [cell for cell in nbformat.read(folder / name, as_version=4).cells if cell.cell_type == "code"]
        last_prompt = page.locator(".jp-CodeCell .jp-InputPrompt").last
        playwright.expect(last_prompt).to_have_text(f"[{len(cells)}]:", timeout=600_000)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=60_000)
        page.keyboard.press("Control+s")
        for _ in range(40):
            saved = nbformat.read(folder / name, as_version=4)
            if [cell for cell in saved.cells if cell.cell_type == "code"][-1].execution_count == len(cells):
                break
            time.sleep(0.5)
        return page, saved

    yield run
    for page in pages:
        page.close()


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_quickstart_runs_to_its_end_and_shows_its_figure(run_all):
    page, saved = run_all("00_quickstart.ipynb")
    assert not [output for output in outputs(saved) if output.output_type == "error"]
    assert not [output for output in outputs(saved) if output.get("name") == "stderr"]
    figures = page.locator(".jp-OutputArea-output img")
    assert figures.count() == sum("image/png" in output.get("data", {}) for output in outputs(saved)) > 0
    assert figures.first.evaluate("image => image.naturalWidth") > 300


def test_the_temperature_slider_changes_the_text(run_all):
    page, saved = run_all("05_sampling.ipynb")
    assert not [output for output in outputs(saved) if output.output_type == "error"]
    widget = page.locator(".widget-interact")
    before = widget.inner_text()
    slider = widget.locator(".noUi-handle").first
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    playwright.expect(widget).not_to_have_text(before, timeout=30_000)
    page.wait_for_timeout(1000)
    # Beside the number at the slider, the text itself is another.
    assert widget.locator(".jp-OutputArea-output").last.inner_text() not in before
