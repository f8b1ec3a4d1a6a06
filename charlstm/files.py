"""A model, or the state of a training, in one .safetensors file. Used in notebooks 04_model and 05_training."""

import contextlib
import dataclasses
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from charlstm.data import Vocabulary
from charlstm.model import StepwiseLSTM, build_model, remember, sizes_of, weights_for

PRETRAINED = Path(__file__).parent / "pretrained" / "grimm.safetensors"
MODEL_FORMAT, STATE_FORMAT = "charlstm 1", "charlstm-checkpoint 3"


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """All that a training is made of at the end of an epoch.

    settings: what must be the same when it goes on, such as the text and the recipe; progress: how far it has come;
        both of what JSON can hold.
    variables: of model and optimizer. weights: that the model would have, were this the end.
    """

    settings: dict
    progress: dict
    variables: list[np.ndarray]
    weights: list[np.ndarray]


def save_model(path: str | os.PathLike, model: "keras.Model", vocabulary: Vocabulary, card: dict | None = None) -> None:
    """Write the weights, the vocabulary and a model card to one .safetensors file, which can hold no code.

    card: what a reader should know of the model (text, recipe, losses), a dictionary of anything that JSON can hold.
        The versions of this package, Keras and TensorFlow are added to it.

    An older model at ``path`` is replaced whole or not at all. Raises ValueError or TypeError like ``weights_for``, or
    for a card that JSON can't hold, and ValueError or OSError like ``path_to_write``. Used in notebooks 04_model and
    05_training.
    """
    from importlib.metadata import version

    path, weights = path_to_write(path, ".safetensors", MODEL_FORMAT), weights_for(model, vocabulary)
    versions = {name: version(name) for name in ("charlstm", "keras", "tensorflow")}
    facts = {"vocabulary": vocabulary.chars, "card": {**check_card(card), "versions": versions}}
    _write(path, weights, MODEL_FORMAT, facts)


def load_model(path: str | os.PathLike) -> tuple["keras.Sequential", Vocabulary]:
    """The model and vocabulary that ``save_model`` wrote to ``path``.

    For this model ``train`` takes the recipe ``"fine_tune"`` if it is told no other.

    Raises FileNotFoundError, or ValueError for a file that is damaged or not of this format. (Notebook 04_model.)
    """
    weights, vocabulary, _ = read_model_file(path)
    model = build_model(*sizes_of(weights), recipe="fine_tune")
    model.set_weights(list(weights.values()))
    remember(model, vocabulary=vocabulary)
    return model, vocabulary


def load_pretrained() -> tuple["keras.Sequential", Vocabulary]:
    """The model in this package, trained on Grimm's Fairy Stories, and its vocabulary. Used from 04_model on."""
    return load_model(PRETRAINED)


def read_card(path: str | os.PathLike = PRETRAINED) -> dict:
    """The model card in the file at ``path``, by default of the model in this package. Raises like ``load_model``."""
    return read_model_file(path)[2]


def read_model_file(path: str | os.PathLike = PRETRAINED) -> tuple[dict[str, np.ndarray], Vocabulary, dict]:
    """Weights (as ``weights_of``), vocabulary and card from a file; no Keras needed. Raises like ``load_model``."""
    with _naming(path, "whole model"):
        arrays, facts = _read(path, MODEL_FORMAT, "vocabulary", "card")
        vocabulary, card = Vocabulary(facts["vocabulary"]), dict(facts["card"])
        weights_for(arrays, vocabulary)
    return {name: arrays[name].astype(np.float32) for name in StepwiseLSTM.weight_names}, vocabulary, card


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state of a training to ``path``, of ``path_to_write``. Raises OSError if it can't be written."""
    arrays = {f"variable {i}": array for i, array in enumerate(state.variables)}
    arrays |= {f"weight {i}": array for i, array in enumerate(state.weights)}
    _write(path, arrays, STATE_FORMAT, {"settings": state.settings, "progress": state.progress})


def load_state(path: str | os.PathLike) -> TrainingState:
    """What ``save_state`` has written. Raises FileNotFoundError, or ValueError if the file is damaged or another."""
    with _naming(path, "whole checkpoint"):
        arrays, facts = _read(path, STATE_FORMAT, "settings", "progress")
        parts = _numbered(arrays, "variable"), _numbered(arrays, "weight")
        return TrainingState(dict(facts["settings"]), dict(facts["progress"]), *parts)


def _numbered(arrays: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    return [arrays[f"{kind} {i}"] for i in range(sum(name.startswith(kind) for name in arrays))]


def check_card(card: dict | None) -> dict:
    """``card``, or an empty one. Raises TypeError unless it is a dictionary."""
    if not isinstance(card, dict | None):
        raise TypeError(f"card must be a dictionary, such as {{'text': 'Grimm'}}, not {card!r}")
    return card or {}


def to_json(value) -> str:
    """``value`` as JSON, arrays and numbers of NumPy included. Raises TypeError, naming it, for what it can't hold."""

    def to_list(value):
        if isinstance(value, np.ndarray | np.generic):
            return value.tolist()
        raise TypeError(f"the card can't hold {value!r}: give numbers, texts, and lists or dictionaries of them")

    return json.dumps(value, default=to_list)


@contextlib.contextmanager
def _naming(path: str | os.PathLike, what: str) -> Iterator[None]:
    # Whatever is wrong with a strange file becomes one ValueError that names it.
    try:
        yield
    except (OSError, MemoryError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001
        raise ValueError(f"{path} is no {what}: {error}") from None


def path_to_write(path: str | os.PathLike, ending: str, mark: str = "") -> Path:
    """``path``, with ``~`` for the home folder, if a file can be written there, which is tried.

    mark: what stands in every file of the kind to be written; none of another kind is replaced.

    Raises ValueError for another ``ending``, FileExistsError (a file of another kind), FileNotFoundError (no such folder)
    or PermissionError.
    """
    path = Path(os.path.expanduser(path)).resolve()  # through links, and whatever the working folder will be
    if path.suffix != ending:
        raise ValueError(f"{path.name} has another ending than {ending}: give {path.name + ending!r}")
    older = path.read_bytes() if mark and path.exists() else b""
    if older and mark.encode() not in older:
        raise FileExistsError(f"{path} is a file of another kind: move it away, or give another path")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:  # of its own kind: FileNotFoundError, PermissionError ...
        raise type(error)(f"{path} can't be written ({error.strerror}): make its folder, or give another") from None
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator:
    """A file to write to, which in the end takes the place of ``path``: whatever happens meanwhile (an error, a kill, a
    power cut), the older file or the new one is there, whole. Raises OSError, saying why, if it can't be written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written, and is as it was: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, arrays: dict[str, np.ndarray], kind: str, facts: dict) -> None:
    from safetensors.numpy import save

    metadata = {"format": kind} | {name: to_json(fact) for name, fact in facts.items()}
    with replacing(path) as file:
        file.write(save(arrays, metadata | {"checksum": _checksum(arrays, metadata)}))


def _read(path: str | os.PathLike, kind: str, *names: str) -> tuple[dict[str, np.ndarray], dict]:
    # The arrays of a .safetensors file in this format, and its facts, of these names.
    from safetensors import safe_open

    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the folder and the spelling")
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if (found := metadata.pop("format", None)) != kind:
        raise ValueError(f"its format is {found!r}, but {kind!r} is needed")
    # Only files of version 0.1.0 have no checksum.
    if (checksum := metadata.pop("checksum", None)) not in (None, _checksum(arrays, {"format": kind} | metadata)):
        raise ValueError(f"it is damaged (checksum {checksum})")
    if metadata.keys() != {*names}:
        raise ValueError(f"it should tell {', '.join(names)}")
    return arrays, {name: json.loads(metadata[name]) for name in names}


def _checksum(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    checksum = zlib.crc32(repr(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        checksum = zlib.crc32(repr((name, array.dtype.str, array.shape)).encode(), checksum)
        checksum = zlib.crc32(array.tobytes(), checksum)
    return str(checksum)
