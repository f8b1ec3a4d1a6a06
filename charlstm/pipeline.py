"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from charlstm.console import check_number
from charlstm.data import Vocabulary


def split_input_target(chunk: "np.ndarray | tf.Tensor") -> tuple:
    """An input and its target from a chunk of ``seq_length + 1`` ids: all but the last id, and all but the first.

    The target is the input moved on by one character (chapter 16; notebook 02_pipeline). ``chunk`` is any array or
    tensor of shape ``[..., seq_length + 1]``; both results have shape ``[..., seq_length]``.
    """
    return chunk[..., :-1], chunk[..., 1:]


def check_ids(ids: np.ndarray, vocab_size=math.inf, vocabulary: Vocabulary | None = None, least: int = 1) -> np.ndarray:
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
    if own and (vocabulary not in (None, own) or vocab_size not in (math.inf, len(own))):
        known = vocabulary.difference(own) if vocabulary else f"{vocab_size} characters"
        raise ValueError(f"the ids are of {len(own)} characters, but the model knows {known}: {advice}")
    if own is None and (array.min() < 0 or array.max() >= vocab_size):  # its vocabulary has made no others
        raise ValueError(f"the ids run from {array.min()} to {array.max()}, not from 0 to {vocab_size - 1}: {advice}")
    return array


@dataclasses.dataclass
class Batches:
    """Batches of (input, target), each int32 of shape ``[batch_size, seq_length]``; the last one may be smaller. Go
    through them with ``for``; ``len`` is the number of batches in an epoch. Built in notebook 02_pipeline.

    ids: integers of shape ``[n]``, in memory or in a file (``open_ids``); only a batch at a time is copied. They are
        cut into windows of ``seq_length + 1``; a shorter rest is dropped.
    shuffle: take the windows in a new order, uniformly at random, in each epoch. The order depends on ``seed`` and on the
        number of the epoch; without a seed it differs in every run.
    carry_state: the text, joined to a ring, is read by ``batch_size`` readers at once, each of whom begins at another
        place and goes on, in each batch, where it stopped in the one before. So a network may keep its state from
        batch to batch. ``shuffle`` then means that each epoch starts at different places.

    Raises ValueError if ``ids`` holds less than one window, or a length is below 1, and TypeError if ``ids`` are none.
    """

    ids: np.ndarray = dataclasses.field(repr=False)
    seq_length: int = 50
    batch_size: int = 64
    shuffle: bool = True
    seed: int | None = None
    carry_state: bool = False

    def __post_init__(self):
        self.ids = check_ids(self.ids)
        check_number("seq_length", self.seq_length, 1, whole=True)
        check_number("batch_size", self.batch_size, 1, whole=True)
        steps = len(self.ids) // self.batch_size // self.seq_length  # that each of the readers takes
        self.n_windows = self.batch_size * steps if self.carry_state else len(self.ids) // (self.seq_length + 1)
        if not self.n_windows:
            needed = self.seq_length * self.batch_size if self.carry_state else self.seq_length + 1
            raise ValueError(f"{len(self.ids)} ids are too few, {needed} are needed: take a longer text")
        self.vocabulary = getattr(self.ids, "vocabulary", None)  # if they remember it
        self.chosen_seed = np.random.SeedSequence(self.seed).entropy  # a random number where none is given

    def __repr__(self) -> str:  # which Keras's fit shows when it refuses it
        return f"{len(self)} batches of make_dataset (for Keras's fit: its .batches)"

    def __len__(self) -> int:
        return math.ceil(self.n_windows / self.batch_size)

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.batches)

    @cached_property
    def batches(self) -> "tf.data.Dataset":
        """One epoch as a ``tf.data.Dataset``; each pass through it takes the order of the next epoch."""
        import tensorflow as tf

        passes = itertools.count()
        epoch = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: next(passes), [], tf.int64))
        return self._read_epochs(epoch).apply(tf.data.experimental.assert_cardinality(len(self)))

    def batches_from(self, epoch: int) -> "tf.data.Dataset":
        """The batches of this epoch, counted from 0, then those of the next, and so on without an end."""
        import tensorflow as tf

        return self._read_epochs(tf.data.Dataset.range(epoch, np.iinfo(np.int64).max))

    def _read_epochs(self, epochs: "tf.data.Dataset") -> "tf.data.Dataset":
        import tensorflow as tf

        # (from_generator would do, too, but has the C library hand back freed memory at once, which costs each training
        # step a third of its time.)
        def read_epoch(number: tf.Tensor) -> tf.data.Dataset:
            begins = tf.numpy_function(self._begins, [number], tf.int64)
            starts = tf.data.Dataset.range(0, self.n_windows, self.batch_size)
            return starts.map(lambda start: read_batch(begins[start : start + self.batch_size]))

        def read_batch(begins: tf.Tensor) -> tuple:
            chunks = tf.numpy_function(self._read, [begins], tf.int32)
            return split_input_target(tf.ensure_shape(chunks, (None, self.seq_length + 1)))

        # Two batches are made while the model learns from another. TensorFlow's tuning of this number is switched off:
        # its thread sleeps twice as long each time, and the end of an epoch may have to wait for seconds until it wakes.
        options = tf.data.Options()
        options.autotune.enabled = False
        return epochs.flat_map(read_epoch).prefetch(2).with_options(options)

    def _begins(self, epoch: int) -> np.ndarray:
        # Where the windows begin, int64 [n_windows], in the order of this epoch.
        rng = np.random.default_rng([self.chosen_seed, epoch])
        if self.carry_state:
            readers, steps = np.arange(self.batch_size) * (len(self.ids) // self.batch_size), np.arange(len(self))
            first = rng.integers(len(self.ids)) if self.shuffle else 0
            return (first + readers + steps[:, None] * self.seq_length).reshape(-1) % len(self.ids)
        order = np.arange(self.n_windows, dtype=np.int64) * (self.seq_length + 1)
        return rng.permutation(order) if self.shuffle else order

    def _read(self, begins: np.ndarray) -> np.ndarray:
        # The windows that begin at these places, [B]: a copy, int32 [B, seq_length + 1].
        return self.ids[(begins[:, None] + np.arange(self.seq_length + 1)) % len(self.ids)].astype(np.int32)

    def describe(self) -> dict:
        """The settings, and a checksum of the text: equal for equal datasets."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return settings | {"ids": hashlib.sha256(np.ascontiguousarray(self.ids)).hexdigest()}


make_dataset = Batches  # as one says in TensorFlow
