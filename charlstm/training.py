"""Training a model, and measuring it on text that it has not seen. Built by hand in notebook 05_training."""

import dataclasses
import gc
import math
import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from charlstm.checkpoint import open_checkpoint, restore, schedule_epochs, snapshot
from charlstm.console import say, someone_watches
from charlstm.model import StepwiseLSTM, check_recipe, layers_of, sizes_of, weights_of
from charlstm.pipeline import Windows, check_dataset, check_ids
from charlstm.recipes import DynamicEvaluation, Recipe, find_recipe
from charlstm.sampling import Generator
from charlstm.workers import Workers, together

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def train(
    model: "keras.Model",
    dataset: "Windows | tf.data.Dataset",
    recipe: str | Recipe | None = None,
    epochs: int | None = None,
    held_out_ids: np.ndarray | None = None,
    checkpoint: str | os.PathLike | None = None,
    sample_prompt: str | None = None,
) -> dict[str, list[float]]:
    """Train with Adam and cross-entropy (chapter 16); a line for each epoch counts in bits. Built in 05_training.

    model: of ``build_model``, for which each step is the hand-written one (``charlstm.step``); with another Keras model
        from ids to logits, or on a GPU, it is TensorFlow's GradientTape, and a line says so and why.
    dataset: batches of (input, target), from ``make_dataset`` or a ``tf.data.Dataset`` of your own.
    recipe: ``"quick"``, ``"book"``, ``"best"``, ``"fine_tune"`` (for a model that is trained already) or a ``Recipe``:
        learning rate, schedule, clipping ...; None: that of ``build_model`` or ``load_model``. epochs: another number.
    held_out_ids: ids, ``[n]``, that are not in ``dataset``. They are measured after each epoch (``bits_per_char``), and
        in the end the model has the weights of the best epoch; without them, those of the last. A model that is trained
        already is measured before, too, and keeps its weights if no epoch is better.
    checkpoint: a file to write after each epoch. After an interruption, the same call goes on from there, and ends
        with the same weights, to the bit, as without it (on the same CPU with the same versions). With more epochs than
        before it goes on for these; the learning rate then follows the schedule that was begun, and stays at its end.
    sample_prompt: under each epoch's line stands what the model then writes from this prompt (``Generator.generate``,
        60 characters at temperature 0.5, always the same seed). The dataset must know its vocabulary.

    A model that was built in the scope of a tf.distribute strategy, such as ``charlstm.workers.connect`` gives, is
    trained by all its workers together: each makes the same call, and takes its share of each batch of the dataset. The
    first one alone measures, prints, and needs the checkpoint; history and weights are the same for all in the end.

    Returns the history, with a value for each epoch: ``"loss"``, the mean over its batches while the model was learning
    from them, in nats per character; and ``"held_out_bits"``, in bits per character, if asked for. What can't be used
    raises ValueError, TypeError or OSError before the first step (the ids of a dataset of your own, before the step
    that would take them); a loss of NaN raises FloatingPointError, and the model has the weights from before the epoch.
    Workers whose texts, settings or versions differ raise ValueError, all of them, before the first step; if one ends,
    the others raise ConnectionError.
    """
    recipe = find_recipe(recipe or getattr(model, "recipe", "quick"), epochs)
    with together(model) as workers:
        return _Training(model, dataset, recipe, held_out_ids, checkpoint, sample_prompt, workers).run()


def bits_per_char(model: "keras.Sequential", ids: np.ndarray, learn: bool | DynamicEvaluation = False) -> float:
    """How many bits the model needs, on average, for each character of ``ids`` (``[n]``) after the first.

    This is the cross-entropy in base 2: 0 for a model that is always certain and right, log2(V) for one that guesses.
    The text is read once, from beginning to end, and the LSTM's state is carried through all of it. Computed in NumPy,
    because one step at a time is too little work for TensorFlow.

    learn: go on learning from each character that has been paid for, as a compressor does (notebook 07_better); the
        model itself stays as it is. True stands for ``DynamicEvaluation()``.

    Raises like ``weights_of``, or like ``check_ids`` for less than two ids, or ids that are not the model's. Built in
    05_training.
    """
    weights = weights_of(model)
    ids = check_ids(ids, sizes_of(weights)[0], least=2)
    if learn:
        from charlstm.step import surprise_while_learning

        settings = DynamicEvaluation() if learn is True else learn
        return float(surprise_while_learning(weights, ids, settings).mean(dtype=np.float64))
    return float(StepwiseLSTM(weights).surprise(ids).mean(dtype=np.float64))


class _Training:
    """A training from its beginning, or from its checkpoint, to its end."""

    def __init__(self, model, dataset, recipe: Recipe, held_out_ids, checkpoint, sample_prompt, workers: Workers):
        from charlstm.update import choose_step

        self.workers, self.say = workers, say if workers.number == 0 else (lambda message: None)
        self.model, self.dataset, self.recipe, self.held_out_ids = model, dataset, recipe, held_out_ids
        self.sample_prompt, self.schedule_epochs, self.bits_before = sample_prompt, recipe.epochs, math.inf
        self.history = {"loss": []} if held_out_ids is None else {"loss": [], "held_out_bits": []}
        self.check_input()
        self.best_weights, self.empty_state = model.get_weights(), ()
        if recipe.carry_state:  # hidden and cell state before the first batch
            rows = dataset.batch_size // self.workers.count
            self.empty_state = (np.zeros((rows, layers_of(model)[1].units), np.float32),) * 2
        if saved := open_checkpoint(self, checkpoint):
            self.schedule_epochs = schedule_epochs(self, saved[0], os.path.basename(checkpoint))
        gc.collect()  # an earlier training's graph and model hang in circles, with all their weights
        with self.workers.strategy.scope():
            dataclasses.replace(recipe, epochs=self.schedule_epochs).compile(model, len(dataset))
        self.matmul_dtype = self.workers.from_first(lambda: choose_step(model))
        if saved:
            restore(self, *saved)
        elif held_out_ids is not None and self.was_trained:
            self.bits_before = self.workers.from_first(lambda: bits_per_char(model, held_out_ids))
            self.say(f"before the training: held out {self.bits_before:.3f} bits per character")

    def check_input(self) -> None:
        """Raises TypeError or ValueError for what the training would stumble over after its first epoch."""
        if not self.model.built:
            with self.workers.strategy.scope():
                self.model(np.zeros((1, 1), np.int32))  # without an Input, Keras makes the weights at the first call
        self.vocab_size = getattr(self.model, "output_shape", [None])[-1]
        self.was_trained = np.any(self.model.get_weights()[-1])  # zeros before the first step
        check_recipe(self.model, self.recipe, self.was_trained)
        if self.recipe.carry_state != getattr(self.dataset, "carry_state", False):
            raise ValueError(f"this recipe needs make_dataset(ids, carry_state={self.recipe.carry_state})")
        check_dataset(self.dataset, self.vocab_size, self.held_out_ids)
        if self.held_out_ids is not None:
            weights_of(self.model)
        self.workers.must_share(getattr(self.dataset, "batch_size", 0))
        self.written = self.write()

    def run(self) -> dict[str, list[float]]:
        import tensorflow as tf

        from charlstm.update import compile_step

        spec = getattr(self.dataset, "batches", self.dataset).element_spec
        signature = [*spec, *map(tf.type_spec_from_value, self.empty_state)]
        seed = getattr(self.dataset, "entropy", 0) % 2**31
        with self.workers.strategy.scope():
            step = compile_step(self.model, signature, self.matmul_dtype, self.recipe, seed)
        for epoch in range(len(self.history["loss"]), self.recipe.epochs):
            start = time.perf_counter()
            try:
                self.history["loss"].append(self.learn(step, epoch))
                seconds = time.perf_counter() - start
                self.measure()
                if self.checkpoint:
                    self.checkpoint.write(*snapshot(self), self.dataset.vocabulary)
            except KeyboardInterrupt:
                self.say(f"Interrupted in epoch {epoch + 1}: the model has the weights of this moment.")
                raise
            self.say(self.report(seconds, time.perf_counter() - start) + self.written)
        self.model.set_weights(self.best_weights)
        bits = [self.bits_before, *self.history.get("held_out_bits", [])]  # before the first epoch, and after each
        if self.recipe.keep_best and (best_epoch := int(np.argmin(bits))) < len(bits) - 1:
            which = f"of epoch {best_epoch}" if best_epoch else "it came with"
            self.say(f"The model has the weights {which}, the best on the held-out text.")
        return self.history

    def learn(self, step, epoch: int) -> float:
        """Go through the dataset once; gives the mean loss."""
        from tqdm import tqdm

        weights_before, total, count = self.model.get_weights(), 0.0, 0
        if isinstance(self.dataset, Windows):
            self.dataset.epoch = epoch  # the order of this epoch, whatever the dataset was used for before
            self.dataset.share = slice(self.workers.number, None, self.workers.count)
        title, state = f"epoch {epoch + 1} of {self.recipe.epochs}", self.empty_state
        hidden = self.workers.number > 0 or not someone_watches()
        settings = {"disable": hidden, "leave": False, "ncols": 79, "file": sys.stdout}
        with tqdm(self.dataset, title, **settings) as steps:
            for number, (inputs, targets) in enumerate(steps, 1):
                if not isinstance(self.dataset, Windows):
                    for ids in inputs, targets:
                        check_ids(np.ravel(ids), self.vocab_size)
                loss, state = step(inputs, targets, *state)
                loss, size = float(loss), math.prod(targets.shape)
                if self.workers.count > 1:  # the whole batch's, of which this is a share
                    rows = self.dataset.n_windows - (number - 1) * self.dataset.batch_size
                    size = min(rows, self.dataset.batch_size) * self.dataset.seq_length
                if not math.isfinite(loss):
                    self.model.set_weights(weights_before)
                    advice = "try a smaller learning_rate, or clip_norm=1.0; the model has its weights from before it"
                    place = f"{title}, step {number} of {len(steps)}"
                    raise FloatingPointError(f"the loss became {loss} in {place}: {advice}")
                total, count = total + loss * size, count + size
        return total / count

    def measure(self) -> None:
        """Measure the held-out text, and keep the weights that the model should have if this were the end."""
        weights, better = self.model.get_weights(), True
        if self.recipe.average:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        if self.recipe.scale_factor != 1:
            *others, kernel, bias = self.model.get_weights()
            self.model.set_weights([*others, self.recipe.scale_factor * kernel, self.recipe.scale_factor * bias])
        try:
            if self.held_out_ids is not None:
                bits = self.workers.from_first(lambda: bits_per_char(self.model, self.held_out_ids))
                better = not self.recipe.keep_best or bits < min([self.bits_before, *self.history["held_out_bits"]])
                self.history["held_out_bits"].append(bits)
            if better:
                self.best_weights = self.model.get_weights()
            self.written = self.write()
        finally:  # or else an interruption would leave the averaged, scaled ones, from which no training can go on
            self.model.set_weights(weights)

    def write(self) -> str:
        """A line of what the model writes from the prompt, if there is one."""
        if self.sample_prompt is None:
            return ""
        if (vocabulary := getattr(self.dataset, "vocabulary", None)) is None:
            raise ValueError("sample_prompt needs a vocabulary: take make_dataset(vocabulary.encode(text))")
        text = Generator.from_model(self.model, vocabulary).generate(self.sample_prompt, 60, temperature=0.5, seed=1)
        return "\n    " + text.replace("\n", " ")

    def report(self, seconds: float, seconds_in_all: float) -> str:
        done, epochs = len(self.history["loss"]), self.recipe.epochs
        bits = self.history["loss"][-1] / math.log(2)
        parts = [f"epoch {done} of {epochs}: training {bits:.3f} bits"]
        if self.held_out_ids is not None:
            parts.append(f"held out {self.history['held_out_bits'][-1]:.3f} bits")
        if isinstance(self.dataset, Windows):
            parts.append(f"{self.dataset.n_windows * self.dataset.seq_length / seconds:,.0f} characters/s")
        return ", ".join([*parts, f"{(epochs - done) * seconds_in_all:.0f} s left"])
