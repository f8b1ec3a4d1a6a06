"""Files are there whole or not at all, give back what was written, and are refused by name if they are no such files."""

import json
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
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

import charlstm
from charlstm.course.ids_file import encode_file
from charlstm.files import TrainingState, load_state, path_to_write, save_state
from charlstm.model import check_weights

FACTS = st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.lists(st.floats(allow_nan=False)))
NUMBERS = st.lists(arrays(st.sampled_from(["f4", "f8", "i4", "i8", "u4", "?"]), array_shapes(min_dims=0)))
ABC = charlstm.Vocabulary("abc")


@settings(max_examples=50)
@given(FACTS, FACTS, NUMBERS, NUMBERS)
def test_a_state_is_given_back_to_the_bit(tmp_path_factory, facts, progress, variables, weights):
    path = tmp_path_factory.getbasetemp() / "state.safetensors"
    save_state(path, TrainingState(facts, progress, variables, weights))
    found = load_state(path)
    np.testing.assert_equal(vars(found), vars(TrainingState(facts, progress, variables, weights)))
    assert [array.dtype for array in found.variables] == [array.dtype for array in variables]


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
    assert read.pop("versions").keys() >= {"charlstm", "keras"} and [*tmp_path.iterdir()] == [path]
    assert read == {"text": "geese", "loss": 1.5, "losses": [1, 2], "best": 3}


def test_a_loaded_model_is_tuned_and_not_trained_anew(tmp_path, model, vocabulary, text):
    charlstm.save_model(tmp_path / "model.safetensors", model, vocabulary)
    loaded, _ = charlstm.load_model(tmp_path / "model.safetensors")
    history = charlstm.train(loaded, charlstm.make_dataset(vocabulary.encode(text), 20, 8))
    assert len(history["loss"]) == charlstm.RECIPES["fine_tune"].epochs


@pytest.mark.parametrize(("version", "tolerance"), [("0.1.0", 1e-5), ("0.2.0", 1e-4)])  # the latter in half precision
def test_files_of_older_versions_load(version, tolerance):
    path = Path(__file__).with_name(f"model-{version}.safetensors")
    model, vocabulary = charlstm.load_model(path)
    assert charlstm.read_card(path)["versions"]["charlstm"] == version
    logits = model(vocabulary.encode("the goose")[None]).numpy()[0, -1, :4]  # and as 0.1.0 computed them:
    assert logits == pytest.approx([0.0040545, 0.0415674, 0.0114399, 0.0283367], abs=tolerance)


def test_the_pretrained_model_is_as_good_as_its_card_says(grimm):
    model, vocabulary = charlstm.load_pretrained()
    _, held_out_ids = charlstm.split(vocabulary.encode(grimm.text))
    expected = charlstm.read_card()["held_out_bits_per_char"]
    assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(expected, abs=0.002)


def network(memory=keras.layers.LSTM, bias="zeros", activation=None, **settings):
    settings = {"return_sequences": True, "name": "memory"} | settings
    scores = keras.layers.Dense(3, bias_initializer=bias, activation=activation, name="scores")
    return keras.Sequential([keras.Input((None,)), keras.layers.Embedding(3, 4), memory(4, **settings), scores])


OTHER = {"activation": "relu", "recurrent_activation": "tanh", "use_bias": False, "go_backwards": True}
WRONG = [
    ({"vocabulary": charlstm.Corpus("c", "abc", "")}, TypeError, "not a Corpus"),
    ({"vocabulary": charlstm.Vocabulary("ab")}, ValueError, "but the vocabulary 2"),
    ({"card": {"model": object()}}, TypeError, "can't hold <object"),
    ({"model": network(keras.layers.GRU)}, ValueError, "Embedding, GRU, Dense"),
    ({"model": network(bias=keras.initializers.Constant(np.nan))}, ValueError, "dense_bias .*NaN"),
    ({"model": network(bias=keras.initializers.Constant(np.inf))}, ValueError, "dense_bias .*infinity"),
    ({"model": network(activation="softmax")}, ValueError, "'scores' has activation='softmax'"),
]
WRONG += [
    ({"model": network(**{name: value})}, ValueError, f"'memory' has {name}={value!r}")
    for name, value in (OTHER | {"return_sequences": False}).items()
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_saved_leaves_the_older_file(tmp_path, arguments, error, message):
    settings = {"path": tmp_path / "model.safetensors", "model": network(), "vocabulary": ABC}
    charlstm.save_model(**settings)
    before = settings["path"].read_bytes()
    with pytest.raises(error, match=message):
        charlstm.save_model(**settings | arguments)
    assert settings["path"].read_bytes() == before and [*tmp_path.iterdir()] == [settings["path"]]


STATE = TrainingState({"a": 1}, {"b": [1.5]}, [np.arange(200.0), np.array(3)], [np.ones(2)])
WRITERS = {
    "model.safetensors": lambda path: charlstm.save_model(path, network(), ABC),
    "state.safetensors": lambda path: save_state(path_to_write(path, ".safetensors"), STATE),
    "page.html": lambda path: charlstm.save_page(path, network(), ABC),
    "ids.npy": lambda path: encode_file(charlstm.find_file("tales"), path),
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """A function that writes a file of one kind to a path, and the path of the first of these."""
    WRITERS[request.param](tmp_path / request.param)
    return WRITERS[request.param], tmp_path / request.param


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("{path}.txt", ValueError, "another ending"),
        ("{path.parent}/{path.stem}", ValueError, "another ending"),
        ("{path.parent}", IsADirectoryError, "is a folder"),
        ("{path.parent}/no/folder/{path.name}", FileNotFoundError, "no folder .*no.folder"),
        ("~no-such-user/{path.name}", (ValueError, OSError), "~no-such-user"),
    ]
    + [("/proc/{path.name}", PermissionError, "can't be written")] * (sys.platform == "linux"),
)
def test_where_nothing_can_be_written_is_said(written, wrong, error, message):
    write, path = written
    with pytest.raises(error, match=message):
        write(wrong.format(path=path))
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of size")
def test_a_full_disk_leaves_the_older_file(written):
    import resource

    (write, path), limits = written, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{path} could not be"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a right that not every user has")
def test_links_are_followed_and_the_home_folder_is_known(written, monkeypatch):
    write, path = written
    monkeypatch.setenv("HOME", str(path.parent))
    (link := path.with_name(f"link{path.suffix}")).symlink_to(path)
    before = path.stat().st_mtime_ns
    write(f"~/{link.name}")
    assert link.is_symlink() and path.stat().st_mtime_ns > before and len([*path.parent.iterdir()]) == 2


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
        last = max(map(int, process.communicate()[0].split()), default=1)
        state = load_state(path)
        assert state.progress["n"] >= last and (state.variables[0] == state.progress["n"]).all()


@pytest.mark.parametrize("read", [charlstm.load_model, charlstm.Generator.load, charlstm.read_card, load_state])
def test_what_is_no_such_file_is_refused_by_name(tmp_path, read):
    path = tmp_path / "file.safetensors"
    for missing in path, tmp_path:
        with pytest.raises(FileNotFoundError, match=str(missing)):
            read(missing)
    WRITERS["model.safetensors" if read == load_state else "state.safetensors"](path)
    for content in path.read_bytes(), pickle.dumps({"weights": 1}), save({"weights": np.zeros(3)}), b"":
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} is no"):
            read(path)


BITS = {"BOOL": 8, "U8": 8, "F8_E5M2": 8, "F4": 4, "I16": 16, "F16": 16, "BF16": 16, "F64": 64, "I64": 64, "C64": 64}
METADATA = {
    "format": ["charlstm 1"] * 4 + ["charlstm-checkpoint 3"] * 2 + ["charlstm 2", ""],
    "vocabulary": ['"abc"'] * 4 + ['"cba"', '"ab"', "null", "3", "{", '["a", "b", "c"]', "[" * 100_000],
    "card": ["{}"] * 4 + ["[]", "3", "null", "{", '{"a": NaN}', "[" * 100_000],
    "settings": ["{}", '{"a": 3}', "[]", "3", "{"],
    "progress": ["{}", "{}", "[]", "null", "{"],
}


def strange_file(rng):
    """A valid .safetensors file of anything."""
    shapes, header, data = charlstm.StepwiseLSTM.weight_shapes(3, 2, 2), {}, b""
    if rng.random() < 0.2:
        shapes = dict.fromkeys(rng.permutation([*shapes, "extra", "variable 0", "weight 1", ""])[:4], (2, 2))
    odd = rng.choice([*shapes, "none", "none"])
    for name, shape in shapes.items():
        dtype = str(rng.choice([*BITS])) if name == odd and rng.random() < 0.7 else "F32"
        shape = rng.integers(0, 5, rng.integers(5)).tolist() if name == odd and rng.random() < 0.5 else shape
        size = -(-int(np.prod(shape, dtype=int)) * BITS.get(dtype, 32) // 8)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += rng.bytes(size) if rng.random() < 0.1 else bytes(size)
    wanted = [name for name in METADATA if rng.random() < 0.95]
    header["__metadata__"] = {name: METADATA[name][rng.integers(len(METADATA[name]))] for name in wanted}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def damage(rng, data):
    """The bytes cut off, or with others in place of some, in one place or in several."""
    kind, place, damaged = rng.integers(4), int(rng.integers(len(data))), bytearray(data)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + rng.bytes(int(rng.integers(9))) + data[place + int(rng.integers(9)) :]
    for _ in range(1 if kind == 2 else 5):
        damaged[rng.integers(min(len(data), 900))] ^= rng.integers(1, 256)
    return bytes(damaged)


READERS = {"model": charlstm.read_model_file, "state": lambda path: vars(load_state(path))}


def test_strange_cut_and_damaged_files_give_what_was_written_or_one_error(tmp_path):
    rng, path, accepted, ours = np.random.default_rng(0), tmp_path / "file.safetensors", [], {}
    for kind, read in READERS.items():
        WRITERS[f"{kind}.safetensors"](path)
        ours[kind] = path.read_bytes(), read(path)
    for _ in range(300):
        strange, written = rng.random() < 0.6, rng.choice([*ours])
        data = strange_file(rng) if strange else ours[written][0]
        path.write_bytes(damage(rng, data) if rng.random() < 0.6 else data)
        for kind, read in READERS.items():
            try:
                found = read(path)
            except ValueError as error:
                assert str(path) in str(error)
                continue
            accepted.append(kind)
            assert strange or kind == written
            np.testing.assert_equal(found, found if strange else ours[kind][1])
            if kind == "model":
                check_weights(*found[:2])
    assert min(map(accepted.count, READERS)) > 20  # or else this tests little
