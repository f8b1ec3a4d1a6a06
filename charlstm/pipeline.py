"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

import hashlib
import mmap
from collections.abc import Iterator
from functools import cached_property
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
) -> "Windows":
    """Batches of (input, target), each int32 of shape ``[batch_size, seq_length]``; the last batch may be smaller.

    ids: integers of shape ``[n]``, in memory or in a file (``numpy.memmap``); only a batch at a time is copied. They
        are cut into windows of ``seq_length + 1``; a shorter rest is dropped.
    shuffle: take the windows in a new order, any of all orders, each time the dataset is gone through. The order
        depends on ``seed`` and on how often that has been; without a seed it differs in every run.

    Go through it with ``for``; ``len`` of it is the number of batches; its attribute ``batches`` is the
    ``tf.data.Dataset``, for ``model.fit`` or to go on from. Raises ValueError if ``ids`` holds less than one window, or
    a length is below 1. Built in notebook 02_pipeline.
    """
    if seq_length < 1 or batch_size < 1:
        raise ValueError(f"seq_length ({seq_length}) and batch_size ({batch_size}) must be at least 1")
    if len(ids) <= seq_length:
        raise ValueError(
            f"a text of {len(ids)} characters holds no window of seq_length + 1 = {seq_length + 1}: "
            f"use a longer text or a smaller seq_length"
        )
    return Windows(ids, seq_length, batch_size, shuffle, seed)


class Windows:
    """The windows of a text in batches, and the order in which they come, which ``entropy`` and ``epoch`` determine.

    entropy: the seed, or a random number where none was given; epoch: the number of the next pass, from 0.
    """

    def __init__(self, ids: np.ndarray, seq_length: int, batch_size: int, shuffle: bool, seed: int | None):
        n_windows = len(ids) // (seq_length + 1)
        self.ids, self.seq_length, self.batch_size, self.shuffle, self.seed = ids, seq_length, batch_size, shuffle, seed
        self.rows = ids[: n_windows * (seq_length + 1)].reshape(n_windows, -1)  # another view of the same numbers
        self.entropy = np.random.SeedSequence(seed).entropy
        self.epoch = 0

    @cached_property
    def batches(self) -> "tf.data.Dataset":
        """The ``tf.data.Dataset`` of the batches. Each pass takes the next epoch's order."""
        import tensorflow as tf

        # A dataset of one element makes the order anew whenever it is gone through. (from_generator would do so, too,
        # but has the C library hand back freed memory at once, which costs each training step a third of its time.)
        dataset = tf.data.Dataset.range(1).flat_map(self._one_pass)
        # Two batches are made while the model learns from another. TensorFlow's tuning of this number is switched off:
        # its thread sleeps twice as long each time, and the end of an epoch may have to wait for seconds until it wakes.
        options = tf.data.Options()
        options.autotune.enabled = False
        with_length = tf.data.experimental.assert_cardinality(len(self))
        return dataset.apply(with_length).prefetch(2).with_options(options)

    def _one_pass(self, _) -> "tf.data.Dataset":
        import tensorflow as tf

        order = tf.numpy_function(self._next_order, [], tf.int64)

        def read_batch(start: tf.Tensor) -> tuple:
            chunks = tf.numpy_function(self._read, [order[start : start + self.batch_size]], tf.int32)
            return split_input_target(tf.ensure_shape(chunks, (None, self.seq_length + 1)))

        return tf.data.Dataset.range(0, len(self.rows), self.batch_size).map(read_batch)

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.batches)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    @property
    def n_targets(self) -> int:
        """How many characters are predicted in one epoch."""
        return len(self.rows) * self.seq_length

    def describe(self) -> dict:
        """The settings, and a checksum of the text: equal for equal datasets."""
        checksum = hashlib.sha256()
        for start in range(0, len(self.rows), 1000):
            checksum.update(self.rows[start : start + 1000].astype(np.int32).tobytes())
        names = "seq_length", "batch_size", "shuffle", "seed"
        return {**{name: getattr(self, name) for name in names}, "text": checksum.hexdigest()}

    def _next_order(self) -> np.ndarray:
        # The numbers of the windows, int64 [n_windows], in the order of the pass that begins now.
        order = np.arange(len(self.rows), dtype=np.int64)
        if self.shuffle:
            np.random.default_rng([self.entropy, self.epoch]).shuffle(order)
        self.epoch += 1
        return order

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        # The windows of these numbers, [B]: a copy, int32 [B, seq_length + 1].
        rows = self.rows[numbers].astype(np.int32)
        _hand_back(self.ids)
        return rows


def _hand_back(ids: np.ndarray) -> None:
    # Pages of a mapped file count as our memory once they are touched: give them back, where the system can (Windows
    # can't), but not those of a private copy ("c"), which hold changes that are nowhere else.
    if isinstance(ids, np.memmap) and ids.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        ids._mmap.madvise(mmap.MADV_DONTNEED)
