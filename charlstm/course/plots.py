"""The notebooks' curves, bars and maps. (What flows where: ``diagrams``.) Each function draws one figure, shows it and
returns nothing."""

import math
from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colors, ticker

from charlstm.course.diagrams import BLUE, GREY, LEGEND, LETTER, ORANGE, PURPLE, monospaced, new_figure, symbols
from charlstm.data import Vocabulary


def character_frequencies(text: str, count: int = 30) -> None:
    """Bars of how often the ``count`` commonest characters of ``text`` occur, in per cent of all its characters."""
    chars, counts = zip(*Counter(text).most_common(count), strict=True)
    _, axes = new_figure(10, 3.4)
    axes.bar(range(len(chars)), 100 * np.array(counts) / len(text), color=BLUE)
    axes.set_xticks(range(len(chars)), symbols("".join(chars)))
    axes.set_title(f"The {len(chars)} commonest characters")
    axes.set(xlabel=f"character {LEGEND}", ylabel="share of the text (%)")
    plt.show()


def pairs(probabilities: np.ndarray, chars: str) -> None:
    """What comes after what: row, the last character; column, the next one; both of ``chars``; ``probabilities`` from 0
    to 1, of shape ``[len(chars), len(chars)]``, in per cent from 20 on. The colours go by the square root."""
    _, axes = new_figure(7.6, 6.6)
    squares = axes.imshow(100 * probabilities, cmap="Blues", norm=colors.PowerNorm(0.5, vmin=0, vmax=100))
    for row, column in np.argwhere(probabilities >= 0.2):
        value = 100 * probabilities[row, column]
        color = "white" if value > 35 else "black"
        axes.text(column, row, f"{value:.0f}", color=color, ha="center", va="center", fontsize=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(chars)), symbols(chars))
    axes.set(title="Which character follows which", xlabel=f"next character {LEGEND}", ylabel="last character")
    plt.colorbar(squares, label="share of what follows (%)", ticks=[0, 1, 5, 10, 25, 50, 100], shrink=0.7)
    plt.show()


def buffers(chains: dict, length: int) -> None:
    """Where in a text of ``length`` characters the windows of each third batch begin. chains (size of the shuffle buffer:
    batches of inputs and targets): a panel for each; the inputs are places in the text."""
    _, panels = new_figure(10, 3.4, columns=len(chains))
    for axes, (size, batches) in zip(panels, chains.items(), strict=True):
        for number, (places, _) in enumerate(batches, 1):
            if number % 3 == 1:
                begins = 100 * np.asarray(places)[:, 0] / length
                axes.plot(begins, np.full(len(begins), number), ".", color=BLUE, markersize=2)
        axes.set_title(f"a buffer of {size:,} window{'s' * (size > 1)}")
        axes.set(xlabel="place in the text (%)")
    panels[0].set_ylabel("batch")
    plt.show()


def lines(
    panels: dict[str, dict[str, Sequence]], xlabel: str, levels: dict[str, float] | None = None, **settings
) -> None:
    """A panel for each of ``panels`` (title: curves), and in it a line for each of its curves (name: values at 0, 1, 2
    ..., or places and values; five at most); for each of ``levels`` (name: value) a level line in each panel. settings:
    of the axes, such as ``xscale="log"``."""
    _, columns = new_figure(4 + 3 * len(panels), 3.5, columns=len(panels))
    settings = {"ylabel": "bits per character"} | settings
    looks = [("o-", BLUE), ("s--", ORANGE), ("^-.", "black"), ("D:", GREY), ("x-", PURPLE)]
    for axes, (title, curves) in zip(np.atleast_1d(columns), panels.items(), strict=True):
        ticks = set()
        for (name, values), (style, color) in zip(curves.items(), looks[: len(curves)], strict=True):
            x, y = values if np.ndim(values[0]) else (range(len(values)), values)
            axes.plot(x, y, style, color=color, markersize=4, markevery=math.ceil(len(x) / 20), label=name)
            ticks |= {*x}
        for name, value in (levels or {}).items():
            axes.axhline(value, color="black", linewidth=1, linestyle="-.")
            axes.annotate(f"{name}: {value:.2f}", (0.01, value), (0, 3), axes.get_yaxis_transform(), "offset points")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.set(title=title, xlabel=xlabel, **settings)
        if settings.get("xscale") == "log":
            axes.set_xticks(sorted(ticks), sorted(ticks))
            axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(**({"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(curves) > 4 else {}))  # beside them
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


def next_characters(distributions: dict[str, np.ndarray], vocabulary: Vocabulary, prompt: str, count: int = 12) -> None:
    """Bars of the probabilities of the next character, in a panel for each of ``distributions`` (name: ``[V]``):
    of those that are likeliest in one of them."""
    likeliest = np.argsort(-np.max([*distributions.values()], axis=0))[:count]
    names = symbols(vocabulary.decode(likeliest))
    figure, panels = new_figure(10, 3, columns=len(distributions))
    for axes, (name, probabilities) in zip(np.atleast_1d(panels), distributions.items(), strict=True):
        bars = axes.bar(range(len(likeliest)), 100 * probabilities[likeliest], color=BLUE)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_xticks(range(len(likeliest)), names)
        axes.set(title=name, xlabel="next character", ylabel="probability (%)")
        axes.margins(y=0.12)
    figure.suptitle(f"What comes after “{''.join(symbols(prompt))}”? {LEGEND}", parse_math=False)
    plt.show()


def against_temperature(
    temperatures: Sequence[float], curves: dict[str, np.ndarray], human: dict[str, Sequence[float]]
) -> None:
    """A panel for each of ``curves`` (name: shares in per cent, ``[temperatures, draws]``): a dot for each draw, a line
    through their means, and across it, from the lowest to the highest, what ``human`` text has (name: shares)."""
    _, panels = new_figure(10, 3.6, columns=len(curves))
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
    _, axes = new_figure(11, 0.4 * len(grid) + 1.5)
    scale = {"cmap": "RdBu", "vmin": -1} if signed else {"cmap": "Blues", "vmin": 0}
    squares = axes.imshow(grid, vmax=1, aspect="auto", interpolation="nearest", **scale)
    for row, column in np.argwhere(signed * abs(grid) > 0.5):
        axes.text(column, row, "+" if grid[row, column] > 0 else "−", color="white", **LETTER)
    axes.set_xticks(range(len(text)), symbols(text), fontsize=9)
    axes.set_yticks(range(len(grid)), values)
    axes.set(title=title, xlabel=f"character read {LEGEND}", ylabel="unit")
    plt.colorbar(squares, label="value", ticks=[-1, 0, 1] if signed else [0, 1])
    plt.show()


def coloured_text(
    text: str, values: np.ndarray, title: str, label: str, limit: float, signed: bool = False, width: int = 72
) -> None:
    """``text`` in rows of ``width``, each character on the ground of its value, ``[len(text)]``: from 0 to ``limit``,
    or if ``signed`` from -limit (orange) to limit (purple)."""
    grid = np.pad(np.asarray(values, float), (0, -len(text) % width), constant_values=np.nan).reshape(-1, width)
    _, axes = new_figure(10, 0.3 * len(grid) + 1.2)
    scale = {"cmap": "PuOr", "vmin": -limit} if signed else {"cmap": "Blues", "vmin": 0}
    squares = axes.imshow(grid, **scale, vmax=limit, aspect="auto")
    for place, (symbol, value) in enumerate(zip(symbols(text), values, strict=True)):
        color = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(place % width, place // width, symbol.replace("␣", " "), color=color, family=monospaced(), **LETTER)
    axes.set(title=title, xticks=[], yticks=[])
    extend = "both" if signed else "max"
    plt.colorbar(squares, label=label, extend=extend, orientation="horizontal", shrink=0.4, aspect=40)
    plt.show()


def bars(values: dict[str, float], title: str, xlabel: str, ours: str = "") -> None:
    """A horizontal bar for each of ``values`` (name: value), in their order from above; ``ours`` in another colour."""
    _, axes = new_figure(9, 0.36 * len(values) + 1.1)
    drawn = axes.barh([*values], [*values.values()], color=[ORANGE if name == ours else BLUE for name in values])
    labels = [f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}" for value in values.values()]
    axes.bar_label(drawn, labels, padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=xlabel)
    plt.show()


def attention(text: str, shares: np.ndarray, title: str) -> None:
    """A row for each character of ``text``, and in it a square for each that it looks at: ``shares`` from 0 to 1, of
    shape ``[len(text), len(text)]``."""
    _, axes = new_figure(7.6, 6.6)
    squares = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(text)), symbols(text), fontsize=8, parse_math=False)
    axes.set(title=title, xlabel=f"it looks at {LEGEND}", ylabel="character that looks")
    plt.colorbar(squares, label="share of its attention", shrink=0.7)
    plt.show()
