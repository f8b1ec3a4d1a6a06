"""The notebooks' pictures. Each function draws one figure, shows it and returns nothing.

Nothing is told by colour alone, and the background is white, so that a dark notebook shows the figures, too.
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colors, font_manager, ticker

from charlstm.console import say
from charlstm.data import Vocabulary

if TYPE_CHECKING:
    import keras

BLUE, ORANGE, GREY, PURPLE = "#1f5fa8", "#d9720b", "#8a8a8a", "#7a3b9a"
LEGEND = "(␣ space, ↵ new line)"
LETTER = {"ha": "center", "va": "center", "fontsize": 9, "parse_math": False}


def character_frequencies(text: str, count: int = 30) -> None:
    """Bars of how often the ``count`` commonest characters of ``text`` occur, in per cent of all its characters."""
    commonest = Counter(text).most_common(count)
    shares = [100 * occurrences / len(text) for _, occurrences in commonest]
    _, axes = _figure(10, 3.4)
    axes.bar(range(len(shares)), shares, color=BLUE)
    axes.set_xticks(range(len(shares)), _symbols("".join(char for char, _ in commonest)))
    axes.set(
        title=f"The {len(shares)} commonest characters", xlabel=f"character {LEGEND}", ylabel="share of the text (%)"
    )
    plt.show()


def pairs(probabilities: np.ndarray, chars: str) -> None:
    """What comes after what: row, the last character; column, the next one; both of ``chars``; ``probabilities`` from 0
    to 1, of shape ``[len(chars), len(chars)]``, in per cent from 20 on. The colours go by the square root."""
    _, axes = _figure(7.6, 6.6)
    norm = colors.PowerNorm(0.5, vmin=0, vmax=100)
    squares = axes.imshow(100 * probabilities, cmap="Blues", norm=norm)
    for row, column in np.argwhere(probabilities >= 0.2):
        value = 100 * probabilities[row, column]
        color = "white" if value > 35 else "black"
        axes.text(column, row, f"{value:.0f}", color=color, ha="center", va="center", fontsize=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(chars)), _symbols(chars))
    axes.set(title="Which character follows which", xlabel=f"next character {LEGEND}", ylabel="last character")
    plt.colorbar(squares, label="share of what follows (%)", ticks=[0, 1, 5, 10, 25, 50, 100], shrink=0.7)
    plt.show()


def lines(
    panels: dict[str, dict[str, Sequence]], xlabel: str, levels: dict[str, float] | None = None, **settings
) -> None:
    """A panel for each of ``panels`` (title: curves), and in it a line for each of its curves (name: values at 0, 1, 2
    ..., or places and values; five at most); for each of ``levels`` (name: value) a level line in each panel. settings:
    of the axes, such as ``xscale="log"``."""
    _, columns = _figure(4 + 3 * len(panels), 3.5, columns=len(panels))
    settings = {"ylabel": "bits per character"} | settings
    looks = [("o-", BLUE), ("s--", ORANGE), ("^-.", "black"), ("D:", GREY), ("x-", PURPLE)]
    for axes, (title, curves) in zip(np.atleast_1d(columns), panels.items(), strict=True):
        for (name, values), (style, color) in zip(curves.items(), looks[: len(curves)], strict=True):
            x, y = values if np.ndim(values[0]) else (range(len(values)), values)
            axes.plot(x, y, style, color=color, markersize=4, markevery=math.ceil(len(x) / 20), label=name)
        for name, value in (levels or {}).items():
            axes.axhline(value, color="black", linewidth=1, linestyle="-.")
            axes.annotate(f"{name}: {value:.2f}", (0.01, value), (0, 3), axes.get_yaxis_transform(), "offset points")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.set(title=title, xlabel=xlabel, **settings)
        if settings.get("xscale") == "log":
            axes.set_xticks(x, x)
            axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    plt.show()


def ladder(curves: dict[str, Sequence[float] | float], title: str = "The ladder") -> None:
    """Bits per character against the length of the context, 0, 1, 2 ...: a line for each of ``curves`` (name: values),
    the lowest point named; for a single value a level line."""
    levels = {name: value for name, value in curves.items() if np.ndim(value) == 0}
    climbed = {f"{name}: lowest {min(curves[name]):.2f}": curves[name] for name in curves if name not in levels}
    lines({title: climbed}, "length of the context (characters)", levels, ylim=(0, None))


def loss_curves(histories: dict[str, dict[str, Sequence[float]]]) -> None:
    """Training loss and, if there, held-out loss against epochs, in bits, a panel for each history (of ``train``)."""
    panels = {}
    for name, history in histories.items():
        curves = {"training": np.array(history["loss"]) / math.log(2), "held out": history.get("held_out_bits")}
        panels[f"Loss in each epoch: {name}"] = {
            f"{label}: {values[-1]:.2f} in the end": (range(1, len(values) + 1), values)
            for label, values in curves.items()
            if values is not None
        }
    lines(panels, "epoch")


def windows(text: str, seq_length: int, count: int = 3) -> None:
    """How the first windows lie on ``text``: below each input stands its target, the character that comes next. In the
    first window arrows show that the target is the input, moved by one place."""
    chunk_size = seq_length + 1
    _, axes = _figure(10, 3)
    axes.set(xlim=(-4.5, count * (chunk_size + 1)), ylim=(-1.6, 3))
    axes.axis("off")
    for row, label in ((2.5, "text"), (1.5, "input"), (0.0, "target")):
        axes.text(-0.9, row, label, ha="right", va="center", fontsize=10, weight="bold")
    for position, symbol in enumerate(_symbols(text[: count * chunk_size])):
        window, offset = divmod(position, chunk_size)
        place = position + window  # an empty place between windows
        places = [(place, 2.5)] + [(place, 1.5)] * (offset < seq_length) + [(place - 1, 0)] * (offset > 0)
        for x, y in places:
            box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": BLUE}
            axes.text(x, y, symbol, bbox=box, family=_monospaced(), **LETTER)
    for place in range(1, seq_length):
        arrow = {"arrowstyle": "-|>", "color": ORANGE, "shrinkA": 10, "shrinkB": 10}
        axes.annotate("", xy=(place - 1, 0), xytext=(place, 1.5), arrowprops=arrow)
    axes.text(-0.9, 0.75, "moved by one", color=ORANGE, ha="right", va="center", fontsize=9)
    for window in range(count):
        axes.text(window * (chunk_size + 1) + seq_length / 2, -0.85, f"window {window + 1}", ha="center", fontsize=9)
    axes.text(0, -1.5, f"The text goes on to the right {LEGEND}.", fontsize=9)
    axes.set_title(f"Windows of {chunk_size} characters: {seq_length} inputs and their {seq_length} targets")
    plt.show()


def next_characters(distributions: dict[str, np.ndarray], vocabulary: Vocabulary, prompt: str, count: int = 12) -> None:
    """Bars of the probabilities of the next character, in a panel for each of ``distributions`` (name: ``[V]``):
    of those that are likeliest in one of them."""
    likeliest = np.argsort(-np.max([*distributions.values()], axis=0))[:count]
    symbols = _symbols(vocabulary.decode(likeliest))
    figure, panels = _figure(10, 3, columns=len(distributions))
    for axes, (name, probabilities) in zip(np.atleast_1d(panels), distributions.items(), strict=True):
        bars = axes.bar(range(len(likeliest)), 100 * probabilities[likeliest], color=BLUE)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_xticks(range(len(likeliest)), symbols)
        axes.set(title=name, xlabel="next character", ylabel="probability (%)")
        axes.margins(y=0.12)
    figure.suptitle(f"What comes after “{''.join(_symbols(prompt))}”? {LEGEND}", parse_math=False)
    plt.show()


def against_temperature(
    temperatures: Sequence[float], curves: dict[str, np.ndarray], human: dict[str, Sequence[float]]
) -> None:
    """A panel for each of ``curves`` (name: shares in per cent, ``[temperatures, draws]``): a dot for each draw, a line
    through their means, and across it, from the lowest to the highest, what ``human`` text has (name: shares)."""
    _, panels = _figure(10, 3.6, columns=len(curves))
    for axes, (name, shares) in zip(np.atleast_1d(panels), curves.items(), strict=True):
        axes.plot(temperatures, shares, ".", color=BLUE, markersize=5)
        axes.plot(temperatures, np.mean(shares, axis=1), "-", color=BLUE, label="the model")
        axes.axhspan(min(human[name]), max(human[name]), color=ORANGE, alpha=0.3)
        axes.axhline(np.mean(human[name]), color=ORANGE, linestyle="--", label="human text")
        axes.set_xscale("log", base=2)
        axes.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
        axes.set(title=name, xlabel="temperature (= 1 / alpha)", ylabel="share of all words (%)")
        axes.grid(alpha=0.3)
        axes.legend()
    plt.show()


def cells(text: str, values: dict[str, np.ndarray], title: str, signed: bool = True) -> None:
    """A row for each of ``values`` (name: ``[len(text)]``), with a square for each character of ``text``. signed: from
    -1 to 1, where 0 is white, and beyond a half the sign stands in the square; or else from 0 to 1."""
    grid = np.array([*values.values()])
    _, axes = _figure(11, 0.4 * len(grid) + 1.5)
    scale = {"cmap": "RdBu", "vmin": -1} if signed else {"cmap": "Blues", "vmin": 0}
    squares = axes.imshow(grid, vmax=1, aspect="auto", interpolation="nearest", **scale)
    for row, column in np.argwhere(signed * abs(grid) > 0.5):
        axes.text(column, row, "+" if grid[row, column] > 0 else "−", color="white", **LETTER)
    axes.set_xticks(range(len(text)), _symbols(text), fontsize=9)
    axes.set_yticks(range(len(grid)), values)
    axes.set(title=title, xlabel=f"character read {LEGEND}", ylabel="unit")
    plt.colorbar(squares, label="value", ticks=[-1, 0, 1] if signed else [0, 1])
    plt.show()


def coloured_text(
    text: str, values: np.ndarray, title: str, label: str, limit: float, signed: bool = False, width: int = 72
) -> None:
    """``text`` in rows of ``width``, each character on the ground of its value, ``[len(text)]``: from 0 to ``limit``,
    or if ``signed`` from -limit (orange) to limit (purple)."""
    rows = math.ceil(len(text) / width)
    grid = np.full(rows * width, np.nan)
    grid[: len(text)] = values
    _, axes = _figure(10, 0.3 * rows + 1.2)
    scale = {"cmap": "PuOr", "vmin": -limit} if signed else {"cmap": "Blues", "vmin": 0}
    squares = axes.imshow(grid.reshape(rows, width), **scale, vmax=limit, aspect="auto")
    for place, (symbol, value) in enumerate(zip(_symbols(text), values, strict=True)):
        color = "white" if abs(value) > 0.6 * limit else "black"
        symbol = symbol.replace("␣", " ")
        axes.text(place % width, place // width, symbol, color=color, family=_monospaced(), **LETTER)
    axes.set(title=title, xticks=[], yticks=[])
    extend = "both" if signed else "max"
    plt.colorbar(squares, label=label, extend=extend, orientation="horizontal", shrink=0.4, aspect=40)
    plt.show()


def bars(values: dict[str, float], title: str, xlabel: str, ours: str = "") -> None:
    """A horizontal bar for each of ``values`` (name: value), in their order from above; ``ours`` in another colour."""
    _, axes = _figure(9, 0.36 * len(values) + 1.1)
    drawn = axes.barh([*values], [*values.values()], color=[ORANGE if name == ours else BLUE for name in values])
    labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values.values()]
    axes.bar_label(drawn, labels, padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=xlabel)
    plt.show()


def attention(text: str, shares: np.ndarray, title: str) -> None:
    """A row for each character of ``text``, and in it a square for each that it looks at: ``shares`` from 0 to 1, of
    shape ``[len(text), len(text)]``."""
    _, axes = _figure(7.6, 6.6)
    squares = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(text)), _symbols(text), fontsize=8, parse_math=False)
    axes.set(title=title, xlabel=f"it looks at {LEGEND}", ylabel="character that looks")
    plt.colorbar(squares, label="share of its attention", shrink=0.7)
    plt.show()


def diagram(boxes: dict[str, tuple[float, float]], arrows: list[tuple[str, str, str]], title: str) -> None:
    """``boxes`` (name: x, y) and ``arrows`` (from, to, label). What begins with "d " is a derivative: dashed, orange.
    An arrow from a box to itself is a loop on its right."""
    x, y = np.array([*boxes.values()]).T
    figure, axes = _figure(10, 1.1 * np.ptp(y) + 1.7)
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
        if label:
            axes.text(*(places.mean(axis=0) + aside), label, color=color, bbox=under, **style)
    plt.show()


def network(model: "keras.Sequential", flows: dict[str, np.ndarray]) -> None:
    """The layers of ``model`` as boxes with their numbers of parameters; at the arrows to, between and from them stands
    each of ``flows`` (name: array) with its shape. The arrow from an LSTM to itself is its memory."""
    _, axes = _figure(10, 2.6)
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


def _symbols(text: str) -> list[str]:
    """What stands in a picture for each character of ``text``: itself, where an installed font has it (matplotlib is
    told to use it, too), or else its code point, and a line says so."""
    missing = set(text) - {" ", "\n"} - _characters_of(font_manager.findfont("DejaVu Sans"))
    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist if missing}
    fonts = {name: file for name, file in fonts.items() if not name.startswith("Last Resort")}
    for name, file in sorted(fonts.items(), key=lambda font: -len(missing & _characters_of(font[1]))):
        if found := missing & _characters_of(file):
            plt.rcParams["font.family"] = [*dict.fromkeys([*plt.rcParams["font.family"], name])]
            missing -= found
    if missing:
        shown = "".join(sorted(missing))[:10]
        say(f"No installed font has {len(missing)} of the characters, such as {shown!r}: they stand as code points.")
    codes = {char: f"U+{ord(char):04X}" for char in missing}
    return [{" ": "␣", "\n": "↵", **codes}.get(char, char) for char in text]


@functools.cache
def _characters_of(font_file: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, font_manager.get_font(font_file).get_charmap()))
    except (RuntimeError, OSError):  # a font of bitmaps, or one that is no longer there
        return frozenset()


def _monospaced() -> list[str]:
    return ["DejaVu Sans Mono", *plt.rcParams["font.family"]]


def _figure(width: float, height: float, columns: int = 1):
    size = {"figsize": (width, height), "dpi": 80, "facecolor": "white", "layout": "constrained"}
    return plt.subplots(1, columns, sharey=True, **size)
