"""Text from a trained model, one character after another. Built by hand in notebook 05_sampling."""

import operator
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary
from charlstm.model import StepwiseLSTM, check_weights, weights_of
from charlstm.model_file import PRETRAINED, read_model_file

if TYPE_CHECKING:
    import keras


def scaled_softmax(logits: np.ndarray, scale_factor: float = 1.0) -> np.ndarray:
    """Probabilities, of the same shape as ``logits`` (``[..., V]``), that sum to 1 along the last axis.

    scale_factor: chapter 16's alpha, by which the logits are multiplied first; it is 1 / temperature. Above 1 the
        likely characters become likelier; near 0 all become equally likely. Built in notebook 05_sampling.
    """
    scaled = np.asarray(logits) * scale_factor
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))  # the largest is exp(0): nothing can overflow
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


class Generator:
    """Writes text with a model's weights in plain NumPy, one step for each character, carrying the LSTM's state.

    Its probabilities are those of the Keras model; it is faster because it neither reads the text again for each new
    character nor starts a TensorFlow computation for each step (``StepwiseLSTM``; notebook 05_sampling).

    weights: by name, as in the model file; ``from_model`` and ``load`` bring them. Raises ValueError like
        ``check_weights``.
    """

    def __init__(self, weights: dict[str, np.ndarray], vocabulary: Vocabulary):
        if not isinstance(weights, dict):
            raise TypeError("give the weights by name; for a Keras model, Generator.from_model(model, vocabulary)")
        check_weights(weights, len(vocabulary))
        self.vocabulary = vocabulary
        self._network = StepwiseLSTM(weights)

    @classmethod
    def from_model(cls, model: "keras.Model", vocabulary: Vocabulary) -> "Generator":
        """A generator with the weights that the Keras ``model`` has now. Raises ValueError like ``weights_of``."""
        return cls(weights_of(model), vocabulary)

    @classmethod
    def load(cls, path: str | os.PathLike = PRETRAINED) -> "Generator":
        """A generator from a file of ``save_model``, by default the model in this package, without loading Keras."""
        weights, vocabulary, _ = read_model_file(path)
        return cls(weights, vocabulary)

    def probabilities(self, text: str) -> np.ndarray:
        """The probability of each character of the vocabulary to come next after ``text``: float32 of shape ``[V]``.

        Raises ValueError if ``text`` is empty or has a character that the vocabulary lacks.
        """
        logits, _ = self._read(text, count=1)
        return scaled_softmax(logits[0])

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
        steps = self._draw_steps(prompt, 1, length, temperature, top_k, top_p, seed)
        return (self.vocabulary.chars[ids[0]] for ids in steps)

    def generate(self, prompt: str, length: int = 500, **options) -> str:
        """``prompt`` and ``length`` new characters after it. Options and errors are those of ``stream``."""
        return prompt + "".join(self.stream(prompt, length, **options))

    def generate_batch(self, prompt: str, count: int, length: int = 500, **options) -> list[str]:
        """``count`` texts that go on from one prompt, written side by side; options and errors as in ``stream``."""
        steps = self._draw_steps(prompt, count, length, **options)
        drawn = np.array(list(steps), dtype=np.int32).reshape(length, count)
        return [prompt + self.vocabulary.decode(ids) for ids in drawn.T]

    def _draw_steps(self, prompt, count, length, temperature=1.0, top_k=None, top_p=None, seed=None):
        # An iterator over `length` arrays of `count` ids. All that can be wrong with its input is found before it.
        for name, value, least in ("length", length, 0), ("count", count, 1), ("top_k", top_k, 1):
            if value is not None and operator.index(value) < least:  # index: TypeError if it is no integer
                raise ValueError(f"{name} must be at least {least}, but is {value}")
        if not 0 <= temperature < np.inf:
            raise ValueError(f"temperature must be 0 or more and finite, but is {temperature}")
        if top_k is not None and top_k > len(self.vocabulary):
            raise ValueError(f"top_k must be at most {len(self.vocabulary)}, the number of characters, but is {top_k}")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p must lie above 0 and not above 1, but is {top_p}")
        logits, state = self._read(prompt, count)
        rng = np.random.default_rng(seed)

        def steps() -> Iterator[np.ndarray]:
            nonlocal logits, state
            for number in range(length):
                if number > 0:
                    logits, state = self._network.step(ids, state)
                ids = _draw(logits, temperature, top_k, top_p, rng)
                yield ids

        return steps()

    def _read(self, text: str, count: int):
        # Logits and state after the whole text, for `count` equal streams, from a state of zeros.
        if not text:
            raise ValueError("the prompt is empty: give at least one character for the model to go on from")
        state = self._network.empty_state()
        for char_id in self.vocabulary.encode(text):
            logits, state = self._network.step([char_id], state)
        return np.repeat(logits, count, axis=0), tuple(np.repeat(part, count, axis=0) for part in state)


def _draw(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None, rng) -> np.ndarray:
    # One id for each row of logits [B, V].
    if temperature == 0:
        return logits.argmax(axis=-1)
    logits = logits - logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # at a tiny temperature all but the likeliest become -inf, of probability 0
        probabilities = scaled_softmax(logits.astype(np.float64) / temperature)
    if top_k is not None or top_p is not None:
        probabilities = _keep_likeliest(probabilities, top_k or logits.shape[-1], top_p or 1.0)
    # A point thrown on the unit interval falls into each character's part of it as often as its probability says.
    cumulative = probabilities.cumsum(axis=-1)
    points = rng.random((len(logits), 1)) * cumulative[:, -1:]
    return (cumulative <= points).sum(axis=-1)


def _keep_likeliest(probabilities: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    # Of the sorted probabilities, keep one while those before it sum to less than top_p, and k at the most.
    kept = (ranked.cumsum(axis=-1) - ranked < top_p) & (np.arange(ranked.shape[-1]) < top_k)
    result = np.zeros_like(probabilities)
    np.put_along_axis(result, order, np.where(kept, ranked, 0), axis=-1)
    return result
