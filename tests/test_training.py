"""Training: what comes of it, what is refused before it, and how it goes on after an interruption."""

import _thread
import dataclasses
import math
import re
import sys
import threading
import time
from subprocess import DEVNULL, PIPE, Popen

import keras
import numpy as np
import pytest
from resumable import __file__ as RESUMABLE
from resumable import batches, build, ids, run, vocabulary

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


def test_it_learns_reports_writes_averages_and_scales(capsys):
    watch = Watch()
    model, history = run(None, fast(average=0.9, scale_factor=0.5), 3, sample_prompt="the goose", callbacks=[watch])
    assert history["loss"][2] < history["loss"][0] and history["held_out_bits"][2] < history["held_out_bits"][0]
    mean, *others = watch.weights
    for weights in others:
        mean = [0.9 * old + 0.1 * new for old, new in zip(mean, weights, strict=True)]
    for found, wanted in zip(model.get_weights(), [*mean[:-2], mean[-2] / 2, mean[-1] / 2], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in lines[::2]] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    bits = f"{history['loss'][0] / math.log(2):.3f} bits, held out {history['held_out_bits'][0]:.3f} bits, "
    assert re.search(rf"{bits}\d+ s left$", lines[0]) and lines[4].endswith(" 0 s left")
    written = charlstm.Generator.from_model(model, vocabulary).generate("the goose", 60, temperature=0.5, seed=1)
    assert lines[5].strip() == written.strip() != lines[1].strip()


WRONG = {  # what is given to train, the error, and what it names
    "no folder": ({"checkpoint": "no/such/folder/a.safetensors"}, FileNotFoundError, "No such file"),
    "a folder": ({"checkpoint": "."}, ValueError, "another ending"),
    "a model": ({"checkpoint": charlstm.PRETRAINED}, FileExistsError, "grimm.safetensors is a file of another kind"),
    "ending": ({"checkpoint": "a.h5"}, ValueError, "a.h5.safetensors"),
    "held out: negative": ({"held_out_ids": np.arange(90) % 20 - 5}, ValueError, "-5 to 14"),
    "held out: others": ({"held_out_ids": OTHER.encode("abc")}, ValueError, "without 'b.*with"),
    "dataset: tf.data": ({"dataset": batches().batches}, TypeError, "ByHand"),
    "dataset: too large": ({"dataset": charlstm.make_dataset(np.arange(90) % 20, 5)}, ValueError, "0 to 19"),
    "prompt: unknown": ({"sample_prompt": "the Goose"}, ValueError, "'G'"),
    "prompt: alone": ({"dataset": charlstm.make_dataset([0] * 6, 5), "sample_prompt": "a"}, TypeError, "ocabulary"),
    "recipe: dropout": ({"recipe": "best", "dataset": batches("best")}, ValueError, "output_dropout=0.0"),
    "recipe: state": ({"recipe": fast(carry_state=True)}, ValueError, "carry_state=True"),
    "epochs": ({"epochs": 0}, ValueError, "at least 1"),
    "recipe: a number": ({"recipe": 5}, TypeError, "epochs"),
    "dtype": ({"matmul_dtype": "float64"}, ValueError, "float32 or bfloat16"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_and_leaves_the_model_as_it_was(model, wrong, error, message):
    before, watch = model.get_weights(), Watch()
    with pytest.raises(error, match=message):
        charlstm.train(model, **{"dataset": batches(), "callbacks": [watch]} | wrong)
    assert equal(before, model.get_weights()) and not watch.rates and not model.compiled
    assert charlstm.bits_per_char(model, OTHER.encode("abc")) > 0  # no characters are those of the model yet


def test_a_trained_model_keeps_to_its_characters_and_to_its_weights_if_nothing_better_comes(capsys):
    model, others = build("book"), OTHER.encode(OTHER.chars * 3)
    assert len(charlstm.train(model, batches(ids=ids[:300]))["loss"]) == 20  # it brings its recipe
    before, bits = model.get_weights(), charlstm.bits_per_char(model, HELD_OUT)
    run(recipe=fast(learning_rate=3.0), model=model)
    assert re.search(f"{bits:.3f} bits per character\n(.*\n)*.*it came with", capsys.readouterr().out)
    train, new = charlstm.train, charlstm.make_dataset(others, 5)
    for call, *arguments in (train, new), (train, batches(), None, 1, others), (charlstm.bits_per_char, others):
        with pytest.raises(ValueError, match="of 17 characters"):
            call(model, *arguments)
    assert equal(before, model.get_weights())


def test_callbacks_that_people_bring_see_all_and_their_weights_fit(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    keeper = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    recipe, plain = dataclasses.replace(RECIPES["book"], keep_best=False), build()
    model, history = run(None, recipe, 2, callbacks=[logger, keeper])
    log = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    np.testing.assert_allclose(log["held_out_bits"], history["held_out_bits"])
    plain.load_weights(tmp_path / "2.weights.h5")
    assert equal(plain.get_weights(), model.get_weights())
    loss = model.evaluate(batches().batches, verbose=0)
    assert loss == pytest.approx(charlstm.bits_per_char(model, ids[:-300]) * math.log(2), rel=0.1)


LAST = dataclasses.replace(RECIPES["best"], learning_rate=0.05, average=0.95)
BEST = dataclasses.replace(LAST, keep_best=True)  # of what is measured backwards, neither the first nor the last
INTERRUPTED = {  # settings; epoch and step, counted from 0
    "at once": ({}, 0, 3),
    "quick": ({"sample_prompt": "the"}, 2, 0),
    "book": ({"recipe": "book"}, 1, -1),
    "best, the last epoch": ({"recipe": LAST, "held_out_ids": BACKWARDS}, 2, 5),
    "best, the best epoch": ({"recipe": BEST, "held_out_ids": BACKWARDS}, 3, 5),
    "best, nothing held out, bfloat16": ({"recipe": "best", "held_out_ids": None, "matmul_dtype": "bfloat16"}, 2, 1),
}


@pytest.mark.parametrize(("settings", "epoch", "step"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, settings, epoch, step, capsys):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a.safetensors", callbacks=[Watch(epoch, step, press_ctrl_c)], **settings)
    model, history = resumed = run(tmp_path / "a.safetensors", **settings)
    assert same(resumed, run(**settings))
    assert (f"{epoch} of 4 epochs" in capsys.readouterr().out) == (epoch > 0)
    if bits := history.get("held_out_bits"):
        kept = min(bits) if find_recipe(settings.get("recipe", "quick")).keep_best else bits[-1]
        assert charlstm.bits_per_char(model, settings.get("held_out_ids", HELD_OUT)) == pytest.approx(kept)


def test_a_model_interrupted_while_it_is_measured_goes_on_itself_in_the_order_that_was_drawn(tmp_path):
    model, settings = build(BEST), {"recipe": BEST, "held_out_ids": np.tile(BACKWARDS, 25)}
    path, dataset, other = tmp_path / "a.safetensors", batches(BEST, seed=None), batches(BEST, seed=None)
    ctrl_c = Watch(2, -1, lambda model: threading.Timer(0.03, _thread.interrupt_main).start())
    with pytest.raises(KeyboardInterrupt):
        run(path, model=model, dataset=dataset, callbacks=[ctrl_c], **settings)
    assert charlstm.Generator.from_model(model, vocabulary).generate("the", 5)
    expected = run(dataset=batches(BEST, seed=dataset.chosen_seed), **settings)
    assert same(run(path, model=model, dataset=other, **settings), expected)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What came of a training that has ended, and the bytes of its checkpoint."""
    path = tmp_path_factory.mktemp("finished") / "a.safetensors"
    return run(path), path.read_bytes()


def test_what_is_finished_is_not_done_again(tmp_path, finished, capsys):
    watch, path = Watch(), tmp_path / "a.safetensors"
    path.write_bytes(finished[1])
    assert same(run(path, dataset=batches(seed=np.int64(1)), callbacks=[watch]), finished[0]) and not watch.rates
    assert same(run(path, epochs=3), finished[0])
    assert "4 of 4 epochs" in (out := capsys.readouterr().out) and "4 of 3" in out and path.read_bytes() == finished[1]


CHANGES = {  # by what is named
    "layers": lambda: {"model": build(units=13)},
    "learning_rate 0.01 there|clip_norm 0.25 there": lambda: {"model": build("book"), "recipe": "book"},
    "ids ": lambda: {"dataset": batches(ids=ids[1:-300])},
    "seed 1 there, 2 here": lambda: {"dataset": batches(seed=2)},
    "held-out text": lambda: {"held_out_ids": ids[-200:]},
    "None here": lambda: {"held_out_ids": None},
    "matmul_dtype 'float32' there": lambda: {"matmul_dtype": "bfloat16"},
    "damaged": dict,
}


@pytest.mark.parametrize("named", CHANGES)
def test_another_or_damaged_checkpoint_is_refused_and_left_alone(tmp_path, finished, model, named):
    path, content, before = tmp_path / "a.safetensors", bytearray(finished[1]), model.get_weights()
    content[-100] ^= named == "damaged"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.safetensors .*({named})"):
        run(path, **{"model": model} | CHANGES[named]())
    assert path.read_bytes() == content and equal(model.get_weights(), before)


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


@pytest.mark.parametrize("step", [3, -1])
def test_nan_reaches_neither_the_model_nor_the_checkpoint(tmp_path, step):
    path, model = tmp_path / "a.safetensors", build()
    endless_rate = Watch(2, step, lambda model: setattr(model.optimizer, "learning_rate", math.inf))
    before, written = run(path, fast(), 2, None)[0].get_weights(), path.read_bytes()
    with pytest.raises(FloatingPointError, match="epoch 3"):
        run(path, fast(), 4, None, model=model, callbacks=[endless_rate])
    assert equal(model.get_weights(), before) and path.read_bytes() == written


@pytest.mark.long
def test_killed_at_ten_random_moments_it_ends_the_same(tmp_path):
    def start(folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        return Popen([sys.executable, RESUMABLE, tmp_path / folder], stdout=PIPE, stderr=DEVNULL, text=True)

    reported, rng = {}, np.random.default_rng(seed := np.random.SeedSequence().entropy)
    for _ in range(10):
        process = start("killed")
        lines = [process.stdout.readline() for _ in range(rng.integers(1, 12))]
        time.sleep(rng.uniform(0, 0.15))  # an epoch takes half as long
        process.kill()
        out = "".join(lines) + process.communicate()[0]
        for done, epochs in re.findall(r"(\d+) of (\d+) epochs are", out):
            assert int(done) >= reported.get(epochs, 0), seed  # none that was reported is lost
        reported |= {epochs: int(done) for done, epochs in re.findall(r"epoch (\d+) of (\d+)", out)}
        assert process.returncode, seed
    for folder in "killed", "whole":
        assert ("Going on" in start(folder).communicate()[0]) == (folder == "killed")
    results = [np.load(tmp_path / folder / "result.npz").values() for folder in ("killed", "whole")]
    assert reported and equal(*map(list, results)), seed
