"""How good a model is: its surprise at a text, frozen or learning on. Built in notebooks 05_training and 07_better."""

import itertools

import numpy as np

from charlstm.model import StepwiseLSTM, one_blas_thread, recall, weights_of
from charlstm.pipeline import check_ids
from charlstm.recipes import DynamicEvaluation


def bits_per_char(
    model: "keras.Sequential | StepwiseLSTM", ids: np.ndarray, learn: bool | DynamicEvaluation = False
) -> float:
    """How many bits the model needs, on average, for each character of ``ids`` (``[n]``) after the first.

    This is the cross-entropy in base 2: 0 for a model that is always certain and right, log2(V) for one that guesses.
    The text is read once, from beginning to end, and the LSTM's state is carried through all of it. Computed in NumPy,
    because one step at a time is too little work for TensorFlow.

    model: of ``build_model``, or any network with ``empty_state()`` and ``step(ids, state)`` (``StepwiseLSTM``).
    learn: go on learning from each character that has been paid for, as a compressor does (notebook 07_better); the
        model itself stays as it is. True stands for ``DynamicEvaluation()``.

    Raises like ``weights_of``, or like ``check_ids`` for less than two ids, or ids that are not the model's. Built in
    05_training.
    """
    network = model if hasattr(model, "step") else StepwiseLSTM(weights_of(model))
    vocab_size = network.step([0], network.empty_state())[0].shape[-1]
    ids = check_ids(ids, vocab_size, recall(model, "vocabulary"), least=2)
    settings = DynamicEvaluation() if learn is True else learn
    bits = surprise_while_learning(weights_of(model), ids, settings) if learn else surprise(network, ids)
    return float(bits.mean(dtype=np.float64))


def surprise(network: StepwiseLSTM, ids: np.ndarray) -> np.ndarray:
    """Surprise, in bits, at each of ``ids`` (``[n]``) after the first, read from an empty state: float32 ``[n - 1]``.

    It is -log2 of the probability that the network gave the character (Shannon 1948).
    """
    ids, state, bits = np.asarray(ids).tolist(), network.empty_state(), np.empty(len(ids) - 1, dtype=np.float32)
    with one_blas_thread():
        for place, (char_id, next_id) in enumerate(itertools.pairwise(ids)):
            logits, state = network.step([char_id], state)
            shifted = logits[0] - logits.max()  # so that exp can't overflow
            bits[place] = np.log(np.exp(shifted).sum()) - shifted[next_id]
    return bits / np.float32(np.log(2))


def surprise_while_learning(
    weights: dict[str, np.ndarray], ids: np.ndarray, settings: DynamicEvaluation = DynamicEvaluation()
) -> np.ndarray:
    """The same, of a network that learns on while it reads (dynamic evaluation: Krause et al. 2018).

    weights: as ``weights_of(model)`` gives them; they are not changed.
    """
    import tensorflow as tf

    from charlstm.backprop import loss_and_gradients

    now = {name: tf.Variable(weight) for name, weight in weights.items()}
    squares = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in weights.items()}
    units = len(weights["dense_kernel"])

    @tf.function(input_signature=[tf.TensorSpec((1, None), tf.int32)] * 2 + [tf.TensorSpec((1, units))] * 2)
    def read_and_learn(inputs, targets, h, c):
        values = {name: variable.value() for name, variable in now.items()}
        nats, gradients, state = loss_and_gradients(values, inputs, targets, (h, c))
        for name, gradient in gradients.items():
            mean = settings.decay * squares[name] + (1 - settings.decay) * gradient * gradient
            downhill = settings.learning_rate * gradient / (tf.sqrt(mean) + settings.epsilon)
            squares[name].assign(mean)
            now[name].assign_add(settings.pull * (weights[name] - values[name]) - downhill)
        return nats[0], state

    ids, nats, state = np.asarray(ids, np.int32)[None], [], (tf.zeros((1, units)),) * 2
    for start in range(0, ids.shape[1] - 1, settings.seq_length):
        chunk = ids[:, start : start + settings.seq_length + 1]
        piece, state = read_and_learn(chunk[:, :-1], chunk[:, 1:], *state)
        nats.append(piece.numpy())
    return np.concatenate(nats) / np.float32(np.log(2))
