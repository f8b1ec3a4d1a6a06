"""charlstm: character-level text generation with an LSTM, to read, run and understand.

Every name below is built by hand in a notebook before it is imported from here:

    01_data      load_corpus, Corpus, Vocabulary, split
    02_pipeline  make_dataset, split_input_target
    04_model     build_model, save_model, load_model, load_pretrained, read_card
    05_training  train, bits_per_char, RECIPES, Recipe
    06_sampling  Generator, scaled_softmax
    07_better    DynamicEvaluation, the recipe "best"
    08_inside    charlstm.inside, save_page
    09_speed     charlstm.step, charlstm.update

TensorFlow takes seconds to import, so no module imports it before a function needs it.
"""

from charlstm.console import ask_for_fast_products, import_tensorflow_quietly
from charlstm.data import Corpus, Vocabulary, load_corpus, split
from charlstm.model import build_model
from charlstm.model_file import load_model, load_pretrained, read_card, save_model
from charlstm.page import save_page
from charlstm.pipeline import make_dataset, split_input_target
from charlstm.recipes import RECIPES, DynamicEvaluation, Recipe
from charlstm.sampling import Generator, scaled_softmax
from charlstm.training import bits_per_char, train

ask_for_fast_products()
