"""Record the book's 20 epochs: python tools/record/book.py

Once on the whole of Grimm, and once on nine tenths of it, measured on the last: two runs of 6 to 8 minutes on two cores.
"""

import time

import keras
from common import SEED, read_grimm, write_recorded

import charlstm


def timed_run(train_ids: charlstm.Ids, held_out_ids: charlstm.Ids | None = None) -> dict:
    """The history of a training, its minutes, and the seconds an epoch without the measuring."""
    recipe = charlstm.RECIPES["book"]
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(train_ids.vocabulary), recipe=recipe)
    start = time.perf_counter()
    history = charlstm.train(model, charlstm.make_dataset(train_ids, seed=SEED), recipe, held_out_ids=held_out_ids)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    if held_out_ids is not None:
        charlstm.bits_per_char(model, held_out_ids)
    measuring = time.perf_counter() - start
    an_epoch = seconds / recipe.epochs - measuring
    return history | {"minutes": round(seconds / 60, 1), "seconds_an_epoch": round(an_epoch, 1)}


if __name__ == "__main__":
    ids, head, tail = read_grimm()
    write_recorded("book", {"whole_text": timed_run(ids), "nine_tenths": timed_run(head, tail)})
