"""Fitting a model, and measuring it on text that it has not seen. Built by hand in notebook 04_training."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charlstm.model import layers_of
from charlstm.pipeline import split_input_target

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

BOOK_RUN = Path(__file__).parent / "pretrained" / "book_run.json"


def train(
    model: "keras.Sequential",
    dataset: "tf.data.Dataset",
    epochs: int,
    learning_rate: "float | keras.optimizers.schedules.LearningRateSchedule" = 0.001,
    held_out_ids: np.ndarray | None = None,
) -> dict[str, list[float]]:
    """Compile with Adam and cross-entropy (chapter 16), fit, print a line an epoch. Built in notebook 04_training.

    dataset: batches of (input, target), as ``make_dataset`` makes them.
    learning_rate: a number, by default the book's, or a Keras schedule.
    held_out_ids: ids, ``[n]``, that are not in ``dataset``; if given, they are measured after each epoch.

    Returns the history, with one value for each epoch: ``"loss"``, the mean over the epoch's batches while the model
    was learning from them, in nats per character; and ``"held_out_bits"``, in bits per character, if asked for.
    """
    import keras

    history: dict[str, list[float]] = {"loss": []}

    def report(epoch: int, logs: dict[str, float]) -> None:
        history["loss"].append(float(logs["loss"]))
        line = f"epoch {epoch + 1} of {epochs}: training loss {logs['loss']:.4f} nats"
        if held_out_ids is not None:
            bits = bits_per_char(model, held_out_ids)
            history.setdefault("held_out_bits", []).append(bits)
            line += f" ({logs['loss'] / math.log(2):.3f} bits), held out {bits:.3f} bits per character"
        print(line, flush=True)

    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    # shuffle=False: the dataset shuffles itself, and Keras would warn that it can't.
    callback = keras.callbacks.LambdaCallback(on_epoch_end=report)
    model.fit(dataset, epochs=epochs, verbose=0, shuffle=False, callbacks=[callback])
    return history


def bits_per_char(model: "keras.Sequential", ids: np.ndarray, seq_length: int = 1000) -> float:
    """How many bits the model needs, on average, for each character of ``ids`` (``[n]``) after the first.

    This is the cross-entropy in base 2: 0 for a model that is always certain and right, log2(V) for one that guesses.
    The text is read once, from beginning to end, and the LSTM's state is carried through all of it; ``seq_length``
    only sets how many characters are read at a time. Raises ValueError for less than two. Built in 04_training.
    """
    import keras
    import tensorflow as tf

    if len(ids) < 2:
        raise ValueError(f"a text of {len(ids)} characters has nothing to predict: give at least two")
    embedding, lstm, dense = layers_of(model)
    # A copy of the LSTM layer that also hands out its state, so that the next piece can go on from it.
    lstm_with_state = type(lstm).from_config({**lstm.get_config(), "return_state": True})
    lstm_with_state.build((None, None, embedding.output_dim))
    lstm_with_state.set_weights(lstm.get_weights())

    @tf.function(reduce_retracing=True)
    def read(inputs, targets, state):
        outputs, *state = lstm_with_state(embedding(inputs), initial_state=state)
        nats = keras.losses.sparse_categorical_crossentropy(targets, dense(outputs), from_logits=True)
        return tf.reduce_sum(nats), state

    total_nats = 0.0
    state = [tf.zeros((1, lstm.units)), tf.zeros((1, lstm.units))]
    for start in range(0, len(ids) - 1, seq_length):
        inputs, targets = split_input_target(tf.constant(ids[None, start : start + seq_length + 1]))
        nats, state = read(inputs, targets, state)
        total_nats += float(nats)
    return total_nats / (len(ids) - 1) / math.log(2)


def read_book_run() -> dict:
    """The recorded 20 epochs of the book's recipe on Grimm, on the whole text and with the last tenth held out."""
    return json.loads(BOOK_RUN.read_text(encoding="utf-8"))
