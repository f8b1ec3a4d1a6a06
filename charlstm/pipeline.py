"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

import hashlib
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

    The dataset's attribute ``windows`` holds these settings (``Windows``), for a training that is to go on later.
    Raises ValueError if ``ids`` holds less than one window, or a length is below 1. Built in notebook 02_pipeline.
    """
    import tensorflow as tf

    if seq_length < 1 or batch_size < 1:
        raise ValueError(f"seq_length ({seq_length}) and batch_size ({batch_size}) must be at least 1")
    if len(ids) <= seq_length:
        raise ValueError(
            f"a text of {len(ids)} characters holds no window of seq_length + 1 = {seq_length + 1}: "
            f"use a longer text or a smaller seq_length"
        )
    windows = Windows(ids, seq_length, batch_size, shuffle, seed)

    def batches_of_one_pass(_) -> tf.data.Dataset:
        order = tf.numpy_function(windows.next_order, [], tf.int64)

        def read_batch(start: tf.Tensor) -> tuple:
            chunks = tf.numpy_function(windows.read, [order[start : start + batch_size]], tf.int32)
            return split_input_target(tf.ensure_shape(chunks, (None, seq_length + 1)))

        return tf.data.Dataset.range(0, len(windows), batch_size).map(read_batch)

    # A dataset of one element makes the order anew whenever it is gone through. (from_generator would do so, too, but
    # has the C library hand back freed memory at once, which costs each training step a third of its time.)
    dataset = tf.data.Dataset.range(1).flat_map(batches_of_one_pass)
    # Two batches are made while the model learns from another. TensorFlow's tuning of this number is switched off: its
    # thread sleeps twice as long each time, and the end of an epoch may have to wait until it wakes, for seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    with_length = tf.data.experimental.assert_cardinality(-(-len(windows) // batch_size))
    dataset = dataset.apply(with_length).prefetch(2).with_options(options)
    dataset.windows = windows
    return dataset


class Windows:
    """The windows of a dataset, and the order in which they come, which ``entropy`` and ``epoch`` determine.

    entropy: the seed, or a random number where none was given; epoch: the number of the next pass, from 0.
    """

    def __init__(self, ids: np.ndarray, seq_length: int, batch_size: int, shuffle: bool, seed: int | None):
        n_windows = len(ids) // (seq_length + 1)
        self.ids, self.seq_length, self.batch_size, self.shuffle, self.seed = ids, seq_length, batch_size, shuffle, seed
        self.rows = ids[: n_windows * (seq_length + 1)].reshape(n_windows, -1)  # another view of the same numbers
        self.entropy = np.random.SeedSequence(seed).entropy
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_targets(self) -> int:
        """How many characters are predicted in one epoch."""
        return len(self) * self.seq_length

    def describe(self) -> dict:
        """The settings, and a checksum of the text: equal for equal datasets."""
        checksum = hashlib.sha256()
        for start in range(0, len(self), 1000):
            checksum.update(self.rows[start : start + 1000].astype(np.int32).tobytes())
        names = "seq_length", "batch_size", "shuffle", "seed"
        return {**{name: getattr(self, name) for name in names}, "text": checksum.hexdigest()}

    def next_order(self) -> np.ndarray:
        """The order of the windows in the pass that begins now: their numbers, int64 of shape ``[n_windows]``."""
        order = np.arange(len(self), dtype=np.int64)
        if self.shuffle:
            np.random.default_rng([self.entropy, self.epoch]).shuffle(order)
        self.epoch += 1
        return order

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The windows of these numbers, ``[B]``: a copy, int32 of shape ``[B, seq_length + 1]``."""
        rows = self.rows[numbers].astype(np.int32)
        _hand_back(self.ids)
        return rows


def _hand_back(ids: np.ndarray) -> None:
    # Pages of a mapped file count as our memory once they are touched: give them back, where the system can (Windows
    # can't), but not those of a private copy ("c"), which hold changes that are nowhere else.
    if isinstance(ids, np.memmap) and ids.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        ids._mmap.madvise(mmap.MADV_DONTNEED)
