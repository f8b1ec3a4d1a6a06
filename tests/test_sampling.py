"""Probabilities and generated text."""

import dataclasses
import re
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
    ("scale_factor", "expected"),
    [
        (1.0, [0.10650698, 0.10650698, 0.78698604]),
        (0.5, [0.21194156, 0.21194156, 0.57611688]),
        (0.1, [0.31042377, 0.31042377, 0.37915245]),
    ],
)
def test_figures_of_the_book(scale_factor, expected):
    np.testing.assert_allclose(charlstm.scaled_softmax([1.0, 1.0, 3.0], scale_factor), expected, atol=5e-9)


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


def test_prompt_stands_at_the_head(generator, vocabulary):
    text = generator.generate("the goose", length=50, seed=1)
    assert text.startswith("the goose") and len(text) == 59 and set(text) <= set(vocabulary.chars)
    assert generator.generate("the", length=0) == "the"


def test_same_seed_same_text(generator):
    assert generator.generate("the", 50, seed=1) == generator.generate("the", 50, seed=1)
    assert generator.generate("the", 50, seed=1) != generator.generate("the", 50, seed=2)
    assert generator.generate_batch("the", 3, 50, seed=1) == generator.generate_batch("the", 3, 50, seed=1)


def test_a_batch_does_not_depend_on_the_number_of_processor_cores(generator, monkeypatch):
    texts = generator.generate_batch("the", 70, 20, seed=1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert generator.generate_batch("the", 70, 20, seed=1) == texts and len({*texts}) > 60


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_steps_take_one_thread_and_numpy_has_its_threads_again(generator, monkeypatch):
    seen, step = set(), generator._network.step

    def spy(ids, state):
        seen.add((len(ids), *blas_threads()))
        return step(ids, state)

    monkeypatch.setattr(generator._network, "step", spy)
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        if before != {2}:
            pytest.skip("NumPy's matrix products have no threads here")
        stream = generator.stream("the", 50)
        for _ in range(5):
            next(stream)
            assert blas_threads() == before
        generator.generate_batch("the", 70, 3)
        assert seen == {(1, 1), (32, 1), (6, 1)} and blas_threads() == before  # texts in a step, and threads
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed: generator.generate("the", 50, seed=seed), range(8)))
        assert blas_threads() == before


def test_surprise_is_minus_log2_of_the_probability(generator, model, vocabulary):
    text = "the goose went"
    expected = [
        -np.log2(generator.probabilities(text[:place])[vocabulary.encode(text[place])[0]])
        for place in range(1, len(text))
    ]
    bits = generator.surprise(text)
    assert bits.dtype == np.float32
    np.testing.assert_allclose(bits, expected, rtol=1e-4)
    assert bits.mean() == pytest.approx(charlstm.bits_per_char(model, vocabulary.encode(text)), rel=1e-6)
    with pytest.raises(ValueError, match="at least 2"):
        generator.surprise("t")
    with pytest.raises(ValueError, match="'€'"):
        generator.surprise("the €")


def test_stream_gives_what_generate_gives(generator):
    assert "the" + "".join(generator.stream("the", 50, top_k=5, seed=1)) == generator.generate(
        "the", 50, top_k=5, seed=1
    )


def test_temperature_zero_takes_the_likeliest(generator, vocabulary):
    text = generator.generate("the", 20, temperature=0)
    for end in range(3, 23):
        assert text[end] == vocabulary.chars[generator.probabilities(text[:end]).argmax()]
    assert generator.generate_batch("the", 2, 20, temperature=0) == [text, text]
    assert generator.generate("the", 20, top_k=1) == text == generator.generate("the", 20, top_p=1e-9)
    assert generator.generate("the", 20, temperature=1e-320) == text


def test_drawn_as_often_as_the_probabilities_say(generator, vocabulary):
    def shares(**options):
        texts = generator.generate_batch("the", 20_000, length=1, seed=1, **options)
        return np.bincount(vocabulary.encode("".join(text[3] for text in texts)), minlength=len(vocabulary)) / 20_000

    probabilities = generator.probabilities("the")
    np.testing.assert_allclose(shares(), probabilities, atol=0.015)
    hot = probabilities**0.5 / (probabilities**0.5).sum()
    np.testing.assert_allclose(shares(temperature=2), hot, atol=0.015)
    likeliest = probabilities >= np.sort(probabilities)[-3]
    np.testing.assert_allclose(shares(top_k=3), likeliest * probabilities / probabilities[likeliest].sum(), atol=0.015)


def test_top_p_keeps_the_fewest_that_reach_it(generator, vocabulary):
    texts = generator.generate_batch("the", 5000, length=1, top_p=0.5, seed=1)
    ranked = np.argsort(-generator.probabilities("the"))
    needed = int(np.searchsorted(np.cumsum(generator.probabilities("the")[ranked]), 0.5)) + 1
    assert {text[3] for text in texts} == {vocabulary.chars[i] for i in ranked[:needed]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "the €"}, "'€' .* at position 4"),
        ({"length": -1}, "length"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 18}, "top_k must be at least 1 and at most 17"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_bad_input_is_refused_before_the_first_character(generator, options, message):
    with pytest.raises(ValueError, match=message):
        generator.stream(**{"prompt": "the", "length": 5, **options})
    with pytest.raises(ValueError, match=message):
        generator.generate_batch(**{"prompt": "the", "count": 2, "length": 5, **options})


@pytest.mark.parametrize("options", [{"length": 2.5}, {"length": "5"}, {"top_k": 1.5}, {"temperature": "hot"}])
def test_numbers_of_the_wrong_type_are_refused(generator, options):
    with pytest.raises(TypeError):
        generator.stream(**{"prompt": "the", "length": 5, **options})


def test_an_empty_batch_is_refused(generator):
    with pytest.raises(ValueError, match="count must be at least 1"):
        generator.generate_batch("the", 0)


def test_a_keras_model_in_place_of_weights_is_refused(model, vocabulary):
    with pytest.raises(TypeError, match=r"Generator.from_model\(model, vocabulary\)"):
        charlstm.Generator(model, vocabulary)


def test_a_corpus_is_no_vocabulary(model, text):
    with pytest.raises(TypeError, match="such as corpus.vocabulary, not a Corpus"):
        charlstm.Generator.from_model(model, charlstm.Corpus("text", text, ""))


def test_a_vocabulary_of_another_size_is_refused(model):
    with pytest.raises(ValueError, match="but the vocabulary 3"):
        charlstm.Generator.from_model(model, charlstm.Vocabulary("abc"))


def test_weights_that_are_not_finite_are_refused(model, vocabulary):
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, np.full_like(bias, np.nan)])
    with pytest.raises(ValueError, match="dense_bias holds NaN"):
        charlstm.Generator.from_model(model, vocabulary)


@pytest.mark.parametrize(
    ("prompt", "suggestion"),
    [("THe", "did you mean 't'"), ("thé", "did you mean 'e'"), ("the’", "leave out what it lacks")],
)
def test_unknown_characters_in_a_prompt_get_a_suggestion(generator, prompt, suggestion):
    with pytest.raises(ValueError, match=suggestion):
        generator.generate(prompt)


def test_generator_from_a_file_is_the_same_and_needs_no_keras(tmp_path, model, vocabulary, generator):
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    loaded = charlstm.Generator.load(tmp_path / "model.safetensors")
    assert loaded.generate("the", 30, seed=1) == generator.generate("the", 30, seed=1)
    code = "import charlstm, sys; charlstm.Generator.load().generate('The', 9); print('keras' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_a_trained_model_has_learned_its_text(model, vocabulary, text):
    changes = {"schedule": False, "clip_norm": None, "learning_rate": 0.03, "epochs": 20}
    learner = dataclasses.replace(charlstm.RECIPES["quick"], **changes)
    dataset = charlstm.make_dataset(vocabulary.encode(text), seq_length=30, batch_size=8, seed=1)
    charlstm.train(model, dataset, learner)
    generator = charlstm.Generator.from_model(model, vocabulary)
    words = re.findall(r"[\w-]+", generator.generate("the goose-girl went ", 200, temperature=0.3, seed=1)[20:])
    known = re.findall(r"[\w-]+", text)
    assert sum(word in known for word in words) >= 0.8 * len(words)
