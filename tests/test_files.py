"""The model file."""

import os
import pickle
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import charlstm

OLD_FILE = Path(__file__).parent / "model-0.1.0.safetensors"  # of charlstm 0.1.0, whose LSTM layer was another


def test_file_gives_back_model_vocabulary_and_card(tmp_path, model, vocabulary):
    path = tmp_path / "model.safetensors"
    charlstm.save_model(path, model, vocabulary, card={"text": "geese", "losses": [2.5, 1.5]})
    loaded, loaded_vocabulary = charlstm.load_model(path)
    ids = vocabulary.encode("the goose")[None]
    assert np.array_equal(loaded(ids), model(ids)) and loaded_vocabulary == vocabulary
    card = charlstm.read_card(path)
    assert card["text"] == "geese" and card["losses"] == [2.5, 1.5]
    assert card["architecture"] == "Embedding(17, 8), LSTM(12), Dense(17)" and "keras" in card["versions"]
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_loaded_model_is_tuned_and_not_trained_anew(tmp_path, model, vocabulary, text, capsys):
    charlstm.save_model(tmp_path / "model", model, vocabulary)
    loaded, _ = charlstm.load_model(tmp_path / "model")
    charlstm.train(loaded, charlstm.make_dataset(vocabulary.encode(text), 20, 8))
    assert "epoch 3 of 3" in capsys.readouterr().out and loaded.recipe == charlstm.RECIPES["fine_tune"]


def test_dropout_in_a_model_leaves_its_weights_to_file_and_generator(tmp_path, vocabulary):
    model = charlstm.build_model(len(vocabulary), 8, 12, recipe="best")
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    loaded, _ = charlstm.load_model(tmp_path / "model.safetensors")
    ids = vocabulary.encode("the goose")[None]
    assert np.allclose(loaded(ids), model(ids), atol=1e-6)
    expected = keras.ops.softmax(model(ids))[0, -1]
    np.testing.assert_allclose(
        charlstm.Generator.from_model(model, vocabulary).probabilities("the goose"), expected, 1e-4
    )


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
    with pytest.raises(ValueError, match="Embedding, GRU, Dense"):
        charlstm.Generator.from_model(other, vocabulary)


@pytest.mark.parametrize(
    ("lstm", "dense", "message"),
    [
        ({"activation": "relu"}, {}, "'memory' has activation='relu': only 'tanh'"),
        ({"recurrent_activation": "tanh"}, {}, "'memory' has recurrent_activation"),
        ({"use_bias": False}, {}, "'memory' has use_bias=False"),
        ({"go_backwards": True}, {}, "'memory' has go_backwards=True"),
        ({"return_sequences": False}, {}, "'memory' has return_sequences=False"),
        ({}, {"activation": "softmax"}, "'scores' has activation='softmax'"),
        ({}, {"use_bias": False}, "'scores' has use_bias=False"),
    ],
)
def test_other_settings_are_refused_by_the_layers_name(lstm, dense, message):
    layers = [
        keras.layers.Embedding(3, 4),
        keras.layers.LSTM(4, **{"return_sequences": True, "name": "memory"} | lstm),
        keras.layers.Dense(3, **{"name": "scores"} | dense),
    ]
    with pytest.raises(ValueError, match=message):
        charlstm.Generator.from_model(keras.Sequential([keras.Input((None,)), *layers]), charlstm.Vocabulary("abc"))


@pytest.fixture
def model_file(tmp_path, model, vocabulary):
    """model_file(**changes): a file of the tiny model, with some weights or metadata replaced."""

    def write(metadata=(), **changes):
        path = tmp_path / "model.safetensors"
        charlstm.save_model(path, model, vocabulary)
        with safe_open(path, framework="numpy") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()} | changes  # noqa: SIM118
            metadata = file.metadata() | {"checksum": None} | dict(metadata)  # as in version 0.1.0
            metadata = {name: value for name, value in metadata.items() if value is not None}
        save_file({name: weight for name, weight in weights.items() if weight is not None}, path, metadata)
        return path

    return write


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "int8"}, ValueError, "float32 or float16, not as 'int8'"),
        ({"vocabulary": charlstm.Corpus("c", "abc", "")}, TypeError, "such as corpus.vocabulary, not a Corpus"),
        ({"card": {"model": object()}}, TypeError, "the card can't hold <object .*: give numbers"),
        ({"path": "no/such/folder/model.safetensors"}, FileNotFoundError, "there is no folder .*no.such.folder"),
        ({"path": "."}, IsADirectoryError, "is a folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_saved_leaves_the_older_file(
    tmp_path, monkeypatch, model, vocabulary, arguments, error, message
):
    monkeypatch.chdir(tmp_path)
    settings = {"path": "model.safetensors", "model": model, "vocabulary": vocabulary}
    charlstm.save_model(**settings)
    before = Path("model.safetensors").read_bytes()
    with pytest.raises(error, match=message):
        charlstm.save_model(**settings | arguments)
    assert Path("model.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_weights_too_large_for_half_precision_are_refused(tmp_path, model, vocabulary):
    model.layers[-1].set_weights([weight + 1e5 for weight in model.layers[-1].get_weights()])
    with pytest.raises(ValueError, match="dense_kernel holds NaN or infinity"), np.errstate(over="ignore"):
        charlstm.save_model(tmp_path / "model", model, vocabulary, dtype="float16")


def test_a_card_may_hold_numbers_of_numpy(tmp_path, model, vocabulary):
    card = {"loss": np.float32(1.5), "losses": np.array([1, 2]), "best": np.int64(3)}
    charlstm.save_model(tmp_path / "model", model, vocabulary, card)
    assert charlstm.read_card(tmp_path / "model").items() >= {"loss": 1.5, "losses": [1, 2], "best": 3}.items()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which no file can be made, and a limit of size")
def test_a_folder_that_cannot_be_written_and_a_full_disk(tmp_path, model, vocabulary):
    with pytest.raises(PermissionError, match="/proc/model can't be written .*give a path in another folder"):
        charlstm.save_model("/proc/model", model, vocabulary)
    path = tmp_path / "model.safetensors"
    charlstm.save_model(path, model, vocabulary)
    before = path.read_bytes()
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, limits[1]))
    try:
        with pytest.raises(OSError, match="could not be written, and is as it was: File too large"):
            charlstm.save_model(path, model, vocabulary, {"card": "another"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a right that not every user has")
def test_a_link_is_followed(tmp_path, model, vocabulary):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "model")
    charlstm.save_model(tmp_path / "link", model, vocabulary)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "model").is_file()


def test_what_killed_processes_left_is_swept(tmp_path, model, vocabulary):
    path = tmp_path / "model[1].safetensors"
    old, fresh = (tmp_path / f"{path.name}.{number}.partial" for number in (1, 2))
    for partial in (old, fresh):
        partial.write_bytes(b"half")
    os.utime(old, (1, 1))
    charlstm.save_model(path, model, vocabulary)
    assert not old.exists() and fresh.exists()  # another process may be writing this one


def test_a_flipped_bit_in_the_weights_is_seen(tmp_path, model, vocabulary):
    path = tmp_path / "model.safetensors"
    charlstm.save_model(path, model, vocabulary)
    damaged = bytearray(path.read_bytes())
    damaged[-9] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"model.safetensors is damaged \(wrong checksum\)"):
        charlstm.load_model(path)


@pytest.mark.parametrize("load", [charlstm.load_model, charlstm.Generator.load, charlstm.read_card])
def test_bad_files_are_refused_by_name(tmp_path, model_file, load):
    with pytest.raises(FileNotFoundError, match="no model file .*missing"):
        load(tmp_path / "missing.safetensors")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ValueError, match="pickle is cut off, damaged or no .safetensors"):
        load(tmp_path / "pickle")
    save_file({"weights": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match="other has the format None"):
        load(tmp_path / "other")
    for metadata, changes, message in (
        ({"format": "charlstm 2"}, {}, "format 'charlstm 2', and charlstm 1 or charlstm-checkpoint 2 is read here"),
        ({"format": "charlstm"}, {}, "format 'charlstm'"),
        ({"vocabulary": '"abc"'}, {}, "17 characters, but the vocabulary 3"),
        ({"vocabulary": '"cba"'}, {}, "in sorted order"),
        ({"vocabulary": "{"}, {}, "not a whole model"),
        ({}, {"lstm_kernel": np.zeros((8, 47), np.float32)}, r"lstm_kernel has the shape \(8, 47\)"),
        ({}, {"dense_bias": None}, "dense_bias"),
        ({}, {"extra": np.zeros(1)}, "should not hold, extra"),
        ({"card": "[]"}, {}, "not a whole model"),
        ({"card": "[" * 100_000}, {}, "not a whole model"),
        ({"note": "1"}, {}, "its metadata are .*note"),
        ({}, {"dense_bias": np.zeros(17, np.float64)}, "its weights are not float32 or float16"),
        ({}, {"dense_bias": np.zeros((), np.float32)}, r"dense_bias has the shape \(\): it should have 1 dim"),
        ({}, {"lstm_recurrent_kernel": np.zeros((0, 48), np.float32)}, r"has the shape \(0, 48\)"),
        ({}, {"dense_bias": np.full(17, np.nan, np.float32)}, "dense_bias holds NaN"),
    ):
        with pytest.raises(ValueError, match=f"model.safetensors .*{message}"):
            load(model_file(metadata, **changes))


def test_a_file_that_is_cut_off_anywhere_is_refused(model_file):
    path = model_file()
    whole = path.read_bytes()
    for length in [*range(0, 100, 7), *range(100, len(whole), 501), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut off"):
            charlstm.load_model(path)


def test_pretrained_model_is_as_good_as_its_card_says(grimm):
    model, vocabulary = charlstm.load_pretrained()
    _, held_out_ids = charlstm.split(vocabulary.encode(grimm.text))
    assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(
        charlstm.read_card()["held_out_bits_per_char"], abs=0.002
    )


def test_a_file_of_version_0_1_0_loads():
    model, vocabulary = charlstm.load_model(OLD_FILE)
    assert charlstm.read_card(OLD_FILE)["versions"]["charlstm"] == "0.1.0"
    logits = model(vocabulary.encode("the goose")[None]).numpy()[0, -1]
    assert logits[:4] == pytest.approx([0.0040545, 0.0415674, 0.0114399, 0.0283367], abs=1e-5)  # as 0.1.0 computed them
