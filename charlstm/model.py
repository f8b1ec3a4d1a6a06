"""The network, in Keras and, for one step at a time, in NumPy. Built by hand in notebook 03_model."""

from typing import TYPE_CHECKING

import numpy as np

from charlstm.recipes import Recipe, find_recipe

if TYPE_CHECKING:
    import keras

WEIGHT_NAMES = ("embeddings", "lstm_kernel", "lstm_recurrent_kernel", "lstm_bias", "dense_kernel", "dense_bias")


def build_model(
    vocab_size: int, embedding_dim: int = 256, rnn_units: int = 512, recipe: str | Recipe = "quick"
) -> "keras.Sequential":
    """Embedding, LSTM, Dense: from ids, int32 ``[B, T]``, to logits, float32 ``[B, T, vocab_size]`` (chapter 16).

    recipe: ``"book"`` is the textbook's model; ``"quick"`` has the same shapes, but learns in fewer and faster epochs:
        its embedding begins with larger numbers, and its layer is ``FastLSTM``.

    Raises ValueError if a size is below 1, or for an unknown recipe. Built in notebook 03_model.
    """
    import keras

    if min(vocab_size, embedding_dim, rnn_units) < 1:
        raise ValueError(f"the sizes must be at least 1: {vocab_size=}, {embedding_dim=}, {rnn_units=}")
    recipe, initializer, lstm_layer = find_recipe(recipe), "uniform", keras.layers.LSTM
    if recipe.embeddings_stddev is not None:
        initializer = keras.initializers.RandomNormal(stddev=recipe.embeddings_stddev)
    if recipe.fast_lstm:
        from charlstm.fast_lstm import FastLSTM as lstm_layer
    return keras.Sequential(
        [
            keras.Input(shape=(None,), dtype="int32"),
            keras.layers.Embedding(vocab_size, embedding_dim, embeddings_initializer=initializer),
            lstm_layer(rnn_units, return_sequences=True),
            keras.layers.Dense(vocab_size),
        ]
    )


def layers_of(model: "keras.Sequential") -> list["keras.layers.Layer"]:
    """The Embedding, LSTM and Dense layer of ``model``. Raises ValueError if it has other layers than these."""
    import keras

    expected = [keras.layers.Embedding, keras.layers.LSTM, keras.layers.Dense]
    if len(model.layers) != 3 or not all(map(isinstance, model.layers, expected)):
        found = ", ".join(type(layer).__name__ for layer in model.layers)
        raise ValueError(f"the model must be Embedding, LSTM, Dense, as build_model makes it, but has: {found}")
    return model.layers


def weights_of(model: "keras.Sequential") -> dict[str, np.ndarray]:
    """The weights of ``model`` by name, float32 with V characters, E embedding dimensions and H units:

    ``embeddings`` [V, E]; ``lstm_kernel`` [E, 4H], ``lstm_recurrent_kernel`` [H, 4H] and ``lstm_bias`` [4H], each with
    the blocks input gate, forget gate, candidate, output gate; ``dense_kernel`` [H, V]; ``dense_bias`` [V].
    Raises ValueError, naming the layer, for a model of other layers or settings than ``build_model`` makes.
    """
    _, lstm, dense = layers_of(model)
    for layer, setting, needed in (
        (lstm, "activation", "tanh"), (lstm, "recurrent_activation", "sigmoid"), (lstm, "use_bias", True),
        (lstm, "return_sequences", True), (lstm, "go_backwards", False),
        (dense, "activation", "linear"), (dense, "use_bias", True),
    ):  # fmt: skip
        found = getattr(layer, setting)
        found = getattr(found, "__name__", found)
        if found != needed:
            raise ValueError(f"the layer {layer.name!r} has {setting}={found!r}: only {needed!r} will do here")
    return dict(zip(WEIGHT_NAMES, model.get_weights(), strict=True))


class StepwiseLSTM:
    """The network in plain NumPy, one character of each of B streams at a time, for those who need nothing more.

    Embedding and input kernel are multiplied once, into a table with a row for each character (notebook 05_sampling).
    """

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
