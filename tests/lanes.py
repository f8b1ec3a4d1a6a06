"""The tests in environments of their own: python tests/lanes.py [LANE ...], all lanes by default

newest   README.md's test command, with the newest packages; every figure of Grimm must have been compared
offline  the notebooks of that environment on the bundled tales, without texts, cache and network
colab    Python 3.13 with exactly the packages of tests/colab-constraints.txt, of which installing charlstm may change none
oldest   exactly the lowest versions that pyproject.toml admits
browser  JupyterLab in a headless Chromium (test_browser.py)

Each lane makes a fresh virtual environment outside the tree. At the end stands a line for each: time, passed, failed,
skipped. A lane that can't run here says why.
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
NO_TEXTS = {"CHARLSTM_DATA": "", "HTTPS_PROXY": "http://127.0.0.1:9"}


class CanNotRun(Exception):
    """The lane needs something that this machine lacks."""


class Environment:
    """A fresh virtual environment of a certain Python in a temporary folder."""

    def __init__(self, folder: Path, python: str = sys.executable):
        self.folder = folder
        subprocess.run([python, "-m", "venv", folder / "environment"], check=True)
        scripts = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        self.python = scripts / ("python.exe" if os.name == "nt" else "python")
        self.variables = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}

    def install(self, *requirements: str) -> None:
        command = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        subprocess.run(command, cwd=ROOT, env=self.variables, check=True)

    def versions(self) -> dict[str, str]:
        listed = subprocess.run(
            [self.python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
            capture_output=True, text=True, check=True, env=self.variables,
        ).stdout  # fmt: skip
        return {canonical(row["name"]): row["version"] for row in json.loads(listed)}

    def test(self, *arguments: str, all_figures: bool = False, **variables: str) -> None:
        """pytest, its report as it comes; ``all_figures``: no figure of Grimm may have gone without comparison."""
        command = [self.python, "-m", "pytest", f"--junitxml={self.folder / 'report.xml'}", *arguments]
        lines = []
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.variables | variables,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        compared = any(re.match(r"Grimm figures: [1-9]\d* cells compared, 0 not compared$", line) for line in lines)
        assert compared or not all_figures, "not all figures of Grimm were compared: is CHARLSTM_DATA set?"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def find_python(version: str) -> str:
    """The interpreter of this version: this one, one on the PATH, or one of pyenv's."""
    if sys.version.startswith(version + "."):
        return sys.executable
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if found := shutil.which(f"python{version}") or (pyenv and str(pyenv[-1])):
        return found
    raise CanNotRun(f"no Python {version} was found")


def newest(folder: Path) -> None:
    command = "python -m pip install"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    install, _, test = next(line for line in readme.splitlines() if "python -m pytest" in line).partition(" && ")
    assert install.startswith(command) and test == "python -m pytest", "the README's test command has another form"
    environment = Environment(folder)
    environment.install(*install.removeprefix(command).replace('"', "").split())
    environment.test(all_figures=True)


def offline(folder: Path) -> None:
    environment = Environment(folder)
    environment.install("-e", ".[test]")
    environment.test("notebooks", XDG_CACHE_HOME=str(folder / "cache"), LOCALAPPDATA=str(folder / "cache"), **NO_TEXTS)


def colab(folder: Path) -> None:
    environment = Environment(folder, find_python("3.13"))
    environment.install("-r", str(CONSTRAINTS))
    before = environment.versions()
    environment.install("-e", ".[test]")
    after = environment.versions()
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    assert not changed, f"installing charlstm changed packages of Colab's: {changed}"
    environment.test(all_figures=True)


def oldest(folder: Path) -> None:
    requirements = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    floors = folder / "floors.txt"
    floors.write_text("\n".join(re.sub(r">=([\d.]+).*", r"==\1", line) for line in requirements), encoding="utf-8")
    environment = Environment(folder, find_python("3.11"))
    environment.install("-c", str(floors), "-e", ".[test]")
    environment.test("tests")


def browser(folder: Path) -> None:
    environment = Environment(folder)
    environment.install("-e", ".[lab,test]", "playwright")
    environment.test("tests/test_browser.py")


def summary(folder: Path) -> tuple[str, bool]:
    report = folder / "report.xml"
    if not report.exists():
        return "no report", False
    suite = ElementTree.parse(report).getroot().find("testsuite")
    total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
    failed = int(suite.get("failures")) + int(suite.get("errors"))
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
                line, good = f"failed: {error}", False
        lines.append(f"{name:8} {time.monotonic() - start:6.0f} s  {line}")
        all_good &= good
    print("\n".join(["", *lines]))
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
