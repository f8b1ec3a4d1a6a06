"""In a folder that tools/pack.py made: install what is in it, without a network, and open the first notebook.

python start.py [COMMAND ...]     the first time it takes some minutes; another command in place of JupyterLab
"""

import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
WHEELS, ENVIRONMENT = FOLDER / "wheels", FOLDER / "environment"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
# An environment works only where it was made, and with the Python that made it. It remembers both.
MADE = ENVIRONMENT / "made.txt"
HERE = "\n".join([str(ENVIRONMENT), sys.base_prefix, sys.version, platform.system(), platform.machine()])


def install() -> None:
    """Make the environment, and fill it from the wheels; or exit with a sentence that says what is missing."""
    if not any(WHEELS.glob("charlstm-*.whl")):
        sys.exit(f"There are no wheels in {WHEELS}: python tools/pack.py FOLDER makes a folder that has them.")
    print("Installing, which takes some minutes, and only this once ...", flush=True)
    try:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{ENVIRONMENT} can't be made ({error}): is it writable, and on Debian or Ubuntu python3-venv there?")
    command = [PYTHON, "-m", "pip", "install", "-q", "--no-index", "--find-links", WHEELS, "charlstm[lab]"]
    pip = subprocess.run(command, check=False, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    if pip.returncode:
        reason = pip.stderr.strip().rpartition("ERROR: ")[2]
        this = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
        sys.exit(f"Not installed ({reason}): if {WHEELS} has nothing for {this}, run tools/pack.py with that.")
    MADE.write_text(HERE, encoding="utf-8")


if __name__ == "__main__":
    if not (PYTHON.exists() and MADE.exists() and MADE.read_text(encoding="utf-8") == HERE):
        install()
    command = sys.argv[1:] or ["-m", "jupyterlab", FOLDER / "notebooks" / "00_quickstart.ipynb"]
    variables = os.environ | {"CHARLSTM_DATA": str(FOLDER / "texts")}
    sys.exit(subprocess.call([PYTHON, *command], env=variables))
