"""The long runs that the notebooks quote, made again: python notebooks/record.py NAME, one of these:

book        the book's 20 epochs, once on the whole of Grimm and once on nine tenths of it with the last tenth held
            out, into charlstm/recorded/book.json (two runs of 6 to 8 minutes on 2 CPU cores)
changes     five epochs by the book, with the changes of the quick recipe one by one and together, into
            charlstm/recorded/changes.json (about 6 minutes)
memory      what plain RNNs and LSTMs bring at two widths, and which start lets them recall a letter, into
            charlstm/recorded/memory.json (about 40 minutes)
better      what each part of the recipe "best" brings alone, and what is lost when it alone is left out: ten epochs on
            100,000 characters of Grimm, measured on the 20,000 after them, into charlstm/recorded/better.json (14 runs
            of 1 to 3 minutes; with the name of a run behind it: this one); and, with half the units, what each alone
            brings on 600,000 characters of The Mysterious Island in two epochs, into better_island.json
attention   an LSTM and a Transformer of the same size, five minutes each, in turns, after a search for each one's rate,
            and small ones with and without positions, into charlstm/recorded/attention.json (30 minutes; with a number
            of seconds behind it: so long for each in place of 300, and a fifth of it for every other run)
pretrained  the model that comes with the package, into charlstm/pretrained/grimm.safetensors (10 to 25 minutes)

charlstm/recorded/choices.json has the trainings by which the settings of "best" were chosen, once. speed.json is made by
python tests/benchmarks/run.py --output FILE.
"""

import ast
import dataclasses
import datetime
import json
import math
import os
import platform
import sys
import time
import types
from pathlib import Path

import keras
import nbformat
import numpy as np
import tensorflow as tf

import charlstm
from charlstm.inside import read_closely, telling_apart
from charlstm.model import weights_of
from charlstm.model_file import PRETRAINED, load_pretrained
from charlstm.recipes import RECIPES, Recipe
from charlstm.recorded import RECORDED, read_recorded
from charlstm.sources import SOURCES
from charlstm.update import compile_step, obstacle

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
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(train_ids.vocabulary), recipe=recipe)
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
        "averaging": ("average",),
        "weight decay": ("weight_decay",),
        "scale factor": ("scale_factor",),
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
    dataset = charlstm.make_dataset(train_ids, seq_length=25, seed=SEED, carry_state=recipe.carry_state)
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
    """Which two units' cell states tell best whether a character stands in quotation marks (notebook 08_inside)."""
    text = ids.vocabulary.decode(ids)
    ids = ids[text.find("\n\n") + 2 :]  # from the beginning of a paragraph, where no speech is going on
    marks = [[char == '"' for char in part + "\n\n"] for part in text.split("\n\n")[1:]]
    inside = np.concatenate([np.cumsum(part) % 2 == 1 for part in marks])[: len(ids)]
    auc = telling_apart(read_closely(weights, ids).cell, inside)
    first, second = map(int, np.argsort(-np.abs(auc - 0.5))[:2])
    return {"inside quotation marks": first, "inside quotation marks, too": second}


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


def record_width(kind: str, units: int, rate: float, seed: int) -> dict:
    """Five epochs by the quick recipe at this peak of the learning rate; bits on the ninth tenth, carried through, and
    from a state of zeros over the last k characters only."""
    vocab_size, head, ninth = read_grimm_twice()
    keras.utils.set_random_seed(seed)
    model = network(getattr(keras.layers, kind)(units, return_sequences=True), vocab_size)
    dataset = charlstm.make_dataset(head, seed=seed)
    recipe = dataclasses.replace(RECIPES["quick"], learning_rate=rate)
    recipe.compile(model, len(dataset))
    model.fit(dataset.batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    bits = float(bits_of(model, ninth[None, :-1], ninth[1:]).mean())
    places = np.arange(100, len(ninth), 6)
    context = {
        k: round(float(bits_of(model, ninth[places[:, None] + np.arange(-k, 0)], ninth[places]).mean()), 3)
        for k in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30)
    }
    run = {"layer": kind, "units": units, "parameters": model.count_params(), "rate": rate, "seed": seed}
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
    runs = [(kind, units, 0.01, seed) for seed in (1, 2) for kind, units in kinds]
    runs += [("SimpleRNN", 512, 0.003, 1), ("SimpleRNN", 1024, 0.003, 1)]  # does a smaller rate suit it better?
    recall = [
        {
            "start": start,
            "noise": noise,
            "size": size,
            "right": [record_recall(start, noise, size, s) for s in (1, 2, 3)],
        }
        for noise, size in ((30, 1), (30, 4), (100, 1), (100, 0.2))
        for start in STARTS
    ]
    write_recorded("memory", {"widths": [record_width(*run) for run in runs], "recall": recall})


ATTENTION_RATES = {"LSTM": (0.006, 0.012, 0.024), "Transformer": (0.001, 0.002, 0.004, 0.008)}


def attention_notebook() -> types.SimpleNamespace:
    """What the reader of 11_attention builds: its classes and functions, and the size of its windows."""
    built = {"keras": keras, "math": math, "np": np, "tf": tf, "time": time, "charlstm": charlstm}
    built |= {"compile_step": compile_step, "obstacle": obstacle}
    for cell in nbformat.read(Path(__file__).parent / "11_attention.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and "%pip" not in cell.source:
            kept = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            if cell.source.startswith("LENGTH, BATCH = "):
                kept = ast.parse(cell.source).body
            exec(compile(ast.Module(kept, []), cell.id, "exec"), built)  # noqa: S102
    return types.SimpleNamespace(**built, names=built)


def build_contender(name: str, vocab_size: int):
    """ "LSTM" or "Transformer", of 1.6 million parameters, with dropout or with "no dropout"; or "small" ones of 0.4
    million without dropout, such as the notebook has, or "with" a layer Positions behind the embedding of either, or
    "without" it."""
    keras.utils.set_random_seed(SEED)
    built, quick = attention_notebook(), RECIPES["quick"]
    if "positions" not in name and "LSTM" in name:
        sizes = (128, 256) if "small" in name else (256, 512)
        rate = 0 if "small" in name or "no dropout" in name else RECIPES["best"].output_dropout
        return charlstm.build_model(vocab_size, *sizes, recipe=dataclasses.replace(quick, output_dropout=rate))
    if "without" in name:
        built.names["Positions"] = lambda longest: keras.layers.Identity()
    if "Transformer" in name:
        width, rate = (128, 0.0) if "small" in name or "positions" in name else (256, 0.1)
        return built.transformer(vocab_size, width, dropout=0.0 if "no dropout" in name else rate)
    embedding, lstm, dense = charlstm.build_model(vocab_size, 128, 256).layers
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, dense(lstm(built.names["Positions"](built.LENGTH)(embedding(ids)))))


def race(built, runs: list, seconds: float, train_ids, held_out_ids, measurements: int = 1) -> list[dict]:
    """Train a model for each of ``runs`` (name, rate), in turns, a 60th of ``seconds`` each time; and measure them."""
    vocab_size = len(train_ids.vocabulary)
    results = [
        {"name": name, "rate": rate, "curve": [], "model": build_contender(name, vocab_size)} for name, rate in runs
    ]
    racers = [built.learn(run["model"], run["rate"], seconds, train_ids, 60) for run in results]
    for number, clocks in enumerate(zip(*racers, strict=True), 1):
        for run, clock in zip(results, clocks, strict=True):
            if number % (60 // measurements) == 0:
                run["curve"].append((round(clock, 1), round(float(built.held_out_bits(run["model"], held_out_ids)), 4)))
                print(run["name"], run["rate"], *run["curve"][-1], flush=True)
    for run in results:
        run |= {"steps": int(run["model"].optimizer.iterations), "parameters": run["model"].count_params()}
    return results


def final_bits(run: dict) -> float:
    return run["curve"][-1][1]


def record_attention(seconds: str = "300") -> None:
    """All is chosen on the ninth tenth, after training on the first eight; only then come nine tenths and the last."""
    built, seconds = attention_notebook(), float(seconds)
    *_, head, tail = read_grimm()
    _, eight_tenths, ninth = read_grimm_twice()
    tried = []
    for size, time_of_each in ("", seconds / 5), ("small ", seconds * 17 / 300):
        runs = [(size + name, rate) for name, rates in ATTENTION_RATES.items() for rate in rates]
        tried += race(built, runs, time_of_each, eight_tenths, ninth)

    def best(name: str) -> dict:
        return min((run for run in tried if run["name"] in (name, f"{name}, no dropout")), key=final_bits)

    runs = [(f"{name}, no dropout", best(name)["rate"]) for name in ATTENTION_RATES]
    tried += race(built, runs, seconds / 5, eight_tenths, ninth)
    kinds = [
        (f"{name}, {kind} positions", best(f"small {name}")["rate"])
        for name in ATTENTION_RATES
        for kind in ("with", "without")
    ]
    small = race(built, kinds, seconds / 5, eight_tenths, ninth)
    chosen = [best(name) for name in ATTENTION_RATES]
    results = race(built, [(run["name"], run["rate"]) for run in chosen], seconds, head, tail, 15)
    lengths = [1, 2, 3, 5, 8, 13, 21, 32]
    for run in results:
        run["context"] = [round(bits, 4) for bits in built.bits_with_context(run["model"], tail, lengths, 2000)]
    windows = np.array(tail)[np.arange(100)[:, None] * 200 + np.arange(built.LENGTH)]
    shares = built.shares_of_heads(results[1]["model"], windows)  # [blocks, windows, heads, places, places]
    diagonals = [np.diagonal(shares, -distance, 3, 4)[..., 16 - distance :] for distance in range(16)]
    shares = np.array([diagonal.mean(axis=(1, 3)).ravel() for diagonal in diagonals]).T
    written = {
        "seconds": seconds,
        "characters_a_step": built.BATCH * built.LENGTH,
        "rates_tried": [{"name": run["name"], "rate": run["rate"], "bits": final_bits(run)} for run in tried],
        "runs": {run["name"].split(",")[0]: {key: run[key] for key in run if key != "model"} for run in results},
        "positions": {run["name"]: final_bits(run) for run in small},
        "context_lengths": lengths,
        "shares_by_distance": shares.astype(float).round(3).tolist(),
    }
    write_recorded("attention", written)


if __name__ == "__main__":
    runs = {"book": record_book, "changes": record_changes, "memory": record_memory, "pretrained": record_pretrained}
    runs |= {"better": record_better, "attention": record_attention}
    if len(sys.argv) < 2 or sys.argv[1] not in runs:
        sys.exit(__doc__)
    runs[sys.argv[1]](*sys.argv[2:])
