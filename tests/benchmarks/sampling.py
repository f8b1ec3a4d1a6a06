"""Sampling: how many characters a second, for one text and for 64 side by side, and how soon the first of them.

A way to sample has a function ``write(count, length)``: it gives ``count`` texts that go on from the prompt, as ids of
shape ``[count, length]``, drawn at temperature 1. Every way has the weights of the model in the package, and proves
that it computes the same as ``charlstm.Generator``: the same probabilities, and texts that are as likely to the model.
"""

import os
import statistics
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from timeit import repeat, timeit

import numpy as np
from threadpoolctl import threadpool_limits
from training import to_torch
from turns import spread, take_turns

import charlstm
from charlstm import PRETRAINED, StepwiseLSTM, read_model_file

PROMPT = "THE GOOSE-GIRL"
STREAMS = 64
WEIGHTS, VOCABULARY, _ = read_model_file(PRETRAINED)
PROMPT_IDS = VOCABULARY.encode(PROMPT)
EMBEDDING_DIM, RNN_UNITS = WEIGHTS["lstm_kernel"].shape[0], WEIGHTS["dense_kernel"].shape[0]
LIMIT = "limit: the products alone"
BUSY = "generator, all cores busy"


@dataclass
class Way:
    """Its probabilities of the character after the prompt; how it writes; and, if that takes minutes, an estimate."""

    probabilities: np.ndarray
    write: Callable[[int, int], np.ndarray]
    estimate: Callable[[], dict] | None = None


def take_part(ways: dict[str, Way], length: int, measure_more: Callable[[], dict] = dict) -> Iterator[dict]:
    """First the proofs of all ways, then the figures of one turn for each ``next``."""
    yield {name: prove(way, length) for name, way in ways.items()}
    while True:
        figures = {name: way.estimate() if way.estimate else measure(way.write, length) for name, way in ways.items()}
        yield figures | measure_more()


def prove(way: Way, length: int) -> dict:
    difference = np.abs(np.ravel(way.probabilities) - charlstm.Generator.load().probabilities(PROMPT)).max()
    count, length = (1, 20) if way.estimate else (STREAMS, length)
    ids = np.asarray(way.write(count, length))
    valid = ids.shape == (count, length) and ids.min() >= 0 and ids.max() < len(VOCABULARY)
    bits = round(bits_drawn(ids), 2) if valid and count > 1 else None  # one short text says too little
    return {"largest_difference": float(difference), "valid_texts": bool(valid), "bits_drawn": bits}


def bits_drawn(ids: np.ndarray) -> float:
    """Bits per character of the texts drawn: other figures tell of draws too timid or too wild, or of a lost state."""
    texts = np.concatenate([np.tile(PROMPT_IDS, (len(ids), 1)), ids], axis=1)
    network = StepwiseLSTM(WEIGHTS)
    state, bits = network.empty_state(), []
    for char_ids, next_ids in zip(texts.T, texts.T[1:], strict=False):
        logits, state = network.step(char_ids, state)
        bits.append(-np.log2(charlstm.scaled_softmax(logits)[range(len(ids)), next_ids]))
    return float(np.mean(bits[len(PROMPT_IDS) - 1 :]))


def measure(write: Callable, length: int) -> dict:
    return {
        "one_stream": length / statistics.median(repeat(partial(write, 1, length), repeat=3, number=1)),
        "many_streams": STREAMS * length / timeit(partial(write, STREAMS, length), number=1),
        "first_character_ms": 1000 * statistics.median(repeat(partial(write, 1, 1), repeat=3, number=1)),
    }


def book_way(model, max_input_length: int, text_length: int) -> Way:
    """The textbook's sampler: for each new character, the model reads its input again, from an empty state."""
    import tensorflow as tf

    def draw(ids):
        return tf.random.categorical(model(ids)[0, -1:], num_samples=1).numpy()

    def write(count, length):
        ids = PROMPT_IDS[None]
        for _ in range(length):
            ids = np.concatenate([ids, draw(ids[:, -max_input_length:])], axis=1)
        return ids[:, len(PROMPT_IDS) :]

    def estimate():
        # The time of one character grows with its input in a straight line; three points of the line are measured.
        measured = np.linspace(len(PROMPT_IDS), max_input_length, 3, dtype=int)
        seconds = [timeit(partial(draw, np.resize(PROMPT_IDS, (1, length))), number=1) for length in measured]
        lengths = np.minimum(len(PROMPT_IDS) + np.arange(text_length), max_input_length)
        speed = text_length / np.interp(lengths, measured, seconds).sum()
        return {"one_stream": speed, "first_character_ms": 1000 * seconds[0]}

    return Way(tf.nn.softmax(model(PROMPT_IDS[None])[0, -1]), write, estimate)


def with_tensorflow(length: int):
    charlstm.import_tensorflow_quietly()
    import tensorflow as tf

    model = charlstm.build_model(len(VOCABULARY), recipe="book")
    model.set_weights(list(WEIGHTS.values()))
    embedding, lstm, dense = model.layers

    def empty_states(count):
        return [tf.zeros((count, RNN_UNITS))] * 2

    def read(ids, states):  # ids [count, length]; TensorFlow makes a tf.while_loop of a loop over tf.range
        for i in tf.range(tf.shape(ids)[1]):
            _, states = lstm.cell(embedding(ids[:, i]), states)
        return states

    def draw(states):
        return tf.random.categorical(dense(states[0]), num_samples=1, dtype=tf.int32)  # [count, 1]

    # The idea of TensorFlow's tutorial: a compiled step, which takes the LSTM's states and gives them back.
    @tf.function(jit_compile=True)  # with XLA, because here it is faster than without
    def one_step(ids, states):
        states = read(ids, states)
        return draw(states), states

    def one_step_model(count, length):
        ids, states, drawn = tf.repeat(PROMPT_IDS[None], count, axis=0), empty_states(count), []
        for _ in range(length):
            ids, states = one_step(ids, states)
            drawn.append(ids)
        return tf.concat(drawn, axis=1).numpy()

    def write_all(count, length):  # all characters in one graph
        states = [tf.repeat(part, count, axis=0) for part in read(tf.constant(PROMPT_IDS[None]), empty_states(1))]
        drawn = tf.TensorArray(tf.int32, length)
        for i in tf.range(length):
            ids = draw(states)
            drawn = drawn.write(i, ids[:, 0])
            _, states = lstm.cell(embedding(ids[:, 0]), states)
        return tf.transpose(drawn.stack())

    while_loop = tf.function(write_all, input_signature=[tf.TensorSpec([], tf.int32)] * 2)  # one graph for all sizes
    while_loop_xla = tf.function(write_all, jit_compile=True)  # compiled anew, in seconds, for each count and length

    probabilities = tf.nn.softmax(dense(tf.function(read)(PROMPT_IDS[None], empty_states(1))[0]))
    ways = {
        "book_as_printed": book_way(model, len(PROMPT_IDS) + length, length),  # the typo: its input is never cut
        "book_repaired": book_way(model, 50, length),
        "one_step_model": Way(probabilities, one_step_model),
        "while_loop": Way(probabilities, lambda *sizes: while_loop(*sizes).numpy()),
        "while_loop_xla": Way(probabilities, lambda *sizes: while_loop_xla(*sizes).numpy()),
    }
    return take_part(ways, length)


def with_torch(length: int):
    import torch
    from torch import nn

    embedding, dense = nn.Embedding(len(VOCABULARY), EMBEDDING_DIM), nn.Linear(RNN_UNITS, len(VOCABULARY))
    lstm, cell = nn.LSTM(EMBEDDING_DIM, RNN_UNITS, batch_first=True), nn.LSTMCell(EMBEDDING_DIM, RNN_UNITS)
    to_torch(types.SimpleNamespace(embedding=embedding, lstm=lstm, dense=dense), list(WEIGHTS.values()))
    cell.load_state_dict({name.removesuffix("_l0"): tensor for name, tensor in lstm.state_dict().items()})

    def cell_step(ids, states):  # ids [count, 1], states [count, units]
        return cell(embedding(ids[:, 0]), states)

    def lstm_step(ids, states):
        _, states = lstm(embedding(ids), tuple(part[None] for part in states))
        return [part[0] for part in states]

    def read_prompt():
        return lstm_step(torch.from_numpy(PROMPT_IDS)[None], [torch.zeros(1, RNN_UNITS)] * 2)

    @torch.inference_mode()
    def write(step, count, length):
        states, drawn = [part.repeat(count, 1) for part in read_prompt()], []
        while True:
            probabilities = torch.softmax(dense(states[0]), dim=-1)
            drawn.append(torch.multinomial(probabilities, num_samples=1))
            if len(drawn) == length:
                return torch.cat(drawn, dim=1).numpy()
            states = step(drawn[-1], states)

    probabilities = torch.softmax(dense(read_prompt()[0]), dim=-1).detach()
    # PyTorch's cell, or its LSTM on one character at a time: the first is better for one stream, the second for many.
    steps = {"torch_cell": cell_step, "torch_lstm": lstm_step}
    return take_part({name: Way(probabilities, partial(write, step)) for name, step in steps.items()}, length)


def with_numpy(length: int):
    generator = charlstm.Generator.load()

    def write(count, length):
        texts = generator.generate_batch(PROMPT, count, length) if count > 1 else [generator.generate(PROMPT, length)]
        return np.array([VOCABULARY.encode(text)[len(PROMPT) :] for text in texts])

    ways = {"generator": Way(generator.probabilities(PROMPT), write)}
    return take_part(
        ways, length, measure_more=lambda: {LIMIT: products_alone(), BUSY: beside_busy_programs(write, length)}
    )


def beside_busy_programs(write: Callable, length: int) -> dict:
    """The figures while another program works on each processor core, as where two notebooks run at once."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        return measure(write, length)
    finally:
        for process in busy:
            process.kill()
            process.wait()


def products_alone() -> dict:
    """The figures of a sampler that takes time for its matrix products only, at NumPy's rate of this moment.

    Counted are a multiplication and an addition for each weight of the recurrent and the dense kernel; not the product
    with the input kernel, because it has only as many results as there are characters: a table can hold them.
    """
    kernel, dense_kernel = WEIGHTS["lstm_recurrent_kernel"], WEIGHTS["dense_kernel"]
    rates = {}  # floating-point operations a second
    for count, products in (1, 2000), (STREAMS, 100):
        product, seconds = partial(np.matmul, np.ones((count, RNN_UNITS), dtype=np.float32), kernel), []
        for threads in None, 1:  # None: as many as NumPy takes, which is slower than one where others work, too
            with threadpool_limits(threads):
                seconds.append(timeit(product, number=products))
        rates[count] = products * count * 2 * kernel.size / min(seconds)
    a_character = 2 * kernel.size + 2 * dense_kernel.size
    the_first = len(PROMPT_IDS) * 2 * kernel.size + 2 * dense_kernel.size
    speeds = {"one_stream": rates[1] / a_character, "many_streams": rates[STREAMS] / a_character}
    return speeds | {"first_character_ms": 1000 * the_first / rates[1]}


def must_be_right(name: str, proof: dict, expected_bits: float) -> None:
    difference, bits = proof["largest_difference"], proof["bits_drawn"]
    if not difference < 1e-4:
        raise AssertionError(f"{name} does not compute the same: its probabilities differ by up to {difference:.1e}")
    if not proof["valid_texts"]:
        raise AssertionError(f"{name} does not give texts of the length asked for, in ids of the vocabulary")
    if bits is not None and abs(bits - expected_bits) > 0.2:
        raise AssertionError(f"{name} does not draw the same: {bits} bits per character, but {expected_bits} are right")


def run(quick: bool) -> dict:
    """Characters a second in sampling, for one text and for 64 side by side, and the time to the first character."""
    length, turns = (200, 2) if quick else (500, 5)
    contenders = take_turns("sampling", ["with_numpy", "with_torch", "with_tensorflow"], {"length": length}, turns)
    expected_bits, rows = contenders["with_numpy"].check["generator"]["bits_drawn"], {}
    for contender in contenders.values():
        for name, proof in contender.check.items():
            must_be_right(name, proof, expected_bits)
        for name, figures in contender.portions[0].items():
            values = {figure: [portion[name][figure] for portion in contender.portions] for figure in figures}
            rows[name] = {figure: spread(values[figure]) for figure in figures} | contender.check.get(name, {})
    print(f"\n{'sampling, characters/s':26} {'1 stream':>9} {'from':>8} {'to':>8} {'64 streams':>11} {'first, ms':>10}")
    for name, row in sorted(rows.items(), key=lambda item: (item[0] == LIMIT, -item[1]["one_stream"]["median"])):
        one, first = row["one_stream"], row["first_character_ms"]["median"]
        many = f"{row['many_streams']['median']:,.0f}" if "many_streams" in row else "-"
        print(f"{name:26} {one['median']:9,.0f} {one['least']:8,.0f} {one['most']:8,.0f} {many:>11} {first:10.2f}")
    print(f"Texts of {length} characters. book_... is estimated from the times of three characters, not of them all.")
    return rows
