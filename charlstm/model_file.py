"""A model in one .safetensors file: weights, vocabulary and card. Used in notebook 04_model."""

import contextlib
import glob
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from charlstm.data import Vocabulary
from charlstm.model import StepwiseLSTM, build_model, check_weights, sizes_of, weights_of

if TYPE_CHECKING:
    import keras

PRETRAINED = Path(__file__).parent / "pretrained" / "grimm.safetensors"
FILE_FORMAT, CHECKPOINT_FORMAT = "charlstm 1", "charlstm-checkpoint 2"
DTYPES = "float32", "float16"


def save_model(
    path: str | os.PathLike,
    model: "keras.Sequential",
    vocabulary: Vocabulary,
    card: dict | None = None,
    dtype: str = "float32",
) -> None:
    """Write the weights, the vocabulary and a model card to one .safetensors file, which can hold no code.

    card: what a reader should know of the model (text, recipe, losses), a dictionary of anything that JSON can hold.
        The architecture and the versions of this package, Keras and TensorFlow are added to it.
    dtype: of the weights in the file, ``"float32"``, or ``"float16"``, which halves it.

    An older file at ``path`` is replaced whole or not at all. Raises ValueError or TypeError like ``weights_of`` and
    ``check_weights``, or for a card that JSON can't hold, and OSError like ``path_to_write``. Used in notebooks
    04_model and 05_training.
    """
    from importlib.metadata import version

    if dtype not in DTYPES:
        raise ValueError(f"the weights can be written as {' or '.join(DTYPES)}, not as {dtype!r}")
    path, weights = path_to_write(path), {name: weight.astype(dtype) for name, weight in weights_of(model).items()}
    check_weights(weights, vocabulary)
    vocab_size, embedding_dim, rnn_units = sizes_of(weights)
    architecture = f"Embedding({vocab_size}, {embedding_dim}), LSTM({rnn_units}), Dense({vocab_size})"
    versions = {name: version(name) for name in ("charlstm", "keras", "tensorflow")}
    card = json.dumps({**(card or {}), "architecture": architecture, "versions": versions}, default=plain)
    metadata = {"format": FILE_FORMAT, "vocabulary": json.dumps(vocabulary.chars), "card": card}
    write_arrays(path, weights, metadata)


def plain(value) -> object:
    """An array or a number of NumPy as JSON can hold it, for ``json.dumps(..., default=plain)``.

    Raises TypeError, naming it, for anything else.
    """
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"the card can't hold {value!r}: give numbers, texts, and lists or dictionaries of them")


def path_to_write(path: str | os.PathLike) -> Path:
    """``path``, with ``~`` for the home folder, if a file can be written there, which is tried.

    Raises IsADirectoryError, FileNotFoundError (no such folder) or PermissionError.
    """
    path = Path(path).expanduser().resolve()  # through links, and whatever the working folder will be
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it first, or give another path than {path}")
    try:
        _partial(path).touch()
        _partial(path).unlink()
    except OSError as error:
        raise PermissionError(f"{path} can't be written ({error.strerror}): give a path in another folder") from None
    return path


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


def write_arrays(
    path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str], previous: Path | None = None
) -> None:
    """Write a .safetensors file with a checksum. ``previous`` and errors as in ``write_whole``."""
    from safetensors.numpy import save

    write_whole(path, [save(arrays, metadata | {"checksum": _checksum(arrays, metadata)})], previous)


def write_whole(path: Path, parts: Iterable[bytes], previous: Path | None = None) -> None:
    """Write a file, of ``parts``, so that, whatever happens meanwhile (another error, a kill, a power cut), the older
    file or the new one is there, whole. ``previous``: where to keep the older one.

    Raises OSError, saying why, if it can't be written, as on a full disk; the older file is as it was then.
    """
    for old in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):  # of a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink()
    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            shutil.copyfile(path, previous)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be written, and is as it was: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: str | os.PathLike) -> tuple["keras.Sequential", Vocabulary]:
    """The model and vocabulary that ``save_model`` wrote to ``path``; its weights become float32 again.

    The file of a ``train(..., checkpoint=path)`` will do, too: it gives the best weights until then. For the model,
    ``train`` takes the recipe ``"fine_tune"`` if it is told no other.

    Raises FileNotFoundError, or ValueError for a file that is damaged or not of this format. (Notebook 04_model.)
    """
    weights, vocabulary, _ = read_model_file(path)
    model = build_model(*sizes_of(weights), recipe="fine_tune")
    model.set_weights(list(weights.values()))
    return model, vocabulary


def load_pretrained() -> tuple["keras.Sequential", Vocabulary]:
    """The model in this package, trained on Grimm's Fairy Stories, and its vocabulary. Used from 04_model on."""
    return load_model(PRETRAINED)


def read_card(path: str | os.PathLike = PRETRAINED) -> dict:
    """The model card in the file at ``path``, by default of the model in this package. Raises like ``load_model``."""
    return read_model_file(path)[2]


def read_model_file(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], Vocabulary, dict]:
    """Weights (as ``weights_of``), vocabulary and card from a file; no Keras needed. Raises like ``load_model``."""
    found, metadata = read_arrays(path, FILE_FORMAT, CHECKPOINT_FORMAT)
    try:
        if metadata["format"] == CHECKPOINT_FORMAT:  # the best weights, or those of the last epoch
            found = {name: found[f"best {i}"] for i, name in enumerate(StepwiseLSTM.weight_names)}
        # Only files of version 0.1.0 have no checksum.
        if metadata.keys() - {"checksum", "facts"} != {"format", "vocabulary", "card"}:
            raise ValueError(f"its metadata are {', '.join(metadata)}")
        if metadata["vocabulary"] == "null":
            raise ValueError("it has no vocabulary: call train again, with ids that vocabulary.encode(text) has made")
        vocabulary, card = Vocabulary(json.loads(metadata["vocabulary"])), json.loads(metadata["card"])
        if not isinstance(card, dict):
            raise ValueError("its card is no dictionary")
        if wrong := found.keys() ^ {*StepwiseLSTM.weight_names}:
            raise ValueError(f"it lacks, or should not hold, {', '.join(sorted(wrong))}")
        if not {str(weight.dtype) for weight in found.values()} <= {*DTYPES}:
            raise ValueError(f"its weights are not {' or '.join(DTYPES)}")
        weights = {name: found[name].astype(np.float32) for name in StepwiseLSTM.weight_names}
        check_weights(weights, vocabulary)
    except (ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole model: {error}") from None
    return weights, vocabulary, card


def read_arrays(path: str | os.PathLike, *formats: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays of a .safetensors file in one of these formats, and its metadata.

    Raises FileNotFoundError, or ValueError, naming it, if it is none, or damaged, as far as its checksum can tell.
    """
    from safetensors import safe_open

    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {path}: check the folder and the spelling")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:  # noqa: BLE001, such as AttributeError: NumPy lacks a type
        raise ValueError(f"{path} is cut off, damaged or no .safetensors file ({error})") from None
    if (found := metadata.get("format")) not in formats:
        wanted = "give a checkpoint of this version" + " or a model of charlstm" * (len(formats) > 1)
        raise ValueError(f"{path} has the format {found!r}, and {' or '.join(formats)} is read here: {wanted}")
    if metadata.get("checksum") not in (None, _checksum(arrays, metadata)):
        raise ValueError(f"{path} is damaged (wrong checksum)")
    return arrays, metadata


def _checksum(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    checksum = zlib.crc32(repr(sorted(item for item in metadata.items() if item[0] != "checksum")).encode())
    for name, array in sorted(arrays.items()):
        checksum = zlib.crc32(repr((name, array.dtype.str, array.shape)).encode(), checksum)
        checksum = zlib.crc32(array.tobytes(), checksum)
    return str(checksum)
