"""The final scores of a sweep or a comparison, arranged for statistics.

A sweep is anything with `about`, `fields`, `table` and `evaluations`: see `experiment/sweep.py`. A
run that ended before the others without having reached the sweep's target diverged. Its score is
NaN here; in figures and tables it counts as the worst score of its environment, which is neither
forgotten nor far off the scale.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.config import unknown
from jaxpg.experiment import statistics
from jaxpg.experiment.statistics import Estimate

LAST = 0.1  # of the steps, over which returns in training are a final score


class Final(NamedTuple):
    scores: dict[int, np.ndarray]  # config -> [seeds]; NaN is a run that diverged
    what: str  # what a score is, for labels
    worst: float  # of all there are; NaN if there is none

    @property
    def diverged(self) -> int:
        return sum(int(np.isnan(x).sum()) for x in self.scores.values())

    def runs(self, configs: Sequence[int]) -> np.ndarray:
        """[configs, runs], as many as all have; a run that diverged has the worst score."""
        fewest = min(len(self.scores[c]) for c in configs)
        scores = np.stack([self.scores[c][:fewest] for c in configs])
        return np.where(np.isnan(scores), self.worst, scores)

    def iqm(self, configs: Sequence[int]) -> float:
        """NaN if no run of the sweep has a score."""
        return np.nan if np.isnan(self.worst) else float(statistics.iqm(self.runs(configs)))


class Group(NamedTuple):
    """Configs that share their values in some fields."""

    values: tuple  # of these fields
    configs: list[int]


def final(sweep) -> Final:
    """The score of every run: the greedy return in its last evaluation; in a sweep without
    evaluations, the mean return of the episodes in the last 10 % of the steps.

    Configs of which there is nothing yet are left out.
    """
    rows, column = sweep.evaluations, "greedy"
    what = "greedy return at the end"
    if not len(rows) or not rows[column].notna().any():
        rows, column = sweep.table, "episode/return"
        what = f"return in the last {LAST:.0%} of the steps".replace("%", " %")
    target = sweep.about.get("target")
    scores = {}
    for config, own in rows.groupby("config"):
        last, each = own["env_steps"].max(), {}  # all of its seeds go on together
        for seed, run in own.groupby("seed"):
            there = run[run[column].notna()]
            if not len(there):
                each[seed] = np.nan
            elif column == "greedy":
                newest = there.iloc[-1]
                early = newest["env_steps"] < last and not (
                    target is not None and newest[column] >= target
                )
                each[seed] = np.nan if early else newest[column]
            else:
                late = there[there["env_steps"] > (1 - LAST) * last]
                weights = late.get("episode/count", late[column] * 0 + 1)
                mean = (late[column] * weights).sum() / weights.sum() if len(late) else np.nan
                each[seed] = mean
        scores[int(config)] = np.array([each[s] for s in sorted(each)], float)
    every = np.concatenate([*scores.values()]) if scores else np.zeros(0)
    good = every[np.isfinite(every)]
    return Final(scores, what, good.min() if len(good) else np.nan)


def groups(sweep, fields: Sequence[str]) -> list[Group]:
    """The configs that have rows, by their values in `fields`, in order.

    Raises ValueError for an unknown field, and for a sweep without a row.
    """
    for field in fields:
        if field not in sweep.fields:
            raise unknown("field", field, sweep.fields)
    there = set(sweep.table["config"]) if len(sweep.table) else set()
    if not there:
        raise ValueError("the sweep has no rows yet: allowed is one that has begun")
    found: dict[tuple, list[int]] = {}
    for config, point in enumerate(sweep.about["points"]):
        if config in there:
            found.setdefault(tuple(_plain(point[f]) for f in fields), []).append(config)
    ranks = [ordered(v[i] for v in found) for i in range(len(fields))]
    place = lambda values: [r.index(v) for r, v in zip(ranks, values, strict=True)]  # noqa: E731
    return [Group(values, found[values]) for values in sorted(found, key=place)]


def _plain(value) -> Hashable:
    return tuple(value) if isinstance(value, list) else value


def ordered(values: Iterable) -> list:
    """A field's values, each once: numbers by their size, then all else as it came."""
    values = dict.fromkeys(values)
    numbers = sorted(v for v in values if is_number(v))
    return [*numbers, *(v for v in values if not is_number(v))]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def text(value: Any) -> str:
    """A field's value for people: 0.001, 64 x 64, True, CNN."""
    if is_number(value):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return " x ".join(map(text, value)) or "()"
    return str(value).rpartition(":")[2]


def estimate(scores: np.ndarray) -> Estimate:
    """The IQM of scores [tasks, runs] and its 95 % interval; NaN where there is none."""
    scores = np.atleast_2d(scores)
    if np.isnan(scores).any():
        return Estimate(np.nan, np.nan, np.nan)
    value = float(statistics.iqm(scores))
    if scores.shape[1] < 2:
        return Estimate(value, np.nan, np.nan)
    return Estimate(value, *statistics.interval(statistics.iqm, scores))


def by_agent(sweep) -> tuple[dict[str, np.ndarray], str]:
    """The final scores of a comparison, agent -> [environments, runs], and what they are.

    Of several environments, scores go from 0, the worst run there, to 1, the best one; those that
    some agent has no score in are left out, and of each agent runs beyond its fewest.
    Raises ValueError for a sweep that has no field "agent".
    """
    done, found = final(sweep), {}
    fields = ["agent", *(f for f in sweep.fields if f == "env")]
    for group in groups(sweep, fields):
        if own := [done.scores[c] for c in group.configs if c in done.scores]:
            found[group.values] = np.concatenate(own)
    agents = list(dict.fromkeys(values[0] for values in found))
    tasks = list(dict.fromkeys(values[1:] for values in found))
    tasks = [t for t in tasks if all((a, *t) in found for a in agents)]
    if not tasks:
        return {}, done.what
    scores = {a: [found[(a, *t)] for t in tasks] for a in agents}
    every = [np.concatenate(of_task) for of_task in zip(*scores.values(), strict=True)]
    low = np.array([np.min(x[~np.isnan(x)], initial=np.inf) for x in every])[:, None]
    high = np.array([np.max(x[~np.isnan(x)], initial=-np.inf) for x in every])[:, None]
    what = done.what
    for agent, own in scores.items():
        runs = min(map(len, own))
        own = np.stack([x[:runs] for x in own])
        scores[agent] = np.where(np.isnan(own), low, own)
        if len(tasks) > 1:
            scores[agent] = (scores[agent] - low) / np.where(high > low, high - low, 1)
    if len(tasks) > 1:
        what = f"{what}, from 0 (worst run) to 1 (best run), {len(tasks)} environments"
    return scores, what


class Curves(NamedTuple):
    steps: np.ndarray  # [points]
    returns: dict[
        int, np.ndarray
    ]  # config -> [seeds, points]; NaN before an episode ended, and after the end


def curves(sweep, window: int = 20, points: int = 60) -> Curves:
    """Returns over training, the mean of each run's last `window` episodes, on one grid of steps.

    A run that stopped at its target stays where it was; one that diverged counts, from its end on,
    as the worst value of the sweep.
    """
    done, table = final(sweep), sweep.table
    steps = np.linspace(0, table["env_steps"].max(), points + 1)[1:]
    returns, ends = {}, {}
    for config, own in table.groupby("config"):
        wide = own.pivot(index="env_steps", columns="seed")
        raw, counts = (wide[f"episode/{k}"].to_numpy(float).T for k in ("return", "count"))
        from jaxpg.experiment import plots

        smooth = plots.smooth(raw, np.nan_to_num(counts), window)
        at = np.searchsorted(wide.index, steps, side="right") - 1
        known = (at >= 0) & (steps < wide.index[-1] + steps[0])
        returns[int(config)] = np.where(known, smooth[:, np.maximum(at, 0)], np.nan)
        seen = np.isfinite(raw)
        ends[int(config)] = np.where(
            seen.any(1), wide.index.to_numpy()[seen.shape[1] - 1 - seen[:, ::-1].argmax(1)], 0
        )
    every = np.concatenate([x.ravel() for x in returns.values()])
    worst = every[np.isfinite(every)].min(initial=np.inf)
    for config, x in returns.items():
        lost = np.isnan(done.scores.get(config, np.zeros(len(x))))
        gone = lost[:, None] & (steps > ends[config][:, None])
        returns[config] = np.where(gone & np.isfinite(worst), worst, x)
    return Curves(steps, returns)
