"""Fitting a model, and measuring it on text that it has not seen. Built by hand in notebook 04_training."""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charlstm.files import Checkpoint
from charlstm.model import StepwiseLSTM, weights_of
from charlstm.recipes import Recipe, find_recipe

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

RECORDED = Path(__file__).parent / "recorded"


def train(
    model: "keras.Sequential",
    dataset: "tf.data.Dataset",
    recipe: str | Recipe = "quick",
    epochs: int | None = None,
    held_out_ids: np.ndarray | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> dict[str, list[float]]:
    """Fit with Adam and cross-entropy (chapter 16) and print a line for each epoch. Built in notebook 04_training.

    dataset: batches of (input, target) from ``make_dataset``.
    recipe: ``"quick"``, ``"book"`` or a ``Recipe``: learning rate, schedule, clipping; epochs: another number of them.
    held_out_ids: ids, ``[n]``, that are not in ``dataset``. They are measured after each epoch (``bits_per_char``), and
        in the end the model has the weights of the best epoch; without them, those of the last.
    checkpoint: a file to write after each epoch. After an interruption, the same call goes on from there, and ends
        with the same weights, to the bit, as without it (on the same CPU with the same versions).

    Returns the history, with a value for each epoch: ``"loss"``, the mean over its batches while the model was learning
    from them, in nats per character; and ``"held_out_bits"``, in bits per character, if asked for. Raises ValueError for
    a checkpoint of another training, and FloatingPointError, with the weights from before the epoch, for a loss of NaN.
    """
    recipe = find_recipe(recipe, epochs)
    _compile(model, recipe, len(dataset))
    history: dict[str, list[float]] = {"loss": []} if held_out_ids is None else {"loss": [], "held_out_bits": []}
    best_weights: list[np.ndarray] = []
    if checkpoint is not None:
        checkpoint = Checkpoint(checkpoint, _describe(model, dataset, recipe, held_out_ids))
        if saved := checkpoint.read():
            history = saved[0]["history"]
            best_weights = _restore(model, dataset, *saved)
            print(f"Going on from {checkpoint.path.name}: {len(history['loss'])} of {recipe.epochs} epochs are done.")
    try:
        for epoch in range(len(history["loss"]), recipe.epochs):
            start = time.perf_counter()
            history["loss"].append(_fit_one_epoch(model, dataset, epoch, recipe.epochs))
            seconds = time.perf_counter() - start
            if held_out_ids is not None:
                bits = bits_per_char(model, held_out_ids)
                if bits < min(history["held_out_bits"], default=math.inf):
                    best_weights = model.get_weights()
                history["held_out_bits"].append(bits)
            if checkpoint is not None:
                checkpoint.write(*_snapshot(model, dataset, history, best_weights))
            print(_report(history, recipe.epochs, seconds, time.perf_counter() - start, dataset), flush=True)
    except KeyboardInterrupt:
        print(f"Interrupted in epoch {epoch + 1}: the model has the weights of this moment.", flush=True)
        raise
    if best_weights:
        model.set_weights(best_weights)
        best_epoch = int(np.argmin(history["held_out_bits"])) + 1
        if best_epoch < recipe.epochs:
            print(f"The model has the weights of epoch {best_epoch}, the best on the held-out text.")
    return history


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


def read_recorded(name: str) -> dict:
    """A long run that the notebooks quote, with when and on what it ran: ``"book"``, ``"changes"`` or ``"speed"``."""
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def _compile(model: "keras.Sequential", recipe: Recipe, steps: int) -> None:
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


def _fit_one_epoch(model: "keras.Sequential", dataset: "tf.data.Dataset", epoch: int, epochs: int) -> float:
    import keras
    from tqdm import tqdm

    weights_before = model.get_weights()
    if hasattr(dataset, "windows"):
        dataset.windows.epoch = epoch  # the order of this epoch, whatever the dataset was used for before

    def after_batch(step: int, logs: dict[str, float]) -> None:
        bar.update()
        if not math.isfinite(logs["loss"]):
            model.set_weights(weights_before)
            raise FloatingPointError(
                f"the loss became {logs['loss']} in epoch {epoch + 1}, step {step + 1} of {len(dataset)}: try a smaller "
                f"learning_rate, or clip_norm=1.0; the model has its weights from before this epoch again"
            )

    title, hidden = f"epoch {epoch + 1} of {epochs}", not _someone_watches()
    with tqdm(total=len(dataset), desc=title, disable=hidden, leave=False, ncols=79, file=sys.stdout) as bar:
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=after_batch)
        # shuffle=False: the dataset shuffles itself, and Keras would warn that it can't.
        return model.fit(dataset, verbose=0, shuffle=False, callbacks=[callback]).history["loss"][0]


def _someone_watches() -> bool:
    # Tests and `jupyter execute` use the same kernel as JupyterLab or Colab, but without a keyboard.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell.kernel, "_allow_stdin", False) if hasattr(shell, "kernel") else sys.stdout.isatty()


def _report(history: dict, epochs: int, seconds: float, seconds_in_all: float, dataset: "tf.data.Dataset") -> str:
    done = len(history["loss"])
    parts = [f"epoch {done} of {epochs}: training loss {history['loss'][-1]:.4f} nats"]
    if "held_out_bits" in history:
        parts.append(f"held out {history['held_out_bits'][-1]:.3f} bits per character")
    if hasattr(dataset, "windows"):
        parts.append(f"{dataset.windows.n_targets / seconds:,.0f} characters/s")
    return ", ".join([*parts, f"{(epochs - done) * seconds_in_all:.0f} s left"])


def _describe(model, dataset, recipe: Recipe, held_out_ids) -> dict:
    # What must be the same when a training goes on.
    if not hasattr(dataset, "windows"):
        raise ValueError("a checkpoint needs a dataset that make_dataset made: no other can be set to a certain epoch")
    layers = {
        f"{number} {type(layer).__name__} {name}": value
        for number, layer in enumerate(model.layers, 1)
        for name, value in layer.get_config().items()
        if name != "name"
    }
    held_out = None if held_out_ids is None else hashlib.sha256(np.asarray(held_out_ids, np.int32)).hexdigest()
    return {**layers, **dataclasses.asdict(recipe), **dataset.windows.describe(), "held-out text": held_out}


def _snapshot(model, dataset, history: dict, best_weights: list[np.ndarray]) -> tuple[dict, dict[str, np.ndarray]]:
    # All that a training is made of at the end of an epoch: numbers for JSON, and arrays.
    groups = {"model": model.variables, "optimizer": model.optimizer.variables, "best": best_weights}
    arrays = {f"{group} {i}": np.asarray(value) for group, values in groups.items() for i, value in enumerate(values)}
    dtypes = [getattr(layer, "product_dtype", None) for layer in model.layers]
    return {"history": history, "entropy": dataset.windows.entropy, "product_dtypes": dtypes}, arrays


def _restore(model, dataset, progress: dict, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    # The reverse of _snapshot; gives back the best weights.
    model.optimizer.build(model.trainable_variables)
    for group, variables in ("model", model.variables), ("optimizer", model.optimizer.variables):
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"{group} {i}"])
    dataset.windows.entropy = progress["entropy"]
    for layer, dtype in zip(model.layers, progress["product_dtypes"], strict=True):
        if dtype is not None:
            layer.product_dtype = dtype  # a new measurement could choose another, and so change the last digits
    return [arrays[f"best {i}"] for i in range(sum(name.startswith("best") for name in arrays))]
