"""The callbacks, in a fit of one's own of a plain Keras model."""

import dataclasses
import math

import keras
import numpy as np
import pytest

import charlstm
from charlstm.callbacks import BestWeights, Checkpoint, Report, TextLine, finished
from charlstm.files import TrainingState, load_state

RECIPE = dataclasses.replace(charlstm.RECIPES["book"], average=0.9, scale_factor=0.5)


@pytest.fixture
def fit(model, vocabulary, text):
    """fit(*callbacks): the history of three epochs of the model."""

    def run(*callbacks, rate=0.01):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.9), loss)
        dataset = charlstm.make_dataset(vocabulary.encode(text), 20, 8, seed=1).batches
        return model.fit(dataset, epochs=3, shuffle=False, verbose=0, callbacks=[*callbacks]).history

    return run


def test_all_work_in_anybodys_own_fit(tmp_path, fit, model, vocabulary, text, capsys):
    backwards = vocabulary.encode(text[:100])[::-1]
    best = BestWeights(backwards, RECIPE)
    checkpoint = Checkpoint(tmp_path / "a.safetensors", TrainingState({"mine": 1}, {"history": {}}, [], []), best)
    history = fit(best, checkpoint, Report(), TextLine("the", vocabulary, RECIPE))
    state = load_state(tmp_path / "a.safetensors")
    assert state.progress["history"] == history and all(map(np.array_equal, state.weights, model.get_weights()))
    assert charlstm.bits_per_char(model, backwards) == pytest.approx(min(history["held_out_bits"]))
    lines = capsys.readouterr().out.splitlines()
    for epoch, bits in enumerate(history["held_out_bits"]):
        assert lines[2 * epoch].startswith(f"epoch {epoch + 1} of 3") and f" {bits:.3f} bits" in lines[2 * epoch]
        assert lines[2 * epoch + 1].startswith("    the")


def test_a_loss_that_is_no_number_ends_it_and_leaves_the_weights(fit, model, vocabulary):
    before = model.get_weights()
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit(BestWeights(vocabulary.encode("the goose")), rate=math.inf)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_an_interruption_leaves_weights_to_go_on_from(fit, model):
    fit()
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt), finished(model, RECIPE):
        np.testing.assert_allclose(model.get_weights()[-1], RECIPE.scale_factor * before[-1])
        raise KeyboardInterrupt
    assert all(map(np.array_equal, before, model.get_weights()))
