"""Final scores of a sweep or a comparison, arranged for statistics.

A run that diverged has no score. In figures and tables it counts as the worst score of the sweep
(of its environment, in a comparison): so it is not forgotten, and the scale stays readable.
"""

import json
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from jaxpg.core.config import unknown
from jaxpg.experiment.analysis import statistics
from jaxpg.experiment.analysis.series import moving_mean
from jaxpg.experiment.analysis.statistics import Estimate
from jaxpg.experiment.analysis.thresholds import solved
from jaxpg.experiment.text import printable

LAST = 0.1  # of the steps, over which returns in training are a final score


class Final(NamedTuple):
    """Final scores of a sweep, by config."""

    scores: dict[int, np.ndarray]  # config -> [seeds]; NaN is a run that diverged
    what: str  # what a score is, for labels
    worst: float  # of all there are; NaN if there is none

    @property
    def diverged(self) -> int:
        """Number of runs that diverged."""
        return sum(int(np.isnan(x).sum()) for x in self.scores.values())

    def runs(self, configs: Sequence[int]) -> np.ndarray:
        """Scores [configs, runs], as many runs as all configs have; the worst score for a diverged
        run."""
        fewest = min(len(self.scores[c]) for c in configs)
        scores = np.stack([self.scores[c][:fewest] for c in configs])
        return np.where(np.isnan(scores), self.worst, scores)

    def iqm(self, configs: Sequence[int]) -> float:
        """Interquartile mean over configs and runs; NaN if no run of the sweep has a score."""
        return np.nan if np.isnan(self.worst) else float(statistics.iqm(self.runs(configs)))


class Group(NamedTuple):
    """Configs that share their values in some fields."""

    values: tuple  # of these fields
    configs: list[int]


def final(sweep) -> Final:
    """Reads the score of every run of a Sweep: its last greedy evaluation; before there is any, the
    mean return of the episodes in the last 10 % of its steps.

    Runs of which nothing is known yet are left out, and so are configs that have no others.
    """
    rows = sweep.scores[(sweep.scores["ended"] == "diverged") | sweep.scores["score"].notna()]
    if rows["score"].notna().any():
        what = "greedy return at the end"
    else:
        what, rows = "return in the last 10 % of the steps", _training_scores(sweep.table)
    scores = {
        int(config): own.sort_values("seed")["score"].to_numpy(float)
        for config, own in cast(Any, rows.groupby("config"))
    }
    good: Any = rows["score"].dropna()
    return Final(scores, what, float(good.min()) if len(good) else np.nan)


def _training_scores(table):
    """Table with a row per config and seed, whose score is the mean return of the last episodes."""
    import pandas as pd

    rows = []
    for (config, seed), own in table.groupby(["config", "seed"]) if len(table) else ():
        late = own[own["env_steps"] > (1 - LAST) * own["env_steps"].max()]
        counts = late["episode/count"].to_numpy(float)
        if counts.sum() > 0:
            total = (late["episode/return"].fillna(0) * counts).sum()
            rows.append((config, seed, total / counts.sum()))
    return pd.DataFrame(rows, columns=["config", "seed", "score"])


def group_configs(sweep, fields: Sequence[str]) -> list[Group]:
    """Groups the configs that have rows by their values in `fields`, in order.

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
            found.setdefault(tuple(_to_hashable(point.get(f)) for f in fields), []).append(config)
    ranks = [order_values(v[i] for v in found) for i in range(len(fields))]
    place = lambda values: [r.index(v) for r, v in zip(ranks, values, strict=True)]  # noqa: E731
    return [Group(values, found[values]) for values in sorted(found, key=place)]


def _to_hashable(value) -> Hashable:
    if isinstance(value, dict):  # a partial
        return json.dumps(value)
    return tuple(value) if isinstance(value, list) else value


def order_values(values: Iterable) -> list:
    """Orders a field's values, each once: numbers by size, then all else as it came."""
    values = dict.fromkeys(values)
    numbers = sorted(v for v in values if is_number(v))
    return [*numbers, *(v for v in values if not is_number(v))]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def text(value: Any) -> str:
    """Formats a field's value for people: 0.001, 64 x 64, True, CNN, elu(alpha=2)."""
    if isinstance(value, str) and value.startswith('{"partial"'):
        value = json.loads(value)
    if isinstance(value, dict):
        return _format_partial(value)
    if is_number(value):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return " x ".join(map(text, value)) or "()"
    return printable(str(value).rpartition(":")[2])


def _format_partial(told: dict[str, Any]) -> str:
    """Formats a partial, as files have it, as a call: elu(alpha=2)."""
    if "name" in told:  # an argument that is a class or a function
        return text(told["name"])
    given = [*map(text, told.get("args", ()))]
    given += [f"{name}={text(x)}" for name, x in told.get("keywords", {}).items()]
    return f"{text(told['partial'])}({', '.join(given)})"


def estimate(scores: np.ndarray) -> Estimate:
    """Interquartile mean of scores [tasks, runs] and its 95 % interval; NaN where there is none."""
    scores = np.atleast_2d(scores)
    if np.isnan(scores).any():
        return Estimate(np.nan, np.nan, np.nan)
    value = float(statistics.iqm(scores))
    if scores.shape[1] < 2:
        return Estimate(value, np.nan, np.nan)
    return Estimate(value, *statistics.interval(statistics.iqm, scores))


def scores_by_agent(sweep) -> tuple[dict[str, np.ndarray], str]:
    """Arranges the final scores of a comparison, agent -> [environments, runs], and says what they
    are.

    Of several environments, scores go from 0, the worst run there, to 1, the best one; those that
    some agent has no score in are left out, and of each agent runs beyond its fewest.
    Raises ValueError for a sweep that has no field "agent".
    """
    done, found = final(sweep), {}
    fields = ["agent", *(f for f in sweep.fields if f == "env")]
    for group in group_configs(sweep, fields):
        if own := [done.scores[c] for c in group.configs if c in done.scores]:
            found[group.values] = np.concatenate(own)
    agents = list(dict.fromkeys(values[0] for values in found))
    tasks = list(dict.fromkeys(values[1:] for values in found))
    tasks = [t for t in tasks if all((a, *t) in found for a in agents)]
    if not tasks:
        return {}, done.what
    scores: dict[str, Any] = {a: [found[(a, *t)] for t in tasks] for a in agents}
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


class SweepSlice(NamedTuple):
    """Tables of some of a Sweep's configs; figures take it as they take a Sweep."""

    about: dict[str, Any]
    fields: list[str]
    table: Any
    evaluations: Any
    scores: Any


def split_by_env(sweep) -> dict[str, SweepSlice]:
    """Splits a comparison over several environments into one over agents for each environment."""
    parts = {}
    for (name,), configs in group_configs(sweep, ["env"]):
        tables = (
            t[t["config"].isin(configs)] for t in (sweep.table, sweep.evaluations, sweep.scores)
        )
        environments = {name: sweep.about["environments"][name]}
        about = {**sweep.about, "environments": environments}
        parts[name] = SweepSlice(about, [f for f in sweep.fields if f != "env"], *tables)
    return parts


def solved_threshold(sweep) -> float | None:
    """Return from which on the sweep's environment counts as solved; None if it is not always the
    same."""
    if any(f == "env" or f.startswith("env.") for f in sweep.fields):
        return None
    if sweep.about["kind"] == "comparison":
        (environment,) = sweep.about["environments"].values()
        return solved(environment)
    return solved(sweep.about["environment"])


class Curves(NamedTuple):
    """Learning curves of a sweep on one grid of environment steps."""

    steps: np.ndarray  # [points]
    returns: dict[
        int, np.ndarray
    ]  # config -> [seeds, points]; NaN before an episode ended, and after the end


def return_curves(sweep, window: int = 20, points: int = 60) -> Curves:
    """Interpolates returns over training, the mean of each run's last `window` episodes, to one
    grid of steps.

    A run that stopped at its target stays where it was; one that diverged counts, from its end on,
    as the worst value of the sweep.
    """
    table, ended = sweep.table, sweep.scores.set_index(["config", "seed"])["ended"]
    steps = np.linspace(0, table["env_steps"].max(), points + 1)[1:]
    returns, gone = {}, {}
    for config, own in table.groupby("config"):
        wide = own.pivot(index="env_steps", columns="seed")
        raw, counts = (wide[f"episode/{k}"].to_numpy(float).T for k in ("return", "count"))
        smooth = moving_mean(raw, np.nan_to_num(counts), window)
        how = [ended.get((config, seed), "running") for seed in wide["iteration"].columns]
        last = np.inf if {*how} <= {"target", "diverged"} else wide.index[-1] + steps[0]
        at = np.searchsorted(wide.index, steps, side="right") - 1
        known = (at >= 0) & (steps < last)
        returns[int(config)] = np.where(known, smooth[:, np.maximum(at, 0)], np.nan)
        learnt = wide["iteration"].notna().to_numpy()  # rows, seeds
        end = np.array([wide.index[rows].max() if rows.any() else 0 for rows in learnt.T])
        lost = np.array(how)[:, None] == "diverged"
        gone[int(config)] = lost & (steps > end[:, None]) & known
    every = np.concatenate([x.ravel() for x in returns.values()])
    worst = np.nanmin(every, initial=np.inf)
    for config, x in returns.items():
        returns[config] = np.where(gone[config], worst if np.isfinite(worst) else np.nan, x)
    return Curves(steps, returns)
