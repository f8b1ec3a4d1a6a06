"""charlstm: character-level text generation with an LSTM, to read, run and understand.

Every name below is built by hand in a notebook before it is imported from here:

    01_data      load_corpus, Corpus, Vocabulary, Ids, split, SOURCES, SourceUnavailable, find_file
    02_pipeline  make_dataset, Batches, split_input_target
    04_model     build_model, weights_of, save_model, load_model, load_pretrained, read_card, read_model_file, PRETRAINED
    05_training  train, bits_per_char, surprise, RECIPES, Recipe
    06_sampling  Generator, StepwiseLSTM, scaled_softmax, draw, choose
    07_better    DynamicEvaluation, surprise_while_learning
    08_inside    save_page

TensorFlow takes seconds to import, and matplotlib one, so these modules are imported by their names:

    charlstm.backprop, charlstm.train_step, charlstm.callbacks
    charlstm.course.plots, charlstm.course.diagrams, charlstm.course.probing, charlstm.course.recorded
    charlstm.course.ids_file (encode_file and open_ids, for a text that never fits into memory)

Who trains otherwise may also want charlstm.files (path_to_write, load_state), charlstm.recipes (find_recipe) and
charlstm.model (remember, recall).
"""

import inspect

from charlstm.console import choose_backend as _choose_backend
from charlstm.console import import_tensorflow_quietly
from charlstm.data import Corpus, Ids, Vocabulary, load_corpus, split
from charlstm.evaluation import bits_per_char, surprise, surprise_while_learning
from charlstm.files import PRETRAINED, load_model, load_pretrained, read_card, read_model_file, save_model
from charlstm.model import StepwiseLSTM, build_model, weights_of
from charlstm.page import save_page
from charlstm.pipeline import Batches, make_dataset, split_input_target
from charlstm.recipes import RECIPES, DynamicEvaluation, Recipe
from charlstm.sampling import Generator, choose, draw, scaled_softmax
from charlstm.sources import SOURCES, SourceUnavailable, find_file
from charlstm.training import train

__all__ = [name for name, value in list(globals().items()) if name[0] != "_" and not inspect.ismodule(value)]

_choose_backend()
