"""What holds the package together: its imports, its size, its one face, and the files that are made from others."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest

import charlstm
from charlstm.course.recorded import read_recorded

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = sorted((ROOT / "charlstm").glob("*.py"))
COURSE = sorted((ROOT / "charlstm" / "course").rglob("*.py"))
NOTEBOOKS = [path for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb") if ".ipynb_checkpoints" not in path.parts]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "notebooks" / "README.md"]


def test_import_is_light():
    code = "import charlstm, sys; print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


BEFORE = "import sys, types; keras = sys.modules['keras'] = types.ModuleType('keras')\n"
BEFORE += "keras.config = types.SimpleNamespace(backend=lambda: 'jax')\n"  # as if it had been imported with this one


@pytest.mark.parametrize(("backend", "before"), [("torch", ""), ("jax", BEFORE)])
def test_another_backend_of_keras_gets_a_sentence(backend, before):
    settings = {"env": os.environ | {"KERAS_BACKEND": "torch"}, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-c", f"{before}import charlstm"], **settings)
    assert f"with {backend!r}: before the first import" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("unset", [{}, {"KERAS_BACKEND": ""}])
def test_a_file_of_keras_that_names_another_backend_does_no_harm(tmp_path, unset):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}', encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    code = "import charlstm; charlstm.build_model(5, 4, 4)"
    subprocess.run([sys.executable, "-c", code], env=environment | unset | {"KERAS_HOME": str(tmp_path)}, check=True)


def lines_of_code(path, node=None):
    """The numbers of a file's lines, or of those of a node, that are neither blank nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    strings = [n.body[0] for n in ast.walk(ast.parse(text)) if isinstance(n, documented) and ast.get_docstring(n)]
    left_out = {number for string in strings for number in range(string.lineno, string.end_lineno + 1)}
    lines = {number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*[^\s#]", line)} - left_out
    return lines & set(range(node.lineno, node.end_lineno + 1)) if node else lines


def test_thin():
    core, course, tests = (
        {p.name: len(lines_of_code(p)) for p in paths} for paths in (CORE, COURSE, ROOT.glob("tests/*.py"))
    )
    assert sum(core.values()) <= 1200, core
    assert sum(course.values()) <= 650, course
    assert sum(tests.values()) <= 2500, tests
    assert max([*core.values(), *course.values()]) <= 150, core | course


@pytest.mark.parametrize("path", [*CORE, *COURSE], ids=lambda path: path.stem)
def test_functions_are_short(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    lengths = {node.name: len(lines_of_code(path, node)) for node in nodes if isinstance(node, ast.FunctionDef)}
    assert not {name: length for name, length in lengths.items() if length > 30}


def test_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    own = re.sub(r"<!-- written by refresh.py: -->.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert len(own.split()) <= 900


def test_imports_run_one_way():
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in [*CORE, *COURSE]}
    paths = {name.removesuffix(".__init__"): path for name, path in names.items()}

    def used(path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                yield from {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & paths.keys()
            elif isinstance(node, ast.Import):
                yield from {alias.name for alias in node.names} & paths.keys()

    graph = {name: set(used(path)) for name, path in paths.items()}
    TopologicalSorter(graph).prepare()  # a circle raises CycleError
    core = {name for name in graph if not name.startswith("charlstm.course")}
    assert not {name: graph[name] for name in core if graph[name] - core}


def read_source(path):
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


READ = [*NOTEBOOKS, *(ROOT / "notebooks").glob("[!c]*.py"), ROOT / "README.md", *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("path", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_readers_use_only_what_the_package_offers(path):
    offered = {f"charlstm.{name}" for name in charlstm.__all__ if not inspect.ismodule(getattr(charlstm, name))}
    offered |= set(re.findall(r"charlstm(?:\.\w+)+", charlstm.__doc__))
    source = read_source(path)
    used = set(re.findall(r"\bcharlstm(?:\.\w+)+", re.sub("from charlstm.* import", "", source)))
    for module, names in re.findall(r"from (charlstm[\w.]*) import ([\w, ]+|\([^)]*\))", source):
        used |= {f"{module}.{name.split()[0]}" for name in names.strip("()").split(",") if name.strip()}
    assert not {name for name in used if not any(f"{name}.".startswith(f"{known}.") for known in offered)}


def test_environment_takes_its_versions_from_pyproject():
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert f"python{PROJECT['requires-python']}\n" in environment


def test_refresh_writes_what_has_its_source_elsewhere(tmp_path):
    for folder in ("notebooks", "tools", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / file, tmp_path)
    written = [path.relative_to(ROOT) for path in [*NOTEBOOKS, *PAGES, ROOT / "CITATION.cff"]]
    committed = {path: (ROOT / path).read_text(encoding="utf-8") for path in written if (tmp_path / path).exists()}

    def refresh():
        subprocess.run([sys.executable, "tools/refresh.py", "--no-run"], cwd=tmp_path, check=True)
        return {path: (tmp_path / path).read_text(encoding="utf-8") for path in committed}

    assert refresh() == committed
    repository = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
    project = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(project.replace(repository, "a/fork"), encoding="utf-8")
    assert refresh() == {path: text.replace(repository, "a/fork") for path, text in committed.items()}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.split("#")[0]).exists(), target


def pack(*arguments, **settings):
    command = [sys.executable, ROOT / "tools" / "pack.py", *arguments, "--no-wheels"]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


def test_a_folder_for_a_room_without_network(tmp_path, grimm, mysterious_island, monkeypatch):
    assert pack("room", cwd=tmp_path).returncode == 0 and pack(ROOT / "notebooks").returncode == 1
    copies = {path: tmp_path / "room" / path.relative_to(ROOT) for path in NOTEBOOKS}
    assert all(copy.read_bytes() == path.read_bytes() for path, copy in copies.items())
    monkeypatch.setenv("CHARLSTM_DATA", str(tmp_path / "room" / "texts"))
    for name in "grimm", "mysterious_island":
        assert charlstm.find_file(name).parent == tmp_path / "room" / "texts"


def test_packing_again_keeps_what_somebody_has_changed(tmp_path, grimm, mysterious_island):
    changed, lost, *_ = (tmp_path / path.relative_to(ROOT) for path in NOTEBOOKS)
    pack(tmp_path)
    changed.write_text("mine", encoding="utf-8")
    lost.unlink()
    said = pack(tmp_path).stdout
    assert changed.read_text(encoding="utf-8") == "mine" and str(changed) in said
    assert lost.exists() and str(lost) not in said


def start(folder):
    code = "import charlstm, os, sys; print(sys.prefix, os.environ['CHARLSTM_DATA'])"
    command = [sys.executable, "start.py", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def make_wheel(folder, tag):
    """The wheel of an empty package that calls itself charlstm[lab]."""
    about = "charlstm-9.dist-info"
    with zipfile.ZipFile(folder / f"charlstm-9-{tag}.whl", "w") as wheel:
        wheel.writestr("charlstm.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: charlstm\nVersion: 9\nProvides-Extra: lab\n")
        wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.mark.long
def test_a_room_starts_wherever_it_was_copied(tmp_path):
    (tmp_path / "room" / "wheels").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "start.py", tmp_path / "room")
    make_wheel(tmp_path / "room" / "wheels", "py3-none-any")
    for folder in tmp_path / "room", tmp_path / "elsewhere":
        if not folder.exists():
            shutil.copytree(tmp_path / "room", folder, symlinks=True)
        for times in 1, 2:
            *installing, said = start(folder).stdout.splitlines()
            assert said == f"{folder / 'environment'} {folder / 'texts'}"
            assert bool(installing) == (times == 1)


def test_start_says_in_a_sentence_what_is_missing(tmp_path):
    (tmp_path / "wheels").mkdir()
    shutil.copy(ROOT / "tools" / "start.py", tmp_path)
    assert "no wheels" in start(tmp_path).stderr
    make_wheel(tmp_path / "wheels", "cp27-none-any")
    done = start(tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "tools/pack.py" in done.stderr


def test_a_notebook_that_somebody_saves_while_it_runs_keeps_what_they_wrote(tmp_path, grimm):
    pytest.importorskip("nbclient", reason="it comes with the extra lab")
    for name in "tools/refresh.py", "pyproject.toml", "notebooks/04_model.ipynb":
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    path = tmp_path / "notebooks" / "04_model.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2:] = [nbformat.v4.new_code_cell("open('04_model.ipynb', 'a').write(' ')")]
    nbformat.write(notebook, path)
    saved = path.read_text(encoding="utf-8") + " "
    command = [sys.executable, "tools/refresh.py", "notebooks/04_model.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode and "04_model.ipynb has been changed while it ran" in done.stderr
    assert path.read_text(encoding="utf-8") == saved


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
