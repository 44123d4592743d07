"""Smoothing and confidence bands of a metric over the iterations of a run."""

import numpy as np


def moving_mean(returns: np.ndarray, counts: np.ndarray, window: int) -> np.ndarray:
    """Moving mean over each seed's last `window` episodes (over all so far, while they are fewer).

    returns: [seeds, iterations] means over `counts` episodes. Whole iterations are taken, as few
    as hold so many episodes. NaN before the first one.
    """
    sums = np.cumsum(np.where(counts > 0, returns, 0) * counts, axis=1)
    ended = np.cumsum(counts, axis=1)
    old = np.stack([np.searchsorted(n, n - window, side="right") for n in ended])
    sums, ended = (
        x - np.take_along_axis(np.pad(x, ((0, 0), (1, 0))), old, axis=1) for x in (sums, ended)
    )
    with np.errstate(invalid="ignore"):  # 0 / 0
        return sums / ended


def pointwise_interval(values: np.ndarray) -> np.ndarray:
    """Bootstrap interval [2, points] of 95 % for the mean over seeds of values [seeds, points]."""
    seeds = len(values)
    times_drawn = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), 2000)
    return np.percentile(times_drawn @ values / seeds, (2.5, 97.5), axis=0)
