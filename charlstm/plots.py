"""The notebooks' pictures. Each function draws one figure, shows it and returns nothing.

Nothing is told by colour alone, and the background is white, so that a dark notebook shows the figures, too.
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager

from charlstm.console import say
from charlstm.data import Vocabulary

BLUE, ORANGE, GREY = "#1f5fa8", "#d9720b", "#8a8a8a"
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


def windows(text: str, seq_length: int, count: int = 3) -> None:
    """How the first windows lie on ``text``: below each input stands its target, the character that comes next."""
    chunk_size = seq_length + 1
    _, axes = _figure(10, 2.7)
    axes.set(xlim=(-4.5, count * (chunk_size + 1)), ylim=(-1.3, 2.9))
    axes.axis("off")
    for row, label in ((2.3, "text"), (1.2, "input"), (0.3, "target")):
        axes.text(-0.9, row, label, ha="right", va="center", fontsize=10, weight="bold")
    for position, symbol in enumerate(_symbols(text[: count * chunk_size])):
        window, offset = divmod(position, chunk_size)
        place = position + window  # an empty place between windows
        places = [(place, 2.3)] + [(place, 1.2)] * (offset < seq_length) + [(place - 1, 0.3)] * (offset > 0)
        for x, y in places:
            box = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": BLUE}
            axes.text(x, y, symbol, bbox=box, family=_monospaced(), **LETTER)
    for window in range(count):
        axes.text(window * (chunk_size + 1) + seq_length / 2, -0.5, f"window {window + 1}", ha="center", fontsize=9)
    axes.text(0, -1.2, f"The text goes on to the right {LEGEND}.", fontsize=9)
    axes.set_title(f"Windows of {chunk_size} characters: {seq_length} inputs and their {seq_length} targets")
    plt.show()


def loss_curves(histories: dict[str, dict[str, Sequence[float]]]) -> None:
    """Training loss and, if there, held-out loss against epochs, in bits, a panel for each history (of ``train``)."""
    _, panels = _figure(4.2 + 3 * len(histories), 3.6, columns=len(histories))
    for axes, (name, history) in zip(np.atleast_1d(panels), histories.items(), strict=True):
        curves = {"training": np.array(history["loss"]) / math.log(2)}
        if "held_out_bits" in history:
            curves["held out"] = history["held_out_bits"]
        epochs = range(1, len(history["loss"]) + 1)
        _lines(axes, epochs, {f"{label}: {values[-1]:.2f} in the end": values for label, values in curves.items()})
        axes.set_xticks(epochs[:: math.ceil(len(epochs) / 10)])
        axes.set(title=f"Loss in each epoch: {name}", xlabel="epoch", ylabel="bits per character")
    plt.show()


def next_characters(distributions: dict[str, np.ndarray], vocabulary: Vocabulary, prompt: str, count: int = 12) -> None:
    """Bars of the probabilities of the next character, in a panel for each of ``distributions`` (name: ``[V]``)."""
    likeliest = np.argsort(-next(iter(distributions.values())))[:count]
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
    temperatures: Sequence[float], curves: dict[str, Sequence[float]], title: str, ylabel: str
) -> None:
    """One line for each of ``curves`` (name: values) against temperature, on a scale of powers of 2."""
    _, axes = _figure(7, 3.4)
    _lines(axes, temperatures, curves)
    axes.set_xscale("log", base=2)
    axes.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
    axes.set(title=title, xlabel="temperature (= 1 / alpha)", ylabel=ylabel)
    plt.show()


def states(text: str, values: np.ndarray) -> None:
    """An LSTM's state while it reads ``text``: one column for each character, one row for each of some units.

    values: from -1 to 1, of shape ``[len(text), units]``.
    """
    _, axes = _figure(10, 3.4)
    squares = axes.imshow(values.T, cmap="Blues", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(text)), _symbols(text), fontsize=9)
    axes.set(
        title=f"The hidden state of {values.shape[1]} units, character by character",
        xlabel="character read",
        ylabel="unit",
    )
    plt.colorbar(squares, label="value", ticks=[-1, 0, 1])
    plt.show()


def surprise(text: str, bits: np.ndarray, width: int = 72) -> None:
    """``text`` in rows of ``width``, each character on a ground as dark as it surprised; ``bits``: ``[len(text)]``."""
    rows = math.ceil(len(text) / width)
    grid = np.full(rows * width, np.nan)
    grid[: len(text)] = bits
    _, axes = _figure(10, 0.3 * rows + 1.2)
    squares = axes.imshow(grid.reshape(rows, width), cmap="Blues", vmin=0, vmax=8, aspect="auto")
    for place, (symbol, value) in enumerate(zip(_symbols(text), bits, strict=True)):
        color = "white" if value > 5.7 else "black"
        symbol = symbol.replace("␣", " ")
        axes.text(place % width, place // width, symbol, color=color, family=_monospaced(), **LETTER)
    axes.set(title="How much each character surprised the model", xticks=[], yticks=[])
    plt.colorbar(squares, label="surprise (bits)", extend="max", orientation="horizontal", shrink=0.4, aspect=40)
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


def diagram(boxes: dict[str, tuple[float, float]], arrows: list[tuple[str, str, str]], title: str) -> None:
    """``boxes`` (name: x, y) and ``arrows`` (from, to, label). What begins with "d " is a derivative: dashed, orange."""
    x, y = np.array([*boxes.values()]).T
    _, axes = _figure(10, 1.1 * np.ptp(y) + 1.7)
    axes.set(title=title, xlim=(x.min() - 0.7, x.max() + 0.7), ylim=(y.min() - 0.6, y.max() + 0.6))
    axes.axis("off")
    style = {"ha": "center", "va": "center", "fontsize": 10}
    for start, end, label in arrows:
        back = label.startswith("d ")
        color, line = (ORANGE, "--") if back else (BLUE, "-")
        shift = np.array([0.0, -0.14 if back else 0.14])  # so that there and back lie beside each other
        start, end = np.array(boxes[start]) + shift, np.array(boxes[end]) + shift
        arrow = {"arrowstyle": "-|>", "color": color, "linestyle": line, "shrinkA": 26, "shrinkB": 26}
        axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
        axes.text(*((start + end) / 2 + 1.2 * shift), label, color=color, **style)
    for name, place in boxes.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": GREY}
        axes.text(*place, name, bbox=box, **style)
    plt.show()


def _lines(axes: plt.Axes, x: Sequence[float], curves: dict[str, Sequence[float]]) -> None:
    for (name, values), style, color in zip(curves.items(), ("o-", "s--", "^:"), (BLUE, ORANGE, GREY), strict=False):
        axes.plot(x, values, style, color=color, markersize=4, label=name)
    axes.grid(alpha=0.3)
    axes.legend()


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
