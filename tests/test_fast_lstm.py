"""FastLSTM against the layer that it stands in for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import charlstm
from charlstm.fast_lstm import FastLSTM, faster_matmul_dtype

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def pair(units=24, width=10, matmul_dtype="float32", **settings):
    """The stock layer and ours, with the same weights."""
    keras.utils.set_random_seed(1)
    stock, fast = keras.layers.LSTM(units, **settings), FastLSTM(units, matmul_dtype=matmul_dtype, **settings)
    for layer in stock, fast:
        layer.build((2, None, width))
    fast.set_weights([weight + 0.1 * np.random.normal(size=weight.shape) for weight in stock.get_weights()])
    stock.set_weights(fast.get_weights())
    return stock, fast


def results(layer, inputs, state, wrap=lambda function: function):
    """Outputs, last state, and the gradients of a loss of them with respect to everything that it depends on."""

    @wrap
    def compute(inputs, *state):
        with tf.GradientTape() as tape:
            tape.watch([inputs, *state])
            outputs = layer(inputs, initial_state=list(state), training=True)
            loss = sum(tf.reduce_sum(tf.sin(3 * part + i)) for i, part in enumerate(outputs))
        weights = [variable.value for variable in layer.trainable_variables]
        return [*outputs, *tape.gradient(loss, [inputs, *state, *weights])]

    return compute(inputs, *state)


def distance(a, b):
    return float(tf.norm(a - b) / tf.norm(b))


@pytest.mark.parametrize("matmul_dtype", TOLERANCE)
@pytest.mark.parametrize("wrap", [lambda function: function, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize(
    ("batch_size", "steps", "settings"),
    [(3, 7, {}), (1, 1, {}), (4, 60, {}), (3, 5, {"go_backwards": True}), (3, 7, {"return_sequences": False})],
)
def test_outputs_states_and_gradients(matmul_dtype, wrap, batch_size, steps, settings):
    settings = {"return_sequences": True, "return_state": True} | settings
    stock, fast = pair(matmul_dtype=matmul_dtype, **settings)
    inputs, *state = (
        tf.random.normal(shape) for shape in ((batch_size, steps, 10), (batch_size, 24), (batch_size, 24))
    )
    for ours, expected in zip(results(fast, inputs, state, wrap), results(stock, inputs, state), strict=True):
        assert distance(ours, expected) < TOLERANCE[matmul_dtype]


def fit(layer_class, ids, vocab_size, epochs=3, **settings):
    keras.utils.set_random_seed(1)
    model = charlstm.build_model(vocab_size, 8, 16, recipe="book")
    if layer_class is not keras.layers.LSTM:
        layers = [model.layers[0], layer_class(16, return_sequences=True, **settings), model.layers[2]]
        other, weights = keras.Sequential([keras.Input((None,), dtype="int32"), *layers]), model.get_weights()
        other.set_weights(weights)
        model = other
    dataset = charlstm.make_dataset(ids, seq_length=20, batch_size=8, seed=1)  # its last batch is smaller
    return charlstm.train(model, dataset, "book", epochs)["loss"]


@pytest.mark.parametrize("matmul_dtype", TOLERANCE)
def test_three_epochs_in_fit(text, vocabulary, matmul_dtype):
    ids = vocabulary.encode(text)
    stock = fit(keras.layers.LSTM, ids, len(vocabulary))
    assert fit(FastLSTM, ids, len(vocabulary), matmul_dtype=matmul_dtype) == pytest.approx(
        stock, rel=TOLERANCE[matmul_dtype]
    )


def test_dropout():
    stock, fast = pair(dropout=0.5, return_sequences=True, seed=3)
    inputs = tf.ones((4, 6, 10))
    assert distance(fast(inputs, training=True), stock(inputs, training=True)) < 1e-5
    assert distance(fast(inputs), stock(inputs)) < 1e-5
    assert distance(fast(inputs, training=True), fast(inputs)) > 0.01


def test_stateful():
    stock, fast = pair(stateful=True, return_sequences=True)
    inputs = tf.random.normal((2, 6, 10))
    whole = stock(inputs)
    pieces = [fast(inputs[:, :2]), fast(inputs[:, 2:])]
    assert distance(tf.concat(pieces, axis=1), whole) < 1e-5
    fast.reset_state()
    assert distance(fast(inputs), whole) < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"recurrent_dropout": 0.2},
        {"unroll": True},
        {"activation": "relu"},
        {"use_bias": False},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_settings_are_the_parents_affair(settings):
    stock, fast = (layer(6, return_sequences=True, seed=1, **settings) for layer in (keras.layers.LSTM, FastLSTM))
    inputs = tf.random.normal((2, 5, 4))
    stock(inputs), fast(inputs)
    fast.set_weights(stock.get_weights())
    assert np.array_equal(fast(inputs), stock(inputs))


def test_a_mask_is_the_parents_affair():
    stock, fast = pair(return_sequences=True)
    inputs, mask = tf.random.normal((2, 5, 10)), tf.constant([[True] * 3 + [False] * 2, [True] * 5])
    assert np.array_equal(fast(inputs, mask=mask), stock(inputs, mask=mask))


def test_a_gpu_is_the_parents_affair(monkeypatch):
    stock, fast = pair(return_sequences=True, matmul_dtype="bfloat16")
    inputs = tf.random.normal((2, 5, 10))
    assert not np.array_equal(fast(inputs, training=True), stock(inputs, training=True))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"a {kind}"])
    assert np.array_equal(fast(inputs, training=True), stock(inputs, training=True))


def test_a_model_with_it_can_be_saved_and_loaded_by_keras(tmp_path):
    _, fast = pair(matmul_dtype="bfloat16", return_sequences=True)
    model = keras.Sequential([keras.Input((None, 10)), fast])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    inputs = tf.random.normal((2, 5, 10))
    assert np.array_equal(loaded(inputs), model(inputs))
    assert isinstance(loaded.layers[0], FastLSTM) and loaded.layers[0].matmul_dtype == "bfloat16"
    assert FastLSTM(5).get_config()["matmul_dtype"] == "auto"


def test_outside_training_nothing_is_rounded():
    stock, fast = pair(matmul_dtype="bfloat16", return_sequences=True)
    inputs = tf.random.normal((2, 5, 10))
    assert distance(fast(inputs), stock(inputs)) < 1e-6 < distance(fast(inputs, training=True), stock(inputs))


def test_growing_inputs_outside_a_graph_need_few_graphs():
    _, fast = pair(return_sequences=True)
    for batch_sizes in ([1], [1, 2, 3]):
        for steps in range(1, 12):
            for batch_size in batch_sizes:
                fast(tf.zeros((batch_size, steps, 10)))
    assert fast._compiled_lstm.experimental_get_tracing_count() <= 4


def test_auto_measures_and_takes_one():
    assert faster_matmul_dtype() in TOLERANCE
    layer = FastLSTM(4)
    layer(tf.zeros((1, 2, 3)), training=True)
    assert layer.product_dtype == faster_matmul_dtype()


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="'auto', 'float32' or 'bfloat16', but is 'float16'"):
        FastLSTM(4, matmul_dtype="float16")
