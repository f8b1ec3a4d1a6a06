"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


def split_input_target(chunk):
    """An input and its target from a chunk of ``seq_length + 1`` ids: all but the last id, and all but the first.

    The target is the input moved on by one character (chapter 16). ``chunk`` is any array or tensor of shape
    ``[..., seq_length + 1]``; both results have shape ``[..., seq_length]``.
    """
    return chunk[..., :-1], chunk[..., 1:]


def make_dataset(
    ids: np.ndarray, seq_length: int = 50, batch_size: int = 64, shuffle: bool = True, seed: int | None = None
) -> "tf.data.Dataset":
    """Batches of (input, target), each int32 of shape ``[batch_size, seq_length]``; the last batch may be smaller.

    ids: integers of shape ``[n]``. They are cut into windows of ``seq_length + 1``; a shorter rest is dropped.
    shuffle: draw the windows in a new order each epoch. ``seed`` makes these orders repeatable, together with
        TensorFlow's global seed, if one is set (``keras.utils.set_random_seed``).

    Raises ValueError if ``ids`` holds less than one window, or a length is below 1.
    """
    import tensorflow as tf

    if seq_length < 1 or batch_size < 1:
        raise ValueError(f"seq_length ({seq_length}) and batch_size ({batch_size}) must be at least 1")
    chunk_size = seq_length + 1
    n_windows = len(ids) // chunk_size
    if n_windows == 0:
        raise ValueError(
            f"a text of {len(ids)} characters holds no window of seq_length + 1 = {chunk_size}: "
            f"use a longer text or a smaller seq_length"
        )
    windows = np.asarray(ids[: n_windows * chunk_size], dtype=np.int32).reshape(n_windows, chunk_size)
    dataset = tf.data.Dataset.from_tensor_slices(windows)
    if shuffle:
        dataset = dataset.shuffle(n_windows, seed=seed)
    return dataset.batch(batch_size).map(split_input_target).prefetch(tf.data.AUTOTUNE)
