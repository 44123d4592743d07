"""Robust statistics of an algorithm from a handful of runs, with intervals.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv:2108.13264), by its definitions. Scores are arrays [tasks, runs], one number a run; a vector
[runs] is one task. Where tasks differ in scale, `normalize` them first. `interval` and what is
done about a run that diverged are in `experiment/analysis/bootstrap.py`.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxpg.experiment.analysis.bootstrap import align_to_tasks, interval, replace_diverged


class Estimate(NamedTuple):
    """Estimate with its confidence interval: numbers, or arrays with an interval for each."""

    value: Any  # float or array, as the others
    low: Any
    high: Any


class Reached(NamedTuple):
    """Sample efficiency: how soon runs reach a threshold, counting those that never do."""

    median: Estimate  # environment steps; inf where too few runs get there
    share: Estimate  # of the runs that reach it


def iqm(scores, *, diverged=None):
    """Interquartile mean of the runs of all tasks together: [..., tasks, runs] -> [...].

    As in the paper's own code, floor(count / 4) scores are taken off at either end, so that of 10
    runs the middle 6 remain: `scipy.stats.trim_mean(scores, 0.25)`.
    """
    scores = replace_diverged(scores, diverged)
    scores = scores.reshape(*scores.shape[:-2], -1)
    cut = scores.shape[-1] // 4
    return np.sort(scores)[..., cut : scores.shape[-1] - cut].mean(-1)


def mean(scores, *, diverged=None):
    """Mean of the tasks' means: [..., tasks, runs] -> [...]."""
    return replace_diverged(scores, diverged).mean((-2, -1))


def median(scores, *, diverged=None):
    """Median of the tasks' means: [..., tasks, runs] -> [...]. Of one task, it is the mean."""
    return np.median(replace_diverged(scores, diverged).mean(-1), -1)


def optimality_gap(scores, target: float = 1.0, *, diverged=None):
    """Optimality gap: the mean shortfall of scores from a target, beyond which nothing counts.

    [..., tasks, runs] -> [...]: the mean of max(target - score, 0). Smaller is better.
    """
    if not np.isfinite(target):
        raise ValueError(f"target={target!r}: allowed is a finite number")
    return np.maximum(target - replace_diverged(scores, diverged), 0).mean((-2, -1))


def normalize(scores, low, high) -> np.ndarray:
    """Normalizes scores to (score - low) / (high - low), low and high a number or one per task; NaN
    stays NaN.

    [tasks, runs] -> [tasks, runs]. Raises ValueError unless low < high, both finite.
    """
    scores = np.atleast_2d(np.asarray(scores, float))
    bottom, top = align_to_tasks("low", low, scores), align_to_tasks("high", high, scores)
    if not (np.isfinite(bottom) & np.isfinite(top) & (bottom < top)).all():
        raise ValueError(f"low={low!r}, high={high!r}: allowed is low < high, both finite")
    return (scores - bottom) / (top - bottom)


def performance_profile(scores, thresholds, *, diverged=None, **options) -> Estimate:
    """Performance profile: the share of runs above each of `thresholds` [k], with pointwise bands.

    value, low, high: [k]. The paper's run-score distribution: the mean over tasks of the share of
    the task's runs. options: those of `interval`; see its errors.
    """
    scores, thresholds = replace_diverged(scores, diverged), np.asarray(thresholds, float)
    if thresholds.ndim != 1 or not thresholds.size or not np.isfinite(thresholds).all():
        raise ValueError(f"thresholds={thresholds!r}: allowed is a vector of finite numbers")

    above = lambda scores: (scores[..., None] > thresholds).mean((-3, -2))  # noqa: E731
    return Estimate(above(scores), *interval(above, scores, **options))


def probability_of_improvement(x, y, *, diverged=None, **options) -> Estimate:
    """Probability P(X > Y) that a run of X beats one of Y on the same task, averaged over tasks.

    x: [tasks, runs], y: [tasks, runs of y]. Of each task it is Mann and Whitney's U over the number
    of pairs; a tie counts half. options: those of `interval`; see its errors; ValueError too
    for different numbers of tasks.
    """
    x, y = replace_diverged(x, diverged, "x"), replace_diverged(y, diverged, "y")
    if len(x) != len(y):
        raise ValueError(f"y: has {len(y)} tasks, allowed is as many as x, {len(x)}")

    def wins(x, y):
        x, y = x[..., :, None], y[..., None, :]
        return ((x > y) + 0.5 * (x == y)).mean((-3, -2, -1))

    return Estimate(float(wins(x, y)), *interval(wins, x, y, **options))


def steps_to(steps, values, threshold: float) -> np.ndarray:
    """Environment steps at which each run first has a value >= threshold; inf if it never has.

    steps: [iterations]; values: [runs, iterations], of which NaN ("no data") is never enough.
    Returns [runs]. Raises ValueError for steps that do not increase or do not fit the values.
    """
    steps, values = np.asarray(steps, float), np.atleast_2d(np.asarray(values, float))
    if steps.shape != values.shape[1:] or not steps.size or not (np.diff(steps) > 0).all():
        raise ValueError(
            f"steps: of shape {steps.shape}, allowed are increasing numbers, one for each column "
            f"of the values {values.shape}"
        )
    if not np.isfinite(threshold):
        raise ValueError(f"threshold={threshold!r}: allowed is a finite number")
    enough = values >= threshold
    return np.where(enough.any(1), steps[enough.argmax(1)], np.inf)


def sample_efficiency(steps, **options) -> Reached:
    """Median of the runs' `steps_to`, [runs], and the share that got there, with intervals.

    The median's interval is the bootstrap's, of ranks, for which inf is just the last; an end that
    falls between two runs is moved out to the next. The share's is Wilson's. options: as for
    `interval`, without diverged; see its errors.
    """
    steps = np.sort(np.asarray(steps, float))
    if steps.ndim != 1 or not steps.size or np.isnan(steps).any():
        raise ValueError(f"steps={steps!r}: allowed is a vector without NaN, inf for never")
    middle = lambda ranks: np.median(ranks, -1).mean(-1)  # noqa: E731
    low, high = interval(middle, np.arange(len(steps)), **options)
    last = len(steps) - 1  # "t" may go beyond
    low, high = steps[max(int(np.floor(low)), 0)], steps[min(int(np.ceil(high)), last)]
    there = int(np.isfinite(steps).sum())
    share = stats.binomtest(there, len(steps)).proportion_ci(
        options.get("confidence", 0.95), "wilson"
    )
    return Reached(
        Estimate(float(np.median(steps)), float(low), float(high)),
        Estimate(there / len(steps), float(share.low), float(share.high)),
    )


def compare(scores: Mapping, *, target: float = 1.0, diverged=None, **options):
    """Compares algorithms, {name: scores [tasks, runs]}, in a pandas table: a row per name.

    Columns: `runs` (per task), `mean`, `median`, `iqm`, `low` and `high` (the interval of the IQM;
    NaN with one run), `optimality_gap` to `target`. options: as for `interval`; raises what it
    raises, and ValueError for no names or different numbers of tasks.
    """
    import pandas as pd

    rows = {}
    for name, x in _check_tasks(scores, diverged).items():
        ends = interval(iqm, x, **options) if x.shape[1] > 1 else (np.nan, np.nan)
        values = mean(x), median(x), iqm(x), *ends, optimality_gap(x, target)
        rows[name] = x.shape[1], *map(float, values)
    columns = ["runs", "mean", "median", "iqm", "low", "high", "optimality_gap"]
    return pd.DataFrame(
        list(rows.values()), index=pd.Index(list(rows), name="name"), columns=columns
    )


def improvements(scores: Mapping, *, diverged=None, **options):
    """Compares all pairs of {name: scores [tasks, runs]} by `probability_of_improvement`, in a
    pandas table.

    Columns: `x`, `y`, `probability` (that x beats y; that y beats x is 1 minus it), `low`, `high`.
    options and errors: as for `compare`, but one run is an error.
    """
    import pandas as pd

    pairs = itertools.combinations(_check_tasks(scores, diverged).items(), 2)
    rows = [(a, b, *probability_of_improvement(x, y, **options)) for (a, x), (b, y) in pairs]
    return pd.DataFrame(rows, columns=["x", "y", "probability", "low", "high"])


def _check_tasks(scores: Mapping, diverged) -> dict[str, np.ndarray]:
    arrays = {
        name: replace_diverged(x, diverged, f"scores[{name!r}]") for name, x in scores.items()
    }
    shapes = [x.shape for x in arrays.values()]
    if not shapes or any(len(s) != 2 or s[0] != shapes[0][0] for s in shapes):
        raise ValueError(
            f"scores: names {list(arrays)} of shapes {shapes}, allowed is one name or more, "
            "each [tasks, runs] of the same tasks"
        )
    return arrays
