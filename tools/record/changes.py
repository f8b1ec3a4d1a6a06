"""Record what each change from the book's recipe to the quick one brings: python tools/record/changes.py

Five epochs each, with 256 units, one change at a time and together; about 6 minutes on two cores.
"""

import dataclasses

import keras
from common import SEED, read_grimm, write_recorded

import charlstm

QUICK = charlstm.RECIPES["quick"]
BOOK = dataclasses.replace(charlstm.RECIPES["book"], epochs=QUICK.epochs)
CHANGES = {
    "by the book": (),
    "initializer": ("embeddings_stddev",),
    "large rate": ("learning_rate",),
    "large rate, clipping": ("learning_rate", "clip_norm"),
    "large rate, schedule": ("learning_rate", "schedule"),
    "large rate, schedule, clipping": ("learning_rate", "schedule", "clip_norm"),
    "initializer, large rate, clipping": ("embeddings_stddev", "learning_rate", "clip_norm"),
}


def run(recipe: charlstm.Recipe, rnn_units: int = 256) -> dict:
    """The history of a training on nine tenths of Grimm, measured on the last."""
    _, head, tail = read_grimm()
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(head.vocabulary), rnn_units=rnn_units, recipe=recipe)
    return charlstm.train(model, charlstm.make_dataset(head, seed=SEED), recipe, held_out_ids=tail)


if __name__ == "__main__":
    recipes = {
        name: dataclasses.replace(BOOK, **{field: getattr(QUICK, field) for field in fields})
        for name, fields in CHANGES.items()
    }
    runs = {name: run(recipe) for name, recipe in {**recipes, "all of them: quick": QUICK}.items()}
    write_recorded("changes", {"rnn_units": 256, "runs": runs, "quick_512_units": run(QUICK, 512)})
