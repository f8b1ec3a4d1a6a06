"""Training: characters a second, and peak memory, of the same network on the same text.

Every contender begins with the same weights and proves it: the loss of one same batch must be that of the stock layer.
The physical limit beside them: the matrix products of the same training, in the same shapes and type, and nothing else.
"""

import functools
import os
import time

import numpy as np
from turns import spread, take_turns

SEQ_LENGTH, BATCH_SIZE, EMBEDDING_DIM, RNN_UNITS = 50, 64, 256, 512
LEARNING_RATE = 0.001
WARM_UP = 3  # batches before the clock starts: while others have their turn, the system takes an idle one's memory


@functools.cache
def read_ids(part: str = "to train on") -> tuple[np.ndarray, int]:
    """Ids of nine tenths of Grimm (or of the bundled tales), or of the ``"held out"`` tenth; the vocabulary's size."""
    import charlstm

    corpus = charlstm.load_corpus()
    parts = charlstm.split(corpus.vocabulary.encode(corpus.text))
    return parts[part == "held out"], len(corpus.vocabulary)


def first_weights() -> list[np.ndarray]:
    """The weights that all contenders begin with, in Keras's order and shapes."""
    _, vocab_size = read_ids()
    rng = np.random.default_rng(1)
    shapes = (
        (vocab_size, EMBEDDING_DIM),
        (EMBEDDING_DIM, 4 * RNN_UNITS),
        (RNN_UNITS, 4 * RNN_UNITS),
        (4 * RNN_UNITS,),
        (RNN_UNITS, vocab_size),
        (vocab_size,),
    )
    return [rng.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32) for shape in shapes]


def all_windows() -> np.ndarray:
    ids, _ = read_ids()
    n_windows = len(ids) // (SEQ_LENGTH + 1)
    return ids[: n_windows * (SEQ_LENGTH + 1)].reshape(n_windows, -1)


def stock_model(policy="float32"):
    """The textbook's network as a Keras user would write it, with the common first weights."""
    import keras

    keras.mixed_precision.set_dtype_policy(policy)
    _, vocab_size = read_ids()
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocab_size, EMBEDDING_DIM),
            keras.layers.LSTM(RNN_UNITS, return_sequences=True),
            keras.layers.Dense(vocab_size, dtype="float32"),
        ]
    )
    model.set_weights(first_weights())
    return model


def keras_contender(batches: int, jit_compile=False, policy="float32", onednn: bool | None = None):
    """``model.fit``. onednn: TensorFlow's products by oneDNN or not; None: as TensorFlow itself decides."""
    os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
    if onednn is not None:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    import keras  # before charlstm, which asks for oneDNN
    import tensorflow as tf

    import charlstm

    model = stock_model(policy)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, jit_compile=jit_compile)
    dataset = charlstm.make_dataset(read_ids()[0], SEQ_LENGTH, BATCH_SIZE, seed=1).batches.take(batches)
    batch = all_windows()[:BATCH_SIZE]
    yield {"first_loss": float(loss(batch[:, 1:], model(tf.constant(batch[:, :-1]), training=True)))}
    while True:
        model.fit(dataset.take(WARM_UP), verbose=0, shuffle=False)
        start = time.perf_counter()
        model.fit(dataset, verbose=0, shuffle=False)
        yield {"characters": batches * BATCH_SIZE * SEQ_LENGTH, "seconds": time.perf_counter() - start}


def stock_float32(batches):
    return keras_contender(batches)


def stock_onednn(batches):
    return keras_contender(batches, onednn=True)


def stock_mixed_bfloat16(batches):
    return keras_contender(batches, policy="mixed_bfloat16")


def stock_jit_compile(batches):
    return keras_contender(batches, jit_compile=True)


def by_hand_contender(batches: int, matmul_dtype: str):
    """``charlstm.train``'s step, in Keras's ``fit``."""
    import charlstm

    charlstm.import_tensorflow_quietly()
    import keras
    import tensorflow as tf

    from charlstm.train_step import ByHand

    learner = ByHand(stock_model(), matmul_dtype=matmul_dtype)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    learner.compile(keras.optimizers.Adam(LEARNING_RATE), loss, jit_compile=False)
    dataset = charlstm.make_dataset(read_ids()[0], SEQ_LENGTH, BATCH_SIZE, seed=1).batches.take(batches)
    batch = tf.constant(all_windows()[:BATCH_SIZE])
    yield {"first_loss": float(learner.learn(batch[:, :-1], batch[:, 1:])[0])}
    while True:
        learner.fit(dataset.take(WARM_UP), verbose=0, shuffle=False)
        start = time.perf_counter()
        learner.fit(dataset, verbose=0, shuffle=False)
        yield {"characters": batches * BATCH_SIZE * SEQ_LENGTH, "seconds": time.perf_counter() - start}


def by_hand_float32(batches):
    return by_hand_contender(batches, "float32")


def by_hand_bfloat16(batches):
    return by_hand_contender(batches, "bfloat16")


def torch_network(bfloat16: bool = False, compiled: bool = False):
    """The network as PyTorch's user would write it, with PyTorch's own first weights, and the loss of a batch."""
    import torch
    from torch import nn

    _, vocab_size = read_ids()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocab_size, EMBEDDING_DIM)
            self.lstm = nn.LSTM(EMBEDDING_DIM, RNN_UNITS, batch_first=True)
            self.dense = nn.Linear(RNN_UNITS, vocab_size)

        def forward(self, ids):
            outputs, _ = self.lstm(self.embedding(ids))
            return self.dense(outputs)

    network = Network()
    forward = torch.compile(network) if compiled else network

    def loss_of(batch):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = forward(batch[:, :-1])
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    return network, loss_of


def to_torch(network, weights: list[np.ndarray]) -> None:
    """Give the network these weights. PyTorch's gates are in Keras's order; its matrices are transposed, its biases two."""
    import torch

    embeddings, kernel, recurrent_kernel, bias, dense_kernel, dense_bias = map(torch.from_numpy, weights)
    with torch.no_grad():
        network.embedding.weight.copy_(embeddings)
        network.lstm.weight_ih_l0.copy_(kernel.T)
        network.lstm.weight_hh_l0.copy_(recurrent_kernel.T)
        network.lstm.bias_ih_l0.copy_(bias)
        network.lstm.bias_hh_l0.zero_()
        network.dense.weight.copy_(dense_kernel.T)
        network.dense.bias.copy_(dense_bias)


def from_torch(network) -> list[np.ndarray]:
    """The weights of the network, in Keras's order and shapes."""
    lstm = network.lstm
    tensors = (
        network.embedding.weight,
        lstm.weight_ih_l0.T,
        lstm.weight_hh_l0.T,
        lstm.bias_ih_l0 + lstm.bias_hh_l0,
        network.dense.weight.T,
        network.dense.bias,
    )
    return [np.ascontiguousarray(tensor.detach().numpy()) for tensor in tensors]


def torch_contender(batches: int, bfloat16: bool = False, compiled: bool = False):
    import torch

    network, loss_of = torch_network(bfloat16, compiled)
    to_torch(network, first_weights())
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    windows = torch.from_numpy(all_windows().astype(np.int64))
    yield {"first_loss": loss_of(windows[:BATCH_SIZE]).item()}
    while True:
        for i, rows in enumerate(torch.randperm(len(windows)).split(BATCH_SIZE)[: WARM_UP + batches]):
            if i == WARM_UP:
                start = time.perf_counter()
            optimizer.zero_grad()
            loss_of(windows[rows]).backward()
            optimizer.step()
        yield {"characters": batches * BATCH_SIZE * SEQ_LENGTH, "seconds": time.perf_counter() - start}


def torch_float32(batches):
    return torch_contender(batches)


def torch_bfloat16(batches):
    return torch_contender(batches, bfloat16=True)


def torch_compile(batches):
    return torch_contender(batches, compiled=True)


def jax_scan(batches):
    import jax
    import jax.numpy as jnp

    def loss_of(weights, batch):
        embeddings, kernel, recurrent_kernel, bias, dense_kernel, dense_bias = weights
        from_inputs = embeddings[batch[:, :-1].T] @ kernel + bias  # [T, B, 4H]: one product for all steps

        def step(state, from_input):
            hidden, cell = state
            i, f, g, o = jnp.split(from_input + hidden @ recurrent_kernel, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        zeros = jnp.zeros((len(batch), RNN_UNITS))
        _, outputs = jax.lax.scan(step, (zeros, zeros), from_inputs)
        log_probabilities = jax.nn.log_softmax(outputs @ dense_kernel + dense_bias)
        return -jnp.take_along_axis(log_probabilities, batch[:, 1:].T[..., None], axis=-1).mean()

    @jax.jit
    def train_step(weights, mean, variance, count, batch):  # Adam (Kingma & Ba 2015)
        gradients = jax.grad(loss_of)(weights, batch)
        count += 1
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, gradients, strict=True)]
        variance = [0.999 * v + 0.001 * g * g for v, g in zip(variance, gradients, strict=True)]
        rate = LEARNING_RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        moved = [w - rate * m / (jnp.sqrt(v) + 1e-7) for w, m, v in zip(weights, mean, variance, strict=True)]
        return moved, mean, variance, count

    weights = [jnp.asarray(weight) for weight in first_weights()]
    state = weights, [w * 0 for w in weights], [w * 0 for w in weights], 0
    windows, rng = all_windows(), np.random.default_rng(1)
    yield {"first_loss": float(loss_of(weights, windows[:BATCH_SIZE]))}
    while True:
        order = rng.permutation(len(windows))
        for i in range(WARM_UP + batches):
            if i == WARM_UP:
                jax.block_until_ready(state)
                start = time.perf_counter()
            state = train_step(*state, windows[order[i * BATCH_SIZE : (i + 1) * BATCH_SIZE]])
        jax.block_until_ready(state)
        yield {"characters": batches * BATCH_SIZE * SEQ_LENGTH, "seconds": time.perf_counter() - start}


def products_alone(batches: int, dtype: str):
    import charlstm

    charlstm.import_tensorflow_quietly()
    import tensorflow as tf

    _, vocab_size = read_ids()
    positions, rows = BATCH_SIZE * SEQ_LENGTH, 4 * RNN_UNITS
    shapes = SEQ_LENGTH * [(rows, RNN_UNITS + vocab_size, BATCH_SIZE), (RNN_UNITS, rows, BATCH_SIZE)]  # there and back
    shapes += [(rows, positions, RNN_UNITS + vocab_size)]  # the gradient of their matrix, for all positions at once
    n_in, n_out = RNN_UNITS, vocab_size  # Dense
    shapes += [(positions, n_in, n_out), (positions, n_out, n_in), (n_in, positions, n_out)]
    factors = {(n, m): tf.cast(tf.random.normal((n, m)), dtype) for a, b, c in shapes for n, m in ((a, b), (b, c))}
    operations = sum(2 * a * b * c for a, b, c in shapes) / positions
    yield {"operations_per_character": operations}
    while True:
        start = time.perf_counter()
        for _ in range(batches):
            for a, b, c in shapes:
                tf.matmul(factors[a, b], factors[b, c])
        yield {"characters": batches * positions, "seconds": time.perf_counter() - start}


def limit_float32(batches):
    return products_alone(batches, "float32")


def limit_bfloat16(batches):
    return products_alone(batches, "bfloat16")


CONTENDERS = [
    "stock_float32",
    "stock_onednn",
    "stock_mixed_bfloat16",
    "stock_jit_compile",
    "by_hand_float32",
    "by_hand_bfloat16",
    "torch_float32",
    "torch_bfloat16",
    "torch_compile",
    "jax_scan",
    "limit_float32",
    "limit_bfloat16",
]


def run(quick: bool) -> dict:
    """Characters a second in training, and peak memory; the limit is what the matrix products alone allow."""
    batches, turns = (5, 2) if quick else (30, 5)
    contenders = take_turns("training", CONTENDERS, {"batches": batches}, turns)
    expected = contenders["stock_float32"].check["first_loss"]
    rows = {}
    for name, contender in contenders.items():
        tolerance = 1e-2 if "bfloat16" in name else 1e-4
        loss = contender.check.get("first_loss", expected)  # the limits have none
        if not np.isclose(loss, expected, rtol=tolerance):
            raise AssertionError(f"{name} does not compute the same: its first loss is {loss}, not {expected}")
        speeds = [portion["characters"] / portion["seconds"] for portion in contender.portions]
        rows[name] = spread(speeds) | {"peak_megabytes": contender.peak_megabytes} | contender.check
    stock = rows["stock_float32"]
    print(f"\n{'training':22} {'characters/s':>13} {'from':>8} {'to':>8} {'against stock':>14} {'peak MB':>9}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["median"]):
        print(
            f"{name:22} {row['median']:13,.0f} {row['least']:8,.0f} {row['most']:8,.0f}"
            f" {row['median'] / stock['median']:13.2f}x {row['peak_megabytes']:9,.0f}"
        )
    ours, torch = (
        max((rows[n] for n in rows if n.startswith(p)), key=lambda r: r["median"]) for p in ("by_hand", "torch")
    )
    limit = rows["limit_" + next(name for name in rows if rows[name] is ours).removeprefix("by_hand_")]
    for name, other in ("the stock layer", stock), ("PyTorch's best", torch), ("its own products alone", limit):
        print(f"the hand-written step against {name}: {ours['median'] / other['median']:.2f}")
    return rows
