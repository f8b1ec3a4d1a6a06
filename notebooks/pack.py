"""Make one folder for a room without a network: python notebooks/pack.py FOLDER [--no-wheels]

It holds the notebooks with their solutions, the texts, and the wheels of charlstm, JupyterLab, TensorFlow and all that
they need (some 700 MB), for the system and the Python version on which this runs. Run it once on each kind of laptop
that will come, into the same folder: it keeps what is there. --no-wheels renews the notebooks and texts alone.

Copy the folder to each laptop. There, `python start.py` in it installs everything and opens the first notebook.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from charlstm.sources import SOURCES, find_file

NOTEBOOKS = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-wheels", action="store_true", help="only the notebooks and the texts")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    for path in [NOTEBOOKS / "README.md", *NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("solutions/*.ipynb")]:
        copy(path, folder / "notebooks" / path.relative_to(NOTEBOOKS))
    for name, source in SOURCES.items():
        copy(find_file(name), folder / "texts" / source.file_name)
    copy(NOTEBOOKS / "start.py", folder / "start.py")
    if not arguments.no_wheels:
        command = [sys.executable, "-m", "pip", "wheel", "--wheel-dir", folder / "wheels", ".[lab]"]
        subprocess.run(command, cwd=NOTEBOOKS.parent, check=True)
    print(f"Copy {folder} to each laptop, and run there, in the folder: python start.py")


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
