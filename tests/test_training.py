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
import resumable

import charlstm
from charlstm.recipes import RECIPES, find_recipe

IDS, HELD_OUT, BACKWARDS = resumable.ids, resumable.ids[-300:], resumable.ids[:300][::-1]
OTHER = charlstm.Vocabulary("abcdefghijklmnopq")  # as many as the text has


def fast(**changes):
    return dataclasses.replace(RECIPES["quick"], schedule=False, clip_norm=None, **changes)


class Record(keras.callbacks.Callback):
    """Weights and learning rate at each step."""

    def __init__(self):
        super().__init__()
        self.weights, self.rates = [], []

    def on_train_batch_begin(self, step, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, step, logs=None):
        self.weights.append(self.model.get_weights())


class At(keras.callbacks.Callback):
    """Does something before a step of an epoch, both counted from 0; -1 is the last step."""

    def __init__(self, epoch, step, do):
        super().__init__()
        self.place, self.do = (epoch, step), do

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, step, logs=None):
        if self.place in [(self.epoch, step), (self.epoch, step - self.params["steps"])]:
            self.do(self.model)


def press_ctrl_c(model=None):
    raise KeyboardInterrupt


def equal(weights, others):
    return len(weights) == len(others) and all(map(np.array_equal, weights, others))


def test_it_learns_reports_and_writes(capsys):
    model, history = resumable.run(recipe=fast(average=0.9, scale_factor=0.9), epochs=3, sample_prompt="the goose")
    assert history["loss"][2] < history["loss"][0] and history["held_out_bits"][2] < history["held_out_bits"][0]
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in lines[::2]] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    for bits in history["loss"][0] / math.log(2), history["held_out_bits"][0]:
        assert f" {bits:.3f} bits, " in lines[0]
    assert re.search(r"[\d,]+ characters/s, \d+ s left$", lines[0]) and lines[4].endswith(" 0 s left")
    generator = charlstm.Generator.from_model(model, resumable.vocabulary)
    assert lines[5].strip() == generator.generate("the goose", 60, temperature=0.5, seed=1).strip() != lines[1].strip()


@pytest.mark.parametrize("scale_factor", [1.0, 0.5])
def test_the_model_gets_the_running_mean_of_its_weights_with_scaled_logits(scale_factor):
    record, recipe = Record(), fast(average=0.9, scale_factor=scale_factor)
    model, _ = resumable.run(recipe=recipe, epochs=2, callbacks=[record], held_out_ids=None)
    mean = record.weights[0]
    for weights in record.weights[1:]:
        mean = [0.9 * old + 0.1 * new for old, new in zip(mean, weights, strict=True)]
    expected = [*mean[:-2], scale_factor * mean[-2], scale_factor * mean[-1]]
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_trained_model_keeps_its_weights_if_nothing_better_comes(capsys):
    model, _ = resumable.run(recipe=fast())
    before, bits = model.get_weights(), charlstm.bits_per_char(model, HELD_OUT)
    useless = resumable.batches(train_ids=resumable.vocabulary.encode("".join(sorted(resumable.text))))
    history = charlstm.train(model, useless, fast(epochs=2), held_out_ids=HELD_OUT)
    assert min(history["held_out_bits"]) > bits and equal(before, model.get_weights())
    out = capsys.readouterr().out
    assert f"{bits:.3f} bits per character" in out and "it came with" in out


def test_fine_tuning_learns_another_text_of_the_same_characters():
    model, _ = resumable.run(recipe=fast())
    text = "the well went to the goose, and the girl went with the her. " * 40
    ids = resumable.vocabulary.encode(text)
    before = charlstm.bits_per_char(model, ids[:600])
    charlstm.train(model, resumable.batches(train_ids=ids[600:]), "fine_tune", held_out_ids=ids[:600])
    assert charlstm.bits_per_char(model, ids[:600]) < before - 0.1


def test_a_model_brings_its_recipe(capsys):
    charlstm.train(resumable.build("book"), resumable.batches(train_ids=IDS[:300]))
    assert "epoch 20 of 20" in capsys.readouterr().out


WRONG = {
    "no folder": ({"checkpoint": "no/such/folder/a.safetensors"}, FileNotFoundError, "no folder"),
    "a folder": ({"checkpoint": "."}, IsADirectoryError, "is a folder"),
    "ending": ({"checkpoint": "a.h5"}, ValueError, "a.h5.safetensors"),
    "held out: short": ({"held_out_ids": IDS[:1]}, ValueError, "at least 2"),
    "held out: a text": ({"held_out_ids": "the goose"}, TypeError, "vocabulary.encode"),
    "held out: rows": ({"held_out_ids": np.zeros((3, 4), int)}, TypeError, "vocabulary.encode"),
    "held out: negative": ({"held_out_ids": np.arange(90) % 20 - 5}, ValueError, "-5 to 14"),
    "held out: others": ({"held_out_ids": OTHER.encode("abc")}, ValueError, "of 17 characters, 'abc"),
    "dataset: ids": ({"dataset": IDS}, TypeError, "make_dataset"),
    "dataset: tf.data": ({"dataset": resumable.batches().batches}, TypeError, "ByHand"),
    "dataset: too large": ({"dataset": charlstm.make_dataset(np.arange(90) % 20, 5)}, ValueError, "0 to 19"),
    "prompt: empty": ({"sample_prompt": ""}, ValueError, "empty"),
    "prompt: unknown": ({"sample_prompt": "the Goose"}, ValueError, "'G'"),
    "prompt: a number": ({"sample_prompt": 5}, TypeError, "string"),
    "prompt: no characters": (
        {"dataset": charlstm.make_dataset(np.arange(90) % 17, 5), "sample_prompt": "the"},
        (TypeError, ValueError),
        "vocabulary",
    ),
    "recipe: unknown": ({"recipe": "slow"}, ValueError, "book, quick"),
    "recipe: epochs": ({"recipe": 5}, TypeError, "epochs=5"),
    "epochs": ({"epochs": 0}, ValueError, "at least 1"),
    "recipe: embedding": ({"recipe": "book"}, ValueError, "embeddings_stddev=0.6"),
    "recipe: dropout": ({"recipe": "best", "dataset": resumable.batches("best")}, ValueError, "output_dropout=0.0"),
    "recipe: state": ({"recipe": fast(carry_state=True)}, ValueError, "carry_state=True"),
    "dataset: state": ({"dataset": resumable.batches("best")}, ValueError, "carry_state=False"),
    "dtype": ({"matmul_dtype": "float64"}, ValueError, "float32, bfloat16"),
}


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_and_leaves_the_model_as_it_was(model, wrong, error, message):
    before, record = model.get_weights(), Record()
    with pytest.raises(error, match=message):
        charlstm.train(model, **{"dataset": resumable.batches(), "epochs": 1, "callbacks": [record]} | wrong)
    assert equal(before, model.get_weights()) and not record.rates and not model.compiled
    assert charlstm.bits_per_char(model, OTHER.encode("abc")) > 0  # no characters are those of the model yet


def test_a_model_keeps_to_the_characters_that_it_has_learned():
    model, _ = resumable.run(epochs=1)
    before, ids = model.get_weights(), OTHER.encode(OTHER.chars * 3)
    for refused in (
        lambda: charlstm.train(model, charlstm.make_dataset(ids, 5)),
        lambda: charlstm.bits_per_char(model, ids),
    ):
        with pytest.raises(ValueError, match="of 17 characters"):
            refused()
    assert equal(before, model.get_weights())


def test_callbacks_that_people_bring_see_all_and_their_weights_fit(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    keeper = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    stopper = keras.callbacks.EarlyStopping("held_out_bits", mode="min")
    recipe = dataclasses.replace(RECIPES["best"], average=None, scale_factor=1.0)
    model, history = resumable.run(recipe=recipe, epochs=9, held_out_ids=BACKWARDS, callbacks=[logger, keeper, stopper])
    bits = history["held_out_bits"]
    assert np.argmin(bits) == len(bits) - 2 < 7  # it has stopped after the first epoch that was worse
    log = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    np.testing.assert_allclose(log["held_out_bits"], bits)
    plain = resumable.build("book")
    plain.load_weights(tmp_path / f"{len(bits)}.weights.h5")
    assert equal(plain.get_weights(), model.get_weights())
    loss = model.evaluate(resumable.batches(seed=2).batches, verbose=0)
    assert loss == pytest.approx(charlstm.bits_per_char(model, IDS[:-300]) * math.log(2), rel=0.1)


BEST = {"recipe": dataclasses.replace(RECIPES["best"], keep_best=True, average=0.9), "held_out_ids": BACKWARDS}
INTERRUPTED = {  # settings; epoch and step, counted from 0
    "at once": ({}, 0, 3),
    "quick": ({"sample_prompt": "the"}, 2, 0),
    "book": ({"recipe": "book"}, 1, -1),
    "best": ({"recipe": "best"}, 2, 5),
    "best, the best epoch": (BEST, 3, 5),
    "best, nothing held out, bfloat16": ({"recipe": "best", "held_out_ids": None, "matmul_dtype": "bfloat16"}, 2, 1),
}


@pytest.mark.parametrize(("settings", "epoch", "step"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, settings, epoch, step, capsys):
    expected, history = resumable.run(**settings)
    path = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        resumable.run(path, callbacks=[At(epoch, step, press_ctrl_c)], **settings)
    assert "Interrupted" in capsys.readouterr().out
    model, resumed = resumable.run(path, **settings)
    assert resumed == history and equal(model.get_weights(), expected.get_weights())
    assert (f"{epoch} of 4 epochs" in capsys.readouterr().out) == (epoch > 0)
    if bits := history.get("held_out_bits"):
        kept = min(bits) if find_recipe(settings.get("recipe", "quick")).keep_best else bits[-1]
        held_out_ids = settings.get("held_out_ids", HELD_OUT)
        assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(kept, rel=1e-6)


def test_without_a_seed_the_order_goes_on_too(tmp_path):
    path, dataset = tmp_path / "a.safetensors", resumable.batches("best", seed=None)
    arguments = {"recipe": "best", "epochs": 4, "held_out_ids": HELD_OUT, "checkpoint": path}
    with pytest.raises(KeyboardInterrupt):
        charlstm.train(resumable.build("best"), dataset, callbacks=[At(2, 3, press_ctrl_c)], **arguments)
    model, history = resumable.run(path, "best", seed=None)
    expected, whole = resumable.run(recipe="best", seed=dataset.chosen_seed)
    assert history == whole and equal(model.get_weights(), expected.get_weights())


def test_a_model_interrupted_while_it_is_measured_goes_on_itself(tmp_path, capsys):
    settings = {"recipe": BEST["recipe"], "epochs": 4, "held_out_ids": np.tile(BACKWARDS, 25)}
    expected, history = resumable.run(**settings)
    model, dataset = resumable.build(settings["recipe"]), resumable.batches(settings["recipe"])
    ctrl_c = At(2, -1, lambda model: threading.Timer(0.05, _thread.interrupt_main).start())
    with pytest.raises(KeyboardInterrupt):
        charlstm.train(model, dataset, checkpoint=tmp_path / "a.safetensors", callbacks=[ctrl_c], **settings)
    assert charlstm.Generator.from_model(model, resumable.vocabulary).generate("the", 5)
    resumed = charlstm.train(model, dataset, checkpoint=tmp_path / "a.safetensors", **settings)
    assert resumed == history and equal(model.get_weights(), expected.get_weights())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkpoint of a training that has ended, its weights and its history."""
    path = tmp_path_factory.mktemp("finished") / "a.safetensors"
    model, history = resumable.run(path)
    return path, model.get_weights(), history


def test_what_is_finished_is_not_done_again(finished, capsys):
    path, weights, history = finished
    written, record = path.read_bytes(), Record()
    model, again = resumable.run(path, callbacks=[record], seed=np.int64(1))
    assert again == history and equal(model.get_weights(), weights) and not record.rates
    assert "4 of 4 epochs" in capsys.readouterr().out and path.read_bytes() == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 13}, "layers"),
        ({"recipe": "book"}, "learning_rate 0.01 there|clip_norm 0.25 there"),
        ({"train_ids": IDS[1:-300]}, "ids "),
        ({"held_out_ids": IDS[-200:]}, "held-out text"),
        ({"held_out_ids": None}, "None here"),
        ({"seed": 2}, "seed 1 there, 2 here"),
        ({"matmul_dtype": "bfloat16"}, "matmul_dtype 'float32' there"),
        ({"epochs": 3}, "epochs=4"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_the_checkpoint_of_another_training_is_refused(finished, change, message):
    path, written = finished[0], finished[0].read_bytes()
    with pytest.raises(ValueError, match=rf"a\.safetensors .*({message})"):
        resumable.run(path, **change)
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:-100] + bytes([b[-100] ^ 1]) + b[-99:], lambda b: b""]
)
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path, finished, model, damage):
    path, damaged, before = tmp_path / "a.safetensors", damage(finished[0].read_bytes()), model.get_weights()
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        charlstm.train(model, resumable.batches(), "quick", 4, HELD_OUT, path)
    assert path.read_bytes() == damaged and equal(model.get_weights(), before)


def test_more_epochs_go_on_without_a_schedule_as_if_asked_for_at_once(tmp_path):
    resumable.run(tmp_path / "a.safetensors", "book")
    model, history = resumable.run(tmp_path / "a.safetensors", "book", epochs=6)
    expected, whole = resumable.run(recipe="book", epochs=6)
    assert history == whole and equal(model.get_weights(), expected.get_weights())


def test_a_schedule_rises_and_falls_and_more_epochs_stay_at_its_end(tmp_path, capsys):
    path, rate, record = tmp_path / "a.safetensors", RECIPES["quick"].learning_rate, Record()
    with pytest.raises(KeyboardInterrupt):
        resumable.run(path, callbacks=[record, At(2, 0, press_ctrl_c)])
    model, history = resumable.run(path, epochs=6, callbacks=[record])
    steps = len(resumable.batches())
    rates = np.array(record.rates[: 2 * steps] + record.rates[-4 * steps :])
    assert (
        rates[0] == pytest.approx(rate / 100) == pytest.approx(rates[4 * steps :])
        and "schedule" in capsys.readouterr().out
    )
    assert np.argmax(rates) == steps and rates.max() == pytest.approx(rate)
    assert model.optimizer.global_clipnorm == RECIPES["quick"].clip_norm
    resumable.run(tmp_path / "b.safetensors")
    later, later_history = resumable.run(tmp_path / "b.safetensors", epochs=6)  # asked for at the end
    assert history == later_history and equal(model.get_weights(), later.get_weights())


def set_endless_rate(model):
    model.optimizer.learning_rate = math.inf


@pytest.mark.parametrize("step", [3, -1])
def test_nan_reaches_neither_the_model_nor_the_checkpoint(tmp_path, step):
    path, settings = tmp_path / "a.safetensors", {"recipe": fast(), "held_out_ids": None}
    before, _ = resumable.run(path, epochs=2, **settings)
    written, model = path.read_bytes(), resumable.build()
    with pytest.raises(FloatingPointError, match="epoch 3"):
        callbacks = [At(2, step, set_endless_rate)]
        charlstm.train(model, resumable.batches(), fast(), 4, checkpoint=path, callbacks=callbacks)
    assert path.read_bytes() == written and equal(model.get_weights(), before.get_weights())
    with pytest.raises(FloatingPointError):
        charlstm.train(model := resumable.build(), resumable.batches(), fast(learning_rate=math.inf))
    assert equal(model.get_weights(), resumable.build().get_weights())


@pytest.mark.long
def test_killed_at_ten_random_moments_it_ends_the_same(tmp_path):
    def start(folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        command = [sys.executable, resumable.__file__, str(tmp_path / folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    seed = np.random.SeedSequence().entropy
    rng, reported = np.random.default_rng(seed), {}
    for _ in range(10):
        process = start("killed")
        lines = [process.stdout.readline() for _ in range(rng.integers(1, 12))]
        time.sleep(rng.uniform(0, 0.15))  # an epoch takes half as long
        process.kill()
        out = "".join(lines) + process.communicate()[0]
        assert process.returncode and out, seed
        for done, epochs in re.findall(r"(\d+) of (\d+) epochs are", out):
            assert int(done) >= reported.get(epochs, 0), seed  # no epoch that was reported is lost
        reported |= {epochs: int(done) for done, epochs in re.findall(r"epoch (\d+) of (\d+)", out)}
    assert reported, seed
    for folder in "killed", "whole":
        assert ("Going on" in start(folder).communicate()[0]) == (folder == "killed")
    results = [np.load(tmp_path / folder / "result.npz") for folder in ("killed", "whole")]
    assert equal(*([result[name] for name in results[1].files] for result in results)), seed
