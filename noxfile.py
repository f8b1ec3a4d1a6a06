"""The tests in fresh environments: pip install nox, then nox, or nox -s LANE for one of them; nox -l lists them.

newest, colab and oldest need Grimm (CHARLSTM_DATA, or the network), and end at once, with advice, where there is none.
pytest gets what follows --, as in nox -s newest -- -k sampling.
"""

import re
import shlex
import shutil
import tempfile
import tomllib
from pathlib import Path

import nox

PYTEST = "python -m pytest -n 2"
ON_COLAB = "tests/colab-constraints.txt"
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False


def test(session: nox.Session, command: str, **variables: str) -> None:
    """Run pytest. What follows -- may leave no test to run: code 5."""
    codes = [0, 5] if session.posargs else [0]
    session.run(*shlex.split(command), *session.posargs, env=variables, success_codes=codes)


def need_grimm(session: nox.Session) -> None:
    session.run("python", "-c", "import charlstm; charlstm.load_corpus('grimm')")


@nox.session
def newest(session: nox.Session) -> None:
    """README.md's test command with the newest packages; then the tests that take minutes, and the solutions."""
    readme = Path("README.md").read_text(encoding="utf-8")
    install, tests = next(line for line in readme.splitlines() if "python -m pytest" in line).split(" && ")
    session.run(*shlex.split(install), silent=True)
    need_grimm(session)
    test(session, tests)
    test(session, f"{PYTEST} tests -m long --dist load")
    test(session, f"{PYTEST} notebooks/solutions")


@nox.session
def offline(session: nox.Session) -> None:
    """The notebooks on the bundled tales: no other text, no cache, no network."""
    session.install("-e", ".[test]")
    cache = session.create_tmp()
    nothing = {"CHARLSTM_DATA": "", "XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache, "HTTPS_PROXY": "http://127.0.0.1:9"}
    test(session, f"{PYTEST} notebooks --ignore=notebooks/solutions", **nothing)


@nox.session(python="3.13")
def colab(session: nox.Session) -> None:
    """Google Colab's packages, of which installing charlstm may change none; the notebooks in a folder by themselves."""
    packages = "python", "-m", "pip", "list", "--format=freeze"
    session.install("-r", ON_COLAB)
    before = session.run(*packages, silent=True).split()
    session.install(".")  # a wheel, as the notebooks' set-up cell makes it
    if changed := {*before}.difference(session.run(*packages, silent=True).split()):
        session.error(f"installing charlstm changed packages of Colab's: {', '.join(sorted(changed))}")
    session.install("-c", ON_COLAB, ".[test]")
    need_grimm(session)
    nbval = "--nbval-lax --nbval-current-env --nbval-cell-timeout=600 --dist loadfile"
    one_thread_each = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"), "1")  # as conftest.py has it
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree("notebooks", f"{folder}/alone", ignore=shutil.ignore_patterns("solutions", "ko"))
        with session.chdir(f"{folder}/alone"):
            test(session, f"{PYTEST} {nbval}", **one_thread_each)
    test(session, f"{PYTEST} tests --ignore-glob=*workers.py")


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The lowest versions that pyproject.toml admits; of the notebooks 00 to 06."""
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + extras["lab"] + extras["test"]
    lowest = Path(session.create_tmp(), "lowest.txt")
    lowest.write_text("\n".join(re.sub(r">=([\d.]+).*", r"==\1", line) for line in lines), encoding="utf-8")
    session.install("-c", str(lowest), "-e", ".[lab,test]")
    need_grimm(session)
    course = " ".join(path.as_posix() for path in sorted(Path("notebooks").glob("0[0-6]*.ipynb")))
    test(session, f"{PYTEST} tests {course}")


@nox.session
def browser(session: nox.Session) -> None:
    """JupyterLab, and a model's page, in a headless Chromium."""
    session.install("-e", ".[lab,test]", "playwright")
    test(session, "python -m pytest tests -m browser")
