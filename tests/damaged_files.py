"""Files that look like ours and are not: python tests/damaged_files.py [COUNT] tries COUNT of them, 100,000 by default.

Each is a .safetensors file with any types of numbers, shapes and metadata, or one of ours; most are then damaged. What
reads them may give what was written, or raise ValueError, and nothing else.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from charlstm import Vocabulary
from charlstm.checkpoint import Checkpoint
from charlstm.model import StepwiseLSTM, check_weights
from charlstm.model_file import read_model_file, write_arrays

BITS = dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8) | dict.fromkeys(("F4", "F6_E2M3"), 4)
BITS |= dict.fromkeys(("I16", "U16", "F16", "BF16"), 16) | dict.fromkeys(("I32", "U32", "F32"), 32)
BITS |= dict.fromkeys(("F64", "I64", "U64", "C64"), 64)
SHAPES = StepwiseLSTM.weight_shapes(3, 2, 2)
DEEP = "[" * 100_000
VOCABULARIES = ['"abc"', '"abc"', '"abc"', '"cba"', '"ab"', "null", "3", "{", "[]", '["a", "b", "c"]', DEEP]
CARDS = ["{}", "{}", "{}", "[]", "3", "null", "{", '{"a": NaN}', DEEP]
FORMATS = ["charlstm 1"] * 4 + ["charlstm-checkpoint 2"] * 2 + ["charlstm 2", "charlstm", "", "other"]
FACTS = ['{"training": {}, "progress": {}}', "{}", '{"training": 3, "progress": []}', "[]", "3", "{", DEEP]


def strange_file(rng: np.random.Generator) -> bytes:
    """A valid .safetensors file of anything."""
    names = (
        [*SHAPES]
        if rng.random() < 0.8
        else [*rng.permutation([*SHAPES, "extra", "model 0", "model 1", "best 0", "best 2", ""])[:4]]
    )
    header, data = {}, b""
    odd = rng.choice(names) if rng.random() < 0.7 else None
    for name in names:
        dtype, shape = "F32", list(SHAPES.get(name, (2, 2)))
        if name == odd and rng.random() < 0.7:
            dtype = str(rng.choice([*BITS]))
        if name == odd and rng.random() < 0.5:
            shape = rng.integers(0, 5, size=rng.integers(0, 5)).tolist()
        size = -(-int(np.prod(shape, dtype=int)) * BITS[dtype] // 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += rng.bytes(size) if rng.random() < 0.1 else bytes(size)
    metadata = {"format": FORMATS, "vocabulary": VOCABULARIES, "card": CARDS, "facts": FACTS, "checksum": ["1"]}
    wanted = [name for name in metadata if rng.random() < {"facts": 0.3, "checksum": 0.05}.get(name, 0.97)]
    header["__metadata__"] = {name: metadata[name][rng.integers(len(metadata[name]))] for name in wanted}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def our_file(rng: np.random.Generator, path: Path) -> bytes:
    """A model, or a checkpoint."""
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    if rng.random() < 0.5:
        write_arrays(path, arrays, {"format": "charlstm 1", "vocabulary": '"abc"', "card": '{"text": "geese"}'})
    else:
        numbered = {f"best {i}": array for i, array in enumerate(arrays.values())} | {"optimizer 0": np.array(3)}
        Checkpoint(path, {}).write({"history": {"loss": [1.5]}}, numbered, Vocabulary("abc"))
    return path.read_bytes()


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    kind, place = rng.integers(5), int(rng.integers(len(data)))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + rng.bytes(int(rng.integers(1, 9))) + data[place:]
    if kind == 2:
        return data[:place] + data[place + int(rng.integers(1, 9)) :]
    damaged = bytearray(data)
    for _ in range(1 if kind == 3 else 5):
        damaged[rng.integers(min(len(data), 900))] ^= rng.integers(1, 256)
    return bytes(damaged)


def read(path: Path) -> list:
    """What the two readers say of the file: what they read, or None for a ValueError."""
    results = []
    for reader in (read_model_file, lambda path: Checkpoint(path, {}).read()):
        try:
            results.append(reader(path))
        except ValueError as error:
            assert str(path) in str(error)
            results.append(None)
    if results[0]:
        weights, vocabulary, card = results[0]
        check_weights(weights, vocabulary)
        assert {weight.dtype for weight in weights.values()} == {np.dtype("float32")} and isinstance(card, dict)
    return results


def try_files(count: int, seed: int = 0) -> Counter:
    """How often each reader accepted a file."""
    rng, accepted = np.random.default_rng(seed), Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for number in range(count):
            data = our_file(rng, path) if rng.random() < 0.3 else strange_file(rng)
            if rng.random() < 0.6:
                data = damage(rng, data)
            for older in Path(folder).iterdir():  # or a checkpoint would be read from the one before it
                older.unlink()
            path.write_bytes(data)
            try:
                model, checkpoint = read(path)
            except BaseException:
                print(f"file {number} of seed {seed}: {data[:2000]!r}")
                raise
            accepted.update(model=model is not None, checkpoint=checkpoint is not None)
    return accepted


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"of {count:,} files, none brought a reader to anything but ValueError; accepted: {try_files(count)}")
