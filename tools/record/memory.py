"""Record what plain RNNs and LSTMs bring at two widths, and which start lets them recall a letter:

python tools/record/memory.py     about 40 minutes on two cores
"""

import dataclasses

import keras
import numpy as np
from common import read_grimm_to_choose, write_recorded

import charlstm

CONTEXTS = 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30
KINDS = ("SimpleRNN", 512), ("LSTM", 256), ("SimpleRNN", 1024), ("LSTM", 512)
WIDTHS = [(kind, units, 0.01, seed) for seed in (1, 2) for kind, units in KINDS]
WIDTHS += [("SimpleRNN", 512, 0.003, 1), ("SimpleRNN", 1024, 0.003, 1)]  # does a smaller rate suit it better?


def width(kind: str, units: int, rate: float, seed: int) -> dict:
    """Five epochs by the quick recipe at this peak of the learning rate; bits on the ninth tenth, with the state carried
    through, and from a state of zeros over the last k characters only."""
    head, ninth = read_grimm_to_choose()
    keras.utils.set_random_seed(seed)
    model = network(getattr(keras.layers, kind)(units, return_sequences=True), len(head.vocabulary))
    dataset = charlstm.make_dataset(head, seed=seed)
    recipe = dataclasses.replace(charlstm.RECIPES["quick"], learning_rate=rate)
    recipe.compile(model, len(dataset))
    model.fit(dataset.batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    places = np.arange(100, len(ninth), 6)
    context = {
        k: round(float(bits_of(model, ninth[places[:, None] + np.arange(-k, 0)], ninth[places]).mean()), 3)
        for k in CONTEXTS
    }
    bits = round(float(bits_of(model, ninth[None, :-1], ninth[1:]).mean()), 3)
    run = {"layer": kind, "units": units, "parameters": model.count_params(), "rate": rate, "seed": seed}
    return run | {"bits": bits, "bits_with_context": context}


def network(layer: keras.layers.Layer, vocab_size: int) -> keras.Sequential:
    """Embedding, ``layer``, Dense: the course's model with another layer in the middle."""
    initializer = keras.initializers.RandomNormal(stddev=0.6)
    embedding = keras.layers.Embedding(vocab_size, 256, embeddings_initializer=initializer)
    return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, layer, keras.layers.Dense(vocab_size)])


def bits_of(model: keras.Model, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Surprise in bits: at ``targets`` one after the other for a single row of inputs, or at one after each row."""
    logits = model.predict(inputs, batch_size=512, verbose=0)
    logits = logits[0] if len(inputs) == 1 else logits[:, -1]
    log_probabilities = np.array(keras.ops.log_softmax(logits))
    return -log_probabilities[np.arange(len(targets)), targets] / np.log(2)


def biased_lstm(units: int, forget_bias: float) -> keras.layers.LSTM:
    """Keras's LSTM, whose forget gates begin with a bias of ``forget_bias`` in place of 1."""
    bias = np.repeat(np.float32([0, forget_bias, 0, 0]), units)
    settings = {"unit_forget_bias": False, "bias_initializer": lambda shape, dtype=None: bias}
    return keras.layers.LSTM(units, **settings)


STARTS = {
    "plain RNN, as Keras starts it": lambda: keras.layers.SimpleRNN(64),
    "plain RNN, small random start": lambda: keras.layers.SimpleRNN(
        64, recurrent_initializer=keras.initializers.RandomNormal(stddev=0.01)
    ),
    "LSTM, forget bias 1 (Keras)": lambda: keras.layers.LSTM(64),
    "LSTM, forget bias 4": lambda: biased_lstm(64, 4),
}


def recall(start: str, noise: int, size: float, seed: int) -> float:
    """Which of 8 letters came first, before ``noise`` others of 8 letters more? Each letter is a one-hot row, times
    ``size``. 12,800 examples, three epochs of Adam at its usual rate of 0.001; the share that is right of 2,000 new."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    letters = np.hstack([rng.integers(8, size=(14_800, 1)), rng.integers(8, 16, size=(14_800, noise))])
    rows, first = size * np.eye(16, dtype=np.float32)[letters], letters[:, 0]
    model = keras.Sequential([keras.Input((noise + 1, 16)), STARTS[start](), keras.layers.Dense(8)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(global_clipnorm=0.25), loss)
    model.fit(rows[:12_800], first[:12_800], batch_size=64, epochs=3, verbose=0)
    guessed = model.predict(rows[12_800:], batch_size=500, verbose=0).argmax(axis=1)
    return round(float((guessed == first[12_800:]).mean()), 3)


if __name__ == "__main__":
    recalled = [
        {"start": start, "noise": noise, "size": size, "right": [recall(start, noise, size, s) for s in (1, 2, 3)]}
        for noise, size in ((30, 1), (30, 4), (100, 1), (100, 0.2))
        for start in STARTS
    ]
    write_recorded("memory", {"widths": [width(*run) for run in WIDTHS], "recall": recalled})
