"""JupyterLab as a reader sees it, in a headless Chromium.

It needs JupyterLab (the extra "lab"), Playwright (pip install playwright) and a Chromium: on Debian and Ubuntu
apt install chromium, elsewhere playwright install chromium. Without them these tests are skipped, and say so.
"""

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
    """JupyterLab on the loopback address: the address of a notebook, for ``format``, and its folder."""
    home, folder = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("notebooks")
    for name, setting in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(setting), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=secret", f"--ServerApp.root_dir={folder}"]
    folders = {f"JUPYTERLAB_{name.upper()}_DIR": str(home / name) for name in ("settings", "workspaces")}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | folders)
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
    """open_page(name, notebook): the page of a notebook, without its outputs, and with its kernel."""
    address, folder = lab
    with browser.new_context(viewport={"width": 1300, "height": 1200}) as context:

        def open_page(name, notebook):
            cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
            for cell in cells:
                cell.outputs, cell.execution_count = [], None
            nbformat.write(notebook, folder / f"{name}.ipynb")
            page = context.new_page()
            page.goto(address.format(name), timeout=2 * MINUTE)
            playwright.expect(page.locator(".jp-CodeCell")).to_have_count(len(cells), timeout=MINUTE)
            return page

        yield open_page


def run_all(page):
    playwright.expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=2 * MINUTE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


@pytest.fixture
def run_notebook(open_page):
    """run_notebook(name): the page of one of our notebooks after Run All Cells, if nothing failed or was left on the
    error stream, where the progress bar is drawn."""

    def run_notebook(name):
        page = open_page(name, nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
        run_all(page)
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
        playwright.expect(prompts.last).to_have_text(f"[{prompts.count()}]:", timeout=10 * MINUTE)
        wrong = page.locator("[data-mime-type$='jupyter.error'], [data-mime-type$='jupyter.stderr']")
        assert "".join(wrong.all_inner_texts()).strip() == ""
        return page

    return run_notebook


def test_quickstart_runs_to_its_end_and_shows_its_figures(run_notebook):
    figures = run_notebook("00_quickstart").locator(".jp-OutputArea-output img")
    widths = figures.evaluate_all("figures => figures.map(figure => figure.naturalWidth)")
    assert widths and min(widths) > 300


def test_the_temperature_slider_changes_the_text(run_notebook):
    page = run_notebook("06_sampling")
    text = page.locator(".widget-interact .jp-OutputArea-output").last
    before = text.inner_text()
    page.locator(".widget-interact .noUi-handle").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    playwright.expect(text).not_to_have_text(before, timeout=MINUTE)


def test_a_training_goes_on_after_its_kernel_has_died(open_page, lab):
    code = """import os, pathlib, charlstm
pathlib.Path("pid").write_text(str(os.getpid()), encoding="utf-8")
ids = charlstm.Vocabulary("ab").encode("ab" * 10_000)
model, dataset = charlstm.build_model(2, 8, 12), charlstm.make_dataset(ids, seed=1)
history = charlstm.train(model, dataset, epochs=60, checkpoint="mine.safetensors")"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}  # or else it asks which
    run_all(page := open_page("own", notebook))
    deadline = time.monotonic() + 120
    while not (lab[1] / "mine.safetensors").exists():
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    os.kill(int((lab[1] / "pid").read_text(encoding="utf-8")), getattr(signal, "SIGKILL", signal.SIGTERM))
    dialog = page.get_by_role("dialog")
    playwright.expect(dialog).to_contain_text("Kernel Restarting", timeout=MINUTE)
    dialog.get_by_role("button", name="Ok").click()
    run_all(page)
    output = page.locator(".jp-OutputArea-output").first
    playwright.expect(output).to_contain_text("epoch 60 of 60", timeout=5 * MINUTE)
    assert "Going on from" in output.inner_text()
