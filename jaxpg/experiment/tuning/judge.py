"""Judgement of points: by what order rounds keep them, and whether the best are better."""

from typing import NamedTuple

import numpy as np

from jaxpg.experiment.analysis import statistics
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


def seed_scores(found: Sweep) -> np.ndarray:
    """Greedy returns at the end of the points of a sweep [points, seeds]. A seed without one, since
    it diverged or an episode did not end, counts as the worst of all, as it does for who trains
    only one; NaN if no seed has one."""
    ends = found.scores.pivot(index="config", columns="seed", values="score").to_numpy(float)
    known = ends[~np.isnan(ends)]
    return np.where(np.isnan(ends), known.min() if known.size else np.nan, ends)


def rank_points(found: Sweep) -> list[int]:
    """Ranks the configs of a sweep, the best first, by the mean over seeds of the greedy return at
    the end; equal ones by the mean of the returns in training, which is the area under the curve.
    """
    ends = seed_scores(found).mean(1)
    area = found.table.groupby("config")["episode/return"].mean().reindex(range(len(ends)))
    order = np.nan_to_num(np.stack([area.to_numpy(float), ends]), nan=-np.inf)
    return np.lexsort(-order).tolist()  # by the last row first; stable


def judge_finalists(found: Sweep) -> tuple[np.ndarray, list[Finalist]]:
    """The scores [held_out] of the first config of a sweep, and the others beside it; nothing if no
    seed has a score.

    The intervals of the gains are Bonferroni's: of k finalists each has 1 - 0.05 / k.
    """
    every, points = seed_scores(found), found.about["points"]
    if np.isnan(every).any():
        return np.array([]), []
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
    """True if no config of several stands out by its final scores."""
    means = seed_scores(found).mean(1)
    return len(means) > 1 and not np.ptp(means) > 0
