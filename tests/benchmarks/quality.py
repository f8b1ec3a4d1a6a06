"""Quality: held-out bits per character, of our models and of other ways to guess the next character.

Everyone learns from the first nine tenths of a text and is measured on the last tenth; fewer bits are better. A
compressor is a guesser too: the better it guesses, the less it has to write. What it writes for the whole text, less
what it writes for the nine tenths alone, is what the last tenth costs it. Compressors go on learning while they read
the last tenth; so their peer is the model that learns on while it reads, too.
"""

import bz2
import lzma
import math
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
from turns import Contender

import charlstm
from charlstm import SourceUnavailable
from charlstm.course.recorded import read_recorded

ORDERS = range(3, 9)
DISCOUNT = 0.75
KNOWN_ON_GRIMM = {"guessing blindly": 6.13, "counting characters": 4.43, "Kneser-Ney, order 6": 2.04, "bzip2": 2.01}
MINUTES = {"grimm": 6, "mysterious_island": 25}  # what 20 epochs of "book" take on two processor cores, about
# zpaq takes other settings for what is larger than 2**20 bytes, a little less than the whole Mysterious Island. So that
# the two sizes can be compared, it gets no more than this, and learns from the last 0.93 million characters before.
ZPAQ_MOST_BYTES = 1_044_000


def counting_bits(train_ids: np.ndarray, held_out_ids: np.ndarray, vocab_size: int) -> float:
    """Bits per character for one who only knows how frequent each character is."""
    counts = np.bincount(train_ids, minlength=vocab_size) + 0.5  # so that no character is impossible
    return float(-np.log2(counts / counts.sum())[held_out_ids[1:]].mean())


class KneserNey:
    """Counts of all rows of up to ``max_order`` characters, and the probabilities made of them, interpolated.

    A row of k characters is one integer, in base V + 2, so that NumPy can sort and count rows. Its last digit is a
    character, the digits before are the context of this character. Notebook 01_data has the same with dictionaries.
    """

    def __init__(self, train_ids: np.ndarray, vocab_size: int, max_order: int):
        self.vocab_size, self.max_order, self.base = vocab_size, max_order, vocab_size + 2
        if self.base**max_order > np.iinfo(np.int64).max:
            raise ValueError(f"rows of {max_order} out of {vocab_size} characters do not fit into 64 bits")
        rows = self.rows_of(train_ids, before=vocab_size)
        # For each k: how often each row of k characters occurs, and how many characters have been seen before it.
        self.occurrences, self.predecessors = {}, {}
        for k in range(max_order, 0, -1):
            different, counts = np.unique(self.last(rows, k), return_counts=True)
            self.occurrences[k] = self.table(different, counts)
            if k > 1:
                shorter = np.unique(different % self.base ** (k - 1), return_counts=True)
                self.predecessors[k - 1] = self.table(*shorter)

    def rows_of(self, ids: np.ndarray, before: int) -> np.ndarray:
        """For each id, a row that ends with it: ``[n, max_order]``. Before the first id stands the digit ``before``."""
        padded = np.concatenate([np.full(self.max_order - 1, before), ids])
        return np.lib.stride_tricks.sliding_window_view(padded, self.max_order)

    def last(self, rows: np.ndarray, k: int) -> np.ndarray:
        """The last ``k`` characters of each row as one integer."""
        return rows[:, -k:] @ self.base ** np.arange(k)[::-1]

    def table(self, different: np.ndarray, counts: np.ndarray) -> tuple:
        """Rows and their counts; contexts, and for each the sum of its counts and how many characters follow it."""
        contexts, starts = np.unique(different // self.base, return_index=True)
        return different, counts, contexts, np.add.reduceat(counts, starts), np.diff(starts, append=len(different))

    def refine(self, probability: np.ndarray, rows: np.ndarray, table: tuple) -> np.ndarray:
        """The probability with a context one character longer, where that context has been seen."""
        different, counts, contexts, totals, followers = table
        count = look_up(different, counts, rows)
        total = look_up(contexts, totals, rows // self.base)
        shared_out = DISCOUNT * look_up(contexts, followers, rows // self.base)
        refined = (np.maximum(count - DISCOUNT, 0) + shared_out * probability) / np.maximum(total, 1)
        return np.where(total > 0, refined, probability)

    def probabilities(self, rows: np.ndarray, orders) -> dict[int, np.ndarray]:
        """For each order, the probability of the last character in each row, given those before it."""
        probability, result = np.full(len(rows), 1 / self.vocab_size), {}
        for k in range(1, max(orders) + 1):
            last = self.last(rows, k)
            if k in orders:  # the longest rows count as often as they occur, shorter ones by what was new before them
                result[k] = self.refine(probability, last, self.occurrences[k])
            if k < max(orders):
                probability = self.refine(probability, last, self.predecessors[k])
        return result


def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 for a key that is not there. The keys are sorted."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


def kneser_ney_bits(train_ids: np.ndarray, held_out_ids: np.ndarray, vocab_size: int, orders) -> dict[int, float]:
    """Bits per character by Kneser & Ney (1995), for each order: how many characters in a row are counted."""
    model = KneserNey(train_ids, vocab_size, max(orders))
    rows = model.rows_of(held_out_ids, before=vocab_size + 1)  # a digit that no counted row has
    some = rows[:: len(rows) // 20]
    with_every_character = np.repeat(some, vocab_size, axis=0)
    with_every_character[:, -1] = np.tile(np.arange(vocab_size), len(some))
    for order, probabilities in model.probabilities(with_every_character, orders).items():
        sums = probabilities.reshape(len(some), vocab_size).sum(axis=1)
        if not np.allclose(sums, 1):
            raise AssertionError(f"the probabilities of order {order} add up to {sums}, not to 1")
    return {k: float(-np.log2(p[1:]).mean()) for k, p in model.probabilities(rows, orders).items()}


def compressors() -> dict:
    """Functions from bytes to fewer bytes, each at its strongest setting; None for what is not installed."""

    def xz(data: bytes) -> bytes:
        return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)

    def ppmd(data: bytes) -> bytes:
        encoder = pyppmd.Ppmd8Encoder(8, 1 << 28)  # variant I, order 8, more memory than these texts need
        return encoder.encode(data) + encoder.flush()

    def zpaq(data: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "text").write_bytes(data)
            subprocess.run(["zpaq", "add", "archive", "text", "-m5"], cwd=folder, check=True, capture_output=True)
            return (Path(folder) / "archive.zpaq").read_bytes()

    try:
        import pyppmd
    except ImportError:
        ppmd = None
    return {
        "zlib": lambda data: zlib.compress(data, 9),
        "xz": xz,
        "bzip2": bz2.compress,
        "PPMd (I, order 8)": ppmd,
        "zpaq -m5": zpaq if shutil.which("zpaq") else None,
    }


def compressor_bits(compress, train_text: str, held_out_text: str, most_bytes: int | None = None) -> float:
    """Bits per character of the held-out text, for a compressor that has just compressed the text before it, or as much
    of it as leaves both together at ``most_bytes``."""
    head, tail = train_text.encode("utf-8"), held_out_text.encode("utf-8")
    if most_bytes:
        head = head[max(0, len(head) + len(tail) - most_bytes) :]
    return 8 * (len(compress(head + tail)) - len(compress(head))) / len(held_out_text)


def pretrained_bits(held_out_text: str) -> list[float]:
    """Bits per character of the model that comes with the package, as it is, and learning on while it reads."""
    charlstm.import_tensorflow_quietly()
    model, vocabulary = charlstm.load_pretrained()
    held_out_ids = vocabulary.encode(held_out_text)
    return [charlstm.bits_per_char(model, held_out_ids, learn) for learn in (False, True)]


def training(recipe: str, text: str):
    """A contender, for a process of its own: one portion of work is the whole training by this recipe."""
    charlstm.import_tensorflow_quietly()
    import keras

    keras.utils.set_random_seed(1)
    corpus = charlstm.load_corpus(text)
    train_ids, held_out_ids = charlstm.split(corpus.vocabulary.encode(corpus.text))
    model = charlstm.build_model(len(corpus.vocabulary), recipe=recipe)
    yield {"characters": len(train_ids)}
    if recipe == "best":
        dataset = charlstm.make_dataset(train_ids, seq_length=25, seed=1, carry_state=True)
        charlstm.train(model, dataset)
        bits, learning_on = (charlstm.bits_per_char(model, held_out_ids, learn) for learn in (False, True))
        yield {"bits": bits, "learning_on": learning_on}
    else:
        history = charlstm.train(model, charlstm.make_dataset(train_ids, seed=1), held_out_ids=held_out_ids)
        yield {"bits": min(history["held_out_bits"])}


def trained_bits(recipe: str, text: str) -> dict[str, float]:
    contender = Contender("quality", "training", {"recipe": recipe, "text": text})
    contender.take_turn()
    contender.finish()
    return contender.portions[0]


def measure(name: str, corpus: "charlstm.Corpus", quick: bool, book_bits: float | None, long: bool) -> dict:
    """Bits per character for each guesser, or the reason why there is no number."""
    ids, vocab_size = corpus.vocabulary.encode(corpus.text), len(corpus.vocabulary)
    parts = charlstm.split(ids)
    train_text, held_out_text = corpus.text[: len(parts[0])], corpus.text[len(parts[0]) :]
    results = {"guessing blindly": math.log2(vocab_size), "counting characters": counting_bits(*parts, vocab_size)}
    for order, bits in kneser_ney_bits(*parts, vocab_size, (3, 6) if quick else ORDERS).items():
        results[f"Kneser-Ney, order {order}"] = bits
    for compressor, compress in compressors().items():
        most_bytes = ZPAQ_MOST_BYTES if compressor.startswith("zpaq") else None
        if compress is not None:
            results[compressor] = compressor_bits(compress, train_text, held_out_text, most_bytes)
        else:
            results[compressor] = "not installed"
    best = "charlstm, recipe best"
    if name == "grimm":
        results[best], results[f"{best}, learning on"] = pretrained_bits(held_out_text)
    else:
        trained, not_run = trained_bits("best", name) if long else {}, "not run (40 minutes; --long)"
        results[best] = trained.get("bits", not_run)
        results[f"{best}, learning on"] = trained.get("learning_on", not_run)
    results["charlstm, recipe quick"] = "not run" if quick else trained_bits("quick", name)["bits"]
    if book_bits is None:
        book_bits = trained_bits("book", name)["bits"] if long else f"not run ({MINUTES[name]} minutes; --long)"
    results["charlstm, recipe book"] = book_bits
    for contender, run in read_recorded("attention")["runs"].items() if name == "grimm" else ():
        results[f"{contender} of notebook 11, 5 minutes"] = run["curve"][-1][1]
    n_bytes = len(held_out_text.encode("utf-8"))
    if n_bytes > len(held_out_text):
        print(f"  {name}: {n_bytes / len(held_out_text):.4f} bytes a character; divide by it for bits per byte")
    return results


def run(quick: bool, book_bits: dict | None = None, long: bool = False) -> dict:
    """Held-out bits per character: our models beside counting, Kneser-Ney n-grams and compressors."""
    rows, measured = {}, []
    for name in ("grimm",) if quick else ("grimm", "mysterious_island"):
        try:
            corpus = charlstm.load_corpus(name)
        except SourceUnavailable as error:
            print(f"  {name}: not measured, {error}", flush=True)
            continue
        measured.append(name)
        for guesser, bits in measure(name, corpus, quick, (book_bits or {}).get(name), long).items():
            rows.setdefault(guesser, {})[name] = bits
    for guesser, expected in KNOWN_ON_GRIMM.items():
        bits = rows[guesser]["grimm"] if "grimm" in measured else expected
        if abs(bits - expected) > 0.01:
            raise AssertionError(f"{guesser} is known to need {expected} bits on Grimm, but here it needs {bits:.3f}")
    print(f"\n{'held-out bits per character':36}" + "".join(f"{name:>32}" for name in measured))
    for guesser, row in sorted(rows.items(), key=lambda item: sort_key(item[1])):
        values = [row.get(name, "-") for name in measured]
        cells = [f"{value:.3f}" if isinstance(value, float) else value for value in values]
        print(f"{guesser:36}" + "".join(f"{cell:>32}" for cell in cells))
    return rows


def sort_key(row: dict) -> float:
    """Bits on the first text that has a number; a row without one comes last."""
    return next((bits for bits in row.values() if isinstance(bits, float)), math.inf)
