"""Learning curves, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.checks import require_file, require_integer
from jaxpg.core.run import Result
from jaxpg.experiment.analysis import costs
from jaxpg.experiment.analysis.series import moving_mean, pointwise_interval
from jaxpg.experiment.figures import measured, style
from jaxpg.experiment.figures.style import COLOURS, GREY
from jaxpg.experiment.text import printable

POINTS = 400  # of a drawn curve; more would be narrower than a pixel
RETURN = "episode/return"
ENDINGS = (".png", ".svg", ".pdf")


def learning_curve(runs: Sequence[str | Path | Result], path: str | Path, window: int = 20) -> None:
    """Draws the return against environment steps into a PNG, SVG or PDF, of run folders or Results.

    A line is the mean over seeds, each smoothed over its last `window` episodes, and begins when
    every seed has ended one; its band is the 95 % bootstrap interval of that mean. Up to 10 seeds
    are drawn singly too. Points are greedy evaluations. Where episodes have costs, these stand in a
    second panel, with the limit as a dashed line. Raises ValueError for a folder without metrics, a
    window below 1, and a path that ends in none of the three.
    """
    figure = curves(runs, window)
    figure.savefig(require_file("out", path, *ENDINGS))


def curves(runs: Sequence[str | Path | Result], window: int = 20, width: float = style.WIDE):
    """Draws what `learning_curve` does, as a matplotlib Figure, `width` inches wide."""
    require_integer("window", window, 1)
    from matplotlib.lines import Line2D

    names = (RETURN, costs.COST, "episode/count")
    histories = [measured.read_run(run, names=names) for run in runs]
    names = [c.name for c in histories]
    if len(set(names)) < len(names):
        names = list(map(str, runs))
    dear = [i for i, curve in enumerate(histories) if costs.has_costs(curve.metrics)]
    if dear:
        figure, panels = style.new_panels(2, width, 3.8)
    else:
        figure = style.new_figure(width, 4.4)
        panels = [figure.add_subplot()]
    for i, curve in enumerate(histories):
        _draw_curve(panels[0], curve, RETURN, "greedy", COLOURS[i % len(COLOURS)], window)
    panels[0].set_ylabel(f"return (last {window} episodes)")
    for i in dear:
        colour = COLOURS[i % len(COLOURS)]
        _draw_curve(panels[1], histories[i], costs.COST, "greedy_cost", colour, window)
    found = [costs.limit_of(histories[i].about.get("config", {})) for i in dear]
    limits = {x for x in found if x is not None}
    for limit in limits:
        panels[1].axhline(limit, color=GREY, linestyle="--", linewidth=1.2)
    if dear:
        panels[1].set_ylabel(f"cost (last {window} episodes)")
    for axes in panels:
        style.set_steps_axis(axes, max(c.steps[-1] for c in histories))
        style.tidy(axes)

    legend = []
    for i, (name, curve) in enumerate(zip(names, histories, strict=True)):
        many = f", mean of {curve.seeds} seeds" if curve.seeds > 1 else ""
        look: Any = {"color": COLOURS[i % len(COLOURS)], "linewidth": 2}
        legend.append(Line2D([], [], label=printable(f"{name}{many}"), **look))
    style.legend_below(figure, legend + _other_marks(histories, bool(limits)))
    return figure


def _draw_curve(
    axes, curve: measured.MeasuredRun, metric: str, evaluated: str, colour: str, window: int
) -> None:
    """Draws a metric of episodes with its band, its seeds and its greedy evaluations."""
    values = moving_mean(curve.metric(metric), curve.metric("episode/count"), window)
    begun = np.flatnonzero(~np.isnan(values).any(0))
    drawn = begun[np.linspace(0, len(begun) - 1, min(POINTS, len(begun))).astype(int)]
    x, y, seeds = curve.steps[drawn], values[:, drawn], curve.seeds
    axes.plot(x, y.mean(0), color=colour, linewidth=2)
    if seeds > 1:
        axes.fill_between(x, *pointwise_interval(y), color=colour, alpha=0.2, linewidth=0)
    if 1 < seeds <= 10:
        axes.plot(x, y.T, color=colour, alpha=0.3, linewidth=0.7)
    greedy = curve.evaluations.get(evaluated, np.zeros((seeds, 0)))
    mean, steps = greedy.mean(0), curve.eval_steps[: greedy.shape[1]]
    axes.errorbar(
        steps, mean, np.abs(pointwise_interval(greedy) - mean), color=colour,
        fmt="o", markersize=5, markerfacecolor="white", elinewidth=1, capsize=2, zorder=3,
    )  # fmt: skip


def _other_marks(histories: Sequence[measured.MeasuredRun], limited: bool) -> list:
    """Legend of what is not a run's own colour."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    sizes, legend = [c.seeds for c in histories], []
    if any(1 < seeds <= 10 for seeds in sizes):
        legend.append(Line2D([], [], color=GREY, alpha=0.5, linewidth=0.7, label="single seeds"))
    if max(sizes) > 1:
        legend.append(Patch(color=GREY, alpha=0.2, linewidth=0, label="95 % interval of the mean"))
    if any(c.evaluations for c in histories):
        point: Any = {"marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        legend.append(Line2D([], [], color=GREY, **point, label="greedy evaluation"))
    if limited:
        dashed: Any = {"linestyle": "--", "linewidth": 1.2}
        legend.append(Line2D([], [], color=GREY, **dashed, label="limit on the cost"))
    return legend
