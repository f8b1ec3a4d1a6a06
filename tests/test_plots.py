"""The pictures: each is one figure with a title, and says what its axes are."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import charlstm
from charlstm.course import diagrams, plots

pytestmark = pytest.mark.usefixtures("no_other_figure")


@pytest.mark.filterwarnings("error:Glyph")  # 44032 missing from font(s) DejaVu Sans
@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.character_frequencies("the goose\n$%"),
        lambda: plots.pairs(np.array([[0.0, 0.2], [0.5, 1.0]]), "\n$"),
        lambda: plots.buffers(dict.fromkeys([1, 90], [(np.array([[0, 1], [4, 5]]), None)] * 4), 9),
        lambda: plots.ladder({"seen": [4.0, 2.0, 1.0], "held out": [4.0, 3.0, 3.5], "a network": 2.0}),
        lambda: diagrams.windows("THE GOOSE-GIRL\n\nAn old queen had a daughter", seq_length=8),
        lambda: plots.loss_curves({"a": {"loss": [2.0, 1.5], "held_out_bits": [3.0, 2.5]}, "b": {"loss": [1.0]}}),
        lambda: plots.next_characters({"all": np.full(5, 0.2)}, charlstm.Vocabulary("\n $ab"), "a $b", count=5),
        lambda: plots.next_characters(dict.fromkeys("ab", np.full(3, 0.3)), charlstm.Vocabulary("abc"), "a", count=3),
        lambda: plots.next_characters({"all": np.full(3, 0.3)}, charlstm.Vocabulary("$ab"), "a $b$ $\\frac$ 가나"),
        lambda: diagrams.windows("가나다라마바사아자차카타파하 옛날 옛적에 \t 漢字かな🐺", seq_length=8),
        lambda: plots.against_temperature([0.5, 1, 2], {"known": np.ones((3, 2))}, {"known": [1, 2]}),
        lambda: plots.cells("the\n$oose", {"7": np.linspace(-1, 1, 8), "8": np.zeros(8)}, "Two cells"),
        lambda: plots.cells("the", {"7": np.ones(3)}, "A gate", signed=False),
        lambda: plots.lines({"a": {"1": np.ones(40), "0": np.zeros(40)}, "b": {"1": np.ones(9)}}, "way", yscale="log"),
        lambda: plots.lines({"one": {"a": ([1, 9], [3, 2])}}, "characters", {"counting": 2.0}, xscale="log"),
        lambda: plots.attention("th$\n", np.eye(4), "a head"),
        lambda: diagrams.diagram({"x": (0, 0), "h": (0, 1)}, [("x", "h", "W"), ("h", "h", "U")], "A loop"),
        lambda: plots.coloured_text("the $goose\n", np.arange(11.0), "title", "bits", 8, width=8),
    ],
)
def test_one_figure_with_a_title_and_no_warning(draw):
    draw()
    assert len(plt.get_fignums()) == 1
    axes = plt.gcf().axes[0]
    assert axes.get_title()
    assert axes.get_ylabel() or not axes.get_yticks().size or not axes.axison
    plt.gcf().canvas.draw()


def test_characters_that_no_font_has_stand_as_code_points(capsys):
    plots.character_frequencies("aab\U0010fffd\U0010fffd")  # a place that Unicode keeps free
    labels = [label.get_text() for label in plt.gca().get_xticklabels()]
    assert sorted(labels) == ["U+10FFFD", "a", "b"]
    assert "No installed font has 1 of the characters" in capsys.readouterr().out


def test_the_ladder_names_its_lowest_points_and_the_level_line():
    plots.ladder({"held out": [4.0, 3.0, 3.5], "a network": 2.0})
    texts = plt.gca().get_legend().get_texts() + plt.gca().texts
    assert [text.get_text() for text in texts] == ["held out: lowest 3.00", "a network: 2.00"]


def test_against_temperature_draws_the_mean_of_the_draws_and_the_human_band():
    draws = {"known": np.array([[98, 100], [90, 94]]), "different": np.array([[20, 22], [30, 34]])}
    plots.against_temperature([0.5, 1], draws, {"known": [94, 96], "different": [28, 30]})
    panels = plt.gcf().axes
    assert [axes.get_title() for axes in panels] == ["known", "different"]
    known, different = ({line.get_label(): line.get_ydata() for line in axes.lines}["the model"] for axes in panels)
    np.testing.assert_allclose([known, different], [[99, 92], [21, 32]])
    band = panels[1].patches[0].get_extents().transformed(panels[1].transData.inverted())
    np.testing.assert_allclose([band.y0, band.y1], [28, 30])


def test_lines_stand_in_the_panel_of_their_name_with_a_level_line_in_each():
    one, two = {"LSTM": np.array([[1, 2], [4, 3]])}, {"LSTM": ([1, 2], [5, 4]), "Transformer": ([1, 2], [6, 5])}
    plots.lines({"small": one, "large": two}, "seconds", {"counting": 2.0})
    panels = plt.gcf().axes
    assert [axes.get_title() for axes in panels] == ["small", "large"]
    assert [line.get_label() for line in panels[1].lines[:2]] == ["LSTM", "Transformer"]
    assert [text.get_text() for axes in panels for text in axes.texts] == ["counting: 2.00"] * 2


def test_windows_point_from_each_question_to_the_same_character_as_an_answer():
    diagrams.windows("abcdefghi", seq_length=3, count=2)
    arrows = [text for text in plt.gca().texts if getattr(text, "arrow_patch", None)]
    assert [(*arrow.xyann, *arrow.xy) for arrow in arrows] == [(1, 1.5, 0, 0), (2, 1.5, 1, 0)]


def test_the_network_shows_its_numbers_and_what_flows():
    diagrams.network(charlstm.build_model(7, 2, 3), {"ids": np.zeros((1, 5)), "vectors": np.zeros((1, 5, 2))})
    shown = [text.get_text() for text in plt.gca().texts]
    assert {"Embedding\n14 numbers", "LSTM\n72 numbers", "Dense\n28 numbers", "vectors\n(1, 5, 2)"} <= {*shown}
    assert plt.gca().get_title().startswith("114 ")
