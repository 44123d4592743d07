"""Verdicts on the seeds of a run, from its metrics: whether one learnt nothing, and in what way.

A seed has learnt nothing if no episode reached its goal, or if its last returns, in training and in
the last evaluation, are no better than its first ones beyond noise. Only of such a seed are critic
and policy judged: where returns rise, a critic that explains little is no fault.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxpg.core.metrics import weigh

# A run with less of either is too short to judge: a tenth of it would be a number or two.
ITERATIONS, EPISODES = 20, 20
FEW = 20  # episodes that are the first ones, where a tenth of all is more
ROWS = 3  # of metrics, at least: of fewer there is no deviation
SURE = 3.0  # standard errors of a difference; by chance one in 740 is above them
WAY = 0.1  # of the way to the threshold: a run with less would take ten times as long to get there
EXPLAINED = 0.05  # of the variance of returns; a constant explains 0
MOVED = 1e-5  # nats an update, a thousandth of the 0.01 that trust regions allow
UNIFORM = 0.99  # of the largest entropy: of two actions the better one is taken in 56 of 100 steps
STILL = 0.02  # of the largest entropy: of two actions the other one in 19 of 10,000 steps

Series = Mapping[str, np.ndarray]


class World(NamedTuple):
    """Facts of an environment, by which returns are judged; each may be unknown."""

    limit: float | None = None  # steps of an episode at most
    terminates: bool = True  # False where nothing but the limit ends an episode
    solved: float | None = None  # mean return from which on it counts as solved
    actions: int | None = None  # number of its actions, if they are discrete
    returns: Sequence[float] | np.ndarray = ()  # [episodes] of the policy before it learnt
    lengths: Sequence[float] | np.ndarray = ()  # [episodes] of the same, in steps


class Sample(NamedTuple):
    """Episodes by their mean return, its deviation between single episodes, and their number."""

    mean: float
    deviation: float
    episodes: float


class Curve(NamedTuple):
    """Returns of a seed's training, in parts of its episodes."""

    starts: list[Sample]  # the first few, and the first tenth
    tenths: list[Sample]
    end: Sample  # the last tenth


def judge_seed(series: Series, evaluations: Series, world: World) -> str:
    """Judges a seed by its returns: "goal", "return" or "fall" if it learnt nothing, or "way", else
    "".

    series: its metrics [rows]. evaluations: those of its evaluations [k]. "goal": no episode
    reached one. "return": they did not rise. "fall": they rose, and fell back. Episodes that begin
    in states of an archive are not the policy's: "way" says that none of them is worth imitating.
    """
    if "episode/best_return" in series:
        return judge_archive(series, world)
    if (curve := split_curve(series)) is None:
        return ""
    last = [curve.end, *(_last_evaluation(evaluations, kind) for kind in ("greedy", "sampled"))]
    if world.solved is not None and max(x.mean for x in last) >= world.solved:
        return ""
    before = []
    if len(returns := world.returns) > 1:
        before = [Sample(float(np.mean(returns)), float(np.std(returns)), len(returns))]
    better, rose = (_has_risen(last, x, world) for x in (before, curve.starts))
    ends_early = np.any(np.asarray(world.lengths) < (world.limit or 0))
    if _misses_goal(series, last, world) and not (better and ends_early):
        # A rise to 0 is that of an agent that has learnt to do nothing.
        idle = curve.end.mean >= WAY * curve.starts[0].mean
        if not rose or idle or (world.solved or 0) > 0:
            return "goal"
    if better or rose:
        return ""
    # Of ten parts one is above a start by chance: a peak is above all starts, and above the end.
    low = [*curve.starts, curve.end]
    peaks = any(all(_is_above(x, y, world) for y in low) for x in curve.tenths)
    return "fall" if peaks else "return"


def judge_archive(series: Series, world: World) -> str:
    """Judges the best episode of an archive, after its last iteration [rows]: "way" if there is
    none, or none but those that lasted to their limit where episodes end at a goal; else ""."""
    if len(series["episode/best_return"]) < ITERATIONS:
        return ""
    highest, length = (series[f"episode/best_{x}"][-1] for x in ("return", "length"))
    lasted = world.terminates and world.limit is not None and length >= world.limit * (1 - 1e-6)
    return "way" if np.isnan(highest) or (lasted and highest <= 0) else ""


def split_curve(series: Series) -> Curve | None:
    """Splits a seed's episodes [rows] into parts; None for a run that is too short to judge."""
    there = np.asarray(weigh({**series}, "episode/return")[1] > 0)
    returns, counts = (series[f"episode/{x}"][there].astype(float) for x in ("return", "count"))
    total = counts.sum()
    if len(there) < ITERATIONS or total < EPISODES or len(counts) < 2 * ROWS:
        return None
    few = min(FEW, total // 2)
    size = max(few, total / 10)
    edges = np.searchsorted(np.cumsum(counts), np.arange(10) * total / 10, side="right")
    return Curve(
        starts=[_take(returns, counts, n) for n in (few, size)],
        tenths=[_take(returns[i:], counts[i:], size) for i in edges],
        end=_take(returns[::-1], counts[::-1], size),
    )


def _take(returns: np.ndarray, counts: np.ndarray, episodes: float) -> Sample:
    """Takes the first rows that hold so many episodes, and at least ROWS of them. A row is a mean
    over `counts` episodes, so its deviation is theirs over the root of that."""
    taken = (np.cumsum(counts) - counts < episodes) | (np.arange(len(counts)) < ROWS)
    returns, counts = returns[taken], counts[taken]
    mean = np.average(returns, weights=counts)
    square = (counts * (returns - mean) ** 2).sum() / max(1, len(returns) - 1)
    return Sample(float(mean), float(np.sqrt(square)), float(counts.sum()))


def _last_evaluation(evaluations: Series, kind: str) -> Sample:
    """Takes the last evaluation, as one episode: greedy actions are others than those of training,
    so that a difference smaller than between single episodes need not have been learnt. Without
    one, or where it is NaN, nothing is reached."""
    mean, spread = (evaluations.get(name, np.full(1, np.nan)) for name in (kind, f"{kind}_std"))
    value = -np.inf if np.isnan(mean[-1]) else float(mean[-1])
    return Sample(value, float(np.nan_to_num(spread[-1])), 1)


def _has_risen(later: Sequence[Sample], starts: Sequence[Sample], world: World) -> bool:
    """True if one of the later samples is above one of the starts."""
    return any(_is_above(x, start, world) for x in later for start in starts)


def _is_above(x: Sample, start: Sample, world: World) -> bool:
    """True if a mean is above another beyond noise and, where there is a threshold, by a part of
    the way to it."""
    noise = max(x.deviation, start.deviation)  # of a few rows either may be 0 by chance
    if x.episodes > 1:
        noise *= SURE * np.sqrt(1 / x.episodes + 1 / start.episodes)
    rounding = 1e-6 * abs(start.mean)
    way = 0.0 if world.solved is None else WAY * (world.solved - start.mean)
    return x.mean - start.mean > max(noise, rounding, way)


def _misses_goal(series: Series, last: Sequence[Sample], world: World) -> bool:
    """True if every episode lasted to its limit, and none had a return above 0. Where an episode
    ends at its goal a step costs something, or nothing; where lasting is the aim, returns are above
    0; and where nothing but the limit ends an episode, there is no goal."""
    if world.limit is None or not world.terminates or "episode/length" not in series:
        return False
    there = series["episode/count"] > 0
    lasted = series["episode/length"][there] >= world.limit * (1 - 1e-6)
    highest = max(series["episode/return"][there].max(), *(x.mean for x in last))
    return bool(lasted.all() and highest <= 0)


def judge_learner(series: Series, world: World) -> dict[str, np.ndarray]:
    """Judges critic and policy by what an agent measures of them: the seeds [seeds] bool in which
    the critic explains nothing ("critic"), the policy did not move ("policy"), or takes one action
    only ("entropy"). series: metrics [seeds, rows]."""
    none = np.zeros(len(series["episode/count"]), bool)
    entropy, most = series.get("policy/entropy"), np.log(world.actions or 1)
    found = {"critic": none, "policy": find_kl(series) < MOVED, "entropy": none}
    if "value/explained_variance" in series:
        found["critic"] = late_median(series["value/explained_variance"]) <= EXPLAINED
    if entropy is not None and most > 0:
        lowest = np.where(np.isnan(entropy), np.inf, entropy).min(-1)
        uniform = np.isfinite(lowest) & (lowest >= UNIFORM * most)
        found["policy"] = found["policy"] | uniform
        found["entropy"] = late_median(entropy) <= STILL * most
    return found


def find_kl(series: Series) -> np.ndarray:
    """The median over a run [seeds] of how far an update moves the policy, as a KL divergence in
    nats; NaN of an agent that does not measure it."""
    for name in ("policy/approx_kl", "policy/kl"):
        if name in series:
            return _median(np.abs(series[name]))
    return np.full(len(series["episode/count"]), np.nan)


def late_median(x: np.ndarray) -> np.ndarray:
    """The median [seeds] over the second half of rows [seeds, rows]; NaN without data."""
    return _median(x[:, x.shape[-1] // 2 :])


def _median(x: np.ndarray) -> np.ndarray:
    return np.array(
        [np.median(row[there]) if (there := ~np.isnan(row)).any() else np.nan for row in x]
    )
