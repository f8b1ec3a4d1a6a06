"""The callbacks, in a fit of one's own of a plain Keras model."""

import dataclasses
import math
import threading

import keras
import numpy as np
import pytest

import charlstm
from charlstm.callbacks import BestWeights, Checkpoint, Report, TextLine, finished
from charlstm.files import TrainingState, load_state
from charlstm.train_step import variables_of


@pytest.fixture
def fit(model, vocabulary, text):
    """fit(*callbacks): the history of three epochs, learned in Keras's own way."""

    def run(*callbacks, rate=0.01):
        optimizer = keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.9)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        dataset = charlstm.make_dataset(vocabulary.encode(text), 20, 8, seed=1)
        return model.fit(dataset.batches, epochs=3, shuffle=False, verbose=0, callbacks=[*callbacks]).history

    return run


def test_all_work_in_anybodys_own_fit(tmp_path, fit, model, vocabulary, text, capsys):
    backwards, path = vocabulary.encode(text[:100])[::-1], tmp_path / "a.safetensors"
    recipe = dataclasses.replace(charlstm.RECIPES["book"], average=0.9, scale_factor=0.5)
    best = BestWeights(backwards, recipe)
    checkpoint = Checkpoint(path, TrainingState({"mine": 1}, {"history": {}}, [], []), best)
    history = fit(best, checkpoint, Report(), TextLine("the", vocabulary, recipe))
    bits, state = history["held_out_bits"], load_state(path)
    assert charlstm.bits_per_char(model, backwards) == pytest.approx(min(bits))
    assert state.progress["history"] == history and state.settings == {"mine": 1}
    assert all(map(np.array_equal, state.weights, model.get_weights()))
    assert [array.shape for array in state.variables] == [variable.shape for variable in variables_of(model)]
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines[:6:2]] == ["epoch 1 of ", "epoch 2 of ", "epoch 3 of "]
    assert all(f" {value:.3f} bits" in line for value, line in zip(bits, lines[::2], strict=False))
    assert [line[:7] for line in lines[1:6:2]] == ["    the"] * 3


def test_from_the_state_of_a_checkpoint_it_goes_on(tmp_path, fit, model):
    pass


def test_an_endless_loss_ends_it_and_leaves_the_weights(fit, model, vocabulary):
    before = model.get_weights()
    with pytest.raises(FloatingPointError, match="nan in epoch 1"):
        fit(BestWeights(vocabulary.encode("the goose")), rate=math.inf)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_an_interruption_leaves_weights_to_go_on_from(fit, model):
    fit()
    before, recipe = model.get_weights(), dataclasses.replace(charlstm.RECIPES["best"])
    with pytest.raises(KeyboardInterrupt), finished(model, recipe):
        assert not any(map(np.array_equal, before, model.get_weights()))
        raise KeyboardInterrupt
    assert all(map(np.array_equal, before, model.get_weights()))
