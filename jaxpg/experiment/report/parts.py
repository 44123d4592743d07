"""Parts that all sections of a report share: settings, commands, numbers in words."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.config import to_dict
from jaxpg.core.types import Agent
from jaxpg.envs import registry
from jaxpg.experiment.analysis import scores
from jaxpg.experiment.analysis.statistics import Estimate
from jaxpg.experiment.report import html, reproduce
from jaxpg.presets import GENERAL, find, preset

HEAD = "name", "agent", "environment", "env steps", "seeds", "result", "solved", "wall time"


class Section(NamedTuple):
    """Section of a report."""

    name: str
    rows: list[tuple]  # of the summary table, in the order of HEAD
    draw: Callable[[], list[str]]  # the HTML of what stands under the name


def settings_tables(
    name: str,
    agent: Agent | None,
    config: dict[str, Any],
    environment: dict[str, Any],
    varied: Sequence[str] = (),
) -> list[str]:
    """Tables of the settings that differ from preset and defaults, then of all. name, agent: of
    what has them; None if it is not here."""
    parts, env = [], environment["name"]
    if agent is not None:
        default, tuned = to_dict(agent.Config()), to_dict(preset(agent, env))
        of = find(agent, env).of
        has = of is not None
        column = "general profile" if of == GENERAL else f"preset for {env}"
        head = ["setting", "here", "default"] + [column] * has
        rows = [
            (
                k,
                _format_value(v),
                _format_value(default.get(k)),
                *[_format_value(tuned.get(k))] * has,
            )
            for k, v in config.items()
            if k not in varied and not v == default.get(k) == tuned.get(k)
        ]
        what = "the agent's defaults"
        what += {None: "", GENERAL: " or its general profile"}.get(of, " or its preset")
        caption = f"Settings of {name} that differ from {what}."
        none = html.paragraph(f"All settings are the defaults of {name}.")
        parts.append(html.table(caption, head, rows) if rows else none)
    if registry.is_registered(env):
        usual = registry.to_dict(registry.make(env))
        rows = [
            (k, _format_value(v), _format_value(usual.get(k)))
            for k, v in environment.items()
            if usual.get(k) != v
        ]
        caption = f"Parameters of {env} that differ from its defaults."
        none = html.paragraph(f"{env} has its default parameters.")
        parts.append(html.table(caption, ("parameter", "here", "default"), rows) if rows else none)
    for what, content in (("config", config), ("environment", environment)):
        rows = [(k, _format_value(v)) for k, v in content.items()]
        whole = html.table(f"The whole {what}.", ("name", "value"), rows)
        parts.append(html.folded(f"The whole {what}", whole))
    return parts


def origin_section(about: dict[str, Any], name: str) -> list[str]:
    """Section with the commands that give a result again, and the versions it was made with."""
    parts = [html.heading(3, "How to reproduce it")]
    if command := reproduce.shell_command(about, f"{name}-again"):
        parts.append(html.code(command))
        text = "On the same versions and devices the numbers are the same to the last digit."
        parts.append(html.paragraph(text, "faint"))
    else:
        text = "Its agent or environment is not one of jaxpg's, and no name gives it as it was, or "
        text += "a preset has changed since: "
        parts.append(html.paragraph(text + "the program that made it is needed."))
    if made := about.get("made_with"):
        said = ", ".join(f"{part} {version}" for part, version in made.items())
        parts.append(html.paragraph(f"Made with {said}."))
    return parts


def format_estimate(estimate: Estimate) -> str:
    """Formats an estimate and its interval."""
    value, low, high = estimate
    if np.isnan(value):
        return "-"
    return f"{value:.4g}" + ("" if np.isnan(low) else f" [{low:.4g}, {high:.4g}]")


def format_solved(score: np.ndarray, threshold: float | None) -> str:
    """Formats how many scores reach a threshold."""
    if threshold is None:
        return "no threshold"
    return f"{int((score >= threshold).sum())} of {len(score)} (≥ {threshold:g})"


def _format_value(value: Any) -> str:
    return "-" if value is None else scores.text(value)


def format_duration(seconds: float) -> str:
    """Formats seconds as seconds, minutes or hours."""
    if np.isnan(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{minutes} min {seconds % 60:.0f} s" if hours < 1 else f"{hours} h {minutes % 60} min"


def join_names(names: Sequence[str]) -> str:
    return ", ".join(names)
