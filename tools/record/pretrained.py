"""Make the model in the package again: python tools/record/pretrained.py

It learns from nine tenths of Grimm by the recipe "best", and goes into charlstm/pretrained/grimm.safetensors, with a
card that says how well it does on the last tenth; 10 to 25 minutes on two cores.
"""

import dataclasses
import json
import time

import keras
import numpy as np
from common import SEED, circumstances, read_grimm

import charlstm
from charlstm.course.probing import read_closely, unit_auc


def train(ids: charlstm.Ids) -> tuple[keras.Sequential, dict]:
    """The model, and what its card says of the training."""
    keras.utils.set_random_seed(SEED)
    model = charlstm.build_model(len(ids.vocabulary), recipe="best")
    start = time.perf_counter()
    history = charlstm.train(model, charlstm.make_dataset(ids, seq_length=25, seed=SEED, carry_state=True))
    source = charlstm.SOURCES["grimm"]
    return model, {
        "text": source.title,
        "sha256": source.sha256,
        "trained_on": f"the first nine tenths, 64 streams, steps of 25, seed {SEED}",
        "recipe": dataclasses.asdict(charlstm.RECIPES["best"]),
        "made_by": "python tools/record/pretrained.py",
        "training_loss_nats": [round(loss, 4) for loss in history["loss"]],
        "training_minutes": round((time.perf_counter() - start) / 60, 1),
        **circumstances(),
    }


def named_units(weights: dict[str, np.ndarray], ids: charlstm.Ids) -> dict[str, int]:
    """Which two units' cell states tell best whether a character stands in quotation marks (notebook 08_inside)."""
    text = ids.vocabulary.decode(ids)
    ids = ids[text.find("\n\n") + 2 :]  # from the beginning of a paragraph, where no speech is going on
    marks = [[char == '"' for char in part + "\n\n"] for part in text.split("\n\n")[1:]]
    inside = np.concatenate([np.cumsum(part) % 2 == 1 for part in marks])[: len(ids)]
    first, second = np.argsort(-np.abs(unit_auc(read_closely(weights, ids).cell, inside) - 0.5))[:2].tolist()
    return {"inside quotation marks": first, "inside quotation marks, too": second}


if __name__ == "__main__":
    _, head, tail = read_grimm()
    model, card = train(head)
    charlstm.save_model(charlstm.PRETRAINED, model, head.vocabulary, card)
    model, _ = charlstm.load_pretrained()  # what the file holds is what is measured
    card["units"] = named_units(charlstm.weights_of(model), tail[: len(tail) // 2])
    card["held_out_bits_per_char"] = round(charlstm.bits_per_char(model, tail), 4)
    card["held_out_bits_learning_on"] = round(charlstm.bits_per_char(model, tail, learn=True), 4)
    charlstm.save_model(charlstm.PRETRAINED, model, head.vocabulary, card)
    print(json.dumps(card, indent=1))
