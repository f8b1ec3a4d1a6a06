"""The step by hand within Keras's fit, and where Keras's own stands for it."""

import dataclasses
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import charlstm
from charlstm.train_step import ByHand, obstacle_by_hand

CYCLE = np.tile(np.arange(7), 60)
BOOK, BEST = charlstm.RECIPES["book"], charlstm.RECIPES["best"]
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def lstm(**settings):
    return keras.layers.LSTM(10, return_sequences=True, **settings)


def small_model(*between):
    keras.utils.set_random_seed(1)
    layers = keras.layers.Embedding(7, 6), *(between or [lstm()]), keras.layers.Dense(7)
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


def batches():
    return charlstm.make_dataset(CYCLE, seq_length=10, batch_size=8, seed=1)  # the last batch is smaller


def test_dropout_of_weights_is_scaled_and_another_in_each_step():
    hand, masks = ByHand(small_model(), BEST, batch_size=1, seed=5), []
    hand.compile("adam", LOSS, jit_compile=False)
    for step in 0, 0, 1:
        hand.optimizer.iterations.assign(step)
        masks.append(hand.weight_masks({"embeddings": np.ones((70, 60)), "lstm_recurrent_kernel": np.ones((50, 200))}))
    for name, rate in ("embeddings", BEST.embedding_dropout), ("lstm_recurrent_kernel", BEST.weight_drop):
        first, again, other = (np.array(mask[name]) for mask in masks)
        assert (first == again).all() and (first != other).any()
        assert [*np.unique(first), np.mean(first == 0)] == pytest.approx([0, 1 / (1 - rate), rate], abs=0.05)


@pytest.mark.parametrize("noise_shape", [None, (None, 1, None)], ids=["each step", "one mask for all steps"])
def test_fit_by_hand_is_kerass_own_fit_with_the_same_dropout_and_in_bfloat16_nearly(noise_shape):
    curves, models = [], [small_model(lstm(), keras.layers.Dropout(0.5, noise_shape, seed=3)) for _ in range(3)]
    begin = models[0].get_weights()
    settings = {"validation_data": batches().batches, "epochs": 3, "shuffle": False, "verbose": 0}
    for learner in models[0], ByHand(models[1]), ByHand(models[2], matmul_dtype="bfloat16"):
        learner.set_weights(begin)
        learner.compile(keras.optimizers.SGD(0.5), LOSS, jit_compile=False)
        history = learner.fit(batches().batches, **settings).history
        curves.append([*history["loss"], *history["val_loss"]])
    for expected, ours in zip(*(model.get_weights() for model in models[:2]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)
    assert curves[1] == pytest.approx(curves[0], rel=1e-4) and curves[0][2] < curves[0][0]
    assert curves[1] != curves[2] == pytest.approx(curves[0], rel=0.01)


def test_the_books_recipe_is_keras_with_its_defaults():
    model, dataset, optimizer, losses = small_model(), batches(), keras.optimizers.Adam(), []
    for inputs, targets in (batch for _ in range(2) for batch in dataset):
        with tf.GradientTape() as tape:
            loss = LOSS(targets, model(inputs))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        # Not fit: Keras's Adam squares the rows of a sparse gradient before it adds those of the same character.
        optimizer.apply([*map(tf.convert_to_tensor, gradients)], model.trainable_variables)
        losses.append((float(loss), len(inputs)))
    losses, sizes = np.reshape(losses, (2, -1, 2)).transpose(2, 0, 1)
    expected, without_input = np.average(losses, 1, sizes), keras.Sequential(small_model().layers)
    assert charlstm.train(without_input, batches(), "book", 2)["loss"] == pytest.approx(expected, 1e-5)


def test_a_carried_state_reads_the_text_as_one_sequence_and_begins_anew_in_each_epoch():
    model = small_model(lstm(bias_initializer="ones"))
    recipe = dataclasses.replace(BOOK, carry_state=True, learning_rate=0.0)
    dataset = charlstm.make_dataset(CYCLE[:41], seq_length=10, batch_size=1, shuffle=False, carry_state=True)
    nats = charlstm.bits_per_char(model, CYCLE[:41]) * np.log(2)
    assert charlstm.train(model, dataset, recipe, epochs=2)["loss"] == pytest.approx([nats, nats], rel=1e-5)


class Own(keras.Model):
    def build(self, shape):
        self.inner = small_model()

    def call(self, ids):
        return self.inner(ids)


OTHERS = {  # by what the line names
    "GRU": lambda: small_model(keras.layers.GRU(10, return_sequences=True)),
    "kernel_regularizer": lambda: small_model(lstm(kernel_regularizer="l2")),
    "trainable": lambda: small_model(lstm(trainable=False)),
    "relu": lambda: small_model(lstm(activation="relu")),
    "recurrent_dropout": lambda: small_model(lstm(recurrent_dropout=0.5)),
    "elsewhere": lambda: small_model(keras.layers.Dropout(0.1), lstm()),
    "mixed_bfloat16": lambda: small_model(lstm(dtype="mixed_bfloat16")),
    "InputLayer": lambda: keras.Model((model := small_model()).inputs, model.outputs),
    "Sequential": Own,
}


@pytest.mark.parametrize("reason", OTHERS)
def test_other_models_learn_by_kerass_own_step_or_are_refused_where_it_will_not_do(reason, capsys):
    model, recipe = OTHERS[reason](), dataclasses.replace(BOOK, learning_rate=0.03)
    losses = charlstm.train(model, batches(), recipe, epochs=2)["loss"]
    line, before = capsys.readouterr().out.splitlines()[0], model.get_weights()
    assert losses[1] < losses[0] and reason in line and len(line) < 250
    for change, dtype in ({"weight_drop": 0.1}, "float32"), ({}, "bfloat16"):
        with pytest.raises(ValueError, match=reason):
            charlstm.train(model, batches(), dataclasses.replace(recipe, **change), matmul_dtype=dtype)
    with pytest.raises(ValueError, match=reason):
        ByHand(model)
    assert all(map(np.array_equal, before, model.get_weights()))


def network_of(*memory, **settings):
    layers = [keras.layers.Embedding(70, 8), *memory, keras.layers.Dense(70)]
    return keras.Sequential([keras.Input(**settings), *layers] if settings else layers)


UNUSABLE = {
    "stateful": lambda: network_of(lstm(stateful=True)),
    "stateful, of so many rows": lambda: network_of(lstm(stateful=True), batch_shape=(8, None)),
    "only the last output": lambda: network_of(keras.layers.LSTM(9)),
    "another kind, only the last output": lambda: network_of(keras.layers.GRU(9), shape=(None,)),
}


@pytest.mark.parametrize("build", UNUSABLE.values(), ids=UNUSABLE)
def test_a_model_that_gives_no_logits_of_every_character_is_refused(build, capsys):
    with pytest.raises(ValueError, match=r"logits \[B, T, V\].*return_sequences=True.*stateful=True"):
        charlstm.train(build(), batches(), "book")
    assert not capsys.readouterr().out


def test_a_pipeline_that_is_not_batched_or_not_split_is_told_how(capsys):
    learner = ByHand(small_model())
    learner.compile("adam", LOSS)
    chunks = tf.data.Dataset.from_tensor_slices(CYCLE).batch(11, drop_remainder=True)
    for pipeline in chunks.map(charlstm.split_input_target), chunks.batch(8):
        with pytest.raises(ValueError, match=r"inputs, targets") as caught:
            learner.fit(pipeline, verbose=0)
        advice = re.search(r"dataset\S*", str(caught.value))[0]
        learner.compile("adam", LOSS)
        learner.fit(eval(advice, {"dataset": chunks, "charlstm": charlstm}), verbose=0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_in_every_precision_of_keras_it_goes_on_to_the_bit(policy, tmp_path, capsys, request):
    recipe, weights = dataclasses.replace(BOOK, learning_rate=0.03, average=0.9, scale_factor=0.9), []
    keras.config.set_dtype_policy(policy)
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    for path, epochs in ("a", 1), ("a", 2), ("b", 2):
        model, path = small_model(), tmp_path / f"{path}.safetensors"
        bits = charlstm.train(model, batches(), recipe, epochs, CYCLE, path)["held_out_bits"]
        weights.append(model.get_weights())
    assert all(map(np.array_equal, *weights[1:])) and bits[1] < bits[0] and policy in capsys.readouterr().out


def test_on_a_gpu_it_is_kerass_own_step_unless_only_the_one_by_hand_will_do(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [f"a {kind}"])
    assert "GPU" in obstacle_by_hand(small_model()) and obstacle_by_hand(small_model(), ignore_gpu=True) is None


@pytest.mark.long
def test_forty_trainings_leave_no_memory_behind():
    code = """if True:
        import charlstm, gc, numpy, psutil
        for number in range(43):
            dataset = charlstm.make_dataset(numpy.arange(130) % 70, 8, 8, seed=1)
            charlstm.train(charlstm.build_model(70, 256, 512), dataset, epochs=1)
            gc.collect()
            print("memory:", psutil.Process().memory_info().rss)"""
    pytest.importorskip("psutil", reason="psutil measures the memory")
    lines = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    memory = [int(line.split()[1]) for line in lines if line.startswith("memory")]
    assert memory[42] - memory[2] < 1e8
