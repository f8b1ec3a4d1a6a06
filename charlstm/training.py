"""Training a model, and measuring it on text that it has not seen. Built by hand in notebook 04_training."""

import dataclasses
import gc
import hashlib
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from charlstm.checkpoint import Checkpoint
from charlstm.console import someone_watches
from charlstm.model import StepwiseLSTM, weights_of
from charlstm.pipeline import Windows
from charlstm.recipes import Recipe, find_recipe

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def train(
    model: "keras.Model",
    dataset: "Windows | tf.data.Dataset",
    recipe: str | Recipe = "quick",
    epochs: int | None = None,
    held_out_ids: np.ndarray | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> dict[str, list[float]]:
    """Train with Adam and cross-entropy (chapter 16) and print a line for each epoch. Built in notebook 04_training.

    model: of ``build_model``, for which each step is the hand-written one (``charlstm.step``); with another Keras model
        from ids to logits, or on a GPU, it is TensorFlow's GradientTape, and a line says so and why.
    dataset: batches of (input, target), from ``make_dataset`` or a ``tf.data.Dataset`` of your own.
    recipe: ``"quick"``, ``"book"`` or a ``Recipe``: learning rate, schedule, clipping; epochs: another number of them.
    held_out_ids: ids, ``[n]``, that are not in ``dataset``. They are measured after each epoch (``bits_per_char``), and
        in the end the model has the weights of the best epoch; without them, those of the last.
    checkpoint: a file to write after each epoch. After an interruption, the same call goes on from there, and ends
        with the same weights, to the bit, as without it (on the same CPU with the same versions).

    Returns the history, with a value for each epoch: ``"loss"``, the mean over its batches while the model was learning
    from them, in nats per character; and ``"held_out_bits"``, in bits per character, if asked for. Raises ValueError for
    a checkpoint of another training, and FloatingPointError, with the weights from before the epoch, for a loss of NaN.
    """
    return _Training(model, dataset, find_recipe(recipe, epochs), held_out_ids, checkpoint).run()


def bits_per_char(model: "keras.Sequential", ids: np.ndarray) -> float:
    """How many bits the model needs, on average, for each character of ``ids`` (``[n]``) after the first.

    This is the cross-entropy in base 2: 0 for a model that is always certain and right, log2(V) for one that guesses.
    The text is read once, from beginning to end, and the LSTM's state is carried through all of it. Computed in NumPy,
    because one step at a time is too little work for TensorFlow. Raises ValueError for less than two ids, or like
    ``weights_of``. Built in 04_training.
    """
    if len(ids) < 2:
        raise ValueError(f"a text of {len(ids)} characters has nothing to predict: give at least two")
    from threadpoolctl import threadpool_limits

    network = StepwiseLSTM(weights_of(model))
    state = network.empty_state()
    nats = 0.0
    with threadpool_limits(1):  # on a busy machine, two threads would spend the time waiting for each other
        for char_id, next_id in itertools.pairwise(ids):
            logits, state = network.step([char_id], state)
            shifted = logits[0] - logits.max()  # so that exp can't overflow
            nats += np.log(np.exp(shifted).sum()) - shifted[next_id]
    return float(nats / (len(ids) - 1) / math.log(2))


class _Training:
    """A training from its beginning, or from its checkpoint, to its end."""

    def __init__(self, model, dataset, recipe: Recipe, held_out_ids=None, checkpoint=None):
        self.model, self.dataset, self.recipe, self.held_out_ids = model, dataset, recipe, held_out_ids
        self.history = {"loss": []} if held_out_ids is None else {"loss": [], "held_out_bits": []}
        self.best_weights: list[np.ndarray] = []
        gc.collect()  # an earlier training's graph and model hang in circles, with all their weights
        _compile(model, recipe, len(dataset))
        self.matmul_dtype = self.choose_step()
        self.checkpoint = None if checkpoint is None else Checkpoint(checkpoint, self.describe())
        if self.checkpoint and (saved := self.checkpoint.read()):
            self.restore(*saved)
            done = len(self.history["loss"])
            print(f"Going on from {self.checkpoint.path.name}: {done} of {recipe.epochs} epochs are done.")

    def choose_step(self) -> str | None:
        """In what the hand-written step computes its products; None, and a line that says why, where it can't be had."""
        from charlstm.step import faster_matmul_dtype, obstacle

        if (reason := obstacle(self.model)) is None:
            return faster_matmul_dtype()
        print(f"Training with TensorFlow's GradientTape, because the hand-written step does not apply here: {reason}.")
        return None

    def run(self) -> dict[str, list[float]]:
        from charlstm.step import compile_step

        signature = getattr(self.dataset, "batches", self.dataset).element_spec
        step = compile_step(self.model, signature, self.matmul_dtype)
        try:
            for epoch in range(len(self.history["loss"]), self.recipe.epochs):
                start = time.perf_counter()
                self.history["loss"].append(self.learn(step, epoch))
                seconds = time.perf_counter() - start
                self.measure()
                if self.checkpoint:
                    self.checkpoint.write(*self.snapshot())
                print(self.report(seconds, time.perf_counter() - start), flush=True)
        except KeyboardInterrupt:
            print(f"Interrupted in epoch {epoch + 1}: the model has the weights of this moment.", flush=True)
            raise
        if self.best_weights:
            self.model.set_weights(self.best_weights)
            best_epoch = int(np.argmin(self.history["held_out_bits"])) + 1
            if best_epoch < self.recipe.epochs:
                print(f"The model has the weights of epoch {best_epoch}, the best on the held-out text.")
        return self.history

    def learn(self, step: Callable, epoch: int) -> float:
        """Go through the dataset once; gives the mean loss."""
        from tqdm import tqdm

        weights_before, total, count = self.model.get_weights(), 0.0, 0
        if isinstance(self.dataset, Windows):
            self.dataset.epoch = epoch  # the order of this epoch, whatever the dataset was used for before
        title, hidden = f"epoch {epoch + 1} of {self.recipe.epochs}", not someone_watches()
        steps = len(self.dataset)
        with tqdm(total=steps, desc=title, disable=hidden, leave=False, ncols=79, file=sys.stdout) as bar:
            for number, (inputs, targets) in enumerate(self.dataset, 1):
                loss, size = float(step(inputs, targets)), math.prod(targets.shape)
                if not math.isfinite(loss):
                    self.model.set_weights(weights_before)
                    raise FloatingPointError(
                        f"the loss became {loss} in epoch {epoch + 1}, step {number} of {steps}: try a smaller "
                        f"learning_rate, or clip_norm=1.0; the model has its weights from before this epoch again"
                    )
                total, count = total + loss * size, count + size
                bar.update()
        return total / count

    def measure(self) -> None:
        if self.held_out_ids is not None:
            bits = bits_per_char(self.model, self.held_out_ids)
            if bits < min(self.history["held_out_bits"], default=math.inf):
                self.best_weights = self.model.get_weights()
            self.history["held_out_bits"].append(bits)

    def report(self, seconds: float, seconds_in_all: float) -> str:
        done, epochs = len(self.history["loss"]), self.recipe.epochs
        parts = [f"epoch {done} of {epochs}: training loss {self.history['loss'][-1]:.4f} nats"]
        if self.held_out_ids is not None:
            parts.append(f"held out {self.history['held_out_bits'][-1]:.3f} bits per character")
        if isinstance(self.dataset, Windows):
            parts.append(f"{self.dataset.n_targets / seconds:,.0f} characters/s")
        return ", ".join([*parts, f"{(epochs - done) * seconds_in_all:.0f} s left"])

    def describe(self) -> dict:
        """What must be the same when a training goes on."""
        if not isinstance(self.dataset, Windows):
            raise ValueError("a checkpoint needs a dataset that make_dataset made: no other can be set to an epoch")
        layers = {
            f"{number} {type(layer).__name__} {name}": value
            for number, layer in enumerate(self.model.layers, 1)
            for name, value in layer.get_config().items()
            if name != "name"
        }
        ids = self.held_out_ids
        held_out = None if ids is None else hashlib.sha256(np.asarray(ids, np.int32)).hexdigest()
        return {**layers, **dataclasses.asdict(self.recipe), **self.dataset.describe(), "held-out text": held_out}

    def snapshot(self) -> tuple[dict, dict[str, np.ndarray]]:
        """All that a training is made of at the end of an epoch: numbers for JSON, and arrays."""
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables, "best": self.best_weights}
        arrays = {f"{group} {i}": np.asarray(value) for group in groups for i, value in enumerate(groups[group])}
        progress = {"history": self.history, "matmul_dtype": self.matmul_dtype, "entropy": self.dataset.entropy}
        return progress, arrays

    def restore(self, progress: dict, arrays: dict[str, np.ndarray]) -> None:
        """The reverse of ``snapshot``. The type of the products, too: a new measurement could choose another."""
        self.history, self.matmul_dtype = progress["history"], progress["matmul_dtype"]
        self.dataset.entropy = progress["entropy"]
        for group, variables in ("model", self.model.variables), ("optimizer", self.model.optimizer.variables):
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{group} {i}"])
        self.best_weights = [arrays[f"best {i}"] for i in range(sum(name.startswith("best") for name in arrays))]


def _compile(model: "keras.Model", recipe: Recipe, steps: int) -> None:
    import keras

    rate = recipe.learning_rate
    if recipe.schedule:
        decay_steps = max(1, (recipe.epochs - 1) * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 100, decay_steps, alpha=0.01, warmup_target=rate, warmup_steps=steps
        )
    model.compile(
        optimizer=keras.optimizers.Adam(rate, global_clipnorm=recipe.clip_norm),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    if model.built:
        model.optimizer.build(model.trainable_variables)  # or else TensorFlow makes the step's graph twice
