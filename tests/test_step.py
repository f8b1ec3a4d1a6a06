"""The hand-written training step against TensorFlow's own differentiation of the Keras model."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import charlstm
from charlstm.model import StepwiseLSTM
from charlstm.step import by_hand, by_tape, compile_step, faster_matmul_dtype, loss_and_gradients, obstacle

TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}
VOCAB_SIZE, EMBEDDING_DIM, UNITS = 7, 6, 10


def random_weights(seed=1):
    shapes = StepwiseLSTM.weight_shapes(VOCAB_SIZE, EMBEDDING_DIM, UNITS)
    rng = np.random.default_rng(seed)
    return {name: tf.constant(rng.normal(0, 0.5, shape), tf.float32) for name, shape in shapes.items()}


def random_batch(batch_size, steps, seed=1):
    rng = np.random.default_rng(seed)
    ids = rng.integers(VOCAB_SIZE, size=(batch_size, steps + 1)).astype(np.int32)
    state = tuple(tf.constant(rng.normal(0, 0.5, (batch_size, UNITS)), tf.float32) for _ in range(2))
    return tf.constant(ids[:, :-1]), tf.constant(ids[:, 1:]), state


def by_autodiff(weights, inputs, targets, state, output_mask=1.0, weight_masks=()):
    """Loss, gradients and new state from Keras's LSTM layer and TensorFlow's tape."""
    layer = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)
    layer.build((None, None, EMBEDDING_DIM))
    names = ("lstm_kernel", "lstm_recurrent_kernel", "lstm_bias")
    with tf.GradientTape() as tape:
        tape.watch(weights)
        used = {name: value * dict(weight_masks).get(name, 1.0) for name, value in weights.items()}
        with keras.StatelessScope(zip(layer.trainable_variables, [used[name] for name in names], strict=True)):
            outputs, *new_state = layer(tf.gather(used["embeddings"], inputs), initial_state=list(state))
        logits = (outputs * output_mask) @ used["dense_kernel"] + used["dense_bias"]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
    gradients = tape.gradient(loss, weights)
    return loss, {name: tf.convert_to_tensor(value) for name, value in gradients.items()}, new_state


def distance(a, b):
    return float(tf.norm(a - b) / (tf.norm(b) + 1e-30))


def assert_the_same(ours, expected, tolerance):
    assert float(ours[0]) == pytest.approx(float(expected[0]), rel=tolerance)
    assert list(ours[1]) and {name: distance(ours[1][name], expected[1][name]) for name in ours[1]} == {
        name: pytest.approx(0, abs=tolerance) for name in expected[1]
    }
    assert all(distance(a, b) < tolerance for a, b in zip(ours[2], expected[2], strict=True))


def dropout_mask(shape, seed):
    return tf.constant(np.random.default_rng(seed).integers(0, 2, shape) * 2, tf.float32)


@pytest.mark.parametrize("matmul_dtype", TOLERANCE)
@pytest.mark.parametrize(("batch_size", "steps"), [(1, 1), (1, 9), (5, 1), (3, 7), (64, 50)])
def test_loss_gradients_and_state(matmul_dtype, batch_size, steps):
    weights, (inputs, targets, state) = random_weights(), random_batch(batch_size, steps)
    ours = loss_and_gradients(weights, inputs, targets, state, matmul_dtype=matmul_dtype)
    assert_the_same(ours, by_autodiff(weights, inputs, targets, state), TOLERANCE[matmul_dtype])


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6), st.booleans(), st.booleans(), st.booleans())
def test_with_dropout_and_weight_drop(batch_size, steps, seed, for_all_steps, row_by_row, in_a_graph):
    weights, (inputs, targets, state) = random_weights(seed), random_batch(batch_size, steps, seed)
    masks = {
        "output_mask": dropout_mask((batch_size, 1 if for_all_steps else steps, UNITS), seed),
        "weight_masks": {
            "embeddings": dropout_mask((VOCAB_SIZE, 1 if row_by_row else EMBEDDING_DIM), seed + 1),
            "lstm_recurrent_kernel": dropout_mask((UNITS, 4 * UNITS), seed + 2),
        },
    }
    compute = tf.function(loss_and_gradients) if in_a_graph else loss_and_gradients
    ours = compute(weights, inputs, targets, state, **masks)
    assert_the_same(ours, by_autodiff(weights, inputs, targets, state, **masks), 1e-5)


def test_a_carried_state_is_one_long_sequence():
    weights, (inputs, targets, state) = random_weights(), random_batch(2, 9)
    _, _, whole = loss_and_gradients(weights, inputs, targets, state)
    _, _, half = loss_and_gradients(weights, inputs[:, :4], targets[:, :4], state)
    _, _, carried = loss_and_gradients(weights, inputs[:, 4:], targets[:, 4:], half)
    assert all(distance(a, b) < 1e-5 for a, b in zip(carried, whole, strict=True))


def test_without_a_state_it_begins_with_zeros():
    weights, (inputs, targets, state) = random_weights(), random_batch(3, 4)
    zeros = tuple(map(tf.zeros_like, state))
    assert_the_same(loss_and_gradients(weights, inputs, targets), by_autodiff(weights, inputs, targets, zeros), 1e-5)


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


@pytest.mark.parametrize("matmul_dtype", TOLERANCE)
def test_whole_trainings_have_the_same_curve(matmul_dtype):
    curves = []
    for dtype in (matmul_dtype, None):
        model, text = small_model(), np.tile(np.arange(VOCAB_SIZE), 60)
        dataset = charlstm.make_dataset(text, seq_length=20, batch_size=8, seed=1)  # its last batch is smaller
        step = compile_step(model, dataset.batches.element_spec, dtype)
        curves.append([float(step(*batch)) for _ in range(3) for batch in dataset])
    assert curves[0] == pytest.approx(curves[1], rel=TOLERANCE[matmul_dtype])
    assert curves[0][-1] < curves[0][0] - 0.1


OTHERS = {
    "GRU": lambda: [keras.layers.GRU(UNITS, return_sequences=True)],
    "early": lambda: [keras.layers.Dropout(0.5), keras.layers.LSTM(UNITS, return_sequences=True)],
    "dropout of its own": lambda: [keras.layers.LSTM(UNITS, return_sequences=True, dropout=0.5)],
    "regularizers": lambda: [keras.layers.LSTM(UNITS, return_sequences=True, kernel_regularizer="l2")],
    "six weights": lambda: [keras.layers.LSTM(UNITS, return_sequences=True, trainable=False)],
    "float32": lambda: [keras.layers.LSTM(UNITS, return_sequences=True, dtype="mixed_bfloat16")],
    "relu": lambda: [keras.layers.LSTM(UNITS, return_sequences=True, activation="relu")],
}
REASONS = {
    "GRU": "has: Embedding, GRU, Dense",
    "early": "elsewhere than after the LSTM",
    "relu": "activation='relu'",
    "dropout of its own": "dropout=0.5",
    "regularizers": "kernel_regularizer=",
    "six weights": "trainable=False",
    "float32": "dtype=",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_trained_by_tape_and_a_line_says_why(name, capsys):
    layers = [keras.layers.Embedding(VOCAB_SIZE, EMBEDDING_DIM), *OTHERS[name](), keras.layers.Dense(VOCAB_SIZE)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    dataset = charlstm.make_dataset(np.tile(np.arange(VOCAB_SIZE), 60), seq_length=10, batch_size=8, seed=1)
    recipe = dataclasses.replace(charlstm.RECIPES["book"], learning_rate=0.03)
    losses = charlstm.train(model, dataset, recipe, epochs=2)["loss"]
    line = capsys.readouterr().out.splitlines()[0]
    assert "GradientTape" in line and REASONS[name] in line
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


def test_dropout_in_a_model_leaves_its_weights_to_file_and_generator(tmp_path):
    vocabulary = charlstm.Vocabulary("abcdefg")
    model = small_model(keras.layers.Dropout(0.5))
    assert obstacle(model) is None
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    ids = vocabulary.encode("abcabc")
    loaded, _ = charlstm.load_model(tmp_path / "model.safetensors")
    assert np.allclose(loaded(ids[None]), model(ids[None]), atol=1e-6)
    assert charlstm.Generator.from_model(model, vocabulary).probabilities("abc").shape == (VOCAB_SIZE,)


def test_the_type_of_the_products_is_measured():
    assert faster_matmul_dtype() in TOLERANCE


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
