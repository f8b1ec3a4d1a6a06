"""Several workers that train one model: charlstm.workers, and notebooks/train_on_workers.py.

Run as a program, this file is one of two workers, or two devices: python test_workers.py FOLDER (pair | devices)
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from resumable import ids as IDS
from resumable import text as TEXT
from resumable import vocabulary as VOCABULARY

import charlstm
from charlstm import update, workers

SCRIPT = Path(__file__).parent.parent / "notebooks" / "train_on_workers.py"
BEST = {"carry_state": True, "embedding_dropout": 0.1, "output_dropout": 0.3, "weight_drop": 0.2, "average": 0.9}
CARRIED = dataclasses.replace(charlstm.RECIPES["quick"], weight_decay=0.1, scale_factor=0.9, keep_best=False, **BEST)
TRAININGS = {  # recipe, and how many ids
    "smaller last batch": ("quick", 21 * (5 * 8 + 3)),
    "last batch of one window": ("quick", 21 * (4 * 8 + 1)),
    "state, dropout, averages": (CARRIED, 1500),
}
PAIR, DEVICES = list(TRAININGS)[::2], list(TRAININGS)[1:]
EPOCHS = 30  # of the training that is killed: a busy machine may see the first one late
PATIENCE = 600  # seconds, for a machine that does much else; it is never needed where all goes well
linux_or_mac = pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow joins no workers on Windows")


def prepare(strategy=None, recipe="quick", n_ids=1500, batch_size=8):
    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = charlstm.build_model(len(VOCABULARY), 8, 12, recipe)
    carry_state = getattr(recipe, "carry_state", False)
    return model, charlstm.make_dataset(IDS[:n_ids], 20, batch_size, seed=1, carry_state=carry_state)


def two_epochs(name, strategy=None):
    recipe, n_ids = TRAININGS[name]
    model, dataset = prepare(strategy, recipe, n_ids)
    history = charlstm.train(model, dataset, recipe, epochs=2, held_out_ids=IDS[-300:])
    return history, model.get_weights()


def refusal(*arguments, **settings):
    """What train says instead of training."""
    try:
        charlstm.train(*arguments, **settings)
    except (ValueError, OSError) as error:
        return str(error)


def work(folder: Path, kind: str) -> None:
    """What a worker of this file does."""
    if kind == "pair":
        strategy, names = workers.connect(PATIENCE), PAIR
        number = workers.Workers(strategy).number
    else:
        import tensorflow as tf

        [cpu] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy, number, names = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), "devices", DEVICES
    update.faster_matmul_dtype = lambda: "float32"
    results = {name: two_epochs(name, strategy) for name in names}
    refusals = {}
    if kind == "pair":
        refusals["text"] = refusal(*prepare(strategy, n_ids=1500 - number), epochs=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "version", lambda name: f"1.{number}")
            refusals["version"] = refusal(*prepare(strategy), epochs=1)
        refusals["batch size"] = refusal(*prepare(strategy, batch_size=7), epochs=1)
        place = folder if number else folder / "missing"
        refusals["checkpoint"] = refusal(*prepare(strategy), epochs=1, checkpoint=place / "checkpoint")
    text = json.dumps([{name: history for name, (history, _) in results.items()}, refusals])
    (folder / f"{number}.json").write_text(text, encoding="utf-8")
    arrays = {f"{name} {i}": array for name, (_, weights) in results.items() for i, array in enumerate(weights)}
    np.savez(folder / f"{number}.npz", **arrays)


@contextlib.contextmanager
def running(commands, settings):
    """Processes that, whatever happens, have ended afterwards, with those that they have started."""
    started, new_group = [], {"start_new_session": True} if os.name == "posix" else {}
    try:
        for command, more in zip(commands, settings, strict=True):
            environment = os.environ | {"PYTHONUTF8": "1"} | more
            output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
            started.append(
                subprocess.Popen([sys.executable, *map(str, command)], env=environment, **output, **new_group)
            )
        yield started
    finally:
        for process in started:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
            process.communicate()


def tf_configs(count=2):
    """For each of them its environment, with ports that are free."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    cluster = {"worker": addresses}
    return [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})} for i in range(count)
    ]


def finish(processes):
    """What they wrote on the screen and as errors, when all have ended well."""
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return outputs


def read_results(folder, number):
    histories, refusals = json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{number}.npz") as arrays:
        weights = {name: [arrays[f"{name} {i}"] for i in range(6)] for name in histories}
    return histories, weights, refusals


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The results of both workers, and what they wrote."""
    folder = tmp_path_factory.mktemp("pair")
    with running([[__file__, folder, "pair"]] * 2, tf_configs()) as processes:
        outputs = finish(processes)
    return [read_results(folder, number) for number in range(2)], outputs


@pytest.fixture(scope="module")
def alone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "faster_matmul_dtype", lambda: "float32")
        yield functools.cache(two_epochs)


def assert_same_training(history, weights, expected):
    expected_history, expected_weights = expected
    for name in "loss", "held_out_bits":
        assert history[name] == pytest.approx(expected_history[name], abs=1e-4)
    for ours, other in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-3)


@linux_or_mac
@pytest.mark.parametrize("name", PAIR)
def test_two_workers_learn_what_one_learns(pair, alone, name):
    for histories, weights, _ in pair[0]:
        assert_same_training(histories[name], weights[name], alone(name))


@linux_or_mac
def test_all_workers_have_the_same_in_the_end(pair):
    (histories, weights, _), (other_histories, other_weights, _) = pair[0]
    assert histories == other_histories
    for name in weights:
        assert all(map(np.array_equal, weights[name], other_weights[name])), name


@linux_or_mac
def test_only_the_first_worker_prints(pair):
    (first, _), (second, _) = pair[1]
    assert "epoch 2 of 2: training" in first
    assert second == ""


@linux_or_mac
def test_what_differs_is_refused_by_all_workers(pair):
    for _, _, refusals in pair[0]:
        assert refusals["text"].startswith("the workers differ (text '") and "' on worker 1)" in refusals["text"]
        assert "(charlstm '1.0' on worker 0, '1.1' on worker 1; keras '1.0'" in refusals["version"]
        assert refusals["batch size"] == "2 workers can't share batches of 7: give a batch_size that 2 divides"
        assert refusals["checkpoint"].startswith("there is no folder ")  # for the first worker


def test_two_devices_learn_what_one_learns(tmp_path, alone):
    with running([[__file__, tmp_path, "devices"]], [{}]) as processes:
        finish(processes)
    histories, weights, _ = read_results(tmp_path, "devices")
    for name in DEVICES:
        assert_same_training(histories[name], weights[name], alone(name))


@pytest.mark.long
@linux_or_mac
def test_after_a_kill_the_same_command_goes_on(tmp_path):
    text, checkpoint = tmp_path / "text.txt", tmp_path / "checkpoint"
    saved, whole = tmp_path / "model.safetensors", tmp_path / "whole.safetensors"
    text.write_text(TEXT, encoding="utf-8", newline="")
    sizes = ["--seq-length", "20", "--batch-size", "8", "--embedding-dim", "8", "--units", "12", "--held-out", "0"]
    settings = ["--epochs", EPOCHS, *sizes]
    command = [SCRIPT, text, saved, *settings, "--checkpoint"]
    places = checkpoint, tmp_path / "missing" / "checkpoint"  # on a machine of its own the second has no such file
    with running([[*command, place] for place in places], tf_configs()) as processes:
        while not checkpoint.exists() and processes[0].poll() is None:
            time.sleep(0.01)
        processes[1].kill()
        _, errors = processes[0].communicate(timeout=PATIENCE)
        assert processes[0].returncode == 1 and "another worker has ended" in errors.splitlines()[-1]
    assert not saved.exists()
    with running([[*command, checkpoint, "--local", "2"]], [{}]) as processes:
        [(out, _)] = finish(processes)
    done = int(out.split("Going on from checkpoint: ")[1].split()[0])
    assert 0 < done < EPOCHS and f"epoch {done} of {EPOCHS}:" not in out
    with running([[SCRIPT, text, whole, *settings, "--local", "2"]], [{}]) as processes:
        finish(processes)
    resumed, expected = (charlstm.load_model(path)[0].get_weights() for path in (saved, whole))
    assert all(map(np.array_equal, resumed, expected))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "but it is ''"),
        ("worker 1", "but it is 'worker 1'"),
        ({"task": {"type": "worker", "index": 0}}, r"KeyError\('cluster'\)"),
        ({"cluster": {"ps": ["a:1"]}, "task": {"type": "worker", "index": 0}}, "names 0, and this would be number 0"),
        ({"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}, "names 2, .* number 2"),
        ({"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "ps", "index": 0}}, r"KeyError\('ps'\)"),
        ({"cluster": {"worker": ["a:1", "b:2"]}}, r"KeyError\('task'\)"),
        ({"cluster": {"worker": ["here", "there"]}, "task": {"type": "worker", "index": 0}}, "invalid literal for int"),
    ],
)
def test_a_tf_config_that_names_no_workers_is_refused(monkeypatch, config, message):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config) if config else "")
    with pytest.raises(ValueError, match=f"TF_CONFIG must name all workers, and which .*{message}"):
        workers.connect()


def test_a_worker_that_never_comes_is_named(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    command = [SCRIPT, tmp_path / "text.txt", tmp_path / "model.safetensors", "--timeout", "1"]
    with running([command], tf_configs()[:1]) as [process]:
        out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and out == ""
    assert "waited 1 seconds for worker 1 at 127.0.0.1:" in errors and len(errors.splitlines()) == 1


def test_one_that_fails_ends_all_on_this_machine(tmp_path):
    command = [SCRIPT, "no text", tmp_path / "model.safetensors", "--local", "2", "--timeout", "0"]
    with running([command], [{}]) as [process]:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "train_on_workers.py: " in errors


def test_a_training_within_the_scope_is_refused(model):
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), pytest.raises(ValueError, match="call train outside of"):
        charlstm.train(model, charlstm.make_dataset(IDS, 20, 8))


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2])
