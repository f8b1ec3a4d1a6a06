"""The file from which a training goes on."""

import subprocess
import sys
import time

import numpy as np
import pytest
from damaged_files import try_files

import charlstm
from charlstm.checkpoint import Checkpoint


def checkpoint_arrays(n):
    return {"a": np.full(1_000_000, n, np.int64), "b": np.arange(n)}


def test_checkpoint_gives_back_what_was_written(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {"text": "geese", "sizes": (1, 2)})
    assert checkpoint.read() is None
    for n in (3, 4):
        checkpoint.write({"epoch": n}, checkpoint_arrays(n))
    progress, arrays = Checkpoint(tmp_path / "checkpoint", {"text": "geese", "sizes": (1, 2)}).read()
    assert progress == {"epoch": 4} and np.array_equal(arrays["b"], np.arange(4)) and arrays["a"][0] == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint", "checkpoint.previous"]


def test_no_damage_to_a_single_byte_goes_unseen(tmp_path):
    path, rng = tmp_path / "checkpoint", np.random.default_rng(0)
    written = {"epoch": 3}, {"a": np.arange(20), "b": np.ones(3, np.float32)}
    Checkpoint(path, {"text": "geese"}).write(*written)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for change in rng.integers(1, 256, size=1):
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(damaged)
            try:
                progress, arrays = Checkpoint(path, {"text": "geese"}).read()
            except ValueError as error:
                assert "none before it: give another path, or delete it" in str(error)
                continue
            # One white space in the header may become another: then it reads as it was written.
            assert progress == written[0] and arrays.keys() == written[1].keys()
            assert all(array.dtype == written[1][name].dtype for name, array in arrays.items())
            assert all(np.array_equal(array, written[1][name]) for name, array in arrays.items())


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_checkpoint_that_is_cut_off_is_refused(tmp_path, length):
    path = tmp_path / "checkpoint"
    Checkpoint(path, {}).write({"epoch": 3}, {"a": np.arange(20)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="there is none before it: give another path, or delete it"):
        Checkpoint(path, {}).read()


def test_no_file_brings_a_reader_to_anything_but_value_error():
    accepted = try_files(1000, seed=int(np.random.default_rng().integers(10**6)))
    assert accepted["model"] > 50 and accepted["checkpoint"] > 25  # or else this tests little


def test_a_model_is_no_checkpoint_and_the_other_way_round(tmp_path, model, vocabulary):
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    with pytest.raises(ValueError, match="has the format 'charlstm 1', and charlstm-checkpoint 2 is read here"):
        Checkpoint(tmp_path / "model.safetensors", {}).read()
    Checkpoint(tmp_path / "checkpoint", {}).write({}, {"a": np.zeros(1)})
    with pytest.raises(ValueError, match="checkpoint is not a whole model"):
        charlstm.load_model(tmp_path / "checkpoint")


def test_a_kill_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "checkpoint"
    code = (
        "import sys, numpy as np; from charlstm.checkpoint import Checkpoint; c = Checkpoint(sys.argv[1], {}); n = 0\n"
        "while True: n += 1; c.write({'n': n}, {'a': np.full(1_000_000, n)}); print(n, flush=True)"
    )
    for milliseconds in range(1, 31, 6):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline(), process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.kill()
        written = max(map(int, process.communicate()[0].split()), default=2)
        progress, arrays = Checkpoint(path, {}).read()
        assert progress["n"] >= written and (arrays["a"] == progress["n"]).all()
        assert not [*tmp_path.glob("*.damaged")]  # it was not the one before that had to be taken


def test_the_home_folder_holds_a_checkpoint(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    Checkpoint("~/checkpoint", {}).write({}, {"a": np.zeros(1)})
    assert (tmp_path / "checkpoint").is_file()
