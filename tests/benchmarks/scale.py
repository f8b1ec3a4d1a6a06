"""Texts and machines past one: how fast a large text becomes a file of ids, and what one more worker brings.

The text is Grimm (or the bundled tales) over and over, written to a temporary folder, and removed afterwards. Encoding
and reading have a process each, so that their memory can be told apart. Both workers run on this machine: two processes
on the same processor cores show what working together costs, not what a second machine would bring.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import HERE, peak_megabytes, spread, take_turns

SCRIPT = HERE.parents[1] / "notebooks" / "train_on_workers.py"
SEQ_LENGTH, BATCH_SIZE = 50, 64


def most_megabytes() -> float:
    """The most memory of this process alone. (Linux's ru_maxrss begins with that of the process that started it.)"""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_megabytes()
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3


def encode(folder: str, seconds: float):
    """The text file becomes a file of ids."""
    from charlstm.course.ids_file import encode_file

    path = Path(folder, "text.txt")
    yield {"megabytes_before": most_megabytes()}
    start = time.perf_counter()
    ids = encode_file(path, Path(folder, "ids.npy"))
    elapsed = time.perf_counter() - start
    size = {"megabytes": path.stat().st_size / 1e6, "characters": len(ids)}
    yield {"seconds": elapsed, "peak_megabytes": most_megabytes()} | size


def read(folder: str, seconds: float):
    """Batches out of that file, for some ``seconds`` after the first."""
    import charlstm
    from charlstm.course.ids_file import open_ids

    charlstm.import_tensorflow_quietly()
    yield {"megabytes_before": most_megabytes()}
    start = time.perf_counter()
    batches = iter(charlstm.make_dataset(open_ids(Path(folder, "ids.npy")), SEQ_LENGTH, BATCH_SIZE))
    next(batches)
    first = time.perf_counter()
    for number, _ in enumerate(batches, 1):
        if (elapsed := time.perf_counter() - first) > seconds:
            break
    found = {"batches": number, "first_batch_seconds": first - start}
    yield {"seconds": elapsed, "peak_megabytes": most_megabytes()} | found


def train(folder: Path, workers: int, epochs: int, units: int) -> dict:
    """Characters a second of each epoch after the first, which makes TensorFlow's graph; and all losses."""
    saved = folder / "model.safetensors"
    sizes = ["--epochs", str(epochs), "--units", str(units), "--held-out", "0", "--local", str(workers)]
    command = [sys.executable, str(SCRIPT), str(folder / "short.txt"), str(saved), *sizes]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if process.returncode:
        raise RuntimeError(f"{workers} workers: {process.stderr.strip().splitlines()[-1]}")
    from charlstm import read_card

    lines = [line for line in process.stdout.splitlines() if line.startswith("epoch ")]
    speeds = [float(line.split(" characters/s")[0].rsplit(" ", 1)[1].replace(",", "")) for line in lines[1:]]
    return {"characters_a_second": spread(speeds), "loss": read_card(saved)["loss"]}


def write_text(path: Path, text: str, size: int) -> None:
    """A file of about ``size`` bytes: the text over and over."""
    data = text.encode()
    with path.open("wb") as file:
        file.writelines([data] * max(1, size // len(data)))


def run(quick: bool) -> dict:
    """A text that never fits into memory, and several workers: speed and memory."""
    import charlstm

    text, rows = charlstm.load_corpus().text, {}
    epochs, units = (3, 64) if quick else (4, 512)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_text(Path(folder, "text.txt"), text, 20_000_000 if quick else 1_000_000_000)
        Path(folder, "short.txt").write_text(text[:100_000], encoding="utf-8", newline="")
        for name in "encode", "read":
            settings = {"folder": folder, "seconds": 1.0 if quick else 10.0}
            contender = take_turns("scale", [name], settings, turns=1, warm_up=0)[name]
            rows[name] = contender.check | contender.portions[0]
        for workers in 1, 2:
            rows[f"workers {workers}"] = train(Path(folder), workers, epochs, units)
    print_table(rows, units)
    return rows | {"units": units}


def print_table(rows: dict, units: int) -> None:
    encoded, batches, one, two = (rows[name] for name in ("encode", "read", "workers 1", "workers 2"))
    speed, of_batches = encoded["megabytes"] / encoded["seconds"], batches["batches"] / batches["seconds"]
    print(f"\n{'':44} {'speed':>24} {'peak MB':>8} {'before it':>9}")
    for title, figure, row in (
        (f"encode_file, a text of {encoded['megabytes']:,.0f} MB", f"{speed:.1f} MB/s", encoded),
        (f"make_dataset, {BATCH_SIZE} windows of {SEQ_LENGTH}, from it", f"{of_batches:,.0f} batches/s", batches),
    ):
        print(f"{title:44} {figure:>24} {row['peak_megabytes']:8,.0f} {row['megabytes_before']:9,.0f}")
    for name, row in (("one worker", one), ("two workers on this machine", two)):
        title, figure = f"{name}, {units} units", f"{row['characters_a_second']['median']:,.0f} characters/s"
        print(f"{title:44} {figure:>24}")
    share = two["characters_a_second"]["median"] / one["characters_a_second"]["median"]
    apart = max(abs(a - b) for a, b in zip(one["loss"], two["loss"], strict=True))
    print(f"Two on one machine reach {share:.0%} of one's speed; their losses are {apart:.1e} nats apart.")
