"""Pictures of a comparison, by the definitions of Agarwal et al. 2021 (arXiv:2108.13264).

Scores are arrays [tasks, runs] by name, without NaN. Every function returns a matplotlib Figure,
`width` inches wide, and raises what `experiment/analysis/statistics.py` does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxpg.experiment.analysis import statistics
from jaxpg.experiment.figures import style
from jaxpg.experiment.text import format_count, printable

POINTS = 101  # thresholds of a profile


def profiles(
    scores: Mapping[str, np.ndarray], what: str = "final score", width: float = style.WIDE
):
    """Draws performance profiles: the share of runs with a score above each threshold, with bands.

    what: a score is, for the label. With one run to a task there are no bands.
    """
    every = np.concatenate([np.ravel(x) for x in scores.values()])
    low, high = every.min(), every.max()
    edge = 0.02 * (high - low) or 0.5
    thresholds = np.linspace(low - edge, high + edge, POINTS)
    figure, (axes,) = style.new_panels(1, width, 3.2)
    for i, (name, own) in enumerate(scores.items()):
        colour = style.colour(i)
        label = f"{name}  ({np.size(own)} runs)"
        if np.atleast_2d(own).shape[1] > 1:
            share, bottom, top = statistics.performance_profile(own, thresholds)
            axes.fill_between(thresholds, bottom, top, color=colour, alpha=0.15, linewidth=0)
        else:
            share = (np.ravel(own)[:, None] > thresholds).mean(0)
        axes.plot(
            thresholds, share, color=colour, linestyle=style.dash(i), linewidth=1.8, label=label
        )
    style.set_title(
        axes, "Performance profiles", "further right is better; bands: pointwise 95 % intervals"
    )
    axes.set(xlabel=f"τ, {what}", ylabel="share of runs above τ", ylim=(-0.03, 1.03))
    style.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def improvement(scores: Mapping[str, np.ndarray], width: float = style.WIDE):
    """Draws the probability that a run of one beats a run of the other, for all pairs, as a forest
    plot.

    Each pair is put so that the first wins at least as often. Raises ValueError for fewer than two
    names, or one run to a task.
    """
    if len(scores) < 2:
        raise ValueError(f"scores of {list(scores)}: allowed are two names or more")
    pairs = []
    row: Any
    for row in statistics.improvements(scores).itertuples():
        own = row.x, row.y, row.probability, row.low, row.high
        if row.probability < 0.5:
            own = row.y, row.x, 1 - row.probability, 1 - row.high, 1 - row.low
        pairs.append(own)
    pairs.sort(key=lambda pair: pair[2])
    figure, (axes,) = style.new_panels(1, min(width, 5.6), 1.3 + 0.3 * len(pairs))
    for i, (_, _, value, low, high) in enumerate(pairs):
        sure = low > 0.5
        axes.plot([low, high], [i, i], color=style.COLOURS[0], linewidth=2)
        axes.plot(
            value, i, "o", color=style.COLOURS[0], markersize=6,
            markerfacecolor=style.COLOURS[0] if sure else "white",
        )  # fmt: skip
    axes.axvline(0.5, color=style.GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(pairs)), [printable(f"{x} > {y}") for x, y, *_ in pairs])
    axes.set(xlabel="probability of improvement P(X > Y)", xlim=(-0.02, 1.02))
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    style.set_title(
        axes, "Who beats whom", "with 95 % intervals; filled: the interval is above one half"
    )
    return figure


def efficiency(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], threshold: float, width: float = style.WIDE
):
    """Draws the share of runs that have reached a return, over the environment steps it took them.

    curves: of each name the steps [points] and the smoothed returns [runs, points]; NaN is no data.
    Bars are medians, where half of the runs get there, with their 95 % intervals.
    """
    figure, (axes,) = style.new_panels(1, width, 3.2)
    last = max(steps[-1] for steps, _ in curves.values())
    for i, (name, (steps, returns)) in enumerate(curves.items()):
        took = statistics.steps_to(steps, returns, threshold)
        end = steps[~np.isnan(returns).all(0)][-1:].max(initial=0)
        there = np.sort(took[np.isfinite(took)])
        share = np.arange(len(there) + 1) / len(took)
        middle = np.median(took)
        when = f"median {format_count(middle)}" if np.isfinite(middle) else "median never"
        axes.step(
            [0, *there, end], [*share, share[-1]], where="post", color=style.colour(i),
            linestyle=style.dash(i), linewidth=1.8,
            label=f"{name}: {len(there)} of {len(took)}, {when}",
        )  # fmt: skip
        if np.isfinite(middle) and len(took) > 1:
            low, high = statistics.sample_efficiency(took).median[1:]
            y = 0.5 + 0.012 * (i - (len(curves) - 1) / 2)
            axes.plot([low, min(high, last)], [y, y], color=style.colour(i), linewidth=3, alpha=0.5)
            axes.plot(middle, y, "|", color=style.colour(i), markersize=12)
    style.set_title(
        axes, f"Steps to a return of {threshold:g}",
        "runs whose last 20 episodes reach it; bars: median and its 95 % interval",
    )  # fmt: skip
    axes.set(ylabel="share of runs", ylim=(-0.03, 1.03))
    style.set_steps_axis(axes, last)
    style.legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure
