"""charlstm: character-level text generation with an LSTM, to read, run and understand.

Every name below is built by hand in a notebook before it is imported from here:

    01_data      load_corpus, Corpus, Vocabulary, split
    02_pipeline  make_dataset, split_input_target
    03_model     build_model, save_model, load_model, load_pretrained
    04_training  train, bits_per_char
    05_sampling  Generator, scaled_softmax

TensorFlow takes seconds to import, so no module imports it before a function needs it.
"""

from charlstm.data import Corpus, Vocabulary, load_corpus, split
from charlstm.model import build_model, load_model, load_pretrained, save_model
from charlstm.pipeline import make_dataset, split_input_target
from charlstm.sampling import Generator, scaled_softmax
from charlstm.training import bits_per_char, train

__all__ = [
    "Corpus", "Generator", "Vocabulary", "bits_per_char", "build_model", "load_corpus", "load_model", "load_pretrained",
    "make_dataset", "save_model", "scaled_softmax", "split", "split_input_target", "train",
]
