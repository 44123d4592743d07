"""Costs of a run while it learnt, beside the limit that it had."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxpg.core.checks import require_number
from jaxpg.core.metrics import recent_mean

COST = "episode/cost"


def cost_regret(metrics: Mapping[str, Any], limit: float) -> np.ndarray:
    """Costs beyond a limit that training took: the sum over its episodes of max(cost - limit, 0).

    metrics: of `jaxpg.train` or `jaxpg.run`, with `episode/cost` and `episode/count`, each [rows]
    or [..., rows]; the answer is [] or [...], in units of cost. A row has the mean of the episodes
    that ended in it: where that are several, some below the limit and some above, the true sum is
    greater. Costs while learning are a result of their own: Ray et al. (2019), "Benchmarking safe
    exploration in deep reinforcement learning", section 4. Raises ValueError for metrics without
    costs, or with several, and for a limit that is no number >= 0.

    >>> metrics = {"episode/cost": [1.0, 3.0, 6.0], "episode/count": [2, 0, 3]}
    >>> float(cost_regret(metrics, limit=2.0))
    12.0
    """
    require_number("limit", limit)
    if limit < 0:
        raise ValueError(f"limit={limit}: allowed is a number >= 0")
    return beyond_limit(metrics, limit).sum(-1)


def beyond_limit(metrics: Mapping[str, Any], limit: float) -> np.ndarray:
    """Terms of `cost_regret` by row, [rows] or [..., rows]."""
    if f"{COST}_0" in metrics:
        raise ValueError("metrics of several costs, episode/cost_0: allowed is one, episode/cost")
    if COST not in metrics:
        raise ValueError("metrics without episode/cost: allowed are those of a run with costs")
    cost, count = (np.asarray(metrics[x], float) for x in (COST, "episode/count"))
    count = np.nan_to_num(count)
    return np.where(count > 0, np.maximum(cost - limit, 0), 0) * count


def has_costs(metrics: Mapping[str, Any]) -> bool:
    """True for metrics with the cost of an episode, of which one has ended."""
    return COST in metrics and bool(np.isfinite(metrics[COST]).any())


def limit_of(config: Mapping[str, Any]) -> float | None:
    """Limit that a config, as run.json has it, sets on the plain sum of an episode's costs. None
    for one without a limit, or with one on discounted costs."""
    plain = config.get("cost_unit", "episode") == "episode"
    return config.get("cost_limit") if plain else None


def last_cost(metrics: Mapping[str, Any], limit: float | None) -> str:
    """Cost of an episode at the end of training, a mean over seeds, and the limit: for a table."""
    counts = np.nan_to_num(np.asarray(metrics["episode/count"], float))
    recent = recent_mean({COST: np.asarray(metrics[COST]), "episode/count": counts}, COST)
    return f"{np.nanmean(recent.mean):.4g}" + ("" if limit is None else f" (limit {limit:g})")


def describe_costs(metrics: Mapping[str, Any], limit: float | None) -> str:
    """Sentence on the costs of a run: at its end, and with a limit all that was beyond it."""
    said = f"cost of an episode at the end of training {last_cost(metrics, limit)}"
    if limit is None:
        return said
    beyond, count = cost_regret(metrics, limit), np.asarray(metrics["episode/count"], float)
    episodes = np.nan_to_num(count).sum(-1).mean()
    said += f", beyond the limit in all {beyond.mean():,.0f} over {episodes:,.0f} episodes"
    return said + " of a seed" * (np.ndim(beyond) > 0 and len(beyond) > 1)
