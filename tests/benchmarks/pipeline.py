"""The pipeline: characters a second from ids to shuffled batches, for a short text and for very long ones.

Every contender cuts windows of 51 ids, splits them into input and target of 50, shuffles, and stacks 64 of them. It
proves on a small text that each window comes once. What is long is Grimm (or the bundled tales) over and over.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from turns import peak_megabytes, spread, take_turns

SEQ_LENGTH, BATCH_SIZE = 50, 64
LENGTHS = {"10 million": 10_000_000, "250 million": 250_000_000}

# In which order the windows come, printed below the table.
ORDERS = {
    "book_chain": "at random out of the next 10,000 windows of the text",
    "timeseries_dataset": "any order, drawn once; in each pass at random out of the next 512 windows of that order",
    "make_dataset": "any order, drawn anew for each pass",
}


def book_chain(files: list, turns: int, seconds: float):
    """The chain of chapter 16."""
    import tensorflow as tf

    def split_input_target(chunk):
        return chunk[:-1], chunk[1:]

    def make(ids):
        chunks = tf.data.Dataset.from_tensor_slices(ids).batch(SEQ_LENGTH + 1, drop_remainder=True)
        return chunks.map(split_input_target).shuffle(10000).batch(BATCH_SIZE)

    return passes(make, files, turns, seconds)


def timeseries_dataset(files: list, turns: int, seconds: float):
    """Keras's own helper for windows, told to take windows that do not overlap."""
    import keras

    def make(ids):
        windows = keras.utils.timeseries_dataset_from_array(
            ids,
            targets=None,
            sequence_length=SEQ_LENGTH + 1,
            sequence_stride=SEQ_LENGTH + 1,
            shuffle=True,
            batch_size=BATCH_SIZE,
        )
        return windows.map(lambda batch: (batch[:, :-1], batch[:, 1:]))

    return passes(make, files, turns, seconds)


def make_dataset(files: list, turns: int, seconds: float):
    """Ours. The longest text stays in its file."""
    import charlstm

    charlstm.import_tensorflow_quietly()

    def make(ids):
        return charlstm.make_dataset(ids, SEQ_LENGTH, BATCH_SIZE).batches

    return passes(make, files, turns, seconds, map_the_longest=True)


CONTENDERS = [book_chain, timeseries_dataset, make_dataset]


def passes(make, files: list, turns: int, seconds: float, map_the_longest: bool = False):
    """A contender, made of a function from ids to a dataset: for each file some passes, of which the first warms up."""
    yield {"each_window_once": gives_each_window_once(make)}
    megabytes_before = peak_megabytes()
    for number, path in enumerate(files):
        mapped = map_the_longest and number == len(LENGTHS)  # number 0 is the text itself
        ids = np.memmap(path, dtype=np.int32, mode="r") if mapped else np.fromfile(path, dtype=np.int32)
        start = time.perf_counter()
        dataset = make(ids)
        about_all = {"ids": "np.memmap" if mapped else "in memory", "build_seconds": time.perf_counter() - start}
        for _ in range(1 + turns):
            portion = one_pass(dataset, seconds if number > 0 else None)
            # The files come in the order of their lengths, so that the most memory so far is what this one takes.
            yield portion | about_all | {"peak_megabytes": peak_megabytes(), "megabytes_before": megabytes_before}


def one_pass(dataset, seconds: float | None) -> dict:
    """Time to the first batch, and characters a second: of the whole pass, or of some ``seconds`` after that batch."""
    start = time.perf_counter()
    batches = iter(dataset)
    inputs, _ = next(batches)
    first_batch = time.perf_counter()
    of_the_first = characters = int(np.prod(inputs.shape))
    for inputs, _ in batches:
        characters += int(np.prod(inputs.shape))
        if seconds is not None and time.perf_counter() - first_batch > seconds:
            characters, start_counting = characters - of_the_first, first_batch
            break
    else:
        start_counting = start
    end = time.perf_counter()
    return {"first_batch_seconds": first_batch - start, "characters": characters, "seconds": end - start_counting}


def gives_each_window_once(make) -> bool:
    """Whether a pass over a small text, in which no id comes twice, gives the windows that NumPy's reshape gives."""
    n_windows, rest = 700, 13
    ids = np.arange(n_windows * (SEQ_LENGTH + 1) + rest, dtype=np.int32)
    expected = ids[:-rest].reshape(n_windows, SEQ_LENGTH + 1)
    batches = [(inputs.numpy(), targets.numpy()) for inputs, targets in make(ids)]
    inputs, targets = (np.concatenate(part) for part in zip(*batches, strict=True))
    in_order = np.argsort(inputs[:, 0])
    return np.array_equal(inputs[in_order], expected[:, :-1]) and np.array_equal(targets[in_order], expected[:, 1:])


def write_ids(path: Path, ids: np.ndarray, length: int) -> None:
    """A file of ``length`` ids: the text over and over."""
    with open(path, "wb") as file:
        file.writelines(ids[: length - start].tobytes() for start in range(0, length, len(ids)))


def run(quick: bool) -> dict:
    """Characters a second from ids to shuffled batches, the wait for the first batch, and peak memory."""
    import charlstm

    corpus = charlstm.load_corpus()
    ids = corpus.vocabulary.encode(corpus.text)
    lengths = {f"{len(ids):,}": len(ids)} | LENGTHS
    if quick:
        print(f"  left out: {list(lengths)[-1]} characters, for which a gigabyte of disk is needed")
        lengths.popitem()
    turns = 2 if quick else 5
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        files = [Path(folder) / str(length) for length in lengths.values()]
        for path, length in zip(files, lengths.values(), strict=True):
            write_ids(path, ids, length)
        settings = {"files": [str(path) for path in files], "turns": turns, "seconds": 0.2 if quick else 1.0}
        names = [contender.__name__ for contender in CONTENDERS]
        contenders = take_turns("pipeline", names, settings, turns=len(files) * (1 + turns), warm_up=0)
    for name, contender in contenders.items():
        if not contender.check["each_window_once"]:
            raise AssertionError(f"{name} does not give each window of a text exactly once, with its target beside it")
    rows = {}
    for number, size in enumerate(lengths):
        first = number * (1 + turns) + 1  # after the pass that warms up
        rows[size] = {name: row_of(c.portions[first : first + turns]) for name, c in contenders.items()}
    print_table(rows)
    return rows


def row_of(portions: list[dict]) -> dict:
    last = portions[-1]
    return {
        "ids": last["ids"],
        "characters_a_second": spread([portion["characters"] / portion["seconds"] for portion in portions]),
        "first_batch_seconds": spread([portion["first_batch_seconds"] for portion in portions]),
        "build_seconds": last["build_seconds"],
        "peak_megabytes": last["peak_megabytes"],
        "megabytes_before": last["megabytes_before"],
    }


def print_table(rows: dict) -> None:
    print("\nThe first text: a whole pass. The longer ones: the first batch, and the speed in up to a second after it.")
    print("Seconds: to build the dataset, once, and to the first batch, in each pass.")
    print("MB: the most that the process had, and how much of it came after the libraries were loaded.")
    print(f"{'text':12} {'contender':19} {'ids':9} {'characters/s':>13} {'from':>11} {'to':>11}", end="")
    print(f" {'build s':>8} {'first s':>8} {'peak MB':>8} {'data MB':>8}")
    for size, contenders in rows.items():
        for name, row in sorted(contenders.items(), key=lambda item: -item[1]["characters_a_second"]["median"]):
            speed, peak = row["characters_a_second"], row["peak_megabytes"]
            print(f"{size:12} {name:19} {row['ids']:9} {speed['median']:13,.0f}", end="")
            print(f" {speed['least']:11,.0f} {speed['most']:11,.0f} {row['build_seconds']:8.3f}", end="")
            print(f" {row['first_batch_seconds']['median']:8.3f} {peak:8,.0f} {peak - row['megabytes_before']:8,.0f}")
    for name, order in ORDERS.items():
        print(f"{name}: {order}")
