"""JupyterLab as a reader sees it, in a headless Chromium.

It needs JupyterLab (the extra "lab"), Playwright (pip install playwright) and a Chromium: on Debian and Ubuntu
apt install chromium, elsewhere playwright install chromium. Without them these tests are skipped, and say so.
"""

import contextlib
import json
import os
import signal
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

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # draw every cell, not only those in sight
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},  # no network
}
MINUTE = 60_000  # milliseconds, as Playwright counts


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on the loopback address: its address, and its folder, which holds the notebooks without their outputs."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / path.name)
    home = tmp_path_factory.mktemp("lab")
    for name, setting in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(setting), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=secret", f"--ServerApp.root_dir={folder}"]
    variables = {"JUPYTERLAB_SETTINGS_DIR": home / "settings", "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces"}
    environment = os.environ | {name: str(path) for name, path in variables.items()}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=secret").close()
                break
            except OSError:
                assert process.poll() is None, (home / "log").read_text(encoding="utf-8")
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/workspaces/{{0}}/tree/{{0}}.ipynb?token=secret", folder
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def open_page(browser, lab):
    """open_page(name): the page of a notebook with its kernel."""
    pages = []

    def open_(name):
        pages.append(page := browser.new_page(viewport={"width": 1300, "height": 1200}))
        page.goto(lab[0].format(name), timeout=2 * MINUTE)
        wait_until_idle(page)
        return page

    yield open_
    for page in pages:
        page.close()


def wait_until_idle(page):
    playwright.expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=2 * MINUTE)


def start_all_cells(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    playwright.expect(page.locator(".jp-CodeCell .jp-InputPrompt").first).not_to_have_text("[ ]:", timeout=MINUTE)


@pytest.fixture
def run_all(open_page, lab):
    """run_all(name): the page of a notebook after Run All Cells, and the notebook as JupyterLab saved it."""
    _, folder = lab

    def run(name):
        page = open_page(name)
        cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
        playwright.expect(prompts).to_have_count(len(cells), timeout=MINUTE)
        start_all_cells(page)
        playwright.expect(prompts.last).to_have_text(f"[{len(cells)}]:", timeout=10 * MINUTE)
        page.keyboard.press("Control+s")
        for _ in range(60):
            if [cell for cell in read(name).cells if cell.cell_type == "code"][-1].execution_count:
                break
            time.sleep(0.5)
        return page, read(name)

    def read(name):
        for _ in range(20):
            with contextlib.suppress(nbformat.reader.NotJSONError):  # JupyterLab is writing it
                return nbformat.read(folder / f"{name}.ipynb", as_version=4)
            time.sleep(0.5)
        raise AssertionError(f"{name} is no notebook any more")

    return run


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_quickstart_runs_to_its_end_and_shows_its_figure(run_all):
    page, saved = run_all("00_quickstart")
    assert not [output for output in outputs(saved) if output.output_type == "error"]
    # The progress bar is drawn on the error stream, and wiped out: nothing may be left there.
    assert not [output for output in outputs(saved) if output.get("name") == "stderr" and output.text.strip()]
    figures = page.locator(".jp-OutputArea-output img")
    assert figures.count() == sum("image/png" in output.get("data", {}) for output in outputs(saved)) > 0
    assert figures.first.evaluate("image => image.naturalWidth") > 300


def test_the_temperature_slider_changes_the_text(run_all):
    page, saved = run_all("06_sampling")
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


def test_a_training_goes_on_after_its_kernel_has_died(open_page, lab):
    _, folder = lab
    code = """import os, pathlib, charlstm
pathlib.Path("pid").write_text(str(os.getpid()), encoding="utf-8")
ids = charlstm.Vocabulary("ab").encode("ab" * 10_000)
model, dataset = charlstm.build_model(2, 8, 12), charlstm.make_dataset(ids, seed=1)
history = charlstm.train(model, dataset, epochs=60, checkpoint="mine")"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}  # or else it asks which
    nbformat.write(notebook, folder / "own.ipynb")
    page = open_page("own")
    start_all_cells(page)
    deadline = time.monotonic() + 120
    while not (folder / "mine").exists():
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    os.kill(int((folder / "pid").read_text(encoding="utf-8")), getattr(signal, "SIGKILL", signal.SIGTERM))
    dialog = page.get_by_role("dialog")
    playwright.expect(dialog).to_contain_text("Kernel Restarting", timeout=MINUTE)
    dialog.get_by_role("button", name="Ok").click()
    wait_until_idle(page)
    start_all_cells(page)
    output = page.locator(".jp-OutputArea-output").first
    playwright.expect(output).to_contain_text("epoch 60 of 60", timeout=5 * MINUTE)
    assert "Going on from mine: " in output.inner_text()
