"""charlstm.course.probing: what the network does while it reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm import StepwiseLSTM, surprise
from charlstm.course.probing import importance, read_closely, surprise_with_context, unit_auc


def random_weights(seed: int, sizes=(7, 5, 6)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = StepwiseLSTM.weight_shapes(*sizes)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), ids=st.lists(st.integers(0, 6), min_size=2, max_size=30))
def test_it_reads_as_the_model_does(seed, ids):
    weights, ids = random_weights(seed), np.array(ids)
    reading, network = read_closely(weights, ids), StepwiseLSTM(weights)
    np.testing.assert_allclose(reading.surprise, surprise(network, ids), atol=1e-4)
    state = network.empty_state()
    for place, char_id in enumerate(ids):
        _, state = network.step([char_id], state)
        np.testing.assert_allclose([reading.hidden[place], reading.cell[place]], np.squeeze(state, 1), atol=1e-5)
    np.testing.assert_allclose(reading.probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(reading.output_gate * np.tanh(reading.cell), reading.hidden, atol=1e-6)


def test_a_unit_that_is_switched_off_says_nothing():
    weights, ids = random_weights(1), np.array([1, 2, 3, 4, 5])
    reading = read_closely(weights, ids, switched_off=[2, 4])
    assert not reading.hidden[:, [2, 4]].any() and reading.hidden[:, [0, 1, 3, 5]].all()
    silent = weights | {"dense_kernel": weights["dense_kernel"].copy()}
    silent["lstm_recurrent_kernel"] = weights["lstm_recurrent_kernel"].copy()
    for name in ("dense_kernel", "lstm_recurrent_kernel"):
        silent[name][[2, 4]] = 0  # nobody listens to them
    np.testing.assert_allclose(reading.probabilities, read_closely(silent, ids).probabilities, atol=1e-5)


def test_with_all_that_came_before_the_surprise_is_that_of_reading():
    weights, ids = random_weights(2), np.random.default_rng(2).integers(0, 7, size=20)
    whole = surprise(StepwiseLSTM(weights), ids)
    for place in (1, 5, 19):
        np.testing.assert_allclose(
            surprise_with_context(weights, ids, np.array([place]), place), whole[place - 1], atol=1e-4
        )
    last = surprise_with_context(weights, ids, np.array([4, 9, 14]), 3)
    each = [surprise(StepwiseLSTM(weights), ids[place - 3 : place + 1])[-1] for place in (4, 9, 14)]
    np.testing.assert_allclose(last, each, atol=1e-4)


def test_the_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(3)
    values, is_so = rng.normal(size=(40, 3)), rng.random(40) < 0.3
    values[:, 1] = is_so + 0.01 * rng.random(40)
    values[:, 2] = values[:, 2].round()  # equal values are half in order
    a, b = values[is_so][:, None], values[~is_so][None]
    np.testing.assert_allclose(unit_auc(values, is_so), ((a > b) + 0.5 * (a == b)).mean(axis=(0, 1)))
    assert unit_auc(values, is_so)[1] == 1


def test_importance_is_what_leaving_out_costs():
    weights, ids = random_weights(4), np.array([3, 1, 4, 1, 5])
    bits = [surprise(StepwiseLSTM(weights), np.append(row, 2))[-1] for row in (ids, np.delete(ids, 3))]
    assert importance(weights, ids, 2)[3] == pytest.approx(bits[1] - bits[0], abs=1e-4)
    assert importance(weights, ids, 2).shape == (5,)


WEIGHTS, IDS, SO = random_weights(5), np.array([1, 2, 3, 4, 5, 6]), np.array([True, False, True])
WRONG = {  # by what is named
    "5 before the first place": (
        lambda: surprise_with_context(WEIGHTS, IDS, np.array([3]), 5),
        ValueError,
        "at least 5",
    ),
    "beyond the text": (lambda: surprise_with_context(WEIGHTS, IDS, np.array([6]), 2), ValueError, "at most 5"),
    "no context": (
        lambda: surprise_with_context(WEIGHTS, IDS, np.array([3]), 0),
        ValueError,
        "length must be at least 1",
    ),
    "no places": (lambda: surprise_with_context(WEIGHTS, IDS, np.array([], int), 2), ValueError, "at least 1"),
    "a mask as places": (lambda: surprise_with_context(WEIGHTS, IDS, IDS > 3, 2), TypeError, "integers"),
    "a text": (lambda: read_closely(WEIGHTS, "once"), TypeError, "encode"),
    "nothing": (lambda: read_closely(WEIGHTS, IDS[:0]), ValueError, "at least 1"),
    "other ids": (lambda: read_closely(WEIGHTS, np.array([3, 7])), ValueError, "3 to 7"),
    "no such unit": (lambda: read_closely(WEIGHTS, IDS, [6]), ValueError, "at most 5"),
    "a network": (lambda: read_closely(StepwiseLSTM(WEIGHTS), IDS), TypeError, "weights_of"),
    "one character": (lambda: importance(WEIGHTS, IDS[:1], 3), ValueError, "at least 2"),
    "no such next": (lambda: importance(WEIGHTS, IDS, 7), ValueError, "1 to 7"),
    "0 and 1": (lambda: unit_auc(np.eye(3), SO.astype(int)), ValueError, "True or False"),
    "none": (lambda: unit_auc(np.eye(3), SO & False), ValueError, "both"),
    "all": (lambda: unit_auc(np.eye(3), SO | True), ValueError, "both"),
    "fewer": (lambda: unit_auc(np.eye(3), SO[:2]), ValueError, "n times"),
}


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_places_may_be_a_list():
    assert surprise_with_context(WEIGHTS, IDS, [2, 5], 2).shape == (2,)
