"""Lines of docs/results.md and of the README that follow from what was measured; tests/tables.py
writes them."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import learning_rows
import numpy as np
from learning_rows import Row

from jaxpg.experiment.analysis.statistics import Estimate
from jaxpg.experiment.text import format_count

LEVELS = "▁▂▃▅▇"
LETTERS = 10  # of a curve
Measured = Mapping[str, Any]


def number(x: float) -> str:
    """A return in four digits."""
    return "-" if math.isnan(x) else f"{x:.4g}"


def interval(x: Estimate) -> str:
    """A mean and its interval, if that has a width."""
    value, low, high = map(number, x)
    return value if low == high else f"{value} ({low} .. {high})"


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """Draws a curve as letters, from a low return to a high one; a space where there is none.

    >>> sparkline([0, 2, 4, None, 9], 0, 8)
    '▁▂▃ ▇'
    """
    chosen = np.unique(np.linspace(0, len(values) - 1, LETTERS).round().astype(int))
    letters = []
    for x in (values[i] for i in chosen):
        if x is None:
            letters.append(" ")
            continue
        share = (x - low) / (high - low) if high > low else 1.0
        letters.append(LEVELS[int(np.clip(share, 0, 1) * (len(LEVELS) - 1) + 0.5)])
    return "".join(letters)


def rows_of(envs: Sequence[str]) -> list[Row]:
    return [row for row in learning_rows.all_rows().values() if row.env in envs]


def draw_curve(row: Row, measured: Measured) -> str:
    """Draws the return on the way of a row, from that of random actions to the bound, or to
    the best that was measured in the environment."""
    curve = measured["rows"][row.name].get("curve") or {}
    if not (values := curve.get("returns")):
        return ""
    known = [x for x in values if x is not None]
    chance, bound = measured["random"].get(row.env), learning_rows.find_bound(row.env)
    best = [mean_of(x, measured) for x in rows_of([row.env]) if x.name in measured["rows"]]
    low = min(known, default=0.0) if chance is None else chance
    return sparkline(values, low, bound[0] if bound else float(np.nanmax([low, *best])))


def mean_of(row: Row, measured: Measured) -> float:
    return learning_rows.judge(row, measured).mean.value


def goal(row: Row, short: bool = False) -> str:
    """What a row has to reach, in words: its reference, and bars of jaxpg's own. short: these only
    where there is no reference."""
    words = {
        "mean": "mean",
        "worst": "worst seed",
        "fifth": "four fifths",
        "length": "steps at most",
    }
    parts = []
    for value, steps, source in learning_rows.references(row)[:1]:
        parts.append(f"{value:g} ({source}" + (f", {format_count(steps)})" if steps else ")"))
    if not (short and parts):
        parts += [f"{words[of]} {value:g}" for of, value in learning_rows.bars(row)]
    return ", ".join(parts)


def length_of(one: Mapping[str, Any]) -> str:
    """The mean length of a measured row's episodes, in words; "" where it was not measured."""
    return f" in {number(learning_rows.mean_length(one).value)} steps" * ("lengths" in one)


def verdict_of(row: Row, measured: Measured) -> str:
    found = learning_rows.judge(row, measured)
    if found.cannot:
        return "cannot"
    if found.held and found.later:
        return "held, later"
    return {True: "held", False: "short", None: ""}[found.held]


def group_rows(group: str, measured: Measured) -> list[str]:
    """A row of the page's table for everything that is measured in a group of environments."""
    lines, before = [], ""
    for row in rows_of(learning_rows.tables()["groups"][group]):
        if (one := measured["rows"].get(row.name)) is None:
            continue
        mean, worst = learning_rows.judge(row, measured)[:2]
        bound, seeds = learning_rows.find_bound(row.env), len(one["greedy"])
        settings = one["settings"] + ", before" * learning_rows.has_changed(row, one)
        settings += f", {seeds} seeds" * (seeds < learning_rows.SEEDS)
        cells = [
            row.env * (row.env != before), f"`{row.agent}`", settings,
            format_count(one["env_steps"]), interval(mean) + length_of(one), number(worst),
            draw_curve(row, measured), goal(row), f"{bound[0]:g}" if bound else "",
            verdict_of(row, measured),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
        before = row.env
    return lines


def summary_lines(measured: Measured) -> list[str]:
    """How many rows are measured, how many hold what they have to, and which do not."""
    rows = list(learning_rows.all_rows().values())
    known = [row for row in rows if row.name in measured["rows"]]
    said = {row: verdict_of(row, measured) for row in known}
    short = [f"{row.agent} on {row.env}" for row in known if said[row] == "short"]
    later = [f"{row.agent} on {row.env}" for row in known if said[row] == "held, later"]
    held = sum(x == "held" for x in said.values())
    every = held + len(later) + len(short)
    lines = [
        f"- {len(known)} of {len(rows)} rows are measured.",
        f"- {held} of the {every} that have something to reach, and can, hold it.",
    ]
    lines += [f"- In more steps than the reference: {', '.join(later)}."] if later else []
    return lines + ([f"- Short of it: {', '.join(short)}."] if short else [])


def short_lines(measured: Measured) -> list[str]:
    """Rows that fall short: what they reach, of what, and what else was tried."""
    lines = []
    for row in learning_rows.all_rows().values():
        if row.name in measured["rows"] and verdict_of(row, measured) == "short":
            reached = number(mean_of(row, measured)) + length_of(measured["rows"][row.name])
            reached = f"`{row.agent}` on {row.env}, {reached} of {goal(row)}"
            tried = learning_rows.tell_tries(row)
            text = f"- {reached}" + (f": {tried}." if tried else ".")
            lines += textwrap.wrap(text, 130, subsequent_indent="  ", break_on_hyphens=False)
    return lines or ["- none."]


def failure_lines(measured: Measured) -> list[str]:
    """Which rows have to fall short, and why."""
    lines: dict[str, list[str]] = {}
    for row in learning_rows.all_rows().values():
        one = measured["rows"].get(row.name) or learning_rows.describe_settings(row)
        if why := learning_rows.explain_failure(row, one["config"]):
            lines.setdefault(f"{row.env}: {why}", []).append(f"`{row.agent}`")
    return [f"- {', '.join(names)} on {about}." for about, names in lines.items()]


def missing_lines(measured: Measured) -> list[str]:
    """Rows that are not measured, by environment."""
    found: dict[str, list[str]] = {}
    for row in learning_rows.all_rows().values():
        if row.name not in measured["rows"]:
            found.setdefault(row.env, []).append(f"`{row.agent}`")
    alike: dict[str, list[str]] = {}
    for env, agents in found.items():
        alike.setdefault(", ".join(agents), []).append(env)
    lines = []
    for agents, envs in alike.items():
        text = f"- {agents}: {', '.join(envs)}."
        lines += textwrap.wrap(text, 110, subsequent_indent="  ", break_on_hyphens=False)
    return lines or ["- none."]


def rank(row: Row, measured: Measured) -> tuple[float, int]:
    """Rank of an agent in an environment: what it reaches, as is shown, then in how few steps."""
    mean = mean_of(row, measured)
    steps = measured["rows"][row.name]["env_steps"]
    return (-math.inf if math.isnan(mean) else float(number(mean))), -steps


def glance_rows(measured: Measured) -> list[str]:
    """A row an environment: what PPO reaches, what it has to, and the best agent."""
    lines = []
    for env in dict.fromkeys(row.env for row in learning_rows.all_rows().values()):
        known = [row for row in rows_of([env]) if row.name in measured["rows"]]
        if not known:
            continue
        ppo = Row("ppo", env)
        one = number(mean_of(ppo, measured)) if ppo in known else ""
        best = max(known, key=lambda row: rank(row, measured))
        bound = learning_rows.find_bound(env)
        verdict = verdict_of(ppo, measured) if ppo in known else ""
        several = len({row.agent for row in known}) > 1
        most = f"`{best.agent}` {number(mean_of(best, measured))}" if several else ""
        limit = f"{bound[0]:g}" if bound else ""
        cells = [env, one, goal(ppo, short=True), verdict, most, limit]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def held_out_rows(agent: str, profiles: Mapping[str, Any]) -> list[str]:
    """A row for each environment that the search of a profile left out, from profiles.json."""
    found = profiles.get(agent, {}).get("held_out", {})
    lines = []
    for env, one in found.items():
        means, chance = one["means"], one["random"]
        preset, defaults = (number(means[x]) if x in means else "" for x in ("preset", "defaults"))
        best = max(x for name, x in means.items() if not name.startswith("profile"))
        for name, mean in means.items():
            if not name.startswith("profile"):
                continue
            way = f"{100 * (mean - chance) / (best - chance):.0f} %"
            label, steps = env + name.removeprefix("profile"), format_count(one["total_steps"])
            cells = [label, steps, number(chance), number(mean), preset, defaults, way]
            lines.append("| " + " | ".join(cells) + " |")
    return lines
