"""Several workers that train one model: notebooks/train_on_workers.py."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import charlstm

SCRIPT = Path(__file__).parent.parent / "notebooks" / "train_on_workers.py"
TEXT = "the goose-girl went to the well, and the goose went with her. " * 19
# 55 windows in batches of 9: of each, two workers get 5 and 4, and of the last one 1 and none.
SMALL = "--seq-length 20 --batch-size 9 --embedding-dim 8 --units 12 --held-out 0"
PATIENCE = 600  # seconds, for a machine that does much else; it is never needed where all goes well
linux_or_mac = pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow joins no workers on Windows")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    return tmp_path


@contextlib.contextmanager
def running(folder, commands, configs=None):
    """Processes that, whatever happens, have ended afterwards, with those that they have started."""
    started, options = [], {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    try:
        for command, config in zip(commands, configs or [""] * len(commands), strict=True):
            environment = os.environ | {"PYTHONUTF8": "1", "TF_CONFIG": config}
            command = [sys.executable, str(SCRIPT), *command.split()]
            started.append(subprocess.Popen(command, env=environment, start_new_session=True, **options))
        yield started
    finally:
        for process in started:
            kill(process)
            process.communicate()


def kill(process):
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()


def tf_configs():
    """What it says to two workers on this machine, with ports that are free."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        cluster = {"worker": [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, two)]}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}}) for number in range(2)]


def run(folder, command):
    """What one that ends well writes on the screen."""
    with running(folder, [command]) as [process]:
        out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors[-3000:]
    return out


def refusal(process):
    """The sentence with which it ends."""
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "Traceback" not in errors, errors[-3000:]
    assert errors.splitlines()[-1].startswith("train_on_workers.py: ")  # older TensorFlows write lines before it
    return errors


def read_until(process, start):
    """Read its lines up to the one that begins so."""
    assert any(line.startswith(start) for line in process.stdout), process.stderr.read()[-3000:]


def read_models(folder, *names):
    return [charlstm.read_model_file(folder / f"{name}.safetensors") for name in names]


@linux_or_mac
def test_two_workers_learn_what_one_learns(folder):
    for count in 1, 2:
        run(folder, f"text.txt {count}.safetensors {SMALL} --epochs 3 --local {count}")
    (weights, vocabulary, card), (others, _, other) = read_models(folder, 1, 2)
    np.testing.assert_allclose(other["loss"], card["loss"], rtol=0, atol=1e-6)
    for name in weights:
        np.testing.assert_allclose(others[name], weights[name], rtol=0, atol=1e-6, err_msg=name)
    # And this is what one learns without all that.
    keras.utils.set_random_seed(1)
    dataset = charlstm.make_dataset(vocabulary.encode(TEXT), seq_length=20, batch_size=9, seed=1)
    history = charlstm.train(charlstm.build_model(len(vocabulary), 8, 12), dataset, epochs=3)
    np.testing.assert_allclose(card["loss"], history["loss"], rtol=0, atol=1e-4)


@pytest.mark.long
@linux_or_mac
def test_after_a_kill_the_same_command_goes_on(folder):
    settings = f"{SMALL} --epochs 30 --local 2"
    run(folder, f"text.txt whole.safetensors {settings}")
    command = f"text.txt resumed.safetensors {settings} --checkpoint checkpoint"
    for last in 4, 9:
        with running(folder, [command]) as [process]:
            read_until(process, f"epoch {last} of 30:")
    assert "epoch 9 of 30:" not in run(folder, command)
    (weights, _, card), (others, _, other) = read_models(folder, "whole", "resumed")
    assert card["loss"] == other["loss"]
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


@linux_or_mac
@pytest.mark.parametrize("gone", [0, 1])
def test_one_that_goes_in_the_middle_is_reported(folder, gone):
    command = f"text.txt model.safetensors {SMALL} --epochs 10000"
    with running(folder, [command] * 2, tf_configs()) as processes:
        read_until(processes[0], "epoch 2 of 10000:")
        kill(processes[gone])
        assert "another worker has ended" in refusal(processes[1 - gone])


@linux_or_mac
def test_another_text_is_refused(folder):
    (folder / "other.txt").write_text(TEXT.replace("goose", "gosoe"), encoding="utf-8", newline="")
    commands = [f"{name}.txt model.safetensors {SMALL}" for name in ("text", "other")]
    with running(folder, commands, tf_configs()) as processes:
        assert "another text" in refusal(processes[1])
        assert "another worker has ended" in refusal(processes[0])


def test_a_worker_that_never_comes_is_named(folder):
    here, there = tf_configs()
    missing = json.loads(there)["cluster"]["worker"][1]
    with running(folder, ["text.txt model.safetensors --timeout 1"], [here]) as [process]:
        assert f"waited 1 seconds for {missing}:" in refusal(process)


def test_a_tf_config_that_names_no_workers_is_refused(folder):
    config, _ = tf_configs()
    changes = [("cluster", "party"), ("127.0.0.1:", "here"), ('"index": 0', '"index": 2')]
    configs = ["", "worker 1", *(config.replace(*change) for change in changes)]
    with running(folder, ["text.txt model.safetensors"] * len(configs), configs) as processes:
        for process in processes:
            assert '{"cluster": {"worker": [' in refusal(process)


def test_what_cant_be_used_is_refused_before_anything_starts(folder):
    (folder / "itself.safetensors").write_text(TEXT, encoding="utf-8", newline="")
    (folder / "folder.safetensors").mkdir()
    cases = {
        "text.txt text.txt": "another ending",
        "itself.safetensors itself.safetensors": "another kind",
        "text.txt missing/model.safetensors": "No such file",
        "text.txt folder.safetensors": "folder.safetensors",
        "text.txt itself.safetensors": "another kind",
        "missing.txt model.safetensors": "missing.txt",
        "text.txt model.safetensors --checkpoint text.txt": "text.txt",
        "text.txt model.safetensors --batch-size 1": "batch-size",
        "text.txt model.safetensors --units 0": "units",
        "text.txt model.safetensors --held-out 1": "held_out",
        "text.txt model.safetensors --epochs -1": "epochs",
    }
    if os.name == "posix":
        (folder / "link.safetensors").symlink_to("text.txt")
        cases["text.txt link.safetensors"] = "another ending"
    before = {path: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    with running(folder, [f"{command} --local 2" for command in cases]) as processes:
        for process, reason in zip(processes, cases.values(), strict=True):
            assert reason in refusal(process)
    assert before == {path: path.is_file() and path.read_bytes() for path in folder.iterdir()}
