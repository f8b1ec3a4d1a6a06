"""What holds the package together: its imports, its size, and the files that repeat a version or an address."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from charlstm.recorded import read_recorded
from charlstm.sources import find_file

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted((ROOT / "charlstm").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_import_is_light():
    code = "import charlstm, sys; print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def code_lines(path):
    """Neither blank nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = [
        node.body[0] for node in ast.walk(ast.parse(text)) if isinstance(node, documented) and ast.get_docstring(node)
    ]
    left_out = {number for node in docstrings for number in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(bool(line) and not line.startswith("#") and number not in left_out for number, line in lines)


def test_modules_are_thin():
    lines = {path.name: code_lines(path) for path in (ROOT / "charlstm").rglob("*.py")}
    assert max(lines.values()) <= 160 and sum(lines.values()) <= 1925, lines


def test_imports_run_one_way():
    order = [
        "console",
        "recorded",
        "sources",
        "data",
        "pipeline",
        "recipes",
        "model",
        "step",
        "update",
        "model_file",
        "checkpoint",
        "workers",
    ]
    order += ["text_file", "sampling", "training", "inside", "page", "diagrams", "plots", "__init__", "__main__"]
    assert sorted(order) == sorted([*(path.stem for path in MODULES), "recorded"])
    for path in MODULES:
        used = re.findall(r"^ *from charlstm\.(\w+) import", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert all(order.index(name) < order.index(path.stem) for name in used), path.name


def test_environment_takes_its_versions_from_pyproject():
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert f"python{PROJECT['requires-python']}\n" in environment


def notebooks(root):
    """Without JupyterLab's own copies, in .ipynb_checkpoints."""
    return [*root.glob("notebooks/[0-9]*.ipynb"), *root.glob("notebooks/solutions/[0-9]*.ipynb")]


def test_refresh_writes_heads_and_badges_from_the_repository_address(tmp_path):
    for folder in ("notebooks", "charlstm"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / file, tmp_path)

    def read_all(root):
        paths = [*notebooks(root), root / "README.md", root / "CITATION.cff"]
        return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    def table():
        return (tmp_path / "notebooks" / "README.md").read_text(encoding="utf-8")

    def refresh():
        subprocess.run([sys.executable, "notebooks/refresh.py", "--no-run"], cwd=tmp_path, check=True)
        return read_all(tmp_path)

    assert refresh() == read_all(ROOT)  # what is committed is up to date
    assert table() == (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    project = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    address = PROJECT["urls"]["Repository"]
    (tmp_path / "pyproject.toml").write_text(project.replace(address, "https://github.com/a/fork"), encoding="utf-8")
    for name, text in refresh().items():
        assert "github.com/a/fork" in text and address not in text, name


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), ROOT / "notebooks" / "README.md"], ids=lambda path: path.name)
def test_links(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target).exists(), target


def test_a_folder_for_a_room_without_network(tmp_path, grimm, mysterious_island, monkeypatch):
    command = [sys.executable, "notebooks/pack.py", str(tmp_path), "--no-wheels"]
    subprocess.run(command, cwd=ROOT, check=True)
    for path in notebooks(ROOT):
        assert (tmp_path / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    monkeypatch.setenv("CHARLSTM_DATA", str(tmp_path / "texts"))
    for name in "grimm", "mysterious_island":
        assert find_file(name).parent == tmp_path / "texts"
    assert (tmp_path / "start.py").exists()


def test_recorded_run_of_the_book():
    losses = read_recorded("book")["whole_text"]["loss"]
    assert len(losses) == 20 and 2.8 < losses[0] < 3.0 and losses[-1] <= 1.1505


def test_benchmarks_quote_the_recorded_run():
    speed = read_recorded("speed")
    section = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert speed["date"] in section and f"TensorFlow {speed['tensorflow']}" in section
    rates = [*speed["training"].values()]
    rates += [row["many_streams"] for row in speed["sampling"].values() if "many_streams" in row]
    rates += [row["characters_a_second"] for size in speed["pipeline"].values() for row in size.values()]
    figures = [f"{round(rate['median'], -2):,.0f}" for rate in rates]
    figures += [f"{row['seconds']:.0f}" for row in speed["quality_time"].values()]
    figures += [f"{bits:.2f}" for row in speed["quality"].values() for bits in row.values() if isinstance(bits, float)]
    assert [figure for figure in figures if f"| {figure} |" not in section] == []
