"""Phases of a learning curve, rise and plateau, by a rule that fits into a caption."""

from typing import NamedTuple

import numpy as np

RULE = (
    "the rise goes from 10 % to 90 % of the way up to the curve's best value, from the least one "
    "before it; there is no plateau if it ends in the last 10 % of the steps"
)
_LAST = 0.1  # of the steps
_NOISE = 5.0  # deviations of the curve, up to which a difference is no rise


class Phases(NamedTuple):
    """Phases of a learning curve: the environment steps at which they begin; None for one there is
    not."""

    rise: float | None
    plateau: float | None
    final: float  # mean over the last 10 % of the steps
    kept: float  # of the way it still has there: 1 at the best value, 0 at the least before it


def find_phases(steps: np.ndarray, curve: np.ndarray) -> Phases:
    """Finds the phases of a smoothed curve of returns, both [points] and in the order of the steps.

    As the rise time of a step response: the way goes up from the least value before the best one
    to that. The rise begins where the curve has 10 % of it behind it for the first time after the
    least value, and ends at 90 %. If that is in the last 10 % of the steps it was still rising, and
    there is no plateau. There is no rise if between means of tenths of the points it is no more
    than five standard deviations of the curve about straight lines through its thirds (their
    median). NaN (no data) is left out; with nothing left all is NaN or None.
    """
    there = ~np.isnan(curve)
    steps, curve = steps[there], curve[there]
    if not len(curve):
        return Phases(None, None, np.nan, np.nan)
    last = steps >= steps[-1] * (1 - _LAST)
    best = curve.argmax()
    begin = curve[: best + 1].argmin()
    least, final = curve[begin], curve[last].mean()
    way = curve[best] - least
    tenths = np.array([part.mean() for part in np.array_split(curve, 10) if len(part)])
    up = (tenths - np.minimum.accumulate(tenths)).max()
    if not up > _NOISE * np.median([_residual_std(part) for part in np.array_split(curve, 3)]):
        return Phases(None, None, final, np.nan)
    rise, top = (
        steps[begin + np.argmax(curve[begin:] >= least + part * way)] for part in (0.1, 0.9)
    )
    plateau = None if top >= steps[-1] * (1 - _LAST) else top
    return Phases(rise, plateau, final, (final - least) / way)


def _residual_std(values: np.ndarray) -> float:
    """Standard deviation of the residuals about a straight line."""
    if len(values) < 3:
        return 0.0
    x = np.arange(len(values))
    return float((values - np.polyval(np.polyfit(x, values, 1), x)).std())
