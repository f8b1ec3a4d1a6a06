"""The pictures: each is one figure with a title, and says what its axes are."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import charlstm
from charlstm import plots


@pytest.mark.filterwarnings("error:Glyph")  # 44032 missing from font(s) DejaVu Sans
@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.character_frequencies("the goose\n$%"),
        lambda: plots.windows("THE GOOSE-GIRL\n\nAn old queen had a daughter", seq_length=8),
        lambda: plots.loss_curves({"a": {"loss": [2.0, 1.5], "held_out_bits": [3.0, 2.5]}, "b": {"loss": [1.0]}}),
        lambda: plots.next_characters({"all": np.full(5, 0.2)}, charlstm.Vocabulary("\n $ab"), "a $b", count=5),
        lambda: plots.next_characters(dict.fromkeys("ab", np.full(3, 0.3)), charlstm.Vocabulary("abc"), "a", count=3),
        lambda: plots.next_characters({"all": np.full(3, 0.3)}, charlstm.Vocabulary("$ab"), "a $b$ $\\frac$ 가나"),
        lambda: plots.windows("가나다라마바사아자차카타파하 옛날 옛적에 \t 漢字かな🐺", seq_length=8),
        lambda: plots.against_temperature([0.5, 1, 2], {"one": [1, 2, 3], "two": [3, 2, 1]}, "Two", "value"),
        lambda: plots.states("the goose", np.zeros((9, 4))),
        lambda: plots.surprise("the $goose\n", np.arange(11.0), width=8),
    ],
)
def test_one_figure_with_a_title_and_no_warning(draw):
    plt.close("all")
    draw()
    assert len(plt.get_fignums()) == 1
    axes = plt.gcf().axes[0]
    assert axes.get_title()
    assert axes.get_ylabel() or not axes.get_yticks().size or not axes.axison
    plt.gcf().canvas.draw()
    plt.close("all")


def test_characters_that_no_font_has_stand_as_code_points(capsys):
    plt.close("all")
    plots.character_frequencies("aab\U0010fffd\U0010fffd")  # a place that Unicode keeps free
    labels = [label.get_text() for label in plt.gca().get_xticklabels()]
    assert sorted(labels) == ["U+10FFFD", "a", "b"]
    assert "No installed font has 1 of the characters" in capsys.readouterr().out
    plt.close("all")
