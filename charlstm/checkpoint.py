"""A file from which an interrupted training goes on. Used in notebook 05_training."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from charlstm.console import say
from charlstm.data import Vocabulary
from charlstm.model import settings_of
from charlstm.model_file import CHECKPOINT_FORMAT, path_to_write, plain, read_arrays, write_arrays
from charlstm.pipeline import Windows
from charlstm.recipes import Recipe

# What a training is in the midst of. The type of the products, too: a new measurement could choose another.
PROGRESS = "history", "matmul_dtype", "schedule_epochs", "bits_before"


class Checkpoint:
    """A file from which an interrupted training goes on as if nothing had happened (notebook 05_training).

    path: of the file; the one before it is kept beside it, with ``.previous`` at the end of its name.
    training: what must be the same when it goes on, such as the text and the recipe: names and values for JSON.

    Raises OSError like ``path_to_write``.
    """

    def __init__(self, path: str | os.PathLike, training: dict):
        self.path = path_to_write(path)
        self.previous = self.path.with_name(self.path.name + ".previous")
        # As it comes back from a file: lists for tuples.
        self.training = json.loads(json.dumps(training, default=plain))

    def write(self, progress: dict, arrays: dict[str, np.ndarray], vocabulary: Vocabulary | None = None) -> None:
        """Keep ``progress``, anything that JSON can hold, and ``arrays``. Whatever happens, one whole file is there.

        vocabulary: if it is known, ``load_model`` can read the file. Raises OSError like ``write_arrays``.
        """
        facts = json.dumps({"training": self.training, "progress": progress}, default=plain)
        chars = json.dumps(vocabulary and vocabulary.chars)
        card = json.dumps({"checkpoint of": self.training, "history": progress.get("history")})
        metadata = {"format": CHECKPOINT_FORMAT, "facts": facts, "vocabulary": chars, "card": card}
        write_arrays(self.path, arrays, metadata, self.previous)

    def read(self) -> tuple[dict, dict[str, np.ndarray]] | None:
        """What was last written, or None if nothing was. A damaged file is named, put aside, and the one before taken.

        Raises ValueError if it belongs to another training, saying what differs, or if no file is whole.
        """
        damaged = ""
        for path in filter(Path.exists, (self.path, self.previous)):
            try:
                facts, arrays = _read_checkpoint(path)
            except ValueError as error:
                damaged = str(error)
                continue
            if damaged:
                say(f"{damaged}. Going on from {path.name}, the one before it.")
                os.replace(self.path, self.path.with_name(self.path.name + ".damaged"))
            if differing := differences(facts["training"], self.training, "there", "here"):
                raise ValueError(f"{self.path} is the checkpoint of another training ({differing}): give another path")
            return facts["progress"], arrays
        if damaged:
            raise ValueError(f"{damaged}, and there is none before it: give another path, or delete it to start anew")
        return None


def differences(one: dict, other: dict, where: str, elsewhere: str) -> str:
    """The names of which ``one`` and ``other`` have different values, with both; empty if there are none."""
    names = [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    return "; ".join(f"{name} {one.get(name)!r} {where}, {other.get(name)!r} {elsewhere}" for name in names)


def _read_checkpoint(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    arrays, metadata = read_arrays(path, CHECKPOINT_FORMAT)
    try:
        facts = json.loads(metadata["facts"])
        return {"training": dict(facts["training"]), "progress": dict(facts["progress"])}, arrays
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged: it does not say which training it is of, or how far") from None


def describe(model, dataset: Windows, recipe: Recipe, held_out_ids: np.ndarray | None) -> dict:
    """What must be the same when a training goes on. Raises ValueError for a dataset not made by ``make_dataset``."""
    if not isinstance(dataset, Windows):
        raise ValueError("this needs a dataset of make_dataset: no other can be set to an epoch, or shared by workers")
    held_out = held_out_ids if held_out_ids is None else hashlib.sha256(np.array(held_out_ids, np.int32)).hexdigest()
    choices = dataclasses.asdict(recipe)
    del choices["epochs"]  # more of them may be asked for later
    return {**settings_of(model), **choices, **dataset.describe(), "held-out text": held_out}


def open_checkpoint(training, path: str | os.PathLike | None) -> tuple[dict, dict[str, np.ndarray]] | None:
    """What was written to ``path``, if anything was. ``training`` gets its ``checkpoint``, which is None where no file
    is to be written. Before that, the workers agree on what they train. Raises like ``Checkpoint`` and its ``read``."""
    workers, training.checkpoint = training.workers, None
    if path is None and workers.count == 1:
        return None
    facts = describe(training.model, training.dataset, training.recipe, training.held_out_ids)
    if workers.count > 1:
        more = {"epochs": training.recipe.epochs, "checkpoint": path is not None}
        workers.must_agree(facts | more, training.model.get_weights())
        training.dataset.entropy = workers.from_first(lambda: training.dataset.entropy)

    def read():
        training.checkpoint = Checkpoint(path, facts)
        return training.checkpoint.read()

    return None if path is None else workers.from_first(read)  # which alone may have the file


def schedule_epochs(training, progress: dict, name: str) -> int:
    """For how many epochs the schedule in the file ``name`` was made; says how the training goes on. Raises ValueError if
    more epochs are done than are asked for."""
    done, planned, epochs = len(progress["history"]["loss"]), progress["schedule_epochs"], training.recipe.epochs
    if done > epochs:
        raise ValueError(f"{name} has {done} epochs already, more than {epochs}: give epochs={done}")
    training.say(f"Going on from {name}: {done} of {epochs} epochs are done.")
    if training.recipe.schedule and planned != epochs:
        its = f"the schedule for {planned} epochs that was begun, and stays at its end"
        training.say(f"The learning rate follows {its}.")
    return planned


def _variables(model) -> dict:
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {f"{group} {i}": variable for group in groups for i, variable in enumerate(groups[group])}


def snapshot(training) -> tuple[dict, dict[str, np.ndarray]]:
    """All that a training is made of at the end of an epoch: numbers for JSON, and arrays."""
    progress = {name: getattr(training, name) for name in PROGRESS} | {"entropy": training.dataset.entropy}
    arrays = {name: np.asarray(variable) for name, variable in _variables(training.model).items()}
    return progress, arrays | {f"best {i}": weight for i, weight in enumerate(training.best_weights)}


def restore(training, progress: dict, arrays: dict[str, np.ndarray]) -> None:
    """The reverse of ``snapshot``."""
    chosen = training.matmul_dtype
    for name in PROGRESS:
        setattr(training, name, progress[name])
    # None: it was begun, or goes on, where the hand-written step does not apply.
    training.matmul_dtype = chosen and (training.matmul_dtype or chosen)
    training.dataset.entropy = progress["entropy"]
    for name, variable in _variables(training.model).items():
        variable.assign(arrays[name])
    training.best_weights = [arrays[f"best {i}"] for i in range(len(training.best_weights))]
