"""Panels of the costs of a run: what an episode costs, and what training has cost in all."""

import numpy as np

from jaxpg.experiment.analysis import costs
from jaxpg.experiment.analysis.series import moving_mean, pointwise_interval
from jaxpg.experiment.figures import style
from jaxpg.experiment.figures.measured import MeasuredRun


def draw_cost(axes, history: MeasuredRun, window: int) -> None:
    """Draws the moving mean of an episode's cost, with a band over the seeds, and its limit."""
    count = np.nan_to_num(history.metric("episode/count"))
    values = moving_mean(history.metric(costs.COST), count, window)
    begun = ~np.isnan(values).any(0)
    x, y = history.steps[begun], values[:, begun]
    axes.plot(x, y.mean(0), color=style.COLOURS[0], linewidth=1.8, label="moving average")
    if history.seeds > 1:
        axes.fill_between(x, *pointwise_interval(y), color=style.COLOURS[0], alpha=0.25, lw=0)
    if "greedy_cost" in history.evaluations:
        axes.plot(
            history.eval_steps, np.nanmean(history.evaluations["greedy_cost"], 0), "o",
            markersize=4, color=style.COLOURS[1], markerfacecolor="white",
            label="greedy evaluation",
        )  # fmt: skip
    limit = costs.limit_of(history.about.get("config", {}))
    if limit is not None:
        look = {"color": style.COLOURS[2], "linestyle": "--", "linewidth": 1.2}
        axes.axhline(limit, label=f"limit: {limit:g}", **look)
    style.set_title(axes, "Cost of an episode", f"mean of the last {window} episodes")
    axes.set_ylabel("cost")
    axes.legend(fontsize=7, frameon=False, loc="best")
    style.set_steps_axis(axes, history.steps[-1])


def draw_total(axes, history: MeasuredRun) -> None:
    """Draws the costs of training so far, beyond the limit if there is one: a line a seed."""
    limit = costs.limit_of(history.about.get("config", {}))
    total = np.cumsum(costs.beyond_limit(history.metrics, limit or 0.0), -1)
    axes.plot(history.steps, total.T, color=style.GREY, alpha=0.4, linewidth=0.8)
    axes.plot(history.steps, total.mean(0), color=style.COLOURS[0], linewidth=1.8)
    if limit is None:
        style.set_title(axes, "Costs of training", "sum over all episodes so far")
    else:
        note = "sum of max(cost - limit, 0) over all episodes so far"
        style.set_title(axes, "Cost regret", note)
    axes.set_ylabel("sum of costs" + " beyond the limit" * (limit is not None))
    style.set_steps_axis(axes, history.steps[-1])
