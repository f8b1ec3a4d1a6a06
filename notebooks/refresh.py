"""Run the notebooks again and write them back: python notebooks/refresh.py [NOTEBOOK ...] [--no-run]

Every notebook (or those that are named) is executed from its first cell in a fresh kernel, and what is written back is
made the same on every machine: cells counted from 1, no times of day, no ids but the cells' own, nothing about the
machine. So two runs differ only where a figure differs. The links at the head of each notebook, its set-up cell and the
badges of README.md are written from the repository address in pyproject.toml; --no-run does only that.

A notebook in which a cell fails, or writes to the error stream, is not written.
"""

import argparse
import re
import tomllib
from pathlib import Path

import nbformat

import charlstm

NOTEBOOKS = Path(__file__).resolve().parent
ROOT = NOTEBOOKS.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
COLAB = REPOSITORY.replace("https://github.com/", "https://colab.research.google.com/github/") + "/blob/main/notebooks/"

WIDGET = "application/vnd.jupyter.widget-view+json"

SETUP = f"""\
# Set-up, the same in every notebook. On Google Colab it installs charlstm.
import sys

if "google.colab" in sys.modules:
    %pip install -q "charlstm @ git+{REPOSITORY}"
try:
    import charlstm
except ModuleNotFoundError:
    raise ImportError("no charlstm here: upload its wheel or source zip, and run %pip install -q charlstm*") from None
charlstm.import_tensorflow_quietly()  # takes a few seconds"""


def links(path: Path) -> str:
    """The line below a notebook's title: to the notebooks before and after it, to the contents, and to Colab."""
    if path.parent.name == "solutions":
        here = f"solutions/{path.name}"
        return f"[← {path.stem}](../{path.name}) · [contents](../README.md) · {badge(here)}"
    paths = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    place = paths.index(path)
    before, after = paths[place - 1 : place], paths[place + 1 : place + 2]
    parts = [f"[← {p.stem}]({p.name})" for p in before] + ["[contents](README.md)"]
    parts += [f"[{p.stem} →]({p.name})" for p in after]
    return " · ".join(parts) + f" · {badge(path.name)}"


def badge(name: str) -> str:
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({COLAB}{name})"


def write_head(notebook: nbformat.NotebookNode, path: Path) -> None:
    """The title cell's line of links, and the set-up cell below it."""
    title, *rest = notebook.cells[0].source.split("\n")
    rest = [line for line in rest if "colab.research.google.com" not in line]
    notebook.cells[0].source = "\n\n".join([title, links(path), "\n".join(rest).strip()])
    notebook.cells[1].source = SETUP


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in a fresh kernel in this folder, and refuse what a reader should not see."""
    from nbclient import NotebookClient  # comes with the extra "lab", and --no-run does not need it

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=1800,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"a cell wrote to the error stream:\n{cell.source}\n---\n{output.text}")


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Leave nothing in the file but the cells, their tags and their outputs."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, 1):
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":  # a widget lives only as long as its kernel
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        cell.id = f"cell-{number:02}"


def refresh(path: Path, run: bool) -> None:
    notebook = nbformat.read(path, as_version=4)
    write_head(notebook, path)
    if run:
        execute(notebook, path.parent)
    normalise(notebook)
    # newline: the same bytes on Windows, too
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def refresh_readme() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = re.sub(r"https://colab\.research\.google\.com/github/[^)]*/", COLAB, text)
    text = re.sub(r"git clone https://[^`]*", f"git clone {REPOSITORY}", text)
    readme.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to refresh; all by default")
    parser.add_argument("--no-run", action="store_true", help="write links, badges and set-up cells only")
    arguments = parser.parse_args()
    if not arguments.no_run:
        charlstm.load_corpus("grimm")  # what is committed shows Grimm: without it, stop here with what to do
    for path in arguments.notebooks or [
        *sorted(NOTEBOOKS.glob("[0-9]*.ipynb")),
        *sorted(NOTEBOOKS.glob("solutions/*.ipynb")),
    ]:
        print(path.name, flush=True)
        refresh(path.resolve(), run=not arguments.no_run)
    refresh_readme()


if __name__ == "__main__":
    main()
