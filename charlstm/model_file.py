"""A model in one .safetensors file: weights, vocabulary and card. Used in notebook 03_model."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary
from charlstm.model import StepwiseLSTM, build_model, check_weights, sizes_of, weights_of

if TYPE_CHECKING:
    import keras

PRETRAINED = Path(__file__).parent / "pretrained" / "grimm.safetensors"
FILE_FORMAT = "charlstm 1"


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
    check_weights(weights, len(vocabulary))
    vocab_size, embedding_dim, rnn_units = sizes_of(weights)
    architecture = f"Embedding({vocab_size}, {embedding_dim}), LSTM({rnn_units}), Dense({vocab_size})"
    versions = {name: version(name) for name in ("charlstm", "keras", "tensorflow")}
    card = {**(card or {}), "architecture": architecture, "versions": versions}
    metadata = {"format": FILE_FORMAT, "vocabulary": json.dumps(vocabulary.chars), "card": json.dumps(card)}
    write_whole(Path(path), save({name: weight.astype(dtype) for name, weight in weights.items()}, metadata))


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that, whatever happens meanwhile, the older file or the new one is there, whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: str | os.PathLike) -> tuple["keras.Sequential", Vocabulary]:
    """The model and vocabulary that ``save_model`` wrote to ``path``; its weights become float32 again.

    Raises FileNotFoundError, or ValueError for a file that is damaged or not of this format. (Notebook 03_model.)
    """
    weights, vocabulary, _ = read_model_file(path)
    model = build_model(*sizes_of(weights))
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
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file {path}: check the folder and the spelling")
    found, metadata = read_safetensors(path)
    found = {name: weight.astype(np.float32) for name, weight in found.items()}
    name, _, number = metadata.get("format", "").partition(" ")
    if name != "charlstm":
        raise ValueError(f"{path} is not a model of this package: use a file that charlstm.save_model wrote")
    if number != FILE_FORMAT.split()[1]:
        raise ValueError(f"{path} has the format {name} {number}, this package reads {FILE_FORMAT}: update charlstm")
    try:
        vocabulary, card = Vocabulary(json.loads(metadata["vocabulary"])), json.loads(metadata["card"])
        weights = {name: found.pop(name) for name in StepwiseLSTM.weight_names}
        check_weights(weights, len(vocabulary))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a whole model: {error}") from None
    if found:
        raise ValueError(f"{path} is not a model of this package: it also holds {', '.join(found)}")
    return weights, vocabulary, card


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays of a .safetensors file, and its metadata. Raises ValueError, naming it, if it is none or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off, damaged or no .safetensors file ({error})") from None
