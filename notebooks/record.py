"""The long runs that the notebooks quote, made again: python notebooks/record.py NAME, one of these:

book        the book's 20 epochs, once on the whole of Grimm and once on nine tenths of it with the last tenth held
            out, into charlstm/recorded/book.json (two runs of 6 to 8 minutes on 2 CPU cores)
changes     five epochs by the book, with the changes of the quick recipe one by one and together, into
            charlstm/recorded/changes.json (about 6 minutes)
memory      what plain RNNs and LSTMs bring at two widths, and which start lets them recall a letter, into
            charlstm/recorded/memory.json (about 20 minutes)
better      what each part of the recipe "best" brings alone, and what is lost when it alone is left out: ten epochs on
            100,000 characters of Grimm, measured on the 20,000 after them, into charlstm/recorded/better.json (15 runs
            of 1 to 3 minutes; with the name of a run behind it: this one); and, with half the units, what each alone
            brings on 600,000 characters of The Mysterious Island in two epochs, into better_island.json
pretrained  the model that comes with the package, into charlstm/pretrained/grimm.safetensors (5 to 10 minutes)

charlstm/recorded/training.json is made by python tests/benchmarks/run.py training quality_time sampling --output FILE.
"""

import dataclasses
import datetime
import json
import os
import platform
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from charlstm.model_file import PRETRAINED, load_pretrained

import charlstm
from charlstm.inside import read_closely, telling_apart
from charlstm.model import weights_of
from charlstm.recipes import RECIPES, Recipe
from charlstm.sources import SOURCES
from charlstm.recorded import RECORDED, read_recorded

SEED = 1


def circumstances() -> dict:
    """When and on what this runs."""
    device = "one GPU" if tf.config.list_physical_devices("GPU") else f"{os.cpu_count()} CPU cores"
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {device}",
        "versions": versions,
    }


def read_grimm():
    corpus = charlstm.load_corpus("grimm")
    ids = corpus.vocabulary.encode(corpus.text)
    return corpus.vocabulary, ids, *charlstm.split(ids)


def write_recorded(name: str, results: dict) -> None:
    text = json.dumps({**circumstances(), **results}, indent=1) + "\n"
    (RECORDED / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")


def timed_run(recipe: Recipe, train_ids, held_out_ids) -> dict:
    """A training from a fixed seed: history, and the minutes and the seconds an epoch without the measuring."""
    vocab_size = len(read_grimm()[0])
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(vocab_size, recipe=recipe)
    start = time.perf_counter()
    run = charlstm.train(model, charlstm.make_dataset(train_ids, seed=SEED), recipe, held_out_ids=held_out_ids)
    minutes = (time.perf_counter() - start) / 60
    start = time.perf_counter()
    if held_out_ids is not None:
        charlstm.bits_per_char(model, held_out_ids)
    training_seconds = 60 * minutes - recipe.epochs * (time.perf_counter() - start)
    return run | {"minutes": round(minutes, 1), "seconds_an_epoch": round(training_seconds / recipe.epochs, 1)}


def record_book() -> None:
    _, ids, head, tail = read_grimm()
    book = RECIPES["book"]
    write_recorded("book", {"whole_text": timed_run(book, ids, None), "nine_tenths": timed_run(book, head, tail)})


def record_changes() -> None:
    vocabulary, _, head, tail = read_grimm()
    book, quick = (dataclasses.replace(RECIPES[name], epochs=RECIPES["quick"].epochs) for name in ("book", "quick"))
    changes = {
        "by the book": (),
        "initializer": ("embeddings_stddev",),
        "large rate": ("learning_rate",),
        "large rate, clipping": ("learning_rate", "clip_norm"),
        "large rate, schedule": ("learning_rate", "schedule"),
        "large rate, schedule, clipping": ("learning_rate", "schedule", "clip_norm"),
        "initializer, large rate, clipping": ("embeddings_stddev", "learning_rate", "clip_norm"),
    }

    def run(recipe: Recipe, rnn_units: int = 256) -> dict:
        keras.utils.set_random_seed(SEED)
        model = charlstm.build_model(len(vocabulary), rnn_units=rnn_units, recipe=recipe)
        return charlstm.train(model, charlstm.make_dataset(head, seed=SEED), recipe, held_out_ids=tail)

    recipes = {
        name: dataclasses.replace(book, **{field: getattr(quick, field) for field in fields})
        for name, fields in changes.items()
    }
    runs = {name: run(recipe) for name, recipe in {**recipes, "all of them: quick": quick}.items()}
    write_recorded("changes", {"rnn_units": 256, "runs": runs, "quick_512_units": run(quick, 512)})


def better_recipes(epochs: int = 10) -> dict[str, Recipe]:
    """The recipes of ``record better`` by name: none of the cures, all, each alone, and all but one."""
    best = dataclasses.replace(RECIPES["best"], epochs=epochs)
    plain = dataclasses.replace(RECIPES["quick"], epochs=epochs, keep_best=False)
    cures = {
        "carried state": ("carry_state",),
        "dropout of outputs": ("output_dropout",),
        "dropout of weights": ("weight_drop", "embedding_dropout"),
        "averaging, decay, scale factor": ("average", "weight_decay", "scale_factor"),
    }
    recipes = {"none": plain, "all": best}
    for cure, fields in cures.items():
        for start, other, name in (plain, best, f"only {cure}"), (best, plain, f"all but {cure}"):
            recipes[name] = dataclasses.replace(start, **{field: getattr(other, field) for field in fields})
    return recipes


def record_better(name: str | None = None) -> None:
    """All runs on Grimm, and those with one cure on The Mysterious Island; or those of this name."""
    recipes = better_recipes()
    for each, recipe in recipes.items():
        if name in (None, each):
            record_cure("better", "grimm", each, recipe, 512, 100_000)
    for each, recipe in recipes.items():
        if name in (None, f"island {each}") and (each == "none" or each.startswith("only")):
            recipe = dataclasses.replace(recipe, epochs=2)
            record_cure("better_island", "mysterious_island", each, recipe, 256, 600_000)


def record_cure(file: str, text: str, name: str, recipe: Recipe, rnn_units: int, length: int) -> None:
    """Train on the first ``length`` characters, measure the 20,000 after them, and write it beside the other runs."""
    corpus = charlstm.load_corpus(text)
    ids = corpus.vocabulary.encode(corpus.text)
    train_ids, validation_ids = ids[:length], ids[length : length + 20_000]
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(corpus.vocabulary), 256, rnn_units, recipe)
    seq_length = 25 if recipe.carry_state else 50
    dataset = charlstm.make_dataset(train_ids, seq_length, seed=SEED, carry_state=recipe.carry_state)
    loss = charlstm.train(model, dataset)["loss"]
    bits = charlstm.bits_per_char(model, validation_ids)
    runs = read_recorded(file)["runs"] if (RECORDED / f"{file}.json").exists() else {}
    runs[name] = {"loss": loss, "bits": bits}
    write_recorded(file, {"rnn_units": rnn_units, "runs": runs})


def record_pretrained() -> None:
    vocabulary, _, head, tail = read_grimm()
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(vocabulary), recipe="best")
    dataset = charlstm.make_dataset(head, seq_length=25, seed=SEED, carry_state=True)
    start = time.perf_counter()
    history = charlstm.train(model, dataset)
    card = {
        "text": SOURCES["grimm"].title,
        "sha256": SOURCES["grimm"].sha256,
        "trained_on": f"the first nine tenths, 64 streams, steps of 25, seed {SEED}",
        "recipe": dataclasses.asdict(RECIPES["best"]),
        "made_by": "python notebooks/record.py pretrained",
        "training_loss_nats": [round(loss, 4) for loss in history["loss"]],
        "training_minutes": round((time.perf_counter() - start) / 60, 1),
        **circumstances(),
    }
    # What the file holds is rounded to half precision, so that is what gets measured.
    charlstm.save_model(PRETRAINED, model, vocabulary, card, dtype="float16")
    model = load_pretrained()[0]
    card["units"] = named_units(weights_of(model), tail[: len(tail) // 2])
    card["held_out_bits_per_char"] = round(charlstm.bits_per_char(model, tail), 4)
    card["held_out_bits_learning_on"] = round(charlstm.bits_per_char(model, tail, learn=True), 4)
    charlstm.save_model(PRETRAINED, model, vocabulary, card, dtype="float16")
    print(json.dumps(card, indent=1))


def named_units(weights: dict[str, np.ndarray], ids: np.ndarray) -> dict[str, int]:
    """Which unit's cell state tells best whether a character stands in quotation marks (notebook 08_inside)."""
    marks = [[char == '"' for char in part + "\n\n"] for part in ids.vocabulary.decode(ids).split("\n\n")]
    inside = np.concatenate([np.cumsum(part) % 2 == 1 for part in marks])[: len(ids)]
    auc = telling_apart(read_closely(weights, ids).cell, inside)
    return {"inside quotation marks": int(np.abs(auc - 0.5).argmax())}


def network(layer, vocab_size: int, embedding_dim: int = 256):
    """Keras's Embedding, ``layer``, Dense: the course's model with another layer in its middle."""
    initializer = keras.initializers.RandomNormal(stddev=0.6)
    embedding = keras.layers.Embedding(vocab_size, embedding_dim, embeddings_initializer=initializer)
    return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, layer, keras.layers.Dense(vocab_size)])


def bits_of(model, inputs, targets):
    """Surprise at ``targets`` in bits: at each character after it has read ``inputs``, or at one after each row."""
    logits = model.predict(inputs, batch_size=512, verbose=0)
    logits = logits[0] if len(inputs) == 1 else logits[:, -1]
    log_probabilities = np.array(keras.ops.log_softmax(logits))
    return -log_probabilities[np.arange(len(targets)), targets] / np.log(2)


def read_grimm_twice() -> tuple:
    """The first 8/10 to train on, and the ninth tenth, on which choices are made."""
    vocabulary, _, head, _ = read_grimm()
    return len(vocabulary), *charlstm.split(head, held_out=1 / 9)


def record_width(kind: str, units: int, rate: float) -> dict:
    """Five epochs by the quick recipe at this peak of the learning rate; bits on the ninth tenth, carried through, and
    from a state of zeros over the last k characters only."""
    vocab_size, head, ninth = read_grimm_twice()
    keras.utils.set_random_seed(SEED)
    model = network(getattr(keras.layers, kind)(units, return_sequences=True), vocab_size)
    dataset = charlstm.make_dataset(head, seed=SEED)
    recipe = dataclasses.replace(RECIPES["quick"], learning_rate=rate)
    recipe.compile(model, len(dataset))
    model.fit(dataset.batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    bits = float(bits_of(model, ninth[None, :-1], ninth[1:]).mean())
    places = np.arange(100, len(ninth), 6)
    context = {
        k: round(float(bits_of(model, ninth[places[:, None] + np.arange(-k, 0)], ninth[places]).mean()), 3)
        for k in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30)
    }
    run = {"layer": kind, "units": units, "parameters": model.count_params(), "rate": rate}
    return run | {"bits": round(bits, 3), "bits_with_context": context}


def biased_lstm(units: int, forget_bias: float):
    """Keras's LSTM, whose forget gates begin with a bias of ``forget_bias`` in place of 1."""
    bias = np.repeat(np.float32([0, forget_bias, 0, 0]), units)
    settings = {"unit_forget_bias": False, "bias_initializer": lambda shape, dtype=None: bias}
    return keras.layers.LSTM(units, **settings)


STARTS = {
    "plain RNN, as Keras starts it": lambda: keras.layers.SimpleRNN(64),
    "plain RNN, small random start": lambda: keras.layers.SimpleRNN(
        64, recurrent_initializer=keras.initializers.RandomNormal(stddev=0.01)
    ),
    "LSTM, forget bias 1 (Keras)": lambda: keras.layers.LSTM(64),
    "LSTM, forget bias 4": lambda: biased_lstm(64, 4),
}


def record_recall(start: str, noise: int, size: float, seed: int) -> float:
    """Which of 8 letters came first, before ``noise`` others of 8 letters more? Each letter is a one-hot row, times
    ``size``. 12,800 examples, three epochs of Adam at its usual rate of 0.001; the share that is right of 2,000 new."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    letters = np.hstack([rng.integers(8, size=(14_800, 1)), rng.integers(8, 16, size=(14_800, noise))])
    rows, first = size * np.eye(16, dtype=np.float32)[letters], letters[:, 0]
    model = keras.Sequential([keras.Input((noise + 1, 16)), STARTS[start](), keras.layers.Dense(8)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(global_clipnorm=0.25), loss)
    model.fit(rows[:12_800], first[:12_800], batch_size=64, epochs=3, verbose=0)
    guessed = model.predict(rows[12_800:], batch_size=500, verbose=0).argmax(axis=1)
    return round(float((guessed == first[12_800:]).mean()), 3)


def record_memory() -> None:
    kinds = ("SimpleRNN", 512), ("LSTM", 256), ("SimpleRNN", 1024), ("LSTM", 512)
    runs = [(kind, units, 0.01) for kind, units in kinds]
    runs += [("SimpleRNN", 512, 0.003)]  # does a smaller rate suit it better?
    widths = [record_width(*run) for run in runs]
    recall = [
        {"start": start, "noise": noise, "size": size, "right": record_recall(start, noise, size, SEED)}
        for noise, size in ((30, 1), (30, 4), (100, 1), (100, 0.2))
        for start in STARTS
    ]
    # The one that neither always fails nor always succeeds: with how much luck?
    again = [record_recall("LSTM, forget bias 1 (Keras)", 30, 1, seed) for seed in (1, 2, 3, 4)]
    write_recorded("memory", {"widths": widths, "recall": recall, "lstm_bias_1_by_seed": again})


if __name__ == "__main__":
    runs = {"book": record_book, "changes": record_changes, "memory": record_memory, "pretrained": record_pretrained}
    runs["better"] = record_better
    if len(sys.argv) < 2 or sys.argv[1] not in runs:
        sys.exit(__doc__)
    runs[sys.argv[1]](*sys.argv[2:])
