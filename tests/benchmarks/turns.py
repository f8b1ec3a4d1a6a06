"""Contenders that take turns: each lives in a process of its own, so that its memory can be told from the others'.

A contender is a generator function. It prepares itself, yields once a dictionary with what proves that it does the same
work as the others, and then does one portion of the work for each ``next`` and yields ``{"seconds": ..., ...}``.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Contender:
    """A process with one contender in it, asked for one portion of work at a time."""

    def __init__(self, topic: str, name: str, settings: dict):
        self.name, self.portions = name, []
        command = [sys.executable, str(HERE / "turns.py"), topic, name, json.dumps(settings)]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(HERE)}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )
        self.check = self.ask("check")

    def ask(self, what: str) -> dict:
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print, too
                return json.loads(line)
        raise RuntimeError(f"{self.name} failed:\n{self.process.stderr.read()[-2000:]}")

    def take_turn(self) -> None:
        self.portions.append(self.ask("portion"))

    def finish(self) -> dict:
        peak = self.ask("memory")
        self.process.communicate()
        return peak


def start_all(topic: str, names: list[str], settings: dict) -> dict[str, Contender]:
    """The contenders that can be had here, ready; the reason why another can't is printed."""
    contenders = {}
    for name in names:
        try:
            contenders[name] = Contender(topic, name, settings)
            print(f"  {name}: ready, {contenders[name].check}", flush=True)
        except RuntimeError as error:
            print(f"  {name}: not measured, {str(error).strip().splitlines()[-1]}", flush=True)
    return contenders


def take_turns(topic: str, names: list[str], settings: dict, turns: int, warm_up: int = 1) -> dict[str, Contender]:
    """Let the contenders work in turns. The first ``warm_up`` turns are not counted."""
    contenders = start_all(topic, names, settings)
    try:
        for turn in range(warm_up + turns):
            for contender in contenders.values():
                contender.take_turn()
                if turn < warm_up:
                    contender.portions.clear()
        for contender in contenders.values():
            contender.peak_megabytes = contender.finish()["peak_megabytes"]
    finally:
        for contender in contenders.values():
            contender.process.kill()  # only where something has failed is there anything left to end
    return contenders


def spread(values: list[float]) -> dict:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values)}


def peak_megabytes() -> float:
    """The most memory that this process has had so far."""
    if sys.platform == "win32":
        return float("nan")  # the standard library can't tell
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def serve(topic: str, name: str, settings: str) -> None:
    work = getattr(importlib.import_module(topic), name)(**json.loads(settings))
    for what in map(str.strip, sys.stdin):
        if what == "memory":
            print(json.dumps({"peak_megabytes": peak_megabytes()}), flush=True)
            return
        print(json.dumps(next(work)), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
