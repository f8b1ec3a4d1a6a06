"""The long runs that the notebooks quote, made again: python notebooks/record.py book | pretrained

book        the book's 20 epochs, once on the whole of Grimm and once on nine tenths of it with the last tenth held
            out, into charlstm/pretrained/book_run.json (two runs of 6 to 8 minutes on 2 CPU cores)
pretrained  the model that comes with the package, into charlstm/pretrained/grimm.safetensors (about 4 minutes)
"""

import datetime
import json
import os
import platform
import sys
import time

import keras
import tensorflow as tf

import charlstm
from charlstm.files import PRETRAINED, load_pretrained
from charlstm.sources import SOURCES
from charlstm.training import BOOK_RUN

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


def record_book() -> None:
    vocabulary, ids, head, tail = read_grimm()
    runs = {}
    for name, train_ids, held_out_ids in (("whole_text", ids, None), ("nine_tenths", head, tail)):
        keras.utils.set_random_seed(SEED)
        model = charlstm.build_model(len(vocabulary), embeddings_initializer="uniform")
        start = time.perf_counter()
        runs[name] = charlstm.train(
            model, charlstm.make_dataset(train_ids, seed=SEED), epochs=20, held_out_ids=held_out_ids
        )
        runs[name]["minutes"] = round((time.perf_counter() - start) / 60, 1)
    BOOK_RUN.write_text(json.dumps({**circumstances(), **runs}, indent=1) + "\n", encoding="utf-8", newline="\n")


def record_pretrained(epochs: int = 8, peak: float = 0.005) -> None:
    vocabulary, _, head, tail = read_grimm()
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(vocabulary))
    dataset = charlstm.make_dataset(head, seed=SEED)
    steps = len(dataset)
    schedule = keras.optimizers.schedules.CosineDecay(
        peak / 100, decay_steps=(epochs - 1) * steps, warmup_target=peak, warmup_steps=steps, alpha=0.01
    )
    history = charlstm.train(model, dataset, epochs, learning_rate=schedule, held_out_ids=tail)
    card = {
        "text": SOURCES["grimm"].title,
        "sha256": SOURCES["grimm"].sha256,
        "recipe": f"the first nine tenths, sequences of 50, batches of 64, {epochs} epochs of Adam, learning rate from "
        f"{peak / 100} up to {peak} in the first epoch and down to {peak / 100} along a cosine, seed {SEED}",
        "made_by": "python notebooks/record.py pretrained",
        "epochs": epochs,
        "training_loss_nats": [round(loss, 4) for loss in history["loss"]],
        "held_out_bits_by_epoch": [round(bits, 3) for bits in history["held_out_bits"]],
        "date": circumstances()["date"],
        "machine": circumstances()["machine"],
    }
    # What the file holds is rounded to half precision, so that is what gets measured.
    charlstm.save_model(PRETRAINED, model, vocabulary, card, dtype="float16")
    card["held_out_bits_per_char"] = round(charlstm.bits_per_char(load_pretrained()[0], tail), 4)
    charlstm.save_model(PRETRAINED, model, vocabulary, card, dtype="float16")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    runs = {"book": record_book, "pretrained": record_pretrained}
    if len(sys.argv) != 2 or sys.argv[1] not in runs:
        sys.exit(__doc__)
    runs[sys.argv[1]]()
