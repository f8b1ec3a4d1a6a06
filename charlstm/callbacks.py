"""What happens after an epoch: Keras callbacks that work in anybody's ``fit``. Built in notebook 05_training."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from charlstm.console import say
from charlstm.data import Vocabulary
from charlstm.evaluation import bits_per_char
from charlstm.files import TrainingState, save_state
from charlstm.recipes import RECIPES, Recipe
from charlstm.sampling import Generator
from charlstm.train_step import variables_of


@contextlib.contextmanager
def finished(model: keras.Model, recipe: Recipe) -> Iterator[None]:
    """Within it ``model`` has the weights that it would have if the training ended now: averaged and scaled."""
    weights = model.get_weights()
    try:
        if recipe.average:
            model.optimizer.finalize_variable_values(model.trainable_variables)
        for weight in model.trainable_variables[-2:]:  # of the dense layer
            weight.assign(recipe.scale_factor * weight)
        yield
    finally:  # or else an interruption would leave weights from which no training can go on
        model.set_weights(weights)


class BestWeights(keras.callbacks.Callback):
    """Measures ``held_out_bits`` after each epoch, and in the end gives the model the weights of the best one. A loss that
    is no number ends the training with a FloatingPointError.

    held_out_ids: ``[n]``; None: nothing is measured, and the last epoch counts as the best.
    recipe: averaging and scaling of the weights before they are measured; whether it is not the last that is kept.
    bits, epoch, weights: the best until now.
    """

    def __init__(
        self, held_out_ids: np.ndarray | None, recipe: Recipe = RECIPES["book"], bits=math.inf, epoch=0, weights=()
    ):
        super().__init__()
        self.held_out_ids, self.recipe = held_out_ids, recipe
        self.bits, self.epoch, self.weights = bits, epoch, weights

    def on_train_begin(self, logs=None):
        self.weights = self.weights or self.model.get_weights()

    def on_epoch_end(self, epoch, logs=None):
        if not all(np.isfinite(values).all() for values in (logs["loss"], *self.model.get_weights())):
            self.model.set_weights(self.weights)
            advice = "try a smaller learning_rate, or clip_norm=1.0; the model has its best weights from before it"
            raise FloatingPointError(f"loss or weights became NaN or infinity in epoch {epoch + 1}: {advice}")
        with finished(self.model, self.recipe):
            bits = self.bits
            if self.held_out_ids is not None:
                logs["held_out_bits"] = bits = bits_per_char(self.model, self.held_out_ids)
            if bits < self.bits or not self.recipe.keep_best or self.held_out_ids is None:
                self.bits, self.epoch, self.weights = bits, epoch + 1, self.model.get_weights()

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)
        if self.held_out_ids is not None and self.epoch < self.params["epochs"]:
            which = f"of epoch {self.epoch}" if self.epoch else "it came with"
            say(f"The model has the weights {which}, the best on the held-out text.")


class Checkpoint(keras.callbacks.Callback):
    """Keeps the ``history``, and after each epoch all that the training is made of in the file ``path``, if there is one.

    state: what it began with; best: stands before this in the list of callbacks, and has the weights to keep.
    """

    def __init__(self, path: Path | None, state: TrainingState, best: BestWeights):
        super().__init__()
        self.path, self.state, self.best, self.history = path, state, best, state.progress["history"]

    def on_epoch_end(self, epoch, logs=None):
        self.history = {name: [*self.history.get(name, []), float(value)] for name, value in logs.items()}
        if self.path:
            best = {"bits": self.best.bits, "epoch": self.best.epoch}
            progress = self.state.progress | {"history": self.history, "best": best}
            variables = [np.asarray(variable) for variable in variables_of(self.model)]
            save_state(self.path, TrainingState(self.state.settings, progress, variables, self.best.weights))


class Report(keras.callbacks.ProgbarLogger):
    """A line for each epoch, behind Keras's own bar: losses in bits, and seconds left."""

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        done, epochs = epoch + 1, self.epochs
        parts = [f"epoch {done} of {epochs}: training {logs['loss'] / math.log(2):.3f} bits"]
        if "held_out_bits" in logs:
            parts.append(f"held out {logs['held_out_bits']:.3f} bits")
        left = (epochs - done) * (time.perf_counter() - self.start)
        say(", ".join([*parts, f"{left:.0f} s left"]))


class TextLine(keras.callbacks.Callback):
    """A line of what the model writes from ``prompt`` after each epoch, at temperature 0.5, always with the same seed."""

    def __init__(self, prompt: str, vocabulary: Vocabulary, recipe: Recipe = RECIPES["book"]):
        super().__init__()
        self.prompt, self.vocabulary, self.recipe = prompt, vocabulary, recipe

    def on_epoch_end(self, epoch, logs=None):
        with finished(self.model, self.recipe):
            generator = Generator.from_model(self.model, self.vocabulary)
        text = generator.generate(self.prompt, 60, temperature=0.5, seed=1)
        say("    " + text.replace("\n", " "))
