"""Run the notebooks again and write them back: python tools/refresh.py [NOTEBOOK ...] [--no-run]

Runs every notebook, or those you name, from its first cell in a fresh kernel. What it writes back is the same on every
machine: cells counted from 1, no times of day, no ids but the cells' own, nothing about the machine. So two runs differ
only where a figure differs.

It also writes what stands in two places, from the one that is its source (--no-run does only this):
- set-up cell, links and *You are here*, from the files in notebooks/ and the repository's address in pyproject.toml;
- a notebook's exercises, from its solutions: there an exercise is four cells, the task, the reader's cell, the answer
  and the check, and the notebook has all but the answer;
- the tables in README.md and notebooks/README.md, from each notebook's title and its reading and running time;
- the address in the READMEs, in docs/ and in CITATION.cff.

A notebook in which a cell fails, or writes to the error stream, or that somebody changes meanwhile, is not written.
"""

import argparse
import re
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
COLAB = REPOSITORY.replace("https://github.com/", "https://colab.research.google.com/github/") + "/blob/main/notebooks/"

HERE = "You are here:"
BEGIN, END = "<!-- written by refresh.py: -->", "<!-- end -->"
WIDGET = "application/vnd.jupyter.widget-view+json"

SETUP = f"""\
# Set-up, the same in every notebook. On Google Colab it installs charlstm.
import sys
if "google.colab" in sys.modules:
    %pip install -q "charlstm @ git+{REPOSITORY}"
try:
    import charlstm
except ModuleNotFoundError:
    advice = "upload its wheel or source zip, and run %pip install -q charlstm*"
    raise ImportError(f"no charlstm here: {{advice}}") from None
charlstm.import_tensorflow_quietly()  # takes a few seconds"""


def notebooks() -> list[Path]:
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def links(path: Path) -> str:
    """The lines below a notebook's title: the notebooks before and after it, the contents, Colab, *You are here*."""
    if path.parent.name == "solutions":
        here = f"solutions/{path.name}"
        return f"[← {path.stem}](../{path.name}) · [contents](../README.md) · {badge(here)}"
    paths = notebooks()
    place = paths.index(path)
    before, after = paths[place - 1 : place], paths[place + 1 : place + 2]
    parts = [f"[← {p.stem}]({p.name})" for p in before] + ["[contents](README.md)"]
    parts += [f"[{p.stem} →]({p.name})" for p in after]
    names = [p.stem.replace("_", " ") for p in paths]
    names[place] = f"**{names[place]}**"
    return " · ".join(parts) + f" · {badge(path.name)}\n\n{HERE} {' › '.join(names)}"


def badge(name: str) -> str:
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({COLAB}{name})"


def write_head(notebook: nbformat.NotebookNode, path: Path) -> None:
    """The links in the title cell, and the set-up cell below it."""
    title, *rest = notebook.cells[0].source.split("\n")
    rest = [line for line in rest if "colab.research.google.com" not in line and not line.startswith(HERE)]
    notebook.cells[0].source = "\n\n".join([title, links(path), "\n".join(rest).strip()])
    notebook.cells[1].source = SETUP


def write_exercises(notebook: nbformat.NotebookNode, path: Path) -> None:
    """The task, the reader's cell and the check of each exercise, from the solutions."""
    if path.parent.name == "solutions" or not (source := path.parent / "solutions" / path.name).exists():
        return
    is_task = [cell.source.startswith("### Exercise ") for cell in notebook.cells]
    start = is_task.index(True)
    end = len(notebook.cells) - is_task[::-1].index(True) + 2
    if run := [cell for cell in notebook.cells[start:end] if cell.source.startswith("## ")]:
        raise ValueError(f"{path.name}: {run[0].source!r} stands between the exercises")
    cells, exercises = nbformat.read(source, as_version=4).cells, []
    for number, cell in enumerate(cells):
        if cell.source.startswith("### Exercise "):
            exercises += [cell, cells[number + 1], cells[number + 3]]
    before = {cell.source: cell for cell in notebook.cells[start:end]}
    for cell in exercises:
        cell.metadata = {}  # without an answer there is nothing to compare
        if cell.cell_type == "code":
            known = before.get(cell.source, {"outputs": [], "execution_count": None})
            cell.outputs, cell.execution_count = known["outputs"], known["execution_count"]
    notebook.cells[start:end] = exercises


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in a fresh kernel in this folder. Raises RuntimeError if one writes to the error stream."""
    from nbclient import NotebookClient  # comes with the extra "lab", and --no-run does not need it

    settings = {"kernel_name": "python3", "timeout": 1800, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **settings).execute()
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
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":  # a widget lives only as long as its kernel
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]


def refresh(path: Path, run: bool) -> None:
    """Write one notebook again."""
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    write_head(notebook, path)
    write_exercises(notebook, path)
    if run:
        execute(notebook, path.parent)
        normalise(notebook)
    if path.read_text(encoding="utf-8") != before:
        raise RuntimeError(f"{path.name} has been changed while it ran, and stays as it is: run this again")
    write(path, nbformat.writes(notebook) + "\n")


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on Windows, too


def row(path: Path, folder: str, last: str) -> str:
    """A line of a table: the notebook, its question, minutes to read, how long it runs, and one thing more."""
    head = nbformat.read(path, as_version=4).cells[0].source
    title, question = head.splitlines()[0].removeprefix("# ").split(": ", 1)
    reading, running = re.search(r"Reading time: (\S+) minutes; running time: ([^.]*)\.", head).groups()
    return f"| [{title}]({folder}{path.name}) | {question} | {reading} | {running} | {last} |"


def refresh_tables() -> None:
    """The tables of the notebooks: with badges for all readers, with solutions for teachers."""
    for readme, folder in (ROOT / "README.md", "notebooks/"), (NOTEBOOKS / "README.md", ""):
        table = ["| notebook | its question | minutes to read | to run | |", "|---|---|---|---|---|"]
        for path in notebooks():
            solution = f"solutions/{path.name}"
            solved = f"[solutions]({solution})" if (NOTEBOOKS / solution).exists() else ""
            table.append(row(path, folder, badge(path.name) if folder else solved))
        before, _, rest = readme.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
        write(readme, "\n".join([before + BEGIN, *table, END + rest.partition(END)[2]]))


def refresh_address() -> None:
    """The repository's address wherever a text says how to get it."""
    for path in [ROOT / "README.md", NOTEBOOKS / "README.md", *ROOT.glob("docs/*.md"), ROOT / "CITATION.cff"]:
        text = path.read_text(encoding="utf-8")
        write(path, re.sub(r'(git clone |git\+|repository-code: ")https://[^\s`"]*', rf"\1{REPOSITORY}", text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all by default")
    parser.add_argument("--no-run", action="store_true", help="write only what has its source elsewhere")
    arguments = parser.parse_args()
    if not arguments.no_run:
        import charlstm

        charlstm.load_corpus("grimm")  # committed outputs show Grimm: without it, this says what to do
    for path in arguments.notebooks or [*sorted(NOTEBOOKS.glob("solutions/*.ipynb")), *notebooks()]:
        print(path.name, flush=True)
        refresh(path.resolve(), run=not arguments.no_run)
    refresh_tables()
    refresh_address()


if __name__ == "__main__":
    main()
