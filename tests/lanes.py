"""The tests in environments of their own: python tests/lanes.py [LANE ...], all lanes by default

newest   README.md's test command, with the newest packages
offline  the notebooks, without their solutions, on the bundled tales, without texts, cache and network
colab    Python 3.13 with exactly the packages of tests/colab-constraints.txt, of which installing charlstm may change
         none; the notebooks run in a folder where nothing else of this repository lies, without their solutions, and
         of the tests all but those of several machines
oldest   exactly the lowest versions that pyproject.toml admits; of the notebooks 00 to 06, without their solutions
browser  JupyterLab, and a model's page, in a headless Chromium (test_browser.py, test_page.py)

Each lane makes a fresh virtual environment outside the tree. At the end stands a line for each: time, passed, failed,
skipped. A lane that can't run here says why. All but offline need Grimm (CHARLSTM_DATA, or the network): every figure of
its text must have been compared.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "tests" / "colab-constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class CanNotRun(Exception):
    """The lane needs something that this machine lacks."""


class Environment:
    """A fresh virtual environment of a certain Python in a temporary folder, where the reports are gathered, too."""

    def __init__(self, folder: Path, python: str = sys.executable):
        self.folder = folder
        subprocess.run([python, "-m", "venv", folder / "environment"], check=True)
        scripts = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(scripts / "python")
        self.variables = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}

    def run(self, command: str, all_figures: bool = True, cwd: Path = ROOT, **variables: str) -> None:
        """A command with pytest in it; ``all_figures``: no figure of Grimm may have gone without comparison."""
        report = self.folder / f"report{len(list(self.folder.glob('report*')))}.xml"
        variables = self.variables | {"PYTEST_ADDOPTS": f'--junitxml="{report.as_posix()}"'} | variables
        lines = []
        with subprocess.Popen(
            command, shell=True, cwd=cwd, env=variables, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
        ) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.strip())
        assert process.returncode == 0, f"{command!r} ended with {process.returncode}"
        compared = any(re.fullmatch(r"Grimm figures: [1-9]\d* cells compared, 0 not compared", line) for line in lines)
        assert compared or not all_figures, "not all figures of Grimm were compared: is CHARLSTM_DATA set?"

    def install(self, *requirements: str) -> None:
        command = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        subprocess.run(command, cwd=ROOT, env=self.variables, check=True)

    def versions(self) -> dict[str, str]:
        command = [self.python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        listed = subprocess.run(command, capture_output=True, check=True, env=self.variables).stdout
        return {row["name"]: row["version"] for row in json.loads(listed)}


def find_python(version: str) -> str:
    """The interpreter of this version: this one, one on the PATH, or one of pyenv's."""
    on_path = shutil.which(f"python{version}")
    candidates = [sys.executable, on_path, *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for python in filter(None, candidates):  # pyenv's python on the PATH may be one that only complains
        answer = subprocess.run([python, "--version"], capture_output=True, encoding="utf-8").stdout
        if answer.startswith(f"Python {version}."):
            return str(python)
    raise CanNotRun(f"no Python {version} was found")


def newest(folder: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    environment = Environment(folder)
    environment.run(next(line for line in readme.splitlines() if "python -m pytest" in line))
    environment.run("python -m pytest tests -m long -n 2 --dist load", all_figures=False)


def offline(folder: Path) -> None:
    environment = Environment(folder)
    environment.install("-e", ".[test]")
    cache = str(folder / "cache")
    nothing = {"CHARLSTM_DATA": "", "XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache}
    command = "python -m pytest -n 2 notebooks --ignore=notebooks/solutions"
    environment.run(command, all_figures=False, HTTPS_PROXY="http://127.0.0.1:9", **nothing)


def colab(folder: Path) -> None:
    environment = Environment(folder, find_python("3.13"))
    environment.install("-r", str(CONSTRAINTS))
    before = environment.versions()
    environment.install(".")  # a wheel, as the set-up cell of the notebooks makes it
    after = environment.versions()
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    assert not changed, f"installing charlstm changed packages of Colab's: {changed}"
    environment.install("-c", str(CONSTRAINTS), ".[test]")
    shutil.copytree(ROOT / "notebooks", folder / "elsewhere", ignore=shutil.ignore_patterns("solutions"))
    alone = "--nbval-lax --nbval-current-env --nbval-cell-timeout=600 --dist loadfile"
    one_thread_each = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}  # no conftest.py is there to say so
    environment.run(f"python -m pytest -n 2 {alone}", cwd=folder / "elsewhere", **one_thread_each)
    environment.run("pytest -n 2 tests --ignore=tests/test_workers.py", all_figures=False)


def oldest(folder: Path) -> None:
    extras = PROJECT["optional-dependencies"]
    floors = folder / "floors.txt"
    lines = [
        re.sub(r">=([\d.]+).*", r"==\1", line) for line in PROJECT["dependencies"] + extras["lab"] + extras["test"]
    ]
    floors.write_text("\n".join(lines), encoding="utf-8")
    environment = Environment(folder, find_python("3.11"))
    environment.install("-c", str(floors), "-e", ".[lab,test]")
    course = " ".join(f"notebooks/{path.name}" for path in sorted(ROOT.glob("notebooks/0[0-6]*.ipynb")))
    environment.run(f"python -m pytest -n 2 tests {course}")


def browser(folder: Path) -> None:
    environment = Environment(folder)
    environment.install("-e", ".[lab,test]", "playwright")
    environment.run("python -m pytest tests -m browser", all_figures=False)


def summary(folder: Path) -> tuple[str, bool]:
    suites = [ElementTree.parse(report).getroot().find("testsuite") for report in folder.glob("report*.xml")]
    total, skipped, failures, errors = (
        sum(int(suite.get(what)) for suite in suites) for what in ("tests", "skipped", "failures", "errors")
    )
    failed = failures + errors
    return f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped", failed == 0 and total > 0


def main() -> int:
    lanes = {"newest": newest, "offline": offline, "colab": colab, "oldest": oldest, "browser": browser}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=f"of {', '.join(lanes)}")
    lines, all_good = [], True
    for name in parser.parse_args().lanes or lanes:
        print(f"== {name}", flush=True)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                lanes[name](Path(folder))
                line, good = summary(Path(folder))
            except CanNotRun as reason:
                line, good = f"did not run: {reason}", True
            except (AssertionError, subprocess.CalledProcessError) as error:
                line, good = f"{summary(Path(folder))[0]}; {error}", False
        lines.append(f"lane {name:8} {time.monotonic() - start:6.0f} s  {line}")
        all_good &= good
    print("\n".join(["", *lines]))
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
