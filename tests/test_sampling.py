"""Probabilities and generated text."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import charlstm

logits_arrays = st.lists(st.floats(-50, 50), min_size=1, max_size=9).map(np.array)


@pytest.fixture
def generator(model, vocabulary):
    return charlstm.Generator.from_model(model, vocabulary)


@pytest.mark.parametrize(
    ("scale_factor", "of_1", "of_3"),
    [(1.0, 0.10650698, 0.78698604), (0.5, 0.21194156, 0.57611688), (0.1, 0.31042377, 0.37915245)],
)
def test_figures_of_the_book(scale_factor, of_1, of_3):
    found = charlstm.scaled_softmax([1.0, 1.0, 3.0], scale_factor)
    np.testing.assert_allclose(found, [of_1, of_1, of_3], atol=5e-9)


@given(logits_arrays, st.floats(0, 10), st.floats(-100, 100))
def test_softmax_sums_to_one_and_does_not_mind_a_shift(logits, scale_factor, shift):
    probabilities = charlstm.scaled_softmax(logits, scale_factor)
    assert probabilities.sum() == pytest.approx(1)
    np.testing.assert_allclose(charlstm.scaled_softmax(logits + shift, scale_factor), probabilities, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6), st.data())
def test_generator_is_the_keras_model(embedding_dim, rnn_units, seed, data):
    vocabulary = charlstm.Vocabulary("abcde")
    prompt = data.draw(st.text(vocabulary.chars, min_size=1, max_size=30))
    keras.utils.set_random_seed(seed)
    model = charlstm.build_model(5, embedding_dim, rnn_units)
    expected = keras.ops.softmax(model(vocabulary.encode(prompt)[None]))[0, -1]
    probabilities = charlstm.Generator.from_model(model, vocabulary).probabilities(prompt)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_the_prompt_stands_at_the_head_and_a_seed_repeats(generator, vocabulary):
    text = generator.generate("the goose", length=50, seed=1)
    assert text.startswith("the goose") and len(text) == 59 and set(text) <= set(vocabulary.chars)
    assert generator.generate("the goose", 50, seed=1) == text != generator.generate("the goose", 50, seed=2)
    assert "the goose" + "".join(generator.stream("the goose", 50, seed=1)) == text
    assert generator.generate_batch("the", 3, 50, seed=1) == generator.generate_batch("the", 3, 50, seed=1)
    assert generator.generate("the", length=0) == "the" and [*generator.stream("the", 0)] == []


def test_a_text_ends_behind_the_string_that_stops_it(generator):
    for stop in ("o", "oo", " t"):
        whole = generator.generate_batch("the goose", 40, 60, temperature=3, seed=1)
        texts = generator.generate_batch("the goose", 40, 60, temperature=3, seed=1, stop=stop)
        for text, longer in zip(texts, whole, strict=True):
            end = longer.find(stop, 9)
            assert text == (longer if end < 0 else longer[: end + len(stop)])
        assert "".join(generator.stream("the", 60, seed=2, stop=stop)) == generator.generate(
            "the", 60, seed=2, stop=stop
        ).removeprefix("the")


def test_a_batch_does_not_depend_on_the_number_of_processor_cores(generator, monkeypatch):
    texts = generator.generate_batch("the", 70, 20, seed=1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert generator.generate_batch("the", 70, 20, seed=1) == texts and len({*texts}) > 60


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


class Counting(charlstm.StepwiseLSTM):
    """A network that remembers the size of each of its steps, and how many threads NumPy's products had."""

    def __init__(self, weights):
        super().__init__(weights)
        self.seen = set()

    def step(self, ids, state):
        self.seen.add((len(ids), *blas_threads()))  # at once: several threads step
        return super().step(ids, state)


def test_steps_take_one_thread_and_numpy_has_its_threads_again(model, vocabulary):
    network = Counting(charlstm.weights_of(model))
    generator = charlstm.Generator(network, vocabulary)
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        if before != {2}:
            pytest.skip("NumPy's matrix products have no threads here")
        stream = generator.stream("the", 50)
        for _ in range(5):
            next(stream)
            assert blas_threads() == before
        generator.generate_batch("the", 70, 3)
        assert network.seen == {(1, 1), (32, 1), (6, 1)} and blas_threads() == before  # texts in a step, and threads
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed: generator.generate("the", 50, seed=seed), range(8)))
        assert blas_threads() == before


def test_surprise_is_minus_log2_of_the_probability(generator, model, vocabulary):
    text = "the goose went"
    ids = vocabulary.encode(text)
    expected = [-np.log2(generator.probabilities(text[:place])[ids[place]]) for place in range(1, len(text))]
    bits = generator.surprise(text)
    assert bits.dtype == np.float32 and bits.mean() == pytest.approx(charlstm.bits_per_char(model, ids), rel=1e-6)
    np.testing.assert_allclose(bits, expected, rtol=1e-4)
    for wrong, message in (("t", "at least 2"), ("the €", "'€'")):
        with pytest.raises(ValueError, match=message):
            generator.surprise(wrong)


def test_temperature_zero_takes_the_likeliest(generator, vocabulary):
    text = generator.generate("the", 20, temperature=0)
    for end in range(3, 23):
        assert text[end] == vocabulary.chars[generator.probabilities(text[:end]).argmax()]
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-320}):
        assert generator.generate("the", 20, **options) == text


def shares(generator, **options):
    """How often each character comes next after "the"."""
    chars = "".join(text[3] for text in generator.generate_batch("the", 20_000, length=1, seed=1, **options))
    return np.bincount(generator.vocabulary.encode(chars), minlength=len(generator.vocabulary)) / 20_000


def min_p(logits, points, share):
    """A rule of one's own: only characters with at least this share of the likeliest one's probability."""
    probabilities = charlstm.scaled_softmax(logits)
    probabilities[probabilities < share * probabilities.max(axis=-1, keepdims=True)] = 0
    return charlstm.choose(probabilities, points)


def test_drawn_as_often_as_the_probabilities_say(generator):
    probabilities = generator.probabilities("the")
    ranked = np.sort(probabilities)[::-1]
    fewest = ranked[np.searchsorted(np.cumsum(ranked), 0.5)]  # the last that is needed to reach a half
    for options, expected in (
        ({}, probabilities),
        ({"temperature": 2}, probabilities**0.5),
        ({"top_k": 3}, (probabilities >= ranked[2]) * probabilities),
        ({"top_p": 0.5}, (probabilities >= fewest) * probabilities),
        ({"draw": min_p, "share": 0.9}, (probabilities >= 0.9 * ranked[0]) * probabilities),
    ):
        found = shares(generator, **options)
        np.testing.assert_allclose(found, expected / expected.sum(), atol=0.015)
        assert not found[expected == 0].any()


class Bigrams:
    """A network of one's own: what follows depends on the last character only."""

    def __init__(self, logits):
        self.logits = logits

    def empty_state(self):
        return (np.zeros((1, 1)),)

    def step(self, ids, state):
        return self.logits[ids], (state[0] + 1,)


def test_any_network_can_write_and_be_measured(vocabulary, text):
    ids = vocabulary.encode(text)
    counts = np.ones((len(vocabulary),) * 2)
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    network = Bigrams(np.log(shares))
    expected = -np.log2(shares[ids[:-1], ids[1:]])
    np.testing.assert_allclose(charlstm.surprise(network, ids), expected, rtol=1e-5)
    assert charlstm.bits_per_char(network, ids) == pytest.approx(expected.mean())
    generator = charlstm.Generator(network, vocabulary)
    pairs = {text[i : i + 2] for i in range(len(text))}
    for written in generator.generate_batch("the", 40, 50, top_p=0.5, seed=1):
        assert {written[i : i + 2] for i in range(len(written) - 1)} <= pairs


NAN, INFINITY = float("nan"), float("inf")
BAD = {"length": (-1, 2.5, "5"), "temperature": (-0.1, NAN, INFINITY, "0.5"), "top_k": (0, 18, 1.5)}
BAD |= {"top_p": (0, 1.1), "top_q": (1,), "prompt": ("",), "stop": ("\u20ac",)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_what_cannot_be_used_is_refused_before_the_first_character(generator, name, value):
    options = {"prompt": "the", "length": 5, name: value}
    for call in generator.stream, generator.generate, lambda **options: generator.generate_batch(count=2, **options):
        with pytest.raises((ValueError, TypeError), match="\u20ac" if name == "stop" else name):
            call(**options)


def test_unknown_characters_of_a_prompt_are_named_and_ids_are_none(generator, vocabulary):
    with pytest.raises(ValueError, match="'HT\u00e9\u20ac' .* at position 0"):
        generator.generate("TH\u00e9 \u20ac")
    with pytest.raises(TypeError, match="only a string"):
        generator.generate(vocabulary.encode("the"))


def test_a_keras_model_in_place_of_a_network_and_an_empty_batch(model, vocabulary, generator):
    with pytest.raises(ValueError, match="count"):
        generator.generate_batch("the", 0)
    with pytest.raises(TypeError, match="Generator.from_model"):
        charlstm.Generator(model, vocabulary)


def test_generator_from_a_file_is_the_same_and_needs_no_keras(tmp_path, model, vocabulary, generator):
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    loaded = charlstm.Generator.load(tmp_path / "model.safetensors")
    assert loaded.generate("the", 30, seed=1) == generator.generate("the", 30, seed=1)
    code = "import charlstm, sys; charlstm.Generator.load().generate('The', 9); print('keras' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
