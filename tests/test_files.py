"""Files are there whole or not at all, give back what was written, and are refused by name if they are no such files."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

import charlstm
from charlstm.course.ids_file import encode_file
from charlstm.files import TrainingState, load_state, path_to_write, save_state

FOLDER = Path(__file__).parent
NUMBERS = st.lists(arrays.arrays(st.sampled_from(["f4", "f8", "i4", "i8", "u4", "?"]), arrays.array_shapes(min_dims=0)))
FACTS = st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.lists(st.floats(allow_nan=False)))
SHAPES = charlstm.StepwiseLSTM.weight_shapes(3, 2, 2)


def same(state, other):
    """Whether all numbers of two states are equal, and of one kind."""
    ours, others = ([*state.variables, *state.weights] for state in (state, other))
    return all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, others, strict=True))


@settings(max_examples=50)
@given(FACTS, FACTS, NUMBERS, NUMBERS)
def test_a_state_is_given_back_to_the_bit(tmp_path_factory, facts, progress, variables, weights):
    path, state = tmp_path_factory.getbasetemp() / "state.safetensors", TrainingState(facts, progress, variables, weights)
    save_state(path, state)
    found = load_state(path)
    assert (found.settings, found.progress) == (facts, progress) and same(found, state)


@pytest.mark.parametrize("recipe", ["quick", "best"])  # the one with a Dropout layer, too
def test_a_file_gives_back_model_vocabulary_and_card(tmp_path, vocabulary, recipe):
    model, path = charlstm.build_model(len(vocabulary), 8, 12, recipe), tmp_path / "model.safetensors"
    card = {"text": "geese", "loss": np.float32(1.5), "losses": np.array([1, 2]), "best": np.int64(3)}
    charlstm.save_model(path, model, vocabulary, card)
    loaded, loaded_vocabulary = charlstm.load_model(path)
    ids = vocabulary.encode("the goose")[None]
    assert np.allclose(loaded(ids), model(ids), atol=1e-6) and loaded_vocabulary == vocabulary
    expected = keras.ops.softmax(model(ids))[0, -1]
    np.testing.assert_allclose(charlstm.Generator.load(path).probabilities("the goose"), expected, atol=1e-5)
    read = charlstm.read_card(path)
    assert read.pop("versions").keys() >= {"charlstm", "keras"}
    assert read == {"text": "geese", "loss": 1.5, "losses": [1, 2], "best": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_loaded_model_is_tuned_and_not_trained_anew(tmp_path, model, vocabulary, text):
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    loaded, _ = charlstm.load_model(tmp_path / "model.safetensors")
    history = charlstm.train(loaded, charlstm.make_dataset(vocabulary.encode(text), 20, 8))
    assert len(history["loss"]) == charlstm.RECIPES["fine_tune"].epochs


def test_half_precision_halves_the_file(tmp_path, model, vocabulary):
    sizes = {}
    for dtype in "float32", "float16":
        charlstm.save_model(path := tmp_path / "model.safetensors", model, vocabulary, dtype=dtype)
        sizes[dtype] = path.stat().st_size
    assert sizes["float16"] < 0.75 * sizes["float32"]
    for before, after in zip(model.get_weights(), charlstm.load_model(path)[0].get_weights(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_files_of_older_versions_load(version):
    model, vocabulary = charlstm.load_model(FOLDER / f"model-{version}.safetensors")
    assert charlstm.read_card(FOLDER / f"model-{version}.safetensors")["versions"]["charlstm"] == version
    logits = model(vocabulary.encode("the goose")[None]).numpy()[0, -1]
    assert logits[:4] == pytest.approx([0.0040545, 0.0415674, 0.0114399, 0.0283367], abs=1e-5)  # as 0.1.0 computed them


def test_the_pretrained_model_is_as_good_as_its_card_says(grimm):
    model, vocabulary = charlstm.load_pretrained()
    _, held_out_ids = charlstm.split(vocabulary.encode(grimm.text))
    expected = charlstm.read_card()["held_out_bits_per_char"]
    assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(expected, abs=0.002)


GRU = keras.Sequential([keras.layers.Embedding(5, 4), keras.layers.GRU(4), keras.layers.Dense(5)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "int8"}, ValueError, "int8"),
        ({"dtype": "nonsense"}, (TypeError, ValueError), "nonsense"),
        ({"vocabulary": charlstm.Corpus("c", "abc", "")}, TypeError, "not a Corpus"),
        ({"vocabulary": charlstm.Vocabulary("abc")}, ValueError, "but the vocabulary 3"),
        ({"card": {"model": object()}}, TypeError, "can't hold <object"),
        ({"model": GRU}, ValueError, "Embedding, GRU, Dense"),
    ],
    ids=str,
)
def test_what_cannot_be_saved_leaves_the_older_file(tmp_path, model, vocabulary, arguments, error, message):
    settings = {"path": tmp_path / "model.safetensors", "model": model, "vocabulary": vocabulary}
    charlstm.save_model(**settings)
    before = settings["path"].read_bytes()
    with pytest.raises(error, match=message):
        charlstm.save_model(**settings | arguments)
    assert settings["path"].read_bytes() == before and len(list(tmp_path.iterdir())) == 1


LSTM = {"activation": "relu", "recurrent_activation": "tanh", "use_bias": False, "go_backwards": True}
OTHER_SETTINGS = [("memory", {name: value}) for name, value in (LSTM | {"return_sequences": False}).items()]
OTHER_SETTINGS += [("scores", {"activation": "softmax"}), ("scores", {"use_bias": False})]


@pytest.mark.parametrize(("layer", "wrong"), OTHER_SETTINGS, ids=str)
def test_layers_that_compute_otherwise_are_refused_by_their_names(tmp_path, layer, wrong):
    given = {"memory": {"return_sequences": True}, "scores": {}}
    given[layer] |= wrong
    memory, scores = keras.layers.LSTM(4, name="memory", **given["memory"]), keras.layers.Dense(3, **given["scores"])
    scores.name = "scores"
    model = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(3, 4), memory, scores])
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f"'{layer}' has {name}={value!r}"):
        charlstm.save_model(tmp_path / "model.safetensors", model, charlstm.Vocabulary("abc"))


@pytest.mark.parametrize(("dtype", "change"), [("float16", 1e5), ("float32", np.nan), ("float32", np.inf)])
def test_weights_that_are_no_numbers_are_refused(tmp_path, model, vocabulary, dtype, change):
    model.layers[-1].set_weights([weight + change for weight in model.layers[-1].get_weights()])
    with pytest.raises(ValueError, match="dense_kernel .*NaN or infinity"), np.errstate(over="ignore"):
        charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary, dtype=dtype)


@pytest.fixture(params=["model.safetensors", "state.safetensors", "page.html", "ids.npy"])
def writer(request, tmp_path, model, vocabulary, text):
    """A function that writes to the path that it is given, and the path of its first file, which is written."""

    def write_state(path):
        save_state(path_to_write(path, ".safetensors"), TrainingState({}, {}, [np.zeros(2000)], []))

    def write_ids(path):
        (tmp_path / "own.txt").write_text(text, encoding="utf-8")
        try:
            encode_file(tmp_path / "own.txt", path)
        finally:
            (tmp_path / "own.txt").unlink()

    writers = {"state.safetensors": write_state, "ids.npy": write_ids}
    for function, name in (charlstm.save_model, "model.safetensors"), (charlstm.save_page, "page.html"):
        writers[name] = lambda path, function=function: function(path, model, vocabulary)
    writers[request.param](tmp_path / request.param)
    return writers[request.param], tmp_path / request.param


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("{path}.txt", ValueError, "another ending"),
        ("{path.parent}/model", ValueError, "another ending"),
        ("{path.parent}", IsADirectoryError, "is a folder"),
        ("{path.parent}/no/folder/{path.name}", FileNotFoundError, "no folder .*no.folder"),
        ("~nobody/{path.name}", (ValueError, OSError), "~nobody"),
        ("{path.parent}/" + 300 * "a" + "{path.suffix}", OSError, "aaa"),
        pytest.param("/proc/{path.name}", PermissionError, "can't be written", marks=pytest.mark.skipif("sys.platform != 'linux'")),
    ],
)
def test_where_nothing_can_be_written_is_said(writer, wrong, error, message):
    write, path = writer
    with pytest.raises(error, match=message):
        write(wrong.format(path=path))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of size")
def test_a_full_disk_leaves_the_older_file(writer):
    import resource

    (write, path), limits = writer, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{path} could not be"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a right that not every user has")
def test_links_are_followed_and_the_home_folder_is_known(writer, monkeypatch):
    write, path = writer
    monkeypatch.setenv("HOME", str(path.parent))
    link = path.with_name(f"link{path.suffix}")
    path.rename(disk := path.with_name(f"disk{path.suffix}"))
    link.symlink_to(disk)
    before = disk.stat().st_ino
    write(f"~/{link.name}")
    assert link.is_symlink() and disk.stat().st_ino != before and len(list(path.parent.iterdir())) == 2


def test_a_kill_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state.safetensors"
    code = "import sys, itertools, numpy as np; from pathlib import Path; from charlstm import files\n"
    code += "for n in itertools.count(): files.save_state(Path(sys.argv[1]), files.TrainingState({}, {'n': n}, "
    code += "[np.full(10**6, n)], [])); print(n, flush=True)"
    for milliseconds in range(1, 31, 6):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline(), process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.kill()
        written = max(map(int, process.communicate()[0].split()), default=1)
        state = load_state(path)
        assert state.progress["n"] >= written and (state.variables[0] == state.progress["n"]).all()


READERS = [charlstm.load_model, charlstm.Generator.load, charlstm.read_card, load_state]


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_such_file_is_refused_by_name(tmp_path, model, vocabulary, read):
    for missing in tmp_path / "file.safetensors", tmp_path:
        with pytest.raises(FileNotFoundError, match=str(missing)):
            read(missing)
    if read == load_state:
        charlstm.save_model(tmp_path / "other.safetensors", model, vocabulary)
    else:
        save_state(tmp_path / "other.safetensors", TrainingState({}, {}, [], []))
    for content in pickle.dumps({"weights": 1}), save({"weights": np.zeros(3)}), (tmp_path / "other.safetensors").read_bytes():
        (tmp_path / "file.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="file.safetensors is no"):
            read(tmp_path / "file.safetensors")


BITS = {"BOOL": 8, "U8": 8, "F8_E5M2": 8, "F4": 4, "I16": 16, "F16": 16, "BF16": 16, "F64": 64, "I64": 64, "C64": 64}
DEEP = "[" * 100_000
METADATA = {
    "format": ["charlstm 1"] * 4 + ["charlstm-checkpoint 3"] * 2 + ["charlstm 2", "charlstm", ""],
    "vocabulary": ['"abc"'] * 4 + ['"cba"', '"ab"', "null", "3", "{", "[]", '["a", "b", "c"]', DEEP],
    "card": ["{}"] * 4 + ["[]", "3", "null", "{", '{"a": NaN}', DEEP],
    "settings": ["{}", '{"a": 3}', "[]", "3", "{", DEEP],
    "progress": ["{}", "{}", "[]", "null", "{"],
}


def strange_file(rng):
    """A valid .safetensors file of anything."""
    names = [*SHAPES] if rng.random() < 0.8 else [*rng.permutation([*SHAPES, "extra", "variable 0", "weight 1", ""])[:4]]
    odd, header, data = rng.choice(names) if rng.random() < 0.7 else None, {}, b""
    for name in names:
        dtype, shape = "F32", list(SHAPES.get(name, (2, 2)))
        if name == odd and rng.random() < 0.7:
            dtype = str(rng.choice([*BITS]))
        if name == odd and rng.random() < 0.5:
            shape = rng.integers(0, 5, size=rng.integers(0, 5)).tolist()
        size = -(-int(np.prod(shape, dtype=int)) * BITS.get(dtype, 32) // 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += rng.bytes(size) if rng.random() < 0.1 else bytes(size)
    wanted = [name for name in METADATA if rng.random() < 0.95]
    header["__metadata__"] = {name: METADATA[name][rng.integers(len(METADATA[name]))] for name in wanted}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def damage(rng, data):
    """The bytes cut off, with some more, with some less, or with one or several others."""
    kind, place, other = rng.integers(5), int(rng.integers(len(data))), bytearray(data)
    for _ in range(1 if kind == 3 else 5):
        other[rng.integers(min(len(data), 900))] ^= rng.integers(1, 256)
    longer = data[:place] + rng.bytes(int(rng.integers(1, 9))) + data[place:]
    return [data[:place], longer, data[:place] + data[place + int(rng.integers(1, 9)) :], bytes(other), bytes(other)][kind]


@pytest.mark.parametrize("count", [int(os.environ.get("CHARLSTM_FUZZ", 300))])
def test_strange_cut_and_damaged_files_give_what_was_written_or_one_error(tmp_path, count):
    rng, path, read = np.random.default_rng(count), tmp_path / "file.safetensors", {"a model": 0, "a state": 0}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    model = charlstm.build_model(3, 2, 2)
    model.set_weights([*weights.values()])
    charlstm.save_model(path, model, charlstm.Vocabulary("abc"))
    ours, state = [path.read_bytes()], TrainingState({"a": 1}, {"b": [1.5]}, [*weights.values(), np.array(3)], [])
    save_state(path, state)
    ours.append(path.read_bytes())
    for _ in range(count):
        strange = rng.random() < 0.6
        data = strange_file(rng) if strange else ours[rng.integers(2)]
        path.write_bytes(damage(rng, data) if rng.random() < 0.6 else data)
        for reader, kind in (charlstm.read_model_file, "a model"), (load_state, "a state"):
            try:
                found = reader(path)
            except ValueError as error:
                assert str(path) in str(error)
                continue
            read[kind] += 1
            if kind == "a state":
                assert strange or same(found, state) and (found.settings, found.progress) == ({"a": 1}, {"b": [1.5]})
            else:
                assert found[1].chars == "abc" and isinstance(found[2], dict) and {*found[0]} == {*SHAPES}
                assert all(strange or np.array_equal(weights[name], weight) for name, weight in found[0].items())
                assert all(np.isfinite(weight).all() for weight in found[0].values())
    assert min(read.values()) > count / 20  # or else this tests little
