"""Pictures of what flows where, and what stands in any picture for a character. (Curves and bars: ``plots``.)

Each function draws one figure, shows it and returns nothing. Nothing is told by colour alone, and the background is
white, so that a dark notebook shows the figures, too.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager

from charlstm.console import say

BLUE, ORANGE, GREY, PURPLE = "#1f5fa8", "#d9720b", "#8a8a8a", "#7a3b9a"
LEGEND = "(␣ space, ↵ new line)"
# With them a text in any of these scripts can be drawn on Linux, on a Mac, and on Windows.
FAMILIES = ["DejaVu Sans", "Noto Sans CJK KR", "NanumGothic", "Apple SD Gothic Neo", "AppleGothic", "Malgun Gothic"]
FAMILIES += ["Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei"]
FAMILIES += ["WenQuanYi Micro Hei", "Noto Sans Arabic", "Noto Sans Hebrew", "Arial Unicode MS", "Segoe UI", "Arial"]
LETTER = {"ha": "center", "va": "center", "fontsize": 9, "parse_math": False}


def windows(text: str, seq_length: int, count: int = 3) -> None:
    """How the first windows lie on ``text``: below each input stands its target, the character that comes next. In the
    first window arrows show that the target is the input, moved by one place."""
    chunk_size = seq_length + 1
    _, axes = new_figure(10, 3)
    axes.set(xlim=(-4.5, count * (chunk_size + 1)), ylim=(-1.6, 3))
    axes.axis("off")
    for row, label in ((2.5, "text"), (1.5, "input"), (0.0, "target")):
        axes.text(-0.9, row, label, ha="right", va="center", fontsize=10, weight="bold")
    for position, symbol in enumerate(symbols(text[: count * chunk_size])):
        window, offset = divmod(position, chunk_size)
        place = position + window  # an empty place between windows
        places = [(place, 2.5)] + [(place, 1.5)] * (offset < seq_length) + [(place - 1, 0)] * (offset > 0)
        for x, y in places:
            box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": BLUE}
            axes.text(x, y, symbol, bbox=box, family=monospaced(), **LETTER)
    for place in range(1, seq_length):
        arrow = {"arrowstyle": "-|>", "color": ORANGE, "shrinkA": 10, "shrinkB": 10}
        axes.annotate("", xy=(place - 1, 0), xytext=(place, 1.5), arrowprops=arrow)
    axes.text(-0.9, 0.75, "moved by one", color=ORANGE, ha="right", va="center", fontsize=9)
    for window in range(count):
        axes.text(window * (chunk_size + 1) + seq_length / 2, -0.85, f"window {window + 1}", ha="center", fontsize=9)
    axes.text(0, -1.5, f"The text goes on to the right {LEGEND}.", fontsize=9)
    axes.set_title(f"Windows of {chunk_size} characters: {seq_length} inputs and their {seq_length} targets")
    plt.show()


def diagram(boxes: dict[str, tuple[float, float]], arrows: list[tuple[str, str, str]], title: str) -> None:
    """``boxes`` (name: x, y) and ``arrows`` (from, to, label). What begins with "d " is a derivative: dashed, orange.
    An arrow from a box to itself is a loop on its right."""
    x, y = np.array([*boxes.values()]).T
    figure, axes = new_figure(10, 1.1 * np.ptp(y) + 1.7)
    axes.set(title=title, xlim=(x.min() - 0.7, x.max() + 0.7), ylim=(y.min() - 0.6, y.max() + 0.6))
    axes.axis("off")
    style = {"ha": "center", "va": "center", "fontsize": 10}
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": GREY}
    drawn = {name: axes.text(*place, name, bbox=box, **style) for name, place in boxes.items()}
    figure.draw_without_rendering()  # from now on the boxes know where they are
    ways = {(start, end) for start, end, _ in arrows}
    for start, end, label in arrows:
        places = np.array([boxes[start], boxes[end]], dtype=float)
        aside = np.array([0, 0.18 if boxes[start][1] == boxes[end][1] else 0])  # the label, above a level arrow
        if start == end:
            places, aside = places + [[0.12, 0.12], [0.12, -0.12]], np.array([0.75, 0])
        elif (end, start) in ways:  # there and back lie beside each other
            right, up = (places[1] - places[0]) / np.linalg.norm(places[1] - places[0])
            aside = 0.2 * np.array([-up, right])
            places += aside / 3
        color, line = (ORANGE, "--") if label.startswith("d ") else (BLUE, "-")
        arrow = {"arrowstyle": "-|>", "color": color, "linestyle": line, "shrinkA": 0, "shrinkB": 0}
        if start == end:
            arrow["connectionstyle"] = "arc3,rad=-2"
        else:
            arrow |= {"patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()}
        axes.annotate("", xy=places[1], xytext=places[0], arrowprops=arrow)
        under = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(*(places.mean(axis=0) + aside), label, color=color, bbox=under, **style)
    plt.show()


def network(model: "keras.Sequential", flows: dict[str, np.ndarray]) -> None:
    """The layers of ``model`` as boxes with their numbers of parameters; at the arrows to, between and from them stands
    each of ``flows`` (name: array) with its shape. The arrow from an LSTM to itself is its memory."""
    _, axes = new_figure(10, 2.6)
    axes.set(xlim=(-1, len(model.layers)), ylim=(-1.1, 0.8), title=f"{model.count_params():,} numbers to learn")
    axes.axis("off")
    style, arrow = {"ha": "center", "va": "center", "fontsize": 10}, {"arrowstyle": "-|>", "color": BLUE}
    for x, (name, array) in enumerate(flows.items()):
        axes.annotate("", xy=(x - 0.34, 0), xytext=(x - 0.66, 0), arrowprops=arrow)
        axes.text(x - 0.5, 0.35, f"{name}\n{tuple(array.shape)}", **style)
    for x, layer in enumerate(model.layers):
        if type(layer).__name__ == "LSTM":
            back = arrow | {"connectionstyle": "arc3,rad=-1"}
            axes.annotate("", xy=(x - 0.13, -0.3), xytext=(x + 0.13, -0.3), arrowprops=back)
            axes.text(x, -0.95, "memory, to the next character", color=BLUE, **style)
        box = {"boxstyle": "round,pad=0.6", "facecolor": "white", "edgecolor": GREY}
        axes.text(x, 0, f"{type(layer).__name__}\n{layer.count_params():,} numbers", bbox=box, **style)
    plt.show()


def symbols(text: str) -> list[str]:
    """What stands in a picture for each character of ``text``: itself, where an installed font of ``FAMILIES`` has it, or
    else its code point, and a line says so."""
    missing = set(text) - {" ", "\n"} - _drawable()
    if missing:
        shown = "".join(sorted(missing))[:10]
        say(f"No installed font has {len(missing)} of the characters, such as {shown!r}: they stand as code points.")
    codes = {char: f"U+{ord(char):04X}" for char in missing}
    return [{" ": "␣", "\n": "↵", **codes}.get(char, char) for char in text]


@functools.cache
def _drawable() -> frozenset[str]:
    # All characters that can be drawn, for which matplotlib is told to use these fonts, one after the other.
    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    plt.rcParams["font.family"] = families = [name for name in FAMILIES if name in files]
    return frozenset(chr(code) for name in families for code in font_manager.get_font(files[name]).get_charmap())


def monospaced() -> list[str]:
    return ["DejaVu Sans Mono", *plt.rcParams["font.family"]]


def new_figure(width: float, height: float, columns: int = 1):
    size = {"figsize": (width, height), "dpi": 80, "facecolor": "white", "layout": "constrained"}
    return plt.subplots(1, columns, sharey=True, **size)
