"""In a folder that pack.py made: install what is in it, without a network, and open the first notebook.

python start.py [COMMAND ...]     the first time it takes some minutes; another command in place of JupyterLab
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = FOLDER / "environment" / ("Scripts" if os.name == "nt" else "bin")
INSTALLED = FOLDER / "environment" / "installed"

if not INSTALLED.exists():
    venv.create(FOLDER / "environment", clear=True, with_pip=True)
    install = [SCRIPTS / "python", "-m", "pip", "install", "--no-index", "--find-links", FOLDER / "wheels"]
    subprocess.run([*install, "charlstm[lab]"], check=True)
    INSTALLED.touch()

command = sys.argv[1:] or ["-m", "jupyterlab", FOLDER / "notebooks" / "00_quickstart.ipynb"]
environment = os.environ | {"CHARLSTM_DATA": str(FOLDER / "texts")}
sys.exit(subprocess.run([SCRIPTS / "python", *command], env=environment).returncode)
