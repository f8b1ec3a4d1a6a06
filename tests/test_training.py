"""Fitting and measuring."""

import math

import keras
import numpy as np
import pytest

import charlstm
from charlstm.training import read_book_run


@pytest.fixture
def ids(vocabulary, text):
    return vocabulary.encode(text)


def full_pass_bits(model, ids):
    log_probabilities = keras.ops.log_softmax(model(ids[None, :-1]))[0].numpy()
    return -log_probabilities[np.arange(len(ids) - 1), ids[1:]].mean() / math.log(2)


@pytest.mark.parametrize("seq_length", [1, 7, 199, 1000])
def test_bits_carry_the_state_through_the_whole_text(model, ids, seq_length):
    assert charlstm.bits_per_char(model, ids[:200], seq_length) == pytest.approx(
        full_pass_bits(model, ids[:200]), rel=1e-5
    )


def test_bits_leave_the_model_as_it_was(model, ids):
    before = model.get_weights()
    charlstm.bits_per_char(model, ids[:100])
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_model_that_guesses_needs_log2_of_the_vocabulary(model, ids, vocabulary):
    model.layers[-1].set_weights([np.zeros_like(weight) for weight in model.layers[-1].get_weights()])
    assert charlstm.bits_per_char(model, ids[:100]) == pytest.approx(math.log2(len(vocabulary)), rel=1e-6)


def test_bits_of_less_than_two_characters_are_refused(model):
    with pytest.raises(ValueError, match="at least two"):
        charlstm.bits_per_char(model, np.zeros(1, dtype=np.int32))


def test_training_learns_and_reports(model, ids, capsys):
    train_ids, held_out_ids = charlstm.split(ids)
    dataset = charlstm.make_dataset(train_ids, seq_length=20, batch_size=8, seed=1)
    before = charlstm.bits_per_char(model, held_out_ids)
    history = charlstm.train(model, dataset, epochs=3, learning_rate=0.01, held_out_ids=held_out_ids)
    assert history["loss"][2] < history["loss"][0] and history["held_out_bits"][2] < before
    assert history["held_out_bits"][2] == pytest.approx(charlstm.bits_per_char(model, held_out_ids))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert f"{history['loss'][0]:.4f} nats" in lines[0] and f"{history['held_out_bits'][0]:.3f} bits" in lines[0]


def test_training_without_held_out_text(model, ids):
    assert charlstm.train(model, charlstm.make_dataset(ids), epochs=1).keys() == {"loss"}


def test_same_seed_same_losses(vocabulary, ids):
    def run():
        keras.utils.set_random_seed(3)
        model = charlstm.build_model(len(vocabulary), 4, 6)
        return charlstm.train(model, charlstm.make_dataset(ids, 20, seed=3), epochs=2)["loss"]

    assert run() == pytest.approx(run(), rel=1e-5)


def test_recorded_run_of_the_book():
    losses = read_book_run()["whole_text"]["loss"]
    assert len(losses) == 20 and 2.8 < losses[0] < 3.0 and losses[-1] <= 1.1505
