"""Measure charlstm beside what people would use instead: python tests/benchmarks/run.py [TOPIC ...] [--quick]

Topics: training, quality_time (all by default). The contenders take turns, so that a busy machine is busy for all. A
table is printed for each topic, and all of them are written to benchmark.json (--output). PyTorch and JAX come with
pip install -e ".[bench]"; what is not installed is not measured, and the table says so.
"""

import argparse
import datetime
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import quality_time
import training
from turns import spread, start_all, take_turns

TARGET_LOSS = 1.1505  # what the document that the notebooks follow reports for the book's 20 epochs


def circumstances() -> dict:
    """When and on what this was measured."""
    versions = {}
    for name in ("tensorflow", "keras", "numpy", "torch", "jax"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processor cores"
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine,
        "python": platform.python_version(),
    } | versions


def run_training(quick: bool) -> dict:
    """Characters a second in training, and peak memory."""
    batches, turns = (6, 3) if quick else (30, 5)
    contenders = take_turns("training", training.CONTENDERS, {"batches": batches}, turns)
    expected = contenders["stock_float32"].check["first_loss"]
    rows = {}
    for name, contender in contenders.items():
        loss = contender.check["first_loss"]
        tolerance = 1e-2 if "bfloat16" in name else 1e-4
        if not np.isclose(loss, expected, rtol=tolerance):
            raise AssertionError(f"{name} does not compute the same: its first loss is {loss}, not {expected}")
        speeds = [portion["characters"] / portion["seconds"] for portion in contender.portions]
        rows[name] = spread(speeds) | {"peak_megabytes": contender.peak_megabytes, "first_loss": loss}
    stock = rows["stock_float32"]
    print(f"\n{'training':22} {'characters/s':>13} {'from':>8} {'to':>8} {'against stock':>14} {'peak MB':>9}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["median"]):
        print(
            f"{name:22} {row['median']:13,.0f} {row['least']:8,.0f} {row['most']:8,.0f}"
            f" {row['median'] / stock['median']:13.2f}x {row['peak_megabytes']:9,.0f}"
        )
    return rows


def run_quality_time(quick: bool) -> dict:
    """Seconds of training to a loss of 1.1505 nats, and the best held-out bits per character on the way."""
    if quick:
        print("  left out: it takes ten minutes")
        return {}
    contenders, rows = start_all("quality_time", quality_time.CONTENDERS, {}), {}
    for name, contender in contenders.items():
        rows[name] = {"seconds": 0.0, "loss": [], "held_out_bits": []}
    waiting = dict(contenders)
    while waiting:
        for name, contender in list(waiting.items()):
            contender.take_turn()
            portion, row = contender.portions[-1], rows[name]
            row["loss"].append(portion["loss"])
            row["held_out_bits"].append(portion["held_out_bits"])
            if min(row["loss"][:-1], default=9) > TARGET_LOSS:
                row["seconds"] += portion["seconds"]
            if len(row["loss"]) == contender.check["epochs"]:
                del waiting[name]
                contender.finish()
    print(f"\n{'time to a quality':22} {'seconds':>9} {'epochs':>7} {'loss':>8} {'best held-out bits':>19}")
    for name, row in rows.items():
        reached = [epoch for epoch, loss in enumerate(row["loss"], 1) if loss <= TARGET_LOSS]
        row["epochs"] = reached[0] if reached else None
        epochs = row["epochs"] or "never"
        print(f"{name:22} {row['seconds']:9.1f} {epochs:>7} {row['loss'][-1]:8.4f} {min(row['held_out_bits']):19.3f}")
    return rows


TOPICS = {"training": run_training, "quality_time": run_quality_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="where to write the results")
    arguments = parser.parse_args()
    results = circumstances()
    for topic in arguments.topics or TOPICS:
        print(f"{topic}: {TOPICS[topic].__doc__}", flush=True)
        results[topic] = TOPICS[topic](arguments.quick)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8", newline="\n")
        print()


if __name__ == "__main__":
    main()
