"""The long runs that the notebooks quote, made again: python notebooks/record.py book | changes | pretrained

book        the book's 20 epochs, once on the whole of Grimm and once on nine tenths of it with the last tenth held
            out, into charlstm/recorded/book.json (two runs of 6 to 8 minutes on 2 CPU cores)
changes     five epochs by the book, with each of the changes of the quick recipe alone, and with all of them, into
            charlstm/recorded/changes.json (about 8 minutes)
pretrained  the model that comes with the package, into charlstm/pretrained/grimm.safetensors (about 1 minute)

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
import tensorflow as tf
from charlstm.model_file import PRETRAINED, load_pretrained

import charlstm
from charlstm.recipes import RECIPES, Recipe
from charlstm.sources import SOURCES
from charlstm.recorded import RECORDED

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
    _, _, head, tail = read_grimm()
    book, quick = (dataclasses.replace(RECIPES[name], epochs=RECIPES["quick"].epochs) for name in ("book", "quick"))
    changes = {
        "by the book": (),
        "the initializer alone": ("embeddings_stddev",),
        "schedule and clipping alone": ("learning_rate", "schedule", "clip_norm"),
    }
    recipes = {
        name: dataclasses.replace(book, **{field: getattr(quick, field) for field in fields})
        for name, fields in changes.items()
    }
    recipes["all of them: quick"] = quick
    write_recorded("changes", {"runs": {name: timed_run(recipe, head, tail) for name, recipe in recipes.items()}})


def record_pretrained() -> None:
    vocabulary, _, head, tail = read_grimm()
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(vocabulary), recipe="quick")
    history = charlstm.train(model, charlstm.make_dataset(head, seed=SEED), "quick", held_out_ids=tail)
    card = {
        "text": SOURCES["grimm"].title,
        "sha256": SOURCES["grimm"].sha256,
        "trained_on": f"the first nine tenths, sequences of 50, batches of 64, seed {SEED}",
        "recipe": dataclasses.asdict(RECIPES["quick"]),
        "made_by": "python notebooks/record.py pretrained",
        "training_loss_nats": [round(loss, 4) for loss in history["loss"]],
        "held_out_bits_by_epoch": [round(bits, 3) for bits in history["held_out_bits"]],
        **circumstances(),
    }
    # What the file holds is rounded to half precision, so that is what gets measured.
    charlstm.save_model(PRETRAINED, model, vocabulary, card, dtype="float16")
    card["held_out_bits_per_char"] = round(charlstm.bits_per_char(load_pretrained()[0], tail), 4)
    charlstm.save_model(PRETRAINED, model, vocabulary, card, dtype="float16")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    runs = {"book": record_book, "changes": record_changes, "pretrained": record_pretrained}
    if len(sys.argv) != 2 or sys.argv[1] not in runs:
        sys.exit(__doc__)
    runs[sys.argv[1]]()
