"""Keras's LSTM layer with its two loops, forward and backward, written by hand. Built in notebook 06_speed."""

import functools
import statistics
import time

import keras
import tensorflow as tf

MATMUL_DTYPES = ("float32", "bfloat16")


@keras.saving.register_keras_serializable("charlstm")
class FastLSTM(keras.layers.LSTM):
    """A drop-in for ``keras.layers.LSTM`` that trains faster on a CPU: the same weights, settings, states and results.

    matmul_dtype: in which numbers the matrix products of training are computed. ``"float32"`` gives the parent's
        results up to rounding, about 1e-6; ``"bfloat16"`` rounds what enters and leaves each product to 8 binary
        digits, and everything between the products stays float32. ``"auto"`` takes the faster of the two, measured
        once for each process. Outside training (``training=False``) it is always float32.
    Everything else is a setting of ``keras.layers.LSTM``. Where a GPU, a mask, recurrent dropout, unrolling, other
    activations or another precision ask for it, the parent computes, so that cuDNN serves a GPU.

    Raises ValueError for another ``matmul_dtype``. The backward pass is backpropagation through time (Werbos 1990).
    """

    def __init__(self, *args, matmul_dtype: str = "auto", **kwargs):
        super().__init__(*args, **kwargs)
        if matmul_dtype not in ("auto", *MATMUL_DTYPES):
            raise ValueError(f"matmul_dtype must be 'auto', 'float32' or 'bfloat16', but is {matmul_dtype!r}")
        self.matmul_dtype = matmul_dtype
        self.product_dtype = None if matmul_dtype == "auto" else matmul_dtype  # None: not measured yet
        # For calls outside a graph, where a loop in Python is slow; one graph for all lengths and batch sizes.
        self._compiled_lstm = tf.function(_lstm, autograph=False, reduce_retracing=True)

    def get_config(self) -> dict:
        return {**super().get_config(), "matmul_dtype": self.matmul_dtype}

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """The parent's hook: from inputs [B, T, E] and a state to the last output, all outputs, and the new state."""
        if not self._computes_here(mask):
            return super().inner_loop(sequences, initial_state, mask, training)
        if self.go_backwards:
            sequences = tf.reverse(sequences, [1])
        if training and self.dropout:
            sequences *= self.cell.get_dropout_mask(sequences[:, 0, :])[:, None, :]
        if training and self.product_dtype is None:
            self.product_dtype = faster_matmul_dtype()
        product_dtype = self.product_dtype if training else "float32"
        weights = map(tf.convert_to_tensor, (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias))
        compute = self._compiled_lstm if tf.executing_eagerly() else _lstm
        outputs, hidden, cell = compute(product_dtype, sequences, *initial_state, *weights)
        return hidden, outputs if self.return_sequences else hidden, [hidden, cell]

    def _computes_here(self, mask) -> bool:
        return (
            keras.config.backend() == "tensorflow"
            and not tf.config.list_physical_devices("GPU")
            and mask is None
            and not (self.unroll or self.recurrent_dropout or self.use_cudnn is True)
            and (self.activation, self.recurrent_activation) == (keras.activations.tanh, keras.activations.sigmoid)
            and self.use_bias
            and self.compute_dtype == "float32"
        )


@functools.cache
def faster_matmul_dtype(batch_size: int = 64, rnn_units: int = 512) -> str:
    """``"float32"`` or ``"bfloat16"``: in which an LSTM step's product is computed faster here. Takes milliseconds."""
    seconds = {dtype: [] for dtype in MATMUL_DTYPES}
    with tf.init_scope():  # measure now, even while a graph is being made
        for _ in range(10):  # the first is slower, because it prepares
            for dtype in MATMUL_DTYPES:
                hidden, kernel = tf.ones((batch_size, rnn_units), dtype), tf.ones((rnn_units, 4 * rnn_units), dtype)
                start = time.perf_counter()
                (hidden @ kernel).numpy()
                seconds[dtype].append(time.perf_counter() - start)
    return min(MATMUL_DTYPES, key=lambda dtype: statistics.median(seconds[dtype]))


def _lstm(matmul_dtype: str, *tensors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    # All outputs [B, T, H] and the last state, h and c [B, H], with our own gradient in place of TensorFlow's.
    return tf.custom_gradient(lambda *tensors: _forward(matmul_dtype, *tensors))(*tensors)


def _forward(matmul_dtype, inputs, h_0, c_0, kernel, recurrent_kernel, bias):
    # B sequences, T steps, E inputs, H units; the 4H gate columns are in Keras's order: i, f, candidate g, o.
    batch_size, steps = inputs.shape[0] or tf.shape(inputs)[0], tf.shape(inputs)[1]
    embedding_dim, units = inputs.shape[2], recurrent_kernel.shape[0]

    def rounded(x):
        return tf.cast(x, matmul_dtype)

    def exact(x):
        return tf.cast(x, tf.float32)

    def array(width, dtype=tf.float32):
        return tf.TensorArray(dtype, steps, element_shape=(inputs.shape[0], width), clear_after_read=False)

    # One product for the inputs of all steps, with a row for each step and sequence: [TB, E] @ [E, 4H].
    rows = rounded(tf.reshape(tf.transpose(inputs, [1, 0, 2]), [-1, embedding_dim]))
    from_inputs = tf.reshape(exact(rows @ rounded(kernel)) + bias, [steps, batch_size, 4 * units])
    recurrent = rounded(recurrent_kernel)

    def step(t, h, c, kept):
        gates = from_inputs[t] + exact(rounded(h) @ recurrent)
        i, f, g, o = tf.split(gates, 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c_before, c = c, f * c + i * g
        tanh_c = tf.tanh(c)
        h = o * tanh_c
        kept = [part.write(t, value) for part, value in zip(kept, (h, i, f, g, o, c_before, tanh_c), strict=True)]
        return t + 1, h, c, kept

    nothing_kept = [array(units) for _ in range(7)]
    _, h_T, c_T, kept = tf.while_loop(lambda t, *_: t < steps, step, (0, h_0, c_0, nothing_kept))
    outputs = kept[0].stack()  # [T, B, H]

    def backward(d_outputs, d_h, d_c):
        # "d_x" is the derivative of the loss with respect to x.
        d_outputs = tf.transpose(d_outputs, [1, 0, 2])
        # A transposed copy, made once: float32 products with transpose_b=True take about twice as long.
        recurrent_transposed = rounded(tf.transpose(recurrent_kernel))

        def step_back(t, d_h, d_c, d_gates):
            _, i, f, g, o, c_before, tanh_c = [part.read(t) for part in kept]
            d_h += d_outputs[t]
            d_c += d_h * o * (1 - tanh_c * tanh_c)
            d_i, d_f = d_c * g * i * (1 - i), d_c * c_before * f * (1 - f)
            d_g, d_o = d_c * i * (1 - g * g), d_h * tanh_c * o * (1 - o)
            step_gates = rounded(tf.concat([d_i, d_f, d_g, d_o], axis=1))
            return t - 1, exact(step_gates @ recurrent_transposed), d_c * f, d_gates.write(t, step_gates)

        start = (steps - 1, d_h, d_c, array(4 * units, matmul_dtype))
        _, d_h, d_c, d_gates = tf.while_loop(lambda t, *_: t >= 0, step_back, start)
        # Now all steps are there, so that one product gives each weight's gradient, in place of one for each step.
        d_gates = d_gates.concat()  # [TB, 4H]
        h_before = rounded(tf.reshape(tf.concat([h_0[None], outputs[:-1]], axis=0), [-1, units]))
        ones = tf.ones((1, steps * batch_size), matmul_dtype)  # a sum over rows as a product: many times faster
        d_rows = tf.reshape(exact(d_gates @ rounded(tf.transpose(kernel))), [steps, batch_size, embedding_dim])
        d_kernel = exact(tf.matmul(rows, d_gates, transpose_a=True))
        d_recurrent_kernel = exact(tf.matmul(h_before, d_gates, transpose_a=True))
        d_bias = exact(ones @ d_gates)[0]
        return tf.transpose(d_rows, [1, 0, 2]), d_h, d_c, d_kernel, d_recurrent_kernel, d_bias

    return (tf.transpose(outputs, [1, 0, 2]), h_T, c_T), backward
