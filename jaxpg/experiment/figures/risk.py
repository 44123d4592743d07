"""Figures of risk: how the gains of policies are spread, and their measures with intervals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxpg.experiment.analysis.risk import check_gains, measures, value_at_risk
from jaxpg.experiment.analysis.statistics import Estimate
from jaxpg.experiment.figures import style
from jaxpg.experiment.text import printable


def draw_risk(
    of: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    unit: str = "",
    level: float = 0.95,
    **options,
) -> None:
    """Draws how the gains [T, episodes] of each policy are spread, and every measure with its
    interval, into a PNG or SVG.

    unit: what gains are counted in, for the axes. options: of `risk.measures`, whose errors it
    raises; ValueError for no policies too.
    """
    if not of:
        raise ValueError("of={}: allowed is at least one policy's gains")
    rows = {n: measures(g, level=level, **options) for n, g in of.items()}
    scale = options.get("scale", 1.0)
    totals = {n: check_gains(g, scale, level)[1] for n, g in of.items()}
    names, columns = list(rows), list(next(iter(rows.values())))
    height = 2.6 + 0.9 + 0.24 * len(names)
    shown = style.new_figure(style.WIDE, height + 1.2)
    parts = shown.add_gridspec(3, 3, height_ratios=(2.4, *[0.5 + 0.22 * len(names)] * 2))
    _draw_totals(shown.add_subplot(parts[0, :]), totals, level, unit, columns[3])
    for j, column in enumerate(columns):
        axes = shown.add_subplot(parts[1 + j // 3, j % 3])
        _draw_measure(axes, column, {n: row[column] for n, row in rows.items()}, j % 3 == 0)
    style.save(shown, path)


def _draw_totals(
    axes, totals: Mapping[str, np.ndarray], level: float, unit: str, measure: str
) -> None:
    """Draws histograms of the totals [episodes] of each policy, and minus the value at risk."""
    from matplotlib.lines import Line2D

    low = min(np.quantile(x, 0.001) for x in totals.values())
    high = max(np.quantile(x, 0.999) for x in totals.values())
    bins = np.linspace(low, high, 60) if high > low else 10
    for i, (name, x) in enumerate(totals.items()):
        look = {"color": style.colour(i), "linewidth": 1.5, "linestyle": style.dash(i)}
        axes.hist(np.clip(x, low, high), bins, density=True, histtype="step", label=name, **look)
        axes.axvline(-value_at_risk(x, level), **look | {"linewidth": 0.9, "linestyle": ":"})
    style.tidy(axes)
    axes.set_xlabel(f"gain of an episode{unit and f', {unit}'}")
    axes.set_yticks([])
    style.set_title(axes, "How gains are spread", f"dotted: minus the {measure}")
    lines = [
        Line2D([], [], color=style.colour(i), linestyle=style.dash(i), label=name)
        for i, name in enumerate(totals)
    ]
    axes.legend(handles=lines, frameon=False, fontsize=8)


def _draw_measure(axes, measure: str, found: Mapping[str, Estimate], named: bool) -> None:
    """Draws one measure with its interval, a row per policy; named: with the policies' names."""
    for i, e in enumerate(found.values()):
        axes.plot([e.low, e.high], [i, i], color=style.colour(i), linewidth=2)
        axes.plot(e.value, i, "o", color=style.colour(i), markersize=4)
    style.tidy(axes)
    names = map(printable, found) if named else [""] * len(found)
    axes.set_yticks(range(len(found)), list(names), fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    style.set_title(axes, measure)
