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
    vocab_size: int, embedding_dim: int = 256, rnn_units: int = 512, embeddings_initializer="unit_normal"
) -> "keras.Sequential":
    """Embedding, LSTM, Dense: from ids, int32 ``[B, T]``, to logits, float32 ``[B, T, vocab_size]`` (chapter 16).

    embeddings_initializer: ``"unit_normal"``, a normal distribution of standard deviation 1, makes the model learn
        faster than the book's choice, Keras's default ``"uniform"`` (from -0.05 to 0.05); or any other of Keras.

    Raises ValueError if a size is below 1.
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
        raise ValueError(
            f"only a model of Embedding, LSTM, Dense, as build_model makes it, will do, but this one has: {found}"
        )
    return model.layers


def save_model(
    path: str | os.PathLike,
    model: "keras.Sequential",
    vocabulary: Vocabulary,
    card: dict | None = None,
    dtype: str = "float32",
) -> None:
    """Write the weights, the vocabulary and a model card to one .safetensors file, which can hold no code.

    card: what a reader should know of the model (text, recipe, losses), of anything that JSON can hold.
    dtype: of the weights in the file; ``"float16"`` halves it.

    An older file at ``path`` is replaced whole or not at all. Raises ValueError if the model has other layers than
    ``build_model``'s, or another number of characters than the vocabulary.
    """
    from safetensors.numpy import save

    if layers_of(model)[-1].units != len(vocabulary):
        raise ValueError(
            f"the model knows {layers_of(model)[-1].units} characters, but the vocabulary {len(vocabulary)}"
        )
    weights = {name: weight.astype(dtype) for name, weight in zip(WEIGHT_NAMES, model.get_weights(), strict=True)}
    metadata = {"format": FILE_FORMAT, "vocabulary": vocabulary.to_json(), "card": json.dumps(card or {})}
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(weights, metadata))
    os.replace(partial, path)


def load_model(path: str | os.PathLike) -> tuple["keras.Sequential", Vocabulary]:
    """The model and vocabulary that ``save_model`` wrote to ``path``; its weights become float32 again.

    Raises FileNotFoundError, or ValueError for a file that is damaged or not of this format.
    """
    weights, metadata = _read_file(path)
    vocab_size, embedding_dim = weights["embeddings"].shape
    model = build_model(vocab_size, embedding_dim, rnn_units=len(weights["lstm_recurrent_kernel"]))
    model.set_weights([weights[name].astype(np.float32) for name in WEIGHT_NAMES])
    return model, Vocabulary.from_json(metadata["vocabulary"])


def load_pretrained() -> tuple["keras.Sequential", Vocabulary]:
    """The model that comes with this package, trained on Grimm's Fairy Stories, and its vocabulary."""
    return load_model(PRETRAINED)


def read_card(path: str | os.PathLike = PRETRAINED) -> dict:
    """The model card in the file at ``path``, by default of the model in this package. Raises like ``load_model``."""
    return json.loads(_read_file(path)[1]["card"])


def _read_file(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file {path}: check the folder and the spelling")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no .safetensors file ({error}): save the model again") from error
    if metadata.get("format") != FILE_FORMAT or set(weights) != set(WEIGHT_NAMES):
        raise ValueError(f"{path} is not a model file of the format {FILE_FORMAT!r}: use a file that save_model wrote")
    return weights, metadata
