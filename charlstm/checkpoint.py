"""A file from which an interrupted training goes on. Used in notebook 04_training."""

import json
import os
import zlib
from pathlib import Path

import numpy as np

from charlstm.model_file import read_safetensors, write_whole

FORMAT = "charlstm-checkpoint 1"


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
        data = save(arrays, {"format": FORMAT, "facts": facts, "checksum": _checksum(facts, arrays)})
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
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this package ({FORMAT})")
    if metadata.get("checksum") != _checksum(metadata.get("facts", ""), arrays):
        raise ValueError(f"{path} is damaged (wrong checksum)")
    return json.loads(metadata["facts"]), arrays


def _checksum(facts: str, arrays: dict[str, np.ndarray]) -> str:
    checksum = zlib.crc32(facts.encode())
    for name in sorted(arrays):
        checksum = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), checksum))
    return str(checksum)
