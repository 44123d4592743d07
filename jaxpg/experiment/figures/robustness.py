"""Figures of robustness: returns over one parameter as lines, over two as maps side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.sweeps.maps import colour_map

if TYPE_CHECKING:  # it imports gymnax, which takes the devices: too early for `use_all_cores`
    from jaxpg.experiment.analysis.robustness import Robustness

MOST_IN_A_ROW = 3  # maps
TRAINED = "drawn in training"


def robustness_figure(several: "Sequence[Robustness]", width: float = style.WIDE):
    """Draws the mean return of each run over its grid of worlds, on one scale, as a matplotlib
    Figure: lines over one parameter, with the range of the seeds; maps over two.

    Nominal parameters are marked, and where training drew a parameter the range of the draws.
    Raises ValueError for no runs, and for grids that differ.
    """
    if not several:
        raise ValueError("several=[]: allowed is at least one run's robustness")
    first = several[0].grid
    for found in several[1:]:
        same = [*found.grid] == [*first] and all(
            np.array_equal(found.grid[k], first[k]) for k in first
        )
        if not same:
            raise ValueError(f"{found.name}: its grid is another one than that of the first run")
    return _draw_lines(several, width) if len(first) == 1 else _draw_maps(several, width)


def _draw_lines(several: "Sequence[Robustness]", width: float):
    from matplotlib.lines import Line2D

    figure, (axes,) = style.new_panels(1, width, 3.6)
    (name, x), lines = next(iter(several[0].grid.items())), []
    for i, found in enumerate(several):
        look = {"color": style.colour(i), "linestyle": style.dash(i)}
        seeds = found.returns.mean(-1)
        axes.plot(x, seeds.mean(0), linewidth=1.8, **look)
        axes.fill_between(x, seeds.min(0), seeds.max(0), color=look["color"], alpha=0.15, lw=0)
        axes.axvline(found.nominal[name], color=style.GREY, linestyle=":", linewidth=1)
        if name in found.trained:  # above the axis, each run on a line of its own
            ends, height = found.trained[name], 0.015 + 0.02 * i
            axes.plot(
                ends, [height] * 2, transform=axes.get_xaxis_transform(), linewidth=3,
                solid_capstyle="butt", color=look["color"],
            )  # fmt: skip
        lines.append(Line2D([], [], label=found.name, **look))
    _set_scale(axes.xaxis, x)
    axes.set(xlabel=name, ylabel="mean return")
    notes = ["dotted: nominal"]
    notes += [f"bars at the bottom: {TRAINED}"] if any(f.trained for f in several) else []
    notes += ["bands: range of the seeds"] if max(len(f.returns) for f in several) > 1 else []
    style.set_title(axes, f"Return over {name}", *notes)
    style.legend_below(figure, lines)
    return figure


def _draw_maps(several: "Sequence[Robustness]", width: float):
    columns = min(len(several), MOST_IN_A_ROW if width >= style.BETWEEN else 1)
    rows = -(-len(several) // columns)
    width = min(width, 4.4) if columns == 1 else width
    figure = style.new_figure(width, rows * (0.6 + 0.8 * width / columns) + 0.35)
    means = [found.returns.mean((0, -1)) for found in several]
    colours, panels = colour_map(np.stack(means)), []
    (x_name, x), (y_name, y) = several[0].grid.items()
    for i, (found, mean) in enumerate(zip(several, means, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        style.tidy(axes)
        axes.grid(False)
        panels.append(axes)
        axes.pcolormesh(_edges(x), _edges(y), mean.T, cmap=colours.cmap, norm=colours.norm)
        axes.set(xlim=_edges(x)[[0, -1]], ylim=_edges(y)[[0, -1]])
        _mark_training(axes, found)
        for axis, values in ((axes.xaxis, x), (axes.yaxis, y)):
            _set_scale(axis, values)
        axes.set_xlabel(x_name)
        if i % columns == 0:
            axes.set_ylabel(y_name)
        seeds = len(found.returns)
        style.set_title(axes, found.name, *([f"mean of {seeds} seeds"] if seeds > 1 else []))
    bar = figure.colorbar(colours, ax=panels, pad=0.02, aspect=24)
    bar.set_label("mean return", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    style.legend_below(figure, _legend(any(f.trained for f in several)))
    return figure


def _mark_training(axes, found: "Robustness") -> None:
    """Marks the nominal world, and the box that training drew from: where one parameter was not
    drawn, a line at its nominal value."""
    point = [found.nominal[name] for name in found.grid]
    if found.trained:
        ends = [found.trained.get(name, (found.nominal[name],) * 2) for name in found.grid]
        (left, right), (low, high) = ends
        box = [left, right, right, left, left], [low, low, high, high, low]
        if left == right or low == high:
            box = [left, right], [low, high]
        axes.plot(*box, color="white", linewidth=2.6)
        axes.plot(*box, color="black", linewidth=1.2, linestyle="--")
    axes.plot(*point, "+", color="white", markersize=11, markeredgewidth=3.2)
    axes.plot(*point, "+", color="black", markersize=10, markeredgewidth=1.4)


def _legend(trained: bool) -> list:
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color="black", marker="+", linestyle="none", label="nominal")]
    if trained:
        marks.append(Line2D([], [], color="black", linestyle="--", label=TRAINED))
    return marks


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges [n + 1] of cells around rising values [n], half way between two of them."""
    x = np.log(values) if _is_geometric(values) else np.asarray(values, float)
    if len(x) == 1:
        x = np.array([x[0] - 0.5, x[0] + 0.5])
        return np.exp(x) if _is_geometric(values) else x
    middle = (x[1:] + x[:-1]) / 2
    edges = np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])
    return np.exp(edges) if _is_geometric(values) else edges


def _is_geometric(values: np.ndarray) -> bool:
    """True for values > 0 with equal ratios, which a logarithmic axis shows as equal steps."""
    if len(values) < 3 or values[0] <= 0:
        return False
    ratios = np.log(values[1:] / values[:-1])
    return bool(np.allclose(ratios, ratios[0], rtol=1e-3))


def _set_scale(axis, values: np.ndarray) -> None:
    if _is_geometric(values):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
