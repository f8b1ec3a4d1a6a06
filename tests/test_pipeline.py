"""Windows, batches, and their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charlstm


def rows(dataset):
    return [
        (tuple(x), tuple(y))
        for inputs, targets in dataset
        for x, y in zip(inputs.numpy(), targets.numpy(), strict=True)
    ]


def test_target_is_the_input_moved_on_by_one():
    assert charlstm.split_input_target(np.arange(5))[0].tolist() == [0, 1, 2, 3]
    assert charlstm.split_input_target(np.arange(5))[1].tolist() == [1, 2, 3, 4]
    assert charlstm.split_input_target(np.zeros((7, 5)))[1].shape == (7, 4)


@settings(max_examples=20)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 60))
def test_every_whole_window_comes_once(seq_length, batch_size, extra):
    ids = np.arange(seq_length + 1 + extra, dtype=np.int32)
    dataset = charlstm.make_dataset(ids, seq_length, batch_size, seed=1)
    windows = ids[: len(ids) // (seq_length + 1) * (seq_length + 1)].reshape(-1, seq_length + 1)
    assert sorted(rows(dataset)) == [(tuple(window[:-1]), tuple(window[1:])) for window in windows]
    assert all(len(inputs) <= batch_size for inputs, _ in dataset)


def test_shapes_and_types():
    inputs, targets = next(iter(charlstm.make_dataset(np.arange(1000, dtype=np.int64), seq_length=10, batch_size=4)))
    assert inputs.shape == targets.shape == (4, 10) and inputs.dtype == targets.dtype == "int32"


def test_order_depends_on_seed_and_epoch():
    ids = np.arange(1000)
    first, second = (charlstm.make_dataset(ids, 9, seed=1) for _ in range(2))
    epochs = [rows(first), rows(first)]
    assert epochs == [rows(second), rows(second)] and epochs[0] != epochs[1]
    assert epochs[0] != rows(charlstm.make_dataset(ids, 9, seed=2))


def test_order_does_not_depend_on_tensorflows_seed():
    import tensorflow as tf

    orders = []
    for global_seed in (1, 2):
        tf.random.set_seed(global_seed)
        orders.append(rows(charlstm.make_dataset(np.arange(1000), 9, seed=1)))
    assert orders[0] == orders[1]


def test_without_a_seed_the_order_is_another_each_time():
    first, second = (rows(charlstm.make_dataset(np.arange(1000), 9)) for _ in range(2))
    assert first != second and sorted(first) == sorted(second)


def test_a_file_of_ids_is_not_copied(tmp_path):
    path = tmp_path / "ids"
    np.arange(100_000, dtype=np.uint16).tofile(path)
    ids = np.memmap(path, dtype=np.uint16, mode="r+")
    dataset = charlstm.make_dataset(ids, seq_length=9, batch_size=4, shuffle=False)
    ids[:10] = 7  # written after the dataset was made, and yet seen by it: so it reads from the file
    inputs, _ = next(iter(dataset))
    assert inputs[0].numpy().tolist() == [7] * 9 and inputs.dtype == "int32"


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_file_of_ids_keeps_what_it_holds(tmp_path, mode):
    path = tmp_path / "ids"
    np.arange(1000, dtype=np.int32).tofile(path)
    ids = np.memmap(path, dtype=np.int32, mode=mode)
    if mode != "r":
        ids[5] = 4321
    expected = rows(charlstm.make_dataset(np.array(ids), 9, seed=1))
    train_ids, _ = charlstm.split(ids, 0.5)
    assert rows(charlstm.make_dataset(ids, 9, seed=1)) == expected
    assert rows(charlstm.make_dataset(ids.astype(np.int64), 9, seed=1)) == expected  # a memmap without a file
    assert rows(charlstm.make_dataset(train_ids, 9, seed=1)) == rows(
        charlstm.make_dataset(np.array(train_ids), 9, seed=1)
    )


def test_unshuffled_is_in_the_order_of_the_text():
    dataset = rows(charlstm.make_dataset(np.arange(20), 4, shuffle=False))
    assert [window[0][0] for window in dataset] == [0, 5, 10, 15]


def test_too_short_a_text_is_refused():
    with pytest.raises(ValueError, match="hold no window of seq_length"):
        charlstm.make_dataset(np.arange(50), seq_length=50)


@pytest.mark.parametrize("sizes", [{"seq_length": 0}, {"batch_size": 0}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        charlstm.make_dataset(np.arange(500), **sizes)


@pytest.mark.parametrize("ids", ["the goose", [0.5, 1.5], np.zeros((3, 4), int), None])
def test_what_are_no_ids_is_refused(ids):
    with pytest.raises(TypeError, match=r"as vocabulary.encode\(text\) makes them, not "):
        charlstm.make_dataset(ids)


def test_a_list_of_ids_will_do():
    assert rows(charlstm.make_dataset([0, 1, 2, 3], 1, shuffle=False)) == [((0,), (1,)), ((2,), (3,))]


def test_batches_of_grimm(grimm):
    assert len(charlstm.make_dataset(grimm.vocabulary.encode(grimm.text))) == 82
