"""The network."""

import dataclasses

import keras
import numpy as np
import pytest

import charlstm
from charlstm.fast_lstm import FastLSTM


def test_parameters_of_the_book():
    assert charlstm.build_model(70).count_params() == 1_628_742
    assert charlstm.build_model(80).count_params() == 1_636_432


def test_ids_in_logits_out(model, vocabulary):
    assert model(np.zeros((3, 5), dtype=np.int32)).shape == (3, 5, len(vocabulary))


def test_initializer_of_the_embedding():
    def spread(**options):
        return np.std(charlstm.build_model(50, 64, 4, **options).get_weights()[0])

    assert spread() == pytest.approx(charlstm.RECIPES["quick"].embeddings_stddev, rel=0.1)
    assert spread(recipe="book") == pytest.approx(0.1 / np.sqrt(12), rel=0.1)
    other = dataclasses.replace(charlstm.RECIPES["book"], embeddings_stddev=2.0)
    assert spread(recipe=other) == pytest.approx(2, rel=0.1)


def test_layer_of_the_recipe():
    assert type(charlstm.build_model(5, 4, 4, recipe="book").layers[1]) is keras.layers.LSTM
    assert type(charlstm.build_model(5, 4, 4).layers[1]) is FastLSTM


def test_unknown_recipes_are_refused():
    with pytest.raises(ValueError, match="no recipe 'slow': take one of book, quick"):
        charlstm.build_model(5, recipe="slow")


@pytest.mark.parametrize("sizes", [(0, 8, 8), (5, 0, 8), (5, 8, -1)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        charlstm.build_model(*sizes)
