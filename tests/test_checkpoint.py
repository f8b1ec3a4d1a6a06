"""The file from which a training goes on."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_checkpoint_goes_unseen(tmp_path, data):
    path = tmp_path / "checkpoint"
    for file in tmp_path.iterdir():
        file.unlink()
    Checkpoint(path, {"text": "geese"}).write({"epoch": 3}, {"a": np.arange(20), "b": np.ones(3, np.float32)})
    whole = path.read_bytes()
    if data.draw(st.booleans(), label="cut off"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(damaged)
    with pytest.raises(ValueError, match="checkpoint .*there is none before it: give another path, or delete it"):
        Checkpoint(path, {"text": "geese"}).read()


def test_a_model_is_no_checkpoint_and_the_other_way_round(tmp_path, model, vocabulary):
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    with pytest.raises(ValueError, match="is no checkpoint of this package"):
        Checkpoint(tmp_path / "model.safetensors", {}).read()
    Checkpoint(tmp_path / "checkpoint", {}).write({}, {"a": np.zeros(1)})
    with pytest.raises(ValueError, match="not a model of this package"):
        charlstm.load_model(tmp_path / "checkpoint")


def test_a_kill_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "checkpoint"
    code = (
        "import sys, numpy as np; from charlstm.checkpoint import Checkpoint; c = Checkpoint(sys.argv[1], {}); n = 0\n"
        "while True: n += 1; c.write({'n': n}, {'a': np.full(1_000_000, n)}); print(n, flush=True)"
    )
    for milliseconds in range(1, 31, 3):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline(), process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.kill()
        written = max(map(int, process.communicate()[0].split()), default=2)
        progress, arrays = Checkpoint(path, {}).read()
        assert progress["n"] >= written and (arrays["a"] == progress["n"]).all()
