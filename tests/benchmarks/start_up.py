"""Start-up: seconds until a fresh process has imported something, or has drawn a character; and the notebooks."""

import subprocess
import sys
import time
from pathlib import Path

from turns import spread

FOLDER = Path(__file__).resolve().parents[2]
PROMPT = "THE GOOSE-GIRL"
PROGRAMS = {
    "Python alone": "",
    "import numpy": "import numpy",
    "import charlstm": "import charlstm",
    "first character, Generator.load()": f"import charlstm; next(charlstm.Generator.load().stream({PROMPT!r}, 1))",
    "import torch": "import torch",
    "import tensorflow": "import tensorflow",
    "import keras": "import keras",
    "load_pretrained() and one call": (
        f"import charlstm; model, vocabulary = charlstm.load_pretrained(); model(vocabulary.encode({PROMPT!r})[None])"
    ),
}
TIMED = """
import os, time
first_line = time.time()
{}
print(first_line, time.time(), flush=True)
os._exit(0)  # at once: TensorFlow would take its time to tidy up
"""


def start(program: str) -> dict:
    """Seconds that the program takes in a new process: from its first line on, and from the start of the process on.

    Neither includes the end of the process. Raises RuntimeError, with the last line of the error, if it fails.
    """
    started = time.time()  # not perf_counter, whose zero may be another one in another process
    process = subprocess.run(
        [sys.executable, "-c", TIMED.format(program)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=FOLDER,
    )
    if process.returncode:
        raise RuntimeError(process.stderr.strip().splitlines()[-1])
    first_line, end = map(float, process.stdout.splitlines()[-1].split())
    return {"from_first_line": end - first_line, "from_process_start": end - started}


def run_notebook(path: Path) -> dict:
    """Seconds that pytest takes for a notebook, and whether the notebook passes."""
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-m", "pytest", str(path.relative_to(FOLDER)), "-q"], capture_output=True, cwd=FOLDER
    )
    return {"seconds": time.perf_counter() - started, "passed": process.returncode == 0}


def run(quick: bool) -> dict:
    """Seconds to the first use of charlstm and its peers, in fresh processes, and of pytest for each notebook."""
    measured = {name: [] for name in PROGRAMS}
    for _ in range(2 if quick else 5):
        for name in list(measured):
            try:
                measured[name].append(start(PROGRAMS[name]))
            except RuntimeError as error:
                print(f"  {name}: not measured, {error}", flush=True)
                del measured[name]
    rows = {
        name: {figure: spread([each[figure] for each in starts]) for figure in starts[0]}
        for name, starts in measured.items()
    }
    print(f"\n{'start-up, seconds':36} {'from its first line':>20} {'from process start':>19} {'from':>7} {'to':>7}")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["from_process_start"]["median"]):
        first_line, whole = row["from_first_line"]["median"], row["from_process_start"]
        print(f"{name:36} {first_line:20.3f} {whole['median']:19.3f} {whole['least']:7.3f} {whole['most']:7.3f}")
    if quick:
        print("The notebooks are left out: they take minutes.")
        return rows
    print(f"\n{'pytest, one run each':36} {'seconds':>9}", flush=True)
    for path in sorted((FOLDER / "notebooks").glob("*.ipynb")):
        rows[path.stem] = run_notebook(path)
        failed = "" if rows[path.stem]["passed"] else "  FAILED"
        print(f"{path.stem:36} {rows[path.stem]['seconds']:9.1f}{failed}", flush=True)
    return rows
