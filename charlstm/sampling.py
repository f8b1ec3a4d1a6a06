"""Text from a trained model, one character after another. Built by hand in notebook 06_sampling."""

import operator
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary
from charlstm.model import StepwiseLSTM, check_weights, one_blas_thread, weights_of
from charlstm.model_file import PRETRAINED, read_model_file
from charlstm.pipeline import check_ids

if TYPE_CHECKING:
    import keras

TEXTS_A_THREAD = 32  # fixed, so that the same seed gives the same texts with any number of processor cores


def scaled_softmax(logits: np.ndarray, scale_factor: float = 1.0) -> np.ndarray:
    """Probabilities, of the same shape as ``logits`` (``[..., V]``), that sum to 1 along the last axis.

    scale_factor: chapter 16's alpha, by which the logits are multiplied first; it is 1 / temperature. Above 1 the
        likely characters become likelier; near 0 all become equally likely. Built in notebook 06_sampling.
    """
    scaled = np.asarray(logits) * scale_factor
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))  # the largest is exp(0): nothing can overflow
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class Generator:
    """Writes text with a model's weights in plain NumPy, one step for each character, carrying the LSTM's state.

    Its probabilities are those of the Keras model; it is faster because it neither reads the text again for each new
    character nor starts a TensorFlow computation for each step (``StepwiseLSTM``; notebook 06_sampling).

    weights: by name, as in the model file; ``from_model`` and ``load`` bring them. Raises ValueError or TypeError like
        ``check_weights``.
    """

    def __init__(self, weights: dict[str, np.ndarray], vocabulary: Vocabulary):
        if not isinstance(weights, dict):
            raise TypeError("give the weights by name; for a Keras model, Generator.from_model(model, vocabulary)")
        check_weights(weights, vocabulary)
        self.vocabulary = vocabulary
        self._network = StepwiseLSTM(weights)

    @classmethod
    def from_model(cls, model: "keras.Model", vocabulary: Vocabulary) -> "Generator":
        """A generator with the weights that the Keras ``model`` has now. Raises like ``weights_of``, and as above."""
        return cls(weights_of(model), vocabulary)

    @classmethod
    def load(cls, path: str | os.PathLike = PRETRAINED) -> "Generator":
        """A generator from a file of ``save_model`` or the checkpoint of a training, by default the model in this
        package, without loading Keras."""
        return cls(*read_model_file(path)[:2])

    def probabilities(self, text: str) -> np.ndarray:
        """The probability of each character of the vocabulary to come next after ``text``: float32 of shape ``[V]``.

        Raises ValueError if ``text`` is empty or has a character that the vocabulary lacks.
        """
        logits, _ = self._read(text)
        return scaled_softmax(logits[0])

    def surprise(self, text: str) -> np.ndarray:
        """How many bits each character of ``text`` after the first came as to the model: float32 ``[len(text) - 1]``.
        Their mean is ``bits_per_char``.

        Raises ValueError if ``text`` has less than two characters, or one that the vocabulary lacks.
        """
        return self._network.surprise(check_ids(self.vocabulary.encode(text), least=2))

    def stream(
        self,
        prompt: str,
        length: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """An iterator over ``length`` new characters, each drawn from the model's probabilities when it is asked for.

        prompt: the text to go on from; it is read first and not given out again.
        temperature: 1 / ``scale_factor``: below 1 plainer text, above 1 stranger; 0 takes the likeliest character.
        top_k: draw only among the k likeliest characters.
        top_p: draw only among the likeliest characters that together have at least this probability.
        seed: with the same seed, the same text.

        Raises ValueError or TypeError, before the first character, for a prompt or a number that can't be used.
        """
        draw, read = self._drawing(length, temperature, top_k, top_p), self._read(prompt)
        rng = np.random.default_rng(seed)
        steps = self._write(*read, (rng.random((1, 1)) for _ in range(length)), draw)

        def next_char(_: int) -> str:
            with one_blas_thread():  # not for longer: what is done between two characters may need more
                return self.vocabulary.chars[next(steps)[0]]

        return map(next_char, range(length))

    def generate(self, prompt: str, length: int = 500, **options) -> str:
        """``prompt`` and ``length`` new characters after it. Options and errors are those of ``stream``."""
        return self.generate_batch(prompt, 1, length, **options)[0]

    def generate_batch(
        self, prompt: str, count: int, length: int = 500, seed: int | None = None, **options
    ) -> list[str]:
        """``count`` texts that go on from one prompt, written side by side; options and errors as in ``stream``."""
        _check_whole_number("count", count, 1)
        draw = self._drawing(length, **options)
        logits, state = self._read(prompt)
        points = np.random.default_rng(seed).random((length, count, 1))

        def write(start: int) -> np.ndarray:
            part = points[:, start : start + TEXTS_A_THREAD]
            repeated = [np.repeat(array, part.shape[1], axis=0) for array in (logits, *state)]
            return np.array([*self._write(repeated[0], repeated[1:], part, draw)]).reshape(length, part.shape[1])

        # Each part of the texts in a thread of its own, with products in one thread: they never wait for each other.
        with one_blas_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = [*pool.map(write, range(0, count, TEXTS_A_THREAD))]
        return [prompt + self.vocabulary.decode(ids) for ids in np.concatenate(parts, axis=1).T]

    def _drawing(self, length, temperature=1.0, top_k=None, top_p=None) -> Callable[..., np.ndarray]:
        # `_draw` with these options. All that can be wrong with them is found here, before anything is written.
        _check_whole_number("length", length, 0)
        _check_whole_number("top_k", 1 if top_k is None else top_k, 1, len(self.vocabulary))
        if not 0 <= temperature < np.inf:
            raise ValueError(f"temperature must be 0 or more and finite, but is {temperature}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must lie above 0 and not above 1, but is {top_p}")
        return lambda logits, point: _draw(logits, point, temperature, top_k, top_p)

    def _write(self, logits, state, points, draw) -> Iterator[np.ndarray]:
        # The ids [B] of each new character; `points`, each [B, 1], are the random numbers that choose it.
        for number, point in enumerate(points):
            if number:
                logits, state = self._network.step(ids, state)
            ids = draw(logits, point)
            yield ids

    def _read(self, text: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        # Logits and state after the whole text, from a state of zeros.
        if not text:
            raise ValueError("the prompt is empty: give at least one character for the model to go on from")
        state = self._network.empty_state()
        with one_blas_thread():
            for char_id in self.vocabulary.encode(text):
                logits, state = self._network.step([char_id], state)
        return logits, state


def _check_whole_number(name: str, value: int, least: int, most: float = np.inf) -> None:
    if not least <= operator.index(value) <= most:  # index: TypeError if it is no integer
        raise ValueError(f"{name} must be at least {least} and at most {most}, but is {value}")


def _draw(
    logits: np.ndarray, point: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> np.ndarray:
    # One id for each row of logits [B, V]; `point`: random numbers from 0 to 1, [B, 1].
    if temperature == 0:
        return logits.argmax(axis=-1)
    logits = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64)
    with np.errstate(over="ignore"):  # at a tiny temperature all but the likeliest become -inf, of probability 0
        shares = np.exp(logits / temperature)  # of the probability: not divided by their sum yet
    if top_k is not None or top_p is not None:
        shares = _keep_likeliest(shares / shares.sum(axis=-1, keepdims=True), top_k or shares.shape[-1], top_p or 1.0)
    # A point thrown on a line falls into each character's part of it as often as its probability says.
    cumulative = shares.cumsum(axis=-1)
    return (cumulative <= point * cumulative[:, -1:]).sum(axis=-1)


def _keep_likeliest(probabilities: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    # Of the sorted probabilities, keep one while those before it sum to less than top_p, and k at the most.
    kept = (ranked.cumsum(axis=-1) - ranked < top_p) & (np.arange(ranked.shape[-1]) < top_k)
    return probabilities * np.take_along_axis(kept, order.argsort(axis=-1), axis=-1)  # back in the characters' order
