"""Record an LSTM and a Transformer of the same size, for the same time: python tools/record/attention.py [SECONDS]

Five minutes each, in turns, after a search for each one's rate; and small ones with and without positions, and with
dropout and without. 30 minutes on two cores. SECONDS: so many in place of 300, and a fifth of it for every other run.
Classes and functions are those that the reader of notebook 11_attention builds. Choices are made on the ninth tenth of
Grimm, after training on the first eight; only then come nine tenths and the last.
"""

import ast
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import nbformat
import numpy as np
from common import SEED, read_grimm, read_grimm_to_choose, write_recorded

import charlstm

RATES = {"LSTM": (0.006, 0.012, 0.024), "Transformer": (0.001, 0.002, 0.004, 0.008)}
LENGTHS = [1, 2, 3, 5, 8, 13, 21, 32]
TURNS = 60


def read_notebook() -> dict:
    """What the notebook imports and defines, and its constants (names in capitals), without running the rest."""
    built = {"charlstm": charlstm}
    path = Path(__file__).parents[2] / "notebooks" / "11_attention.ipynb"
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "%pip" not in cell.source:
            kept = [node for node in ast.parse(cell.source).body if is_definition(node)]
            exec(compile(ast.Module(kept, []), cell.id, "exec"), built)  # noqa: S102
    return built


def is_definition(node: ast.stmt) -> bool:
    """Whether this statement imports, defines, or sets a constant."""
    if isinstance(node, ast.Assign):
        targets, values = map(ast.unparse, (node.targets[0], node.value))
        return targets.isupper() and not any(map(str.isalpha, values))
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def build(name: str, vocab_size: int, built: dict) -> keras.Model:
    """The model of a name such as "LSTM", "Transformer, no dropout" (1.6 million numbers), "small LSTM" (0.4 million, no
    dropout) or, as small, "LSTM, with positions"."""
    is_small = "small" in name or "positions" in name
    has_dropout = not is_small and "no dropout" not in name
    if "without positions" in name:
        built["Positions"] = lambda longest: keras.layers.Identity()
    if "Transformer" in name:
        return built["transformer"](vocab_size, 128 if is_small else 256, dropout=0.1 if has_dropout else 0.0)
    rate = charlstm.RECIPES["best"].output_dropout if has_dropout else 0.0
    recipe = dataclasses.replace(charlstm.RECIPES["quick"], output_dropout=rate)
    model = charlstm.build_model(vocab_size, *((128, 256) if is_small else (256, 512)), recipe=recipe)
    if "positions" not in name:
        return model
    embedding, lstm, dense = model.layers
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, dense(lstm(built["Positions"](built["LENGTH"])(embedding(ids)))))


def race(
    runs: list[tuple[str, float]],
    seconds: float,
    train_ids: charlstm.Ids,
    held_out_ids: charlstm.Ids,
    measurements: int = 1,
) -> list[dict]:
    """Train a model for each (name, rate), in turns, and measure it so many times; its last bits are ``bits``."""
    results = [{"name": name, "rate": rate, "curve": [], "steps": 0} for name, rate in runs]
    racers = []
    for run in results:
        keras.utils.set_random_seed(SEED)
        built = run["built"] = read_notebook()
        built["random_windows"] = counted(built["random_windows"], run)
        run["model"] = build(run["name"], len(train_ids.vocabulary), built)
        racers.append(built["learn"](run["model"], run["rate"], seconds, train_ids, TURNS))
    for turn, clocks in enumerate(zip(*racers, strict=True), 1):
        for run, clock in zip(results, clocks, strict=True):
            if turn % (TURNS // measurements) == 0:
                run["bits"] = round(float(run["built"]["held_out_bits"](run["model"], held_out_ids)), 4)
                run["curve"].append((round(clock, 1), run["bits"]))
                print(run["name"], run["rate"], *run["curve"][-1], flush=True)
    return results


def counted(draw: Callable, run: dict) -> Callable:
    """The notebook's function that draws a batch, which counts the run's steps."""

    def draw_and_count(*arguments):
        run["steps"] += 1
        return draw(*arguments)

    return draw_and_count


def best(runs: list[dict], name: str) -> dict:
    """The run that came to the fewest bits, of this name with dropout and without."""
    return min((run for run in runs if run["name"] in (name, f"{name}, no dropout")), key=lambda run: run["bits"])


def search(seconds: float) -> tuple[list[dict], list[dict]]:
    """All runs by which rate and dropout are chosen; and those with and without positions."""
    ids, tried = read_grimm_to_choose(), []
    for size, time_of_each in ("", seconds / 5), ("small ", seconds * 17 / 300):
        runs = [(size + name, rate) for name, rates in RATES.items() for rate in rates]
        tried += race(runs, time_of_each, *ids)
    tried += race([(f"{name}, no dropout", best(tried, name)["rate"]) for name in RATES], seconds / 5, *ids)
    kinds = [
        (f"{name}, {kind} positions", best(tried, f"small {name}")["rate"])
        for name in RATES
        for kind in ("with", "without")
    ]
    return tried, race(kinds, seconds / 5, *ids)


def shares_by_distance(run: dict, ids: charlstm.Ids) -> list[list[float]]:
    """For each head of each block, the mean share that it gives to what is 0, 1 ... 15 characters back."""
    windows = np.array(ids)[np.arange(100)[:, None] * 200 + np.arange(run["built"]["LENGTH"])]
    shares = run["built"]["shares_of_heads"](run["model"], windows)  # [blocks, windows, heads, places, places]
    diagonals = [np.diagonal(shares, -distance, 3, 4)[..., 16 - distance :] for distance in range(16)]
    return np.array([diagonal.mean(axis=(1, 3)).ravel() for diagonal in diagonals]).T.astype(float).round(3).tolist()


def main(seconds: float = 300) -> None:
    tried, with_and_without = search(seconds)
    _, head, tail = read_grimm()
    chosen = [(run["name"], run["rate"]) for run in (best(tried, name) for name in RATES)]
    results = race(chosen, seconds, head, tail, measurements=15)
    built = read_notebook()
    for run in results:
        context = built["bits_with_context"](run["model"], tail, LENGTHS, 2000)
        run |= {"parameters": run["model"].count_params(), "context": [round(bits, 4) for bits in context]}
    kept = "name", "rate", "curve", "steps", "parameters", "context"
    written = {
        "seconds": seconds,
        "characters_a_step": built["BATCH"] * built["LENGTH"],
        "rates_tried": [{key: run[key] for key in ("name", "rate", "bits")} for run in tried],
        "runs": {run["name"].split(",")[0]: {key: run[key] for key in kept} for run in results},
        "positions": {run["name"]: run["bits"] for run in with_and_without},
        "context_lengths": LENGTHS,
        "shares_by_distance": shares_by_distance(results[1], tail),
    }
    write_recorded("attention", written)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
