"""A small training for the tests of going on. To be killed: python resumable.py FOLDER"""

import dataclasses
import sys

import keras
import numpy as np

import charlstm
from charlstm.recipes import find_recipe

text = "the goose-girl went to the well, and the goose went with her. " * 40
vocabulary = charlstm.Vocabulary.from_text(text)
ids = vocabulary.encode(text)


def build(recipe="quick", units=12):
    keras.utils.set_random_seed(1)
    return charlstm.build_model(len(vocabulary), 8, units, recipe)


def batches(recipe="quick", ids=ids[:-300], seed=1):
    return charlstm.make_dataset(ids, 20, 8, seed=seed, carry_state=find_recipe(recipe).carry_state)


def run(checkpoint=None, recipe="quick", epochs=4, held_out_ids=ids[-300:], model=None, dataset=None, **options):
    """The trained model and its history."""
    model, dataset = model or build(recipe), dataset or batches(recipe)
    return model, charlstm.train(model, dataset, recipe, epochs, held_out_ids, checkpoint, **options)


if __name__ == "__main__":
    print("begins", flush=True)
    weights = []
    for epochs, keep_best in (60, False), (61, True):
        recipe = dataclasses.replace(charlstm.RECIPES["best"], keep_best=keep_best)
        held_out_ids = np.tile(ids[-300:], 10)[::-1]  # takes as long as learning; an early epoch is the best
        weights += run(f"{sys.argv[1]}/{epochs}.safetensors", recipe, epochs, held_out_ids)[0].get_weights()
    np.savez(f"{sys.argv[1]}/result.npz", *weights)
