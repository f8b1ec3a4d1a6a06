"""The network and its file."""

import keras
import numpy as np
import pytest

import charlstm


def test_parameters_of_the_book():
    assert charlstm.build_model(70).count_params() == 1_628_742
    assert charlstm.build_model(80).count_params() == 1_636_432


def test_ids_in_logits_out(model, vocabulary):
    assert model(np.zeros((3, 5), dtype=np.int32)).shape == (3, 5, len(vocabulary))


def test_initializer_of_the_embedding():
    def spread(**options):
        return np.std(charlstm.build_model(50, 64, 4, **options).get_weights()[0])

    assert spread() == pytest.approx(1, rel=0.1)
    assert spread(embeddings_initializer="uniform") == pytest.approx(0.1 / np.sqrt(12), rel=0.1)


@pytest.mark.parametrize("sizes", [(0, 8, 8), (5, 0, 8), (5, 8, -1)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        charlstm.build_model(*sizes)


def test_file_gives_back_model_vocabulary_and_card(tmp_path, model, vocabulary):
    path = tmp_path / "model.safetensors"
    charlstm.save_model(path, model, vocabulary, card={"text": "geese", "losses": [2.5, 1.5]})
    loaded, loaded_vocabulary = charlstm.load_model(path)
    ids = vocabulary.encode("the goose")[None]
    assert np.array_equal(loaded(ids), model(ids)) and loaded_vocabulary == vocabulary
    assert charlstm.read_card(path) == {"text": "geese", "losses": [2.5, 1.5]}
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_half_precision_file(tmp_path, model, vocabulary):
    charlstm.save_model(tmp_path / "full", model, vocabulary)
    charlstm.save_model(tmp_path / "half", model, vocabulary, dtype="float16")
    assert (tmp_path / "half").stat().st_size < 0.75 * (tmp_path / "full").stat().st_size
    loaded, _ = charlstm.load_model(tmp_path / "half")
    for before, after in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-6)


def test_a_vocabulary_of_another_size_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match="but the vocabulary 3"):
        charlstm.save_model(tmp_path / "model.safetensors", model, charlstm.Vocabulary("abc"))
    assert not list(tmp_path.iterdir())


def test_other_layers_are_refused_by_name(tmp_path, vocabulary):
    other = keras.Sequential([keras.layers.Embedding(5, 4), keras.layers.GRU(4), keras.layers.Dense(5)])
    with pytest.raises(ValueError, match="Embedding, GRU, Dense"):
        charlstm.save_model(tmp_path / "model.safetensors", other, vocabulary)


def test_bad_files_are_refused(tmp_path, model, vocabulary):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="no model file"):
        charlstm.load_model(path)
    charlstm.save_model(path, model, vocabulary)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        charlstm.load_model(path)
    from safetensors.numpy import save_file

    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a model file"):
        charlstm.load_model(path)


def test_pretrained_model_is_as_good_as_its_card_says(grimm):
    model, vocabulary = charlstm.load_pretrained()
    _, held_out_ids = charlstm.split(vocabulary.encode(grimm.text))
    assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(
        charlstm.read_card()["held_out_bits_per_char"], abs=0.002
    )
