"""Measure charlstm beside what people would use instead: python tests/benchmarks/run.py [TOPIC ...] [--quick]

Topics: training, quality_time, sampling, pipeline, quality, scale, start_up; all by default, in half an hour to an hour
and a half on two processor cores. The contenders take turns, so that a busy machine is busy for all, and each proves
first that it does the same work. A table is printed for each topic, and all of them are written to benchmark.json
(--output). PyTorch, JAX and pyppmd come with pip install -e ".[bench,test]"; what is not installed is not measured, and
the table says so.
"""

import argparse
import datetime
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pipeline
import quality
import quality_time
import sampling
import scale
import start_up
import training

TOPICS = {module.__name__: module for module in (training, quality_time, sampling, pipeline, quality, scale, start_up)}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, in three minutes")
    parser.add_argument("--long", action="store_true", help="the textbook's recipe on The Mysterious Island, too")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="where to write the results")
    arguments = parser.parse_args()
    results = circumstances()
    for topic in arguments.topics or TOPICS:
        print(f"{topic}: {TOPICS[topic].run.__doc__}", flush=True)
        options = {}
        if topic == "quality":
            options["long"] = arguments.long
            if results.get("quality_time"):  # the same training has just been done there
                options["book_bits"] = {"grimm": min(results["quality_time"]["book"]["held_out_bits"])}
        results[topic] = TOPICS[topic].run(arguments.quick, **options)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8", newline="\n")
        print()


if __name__ == "__main__":
    main()
