"""A step of training a Keras model: by hand or by tape, the same."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_step import EMBEDDING_DIM, TOLERANCE, UNITS, VOCAB_SIZE, distance, random_batch

import charlstm
from charlstm.update import by_hand, by_tape, choose_step, compile_step, obstacle


def small_model(dropout=None, **options):
    keras.utils.set_random_seed(1)
    model = charlstm.build_model(VOCAB_SIZE, EMBEDDING_DIM, UNITS, **options)
    if dropout is not None:
        embedding, lstm, dense = model.layers
        model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, lstm, dropout, dense])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("noise_shape", [None, (None, 1, None)], ids=["each step", "one mask for all steps"])
def test_by_hand_and_by_tape_drop_the_same(noise_shape):
    inputs, targets, _ = random_batch(4, 6)
    results = []
    for make in (lambda model: by_hand(model, "float32"), by_tape):
        model = small_model(keras.layers.Dropout(0.5, noise_shape, seed=3))
        compute = make(model)
        results.append([compute(inputs, targets)[:2] for _ in range(2)])  # the second draws another mask
    assert float(results[0][0][0]) != float(results[0][1][0])
    for (loss, gradients), (expected_loss, expected_gradients) in zip(*results, strict=True):
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
        for a, b in zip(gradients, expected_gradients, strict=True):
            assert distance(a, tf.convert_to_tensor(b)) < 1e-5


def test_whole_trainings_have_the_same_curve():
    curves = {}
    for dtype in (*TOLERANCE, None):
        model, text = small_model(), np.tile(np.arange(VOCAB_SIZE), 60)
        dataset = charlstm.make_dataset(text, seq_length=20, batch_size=8, seed=1)  # its last batch is smaller
        step = compile_step(model, dataset.batches.element_spec, dtype)
        curves[dtype] = [float(step(*batch)[0]) for _ in range(3) for batch in dataset]
    for dtype, tolerance in TOLERANCE.items():
        assert curves[dtype] == pytest.approx(curves[None], rel=tolerance)
    assert curves[None][-1] < curves[None][0] - 0.1


BEST = dataclasses.replace(charlstm.RECIPES["best"], learning_rate=0.01, epochs=3)


def test_by_hand_and_by_tape_drop_the_same_weights_and_carry_the_same_state():
    inputs, targets, state = random_batch(4, 6)
    results = []
    for make in (lambda model: by_hand(model, "float32", BEST), lambda model: by_tape(model, BEST)):
        model = small_model(recipe=dataclasses.replace(BEST, output_dropout=0.0))
        weights = model.get_weights()
        results.append([make(model)(inputs, targets, state, seed) for seed in ((1, 1), (1, 1), (1, 2))])
        assert all(map(np.array_equal, weights, model.get_weights()))
    for computed in results:
        assert float(computed[0][0]) == float(computed[1][0]) != float(computed[2][0])
    for (loss, gradients, after), (expected_loss, expected_gradients, expected_after) in zip(*results, strict=True):
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
        for a, b in zip([*gradients, *after], [*expected_gradients, *expected_after], strict=True):
            assert distance(a, tf.convert_to_tensor(b)) < 1e-5


def test_whole_trainings_of_the_best_recipe_have_the_same_curve(monkeypatch):
    curves = []
    for reason in None, "a GPU is there":
        monkeypatch.setattr("charlstm.update.obstacle", lambda model, reason=reason: reason)
        keras.utils.set_random_seed(1)
        model = charlstm.build_model(VOCAB_SIZE, EMBEDDING_DIM, UNITS, recipe=BEST)
        dataset = charlstm.make_dataset(np.tile(np.arange(VOCAB_SIZE), 60), 20, 8, seed=1, carry_state=True)
        curves.append(charlstm.train(model, dataset)["loss"])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3) and curves[0][-1] < curves[0][0]


def lstm(**settings):
    return keras.layers.LSTM(UNITS, return_sequences=True, **settings)


OTHERS = {  # by the reason why: what stands between Embedding and Dense
    "has: Embedding, GRU, Dense": lambda: [keras.layers.GRU(UNITS, return_sequences=True)],
    "kernel_regularizer=": lambda: [lstm(kernel_regularizer="l2")],
    "trainable=False": lambda: [lstm(trainable=False)],
    "dtype=": lambda: [lstm(dtype="mixed_bfloat16")],
    "elsewhere than after the LSTM": lambda: [keras.layers.Dropout(0.5), lstm()],
    "dropout=0.5": lambda: [lstm(dropout=0.5)],
    "activation='relu'": lambda: [lstm(activation="relu")],
}


def other_model(reason):
    layers = [keras.layers.Embedding(VOCAB_SIZE, EMBEDDING_DIM), *OTHERS[reason](), keras.layers.Dense(VOCAB_SIZE)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


@pytest.mark.parametrize("reason", OTHERS)
def test_for_other_models_it_is_the_tape_and_a_line_says_why(reason, capsys):
    assert choose_step(other_model(reason)) is None
    line = capsys.readouterr().out
    assert "GradientTape" in line and reason in line


@pytest.mark.parametrize("reason", [*OTHERS][:4])
def test_other_models_learn(reason):
    dataset = charlstm.make_dataset(np.tile(np.arange(VOCAB_SIZE), 60), seq_length=10, batch_size=8, seed=1)
    recipe = dataclasses.replace(charlstm.RECIPES["book"], learning_rate=0.03)
    losses = charlstm.train(other_model(reason), dataset, recipe, epochs=2)["loss"]
    assert losses[1] < losses[0]


def test_a_functional_model_is_trained_by_tape():
    inputs = keras.Input((None,), dtype="int32")
    *_, outputs = (x := keras.layers.Embedding(VOCAB_SIZE, 4)(inputs)), keras.layers.Dense(VOCAB_SIZE)(x)
    model = keras.Model(inputs, outputs)
    assert obstacle(model) is not None
    dataset = charlstm.make_dataset(np.tile(np.arange(VOCAB_SIZE), 60), seq_length=10, batch_size=8, seed=1)
    losses = charlstm.train(model, dataset, "book", epochs=3)["loss"]
    assert losses[2] < losses[0]


def test_on_a_gpu_it_is_the_tape(monkeypatch):
    model = small_model()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [f"a {kind}"])
    assert "GPU" in obstacle(model)


@pytest.mark.long
def test_forty_trainings_leave_no_memory_behind():
    code = """if True:
        import gc, psutil
        import charlstm; charlstm.import_tensorflow_quietly()
        import numpy as np

        def train_once():
            model = charlstm.build_model(70, 256, 512)
            charlstm.train(model, charlstm.make_dataset(np.arange(130) % 70, seq_length=8, batch_size=8, seed=1), epochs=1)

        def megabytes():
            gc.collect()
            return psutil.Process().memory_info().rss / 1e6

        for _ in range(3):
            train_once()
        before = megabytes()
        for _ in range(40):
            train_once()
        print("grown by", megabytes() - before)
        """
    pytest.importorskip("psutil", reason="psutil measures the memory")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(out.split("grown by")[1]) < 100
