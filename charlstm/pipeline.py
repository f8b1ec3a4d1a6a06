"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

import itertools
import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


def split_input_target(chunk: "np.ndarray | tf.Tensor") -> tuple:
    """An input and its target from a chunk of ``seq_length + 1`` ids: all but the last id, and all but the first.

    The target is the input moved on by one character (chapter 16; notebook 02_pipeline). ``chunk`` is any array or
    tensor of shape ``[..., seq_length + 1]``; both results have shape ``[..., seq_length]``.
    """
    return chunk[..., :-1], chunk[..., 1:]


def make_dataset(
    ids: np.ndarray, seq_length: int = 50, batch_size: int = 64, shuffle: bool = True, seed: int | None = None
) -> "tf.data.Dataset":
    """Batches of (input, target), each int32 of shape ``[batch_size, seq_length]``; the last batch may be smaller.

    ids: integers of shape ``[n]``, in memory or in a file (``numpy.memmap``); only a batch at a time is copied. They
        are cut into windows of ``seq_length + 1``; a shorter rest is dropped.
    shuffle: take the windows in a new order, any of all orders, each time the dataset is gone through. The order
        depends on ``seed`` and on how often that has been; without a seed it differs in every run.

    Raises ValueError if ``ids`` holds less than one window, or a length is below 1. Built in notebook 02_pipeline.
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
    windows = ids[: n_windows * chunk_size].reshape(n_windows, chunk_size)  # another view of the same numbers
    entropy = np.random.SeedSequence(seed).entropy  # the seed, or a random one if there is none
    epochs = itertools.count()

    def batches():
        order = np.arange(n_windows)
        if shuffle:
            np.random.default_rng([entropy, next(epochs)]).shuffle(order)
        for start in range(0, n_windows, batch_size):
            batch = windows[order[start : start + batch_size]].astype(np.int32)
            _hand_back(ids)
            yield split_input_target(batch)

    signature = tf.TensorSpec((None, seq_length), tf.int32)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=(signature, signature))
    n_batches = -(-n_windows // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(n_batches)).prefetch(tf.data.AUTOTUNE)


def _hand_back(ids: np.ndarray) -> None:
    # Pages of a mapped file count as our memory once they are touched: give them back, where the system can (Windows
    # can't), but not those of a private copy ("c"), which hold changes that are nowhere else.
    if isinstance(ids, np.memmap) and ids.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        ids._mmap.madvise(mmap.MADV_DONTNEED)
