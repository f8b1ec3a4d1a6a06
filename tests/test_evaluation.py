"""How many bits a character costs."""

import dataclasses
import math

import keras
import numpy as np
import pytest

import charlstm


def full_pass_bits(model, ids):
    log_probabilities = keras.ops.log_softmax(model(ids[None, :-1]))[0].numpy()
    return -log_probabilities[np.arange(len(ids) - 1), ids[1:]].mean() / math.log(2)


@pytest.mark.parametrize("learn", [False, charlstm.DynamicEvaluation(learning_rate=0.0)])
def test_bits_carry_the_state_through_the_whole_text(model, vocabulary, text, learn):
    ids, before = vocabulary.encode(text[:200]), model.get_weights()
    assert charlstm.bits_per_char(model, ids, learn) == pytest.approx(full_pass_bits(model, ids), rel=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        charlstm.bits_per_char(model, ids[:1], learn)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_model_that_guesses_needs_log2_of_the_vocabulary(model, vocabulary, text):
    model.layers[-1].set_weights([np.zeros_like(weight) for weight in model.layers[-1].get_weights()])
    assert charlstm.bits_per_char(model, vocabulary.encode(text)) == pytest.approx(math.log2(17), rel=1e-6)


def test_learning_on_makes_the_rest_cheaper_and_the_first_part_costs_the_same(model, vocabulary, text):
    ids, weights = vocabulary.encode(text[:900]), charlstm.weights_of(model)
    learning = charlstm.surprise_while_learning(weights, ids, charlstm.DynamicEvaluation(25, learning_rate=0.01))
    frozen = charlstm.surprise(charlstm.StepwiseLSTM(weights), ids)
    assert learning.shape == frozen.shape == (899,) and learning.dtype == frozen.dtype == np.float32
    np.testing.assert_allclose(learning[:25], frozen[:25], rtol=1e-4)  # nothing has been learned yet
    assert learning[-100:].mean() < 0.8 * frozen[-100:].mean()
    assert charlstm.bits_per_char(model, ids, learn=True) < frozen.mean()
    assert all(map(np.array_equal, weights.values(), model.get_weights()))


class StepwiseGRU:
    """A network of one's own: the layers of a Keras model, one step at a time."""

    def __init__(self, model):
        self.embedding, self.gru, self.dense = model.layers

    def empty_state(self):
        return (np.zeros((1, self.gru.units), np.float32),)

    def step(self, ids, state):
        hidden, _ = self.gru.cell(self.embedding(np.array(ids)), state)
        return self.dense(hidden).numpy(), (hidden.numpy(),)


def test_a_network_of_ones_own_is_measured(vocabulary, text):
    layers = keras.layers.Embedding(17, 4), keras.layers.GRU(5, return_sequences=True), keras.layers.Dense(17)
    model, ids = keras.Sequential([keras.Input((None,)), *layers]), vocabulary.encode(text[:200])
    assert charlstm.bits_per_char(StepwiseGRU(model), ids) == pytest.approx(full_pass_bits(model, ids), rel=1e-5)


OUT_OF_RANGE = {
    "learning_rate": (-0.1, math.nan, math.inf),
    "clip_norm": (0, -1),
    "embeddings_stddev": (-1, math.nan),
    "embedding_dropout": (-0.1, 1),
    "output_dropout": (1.0,),
    "weight_drop": (1,),
    "weight_decay": (-1,),
    "average": (1, -0.5),
    "scale_factor": (0, math.inf),
    "epochs": (0, -3),
}
OUT_OF_RANGE_WHILE_LEARNING = {
    "seq_length": (0,),
    "learning_rate": (-0.1, math.nan),
    "decay": (1, -0.1),
    "epsilon": (-1e-3, math.nan),
    "pull": (1.5, -0.1),
}


@pytest.mark.parametrize(
    ("settings", "limits"),
    [(charlstm.RECIPES["quick"], OUT_OF_RANGE), (charlstm.DynamicEvaluation(), OUT_OF_RANGE_WHILE_LEARNING)],
    ids=["recipe", "dynamic evaluation"],
)
def test_numbers_out_of_range_are_refused_where_they_are_given(settings, limits):
    for name, values in limits.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name} must be at least"):
                dataclasses.replace(settings, **{name: value})
        with pytest.raises(TypeError, match=f"{name} must be a"):
            dataclasses.replace(settings, **{name: "0.5"})
