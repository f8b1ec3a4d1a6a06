"""The network, in Keras and, for one step at a time, in NumPy. Built by hand in notebook 03_model."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from charlstm.recipes import Recipe, find_recipe

if TYPE_CHECKING:
    import keras


def build_model(
    vocab_size: int, embedding_dim: int = 256, rnn_units: int = 512, recipe: str | Recipe = "quick"
) -> "keras.Sequential":
    """Keras's Embedding, LSTM, Dense: from ids, int32 ``[B, T]``, to logits, float32 ``[B, T, vocab_size]``.

    This is the textbook's model (chapter 16) with any recipe; what differs is how large the embedding's first random
    numbers are. Raises ValueError if a size is below 1, or for an unknown recipe. Built in notebook 03_model.
    """
    import keras

    if min(vocab_size, embedding_dim, rnn_units) < 1:
        raise ValueError(f"the sizes must be at least 1: {vocab_size=}, {embedding_dim=}, {rnn_units=}")
    initializer, stddev = "uniform", find_recipe(recipe).embeddings_stddev
    if stddev is not None:
        initializer = keras.initializers.RandomNormal(stddev=stddev)
    return keras.Sequential(
        [
            keras.Input(shape=(None,), dtype="int32"),
            keras.layers.Embedding(vocab_size, embedding_dim, embeddings_initializer=initializer),
            keras.layers.LSTM(rnn_units, return_sequences=True),
            keras.layers.Dense(vocab_size),
        ]
    )


def layers_of(model: "keras.Model") -> list["keras.layers.Layer"]:
    """The Embedding, LSTM and Dense layer of ``model``; Dropout layers between them do not count.

    Raises ValueError, naming what it found, if it has other layers than these, or computes otherwise with them than
    ``build_model``'s do.
    """
    import keras

    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.Dropout)]
    expected = [keras.layers.Embedding, keras.layers.LSTM, keras.layers.Dense]
    if len(layers) != 3 or not all(map(isinstance, layers, expected)):
        found = ", ".join(type(layer).__name__ for layer in layers)
        raise ValueError(f"the model must be Embedding, LSTM, Dense, as build_model makes it, but has: {found}")
    names = {"activation", "recurrent_activation", "use_bias", "return_sequences", "go_backwards"}
    if difference := find_difference(layers, names.__contains__):
        raise ValueError(difference)
    return layers


def find_difference(layers: list["keras.layers.Layer"], counts: Callable[[str], bool]) -> str | None:
    """In which setting an Embedding, an LSTM and a Dense layer differ from ``build_model``'s, in words; None: in none.

    counts: whether the setting of this name matters.
    """
    from keras.layers import LSTM, Dense, Embedding

    plain = Embedding(1, 1, dtype="float32"), LSTM(1, return_sequences=True, dtype="float32"), Dense(1, dtype="float32")
    for layer, other in zip(layers, plain, strict=True):
        found = layer.get_config()
        for name, needed in other.get_config().items():
            if counts(name) and found.get(name) != needed:
                return f"the layer {layer.name!r} has {name}={found.get(name)!r}: only {needed!r} will do here"
    return None


def weights_of(model: "keras.Model") -> dict[str, np.ndarray]:
    """The weights of ``model``, float32, with the names and shapes of ``StepwiseLSTM``. Raises like ``layers_of``."""
    arrays = [weight for layer in layers_of(model) for weight in layer.get_weights()]
    return dict(zip(StepwiseLSTM.weight_names, arrays, strict=True))


def sizes_of(weights: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """``vocab_size``, ``embedding_dim`` and ``rnn_units``, as ``build_model`` takes them."""
    return *weights["embeddings"].shape, weights["dense_kernel"].shape[0]


def check_weights(weights: dict[str, np.ndarray], vocab_size: int) -> None:
    """Raises ValueError, naming what is wrong, unless ``weights`` are finite and fit each other and the vocabulary."""
    sizes = sizes_of(weights)
    if sizes[0] != vocab_size:
        raise ValueError(f"the model knows {sizes[0]} characters, but the vocabulary {vocab_size}")
    for name, shape in StepwiseLSTM.weight_shapes(*sizes).items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} has the shape {weights[name].shape}, but {shape} fits the other weights")
        if not np.isfinite(weights[name]).all():
            raise ValueError(f"{name} holds NaN or infinity: the training went wrong, try a smaller learning rate")


class StepwiseLSTM:
    """The network in plain NumPy, one character of each of B streams at a time, for those who need nothing more.

    Its names and shapes of the weights are the package's. Another cell, such as a GRU, would be another such class.
    Embedding and input kernel are multiplied once, into a table with a row for each character (notebook 05_sampling).
    """

    @staticmethod
    def weight_shapes(vocab_size: int, embedding_dim: int, rnn_units: int) -> dict[str, tuple[int, ...]]:
        """In the order of ``model.get_weights()``. The four gates lie side by side: input gate, forget gate, candidate,
        output gate."""
        gates = 4 * rnn_units
        return {
            "embeddings": (vocab_size, embedding_dim),
            "lstm_kernel": (embedding_dim, gates),
            "lstm_recurrent_kernel": (rnn_units, gates),
            "lstm_bias": (gates,),
            "dense_kernel": (rnn_units, vocab_size),
            "dense_bias": (vocab_size,),
        }

    weight_names = tuple(weight_shapes(1, 1, 1))

    def __init__(self, weights: dict[str, np.ndarray]):
        self.input_table = weights["embeddings"] @ weights["lstm_kernel"] + weights["lstm_bias"]  # [V, 4H]
        self.recurrent_kernel = weights["lstm_recurrent_kernel"]
        self.dense_kernel, self.dense_bias = weights["dense_kernel"], weights["dense_bias"]

    def empty_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Hidden and cell state before the first character of one stream: zeros, each float32 ``[1, H]``."""
        zeros = np.zeros((1, len(self.recurrent_kernel)), dtype=np.float32)
        return zeros, zeros

    def step(self, ids, state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Logits ``[B, V]`` and the new state after reading ``ids``, integers ``[B]``, in ``state``, two ``[B, H]``."""
        hidden, cell = state
        gates = self.input_table[ids] + hidden @ self.recurrent_kernel
        input_gate, forget_gate, candidate, output_gate = np.split(gates, 4, axis=-1)  # Keras's order
        cell = _sigmoid(forget_gate) * cell + _sigmoid(input_gate) * np.tanh(candidate)
        hidden = _sigmoid(output_gate) * np.tanh(cell)
        return hidden @ self.dense_kernel + self.dense_bias, (hidden, cell)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5  # equal to 1 / (1 + exp(-x)), but exp can overflow
