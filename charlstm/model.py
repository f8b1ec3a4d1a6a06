"""The network, in Keras and, for one step at a time, in NumPy. Built by hand in notebook 04_model."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
from threadpoolctl import ThreadpoolController

from charlstm.console import check_number
from charlstm.data import Vocabulary
from charlstm.recipes import Recipe, find_recipe

# Settings of layers: what is computed depends on the first; names with the second endings may differ from build_model's.
_MUST_MATCH = {"activation", "recurrent_activation", "use_bias", "return_sequences", "go_backwards", "mask_zero"}
_MAY_DIFFER = "name", "dim", "units", "initializer", "seed"


def build_model(
    vocab_size: int, embedding_dim: int = 256, rnn_units: int = 512, recipe: str | Recipe = "quick"
) -> "keras.Sequential":
    """Keras's Embedding, LSTM, Dense: from ids, int32 ``[B, T]``, to logits, float32 ``[B, T, vocab_size]``.

    This is the textbook's model (chapter 16) with any recipe; what differs is how large the embedding's first random
    numbers are, and a Dropout layer after the LSTM if the recipe asks for one. ``train`` takes the same recipe.

    Raises ValueError if a size is below 1, or for an unknown recipe, and TypeError for a vocabulary in place of its
    size. Built in notebook 04_model.
    """
    import keras

    for name, size in {"vocab_size": vocab_size, "embedding_dim": embedding_dim, "rnn_units": rnn_units}.items():
        check_number(name, size, 1, whole=True)
    recipe, initializer = find_recipe(recipe), "uniform"
    if recipe.embeddings_stddev is not None:
        initializer = keras.initializers.RandomNormal(stddev=recipe.embeddings_stddev)
    embedding = keras.layers.Embedding(vocab_size, embedding_dim, embeddings_initializer=initializer)
    lstm = keras.layers.LSTM(rnn_units, return_sequences=True)
    dense = keras.layers.Dense(vocab_size)
    dropout = [keras.layers.Dropout(recipe.output_dropout)] if recipe.output_dropout else []
    model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, lstm, *dropout, dense])
    remember(model, recipe=recipe)
    return model


def remember(model: "keras.Model", **facts: Recipe | Vocabulary) -> None:
    """Note on ``model`` its ``recipe``, or the ``vocabulary`` that it has first learned from or came with."""
    model.charlstm = {**getattr(model, "charlstm", {}), **facts}


def recall(model: "keras.Model", name: str) -> Recipe | Vocabulary | None:
    """What ``remember`` has noted under this name, or None."""
    return getattr(model, "charlstm", {}).get(name)


def layers_of(model: "keras.Model", exactly: bool = False) -> list["keras.layers.Layer"]:
    """The Embedding, LSTM and Dense layer of ``model``; Dropout layers between them do not count.

    Raises ValueError, naming what it found, if it has other layers than these, or ones that compute otherwise than
    ``build_model``'s; or, if ``exactly``, that learn otherwise.
    """
    from keras.layers import LSTM, Dense, Dropout, Embedding

    layers = [layer for layer in getattr(model, "layers", [model]) if not isinstance(layer, Dropout)]
    if [type(layer) for layer in layers] != [Embedding, LSTM, Dense]:
        found = ", ".join(type(layer).__name__ for layer in layers)
        raise ValueError(f"the model must be Embedding, LSTM, Dense, as build_model makes it, but has: {found}")
    plain = Embedding(1, 1), LSTM(1, return_sequences=True), Dense(1)
    for layer, other in zip(layers, plain, strict=True):
        found = layer.get_config() | {"dtype": layer.dtype_policy.name}
        needed = other.get_config() | {"dtype": "float32"}
        for name in needed if exactly else needed.keys() & _MUST_MATCH:
            if found.get(name) != needed[name] and not name.endswith(_MAY_DIFFER):
                place = f"the layer {layer.name!r} has {name}={found.get(name)!r}"
                raise ValueError(f"{place}: only {needed[name]!r} will do here")
    return layers


def weights_of(model: "keras.Model") -> dict[str, np.ndarray]:
    """The weights of ``model``, float32, with the names and shapes of ``StepwiseLSTM``. Raises like ``layers_of``."""
    arrays = [weight.astype(np.float32) for layer in layers_of(model) for weight in layer.get_weights()]
    return dict(zip(StepwiseLSTM.weight_names, arrays, strict=True))


def sizes_of(weights: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """``vocab_size``, ``embedding_dim`` and ``rnn_units``, as ``build_model`` takes them."""
    return *weights["embeddings"].shape, weights["dense_kernel"].shape[0]


def weights_for(model: "keras.Model | dict", vocabulary: Vocabulary, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """The weights of ``model``, or those given, for another to use with this ``vocabulary``.

    Raises ValueError, naming what is wrong, unless they are all there, fit each other and the vocabulary, which must be
    the one that the model remembers, and are no greater than ``dtype`` can be; and TypeError unless it is a Vocabulary.
    """
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"give a Vocabulary, such as corpus.vocabulary, not a {type(vocabulary).__name__}")
    if (own := recall(model, "vocabulary")) not in (None, vocabulary):
        raise ValueError(f"this is not the model's vocabulary, which has {own.difference(vocabulary)}")
    weights = model if isinstance(model, dict) else weights_of(model)
    if wrong := weights.keys() ^ {*StepwiseLSTM.weight_names}:
        raise ValueError(f"the weights lack, or should not have, {', '.join(sorted(wrong))}")
    if (known := weights["dense_bias"].size) != len(vocabulary):
        raise ValueError(f"the model knows {known} characters, but the vocabulary {len(vocabulary)}")
    embedding_dim, rnn_units = weights["embeddings"].size // known, weights["lstm_bias"].size // 4
    for name, shape in StepwiseLSTM.weight_shapes(known, embedding_dim, rnn_units).items():
        if weights[name].shape != shape or 0 in shape:
            raise ValueError(f"{name} has the shape {weights[name].shape}, but {shape} fits the other weights")
        greatest, possible = np.abs(weights[name]).max(), np.finfo(dtype).max
        if not greatest <= possible:  # as NaN is not, either
            raise ValueError(f"{name} holds {greatest}, but {possible:g} is the most possible: did the training fail?")
    return weights


class StepwiseLSTM:
    """The network in plain NumPy, one character of each of B streams at a time, for those who need nothing more.

    Another network, such as a GRU, that has ``empty_state()`` and ``step(ids, state)``, too, can be measured and writes.
    Embedding and input kernel are multiplied once, into a table with a row for each character (notebook 06_sampling).

    weights: by name, of the shapes of ``weight_shapes``, as ``weights_of(model)`` gives them.
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
        table = weights["embeddings"] @ weights["lstm_kernel"] + weights["lstm_bias"]  # [V, 4H]
        self.input_table, self.recurrent_kernel = map(_sigmoids_first, (table, weights["lstm_recurrent_kernel"]))
        self.dense_kernel, self.dense_bias = weights["dense_kernel"], weights["dense_bias"]

    def empty_state(self) -> tuple[np.ndarray, np.ndarray]:
        """Hidden and cell state before the first character of one stream: zeros, each float32 ``[1, H]``."""
        return (np.zeros((1, len(self.recurrent_kernel)), dtype=np.float32),) * 2

    def gates(self, ids, hidden: np.ndarray) -> list[np.ndarray]:
        """Input gate, forget gate, output gate and candidate, each ``[B, H]``, on reading ``ids``, integers ``[B]``."""
        values = self.input_table.take(ids, axis=0)
        values += hidden @ self.recurrent_kernel
        np.tanh(values, out=values)
        sigmoids = values[:, : 3 * hidden.shape[1]]
        sigmoids += 1
        sigmoids *= 0.5
        return [*values.reshape(len(values), 4, -1).swapaxes(0, 1)]

    def step(self, ids, state: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Logits ``[B, V]`` and the new state after reading ``ids``, integers ``[B]``, in ``state``, two ``[B, H]``."""
        hidden, cell = state
        i, f, o, candidate = self.gates(ids, hidden)
        cell = f * cell + i * candidate
        hidden = o * np.tanh(cell)
        return hidden @ self.dense_kernel + self.dense_bias, (hidden, cell)


def _sigmoids_first(columns: np.ndarray) -> np.ndarray:
    # Since sigmoid(x) = (tanh(x / 2) + 1) / 2, one tanh does for all gates: those of the sigmoid come first, halved.
    i, f, candidate, o = np.split(columns, 4, axis=1)
    return np.concatenate([i / 2, f / 2, o / 2, candidate], axis=1)


_blas, _one_at_a_time = ThreadpoolController(), threading.RLock()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it NumPy's matrix products use one thread. A step is too little work for two: where another program uses
    the processor, they wait for each other, and it takes ten times as long."""
    with _one_at_a_time, _blas.limit(limits=1, user_api="blas"):
        yield
