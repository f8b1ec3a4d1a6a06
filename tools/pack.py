"""Make one folder for a room without a network: python tools/pack.py FOLDER [--no-wheels]

It gets the notebooks, the texts, and the wheels of charlstm, JupyterLab, TensorFlow and all that they need (some 700 MB)
for the system and the Python that this runs on. Run it once on each kind of laptop that will come, into the same folder.
--no-wheels leaves the wheels out. Copy the folder to each laptop; there, `python start.py` in it installs everything and
opens the first notebook.

A file that is in the folder already stays as it is; where it differs from the course's, this names it. To have the
course's, move the other one away and run this again.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from charlstm import SOURCES, SourceUnavailable, find_file

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-wheels", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder.expanduser().resolve()
    try:
        if folder in (ROOT, NOTEBOOKS):
            raise ValueError(f"{folder} is the course itself: give another folder")
        folder.mkdir(parents=True, exist_ok=True)
        for path, target in packed_files().items():
            copy(path, folder / target)
    except (ValueError, SourceUnavailable) as error:
        sys.exit(f"pack.py: {error}")
    except OSError as error:
        sys.exit(f"pack.py: {error.filename}: {error.strerror}")
    if not arguments.no_wheels:
        command = [sys.executable, "-m", "pip", "wheel", "--wheel-dir", folder / "wheels", ".[lab]"]
        if subprocess.call(command, cwd=ROOT):
            sys.exit("pack.py: not all wheels are there, and the lines above say why; run this again")
    print(f"Copy {folder} to each laptop, and run there, in the folder: python start.py")


def packed_files() -> dict[Path, str]:
    """Each file that goes into the folder, and its place there. Raises SourceUnavailable for a text."""
    paths = [path for path in NOTEBOOKS.rglob("*") if path.suffix in (".ipynb", ".md", ".py")]
    paths = [path for path in paths if path.name != "conftest.py" and ".ipynb_checkpoints" not in path.parts]
    texts = {find_file(name): f"texts/{source.file_name}" for name, source in SOURCES.items()}
    return {path: path.relative_to(ROOT).as_posix() for path in paths} | texts | {ROOT / "tools/start.py": "start.py"}


def copy(source: Path, target: Path) -> None:
    """Copy a file, if there is none yet; else say so where the two differ."""
    if target.exists():
        if target.read_bytes() != source.read_bytes():
            print(f"{target} is not the course's, and stays as it is.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")  # a file is there whole or not at all
    shutil.copyfile(source, partial)
    os.replace(partial, target)


if __name__ == "__main__":
    main()
