"""The step by hand within Keras's fit, and where Keras's own stands for it."""

import dataclasses
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


def batches(**settings):
    return charlstm.make_dataset(CYCLE, seq_length=10, batch_size=8, seed=1, **settings)  # the last batch is smaller


def loss_and_gradients(model, inputs, targets):
    with tf.GradientTape() as tape:
        loss = LOSS(targets, model(inputs, training=True))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return loss, [*map(tf.convert_to_tensor, gradients)]


@pytest.mark.parametrize("noise_shape", [None, (None, 1, None)], ids=["each step", "one mask for all steps"])
def test_dropout_layers_drop_as_in_keras(noise_shape):
    models = [small_model(lstm(seed=1), keras.layers.Dropout(0.5, noise_shape, seed=3)) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    hand, losses = ByHand(models[0]), []
    for inputs, targets in [next(iter(batches()))] * 2:
        ours, expected = hand.loss_and_gradients(inputs, targets), loss_and_gradients(models[1], inputs, targets)
        for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
        losses.append(float(ours[0]))
    assert losses[0] != losses[1]  # each draws another mask


def test_dropout_of_weights_is_scaled_and_another_in_each_step():
    recipe, weights = dataclasses.replace(BEST, weight_drop=0.5), {"lstm_recurrent_kernel": np.ones((50, 200))}
    weights["embeddings"], hand, masks = np.ones((70, 60)), ByHand(small_model(), recipe, seed=5), []
    hand.compile("adam", LOSS, jit_compile=False)
    for step in 0, 0, 1:
        hand.optimizer.iterations.assign(step)
        masks.append(hand.weight_masks(weights))
    for name, rate in ("embeddings", 0.2), ("lstm_recurrent_kernel", 0.5):
        first, again, other = (np.array(mask[name]) for mask in masks)
        assert np.array_equal(first, again) and not np.array_equal(first, other)
        assert np.unique(first) == pytest.approx([0, 1 / (1 - rate)])
        assert np.mean(first == 0) == pytest.approx(rate, abs=0.05)


def test_fit_by_hand_is_kerass_own_fit_and_in_bfloat16_nearly():
    curves, models = [], [small_model() for _ in range(3)]
    settings = {"validation_data": batches().batches, "epochs": 3, "shuffle": False, "verbose": 0}
    for learner in models[0], ByHand(models[1]), ByHand(models[2], matmul_dtype="bfloat16"):
        learner.compile(keras.optimizers.SGD(0.5), LOSS, jit_compile=False)
        history = learner.fit(batches().batches, **settings).history
        curves.append([*history["loss"], *history["val_loss"]])
    for expected, ours in zip(*(model.get_weights() for model in models[:2]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)
    assert curves[1] == pytest.approx(curves[0], rel=1e-4) and curves[0][2] < curves[0][0]
    assert curves[1] != curves[2] == pytest.approx(curves[0], rel=0.01)


def test_the_books_recipe_is_keras_with_its_defaults():
    # Not fit: Keras's Adam squares the rows of a sparse gradient before it adds those of the same character.
    model, dataset, optimizer, losses = small_model(), batches(), keras.optimizers.Adam(), []
    for inputs, targets in (batch for _ in range(2) for batch in dataset):
        loss, gradients = loss_and_gradients(model, inputs, targets)
        optimizer.apply(gradients, model.trainable_variables)
        losses.append((float(loss), len(inputs)))
    losses, sizes = np.reshape(losses, (2, -1, 2)).transpose(2, 0, 1)
    without_input = keras.Sequential(small_model().layers)
    assert charlstm.train(without_input, batches(), "book", epochs=2)["loss"] == pytest.approx(
        np.average(losses, 1, sizes), rel=1e-5
    )


def test_a_carried_state_reads_the_text_as_one_sequence_and_begins_anew_in_each_epoch():
    model, recipe = small_model(), dataclasses.replace(BOOK, carry_state=True, learning_rate=0.0)
    dataset = charlstm.make_dataset(CYCLE[:41], seq_length=10, batch_size=1, shuffle=False, carry_state=True)
    nats = charlstm.bits_per_char(model, CYCLE[:41]) * np.log(2)
    assert charlstm.train(model, dataset, recipe, epochs=2)["loss"] == pytest.approx([nats, nats], rel=1e-5)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
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
def test_other_models_learn_by_kerass_own_step_and_a_line_says_why(reason, capsys):
    losses = charlstm.train(OTHERS[reason](), batches(), dataclasses.replace(BOOK, learning_rate=0.03), 2)["loss"]
    line = capsys.readouterr().out.splitlines()[0]
    assert losses[1] < losses[0] and reason in line and len(line) < 250


@pytest.mark.parametrize("reason", OTHERS)
def test_other_models_are_refused_where_only_the_step_by_hand_will_do(reason):
    model = OTHERS[reason]()
    before = model.get_weights()
    with pytest.raises(ValueError, match=reason):
        ByHand(model)
    for change, dtype in ({"weight_drop": 0.1}, "float32"), ({}, "bfloat16"):
        with pytest.raises(ValueError, match=reason):
            charlstm.train(model, batches(), dataclasses.replace(BOOK, **change), matmul_dtype=dtype)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_in_every_precision_of_keras_it_goes_on_to_the_bit(policy, tmp_path, capsys):
    recipe, weights = dataclasses.replace(BOOK, learning_rate=0.03, average=0.9, scale_factor=0.9), []
    keras.config.set_dtype_policy(policy)
    try:
        for path, epochs in ("a", 1), ("a", 2), ("b", 2):
            model, path = small_model(), tmp_path / f"{path}.safetensors"
            history = charlstm.train(model, batches(), recipe, epochs, CYCLE, path)
            weights.append(model.get_weights())
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(map(np.array_equal, *weights[1:])) and policy in capsys.readouterr().out
    assert history["held_out_bits"][1] < history["held_out_bits"][0]


def test_on_a_gpu_it_is_kerass_own_step_unless_only_the_one_by_hand_will_do(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [f"a {kind}"])
    assert "GPU" in obstacle_by_hand(small_model()) and obstacle_by_hand(small_model(), on_gpu=True) is None


@pytest.mark.long
def test_forty_trainings_leave_no_memory_behind():
    code = """if True:
        import charlstm, gc, numpy, psutil

        def megabytes_after(trainings):
            for _ in range(trainings):
                dataset = charlstm.make_dataset(numpy.arange(130) % 70, 8, 8, seed=1)
                charlstm.train(charlstm.build_model(70, 256, 512), dataset, epochs=1)
            gc.collect()
            return psutil.Process().memory_info().rss / 1e6

        print("grown by", -megabytes_after(3) + megabytes_after(40))
        """
    pytest.importorskip("psutil", reason="psutil measures the memory")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(out.split("grown by")[1]) < 100
