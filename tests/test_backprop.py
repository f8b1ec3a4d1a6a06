"""The hand-written training step against TensorFlow's own differentiation of the Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.model import StepwiseLSTM
from charlstm.recipes import DynamicEvaluation
from charlstm.step import loss_and_gradients, surprise_while_learning

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
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_with_dropout_and_weight_drop(batch_size, steps, seed, for_all_steps, row_by_row):
    weights, (inputs, targets, state) = random_weights(seed), random_batch(batch_size, steps, seed)
    masks = {
        "output_mask": dropout_mask((batch_size, 1 if for_all_steps else steps, UNITS), seed),
        "weight_masks": {
            "embeddings": dropout_mask((VOCAB_SIZE, 1 if row_by_row else EMBEDDING_DIM), seed + 1),
            "lstm_recurrent_kernel": dropout_mask((UNITS, 4 * UNITS), seed + 2),
        },
    }
    ours = loss_and_gradients(weights, inputs, targets, state, **masks)
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


def test_what_is_learned_while_reading_makes_the_rest_cheaper_and_the_first_part_costs_the_same():
    weights = {name: weight.numpy() for name, weight in random_weights().items()}
    before = {name: weight.copy() for name, weight in weights.items()}
    ids = np.tile(np.arange(VOCAB_SIZE), 60)
    bits = surprise_while_learning(weights, ids, DynamicEvaluation(seq_length=10, learning_rate=0.01))
    frozen = StepwiseLSTM(weights).surprise(ids)
    assert bits.shape == frozen.shape and bits.dtype == np.float32
    np.testing.assert_allclose(bits[:10], frozen[:10], rtol=1e-4)  # nothing has been learned yet
    assert bits[-100:].mean() < 0.5 * frozen[-100:].mean()
    assert all(np.array_equal(before[name], weights[name]) for name in weights)
    still = surprise_while_learning(weights, ids, DynamicEvaluation(learning_rate=0.0))
    np.testing.assert_allclose(still, frozen, rtol=1e-4, atol=1e-5)
