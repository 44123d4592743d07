"""Rows of the table of results: what is measured, for how many steps, and what it has to reach.

rows.toml        environments by group, agents, environment steps
references.toml  what others published, what is known exactly, bars of jaxpg's own
learning.json    what was measured: `learning.py` writes it, a line a row
"""

import functools
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxpg
from jaxpg import agents, presets
from jaxpg.core.config import to_dict, unknown
from jaxpg.core.env import Env
from jaxpg.experiment.analysis import statistics
from jaxpg.experiment.analysis.statistics import Estimate

HERE = Path(__file__).parent
MEASURED = HERE / "learning.json"
SEEDS = 10
ABOUT = 1.03  # times the steps of a reference are as many: a run ends with an iteration
SETTINGS = {presets.GENERAL: "general profile", None: "defaults"}  # else the preset


class Row(NamedTuple):
    """Agent in an environment, "NAME" or "NAME,parameter=value"."""

    agent: str
    env: str

    @property
    def name(self) -> str:
        return f"{self.agent}/{self.env}"


class Reference(NamedTuple):
    """Return that somebody published, or that is known exactly."""

    value: float
    env_steps: int | None
    source: str


class Verdict(NamedTuple):
    """What a measured row comes to."""

    mean: Estimate  # over seeds, with its 95 % interval
    worst: float
    held: bool | None  # every bar that there is; None if there is none
    later: bool  # it took more steps than its reference
    cannot: str  # why it has to fall short; "" if it does not


@functools.cache
def tables() -> dict[str, Any]:
    """Content of rows.toml."""
    return tomllib.loads((HERE / "rows.toml").read_text())


@functools.cache
def aims() -> dict[str, Any]:
    """Content of references.toml."""
    return tomllib.loads((HERE / "references.toml").read_text())


def make_env(label: str) -> Env:
    """The environment of a row."""
    name, *params = label.split(",")
    given = dict(text.split("=") for text in params)
    return jaxpg.make(name, **{key: json.loads(value) for key, value in given.items()})


@functools.cache
def all_rows() -> dict[str, Row]:
    """All rows by name, in the order of the page: by environment, then as `agents.NAMES` has the
    agents."""
    found = []
    for env in (x for group in tables()["groups"].values() for x in group):
        published = {x["agent"] for x in aims().get(env, {}).get("references", [])}
        kind = "discrete" if make_env(env).discrete else "continuous"
        for agent in agents.NAMES:
            has_row = kind in tables()["agents"].get(agent, ()) or agent in published
            if has_row or env in presets.table(agent):
                found.append(Row(agent, env))
    return {row.name: row for row in found}


def find_rows(names: list[str]) -> list[Row]:
    """Finds rows by name. Raises ValueError for an unknown one, with the nearest."""
    for name in names:
        if name not in all_rows():
            raise unknown("row", name, all_rows())
    return [all_rows()[name] for name in dict.fromkeys(names)]


def find_preset(row: Row) -> presets.Preset:
    return presets.find(row.agent, row.env.partition(",")[0])


def total_steps(row: Row) -> int:
    """Environment steps of a row: its preset's, else those of rows.toml. Raises ValueError where
    neither says how many."""
    if (own := find_preset(row).settings.get("total_steps")) and find_preset(row).of == row.env:
        return own
    asked = tables()["total_steps"].get(row.agent, {})
    if (steps := asked.get(row.env, asked.get("*"))) is None:
        allowed = f"total_steps in its preset, or [total_steps.{row.agent}] in rows.toml"
        raise ValueError(f"{row.name} has no number of steps: allowed is {allowed}")
    return steps


def make_config(row: Row) -> Any:
    return jaxpg.preset(row.agent, row.env.partition(",")[0])


def describe_settings(row: Row) -> dict[str, Any]:
    """Describes the settings that a row has now: whose they are, and the fields that differ from
    the agent's defaults."""
    own, usual = to_dict(make_config(row)), to_dict(agents.get(row.agent).Config())
    fields = {name: x for name, x in own.items() if x != usual[name]}
    of = find_preset(row).of
    return {"settings": SETTINGS.get(of, "preset"), "config": fields}


def load(path: Path | None = None) -> dict[str, Any]:
    """Reads what was measured: {"rows", "random", "versions"}. Raises ValueError, with the path,
    for a file that is not of that kind."""
    path = path or MEASURED
    empty: dict[str, Any] = {"rows": {}, "random": {}, "versions": {}}
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path}: {error}: allowed is what `save` writes") from error
    if not (isinstance(found, dict) and all(isinstance(x, dict) for x in found.values())):
        raise ValueError(f"{path}: allowed is a table each of {', '.join(empty)}")
    return empty | found


def save(found: Mapping[str, Any], path: Path | None = None) -> None:
    """Writes what was measured, a line a row, in the order of the page."""
    path, order = path or MEASURED, list(all_rows())
    envs = list(dict.fromkeys(row.env for row in all_rows().values()))
    parts = []
    for part, names in {"rows": order, "random": envs, "versions": []}.items():
        values = found[part]
        known = [name for name in names if name in values]
        known += sorted(values.keys() - set(known))
        lines = [f"  {json.dumps(name)}: {json.dumps(values[name])}" for name in known]
        parts.append(f' "{part}": {{' + ",".join(f"\n{line}" for line in lines) + "\n }")
    draft = path.with_suffix(".new")
    draft.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    draft.replace(path)


def is_missing(row: Row, measured: Mapping[str, Any], seeds: int = SEEDS) -> bool:
    """True for a row that is not measured, with too few seeds, with settings or steps that it no
    longer has, or without lengths that have a bar."""
    one = measured["rows"].get(row.name)
    if one is None or has_changed(row, one) or lacks_lengths(row, one):
        return True
    return len(one["greedy"]) < seeds


def has_changed(row: Row, one: Mapping[str, Any]) -> bool:
    """True if the settings of a row are not those with which it was measured."""
    now = describe_settings(row) | {"total_steps": total_steps(row)}
    return any(one[name] != now[name] for name in now)


def lacks_lengths(row: Row, one: Mapping[str, Any]) -> bool:
    """True if lengths of episodes have a bar, and were not measured."""
    return has_length_bar(row) and "lengths" not in one


# What a row has to reach.


def references(row: Row) -> list[Reference]:
    """References of a row's agent, the one that is its bar first."""
    given = aims().get(row.env, {}).get("references", [])
    own = [x for x in given if x["agent"] == row.agent]
    return [Reference(x["value"], x.get("env_steps"), x["source"]) for x in own]


def bars(row: Row) -> list[tuple[str, float]]:
    """Bars of jaxpg's own: (of what, value)."""
    given = aims().get(row.env, {}).get("bars", [])
    return [(x["of"], x["value"]) for x in given if x["agent"] == row.agent]


def has_length_bar(row: Row) -> bool:
    return any(of == "length" for of, _ in bars(row))


def find_bound(env: str) -> tuple[float, str] | None:
    """The greatest return that there is, and who says so."""
    bound = aims().get(env, {}).get("bound")
    return bound and (bound["value"], bound["source"])


def counted_returns(env: str) -> str:
    """ "greedy" or "sampled": the returns that count in an environment."""
    return aims().get(env, {}).get("returns", "greedy")


def explain_failure(row: Row, config: Mapping[str, Any]) -> str:
    """Why a row has to fall short with its config, and what does not; "" if it need not."""
    for case in aims().get(row.env, {}).get("must_fail", []):
        field = config.get(case.get("unless", ""), "none")
        if row.agent in case["agents"] and field in (None, "none"):
            return case["why"] + (f"; {case['but']} can" if "but" in case else "")
    return ""


def tell_tries(row: Row) -> str:
    """What else was tried of a row that falls short; "" if nothing is told."""
    found = aims().get(row.env, {}).get("tried", [])
    return next((x["what"] for x in found if x["agent"] == row.agent), "")


def seed_returns(row: Row, measured: Mapping[str, Any]) -> np.ndarray:
    """Returns of the seeds [seeds] that count; of one that diverged, that of random actions, or of
    the worst."""
    one = measured["rows"][row.name][counted_returns(row.env)]
    returns = np.array([np.nan if x is None else x for x in one], float)
    worst = np.nanmin(returns) if np.isfinite(returns).any() else np.nan
    return np.where(np.isnan(returns), measured["random"].get(row.env, worst), returns)


def judge(row: Row, measured: Mapping[str, Any]) -> Verdict:
    """Judges a row that is measured."""
    returns, one = seed_returns(row, measured), measured["rows"][row.name]
    if not np.isfinite(returns).all():
        return Verdict(Estimate(np.nan, np.nan, np.nan), np.nan, False, False, "")
    middle = float(returns.mean())
    low, high = statistics.interval(statistics.mean, returns) if len(returns) > 1 else (middle,) * 2
    value = {"mean": middle, "worst": returns.min(), "fifth": np.sort(returns)[len(returns) // 5]}
    held = [value[of] >= least for of, least in bars(row) if of != "length"]
    held += [mean_length(one).low <= most for of, most in bars(row) if of == "length"]
    held += [max(middle, high) >= x.value for x in references(row)[:1]]
    limits = [x.env_steps for x in references(row)[:1] if x.env_steps]
    later = any(one["env_steps"] > ABOUT * limit for limit in limits)
    cannot = "" if held and all(held) else explain_failure(row, one["config"])
    return Verdict(
        Estimate(middle, low, high), float(returns.min()), all(held) if held else None, later,
        cannot,
    )  # fmt: skip


def mean_length(one: Mapping[str, Any]) -> Estimate:
    """The mean length of a measured row's episodes, over seeds; NaN where it was not measured."""
    lengths = np.array(one.get("lengths", [np.nan]), float)
    low, high = statistics.interval(statistics.mean, lengths) if len(lengths) > 1 else (np.nan,) * 2
    return Estimate(float(lengths.mean()), low, high)


# What the table costs.


def estimate_seconds(row: Row, measured: Mapping[str, Any], seeds: int = SEEDS) -> float:
    """Estimates how long a row takes: as it did, or by the pace of its agent, slowed down as PPO is
    in this environment, or in those of its group. NaN where nothing is known of the agent."""
    rows = measured["rows"]
    if (one := rows.get(row.name)) and one["total_steps"] == total_steps(row):
        return one["seconds"] * seeds / len(one["greedy"])
    own = [pace for name, pace in paces(measured).items() if name.partition("/")[0] == row.agent]
    return total_steps(row) * seeds * slowness(row.env, measured) / np.median(own or [np.nan])


def paces(measured: Mapping[str, Any]) -> dict[str, float]:
    """Environment steps a second of all seeds, of every row that is measured, as it would be on an
    environment as fast as CartPole."""
    return {
        name: one["env_steps"] * len(one["greedy"]) / one["seconds"]
        * slowness(name.partition("/")[2], measured)
        for name, one in measured["rows"].items()
    }  # fmt: skip


def slowness(env: str, measured: Mapping[str, Any]) -> float:
    """How many times longer PPO takes for a step in an environment than on CartPole: as measured
    there, or in the middle of its group; 1 where neither is known."""
    rows = measured["rows"]

    def seconds(env: str) -> float | None:
        one = rows.get(f"ppo/{env}")
        return one and one["seconds"] / one["env_steps"] / len(one["greedy"])

    if (usual := seconds("CartPole-v1")) is None:
        return 1.0
    group = next((x for x in tables()["groups"].values() if env in x), [])  # a row of before
    known = [x for x in ([seconds(env)] if seconds(env) else map(seconds, group)) if x]
    return float(np.median(known)) / usual if known else 1.0
