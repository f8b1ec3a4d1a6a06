"""The training step by hand against TensorFlow's own differentiation of Keras's layer."""

import keras
import numpy as np
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlstm import StepwiseLSTM
from charlstm.backprop import loss_and_gradients

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1}
VOCAB_SIZE, EMBEDDING_DIM, UNITS = 7, 6, 10
SHAPES = StepwiseLSTM.weight_shapes(VOCAB_SIZE, EMBEDDING_DIM, UNITS)


def random_problem(batch_size, steps, seed=1):
    """Weights, inputs, targets, and a state to begin with."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(VOCAB_SIZE, size=(batch_size, steps + 1)).astype(np.int32)
    shapes = *SHAPES.values(), (batch_size, UNITS), (batch_size, UNITS)
    *weights, h, c = (tf.constant(rng.normal(0, 0.5, shape), tf.float32) for shape in shapes)
    return dict(zip(SHAPES, weights, strict=True)), ids[:, :-1], ids[:, 1:], (h, c)


def by_autodiff(weights, inputs, targets, state, output_mask=1.0, weight_masks=()):
    """The same three results from Keras's LSTM layer and TensorFlow's tape."""
    layer = keras.layers.LSTM(UNITS, return_sequences=True, return_state=True)
    layer.build((None, None, EMBEDDING_DIM))
    with tf.GradientTape() as tape:
        tape.watch(weights)
        used = {name: value * dict(weight_masks).get(name, 1.0) for name, value in weights.items()}
        with keras.StatelessScope(zip(layer.trainable_variables, map(used.get, [*SHAPES][1:4]), strict=True)):
            outputs, *new_state = layer(tf.gather(used["embeddings"], inputs), initial_state=list(state))
        logits = (outputs * output_mask) @ used["dense_kernel"] + used["dense_bias"]
        loss = tf.reduce_mean(nats := tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
    return nats, tape.gradient(loss, weights), new_state


def assert_the_same(ours, expected, tolerance):
    for a, b in zip(tf.nest.flatten(ours), map(tf.convert_to_tensor, tf.nest.flatten(expected)), strict=True):
        assert a.shape == b.shape and float(tf.norm(a - b)) <= tolerance * float(tf.norm(b)) + 1e-7


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 10**6), st.sampled_from([*TOLERANCE]), st.integers(0, 2))
@settings(max_examples=30)
@example(64, 50, 1, "bfloat16", 2)
def test_losses_gradients_and_state(batch_size, steps, seed, matmul_dtype, dropout):
    rng, masks = np.random.default_rng(seed), {}
    if dropout:  # 1: the same for all steps, and for whole rows of the embedding
        last, rows = (1, EMBEDDING_DIM)[dropout - 1], (1, steps)[dropout - 1]
        shapes = (VOCAB_SIZE, last), (UNITS, 4 * UNITS), (batch_size, rows, UNITS)
        rows, recurrent, outputs = (tf.constant(2.0 * rng.integers(0, 2, shape), tf.float32) for shape in shapes)
        masks = {"output_mask": outputs, "weight_masks": {"embeddings": rows, "lstm_recurrent_kernel": recurrent}}
    problem = random_problem(batch_size, steps, seed)
    ours = loss_and_gradients(*problem, **masks, matmul_dtype=matmul_dtype)
    assert_the_same(ours, by_autodiff(*problem, **masks), TOLERANCE[matmul_dtype])


@given(st.integers(1, 8), st.booleans())
@settings(max_examples=8)
def test_a_carried_state_is_one_long_sequence_and_none_is_zeros(cut, begun):
    weights, inputs, targets, state = random_problem(2, 9)
    begin = state if begun else None
    whole, _, end = loss_and_gradients(weights, inputs, targets, begin or tuple(map(tf.zeros_like, state)))
    first, _, half = loss_and_gradients(weights, inputs[:, :cut], targets[:, :cut], begin)
    second, _, carried = loss_and_gradients(weights, inputs[:, cut:], targets[:, cut:], half)
    assert_the_same([tf.concat([first, second], axis=1), carried], [whole, end], 1e-5)
