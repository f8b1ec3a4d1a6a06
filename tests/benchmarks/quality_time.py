"""Time to a quality: an epoch at a time, until the training loss that the book's 20 epochs are known for is reached."""

import itertools
import math
import time

import numpy as np
from training import BATCH_SIZE, all_windows, from_torch, read_ids, torch_contender, torch_network
from turns import start_all

TARGET_LOSS = 1.1505  # what the document that the notebooks follow reports for the book's 20 epochs
TARGET_BITS = 1.95  # held out: what the recipe "quick" comes to


def book():
    """The textbook's recipe as the textbook runs it: Keras's own ``fit``."""
    import keras  # before charlstm, which asks for faster products

    import charlstm

    ids, vocab_size = read_ids()
    keras.utils.set_random_seed(1)
    model = charlstm.build_model(vocab_size, recipe="book")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dataset = charlstm.make_dataset(ids, seed=1).batches
    return epochs_of(lambda: model.fit(dataset, verbose=0, shuffle=False).history["loss"][0], model, 20)


def quick():
    """``charlstm.train`` with its default recipe."""
    import charlstm

    charlstm.import_tensorflow_quietly()
    import keras

    from charlstm.train_step import ByHand

    ids, vocab_size = read_ids()
    keras.utils.set_random_seed(1)
    model = charlstm.build_model(vocab_size)
    dataset, recipe = charlstm.make_dataset(ids, seed=1), charlstm.RECIPES["quick"]
    recipe.compile(model, len(dataset))
    learner = ByHand(model)
    learner.compile(model.optimizer, model.loss, jit_compile=False)
    settings, numbers = {"steps_per_epoch": len(dataset), "verbose": 0, "shuffle": False}, itertools.count()

    def learn() -> float:
        return learner.fit(dataset.batches_from(next(numbers)), **settings).history["loss"][0]

    return epochs_of(learn, model, recipe.epochs)


def epochs_of(learn, model, epochs: int):
    """A contender of so many epochs; ``learn`` goes through one and gives its loss."""
    import charlstm

    yield {"epochs": epochs}
    for _ in range(epochs):
        start = time.perf_counter()
        loss = learn()
        seconds = time.perf_counter() - start
        held_out_bits = charlstm.bits_per_char(model, read_ids("held out")[0])
        yield {"seconds": seconds, "loss": loss, "held_out_bits": held_out_bits}


def faster_in_bfloat16() -> bool:
    """Whether PyTorch trains faster in bfloat16 here: three batches of each."""
    seconds = []
    for bfloat16 in (False, True):
        contender = torch_contender(3, bfloat16)
        try:
            next(contender)
            seconds.append(next(contender)["seconds"])
        except RuntimeError:  # this processor can't
            return False
    return seconds[1] < seconds[0]


def torch_book_settings():
    """PyTorch's own initial weights and Adam at 0.001, in its faster mode."""
    import torch

    import charlstm

    torch.manual_seed(1)
    network, loss_of = torch_network(bfloat16=faster_in_bfloat16())
    optimizer = torch.optim.Adam(network.parameters(), 0.001)
    windows = torch.from_numpy(all_windows().astype(np.int64))
    model = charlstm.build_model(read_ids()[1], recipe="book")  # to be measured by the same ruler

    def learn() -> float:
        losses = []
        for rows in torch.randperm(len(windows)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = loss_of(windows[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.set_weights(from_torch(network))
        return float(np.mean(losses))

    return epochs_of(learn, model, 20)


CONTENDERS = ["book", "quick", "torch_book_settings"]


def run(quick: bool) -> dict:
    """Seconds of training to a loss of 1.1505 nats, and to the best held-out bits per character."""
    if quick:
        print("  left out: it takes ten minutes")
        return {}
    contenders, rows = start_all("quality_time", CONTENDERS, {}), {}
    waiting = dict(contenders)
    while waiting:
        for name, contender in list(waiting.items()):
            contender.take_turn()
            if len(contender.portions) == contender.check["epochs"]:
                del waiting[name]
                contender.finish()
    print(
        f"\n{'time to a quality':22} {'seconds':>9} {'epochs':>7} {'last loss':>10} {'best held-out bits':>19} {'after s':>8}"
    )
    for name, contender in contenders.items():
        row = {key: [portion[key] for portion in contender.portions] for key in ("loss", "held_out_bits")}
        elapsed = np.cumsum([portion["seconds"] for portion in contender.portions])
        reached, best = np.flatnonzero(np.array(row["loss"]) <= TARGET_LOSS), int(np.argmin(row["held_out_bits"]))
        row["epochs"] = int(reached[0]) + 1 if len(reached) else None
        row["seconds"] = float(elapsed[reached[0]]) if len(reached) else None
        row["seconds_to_best_held_out"] = float(elapsed[best])
        good = np.flatnonzero(np.array(row["held_out_bits"]) <= TARGET_BITS)
        row["seconds_to_target_bits"] = float(elapsed[good[0]]) if len(good) else None
        rows[name] = row
        seconds, epochs = (row["seconds"], row["epochs"]) if len(reached) else (math.nan, "never")
        print(f"{name:22} {seconds:9.1f} {epochs:>7} {row['loss'][-1]:10.4f}", end="")
        print(f" {row['held_out_bits'][best]:19.3f} {elapsed[best]:8.1f}")
    return rows
