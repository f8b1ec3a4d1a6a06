"""A small training for the tests of going on. To be killed: python resumable.py CHECKPOINT RESULT"""

import sys

import keras
import numpy as np

import charlstm

text = "the goose-girl went to the well, and the goose went with her. " * 40
vocabulary = charlstm.Vocabulary.from_text(text)
ids = vocabulary.encode(text)


def run(checkpoint=None, recipe="quick", epochs=4, units=12, train_ids=ids[:-300], held_out_ids=ids[-300:], seed=1):
    """The trained model and its history."""
    keras.utils.set_random_seed(1)
    model = charlstm.build_model(len(vocabulary), 8, units, recipe)
    carry_state = getattr(recipe, "carry_state", False)
    dataset = charlstm.make_dataset(train_ids, seq_length=20, batch_size=8, seed=seed, carry_state=carry_state)
    history = charlstm.train(model, dataset, recipe, epochs, held_out_ids, checkpoint)
    return model, history


if __name__ == "__main__":
    print("begins", flush=True)
    model, _ = run(sys.argv[1], epochs=150)
    np.savez(sys.argv[2], *model.get_weights())
