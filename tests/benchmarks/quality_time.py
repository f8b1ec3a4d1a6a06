"""Time to a quality: an epoch at a time, until the training loss that the book's 20 epochs are known for is reached."""

import math
import time

import numpy as np
from training import BATCH_SIZE, all_windows, from_torch, read_ids, torch_network
from turns import start_all

TARGET_LOSS = 1.1505  # what the document that the notebooks follow reports for the book's 20 epochs


def recipe_contender(name: str):
    import charlstm

    charlstm.import_tensorflow_quietly()
    import keras

    from charlstm import training

    ids, vocab_size = read_ids()
    keras.utils.set_random_seed(1)
    recipe = charlstm.RECIPES[name]
    model = charlstm.build_model(vocab_size, recipe=recipe)
    dataset = charlstm.make_dataset(ids, seed=1)
    training._compile(model, recipe, len(dataset))
    yield {"epochs": recipe.epochs}
    for epoch in range(recipe.epochs):
        start = time.perf_counter()
        loss = training._fit_one_epoch(model, dataset, epoch, recipe.epochs)
        seconds = time.perf_counter() - start
        yield {
            "seconds": seconds,
            "loss": loss,
            "held_out_bits": charlstm.bits_per_char(model, read_ids("held out")[0]),
        }


def book():
    return recipe_contender("book")


def quick():
    return recipe_contender("quick")


def torch_book_settings():
    """PyTorch's own initial weights and Adam at 0.001, in its faster mode."""
    import torch

    import charlstm

    torch.manual_seed(1)
    network, loss_of = torch_network(bfloat16=True)
    optimizer = torch.optim.Adam(network.parameters(), 0.001)
    windows = torch.from_numpy(all_windows().astype(np.int64))
    held_out_ids, vocab_size = read_ids("held out")
    model = charlstm.build_model(vocab_size, recipe="book")  # to be measured by the same ruler
    yield {"epochs": 20}
    for _ in range(20):
        start, losses = time.perf_counter(), []
        for rows in torch.randperm(len(windows)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = loss_of(windows[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - start
        model.set_weights(from_torch(network))
        held_out_bits = charlstm.bits_per_char(model, held_out_ids)
        yield {"seconds": seconds, "loss": float(np.mean(losses)), "held_out_bits": held_out_bits}


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
        rows[name] = row
        seconds, epochs = (row["seconds"], row["epochs"]) if len(reached) else (math.nan, "never")
        print(f"{name:22} {seconds:9.1f} {epochs:>7} {row['loss'][-1]:10.4f}", end="")
        print(f" {row['held_out_bits'][best]:19.3f} {elapsed[best]:8.1f}")
    return rows
