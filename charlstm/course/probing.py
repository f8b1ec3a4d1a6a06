"""What a trained network does while it reads, in plain NumPy. Built in notebook 08_inside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charlstm.console import check_number
from charlstm.model import StepwiseLSTM, one_blas_thread
from charlstm.pipeline import check_ids
from charlstm.sampling import scaled_softmax


@dataclass(frozen=True)
class Reading:
    """What happened at each of n characters, float32; H units, V characters of the vocabulary.

    input_gate, forget_gate, candidate, output_gate, cell, hidden: ``[n, H]``.
    probabilities: of what comes next, ``[n, V]``.
    surprise: bits that each character but the first came as, ``[n - 1]``.
    """

    input_gate: np.ndarray
    forget_gate: np.ndarray
    candidate: np.ndarray
    output_gate: np.ndarray
    cell: np.ndarray
    hidden: np.ndarray
    probabilities: np.ndarray
    surprise: np.ndarray


def read_closely(weights: dict[str, np.ndarray], ids: np.ndarray, switched_off: Sequence[int] = ()) -> Reading:
    """Read ``ids`` (``[n]``) from a state of zeros, and keep everything. ``weights``: as of ``weights_of``.

    switched_off: units whose cell state is held at 0, to see what the network can't do without them.

    Raises TypeError or ValueError like ``check_ids``, or for a unit that the network doesn't have.
    """
    ids = _check(weights, ids)
    for unit in switched_off:
        check_number("a unit that is switched off", unit, 0, len(weights["dense_kernel"]) - 1, whole=True)
    network, kept = StepwiseLSTM(weights), []
    state = tuple(part.copy() for part in network.empty_state())
    with one_blas_thread():
        for char_id in ids:
            i, f, o, candidate = network.gates([char_id], state[0])
            _, state = network.step([char_id], state)
            for part in state:
                part[:, [*switched_off]] = 0
            kept.append(np.concatenate([i, f, candidate, o, state[1], state[0]]))
    states = np.stack(kept, axis=1)  # [6, n, H]
    probabilities = scaled_softmax(states[-1] @ weights["dense_kernel"] + weights["dense_bias"])
    surprise = -np.log2(probabilities[np.arange(len(ids) - 1), ids[1:]])
    return Reading(*states, probabilities, surprise)


def surprise_with_context(weights: dict[str, np.ndarray], ids: np.ndarray, places: np.ndarray, length: int):
    """Bits that the characters at ``places`` come as to a network that has seen only the ``length`` characters before
    each, from a state of zeros: float32, one for each place. All windows are read as one batch. Raises ValueError for a
    place that is not in ``ids`` (``[n]``), or has less before it."""
    ids, places = _check(weights, ids), check_ids(places)
    check_number("length", length, 1, whole=True)
    check_number("the first of the places", places.min(), length, whole=True)
    check_number("the last of the places", places.max(), length, len(ids) - 1, whole=True)
    return _surprise_at_the_end(weights, ids[places[:, None] + np.arange(-length, 1)])


def _surprise_at_the_end(weights: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    # Bits that the last id of each row, [n, length + 1], comes as to a network that has read the others of the row.
    network = StepwiseLSTM(weights)
    state = tuple(np.repeat(part, len(rows), axis=0) for part in network.empty_state())
    for ids in rows.T[:-1]:
        logits, state = network.step(ids, state)
    return -np.log2(scaled_softmax(logits)[np.arange(len(rows)), rows[:, -1]])


def _check(weights: dict[str, np.ndarray], ids: np.ndarray, least: int = 1) -> np.ndarray:
    if not isinstance(weights, dict):
        raise TypeError(f"give weights, as weights_of(model) gives them, not a {type(weights).__name__}")
    return check_ids(ids, weights["dense_bias"].size, least=least)


def unit_auc(values: np.ndarray, is_so: np.ndarray) -> np.ndarray:
    """How well each of the units alone tells places where something ``is_so``, bool ``[n]``, from the others: the
    probability that its value, ``[n, H]``, is larger at a place of the first kind than at one of the second (0.5
    for chance, 0 and 1 for always right), ``[H]``. Raises ValueError where all or no places are so."""
    values, is_so = np.asarray(values), np.asarray(is_so)
    if is_so.dtype != bool or values.ndim != 2 or is_so.shape != values.shape[:1] or is_so.all() or not is_so.any():
        shapes = f"values {values.shape} and is_so {is_so.dtype} {is_so.shape}, {is_so.sum()} of them"
        raise ValueError(f"give values [n, H], and n times True or False, with both among them, not {shapes}")

    def places(values: np.ndarray) -> np.ndarray:
        return values.argsort(axis=0, kind="stable").argsort(axis=0)

    ranks = (places(values) + places(values[::-1])[::-1]) / 2  # of equal values the mean rank
    n_so, n_not = is_so.sum(), (~is_so).sum()
    return (ranks[is_so].sum(axis=0) - n_so * (n_so - 1) / 2) / (n_so * n_not)


def importance(weights: dict[str, np.ndarray], ids: np.ndarray, next_id: int) -> np.ndarray:
    """How many bits more ``next_id`` would come as after ``ids`` (``[n]``, at least 2), were each of them left out:
    ``[n]``."""
    whole = _check(weights, np.append(_check(weights, ids, least=2), next_id))
    left_out = np.array([np.delete(whole, place) for place in range(len(ids))])
    return _surprise_at_the_end(weights, left_out) - _surprise_at_the_end(weights, whole[None])
