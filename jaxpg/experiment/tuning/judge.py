"""Judgement of points: by what order rounds keep them, and whether the best are better."""

from typing import Any, NamedTuple

import numpy as np

from jaxpg.experiment.analysis import scores, statistics
from jaxpg.experiment.analysis.statistics import Estimate
from jaxpg.experiment.sweeps import Sweep
from jaxpg.experiment.sweeps.points import Point

ERROR = 0.05  # chance that any of several points that are no better passes


class Finalist(NamedTuple):
    """Point on the held-out seeds, beside the config that the tuning began with."""

    point: Point
    scores: np.ndarray  # [held_out] greedy returns at the end; the worst of all where it diverged
    mean: Estimate  # of them, 95 %
    gain: Estimate  # mean of the differences, seed by seed; all of them hold at once with 95 %
    confidence: float  # of the gain's interval, alone

    @property
    def better(self) -> bool:
        """True if the interval of the gain is above 0."""
        return bool(self.gain.low > 0)


def rank_points(found: Sweep) -> list[int]:
    """Ranks the configs of a sweep, the best first, by the mean over seeds of the greedy return at
    the end; equal ones by the mean of the returns in training, which is the area under the curve.
    """
    done = scores.final(found)
    area = found.table.groupby("config")["episode/return"].mean().to_dict()

    def key(config: int) -> tuple[float, float]:
        ends = mean_score(done, config), area.get(config, np.nan)
        low, high = (-np.inf if np.isnan(x) else float(x) for x in ends)
        return low, high

    return sorted(range(len(found.about["points"])), key=key, reverse=True)


def mean_score(done: scores.Final, config: int) -> float:
    """Mean of the final scores of a config, the worst one for a seed that diverged; NaN for none.
    A seed that fails counts, as it does for who trains only one."""
    return float(done.runs([config]).mean()) if config in done.scores else np.nan


def judge_finalists(found: Sweep) -> tuple[np.ndarray, list[Finalist]]:
    """The scores [held_out] of the first config of a sweep, and the others beside it.

    The intervals of the gains are Bonferroni's: of k finalists each has 1 - 0.05 / k.
    """
    done = scores.final(found)
    if np.isnan(done.worst):  # every run diverged
        return np.array([]), []
    points = found.about["points"]
    every = done.runs(list(range(len(points))))
    confidence = 1 - ERROR / max(1, len(points) - 1)
    return every[0], [
        Finalist(
            point,
            own,
            estimate(own, 1 - ERROR),
            estimate(own - every[0], confidence),
            confidence,
        )
        for point, own in zip(points[1:], every[1:], strict=True)
    ]


def estimate(values: np.ndarray, confidence: float) -> Estimate:
    """Mean of values [runs] and its bootstrap interval."""
    low, high = statistics.interval(statistics.mean, values[None], confidence=confidence)
    return Estimate(float(values.mean()), low, high)


def choose_winner(finalists: list[Finalist]) -> Finalist | None:
    """The finalist with the highest mean of those that are better, or None."""
    better = [x for x in finalists if x.better]
    return max(better, key=lambda x: x.mean.value) if better else None


def all_alike(found: Sweep) -> bool:
    """True if no config of a sweep stands out by its final scores."""
    done: Any = scores.final(found)
    means = {mean_score(done, config) for config in done.scores}
    return len(done.scores) > 1 and len(means) == 1
