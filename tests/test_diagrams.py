"""The diagrams. (That each is one figure with a title: test_plots.py.)"""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import charlstm
from charlstm.course import diagrams

pytestmark = pytest.mark.usefixtures("no_other_figure")


def test_windows_point_from_each_question_to_the_same_character_as_an_answer():
    diagrams.windows("abcdefghi", seq_length=3, count=2)
    arrows = [text for text in plt.gca().texts if getattr(text, "arrow_patch", None)]
    assert [(*arrow.xyann, *arrow.xy) for arrow in arrows] == [(1, 1.5, 0, 0), (2, 1.5, 1, 0)]


def test_the_network_shows_its_numbers_and_what_flows():
    diagrams.network(charlstm.build_model(7, 2, 3), {"ids": np.zeros((1, 5)), "vectors": np.zeros((1, 5, 2))})
    shown = [text.get_text() for text in plt.gca().texts]
    assert {"Embedding\n14 numbers", "LSTM\n72 numbers", "Dense\n28 numbers", "vectors\n(1, 5, 2)"} <= {*shown}
    assert plt.gca().get_title().startswith("114 ")
