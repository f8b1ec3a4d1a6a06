"""The network."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import charlstm
from charlstm import StepwiseLSTM, weights_of


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


def test_keras_can_keep_it_and_load_it_elsewhere(tmp_path, vocabulary):
    model = charlstm.build_model(len(vocabulary), 8, 12, "best")  # with a Dropout layer
    ids = vocabulary.encode("the goose")[None]
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    np.save(tmp_path / "ids.npy", ids)
    code = """if True:
        import sys, keras, numpy as np, tensorflow as tf
        folder = sys.argv[1]
        ids = np.load(folder + "/ids.npy")
        loaded = keras.models.load_model(folder + "/model.keras")(ids)
        exported = tf.saved_model.load(folder + "/exported")
        np.savez(folder + "/logits.npz", loaded=loaded, exported=exported.serve(ids))
        assert "charlstm" not in sys.modules
        """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, cwd=tmp_path)
    for logits in np.load(tmp_path / "logits.npz").values():
        assert logits == pytest.approx(model(ids).numpy(), abs=1e-5)


@pytest.mark.parametrize("sizes", [(0, 8, 8), (5, 0, 8), (5, 8, -1), (5.0, 8, 8), (5, 8, 8, "slow")])
def test_sizes_below_one_and_unknown_recipes_are_refused(sizes):
    with pytest.raises((ValueError, TypeError), match="at least 1|'slow'|whole number"):
        charlstm.build_model(*sizes)


def test_a_vocabulary_is_no_number(vocabulary):
    with pytest.raises(TypeError, match=r"vocab_size must be a whole number"):
        charlstm.build_model(vocabulary)


def test_streams_may_begin_from_one_state(model, vocabulary):
    network = StepwiseLSTM(weights_of(model))
    ids = vocabulary.encode("the")
    logits, state = network.step(ids, network.empty_state())
    for place, char_id in enumerate(ids):
        alone, (hidden, cell) = network.step([char_id], network.empty_state())
        np.testing.assert_allclose(logits[place], alone[0], atol=1e-6)
        np.testing.assert_allclose(state[1][place], cell[0], atol=1e-6)
