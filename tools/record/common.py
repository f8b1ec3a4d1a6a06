"""What the recorded runs share: the text, the seed, the circumstances, the file."""

import datetime
import json
import os
import platform

import keras
import tensorflow as tf

import charlstm
from charlstm.course.recorded import RECORDED

SEED = 1


def read_grimm() -> tuple[charlstm.Ids, charlstm.Ids, charlstm.Ids]:
    """Grimm as ids: all of it, the first nine tenths, the last tenth."""
    corpus = charlstm.load_corpus("grimm")
    ids = corpus.vocabulary.encode(corpus.text)
    return ids, *charlstm.split(ids)


def read_grimm_to_choose() -> tuple[charlstm.Ids, charlstm.Ids]:
    """The first eight tenths of Grimm, and the ninth, on which choices are made."""
    return charlstm.split(read_grimm()[1], held_out=1 / 9)


def circumstances() -> dict[str, str]:
    """When, on what and with which versions this runs."""
    device = "one GPU" if tf.config.list_physical_devices("GPU") else f"{os.cpu_count()} CPU cores"
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {device}",
        "versions": versions,
    }


def write_recorded(name: str, results: dict) -> None:
    """Write ``results``, with their circumstances, where ``read_recorded(name)`` finds them."""
    text = json.dumps({**circumstances(), **results}, indent=1) + "\n"
    (RECORDED / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")
