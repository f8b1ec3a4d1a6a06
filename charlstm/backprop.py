"""One training step written by hand, from the ids to the loss and back. Built in notebook 09_speed.

B sequences, T steps, V characters, E embedding dimensions, H units; the 4H gates are in Keras's
order: i, f, candidate g, o. Within the loops a sequence is a column, so that each gate is one block
of memory; outside them each character of the batch has a row, step by step: [TB, ...]. "d_x" is the
derivative of the loss with respect to x. The LSTM's products are computed in ``matmul_dtype``,
everything else in float32.
"""

import tensorflow as tf

Weights = dict[str, tf.Tensor]  # by the names, and of the shapes, in charlstm.model; float32
State = tuple[tf.Tensor, tf.Tensor]  # hidden and cell state, float32 [B, H] each


def loss_and_gradients(
    weights: Weights, inputs: tf.Tensor, targets: tf.Tensor, state: State | None = None,
    output_mask: tf.Tensor | None = None, weight_masks: Weights | None = None, matmul_dtype="float32",
) -> tuple[tf.Tensor, Weights, State]:  # fmt: skip
    """The surprise at each target, the gradient of their mean for each weight, and the state after
    the last character.

    inputs, targets: ids, int32 ``[B, T]``.
    state: to begin with; None: zeros. No gradient flows into it.
    output_mask: what the LSTM's outputs are multiplied with (dropout), float32, ``[B, T, H]``, or
        ``[B, 1, H]``, the same for all steps.
    weight_masks: what these weights are multiplied with, by name, float32, of their shape, or
        ``[V, 1]`` for whole rows of the embedding. (Weight-drop on the recurrent kernel: Merity et
        al. 2018; dropout of the embedding's rows: Gal & Ghahramani 2016.)
    matmul_dtype: ``"float32"``, or ``"bfloat16"``: 8 binary digits, faster on some processors.

    Surprise in nats, ``[B, T]``. Backpropagation through time: Werbos 1990.
    """
    masks = weight_masks or {}
    weights = weights | {name: weights[name] * mask for name, mask in masks.items()}
    vocab_size, rnn_units = weights["embeddings"].shape[0], weights["dense_kernel"].shape[0]
    batch_size = tf.shape(inputs)[0]
    h_0, c_0 = state or (tf.zeros((batch_size, rnn_units)),) * 2
    characters = tf.one_hot(tf.transpose(inputs), vocab_size, dtype=matmul_dtype)  # [T, B, V]
    mask = None if output_mask is None else tf.transpose(output_mask, [1, 0, 2])
    outputs, kept, h_T, c_T = forward(weights, characters, h_0, c_0)
    nats, d_outputs, gradients = surprise_and_gradients(weights, outputs, tf.transpose(targets), mask)
    d_gates = backward(weights["lstm_recurrent_kernel"], kept, d_outputs, matmul_dtype)
    h_before = tf.concat([h_0, outputs[:-batch_size]], axis=0)
    gradients |= weight_gradients(weights, h_before, characters, d_gates)
    gradients |= {name: gradients[name] * mask for name, mask in masks.items()}
    return tf.transpose(nats), gradients, (h_T, c_T)


def forward(
    weights: Weights, characters: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, list[tf.TensorArray], tf.Tensor, tf.Tensor]:
    """The hidden states ``[TB, H]``; what ``backward`` needs of each step; the last state.

    characters: one-hot, ``[T, B, V]``; h, c: the state before them, ``[B, H]`` each.
    """
    # To multiply with a one-hot vector is to look up in a table. So embedding, kernel and bias fold
    # into a table, and one product serves both the character and the hidden state.
    input_table = weights["embeddings"] @ weights["lstm_kernel"] + weights["lstm_bias"]
    matrix = tf.concat([weights["lstm_recurrent_kernel"], input_table], axis=0)
    matrix = tf.cast(tf.transpose(matrix), characters.dtype)  # [4H, H + V]
    h, c, steps, units = tf.transpose(h), tf.transpose(c), tf.shape(characters)[0], h.shape[1]
    outputs = tf.TensorArray(tf.float32, steps, element_shape=(None, units))
    settings = {"element_shape": (units, None), "clear_after_read": False}
    kept = [tf.TensorArray(tf.float32, steps, **settings) for _ in range(6)]
    for t in tf.range(steps):
        column = tf.concat([tf.cast(h, matrix.dtype), tf.transpose(characters[t])], axis=0)
        i, f, g, o = tf.split(tf.cast(matrix @ column, tf.float32), 4)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c_before, c = c, f * c + i * g
        tanh_c = tf.tanh(c)
        h = o * tanh_c
        outputs = outputs.write(t, tf.transpose(h))
        values = i, f, g, o, c_before, tanh_c
        kept = [part.write(t, value) for part, value in zip(kept, values, strict=True)]
    return outputs.concat(), kept, tf.transpose(h), tf.transpose(c)


def surprise_and_gradients(
    weights: Weights, outputs: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, Weights]:
    """The cross-entropy of each of ``targets``, ids ``[T, B]``; the derivative of its mean with respect
    to the LSTM's ``outputs``, ``[T, B, H]``; the gradients of the dense layer.

    outputs: ``[TB, H]``; they are multiplied with ``mask``, ``[T, B, H]`` or ``[1, B, H]``, first.
    """
    by_step = [*tf.unstack(tf.shape(targets)), outputs.shape[1]]
    if mask is not None:
        outputs = tf.reshape(tf.reshape(outputs, by_step) * mask, [-1, outputs.shape[1]])
    logits = outputs @ weights["dense_kernel"] + weights["dense_bias"]
    log_probabilities = tf.nn.log_softmax(logits)
    right = tf.one_hot(tf.reshape(targets, [-1]), logits.shape[1])
    nats = tf.reshape(-tf.reduce_sum(right * log_probabilities, axis=1), by_step[:2])
    d_logits = (tf.exp(log_probabilities) - right) / tf.cast(tf.size(targets), tf.float32)
    d_kernel = tf.matmul(outputs, d_logits, transpose_a=True)
    d_outputs = tf.matmul(d_logits, weights["dense_kernel"], transpose_b=True)
    d_outputs = tf.reshape(d_outputs, by_step)
    if mask is not None:
        d_outputs *= mask
    return nats, d_outputs, {"dense_kernel": d_kernel, "dense_bias": tf.reduce_sum(d_logits, axis=0)}


def backward(
    recurrent_kernel: tf.Tensor, kept: list[tf.TensorArray], d_outputs: tf.Tensor, matmul_dtype: str
) -> tf.Tensor:
    """The derivative with respect to the gates before sigmoid and tanh, ``[TB, 4H]``.

    d_outputs: ``[T, B, H]``. No derivative comes from beyond the last step.
    """
    recurrent_kernel = tf.cast(recurrent_kernel, matmul_dtype)
    steps, units = tf.shape(d_outputs)[0], d_outputs.shape[2]
    all_d_gates = tf.TensorArray(matmul_dtype, steps, element_shape=(None, 4 * units))
    d_h = d_c = tf.zeros_like(tf.transpose(d_outputs[0]))
    for t in tf.range(steps - 1, -1, -1):
        i, f, g, o, c_before, tanh_c = [part.read(t) for part in kept]
        d_h += tf.transpose(d_outputs[t])
        d_c += d_h * o * (1 - tanh_c * tanh_c)
        d_i, d_f = d_c * g * i * (1 - i), d_c * c_before * f * (1 - f)
        d_g, d_o = d_c * i * (1 - g * g), d_h * tanh_c * o * (1 - o)
        d_gates = tf.cast(tf.concat([d_i, d_f, d_g, d_o], axis=0), matmul_dtype)
        all_d_gates = all_d_gates.write(t, tf.transpose(d_gates))
        d_h, d_c = tf.cast(recurrent_kernel @ d_gates, tf.float32), d_c * f
    return all_d_gates.concat()


def weight_gradients(weights: Weights, h_before: tf.Tensor, characters: tf.Tensor, d_gates: tf.Tensor) -> Weights:
    """The gradients of embedding and LSTM: all steps are known, so one product does for all.

    h_before: the state before each character, ``[TB, H]``; characters: one-hot, ``[T, B, V]``.
    """
    units = h_before.shape[1]
    characters = tf.reshape(characters, [-1, characters.shape[2]])
    rows = tf.concat([tf.cast(h_before, d_gates.dtype), characters], axis=1)
    d_matrix = tf.cast(tf.matmul(rows, d_gates, transpose_a=True), tf.float32)  # [H + V, 4H]
    d_table = d_matrix[units:]
    return {
        "embeddings": tf.matmul(d_table, weights["lstm_kernel"], transpose_b=True),
        "lstm_kernel": tf.matmul(weights["embeddings"], d_table, transpose_a=True),
        "lstm_recurrent_kernel": d_matrix[:units],
        "lstm_bias": tf.reduce_sum(d_table, axis=0),
    }
