"""Text from a trained model, one character after another. Built by hand in notebook 06_sampling."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from charlstm.console import check_number
from charlstm.data import Vocabulary
from charlstm.evaluation import surprise
from charlstm.files import PRETRAINED, read_model_file
from charlstm.model import StepwiseLSTM, one_blas_thread, weights_for
from charlstm.pipeline import check_ids

TEXTS_A_THREAD = 32  # fixed, so that the same seed gives the same texts with any number of processor cores


def scaled_softmax(logits: np.ndarray, scale_factor: float = 1.0) -> np.ndarray:
    """Probabilities, of the same shape as ``logits`` (``[..., V]``), that sum to 1 along the last axis.

    scale_factor: chapter 16's alpha, by which the logits are multiplied first; it is 1 / temperature. Above 1 the
        likely characters become likelier; near 0 all become equally likely. Built in notebook 06_sampling.
    """
    scaled = np.asarray(logits) * scale_factor
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))  # the largest is exp(0): nothing can overflow
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def choose(probabilities: np.ndarray, points: np.ndarray) -> np.ndarray:
    """One id for each row of ``probabilities``, ``[B, V]``, which need not sum to 1; points: random, 0 to 1, ``[B, 1]``.

    A point thrown on a line falls into each character's part of it as often as its probability says.
    """
    cumulative = probabilities.cumsum(axis=-1)
    return (cumulative <= points * cumulative[:, -1:]).sum(axis=-1)


def draw(
    logits: np.ndarray, points: np.ndarray, temperature: float = 1, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """One id for each row of ``logits``, ``[B, V]``. points: random numbers from 0 to 1, ``[B, 1]``.

    temperature: 1 / ``scale_factor``: below 1 plainer text, above 1 stranger; 0 takes the likeliest character.
    top_k: draw only among the k likeliest characters.
    top_p: draw only among the likeliest characters that together have at least this probability.

    Raises TypeError or ValueError for a number that can't be used. Built in notebook 06_sampling.
    """
    _check_options(temperature, top_k, top_p, logits.shape[-1])
    if temperature < 1e-6:  # less than any difference of logits that counts
        return logits.argmax(axis=-1)
    logits = np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64)
    probabilities = np.exp(logits / temperature)  # not divided by their sum yet
    if top_k is not None or top_p is not None:
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        ranked = np.take_along_axis(probabilities, order, axis=-1)
        # Of the sorted probabilities, keep one while those before it sum to less than top_p, and k at the most.
        kept = (ranked.cumsum(axis=-1) - ranked < (top_p or 1.0)) & (np.arange(ranked.shape[-1]) < (top_k or np.inf))
        probabilities *= np.take_along_axis(kept, order.argsort(axis=-1), axis=-1)  # in the characters' order
    return choose(probabilities, points)


@functools.lru_cache  # or else it would cost a few per cent of each step
def _check_options(temperature: float, top_k: int | None, top_p: float | None, vocab_size: int) -> None:
    check_number("temperature", temperature, 0)
    check_number("top_k", 1 if top_k is None else top_k, 1, vocab_size, whole=True)
    check_number("top_p", 1 if top_p is None else top_p, 1e-9, 1)


class Generator:
    """Writes text with any network that has ``empty_state()`` and ``step(ids, state)``, such as ``StepwiseLSTM``: one
    step in plain NumPy for each character, carrying the state.

    Its probabilities are those of the Keras model; it is faster because it neither reads the text again for each new
    character nor starts a TensorFlow computation for each step (notebook 06_sampling).
    """

    def __init__(self, network: StepwiseLSTM, vocabulary: Vocabulary):
        if not hasattr(network, "step"):
            raise TypeError("give a network with empty_state and step; for a Keras model, Generator.from_model")
        self.network, self.vocabulary = network, vocabulary

    @classmethod
    def from_model(cls, model: "keras.Model", vocabulary: Vocabulary) -> "Generator":
        """A generator with the weights that the Keras ``model`` has now. Raises like ``weights_for``."""
        return cls(StepwiseLSTM(weights_for(model, vocabulary)), vocabulary)

    @classmethod
    def load(cls, path: str | os.PathLike = PRETRAINED) -> "Generator":
        """A generator from a file of ``save_model``, by default the model in this package, without loading Keras."""
        weights, vocabulary, _ = read_model_file(path)
        return cls(StepwiseLSTM(weights), vocabulary)

    def probabilities(self, text: str) -> np.ndarray:
        """The probability of each character of the vocabulary to come next after ``text``: float32 of shape ``[V]``.

        Raises ValueError if ``text`` is empty or has a character that the vocabulary lacks.
        """
        logits, _ = self._read(text)
        return scaled_softmax(logits[0])

    def surprise(self, text: str) -> np.ndarray:
        """Surprise, in bits, at each character of ``text`` after the first: float32 ``[len(text) - 1]``. Their mean is
        ``bits_per_char``. Raises ValueError if there are less than two, or one that the vocabulary lacks."""
        return surprise(self.network, check_ids(self.vocabulary.encode(text), least=2))

    def stream(
        self, prompt: str, length: int = 500, seed: int | None = None, stop: str = "", draw: Callable = draw, **options
    ) -> Iterator[str]:
        """An iterator over ``length`` new characters, each drawn from the model's probabilities when it is asked for.

        prompt: the text to go on from; it is read first and not given out again.
        seed: with the same seed, the same text.
        stop: the text ends behind these characters, as soon as they are written: ``"\\n"`` for one line.
        draw: chooses the ids ``[B]`` by logits ``[B, V]`` and random points ``[B, 1]`` (``charlstm.draw``).
        options: of ``draw``: ``temperature``, ``top_k``, ``top_p``.

        Raises ValueError or TypeError, before the first character, for a prompt or a number that can't be used.
        """
        logits, state, draw = self._begin(prompt, length, stop, draw, options)
        rng = np.random.default_rng(seed)
        ids = self._write(logits, state, draw, (rng.random((1, 1)) for _ in range(length)))

        def characters() -> Iterator[str]:
            written = ""
            while len(written) < length and not (stop and written.endswith(stop)):
                with one_blas_thread():  # not for longer: what is done between two characters may need more
                    written += self.vocabulary.chars[next(ids)[0]]
                yield written[-1]

        return characters()

    def generate(self, prompt: str, length: int = 500, **options) -> str:
        """``prompt`` and ``length`` new characters after it. Options and errors are those of ``stream``."""
        if options.get("stop"):  # where a stream ends at once
            return prompt + "".join(self.stream(prompt, length, **options))
        return self.generate_batch(prompt, 1, length, **options)[0]

    def generate_batch(
        self, prompt: str, count: int, length: int = 500, seed: int | None = None, stop: str = "", draw=draw, **options
    ) -> list[str]:
        """``count`` texts that go on from one prompt, written side by side; options and errors as in ``stream``."""
        check_number("count", count, 1, whole=True)
        logits, state, draw = self._begin(prompt, length, stop, draw, options)
        points = np.random.default_rng(seed).random((length, count, 1))

        def write(first: int) -> list[str]:
            part = points[:, first : first + TEXTS_A_THREAD]
            start, *states = (np.repeat(array, part.shape[1], axis=0) for array in (logits, *state))
            ids = np.array([*self._write(start, states, draw, part)], int).reshape(-1, part.shape[1])
            texts = [self.vocabulary.decode(column) for column in ids.T]
            return [text[: text.find(stop) + len(stop)] if stop and stop in text else text for text in texts]

        # Each part of the texts in a thread of its own, with products in one thread: they never wait for each other.
        with one_blas_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = [*pool.map(write, range(0, count, TEXTS_A_THREAD))]
        return [prompt + text for part in parts for text in part]

    def _begin(self, prompt: str, length: int, stop: str, draw: Callable, options: dict) -> tuple:
        # Logits and state after the prompt, and how to draw. All that can be wrong is found here, before the first step.
        check_number("length", length, 0, whole=True)
        self.vocabulary.encode(stop)
        (logits, state), draw = self._read(prompt), functools.partial(draw, **options)
        draw(logits, np.zeros((1, 1)))
        return logits, state, draw

    def _write(self, logits, state, draw: Callable, points: Iterable) -> Iterator[np.ndarray]:
        # The ids [B] of each new character, chosen by points of [B, 1].
        for point in points:
            ids = draw(logits, point)
            yield ids
            logits, state = self.network.step(ids, state)

    def _read(self, text: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        # Logits and state after the whole text, from an empty state.
        ids, state = self.vocabulary.encode(text), self.network.empty_state()
        if not text:
            raise ValueError("the prompt is empty: give at least one character for the model to go on from")
        with one_blas_thread():
            for char_id in ids:
                logits, state = self.network.step([char_id], state)
        return logits, state
