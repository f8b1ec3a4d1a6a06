"""Training: what comes of it, what is refused before it, and how it goes on after an interruption."""

import _thread
import dataclasses
import math
import re
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from resumable import __file__ as RESUMABLE
from resumable import batches, build, ids, run, text, vocabulary

import charlstm
from charlstm.recipes import RECIPES, find_recipe

HELD_OUT, BACKWARDS = (
    ids[-300:],
    ids[:300][::-1],
)  # the better a model learns, the less it expects a text read backwards
OTHER = charlstm.Vocabulary("abcdefghijklmnopq")  # as many characters as the text has


def fast(**changes):
    return dataclasses.replace(RECIPES["quick"], schedule=False, clip_norm=None, **changes)


class Watch(keras.callbacks.Callback):
    """Notes learning rates and weights, and does something before a step of an epoch: from 0, and -1 is the last."""

    def __init__(self, epoch=None, step=None, do=None):
        super().__init__()
        self.place, self.do, self.rates, self.weights = (epoch, step), do, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, step, logs=None):
        if self.place in [(self.epoch, step), (self.epoch, step - self.params["steps"])]:
            self.do(self.model)
        self.rates.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, step, logs=None):
        self.weights.append(self.model.get_weights())


def press_ctrl_c(model):
    raise KeyboardInterrupt


def equal(weights, others):
    return len(weights) == len(others) and all(map(np.array_equal, weights, others))


def same(trained, other):
    return trained[1] == other[1] and equal(trained[0].get_weights(), other[0].get_weights())


def test_it_learns_reports_and_writes(capsys):
    model, history = run(recipe=fast(average=0.9, scale_factor=0.9), epochs=3, sample_prompt="the goose")
    assert history["loss"][2] < history["loss"][0] and history["held_out_bits"][2] < history["held_out_bits"][0]
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in lines[::2]] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    for bits in history["loss"][0] / math.log(2), history["held_out_bits"][0]:
        assert f" {bits:.3f} bits, " in lines[0]
    assert re.search(r"[\d,]+ characters/s, \d+ s left$", lines[0]) and lines[4].endswith(" 0 s left")
    written = charlstm.Generator.from_model(model, vocabulary).generate("the goose", 60, temperature=0.5, seed=1)
    assert lines[5].strip() == written.strip() != lines[1].strip()


@pytest.mark.parametrize("scale_factor", [1.0, 0.5])
def test_the_model_gets_the_running_mean_of_its_weights_with_scaled_logits(scale_factor):
    watch, recipe = Watch(), fast(average=0.9, scale_factor=scale_factor)
    model, _ = run(None, recipe, 2, None, callbacks=[watch])
    mean = watch.weights[0]
    for weights in watch.weights[1:]:
        mean = [0.9 * old + 0.1 * new for old, new in zip(mean, weights, strict=True)]
    expected = [*mean[:-2], scale_factor * mean[-2], scale_factor * mean[-1]]
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_trained_model_keeps_its_weights_if_nothing_better_comes(capsys):
    model, _ = run(recipe=fast())
    before, bits = model.get_weights(), charlstm.bits_per_char(model, HELD_OUT)
    useless = batches(ids=vocabulary.encode("".join(sorted(text))))
    _, history = run(None, fast(), 2, model=model, dataset=useless)
    assert min(history["held_out_bits"]) > bits and equal(before, model.get_weights())
    out = capsys.readouterr().out
    assert f"{bits:.3f} bits per character" in out and "it came with" in out


FOREIGN, NAMELESS = charlstm.make_dataset(np.arange(90) % 20, 5), charlstm.make_dataset(np.arange(90) % 17, 5)
WRONG = {  # what is given to train, the error, and what it names
    "no folder": ({"checkpoint": "no/such/folder/a.safetensors"}, FileNotFoundError, "no folder"),
    "a folder": ({"checkpoint": "."}, IsADirectoryError, "is a folder"),
    "ending": ({"checkpoint": "a.h5"}, ValueError, "a.h5.safetensors"),
    "held out: short": ({"held_out_ids": ids[:1]}, ValueError, "at least 2"),
    "held out: negative": ({"held_out_ids": np.arange(90) % 20 - 5}, ValueError, "-5 to 14"),
    "held out: others": ({"held_out_ids": OTHER.encode("abc")}, ValueError, "of 17 characters"),
    "dataset: ids": ({"dataset": ids}, TypeError, "make_dataset"),
    "dataset: tf.data": ({"dataset": batches().batches}, TypeError, "ByHand"),
    "dataset: too large": ({"dataset": FOREIGN}, ValueError, "0 to 19"),
    "dataset: state": ({"dataset": batches("best")}, ValueError, "carry_state=False"),
    "prompt: empty": ({"sample_prompt": ""}, ValueError, "empty"),
    "prompt: unknown": ({"sample_prompt": "the Goose"}, ValueError, "'G'"),
    "prompt: no characters": ({"dataset": NAMELESS, "sample_prompt": "a"}, (TypeError, ValueError), "ocabulary"),
    "recipe: embedding": ({"recipe": "book"}, ValueError, "embeddings_stddev=0.6"),
    "recipe: dropout": ({"recipe": "best", "dataset": batches("best")}, ValueError, "output_dropout=0.0"),
    "recipe: state": ({"recipe": fast(carry_state=True)}, ValueError, "carry_state=True"),
    "epochs": ({"epochs": 0}, ValueError, "at least 1"),
    "dtype": ({"matmul_dtype": "float64"}, ValueError, "float32, bfloat16"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_and_leaves_the_model_as_it_was(model, wrong, error, message):
    before, watch = model.get_weights(), Watch()
    with pytest.raises(error, match=message):
        charlstm.train(model, **{"dataset": batches(), "callbacks": [watch]} | wrong)
    assert equal(before, model.get_weights()) and not watch.rates and not model.compiled
    assert charlstm.bits_per_char(model, OTHER.encode("abc")) > 0  # no characters are those of the model yet


def test_a_model_brings_its_recipe_and_keeps_to_the_characters_that_it_has_learned():
    model, others = build("book"), OTHER.encode(OTHER.chars * 3)
    assert len(charlstm.train(model, batches(ids=ids[:300]))["loss"]) == RECIPES["book"].epochs
    before = model.get_weights()
    for arguments in {"dataset": charlstm.make_dataset(others, 5)}, {"dataset": batches(), "held_out_ids": others}:
        with pytest.raises(ValueError, match="of 17 characters"):
            charlstm.train(model, **arguments)
    with pytest.raises(ValueError, match="of 17 characters"):
        charlstm.bits_per_char(model, others)
    assert equal(before, model.get_weights())


def test_callbacks_that_people_bring_see_all_and_their_weights_fit(tmp_path):
    recipe = dataclasses.replace(RECIPES["best"], average=None, scale_factor=1.0)
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    keeper = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    stopper = keras.callbacks.EarlyStopping("held_out_bits", mode="min")
    model, history = run(None, recipe, 9, BACKWARDS, callbacks=[logger, keeper, stopper])
    bits = history["held_out_bits"]
    assert np.argmin(bits) == len(bits) - 2 < 7  # it has stopped after the first epoch that was worse
    np.testing.assert_allclose(np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)["held_out_bits"], bits)
    plain = build("book")
    plain.load_weights(tmp_path / f"{len(bits)}.weights.h5")
    assert equal(plain.get_weights(), model.get_weights())
    loss = model.evaluate(batches().batches, verbose=0)
    assert loss == pytest.approx(charlstm.bits_per_char(model, ids[:-300]) * math.log(2), rel=0.1)


BEST = dataclasses.replace(RECIPES["best"], keep_best=True, average=0.9)
INTERRUPTED = {  # settings; epoch and step, counted from 0
    "at once": ({}, 0, 3),
    "quick": ({"sample_prompt": "the"}, 2, 0),
    "book": ({"recipe": "book"}, 1, -1),
    "best": ({"recipe": "best"}, 2, 5),
    "best, the best epoch": ({"recipe": BEST, "held_out_ids": BACKWARDS}, 3, 5),
    "best, nothing held out, bfloat16": ({"recipe": "best", "held_out_ids": None, "matmul_dtype": "bfloat16"}, 2, 1),
}


@pytest.mark.parametrize(("settings", "epoch", "step"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, settings, epoch, step, capsys):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.safetensors", callbacks=[Watch(epoch, step, press_ctrl_c)], **settings)
    assert "Interrupted" in capsys.readouterr().out
    model, history = resumed = run(tmp_path / "a.safetensors", **settings)
    assert same(resumed, run(**settings))
    assert (f"{epoch} of 4 epochs" in capsys.readouterr().out) == (epoch > 0)
    if bits := history.get("held_out_bits"):
        kept = min(bits) if find_recipe(settings.get("recipe", "quick")).keep_best else bits[-1]
        found = charlstm.bits_per_char(model, settings.get("held_out_ids", HELD_OUT))
        assert found == pytest.approx(kept, rel=1e-6)


def test_without_a_seed_the_order_goes_on_too(tmp_path):
    path, dataset = tmp_path / "a.safetensors", batches("best", seed=None)
    with pytest.raises(KeyboardInterrupt):
        run(path, "best", dataset=dataset, callbacks=[Watch(2, 3, press_ctrl_c)])
    expected = run(recipe="best", dataset=batches("best", seed=dataset.chosen_seed))
    assert same(run(path, "best", dataset=batches("best", seed=None)), expected)


def test_a_model_interrupted_while_it_is_measured_goes_on_itself(tmp_path):
    model, settings = build(BEST), {"recipe": BEST, "held_out_ids": np.tile(BACKWARDS, 25)}
    ctrl_c = Watch(2, -1, lambda model: threading.Timer(0.05, _thread.interrupt_main).start())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.safetensors", model=model, callbacks=[ctrl_c], **settings)
    assert charlstm.Generator.from_model(model, vocabulary).generate("the", 5)
    assert same(run(tmp_path / "a.safetensors", model=model, **settings), run(**settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of a training that has ended, and what came of it."""
    path = tmp_path_factory.mktemp("finished") / "a.safetensors"
    return path, run(path)


def test_what_is_finished_is_not_done_again(finished, capsys):
    path, trained = finished
    written, watch = path.read_bytes(), Watch()
    assert same(run(path, callbacks=[watch], dataset=batches(seed=np.int64(1))), trained) and not watch.rates
    assert "4 of 4 epochs" in capsys.readouterr().out and path.read_bytes() == written


CHANGES = {  # by what is named
    "layers": lambda: {"model": build(units=13)},
    "learning_rate 0.01 there|clip_norm 0.25 there": lambda: {"recipe": "book"},
    "ids ": lambda: {"dataset": batches(ids=ids[1:-300])},
    "seed 1 there, 2 here": lambda: {"dataset": batches(seed=2)},
    "held-out text": lambda: {"held_out_ids": ids[-200:]},
    "None here": lambda: {"held_out_ids": None},
    "matmul_dtype 'float32' there": lambda: {"matmul_dtype": "bfloat16"},
    "epochs=4": lambda: {"epochs": 3},
}


@pytest.mark.parametrize("named", CHANGES)
def test_the_checkpoint_of_another_training_is_refused(finished, named):
    path, written = finished[0], finished[0].read_bytes()
    with pytest.raises(ValueError, match=rf"a\.safetensors .*({named})"):
        run(path, **CHANGES[named]())
    assert path.read_bytes() == written


@pytest.mark.parametrize("place", [0, 8, -100])
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path, finished, model, place):
    damaged, before = bytearray(finished[0].read_bytes()), model.get_weights()
    damaged[place] ^= 1
    (tmp_path / "a.safetensors").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        run(tmp_path / "a.safetensors", model=model)
    assert (tmp_path / "a.safetensors").read_bytes() == damaged and equal(model.get_weights(), before)


@pytest.mark.parametrize("name", ["book", "quick"])
def test_more_epochs_go_on_and_a_schedule_stays_at_its_end(tmp_path, name):
    recipe, steps, watches = RECIPES[name], len(batches()), [Watch(2, 0, press_ctrl_c), Watch()]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.safetensors", name, callbacks=watches[:1])
    longer = run(tmp_path / "a.safetensors", name, epochs=6, callbacks=watches[1:])
    run(tmp_path / "b.safetensors", name)
    assert same(longer, run(tmp_path / "b.safetensors", name, epochs=6))  # whenever they are asked for
    rates = np.concatenate([watch.rates for watch in watches]) / recipe.learning_rate
    if recipe.schedule:
        assert np.argmax(rates) == steps and rates.max() == pytest.approx(1)
        assert rates[0] == pytest.approx(0.01) == rates[-1] == rates[4 * steps]
    else:
        assert same(longer, run(recipe=name, epochs=6)) and rates == pytest.approx(1)


def set_endless_rate(model):
    model.optimizer.learning_rate = math.inf


@pytest.mark.parametrize("step", [3, -1])
def test_nan_reaches_neither_the_model_nor_the_checkpoint(tmp_path, step):
    path, model = tmp_path / "a.safetensors", build()
    before = model.get_weights()
    with pytest.raises(FloatingPointError, match="epoch 1"):
        run(recipe=fast(learning_rate=math.inf), model=model)
    assert equal(model.get_weights(), before)
    before, written = run(path, fast(), 2, None)[0].get_weights(), path.read_bytes()
    with pytest.raises(FloatingPointError, match="epoch 3"):
        run(path, fast(), 4, None, model=model, callbacks=[Watch(2, step, set_endless_rate)])
    assert equal(model.get_weights(), before) and path.read_bytes() == written


@pytest.mark.long
def test_killed_at_ten_random_moments_it_ends_the_same(tmp_path):
    def start(folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, RESUMABLE, str(tmp_path / folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    seed = np.random.SeedSequence().entropy
    rng, reported = np.random.default_rng(seed), {}
    for _ in range(10):
        process = start("killed")
        lines = [process.stdout.readline() for _ in range(rng.integers(1, 12))]
        time.sleep(rng.uniform(0, 0.15))  # an epoch takes half as long
        process.kill()
        out = "".join(lines) + process.communicate()[0]
        assert process.returncode, seed
        done = re.findall(r"(\d+) of (\d+) epochs are", out)
        assert all(int(number) >= reported.get(epochs, 0) for number, epochs in done), seed  # none is lost
        reported |= {epochs: int(number) for number, epochs in re.findall(r"epoch (\d+) of (\d+)", out)}
    for folder in "killed", "whole":
        assert ("Going on" in start(folder).communicate()[0]) == (folder == "killed")
    results = [np.load(tmp_path / folder / "result.npz") for folder in ("killed", "whole")]
    assert reported and equal(*(list(result.values()) for result in results)), seed
