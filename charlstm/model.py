"""The network, and one file to keep it in. Built by hand in notebook 03_model."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary

if TYPE_CHECKING:
    import keras

PRETRAINED = Path(__file__).parent / "pretrained" / "grimm.safetensors"
FILE_FORMAT = "charlstm 1"
WEIGHT_NAMES = ("embeddings", "lstm_kernel", "lstm_recurrent_kernel", "lstm_bias", "dense_kernel", "dense_bias")


def build_model(
    vocab_size: int,
    embedding_dim: int = 256,
    rnn_units: int = 512,
    embeddings_initializer: "str | keras.Initializer" = "unit_normal",
) -> "keras.Sequential":
    """Embedding, LSTM, Dense: from ids, int32 ``[B, T]``, to logits, float32 ``[B, T, vocab_size]`` (chapter 16).

    embeddings_initializer: ``"unit_normal"``, a normal distribution of standard deviation 1, makes the model learn
        faster than the book's choice, Keras's default ``"uniform"`` (from -0.05 to 0.05); or any other of Keras.

    Raises ValueError if a size is below 1. Built in notebook 03_model.
    """
    import keras

    if min(vocab_size, embedding_dim, rnn_units) < 1:
        raise ValueError(f"the sizes must be at least 1: {vocab_size=}, {embedding_dim=}, {rnn_units=}")
    if embeddings_initializer == "unit_normal":
        embeddings_initializer = keras.initializers.RandomNormal(stddev=1.0)
    return keras.Sequential(
        [
            keras.Input(shape=(None,), dtype="int32"),
            keras.layers.Embedding(vocab_size, embedding_dim, embeddings_initializer=embeddings_initializer),
            keras.layers.LSTM(rnn_units, return_sequences=True),
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


def save_model(
    path: str | os.PathLike,
    model: "keras.Sequential",
    vocabulary: Vocabulary,
    card: dict | None = None,
    dtype: str = "float32",
) -> None:
    """Write the weights, the vocabulary and a model card to one .safetensors file, which can hold no code.

    card: what a reader should know of the model (text, recipe, losses), of anything that JSON can hold. The
        architecture and the versions of this package, Keras and TensorFlow are added to it.
    dtype: of the weights in the file; ``"float16"`` halves it.

    An older file at ``path`` is replaced whole or not at all. Raises ValueError like ``weights_of`` and
    ``check_weights``. Used in notebooks 03_model and 04_training.
    """
    from importlib.metadata import version

    from safetensors.numpy import save

    weights = weights_of(model)
    check_weights(weights, vocabulary)
    vocab_size, embedding_dim = weights["embeddings"].shape
    architecture = (
        f"Embedding({vocab_size}, {embedding_dim}), LSTM({len(weights['dense_kernel'])}), Dense({vocab_size})"
    )
    versions = {name: version(name) for name in ("charlstm", "keras", "tensorflow")}
    card = {**(card or {}), "architecture": architecture, "versions": versions}
    metadata = {"format": FILE_FORMAT, "vocabulary": vocabulary.to_json(), "card": json.dumps(card)}
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(save({name: weight.astype(dtype) for name, weight in weights.items()}, metadata))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: str | os.PathLike) -> tuple["keras.Sequential", Vocabulary]:
    """The model and vocabulary that ``save_model`` wrote to ``path``; its weights become float32 again.

    Raises FileNotFoundError, or ValueError for a file that is damaged or not of this format. (Notebook 03_model.)
    """
    weights, vocabulary, _ = read_model_file(path)
    model = build_model(*weights["embeddings"].shape, rnn_units=len(weights["dense_kernel"]))
    model.set_weights(list(weights.values()))
    return model, vocabulary


def load_pretrained() -> tuple["keras.Sequential", Vocabulary]:
    """The model in this package, trained on Grimm's Fairy Stories, and its vocabulary. Used from 03_model on."""
    return load_model(PRETRAINED)


def read_card(path: str | os.PathLike = PRETRAINED) -> dict:
    """The model card in the file at ``path``, by default of the model in this package. Raises like ``load_model``."""
    return read_model_file(path)[2]


def read_model_file(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], Vocabulary, dict]:
    """Weights (as ``weights_of``), vocabulary and card from a file; no Keras needed. Raises like ``load_model``."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file {path}: check the folder and the spelling")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off, damaged or no .safetensors file ({error})") from None
    name, _, number = metadata.get("format", "").partition(" ")
    if name != "charlstm":
        raise ValueError(f"{path} is not a model of this package: use a file that charlstm.save_model wrote")
    if number != FILE_FORMAT.split()[1]:
        raise ValueError(f"{path} has the format {name} {number}, this package reads {FILE_FORMAT}: update charlstm")
    try:
        vocabulary, card = Vocabulary.from_json(metadata["vocabulary"]), json.loads(metadata["card"])
        weights = {name: found.pop(name) for name in WEIGHT_NAMES}
        check_weights(weights, vocabulary)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a whole model: {error}") from None
    if found:
        raise ValueError(f"{path} is not a model of this package: it also holds {', '.join(found)}")
    return weights, vocabulary, card


def check_weights(weights: dict[str, np.ndarray], vocabulary: Vocabulary) -> None:
    """Raises ValueError, naming what is wrong, unless ``weights`` are finite and fit each other and ``vocabulary``."""
    vocab_size, embedding_dim = weights["embeddings"].shape
    rnn_units = len(weights["dense_kernel"])
    if vocab_size != len(vocabulary):
        raise ValueError(f"the model knows {vocab_size} characters, but the vocabulary {len(vocabulary)}")
    blocks = 4 * rnn_units
    shapes = (embedding_dim, blocks), (rnn_units, blocks), (blocks,), (rnn_units, vocab_size), (vocab_size,)
    for name, shape in zip(WEIGHT_NAMES, [weights["embeddings"].shape, *shapes], strict=True):
        if weights[name].shape != shape:
            raise ValueError(f"{name} has the shape {weights[name].shape}, but {shape} fits the other weights")
        if not np.isfinite(weights[name]).all():
            raise ValueError(f"{name} holds NaN or infinity: the training went wrong, try a smaller learning rate")
