"""Windows, batches, and their order."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charlstm


def rows(batches):
    return [(tuple(x), tuple(y)) for batch in batches for x, y in zip(*map(np.asarray, batch), strict=True)]


def test_target_is_the_input_moved_on_by_one():
    assert [part.tolist() for part in charlstm.split_input_target(np.arange(4))] == [[0, 1, 2], [1, 2, 3]]
    assert charlstm.split_input_target(np.zeros((7, 5)))[1].shape == (7, 4)


@settings(max_examples=10)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 60))
def test_every_whole_window_comes_once(seq_length, batch_size, extra):
    ids = np.arange(seq_length + 1 + extra)
    windows = ids[: len(ids) // (seq_length + 1) * (seq_length + 1)].reshape(-1, seq_length + 1)
    pairs = [(tuple(window[:-1]), tuple(window[1:])) for window in windows]
    batches = list(charlstm.make_dataset(ids, seq_length, batch_size, seed=1))
    assert sorted(rows(batches)) == pairs and rows(charlstm.make_dataset(ids, seq_length, shuffle=False)) == pairs
    assert all(len(inputs) == batch_size for inputs, _ in batches[:-1]) and len(batches[-1][0]) <= batch_size
    assert {part.dtype.name for batch in batches for part in batch} == {"int32"}


@settings(max_examples=10)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 60), st.booleans())
def test_with_carried_state_each_reader_goes_on_where_it_stopped(seq_length, batch_size, extra, shuffle):
    ids = np.arange(seq_length * batch_size + extra)
    dataset = charlstm.make_dataset(ids, seq_length, batch_size, shuffle, 1, carry_state=True)
    texts = np.hstack([inputs for inputs, _ in dataset])  # what each of them has read
    begins = texts[0, 0] + np.arange(batch_size)[:, None] * (len(ids) // batch_size)
    assert np.array_equal(texts, (begins + np.arange(len(dataset) * seq_length)) % len(ids))
    assert (shuffle or not texts[0, 0]) and len(dataset) == len(ids) // batch_size // seq_length


@pytest.mark.parametrize("settings", [{}, {"carry_state": True}, {"shuffle": False}])
def test_order_depends_on_seed_and_epoch_and_nothing_else(settings):
    import tensorflow as tf

    first, second, other = (charlstm.make_dataset(np.arange(1000), 9, 8, seed=seed, **settings) for seed in (1, 1, 2))
    epochs = [rows(first) for _ in range(3)]
    tf.random.set_seed(3)
    assert epochs == [rows(second) for _ in range(3)]
    assert rows(itertools.islice(second.batches_from(1), 2 * len(other))) == epochs[1] + epochs[2]
    if settings != {"shuffle": False}:
        assert epochs[0] != epochs[1] and epochs[0] != rows(other)


def test_without_a_seed_the_order_is_another_each_time():
    first, second = (charlstm.make_dataset(np.arange(1000), 9) for _ in range(2))
    begun = rows(first)
    assert begun != rows(second) and begun == rows(charlstm.make_dataset(np.arange(1000), 9, seed=first.chosen_seed))


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_file_of_ids_is_not_copied(tmp_path, mode):
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "ids")
    ids = np.memmap(tmp_path / "ids", dtype=np.uint16, mode=mode)
    dataset = charlstm.make_dataset(charlstm.split(ids)[0], seq_length=9, shuffle=False)
    ids[:10] = 7  # written after the dataset was made, and yet seen by it: so it reads from the file
    assert rows(dataset)[0] == ((7,) * 9,) * 2


@pytest.mark.parametrize(
    ("ids", "settings", "error", "message"),
    [
        (np.arange(50), {}, ValueError, "51 are needed"),
        (np.arange(499), {"seq_length": 50, "batch_size": 10, "carry_state": True}, ValueError, "500 are needed"),
        (np.arange(500), {"seq_length": 0}, ValueError, "seq_length .*at least 1"),
        (np.arange(500), {"batch_size": 2.5}, TypeError, "batch_size"),
        ("the goose", {}, TypeError, "not 'the goose'"),
        (np.zeros((3, 4), int), {}, TypeError, "ids must be"),
        (charlstm.Corpus("c", "text", ""), {}, TypeError, "ids must be"),
    ],
)
def test_what_cannot_be_used_is_refused(ids, settings, error, message):
    with pytest.raises(error, match=message):
        charlstm.make_dataset(ids, **settings)


def test_fit_that_gets_it_whole_is_shown_what_to_take(model, vocabulary, text):
    dataset = charlstm.make_dataset(vocabulary.encode(text))
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"its .batches") as caught:
        model.fit(dataset)
    model.fit(getattr(dataset, re.search(r"its \.(\w+)", str(caught.value))[1]), verbose=0)


def test_a_list_of_ids_will_do():
    assert rows(charlstm.make_dataset([0, 1, 2, 3], 1, shuffle=False)) == [((0,), (1,)), ((2,), (3,))]


def test_batches_of_grimm(grimm):
    dataset = charlstm.make_dataset(grimm.vocabulary.encode(grimm.text), shuffle=False)
    assert len(dataset) == 82 and dataset.vocabulary == grimm.vocabulary
    first = [grimm.vocabulary.decode(part[0]) for part in next(iter(dataset))]
    assert first == [grimm.text[:50], grimm.text[1:51]]
