"""The notebooks as the design draws them. (That their cells run and show the right figures is nbval's part.)"""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb"))
SETUP = nbformat.read(NOTEBOOKS[0], as_version=4).cells[1].source
COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture
def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_all_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "00_quickstart",
        "01_data",
        "02_pipeline",
        "03_model",
        "04_training",
        "05_sampling",
        "06_speed",
    ]


def test_executed_in_order(code_cells):
    assert [cell.execution_count for cell in code_cells] == list(range(1, len(code_cells) + 1))


def test_no_errors_and_nothing_on_the_error_stream(code_cells):
    outputs = [output for cell in code_cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_outputs_show_grimm_and_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert "bundled tales:" not in text
    assert not re.search(r"/(home|root|tmp|Users)/|[A-Z]:\\\\|[a-z]Warning", text)


def test_size(path, notebook, code_cells):
    assert path.stat().st_size <= 200_000
    assert len(notebook.cells) <= 35
    assert max(len(cell.source.splitlines()) for cell in code_cells) <= 15


def test_head(notebook):
    title, setup = notebook.cells[:2]
    assert title.source.startswith("# ") and COLAB_BADGE in title.source and "minute" in title.source
    assert setup.source == SETUP and len(SETUP.splitlines()) <= 10


def test_end(notebook):
    assert "## What you should see" in notebook.cells[-1].source


def test_metadata(notebook, code_cells):
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [cell for cell in notebook.cells if set(cell.metadata) - {"tags"}]
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_figures_of_grimm_are_compared(code_cells):
    for cell in code_cells:
        tags = cell.metadata.get("tags", [])
        assert set(tags) <= {"grimm", "nbval-check-output"}
        assert "grimm" not in tags or "nbval-check-output" in tags
        assert "nbval-check-output" not in tags or cell.outputs


def test_links(path, notebook):
    targets = re.findall(
        r"\]\(([^)\s]+)\)", "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    )
    assert targets
    for target in targets:
        if not target.startswith("https://"):
            assert (path.parent / target.split("#")[0]).exists(), target
    for neighbour in NOTEBOOKS:
        if abs(NOTEBOOKS.index(neighbour) - NOTEBOOKS.index(path)) == 1:
            assert neighbour.name in targets
