"""What is kept on disk: a model, and a training that is to go on. Used in notebooks 03_model and 04_training."""

import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary
from charlstm.model import WEIGHT_NAMES, build_model, weights_of

if TYPE_CHECKING:
    import keras

PRETRAINED = Path(__file__).parent / "pretrained" / "grimm.safetensors"
FILE_FORMAT = "charlstm 1"
CHECKPOINT_FORMAT = "charlstm-checkpoint 1"


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
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file {path}: check the folder and the spelling")
    found, metadata = _read_safetensors(path)
    found = {name: weight.astype(np.float32) for name, weight in found.items()}
    name, _, number = metadata.get("format", "").partition(" ")
    if name != "charlstm":
        raise ValueError(f"{path} is not a model of this package: use a file that charlstm.save_model wrote")
    if number != FILE_FORMAT.split()[1]:
        raise ValueError(f"{path} has the format {name} {number}, this package reads {FILE_FORMAT}: update charlstm")
    try:
        vocabulary, card = Vocabulary(json.loads(metadata["vocabulary"])), json.loads(metadata["card"])
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


class Checkpoint:
    """A file from which an interrupted training goes on as if nothing had happened (notebook 04_training).

    path: of the file; the one before it is kept beside it, with ``.previous`` at the end of its name.
    training: what must be the same when it goes on, such as the text and the recipe: names and values for JSON.
    """

    def __init__(self, path: str | os.PathLike, training: dict):
        self.path = Path(path)
        self.previous = self.path.with_name(self.path.name + ".previous")
        self.training = json.loads(json.dumps(training))  # as it comes back from a file: lists for tuples

    def write(self, progress: dict, arrays: dict[str, np.ndarray]) -> None:
        """Keep ``progress``, anything that JSON can hold, and ``arrays``. Whatever happens, one whole file is there."""
        from safetensors.numpy import save

        facts = json.dumps({"training": self.training, "progress": progress})
        data = save(arrays, {"format": CHECKPOINT_FORMAT, "facts": facts, "checksum": _checksum(facts, arrays)})
        if self.path.exists():
            write_whole(self.previous, self.path.read_bytes())
        write_whole(self.path, data)

    def read(self) -> tuple[dict, dict[str, np.ndarray]] | None:
        """What was last written, or None if nothing was. A damaged file is named, put aside, and the one before taken.

        Raises ValueError if it belongs to another training, saying what differs, or if no file is whole.
        """
        damaged = ""
        for path in filter(Path.exists, (self.path, self.previous)):
            try:
                facts, arrays = _read_checkpoint(path)
            except ValueError as error:
                damaged = str(error)
                continue
            if damaged:
                print(f"{damaged}. Going on from {path.name}, the one before it.")
                os.replace(self.path, self.path.with_name(self.path.name + ".damaged"))
            self._must_be_the_same(facts["training"])
            return facts["progress"], arrays
        if damaged:
            raise ValueError(f"{damaged}, and there is none before it: give another path, or delete it to start anew")
        return None

    def _must_be_the_same(self, training: dict) -> None:
        differing = [
            f"{name} {there!r} there, {here!r} here"
            for name in sorted(training.keys() | self.training.keys())
            if (there := training.get(name)) != (here := self.training.get(name))
        ]
        if differing:
            differing = "; ".join(differing)
            raise ValueError(f"{self.path} is the checkpoint of another training ({differing}): give another path")


def _read_checkpoint(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    arrays, metadata = _read_safetensors(path)
    if metadata.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path} is no checkpoint of this package ({CHECKPOINT_FORMAT})")
    if metadata.get("checksum") != _checksum(metadata.get("facts", ""), arrays):
        raise ValueError(f"{path} is damaged (wrong checksum)")
    return json.loads(metadata["facts"]), arrays


def _read_safetensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is cut off, damaged or no .safetensors file ({error})") from None


def _checksum(facts: str, arrays: dict[str, np.ndarray]) -> str:
    checksum = zlib.crc32(facts.encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), checksum))
    return str(checksum)
