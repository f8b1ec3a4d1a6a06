"""From an array of ids to batches of inputs and targets. Built by hand in notebook 02_pipeline."""

import hashlib
import mmap
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_ADVICE = "encode the text with the vocabulary of the model, or build_model(len(vocabulary))"


def split_input_target(chunk: "np.ndarray | tf.Tensor") -> tuple:
    """An input and its target from a chunk of ``seq_length + 1`` ids: all but the last id, and all but the first.

    The target is the input moved on by one character (chapter 16; notebook 02_pipeline). ``chunk`` is any array or
    tensor of shape ``[..., seq_length + 1]``; both results have shape ``[..., seq_length]``.
    """
    return chunk[..., :-1], chunk[..., 1:]


def check_ids(ids: np.ndarray, vocab_size: int | None = None, least: int = 1) -> np.ndarray:
    """``ids`` as an array of integers of shape ``[n]``, if that is what they are, and of ``vocab_size`` characters.

    The smallest and the largest are looked at, and the vocabulary they were made with, if they remember it (``Ids``).

    Raises TypeError for anything else, and ValueError for fewer than ``least`` ids, or for ids out of range.
    """
    array = np.asanyarray(ids)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(f"ids must be integers, as vocabulary.encode(text) makes them, not {str(ids)[:40]!r}")
    if len(array) < least:
        raise ValueError(f"a text of {len(array)} characters is too short here: give at least {least}")
    vocabulary, knows = getattr(array, "vocabulary", None), f"the model knows {vocab_size}: {_ADVICE}"
    if vocab_size and vocabulary and len(vocabulary) != vocab_size:
        raise ValueError(f"the ids are of {len(vocabulary)} different characters, {knows}")
    if vocab_size:
        smallest, largest = min(part.min() for part in _parts(array)), max(part.max() for part in _parts(array))
        if smallest < 0 or largest >= vocab_size:
            raise ValueError(f"the ids run from {smallest} to {largest}, {knows}")
    return array


def check_dataset(
    dataset: "Windows | tf.data.Dataset", vocab_size: int | None, held_out_ids: np.ndarray | None
) -> None:
    """Raises TypeError or ValueError unless ``dataset`` can be trained on, as far as can be told without reading it,
    and ``held_out_ids``, if there are any, can be measured."""
    if isinstance(dataset, Windows):
        check_ids(dataset.ids, vocab_size)
    elif not hasattr(dataset, "element_spec"):
        raise TypeError(f"dataset must be of make_dataset(ids), or a tf.data.Dataset, not {type(dataset)}")
    elif dataset.cardinality() < 1:  # -1: without an end, -2: unknown
        raise ValueError("the dataset must tell its number of batches, 1 or more: see Dataset.take")
    if held_out_ids is not None:
        check_ids(held_out_ids, vocab_size, least=2)
    if len({getattr(ids, "vocabulary", None) for ids in (dataset, held_out_ids)} - {None}) > 1:
        raise ValueError("dataset and held_out_ids are of two vocabularies: encode both texts with the same")


def make_dataset(
    ids: np.ndarray,
    seq_length: int = 50,
    batch_size: int = 64,
    shuffle: bool = True,
    seed: int | None = None,
    carry_state: bool = False,
) -> "Windows":
    """Batches of (input, target), each int32 of shape ``[batch_size, seq_length]``; the last batch may be smaller.

    ids: integers of shape ``[n]``, in memory or in a file (``numpy.memmap``); only a batch at a time is copied. They
        are cut into windows of ``seq_length + 1``; a shorter rest is dropped.
    shuffle: take the windows in a new order, any of all orders, each time the dataset is gone through. The order
        depends on ``seed`` and on how often that has been; without a seed it differs in every run.
    carry_state: the text, joined to a ring, is read by ``batch_size`` readers at once, each of whom begins at another
        place and goes on, in each batch, where it stopped in the one before. So a network may keep its state from
        batch to batch. ``shuffle`` then means that the places are others each time.

    Go through it with ``for``; ``len`` of it is the number of batches; its attribute ``batches`` is the
    ``tf.data.Dataset``, for ``model.fit`` or to go on from. Raises ValueError if ``ids`` holds less than one window, or
    a length is below 1, and TypeError if ``ids`` are none. Built in notebook 02_pipeline.
    """
    ids = check_ids(ids)
    if seq_length < 1 or batch_size < 1:
        raise ValueError(f"seq_length ({seq_length}) and batch_size ({batch_size}) must be at least 1")
    if len(ids) <= seq_length * (batch_size if carry_state else 1):
        needed = "batch_size windows" if carry_state else "window"
        raise ValueError(f"{len(ids)} ids hold no {needed} of seq_length + 1 = {seq_length + 1}: take a longer text")
    return Windows(ids, seq_length, batch_size, shuffle, seed, carry_state)


class Windows:
    """The windows of a text in batches, and the order in which they come, which ``entropy`` and ``epoch`` determine.

    vocabulary: of the ids, if they remember it, or None.
    entropy: the seed, or a random number where none was given; epoch: the number of the next pass, from 0.
    share: which windows of each batch are read here: all, or in ``train``, where several workers share it, every Nth.
    """

    def __init__(self, ids: np.ndarray, seq_length: int, batch_size: int, shuffle: bool, seed, carry_state: bool):
        self.ids, self.seq_length, self.batch_size, self.shuffle, self.seed = ids, seq_length, batch_size, shuffle, seed
        self.carry_state = carry_state
        steps = len(ids) // batch_size // seq_length  # that each of the readers takes
        self.n_windows = batch_size * steps if carry_state else len(ids) // (seq_length + 1)
        self.vocabulary = getattr(ids, "vocabulary", None)
        self.entropy = np.random.SeedSequence(seed).entropy
        self.epoch = 0
        self.share = slice(None)

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

        return tf.data.Dataset.range(0, self.n_windows, self.batch_size).map(read_batch)

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.batches)

    def __len__(self) -> int:
        return -(-self.n_windows // self.batch_size)

    def describe(self) -> dict:
        """The settings, and a checksum of the text: equal for equal datasets."""
        checksum = hashlib.sha256()
        for part in _parts(self.ids):
            checksum.update(part.astype(np.int32).tobytes())
        names = "seq_length", "batch_size", "shuffle", "seed", "carry_state"
        return {**{name: getattr(self, name) for name in names}, "text": checksum.hexdigest()}

    def _next_order(self) -> np.ndarray:
        # Where the windows begin, int64 [n_windows], in the order of the pass that starts now.
        rng = np.random.default_rng([self.entropy, self.epoch])
        self.epoch += 1
        if self.carry_state:
            readers, steps = np.arange(self.batch_size) * (len(self.ids) // self.batch_size), np.arange(len(self))
            first = rng.integers(len(self.ids)) if self.shuffle else 0
            return (first + readers + steps[:, None] * self.seq_length).reshape(-1) % len(self.ids)
        order = np.arange(self.n_windows, dtype=np.int64) * (self.seq_length + 1)
        if self.shuffle:
            rng.shuffle(order)
        return order

    def _read(self, begins: np.ndarray) -> np.ndarray:
        # The windows that begin at these places, [B], or our share of them: a copy, int32 [B, seq_length + 1].
        places = (begins[self.share, None] + np.arange(self.seq_length + 1)) % len(self.ids)
        rows = self.ids[places].astype(np.int32)
        _hand_back(self.ids)
        return rows


def _parts(ids: np.ndarray, size: int = 2**20) -> Iterator[np.ndarray]:
    # A file of ids may be larger than the memory.
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
        _hand_back(ids)


def _hand_back(ids: np.ndarray) -> None:
    # Pages of a mapped file count as our memory once they are touched: give them back, where the system can (Windows
    # can't), but not those of a private copy ("c"), which hold changes that are nowhere else.
    if getattr(ids, "_mmap", None) is not None and ids.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        ids._mmap.madvise(mmap.MADV_DONTNEED)
