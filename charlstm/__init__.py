"""charlstm: character-level text generation with an LSTM, to read, run and understand.

Every name below is built by hand in a notebook before it is imported from here:

    01_data      load_corpus, Corpus, Vocabulary, split
    02_pipeline  make_dataset, split_input_target
    03_model     build_model, save_model, load_model, load_pretrained, read_card
    04_training  train, bits_per_char, RECIPES, Recipe
    05_sampling  Generator, scaled_softmax
    06_speed     charlstm.fast_lstm.FastLSTM

TensorFlow takes seconds to import, so no module imports it before a function needs it.
"""

import os

from charlstm.data import Corpus, Vocabulary, load_corpus, split
from charlstm.files import load_model, load_pretrained, read_card, save_model
from charlstm.model import build_model
from charlstm.pipeline import make_dataset, split_input_target
from charlstm.recipes import RECIPES, Recipe
from charlstm.sampling import Generator, scaled_softmax
from charlstm.training import bits_per_char, train

__all__ = [
    "RECIPES",
    "Corpus",
    "Generator",
    "Recipe",
    "Vocabulary",
    "bits_per_char",
    "build_model",
    "import_tensorflow_quietly",
    "load_corpus",
    "load_model",
    "load_pretrained",
    "make_dataset",
    "read_card",
    "save_model",
    "scaled_softmax",
    "split",
    "split_input_target",
    "train",
]


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without the lines about drivers and optimizations that its C++ code writes at every start.

    No setting silences those of the import itself (seen in TensorFlow 2.21), so that the process's standard error
    stream leads nowhere for as long as it takes. Errors are Python exceptions and come through.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for the lines after the import
    standard_error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(nowhere)
