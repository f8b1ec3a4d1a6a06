"""Files are there whole or not at all, give back what was written, and are refused by name if they are no such."""

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
from charlstm.files import STATE_FORMAT, TrainingState, load_state, path_to_write, save_state
from charlstm.model import recall, weights_for

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
    assert recall(loaded, "recipe") == charlstm.RECIPES["fine_tune"]  # and is not trained anew
    read = charlstm.read_card(path)
    assert read.pop("versions").keys() >= {"charlstm", "keras"} and [*tmp_path.iterdir()] == [path]
    assert read == {"text": "geese", "loss": 1.5, "losses": [1, 2], "best": 3}


@pytest.mark.parametrize(("version", "tolerance"), [("0.1.0", 1e-5), ("0.2.0", 1e-4)])  # the latter in half precision
def test_files_of_older_versions_load(version, tolerance):
    path = Path(__file__).with_name(f"model-{version}.safetensors")
    model, vocabulary = charlstm.load_model(path)
    assert charlstm.read_card(path)["versions"]["charlstm"] == version
    logits = model(vocabulary.encode("the goose")[None]).numpy()[0, -1, :4]  # and as 0.1.0 computed them:
    assert logits == pytest.approx([0.0040545, 0.0415674, 0.0114399, 0.0283367], abs=tolerance)


def test_what_a_model_knows_is_not_called_by_other_characters_of_the_same_number(tmp_path, model, vocabulary, text):
    other = charlstm.Vocabulary.from_text(text.upper().replace(" ", "\n"))
    charlstm.save_model(tmp_path / "model.safetensors", model, other)  # it has learned nothing yet
    charlstm.train(model, charlstm.make_dataset(vocabulary.encode(text[:200]), 9), epochs=1)
    for known in model, charlstm.load_model(tmp_path / "model.safetensors")[0]:
        wrong = other if known is model else vocabulary
        calls = [lambda: charlstm.Generator.from_model(known, wrong)]
        calls += [lambda: charlstm.save_model(tmp_path / "new.safetensors", known, wrong)]
        calls += [lambda: charlstm.save_page(tmp_path / "new.html", known, wrong)]
        for call in calls:
            with pytest.raises(ValueError, match="17 characters, without .*, but with"):
                call()
    assert len([*tmp_path.iterdir()]) == 1


def test_the_pretrained_model_is_as_good_as_its_card_says(grimm):
    model, vocabulary = charlstm.load_pretrained()
    _, held_out_ids = charlstm.split(vocabulary.encode(grimm.text))
    expected = charlstm.read_card()["held_out_bits_per_char"]
    assert charlstm.bits_per_char(model, held_out_ids) == pytest.approx(expected, abs=0.002)


def network(memory=keras.layers.LSTM, bias=0, scores=None, **settings):
    memory = memory(4, **{"return_sequences": True, "name": "memory"} | settings)
    dense = keras.layers.Dense(3, scores, bias_initializer=keras.initializers.Constant(bias), name="scores")
    return keras.Sequential([keras.Input((None,)), keras.layers.Embedding(3, 4), memory, dense])


OTHER = {"activation": "relu", "recurrent_activation": "tanh", "use_bias": False, "go_backwards": True}
OTHER |= {"return_sequences": False}
WRONG = [
    ({"model": network(**{name: OTHER[name]})}, ValueError, f"'memory' has {name}={OTHER[name]!r}") for name in OTHER
]
WRONG += [
    ({"vocabulary": charlstm.Corpus("c", "abc", "")}, TypeError, "not a Corpus"),
    ({"vocabulary": charlstm.Vocabulary("ab")}, ValueError, "vocabulary 2"),
    ({"card": {"model": object()}}, TypeError, "can't hold <object"),
    ({"model": network(keras.layers.GRU)}, ValueError, "Embedding, GRU, Dense"),
    ({"card": "my model"}, TypeError, "card must be a dictionary"),
    ({"model": network(bias=np.nan)}, ValueError, "dense_bias holds nan"),
    ({"model": network(bias=np.inf)}, ValueError, "dense_bias holds inf"),
    ({"model": network(scores="softmax")}, ValueError, "'scores' has activation='softmax'"),
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
    "state.safetensors": lambda path: save_state(path_to_write(path, ".safetensors", STATE_FORMAT), STATE),
    "page.html": lambda path: charlstm.save_page(path, network(), ABC),
    "ids.npy": lambda path: encode_file(charlstm.find_file("tales"), path),
}


def made(kind, folder):
    """The path of a file of this kind, in the folder."""
    WRITERS[kind](folder / kind)
    return folder / kind


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """A function that writes a file of one kind to a path, and the path of the first of these."""
    return WRITERS[request.param], made(request.param, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("{path}.txt", ValueError, "another ending"),
        ("{path.parent}", ValueError, "another ending"),
        ("{path.parent}/no/folder/{path.name}", FileNotFoundError, "no.folder.*No such file"),
        ("~no-such-user/{path.name}", (ValueError, OSError), "no-such-user"),
    ]
    + [("/proc/{path.name}", OSError, "can't be written")] * (sys.platform == "linux"),
)
def test_where_nothing_can_be_written_is_said(written, wrong, error, message):
    write, path = written
    with pytest.raises(error, match=message):
        write(wrong.format(path=path))
    assert [*path.parent.iterdir()] == [path]


def test_only_files_of_the_same_kind_are_replaced(written, tmp_path):
    write, path = written
    write(path)  # an older one of its own
    others = [made(kind, tmp_path).read_bytes() for kind in WRITERS if kind != path.name]
    (others_array := tmp_path / "others.npy").touch()
    np.save(others_array, np.ones(9))
    for content in *others, b"<!DOCTYPE html><title>mine</title>", others_array.read_bytes():
        path.write_bytes(content)
        with pytest.raises((ValueError, FileExistsError), match="another"):
            write(path)
        assert path.read_bytes() == content
    path.write_bytes(b"")  # as tempfile leaves it
    write(path)


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
def test_links_are_followed(written):
    write, path = written
    (link := path.with_name(f"link{path.suffix}")).symlink_to(path)
    before = path.stat().st_ino
    write(link)
    assert link.is_symlink() and path.stat().st_ino != before and len([*path.parent.iterdir()]) == 2


def test_a_kill_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state.safetensors"
    code = "import sys, itertools, numpy as np; from pathlib import Path; from charlstm import files\n"
    code += "for n in itertools.count(): files.save_state(Path(sys.argv[1]), files.TrainingState({}, {'n': n}, "
    code += "[np.full(10**6, n)], [])); print(n, flush=True)"
    for seconds in (0.001, 0.007, 0.013, 0.019, 0.025):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline(), process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        last = max(map(int, process.communicate()[0].split()), default=1)
        state = load_state(path)
        assert state.progress["n"] >= last and (state.variables[0] == state.progress["n"]).all()


READERS = {"model.safetensors": charlstm.read_model_file, "state.safetensors": lambda path: vars(load_state(path))}
HUGE = {name: np.full(shape, 1e300) for name, shape in charlstm.StepwiseLSTM.weight_shapes(3, 2, 2).items()}
NO_SUCH_FILES = {
    "another kind": lambda ours, other: other,
    "a pickle": lambda ours, other: pickle.dumps({"weights": 1}),
    "too large numbers": lambda ours, other: save(HUGE, {"format": "charlstm 1", "vocabulary": '"abc"', "card": "{}"}),
    "damaged, and its checksum, too": lambda ours, other: ours.replace(b"checksum", b"checksun")[:-1] + b"?",
}


@pytest.mark.parametrize("content", NO_SUCH_FILES)
@pytest.mark.parametrize(("kind", "other"), [[*READERS], [*READERS][::-1]])
def test_what_is_no_such_file_is_refused_by_name(tmp_path, kind, other, content):
    ours, others = made(kind, tmp_path).read_bytes(), made(other, tmp_path).read_bytes()
    with pytest.raises(FileNotFoundError, match="missing.safetensors"):
        READERS[kind](tmp_path / "missing.safetensors")
    (tmp_path / "file.safetensors").write_bytes(NO_SUCH_FILES[content](ours, others))
    with pytest.raises(ValueError, match="file.safetensors is no"):
        READERS[kind](tmp_path / "file.safetensors")


BITS = {"BOOL": 8, "U8": 8, "F8_E5M2": 8, "F4": 4, "I16": 16, "F16": 16, "BF16": 16, "F64": 64, "I64": 64, "C64": 64}
METADATA = {
    "format": ["charlstm 1"] * 9 + ["charlstm-checkpoint 3"] * 3 + ["charlstm 2", ""],
    "vocabulary": ['"abc"'] * 20 + ['"cba"', '"ab"', "null", "3", "{", '["a", "b", "c"]', "[" * 100_000],
    "card": ["{}"] * 20 + ["[]", "3", "null", "{", '{"a": NaN}', "[" * 100_000],
    **{name: ["{}", "{}", '{"a": 3}', "[]", "3", "null", "{"] for name in ("settings", "progress")},
}


def strange_file(rng):
    """A valid .safetensors file of anything."""
    shapes, header, data = charlstm.StepwiseLSTM.weight_shapes(3, 2, 2), {}, b""
    if rng.random() < 0.2:
        shapes = dict.fromkeys(rng.permutation([*shapes, "extra", "variable 0", "weight 1", ""])[:4], (2, 2))
    odd = rng.choice([*shapes, *["none"] * 9])
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
    for _ in range(1 if kind == 0 else 5):
        damaged[rng.integers(min(len(data), 900))] ^= rng.integers(1, 256)
    others = data[:place] + rng.bytes(int(rng.integers(9))) + data[place + int(rng.integers(9)) :]
    return [bytes(damaged), bytes(damaged), data[:place], others][kind]


def test_strange_cut_and_damaged_files_give_what_was_written_or_one_error(tmp_path):
    rng, path, accepted = np.random.default_rng(0), tmp_path / "file.safetensors", []
    expected = {kind: read(made(kind, tmp_path)) for kind, read in READERS.items()}
    for number in range(300):
        strange, written = number % 5 > 1, rng.choice([*READERS])
        data = strange_file(rng) if strange else (tmp_path / written).read_bytes()
        path.write_bytes(damage(rng, data) if rng.random() < 0.6 else data)
        for kind, read in READERS.items():
            try:
                found = read(path)
            except ValueError as error:
                assert str(path) in str(error)
                continue
            accepted.append(kind)
            if kind == "model.safetensors":
                weights_for(*found[:2])
            if not strange:
                np.testing.assert_equal((kind, found), (written, expected[kind]))
    assert min(map(accepted.count, READERS)) > 20  # or else this tests little
