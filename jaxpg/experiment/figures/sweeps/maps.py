"""Maps of a sweep: the final score over the values of one or two fields.

A sweep is anything with `about`, `fields`, `table`, `evaluations` and `scores`, see
`experiment/sweeps/tables.py`. Figures are matplotlib's, `width` inches wide.
"""

from typing import Any

import numpy as np

from jaxpg.core.config import unknown
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.analysis.scores import Final, order_values, text
from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.sweeps import scales

OTHERS = ("best", "mean")
MAP, TOP = "viridis", 0.93  # its last yellow is too pale on white
CELLS = 12  # of a map, in a row or column; beyond them configs are points


def heat_map(sweep, x: str, y: str | None = None, others: str = "best", width: float = style.WIDE):
    """Draws the IQM of the final scores over the values of two fields; of one, with its 95 %
    interval.

    others: of the fields that are not shown, "best" takes for each cell the config with the highest
    IQM, "mean" all of its configs together. Where most cells would be empty, as in a random
    search, configs are points.
    """
    if others not in OTHERS:
        raise unknown("others", others, OTHERS)
    shown = [x] if y is None else [x, y]
    done, chosen = scores.final(sweep), {}
    for group in scores.group_configs(sweep, shown):
        there = [c for c in group.configs if c in done.scores]
        if len(there) > 1 and others == "best":
            there = [max(there, key=lambda c: done.iqm([c]))]
        if there:
            chosen[group.values] = there
    notes, rest = [f"IQM of the {done.what}"], [f for f in sweep.fields if f not in shown]
    if rest:
        notes.append(("best of " if others == "best" else "all together: ") + ", ".join(rest))
    notes += note_diverged(done)
    names = [order_values(v[i] for v in chosen) for i in range(len(shown))]
    if y is None:
        return _draw_response(
            chosen, x, names[0], done, notes, scores.solved_threshold(sweep), width
        )
    crowded = max(map(len, names)) > CELLS
    if crowded or len(chosen) < 0.5 * len(names[0]) * len(names[1]):
        return _draw_points(chosen, (x, y), names, done, notes, width)
    return _draw_cells(chosen, (x, y), names, done, notes, width)


def note_diverged(done: Final) -> list[str]:
    """Notes how many runs diverged and what they count as; [] if none did."""
    if not done.diverged:
        return []
    return [f"runs that diverged ({done.diverged}) count as the worst score, {done.worst:.4g}"]


def _draw_cells(chosen, fields, names, done, notes, width):
    grid = np.full((len(names[1]), len(names[0])), np.nan)
    place = {v: (names[1].index(v[1]), names[0].index(v[0])) for v in chosen}
    for values, configs in chosen.items():
        grid[place[values]] = done.iqm(configs)
    figure, (axes,) = style.new_panels(1, width, 1.5 + 0.42 * max(len(names[1]), 2))
    colours = colour_map(grid)
    image = axes.pcolormesh(grid, cmap=colours.cmap, norm=colours.norm, edgecolors="white")
    size = min(8, max(6, 9 * width / style.WIDE - 0.35 * max(0, len(names[0]) - 5)))
    for values, (row, column) in place.items():
        runs, value = done.runs(chosen[values]), grid[place[values]]
        light = sum(c * w for c, w in zip(colours.to_rgba(value), (0.3, 0.6, 0.1), strict=False))
        axes.text(
            column + 0.5, row + 0.5, f"{_format_score(value)}\n(n={runs.size})", fontsize=size,
            ha="center", va="center", color="black" if light > 0.5 else "white", linespacing=1.1,
        )  # fmt: skip
    for axis, field, own in zip((axes.xaxis, axes.yaxis), fields, names, strict=True):
        axis.set_ticks(np.arange(len(own)) + 0.5, [text(v) for v in own])
        axis.set_label_text(field)
    crowded = sum(len(text(v)) + 2 for v in names[0]) > 11 * width
    axes.tick_params(axis="x", rotation=45 if crowded else 0)
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
    bar.set_label("IQM", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    style.set_title(axes, f"{fields[0]} and {fields[1]}", *notes, "n: runs")
    return figure


def colour_map(values) -> Any:
    """Maps values to colours; with one value, to the middle."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    good = np.asarray(values)[np.isfinite(values)]
    low, high = (good.min(), good.max()) if len(good) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5, high + 0.5
    part = ListedColormap(colormaps[MAP](np.linspace(0, TOP, 256)))
    return ScalarMappable(Normalize(low, high), part)


def _format_score(value: Any) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1e4 else f"{value:.1e}"


def _draw_response(chosen, field, names, done, notes, threshold, width):
    scale = scales.scale_for(names)
    estimates = [scores.estimate(done.runs(chosen[(v,)])) for v in names]
    at = np.array([scale.place(v) for v in names])
    value, low, high = (np.array(x) for x in zip(*estimates, strict=True))
    figure, (axes,) = style.new_panels(1, min(width, 5.6), 3.2)
    if (
        scale.kind == "category" or len(names) > CELLS
    ):  # no line between what has no order, or noise
        spread = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
        axes.errorbar(at, value, spread, fmt="o", color=style.COLOURS[0], markersize=5, capsize=3)
        if scale.kind == "category":
            axes.set_xlim(-0.6, len(names) - 0.4)
    else:
        axes.plot(at, value, "o-", color=style.COLOURS[0], markersize=5)
        axes.fill_between(at, low, high, color=style.COLOURS[0], alpha=0.2, linewidth=0)
    for v, x in zip(names, at, strict=True):
        runs = done.runs(chosen[(v,)]).ravel()
        axes.plot(np.full(len(runs), x), runs, "_", color=style.GREY, alpha=0.7, markersize=8)
    if threshold is not None:
        axes.axhline(threshold, color=style.COLOURS[2], linestyle="--", linewidth=1)
        notes = [*notes, f"dashed: solved, {threshold:g}"]
    _set_ticks(axes, scale)
    axes.set(xlabel=field + scale_note(scale), ylabel="final score")
    style.set_title(
        axes, f"Final score over {field}", *notes, "with 95 % interval; dashes: single runs"
    )
    return figure


def _set_ticks(axes, scale) -> None:
    places, labels = zip(*scale.ticks, strict=True)
    crowded = sum(map(len, labels)) + 2 * len(labels) > 10 * axes.figure.get_figwidth()
    axes.set_xticks(places, labels, rotation=45 if crowded else 0)


def scale_note(scale) -> str:
    """Note of a logarithmic scale, for a label; empty for another scale."""
    return {"log": " (log scale)", "near 1": " (log scale of 1 - x)"}.get(scale.kind, "")


def _draw_points(chosen, fields, names, done, notes, width):
    own = [scales.scale_for(n) for n in names]
    value = np.array([done.iqm(configs) for configs in chosen.values()])
    figure, (axes,) = style.new_panels(1, width, 3.6)
    colours = colour_map(value)
    x, y = ([s.place(v[i]) for v in chosen] for i, s in enumerate(own))
    rising = np.argsort(value)  # the best on top
    axes.scatter(
        np.array(x)[rising], np.array(y)[rising], c=value[rising], cmap=colours.cmap,
        norm=colours.norm, s=60, edgecolors="white", linewidths=0.6,
    )  # fmt: skip
    _set_ticks(axes, own[0])
    axes.set_yticks(*zip(*own[1].ticks, strict=True))
    axes.set(xlabel=fields[0] + scale_note(own[0]), ylabel=fields[1] + scale_note(own[1]))
    bar = figure.colorbar(colours, ax=axes, pad=0.02, aspect=20)
    bar.set_label("IQM", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    style.set_title(axes, f"{fields[0]} and {fields[1]}", *notes)
    return figure
