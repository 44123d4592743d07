"""Style of every figure, and how it is saved.

Figures are made without pyplot, so that nothing stays behind and no window opens.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxpg.core.checks import require_file
from jaxpg.experiment.text import format_count

# Okabe and Ito's palette, which the colour-blind can tell apart too; without its pale yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":", "-.")  # when the colours have been used up
GREY = "#666666"
WIDE, NARROW = 7.2, 3.8  # inches: a page, and a phone held upright
LETTERS = 19  # of a note, to the inch
BETWEEN = 5.5  # narrower figures have one panel to a row


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def dash(i: int) -> Any:
    return DASHES[i // len(COLOURS) % len(DASHES)]


def new_figure(width: float, height: float):
    """Makes an empty figure in inches, that saves itself without a window; text in it is never read
    as a formula."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from jaxpg.experiment.figures.plain import PlainFigure

    figure = PlainFigure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_panels(count: int, width: float = WIDE, height: float = 2.6):
    """Makes a figure of `count` axes, in two columns if there is room; returns it with these axes.

    height: of a row, in inches.
    """
    columns = 1 if width < BETWEEN else min(count, 2)
    rows = math.ceil(count / columns)
    figure = new_figure(width, height * rows)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for each in axes:
        tidy(each)
    return figure, axes


def tidy(axes) -> None:
    """Sets grid, spines and font sizes of axes."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(9)


def set_title(axes, head: str, *notes: str, lift: float = 0) -> None:
    """Writes a title, and under it what the reader must know of the picture, in as many lines as it
    takes.

    lift: room below them, in points.
    """
    room = axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols - 0.6
    lines = textwrap.wrap("; ".join(notes), int(LETTERS * room))
    size = 9 if axes.figure.get_figwidth() >= BETWEEN else 8.5
    axes.set_title(
        head, loc="left", fontsize=size, fontweight="bold", pad=5 + 9.5 * len(lines) + lift
    )
    if lines:
        axes.annotate(
            "\n".join(lines), (0, 1), (0, 4 + lift), xycoords="axes fraction", va="bottom",
            textcoords="offset points", fontsize=7, color=GREY, linespacing=1.15,
            annotation_clip=False,
        ).set_in_layout(False)  # the title's pad is its room  # fmt: skip


def set_steps_axis(axes, last: float) -> None:
    """Makes the x axis one of environment steps, from zero to the last."""
    axes.set_xlabel("environment steps (per seed)")
    axes.set_xlim(0, last * 1.02)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda x, _: format_count(x))


def write_empty(axes, text: str) -> None:
    """Writes in the middle of axes why there is nothing in them."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, text, ha="center", va="center", fontsize=9, color=GREY, wrap=True,
        transform=axes.transAxes,
    )  # fmt: skip


def legend_below(figure, handles: Sequence, columns: int = 2) -> None:
    """Puts a legend below the axes."""
    for handle in handles:
        if handle.get_label().startswith("_"):  # matplotlib would leave it out
            handle.set_label(f" {handle.get_label()}")
    if handles:
        columns = 1 if figure.get_figwidth() < BETWEEN else columns
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
        )


def save(figure, path: str | Path) -> None:
    """Writes a figure as PNG or SVG, by the name's ending; the same figure gives the same bytes.

    Raises ValueError for another ending, or a folder that is not there.
    """
    path = require_file("path", path, ".png", ".svg")
    if path.suffix.lower() == ".svg":
        write_svg(figure, path)
    else:
        figure.savefig(path)


def write_svg(figure, file) -> None:
    """Writes a figure as SVG; the same figure gives the same bytes."""
    import matplotlib

    # As outlines, letters look the same wherever the file is opened; a salt fixes the ids.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "jaxpg"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
