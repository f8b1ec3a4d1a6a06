"""Record what each part of the recipe "best" brings: python tools/record/better.py [RUN ...]

better.json: each part alone, and all but it; ten epochs on 100,000 characters of Grimm, measured on the 20,000 after
them. better_island.json: each part alone, with half the units; two epochs on 600,000 characters of The Mysterious
Island. 22 runs of 1 to 3 minutes on two cores; name some, such as "only averaging" or "island none", to run only those.
"""

import dataclasses
import sys

import keras
from common import SEED, write_recorded

import charlstm
from charlstm.course.recorded import RECORDED, read_recorded

CURES = {
    "carried state": ("carry_state",),
    "dropout of outputs": ("output_dropout",),
    "dropout of weights": ("weight_drop", "embedding_dropout"),
    "averaging": ("average",),
    "weight decay": ("weight_decay",),
    "scale factor": ("scale_factor",),
}


def recipes(epochs: int) -> dict[str, charlstm.Recipe]:
    """The recipes by name: none of the cures, all, each alone, and all but one."""
    best = dataclasses.replace(charlstm.RECIPES["best"], epochs=epochs)
    plain = dataclasses.replace(charlstm.RECIPES["quick"], epochs=epochs, keep_best=False)
    found = {"none": plain, "all": best}
    for cure, fields in CURES.items():
        for start, other, name in (plain, best, f"only {cure}"), (best, plain, f"all but {cure}"):
            found[name] = dataclasses.replace(start, **{field: getattr(other, field) for field in fields})
    return found


def record(file: str, text: str, name: str, recipe: charlstm.Recipe, rnn_units: int, length: int) -> None:
    """Train on the first ``length`` characters, measure the 20,000 after them, and write it beside the other runs."""
    corpus = charlstm.load_corpus(text)
    ids = corpus.vocabulary.encode(corpus.text)
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(corpus.vocabulary), 256, rnn_units, recipe)
    dataset = charlstm.make_dataset(ids[:length], seq_length=25, seed=SEED, carry_state=recipe.carry_state)
    loss = charlstm.train(model, dataset)["loss"]
    bits = charlstm.bits_per_char(model, ids[length : length + 20_000])
    runs = read_recorded(file)["runs"] if (RECORDED / f"{file}.json").exists() else {}
    runs[name] = {"loss": loss, "bits": bits}
    write_recorded(file, {"rnn_units": rnn_units, "runs": runs})


if __name__ == "__main__":
    wanted = sys.argv[1:]
    for name, recipe in recipes(epochs=10).items():
        if not wanted or name in wanted:
            record("better", "grimm", name, recipe, 512, 100_000)
    for name, recipe in recipes(epochs=2).items():
        if (not wanted or f"island {name}" in wanted) and not name.startswith("all"):
            record("better_island", "mysterious_island", name, recipe, 256, 600_000)
