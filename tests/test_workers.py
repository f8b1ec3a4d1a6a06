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
# 55 windows in batches of 9: two workers get 5 and 4 of them, and of the last batch 1 and none.
SIZES = ["--seq-length", 20, "--batch-size", 9, "--embedding-dim", 8, "--units", 12, "--held-out", 0]
TEXT = "the goose-girl went to the well, and the goose went with her. " * 19
PATIENCE = 600  # seconds, for a machine that does much else; it is never needed where all goes well
linux_or_mac = pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow joins no workers on Windows")


@contextlib.contextmanager
def running(*commands, environments=({},)):
    """Processes that, whatever happens, have ended afterwards, with those that they have started."""
    started, new_group = [], {"start_new_session": True} if os.name == "posix" else {}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    try:
        for command, more in zip(commands, environments, strict=True):
            environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
            environment |= {"PYTHONUTF8": "1"} | more
            command = [sys.executable, str(SCRIPT), *map(str, command)]
            started.append(subprocess.Popen(command, env=environment, **pipes, **new_group))
        yield started
    finally:
        for process in started:
            kill(process)
            process.communicate()


def kill(process):
    """End it, and those that it has started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()


def tf_configs(count=2):
    """For each of them its environment, with ports that are free."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in free]}
    tasks = [{"type": "worker", "index": number} for number in range(count)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def run(*command):
    """What one that ends well writes on the screen."""
    with running(command) as [process]:
        out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors[-3000:]
    return out


def refusal(process):
    """The sentence that one that fails says."""
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and len(errors.splitlines()) == 1, errors[-3000:]
    return errors


def read_until(process, start):
    """Read its lines up to the one that begins so."""
    assert any(line.startswith(start) for line in process.stdout), process.stderr.read()[-3000:]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


@linux_or_mac
def test_two_workers_learn_what_one_learns(text, tmp_path):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for count, path in enumerate((one, two), 1):
        out = run(text, path, *SIZES, "--epochs", 3, "--local", count)
        assert "epoch 3 of 3:" in out
    np.testing.assert_allclose(charlstm.read_card(two)["loss"], charlstm.read_card(one)["loss"], rtol=0, atol=1e-6)
    (weights, vocabulary, _), (others, _, _) = charlstm.read_model_file(one), charlstm.read_model_file(two)
    for name in weights:
        np.testing.assert_allclose(others[name], weights[name], rtol=0, atol=1e-6, err_msg=name)
    # And it is what one learns without all this.
    keras.utils.set_random_seed(1)
    model = charlstm.build_model(len(vocabulary), 8, 12)
    history = charlstm.train(model, charlstm.make_dataset(vocabulary.encode(TEXT), 20, 9, seed=1), epochs=3)
    np.testing.assert_allclose(charlstm.read_card(two)["loss"], history["loss"], rtol=0, atol=1e-4)


@pytest.mark.long
@linux_or_mac
def test_after_a_kill_the_same_command_goes_on(text, tmp_path):
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    run(text, whole, *SIZES, "--epochs", 30, "--local", 2)
    command = text, resumed, *SIZES, "--epochs", 30, "--local", 2, "--checkpoint", tmp_path / "checkpoint"
    for last in 4, 9:
        with running(command) as [process]:
            read_until(process, f"epoch {last} of 30:")
    assert not resumed.exists()
    assert "epoch 9 of 30:" not in run(*command)
    assert charlstm.read_card(whole)["loss"] == charlstm.read_card(resumed)["loss"]
    (weights, *_), (others, *_) = charlstm.read_model_file(whole), charlstm.read_model_file(resumed)
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


@linux_or_mac
@pytest.mark.parametrize("gone", [0, 1])
def test_one_that_goes_in_the_middle_is_reported(text, tmp_path, gone):
    command = text, tmp_path / "model.safetensors", *SIZES, "--epochs", 10_000
    with running(command, command, environments=tf_configs()) as processes:
        read_until(processes[0], "epoch 2 of 10000:")
        kill(processes[gone])
        assert "another worker has ended" in refusal(processes[1 - gone])


@linux_or_mac
def test_another_text_on_another_worker_is_refused(text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("goose", "gosoe"), encoding="utf-8", newline="")
    commands = [(path, tmp_path / "model.safetensors", *SIZES) for path in (text, other)]
    with running(*commands, environments=tf_configs()) as processes:
        assert "another text" in refusal(processes[1])
        assert "another worker has ended" in refusal(processes[0])


def test_a_worker_that_never_comes_is_named(text, tmp_path):
    here, there = tf_configs()
    [_, missing] = json.loads(there["TF_CONFIG"])["cluster"]["worker"]
    with running((text, tmp_path / "model.safetensors", "--timeout", 1), environments=[here]) as [process]:
        assert f"waited 1 seconds for {missing}:" in refusal(process)


def test_a_tf_config_that_names_no_workers_is_refused(text, tmp_path):
    task, cluster = {"type": "worker", "index": 0}, {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    wrong = [
        {"task": task},
        {"cluster": cluster},
        {"cluster": {"worker": ["here", "there"]}, "task": task},
        {"cluster": cluster, "task": task | {"index": 2}},
        {"cluster": cluster | {"ps": ["127.0.0.1:3"]}, "task": task},
    ]
    environments = [{}, {"TF_CONFIG": "worker 1"}, *({"TF_CONFIG": json.dumps(config)} for config in wrong)]
    commands = [(text, tmp_path / "model.safetensors")] * len(environments)
    with running(*commands, environments=environments) as processes:
        for process in processes:
            assert '{"cluster": {"worker": [' in refusal(process)


def test_what_cant_be_used_is_refused_before_anything_starts(text, tmp_path):
    itself, folder, good = (tmp_path / f"{name}.safetensors" for name in ("itself", "folder", "good"))
    itself.write_text(TEXT, encoding="utf-8", newline="")
    folder.mkdir()
    cases = [
        ([text, text], "another ending"),
        ([itself, itself], "encode_file"),
        ([text, tmp_path / "missing" / "model.safetensors"], "there is no folder"),
        ([text, folder], "is a folder"),
        ([tmp_path / "missing.txt", good], "missing.txt"),
        ([text, good, "--checkpoint", text], "text.txt"),
        ([text, good, "--batch-size", 1], "batch-size"),
        ([text, good, "--units", 0], "units"),
        ([text, good, "--held-out", 1], "held_out"),
        ([text, good, "--epochs", -1], "epochs"),
    ]
    if os.name == "posix":
        (tmp_path / "link.safetensors").symlink_to(text)
        cases.append(([text, tmp_path / "link.safetensors"], "another ending"))
    before = sorted(tmp_path.iterdir())
    commands = [[*command, "--local", 2] for command, _ in cases]
    with running(*commands, environments=[{}] * len(cases)) as processes:
        for process, (_, reason) in zip(processes, cases, strict=True):
            assert reason in refusal(process)
    assert sorted(tmp_path.iterdir()) == before
    assert text.read_text(encoding="utf-8") == itself.read_text(encoding="utf-8") == TEXT
