"""Fitting and measuring, stopping and going on."""

import dataclasses
import functools
import math
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import resumable
import tensorflow as tf

import charlstm
from charlstm import step, training


@pytest.fixture
def ids(vocabulary, text):
    return vocabulary.encode(text)


def full_pass_bits(model, ids):
    log_probabilities = keras.ops.log_softmax(model(ids[None, :-1]))[0].numpy()
    return -log_probabilities[np.arange(len(ids) - 1), ids[1:]].mean() / math.log(2)


@pytest.mark.parametrize("recipe", ["book", "quick"])
def test_bits_carry_the_state_through_the_whole_text(vocabulary, ids, recipe):
    model = charlstm.build_model(len(vocabulary), 8, 12, recipe)
    assert charlstm.bits_per_char(model, ids[:200]) == pytest.approx(full_pass_bits(model, ids[:200]), rel=1e-5)


def test_bits_leave_the_model_as_it_was(model, ids):
    before = model.get_weights()
    charlstm.bits_per_char(model, ids[:100])
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_model_that_guesses_needs_log2_of_the_vocabulary(model, ids, vocabulary):
    model.layers[-1].set_weights([np.zeros_like(weight) for weight in model.layers[-1].get_weights()])
    assert charlstm.bits_per_char(model, ids[:100]) == pytest.approx(math.log2(len(vocabulary)), rel=1e-6)


def test_bits_while_learning_leave_the_model_as_it_was(model, ids):
    before, bits = model.get_weights(), charlstm.bits_per_char(model, ids[:900])
    assert charlstm.bits_per_char(model, ids[:900], learn=True) < bits
    still = charlstm.recipes.DynamicEvaluation(learning_rate=0)
    assert charlstm.bits_per_char(model, ids[:900], learn=still) == pytest.approx(bits, rel=1e-5)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_bits_of_less_than_two_characters_are_refused(model):
    with pytest.raises(ValueError, match="at least 2"):
        charlstm.bits_per_char(model, np.zeros(1, dtype=np.int32))


def fast_learner(**changes):
    return dataclasses.replace(charlstm.RECIPES["quick"], schedule=False, clip_norm=None, **changes)


def test_training_learns_and_reports(model, ids, capsys):
    train_ids, held_out_ids = charlstm.split(ids)
    dataset = charlstm.make_dataset(train_ids, seq_length=20, batch_size=8, seed=1)
    before = charlstm.bits_per_char(model, held_out_ids)
    history = charlstm.train(model, dataset, fast_learner(epochs=3), held_out_ids=held_out_ids)
    assert history["loss"][2] < history["loss"][0] and history["held_out_bits"][2] < before
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    seen, held_out = history["loss"][0] / np.log(2), history["held_out_bits"][0]
    assert f"training {seen:.3f} bits, held out {held_out:.3f} bits, " in lines[0]
    assert re.search(r"[\d,]+ characters/s, \d+ s left$", lines[0]) and lines[2].endswith(" 0 s left")


@pytest.mark.parametrize("average", [None, 0.9])
def test_a_line_of_text_after_each_epoch(average, capsys):
    vocabulary = charlstm.Vocabulary.from_text("a goose\n")
    ids = vocabulary.encode("a goose\ngoes\n" * 60)
    recipe = fast_learner(epochs=2, average=average)
    model = charlstm.build_model(len(vocabulary), 8, 12, recipe)
    charlstm.train(model, charlstm.make_dataset(ids, 20, 8, seed=1), recipe, sample_prompt="a\ngoose")
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines] == ["epoch 1", "    a g", "epoch 2", "    a g"]
    expected = charlstm.Generator.from_model(model, vocabulary).generate("a\ngoose", 60, temperature=0.5, seed=1)
    assert lines[3] == "    " + expected.replace("\n", " ") and lines[3] != lines[1]


def test_the_best_epoch_is_kept(model, ids, capsys):
    held_out_ids = ids[:100][::-1]  # the better the model learns, the less it expects a text read backwards
    dataset = charlstm.make_dataset(ids, seq_length=20, batch_size=8, seed=1)
    history = charlstm.train(model, dataset, fast_learner(epochs=4), held_out_ids=held_out_ids)
    best = min(history["held_out_bits"])
    assert best < history["held_out_bits"][-1]  # or else this test tests nothing
    assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(best, rel=1e-6)
    assert f"weights of epoch {history['held_out_bits'].index(best) + 1}" in capsys.readouterr().out


def test_a_trained_model_keeps_its_weights_if_nothing_better_comes(model, ids, capsys):
    train_ids, held_out_ids = charlstm.split(ids)
    charlstm.train(model, charlstm.make_dataset(train_ids, 20, 8, seed=1), fast_learner(epochs=4))
    before, bits = model.get_weights(), charlstm.bits_per_char(model, held_out_ids)
    capsys.readouterr()
    dataset = charlstm.make_dataset(np.sort(train_ids), 20, 8, seed=1)  # nothing to learn here
    history = charlstm.train(model, dataset, fast_learner(epochs=2), held_out_ids=held_out_ids)
    out = capsys.readouterr().out
    assert f"before the training: held out {bits:.3f} bits" in out and min(history["held_out_bits"]) > bits
    assert "The model has the weights it came with, the best on the held-out text." in out
    assert all(map(np.array_equal, before, model.get_weights()))


def test_fine_tuning_learns_another_text_of_the_same_characters(model, vocabulary, ids):
    charlstm.train(model, charlstm.make_dataset(ids, 20, 8, seed=1), fast_learner(epochs=10))
    other = vocabulary.encode("the well went to the goose, and the girl went with the her. " * 40)
    before, old_before = (charlstm.bits_per_char(model, part[:600]) for part in (other, ids))
    charlstm.train(model, charlstm.make_dataset(other[600:], 20, 8, seed=1), "fine_tune", held_out_ids=other[:600])
    after, old_after = (charlstm.bits_per_char(model, part[:600]) for part in (other, ids))
    assert after < before and old_after < old_before + 0.5


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"checkpoint": "no/such/folder/ck"}, FileNotFoundError, "there is no folder .*make it first"),
        ({"checkpoint": "."}, IsADirectoryError, "is a folder: give the path of a file in it"),
        ({"held_out_ids": np.zeros(1, np.int32)}, ValueError, "too short here: give at least 2"),
        ({"held_out_ids": "the goose"}, TypeError, r"vocabulary.encode\(text\) makes them, not .the goose."),
        ({"held_out_ids": np.zeros((3, 4), int)}, TypeError, r"makes them, not .\[\[0 0 0 0\]"),
        ({"held_out_ids": np.arange(90)}, ValueError, "run from 0 to 89, the model knows 17"),
        (
            {"held_out_ids": charlstm.Vocabulary("abc").encode("abc")},
            ValueError,
            "of 3 different characters, the model knows 17: encode",
        ),
        ({"dataset": np.arange(17)}, TypeError, r"must be of make_dataset\(ids\)"),
        ({"dataset": charlstm.make_dataset(np.arange(90) % 20, 5)}, ValueError, "run from 0 to 19, .* knows 17"),
        ({"dataset": charlstm.make_dataset(np.arange(90) % 20 - 5, 5)}, ValueError, "run from -5 to 14"),
        (
            {"dataset": charlstm.make_dataset(charlstm.Vocabulary("abc").encode("abcabc"), 2)},
            ValueError,
            "of 3 different",
        ),
        ({"dataset": charlstm.make_dataset(np.arange(90) % 20, 5).batches}, ValueError, "knows 17"),
        ({"sample_prompt": ""}, ValueError, "the prompt is empty"),
        ({"sample_prompt": "the Goose"}, ValueError, "'G' .* at position 4 is not one of the 17 characters"),
        ({"sample_prompt": 5}, TypeError, "only a string"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_is_refused_before_the_first_step(model, ids, wrong, error, message):
    before = model.get_weights()
    with pytest.raises(error, match=message):
        charlstm.train(model, **{"dataset": charlstm.make_dataset(ids), "epochs": 1} | wrong)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("dataset", [lambda d: charlstm.make_dataset(np.array(d.ids)), lambda d: d.batches])
def test_without_a_vocabulary_no_line_of_text_can_be_written(model, ids, dataset):
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"make_dataset\(vocabulary.encode\(text\)\)"):
        charlstm.train(model, dataset(charlstm.make_dataset(ids)), epochs=1, sample_prompt="the")
    assert all(map(np.array_equal, before, model.get_weights()))


def test_two_vocabularies_of_one_size_are_told_apart(model, ids):
    other = charlstm.Vocabulary("abcdefghijklmnopq").encode("abcdefghijklmnopq")
    with pytest.raises(ValueError, match="of two vocabularies"):
        charlstm.train(model, charlstm.make_dataset(ids), epochs=1, held_out_ids=other)


@pytest.mark.parametrize("change", [lambda d: d.repeat(), lambda d: d.filter(lambda *_: True), lambda d: d.take(0)])
def test_a_dataset_that_does_not_tell_its_length_is_refused(model, ids, change):
    with pytest.raises(ValueError, match="must tell its number of batches"):
        charlstm.train(model, change(charlstm.make_dataset(ids).batches), epochs=1)


def test_a_model_without_an_input_and_one_of_a_class(ids):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = [keras.layers.Embedding(17, 4), keras.layers.GRU(4, return_sequences=True)]
            self.stack += [keras.layers.Dense(17)]

        def call(self, ids):
            for layer in self.stack:
                ids = layer(ids)
            return ids

    layers = [keras.layers.Embedding(17, 4), keras.layers.LSTM(4, return_sequences=True), keras.layers.Dense(17)]
    for model, held_out_ids in (Model(), None), (keras.Sequential(layers), ids[:50]):
        for _ in range(2):
            history = charlstm.train(model, charlstm.make_dataset(ids, 20), epochs=1, held_out_ids=held_out_ids)
            assert len(history["loss"]) == 1


def test_held_out_text_is_refused_for_a_model_that_cannot_be_measured(ids):
    layers = [keras.layers.Embedding(17, 4), keras.layers.GRU(4, return_sequences=True), keras.layers.Dense(17)]
    model = keras.Sequential([keras.Input((None,)), *layers])
    before = model.get_weights()
    with pytest.raises(ValueError, match="Embedding, GRU, Dense"):
        charlstm.train(model, charlstm.make_dataset(ids), epochs=1, held_out_ids=ids)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_dataset_of_ones_own(model, ids, capsys):
    history = charlstm.train(model, charlstm.make_dataset(ids).batches.take(2), epochs=2)
    assert history.keys() == {"loss"} and len(history["loss"]) == 2
    assert "characters/s" not in capsys.readouterr().out


def test_the_books_recipe_is_keras_with_its_defaults(vocabulary, ids):
    def run(with_helper):
        keras.utils.set_random_seed(3)
        model = charlstm.build_model(len(vocabulary), 4, 6, recipe="book")
        dataset = charlstm.make_dataset(ids, 20, seed=3)
        if with_helper:
            return charlstm.train(model, dataset, "book", epochs=2)["loss"]
        # Not fit: Keras's Adam squares the rows of a sparse gradient before it adds those of the same character.
        optimizer, loss_function = keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        losses, sizes = [], []
        for inputs, targets in [batch for _ in range(2) for batch in dataset]:
            with tf.GradientTape() as tape:
                losses.append(loss_function(targets, model(inputs)))
            gradients = tape.gradient(losses[-1], [variable.value for variable in model.trainable_variables])
            optimizer.apply([*map(tf.convert_to_tensor, gradients)], model.trainable_variables)
            sizes.append(len(inputs))
        return np.average(np.reshape(losses, (2, -1)), axis=1, weights=np.reshape(sizes, (2, -1)))

    assert run(True) == pytest.approx(run(False), rel=1e-5)


def test_the_quick_schedule_rises_and_falls_and_clips(model):
    recipe = dataclasses.replace(charlstm.RECIPES["quick"], epochs=3)
    recipe.compile(model, steps=10)
    rates = []
    for number in range(31):
        model.optimizer.iterations.assign(number)
        rates.append(float(model.optimizer.learning_rate))
    assert rates[0] == pytest.approx(recipe.learning_rate / 100) == pytest.approx(rates[-1])
    assert int(np.argmax(rates)) == 10 and max(rates) == pytest.approx(recipe.learning_rate)
    assert model.optimizer.global_clipnorm == recipe.clip_norm


@pytest.mark.parametrize(
    ("recipe", "epochs", "message"), [("slow", None, "take one of book, quick"), ("book", 0, "at least 1")]
)
def test_bad_recipes_are_refused(model, ids, recipe, epochs, message):
    with pytest.raises(ValueError, match=message):
        charlstm.train(model, charlstm.make_dataset(ids), recipe, epochs)
    with pytest.raises(TypeError, match="did you mean epochs=5"):
        charlstm.train(model, charlstm.make_dataset(ids), 5)


def test_nan_stops_the_training_and_leaves_the_weights(model, ids):
    before = model.get_weights()
    with pytest.raises(
        FloatingPointError, match=r"the loss became \w+ in epoch 1 of \d+, step \d+ of 2: try a smaller"
    ):
        charlstm.train(model, charlstm.make_dataset(ids, 20, seed=1), fast_learner(learning_rate=math.inf))
    assert all(map(np.array_equal, before, model.get_weights()))


def same_weights(model, other):
    return all(map(np.array_equal, model.get_weights(), other.get_weights()))


@pytest.fixture(scope="module")
def uninterrupted():
    return resumable.run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoint of the training when it has ended."""
    path = tmp_path_factory.mktemp("finished") / "checkpoint"
    resumable.run(path)
    return path


@pytest.fixture
def interrupt(monkeypatch):
    """interrupt(n, ...): run, and press Ctrl-C after the n-th epoch, before it is kept."""

    def run(epochs_before, checkpoint, **settings):
        measured = []

        def measure_or_interrupt(model, ids):
            if len(measured) == epochs_before:
                raise KeyboardInterrupt
            measured.append(bits_per_char(model, ids))
            return measured[-1]

        bits_per_char = training.bits_per_char
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, "bits_per_char", measure_or_interrupt)
            resumable.run(checkpoint, **settings)

    return run


@pytest.mark.parametrize("epochs_before", [0, 3])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, interrupt, uninterrupted, epochs_before, capsys):
    interrupt(epochs_before, tmp_path / "checkpoint")
    assert f"Interrupted in epoch {epochs_before + 1}: the model has the weights" in capsys.readouterr().out
    model, history = resumable.run(tmp_path / "checkpoint")
    assert history == uninterrupted[1] and same_weights(model, uninterrupted[0])
    assert (f"{epochs_before} of 4 epochs are done" in capsys.readouterr().out) == (epochs_before > 0)


def test_an_interrupted_model_can_be_used(model, vocabulary, ids, monkeypatch):
    def press_the_button(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "bits_per_char", press_the_button)
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        charlstm.train(model, charlstm.make_dataset(ids), held_out_ids=ids)
    assert not all(map(np.array_equal, before, model.get_weights()))  # it has learned something
    assert len(charlstm.Generator.from_model(model, vocabulary).generate("the", length=5)) == 8


def test_an_interrupted_model_has_neither_averaged_nor_scaled_weights(vocabulary, ids, monkeypatch):
    def press_the_button(*_):
        raise KeyboardInterrupt

    def interrupted(**changes):
        keras.utils.set_random_seed(1)
        recipe = fast_learner(keep_best=False, epochs=1, **changes)
        model = charlstm.build_model(len(vocabulary), 4, 6, recipe)
        with pytest.raises(KeyboardInterrupt):
            charlstm.train(model, charlstm.make_dataset(ids, seed=1), held_out_ids=ids)
        return model

    monkeypatch.setattr(training, "bits_per_char", press_the_button)
    assert same_weights(interrupted(), interrupted(average=0.9, scale_factor=0.5))


def test_numbers_of_numpy_and_a_view_will_do_for_a_checkpoint(tmp_path, capsys):
    for _ in range(2):
        settings = {"seed": np.int64(1), "held_out_ids": resumable.ids[-300::2]}
        resumable.run(tmp_path / "checkpoint", epochs=1, **settings)
    assert "1 of 1 epochs are done" in capsys.readouterr().out


def test_without_a_seed_the_order_goes_on_too(tmp_path, interrupt, uninterrupted, monkeypatch):
    monkeypatch.setattr(np.random, "SeedSequence", lambda seed: SimpleNamespace(entropy=1))
    interrupt(2, tmp_path / "checkpoint", seed=None)
    monkeypatch.setattr(np.random, "SeedSequence", lambda seed: SimpleNamespace(entropy=98))  # as another process would
    assert same_weights(resumable.run(tmp_path / "checkpoint", seed=None)[0], uninterrupted[0])


def test_a_dataset_that_was_looked_at_gives_the_same_training(uninterrupted, monkeypatch):
    def make_and_look(*arguments, **settings):
        dataset = make_dataset(*arguments, **settings)
        next(iter(dataset))
        return dataset

    make_dataset = charlstm.make_dataset
    monkeypatch.setattr(charlstm, "make_dataset", make_and_look)
    assert resumable.run()[1] == uninterrupted[1]


def test_what_is_finished_is_not_done_again(finished, uninterrupted, capsys):
    written = finished.read_bytes()
    model, history = resumable.run(finished)
    assert history == uninterrupted[1] and same_weights(model, uninterrupted[0])
    assert "4 of 4 epochs are done" in capsys.readouterr().out
    assert finished.read_bytes() == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 13}, "LSTM units 12 there, 13 here"),
        ({"recipe": "book"}, "learning_rate 0.01 there, 0.001 here"),
        ({"train_ids": resumable.ids[1:-300]}, "text '"),
        ({"held_out_ids": resumable.ids[-200:]}, "held-out text '"),
        ({"held_out_ids": None}, "held-out text '.*' there, None here"),
        ({"seed": 2}, "seed 1 there, 2 here"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_the_checkpoint_of_another_training_is_refused(finished, change, message):
    written = finished.read_bytes()
    with pytest.raises(ValueError, match=f"checkpoint of another training .*{message}.* give another path"):
        resumable.run(finished, **change)
    assert finished.read_bytes() == written


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, interrupt, uninterrupted, capsys):
    path = tmp_path / "checkpoint"
    interrupt(3, path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    model, history = resumable.run(path)
    assert history == uninterrupted[1] and same_weights(model, uninterrupted[0])
    out = capsys.readouterr().out
    assert f"{path} is damaged (wrong checksum). Going on from checkpoint.previous" in out
    assert "2 of 4 epochs are done" in out
    assert (tmp_path / "checkpoint.damaged").read_bytes() == data


def test_nan_does_not_reach_the_checkpoint(tmp_path, interrupt, uninterrupted, monkeypatch):
    loss_and_its_gradient = step.loss_and_its_gradient
    path = tmp_path / "checkpoint"
    interrupt(2, path)
    written = path.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(FloatingPointError, match="in epoch 3 of 4, step 1 of"):
        patch.setattr(step, "loss_and_its_gradient", lambda *_: (math.nan, *loss_and_its_gradient(*_)[1:]))
        resumable.run(path)
    assert path.read_bytes() == written
    assert resumable.run(path)[1] == uninterrupted[1]


@pytest.mark.parametrize(("recipe", "says"), [("quick", "follows the schedule for 4 epochs"), ("book", "")])
def test_more_epochs_go_on(tmp_path, recipe, says, capsys):
    path = tmp_path / "checkpoint"
    first, _ = resumable.run(path, recipe=recipe)
    model, history = resumable.run(path, recipe=recipe, epochs=6)
    out = capsys.readouterr().out
    assert "4 of 6 epochs are done" in out and says in out and ("schedule" in out) == bool(says)
    assert len(history["loss"]) == 6 and not same_weights(model, first)
    again, same_history = resumable.run(path, recipe=recipe, epochs=6)
    assert same_history == history and same_weights(model, again)
    with pytest.raises(ValueError, match="has 6 epochs already, more than 5: give epochs=6"):
        resumable.run(path, recipe=recipe, epochs=5)
    if recipe == "book":  # without a schedule it is the training that would have been done at once
        whole, whole_history = resumable.run(recipe=recipe, epochs=6)
        assert history == whole_history and same_weights(model, whole)


def test_more_epochs_asked_for_in_the_middle(tmp_path, interrupt):
    interrupt(2, tmp_path / "one")
    (tmp_path / "two").write_bytes((tmp_path / "one").read_bytes())
    model, history = resumable.run(tmp_path / "one", epochs=6)
    resumable.run(tmp_path / "two")
    later, later_history = resumable.run(tmp_path / "two", epochs=6)
    assert history == later_history and same_weights(model, later)


def test_a_checkpoint_is_a_model(finished):
    model, vocabulary = charlstm.load_model(finished)
    history = charlstm.read_card(finished)["history"]
    assert vocabulary == resumable.vocabulary and len(history["loss"]) == 4
    bits = charlstm.bits_per_char(model, resumable.ids[-300:])
    assert bits == pytest.approx(min(history["held_out_bits"]), rel=1e-6)
    assert charlstm.Generator.load(finished).generate("the", 9, seed=1)


def test_a_checkpoint_of_ids_from_elsewhere_says_that_it_has_no_vocabulary(tmp_path):
    resumable.run(tmp_path / "checkpoint", epochs=1, train_ids=np.array(resumable.ids[:-300]))
    with pytest.raises(ValueError, match="it has no vocabulary: call train again"):
        charlstm.load_model(tmp_path / "checkpoint")


def test_the_best_recipe_resumed_and_writing_is_uninterrupted(tmp_path, interrupt, monkeypatch, capsys):
    best = dataclasses.replace(charlstm.RECIPES["best"], epochs=4)
    expected, history = resumable.run(recipe=best)
    monkeypatch.setattr(charlstm, "train", functools.partial(charlstm.train, sample_prompt="the goose"))
    interrupt(2, tmp_path / "checkpoint", recipe=best)
    model, resumed_history = resumable.run(tmp_path / "checkpoint", recipe=best)
    assert resumed_history == history and same_weights(model, expected)
    last = charlstm.bits_per_char(model, resumable.ids[-300:])
    assert last == pytest.approx(history["held_out_bits"][-1], rel=1e-6)  # not those of the best epoch
    assert capsys.readouterr().out.count("\n    the goose") == 4


def test_a_scale_factor_makes_the_finished_model_less_sure_and_changes_nothing_else(vocabulary, ids):
    def run(scale_factor):
        keras.utils.set_random_seed(1)
        recipe = fast_learner(epochs=2, keep_best=False, average=0.9, scale_factor=scale_factor)
        model = charlstm.build_model(len(vocabulary), 8, 12, recipe)
        history = charlstm.train(model, charlstm.make_dataset(ids[:2000], 10, 8, seed=1))
        return history["loss"], model(ids[None, :20])

    (loss, logits), (loss_of_scaled, scaled) = run(1.0), run(0.5)
    assert loss == loss_of_scaled
    np.testing.assert_allclose(scaled, 0.5 * logits, rtol=1e-5, atol=1e-6)


def test_averaged_weights_are_a_running_mean(vocabulary, ids):
    def run(epochs, **changes):
        keras.utils.set_random_seed(1)
        model = charlstm.build_model(len(vocabulary), 4, 6)
        dataset = charlstm.make_dataset(ids[:21], 20, 1, shuffle=False)  # one step an epoch
        charlstm.train(model, dataset, fast_learner(epochs=epochs, **changes))
        return model.get_weights()

    mean = run(1)
    for epochs in (2, 3):
        mean = [0.9 * old + 0.1 * new for old, new in zip(mean, run(epochs), strict=True)]
    for found, expected in zip(run(3, average=0.9), mean, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("recipe", "carry_state", "message"),
    [
        ("book", False, "built with embeddings_stddev=0.6, the recipe has None"),
        ("best", True, "built with output_dropout=0.0, the recipe has 0.5"),
        (fast_learner(carry_state=True), False, r"needs make_dataset\(ids, carry_state=True\)"),
        ("quick", True, r"needs make_dataset\(ids, carry_state=False\)"),
    ],
)
def test_a_recipe_that_is_not_the_models_or_the_datasets_is_refused(model, ids, recipe, carry_state, message):
    dataset = charlstm.make_dataset(ids, 20, 8, carry_state=carry_state)
    with pytest.raises(ValueError, match=message):
        charlstm.train(model, dataset, recipe, epochs=1)


def test_a_model_brings_its_recipe(vocabulary, ids, capsys):
    charlstm.train(charlstm.build_model(len(vocabulary), 4, 6, recipe="book"), charlstm.make_dataset(ids, 50, 64))
    assert "epoch 20 of 20" in capsys.readouterr().out


def test_a_checkpoint_needs_an_order_that_can_be_restored(tmp_path, model, ids):
    with pytest.raises(ValueError, match="needs a dataset of make_dataset"):
        charlstm.train(model, charlstm.make_dataset(ids).batches.take(2), checkpoint=tmp_path / "checkpoint")


@pytest.mark.long
def test_killed_at_ten_random_moments_it_ends_the_same(tmp_path):
    def start(checkpoint, result):
        command = [sys.executable, resumable.__file__, str(tmp_path / checkpoint), str(tmp_path / result)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout.readline().startswith(b"begins")
        return process

    kills, seconds = 0, np.random.default_rng().uniform(0.01, 1, size=10)
    for number, delay in enumerate(seconds):
        process = start("killed", "result.npz")
        if number % 2:
            process.stdout.readline()  # some epoch is done, or it goes on from one
        time.sleep(delay)
        process.kill()
        process.communicate()
        kills += process.returncode != 0
    for checkpoint, result in ("killed", "result.npz"), ("whole", "expected.npz"):
        out, _ = start(checkpoint, result).communicate()
        assert (b"Going on from" in out) == (checkpoint == "killed")
    result, expected = np.load(tmp_path / "result.npz"), np.load(tmp_path / "expected.npz")
    assert all(np.array_equal(result[name], expected[name]) for name in expected.files), seconds
    assert kills == 10, seconds
