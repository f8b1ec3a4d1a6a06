"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

import hashlib
import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary

if TYPE_CHECKING:
    import tensorflow as tf


def split_input_target(chunk: "np.ndarray | tf.Tensor") -> tuple:
    """An input and its target from a chunk of ``seq_length + 1`` ids: all but the last id, and all but the first.

    The target is the input moved on by one character (chapter 16; notebook 02_pipeline). ``chunk`` is any array or
    tensor of shape ``[..., seq_length + 1]``; both results have shape ``[..., seq_length]``.
    """
    return chunk[..., :-1], chunk[..., 1:]


def check_ids(
    ids: np.ndarray, vocab_size: int | None = None, vocabulary: Vocabulary | None = None, least: int = 1
) -> np.ndarray:
    """``ids`` as an array of shape ``[n]``, if they are integers and fit a model of ``vocab_size`` characters, which are
    those of ``vocabulary``, as far as ids (``Ids``) and model remember them.

    Raises TypeError for anything else, and ValueError for fewer than ``least`` ids, or for those of other characters.
    """
    array = np.asanyarray(ids)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(f"ids must be integers, as vocabulary.encode(text) makes them, not {str(ids)[:40]!r}")
    if len(array) < least:
        raise ValueError(f"a text of {len(array)} characters is too short here: give at least {least}")
    advice = "encode the text with the vocabulary of the model, or build_model(len(vocabulary))"
    own = getattr(array, "vocabulary", None)
    if vocab_size and own and len(own) != vocab_size:
        raise ValueError(f"the ids are of {len(own)} different characters, the model knows {vocab_size}: {advice}")
    if vocabulary and own and own != vocabulary:
        only = "".join(sorted(set(own.chars) - set(vocabulary.chars)))
        raise ValueError(f"the ids are of other characters than the model's, such as {only[:10]!r}: {advice}")
    if vocab_size and (array.min() < 0 or array.max() >= vocab_size):
        raise ValueError(f"the ids run from {array.min()} to {array.max()}, the model knows {vocab_size}: {advice}")
    return array


def check_dataset(dataset: "Batches | tf.data.Dataset", vocab_size: int | None, vocabulary: Vocabulary | None) -> None:
    """Raises TypeError or ValueError unless a model of ``vocab_size`` characters can learn from ``dataset``. One of your
    own is gone through once for that."""
    if isinstance(dataset, Batches):
        check_ids(dataset.ids, vocab_size, vocabulary)
        return
    if not hasattr(dataset, "element_spec"):
        raise TypeError(f"dataset must be of make_dataset(ids), or a tf.data.Dataset, not {type(dataset)}")
    if dataset.cardinality() < 1:  # -1: without an end, -2: unknown
        raise ValueError("the dataset must tell its number of batches, 1 or more: see Dataset.take")
    for batch in dataset.as_numpy_iterator():
        if len(batch) != 2 or any(np.ndim(ids) != 2 for ids in batch) or batch[0].shape != batch[1].shape:
            raise ValueError("each batch must be inputs and targets, ids of one shape [B, T]: see make_dataset")
        for ids in batch:
            check_ids(ids.ravel(), vocab_size, vocabulary)


def make_dataset(
    ids: np.ndarray,
    seq_length: int = 50,
    batch_size: int = 64,
    shuffle: bool = True,
    seed: int | None = None,
    carry_state: bool = False,
) -> "Batches":
    """Batches of (input, target), each int32 of shape ``[batch_size, seq_length]``; the last batch may be smaller.

    ids: integers of shape ``[n]``, in memory or in a file (``open_ids``); only a batch at a time is copied. They are
        cut into windows of ``seq_length + 1``; a shorter rest is dropped.
    shuffle: take the windows in a new order, any of all orders, in each epoch. The order depends on ``seed`` and on the
        number of the epoch; without a seed it differs in every run.
    carry_state: the text, joined to a ring, is read by ``batch_size`` readers at once, each of whom begins at another
        place and goes on, in each batch, where it stopped in the one before. So a network may keep its state from
        batch to batch. ``shuffle`` then means that the places are others in each epoch.

    Raises ValueError if ``ids`` holds less than one window, or a length is below 1, and TypeError if ``ids`` are none.
    Built in notebook 02_pipeline.
    """
    ids = check_ids(ids)
    if seq_length < 1 or batch_size < 1:
        raise ValueError(f"seq_length ({seq_length}) and batch_size ({batch_size}) must be at least 1")
    if len(ids) <= seq_length * (batch_size if carry_state else 1):
        needed = "batch_size windows" if carry_state else "window"
        raise ValueError(f"{len(ids)} ids hold no {needed} of seq_length + 1 = {seq_length + 1}: take a longer text")
    return Batches(ids, seq_length, batch_size, shuffle, seed, carry_state)


class Batches:
    """The windows of a text in batches, to go through with ``for``; ``len`` is the number of batches in an epoch.

    seed: the one given, or a random number where none was. vocabulary: of the ids, if they remember it, or None.
    """

    def __init__(self, ids, seq_length: int, batch_size: int, shuffle: bool, seed: int | None, carry_state: bool):
        self.ids, self.seq_length, self.batch_size, self.shuffle = ids, seq_length, batch_size, shuffle
        self.seed_given, self.seed = seed, np.random.SeedSequence(seed).entropy
        self.carry_state = carry_state
        steps = len(ids) // batch_size // seq_length  # that each of the readers takes
        self.n_windows = batch_size * steps if carry_state else len(ids) // (seq_length + 1)
        self.vocabulary = getattr(ids, "vocabulary", None)

    def __len__(self) -> int:
        return -(-self.n_windows // self.batch_size)

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.batches)

    @cached_property
    def batches(self) -> "tf.data.Dataset":
        """One epoch as a ``tf.data.Dataset``; each pass through it takes the order of the next epoch."""
        import tensorflow as tf

        passes = itertools.count()
        epoch = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: next(passes), [], tf.int64))
        one_epoch = tf.data.experimental.assert_cardinality(len(self))
        return self._in_advance(epoch.flat_map(lambda number: self._epoch(number, self.seed)).apply(one_epoch))

    def batches_from(self, epoch: int, seed: int | None = None) -> "tf.data.Dataset":
        """The batches of this epoch, counted from 0, then those of the next, and so on without an end; in the orders of
        another ``seed``, if one is given."""
        import tensorflow as tf

        seed = self.seed if seed is None else seed
        epochs = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max)
        return self._in_advance(epochs.flat_map(lambda number: self._epoch(number, seed)))

    def _in_advance(self, dataset: "tf.data.Dataset") -> "tf.data.Dataset":
        # Two batches are made while the model learns from another. TensorFlow's tuning of this number is switched off:
        # its thread sleeps twice as long each time, and the end of an epoch may have to wait for seconds until it wakes.
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.prefetch(2).with_options(options)

    def _epoch(self, number: "tf.Tensor", seed: int) -> "tf.data.Dataset":
        import tensorflow as tf

        # (from_generator would do, too, but has the C library hand back freed memory at once, which costs each training
        # step a third of its time.)
        begins = tf.numpy_function(lambda number: self._begins(number, seed), [number], tf.int64)

        def read_batch(start: tf.Tensor) -> tuple:
            chunks = tf.numpy_function(self._read, [begins[start : start + self.batch_size]], tf.int32)
            return split_input_target(tf.ensure_shape(chunks, (None, self.seq_length + 1)))

        return tf.data.Dataset.range(0, self.n_windows, self.batch_size).map(read_batch)

    def _begins(self, epoch: int, seed: int) -> np.ndarray:
        # Where the windows begin, int64 [n_windows], in the order of this epoch.
        rng = np.random.default_rng([seed, epoch])
        if self.carry_state:
            readers, steps = np.arange(self.batch_size) * (len(self.ids) // self.batch_size), np.arange(len(self))
            first = rng.integers(len(self.ids)) if self.shuffle else 0
            return (first + readers + steps[:, None] * self.seq_length).reshape(-1) % len(self.ids)
        order = np.arange(self.n_windows, dtype=np.int64) * (self.seq_length + 1)
        if self.shuffle:
            rng.shuffle(order)
        return order

    def _read(self, begins: np.ndarray) -> np.ndarray:
        # The windows that begin at these places, [B]: a copy, int32 [B, seq_length + 1].
        return self.ids[(begins[:, None] + np.arange(self.seq_length + 1)) % len(self.ids)].astype(np.int32)

    def describe(self) -> dict:
        """The settings, and a checksum of the text: equal for equal datasets."""
        names = "seq_length", "batch_size", "shuffle", "carry_state"
        checksum = hashlib.sha256(np.ascontiguousarray(self.ids)).hexdigest()
        return {name: getattr(self, name) for name in names} | {"seed": self.seed_given, "text": checksum}
