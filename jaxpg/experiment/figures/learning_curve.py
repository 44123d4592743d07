"""Learning curves, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.core.checks import require_file, require_integer
from jaxpg.core.run import Result
from jaxpg.experiment.analysis.series import moving_mean, pointwise_interval
from jaxpg.experiment.figures import measured, style
from jaxpg.experiment.figures.style import COLOURS, GREY
from jaxpg.experiment.text import printable

POINTS = 400  # of a drawn curve; more would be narrower than a pixel
ENDINGS = (".png", ".svg", ".pdf")


def learning_curve(runs: Sequence[str | Path | Result], path: str | Path, window: int = 20) -> None:
    """Draws the return against environment steps into a PNG, SVG or PDF, of run folders or Results.

    A line is the mean over seeds, each smoothed over its last `window` episodes, and begins when
    every seed has ended one; its band is the 95 % bootstrap interval of that mean. Up to 10 seeds
    are drawn singly too. Points are greedy evaluations, which only folders have. Raises ValueError
    for a folder without metrics, a window below 1, and a path that ends in none of the three.
    """
    figure = curves(runs, window)
    figure.savefig(require_file("out", path, *ENDINGS))


def curves(runs: Sequence[str | Path | Result], window: int = 20, width: float = style.WIDE):
    """Draws what `learning_curve` does, as a matplotlib Figure, `width` inches wide."""
    require_integer("window", window, 1)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = ("episode/return", "episode/count")
    histories = [measured.read_run(run, names=names) for run in runs]
    names = [c.name for c in histories]
    if len(set(names)) < len(names):
        names = list(map(str, runs))
    figure = style.new_figure(width, 4.4)
    axes, legend = figure.add_subplot(), []

    for i, (name, curve) in enumerate(zip(names, histories, strict=True)):
        colour, seeds = COLOURS[i % len(COLOURS)], curve.seeds
        returns = moving_mean(curve.metric("episode/return"), curve.metric("episode/count"), window)
        begun = np.flatnonzero(~np.isnan(returns).any(0))
        drawn = begun[np.linspace(0, len(begun) - 1, min(POINTS, len(begun))).astype(int)]
        x, y = curve.steps[drawn], returns[:, drawn]
        axes.plot(x, y.mean(0), color=colour, linewidth=2)
        label = printable(f"{name}, mean of {seeds} seeds" if seeds > 1 else name)
        legend.append(Line2D([], [], color=colour, linewidth=2, label=label))
        if seeds > 1:
            axes.fill_between(x, *pointwise_interval(y), color=colour, alpha=0.2, linewidth=0)
        if 1 < seeds <= 10:
            axes.plot(x, y.T, color=colour, alpha=0.3, linewidth=0.7)
        greedy = curve.evaluations.get("greedy", np.zeros((seeds, 0)))
        mean = greedy.mean(0)
        axes.errorbar(
            curve.eval_steps, mean, np.abs(pointwise_interval(greedy) - mean), color=colour,
            fmt="o", markersize=5, markerfacecolor="white", elinewidth=1, capsize=2, zorder=3,
        )  # fmt: skip

    sizes = [c.seeds for c in histories]
    if any(1 < seeds <= 10 for seeds in sizes):
        legend.append(Line2D([], [], color=GREY, alpha=0.5, linewidth=0.7, label="single seeds"))
    if max(sizes) > 1:
        legend.append(Patch(color=GREY, alpha=0.2, linewidth=0, label="95 % interval of the mean"))
    if any(c.evaluations for c in histories):
        point: Any = {"marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        legend.append(Line2D([], [], color=GREY, **point, label="greedy evaluation"))
    style.legend_below(figure, legend)
    axes.set_ylabel(f"return (last {window} episodes)")
    style.set_steps_axis(axes, max(c.steps[-1] for c in histories))
    style.tidy(axes)
    return figure
