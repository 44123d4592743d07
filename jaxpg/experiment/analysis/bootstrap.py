"""Stratified bootstrap, with intervals that stay honest when runs are few.

Scores are arrays [tasks, runs]. A score that is not finite belongs to a run that diverged. To
leave it out would flatter the algorithm, so it is refused until `diverged` says what such a run
counts as: a number, or one per task.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from jaxpg.core.checks import require_integer
from jaxpg.core.config import unknown

METHODS = ("expanded", "percentile", "t")
SLICE = 1000  # resamples that a statistic sees at once, which bounds its memory


def interval(
    statistic: Callable,
    *scores,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    method: str = "expanded",
    diverged=None,
) -> tuple:
    """Bootstrap interval (low, high) of a statistic, from runs resampled within each task.

    statistic: of [..., tasks, runs] to [...], such as `iqm`, or to [..., k], for arrays [k]. Given
    several scores, of other runs each, it takes as many: `lambda x, y: iqm(x) - iqm(y)`.
    method: "percentile" is the paper's; for few runs it is too short. "expanded" (Hesterberg 2015,
    "What Teachers Should Know about the Bootstrap") takes percentiles farther out, by as much as
    Student's t is wider than the normal and runs vary more than resamples. "t" is the bootstrap's
    standard error, so corrected, times Student's t to either side: for three or four runs, between
    whose smallest and largest there is no interval wide enough.

    Raises ValueError for fewer than two runs a task, scores that are not finite, a statistic that
    does not reduce the last two axes, or an option that is not allowed.
    """
    scores = [replace_diverged(x, diverged) for x in scores]
    for x in scores:
        if x.ndim != 2 or x.shape[1] < 2:
            raise ValueError(f"scores: of shape {x.shape}, allowed is [tasks, runs >= 2]")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}: allowed is a number between 0 and 1")
    require_integer("resamples", resamples, 100)
    require_integer("seed", seed, 0)
    if method not in METHODS:
        raise unknown("method", method, METHODS)

    rng = np.random.default_rng(seed)
    drawn = [rng.integers(x.shape[1], size=(resamples, *x.shape)) for x in scores]
    value, parts = np.asarray(statistic(*scores)), []
    for begin in range(0, resamples, SLICE):
        index = [d[begin : begin + SLICE] for d in drawn]
        again = [x[np.arange(len(x))[:, None], i] for x, i in zip(scores, index, strict=True)]
        parts.append(np.asarray(statistic(*again)))
        if parts[-1].shape != (shape := (len(index[0]), *value.shape)):
            raise ValueError(
                f"statistic={statistic!r}: gave shape {parts[-1].shape} for scores "
                f"{index[0].shape}, allowed is {shape}"
            )
    values = np.concatenate(parts)

    inside = (1 + confidence) / 2
    t, inflation = (
        (0.0, 1.0) if method == "percentile" else _student_correction(drawn, values, inside)
    )
    if method == "t":
        half = t * np.sqrt(inflation) * values.std(0)
        low, high = value - half, value + half
    else:
        tail = 1 - inside if method == "percentile" else stats.norm.cdf(-t * np.sqrt(inflation))
        tail, ordered = np.broadcast_to(tail, value.shape), np.sort(values, 0)
        low, high = _interpolate_quantile(ordered, tail), _interpolate_quantile(ordered, 1 - tail)
    return (low, high) if value.ndim else (float(low), float(high))


def replace_diverged(scores, diverged=None, name: str = "scores") -> np.ndarray:
    """Returns scores [..., tasks, runs] as finite numbers, those of diverged runs replaced."""
    scores = np.atleast_2d(np.asarray(scores, float))
    if not scores.size:
        raise ValueError(f"{name}: of shape {scores.shape}, allowed is at least one run")
    good = np.isfinite(scores)
    if good.all():
        return scores
    if diverged is None:
        raise ValueError(
            f"{name}: {scores.size - good.sum()} of {scores.size} are not finite (runs that "
            "diverged); allowed are finite ones, or diverged=... says what such a run counts as"
        )
    instead = align_to_tasks("diverged", diverged, scores)
    if not np.isfinite(instead).all():
        raise ValueError(f"diverged={diverged!r}: allowed is a finite number, or one per task")
    return np.where(good, scores, instead)


def align_to_tasks(name: str, value, scores: np.ndarray) -> np.ndarray:
    """Gives a number, or one per task, the shape [] or [tasks, 1], to stand beside scores."""
    array, tasks = np.asarray(value, float), scores.shape[-2]
    if array.shape not in ((), (tasks,)):
        raise ValueError(f"{name}={value!r}: allowed is a number, or one for each of {tasks} tasks")
    return array[..., None] if array.ndim else array


def _student_correction(
    drawn: list, values: np.ndarray, inside: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns Student's t and the ratio of a statistic's variance to that over resamples, each
    [...].

    Its variance is a sum over strata (a task of one of the scores). The parts show in how the
    resampled values [resamples, ...] go with the counts of the runs drawn: the infinitesimal
    jackknife (Efron 2014, "Estimation and Accuracy after Model Selection"). Over resamples of n
    runs a part is too small by (n - 1) / n; it has n - 1 degrees of freedom, and the sum those of
    Welch and Satterthwaite.
    """
    centred = (values - values.mean(0)).reshape(len(values), -1)
    runs = np.concatenate([np.full((d.shape[1], 1), d.shape[2]) for d in drawn])  # [strata, 1]
    part = []
    for index in drawn:
        covariance = _count_draws(index).reshape(len(values), -1).T @ centred
        part += [(covariance.reshape(*index.shape[1:], -1) ** 2).sum(1)]
    part = np.concatenate(part)  # [strata, ...], times a constant
    part = np.where(part.sum(0) > 0, part, 1.0)  # of a statistic that no resample changes
    true = part * runs / (runs - 1)
    freedom = true.sum(0) ** 2 / (true**2 / (runs - 1)).sum(0)
    results = stats.t.ppf(inside, freedom), true.sum(0) / part.sum(0)
    low, high = (x.reshape(values.shape[1:]) for x in results)
    return low, high


def _count_draws(index: np.ndarray) -> np.ndarray:
    """Counts how often each run was drawn, [resamples, tasks, runs], from draws of that shape."""
    runs = index.shape[-1]
    rows = np.arange(0, index.size, runs).reshape(*index.shape[:-1], 1)
    return np.bincount((rows + index).ravel(), minlength=index.size).reshape(index.shape) * 1.0


def _interpolate_quantile(ordered: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Quantile of ordered values [resamples, ...] at a level [...] for each; linear between two."""
    place = level * (len(ordered) - 1)
    below = np.clip(np.floor(place).astype(int), 0, len(ordered) - 2)
    low, high = np.take_along_axis(ordered, np.stack([below, below + 1]), 0)
    return low + (place - below) * (high - low)
