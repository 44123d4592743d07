"""Preset files of one's own, such as `jaxpg tune` writes: in the form of those here, and with the
name of the agent.

    agent = "ppo"

    ["MountainCar-v0"]
    total_steps = 240_000
    config = { normalize_obs = true, learning_rate = 1e-3 }

    ["*"]
    config = { normalize_obs = true }
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxpg.core.checks import require_integer, require_path
from jaxpg.core.config import from_dict, label, static_fields, tuple_fields, unknown
from jaxpg.core.types import Agent

ENTRIES = ("total_steps", "config", "learns")  # of a table; the last is of jaxpg's own files
GENERAL = "*"  # the table of every environment that has none of its own


class Preset(NamedTuple):
    """Settings that apply to an agent in an environment."""

    settings: dict[str, Any]  # {total_steps, config}, of which each may be missing
    of: str | None  # the environment; GENERAL for the general profile, None for the defaults


def choose(tables: Mapping[str, Any], env: str) -> Preset:
    """Chooses the table of an environment, or else the general one."""
    of = next((name for name in (env, GENERAL) if name in tables), None)
    return Preset({} if of is None else tables[of], of)


def read_file(path: str | Path, agent: Agent, env: str) -> Preset:
    """Reads the settings for an environment, of its own table or of the general one, and judges
    them.

    A file without `agent` is anybody's. What its config names is not imported unless it is trusted,
    see core/names.py. Raises ValueError, with the path, for a file that is not there or no TOML, of
    another agent, without either table, with an unknown entry or field, or a value that is not
    allowed.
    """
    require_path("preset", path)
    if not Path(path).is_file():
        raise ValueError(f"preset={str(path)!r}: allowed is a TOML file that is there")
    try:
        return _find_table(tomllib.loads(Path(path).read_text("utf-8-sig")), agent, env)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}: allowed is TOML") from error
    except ValueError as error:
        raise type(error)(f"{path}: {error}") from error


def _find_table(found: dict[str, Any], agent: Agent, env: str) -> Preset:
    """The table for an environment; see `read_file`."""
    own = found.pop("agent", agent.name)
    if own != agent.name:
        raise ValueError(f"agent={own!r}: allowed is {agent.name!r}, which it is read for")
    for name, value in found.items():
        if not isinstance(value, dict):
            raise ValueError(f"{name}={value!r}: allowed is agent, and a table an environment")
    chosen = table, of = choose(found, env)
    if of is None:
        others = f", only those of {', '.join(found)}" if found else ""
        allowed = f"{json.dumps([env])} and none {json.dumps([GENERAL])}"
        raise ValueError(f"has no table {allowed}{others}")
    for name in table:
        if name not in ENTRIES:
            raise unknown(f"entry of {json.dumps([of])}", name, ENTRIES)
    if "total_steps" in table:
        require_integer("total_steps", table["total_steps"], 1)
    config = table.get("config", {})
    if not isinstance(config, dict):
        raise ValueError(f"config={config!r}: allowed is a table of fields")
    if "total_steps" in config:  # the run fills it in
        raise ValueError(
            f"config total_steps={config['total_steps']!r}: allowed is total_steps beside config"
        )
    from_dict(agent.Config, config)
    several = static_fields(agent.Config) | tuple_fields(agent.Config)
    for name, value in config.items():
        if isinstance(value, list) and name not in several:  # of lanes, and a preset is of one
            raise ValueError(f"{label(agent.Config)} {name}={value!r}: allowed is one number")
    return chosen


def format_file(
    agent: str, env: str, total_steps: int, config: Mapping[str, Any], about: list[str]
) -> str:
    """Formats a file of one preset. config: fields that differ from the defaults, as plain JSON
    values; None, which TOML has not, is refused. about: lines of a comment."""
    if lost := [name for name, value in config.items() if value is None]:
        raise ValueError(f"{lost[0]}=None: allowed is what TOML can say, and None it cannot")
    fields = ", ".join(f"{name} = {_value(x)}" for name, x in config.items())
    lines = [*(f"# {line}" for line in about), f"agent = {_value(agent)}", ""]
    lines += [f"[{_value(env)}]", f"total_steps = {total_steps:_}", f"config = {{ {fields} }}"]
    return "\n".join(lines) + "\n"


def _value(x: Any) -> str:
    """A plain JSON value as TOML has it."""
    if isinstance(x, dict):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in x.items()) + " }"
    if isinstance(x, list):
        return f"[{', '.join(map(_value, x))}]"
    if isinstance(x, bool):
        return str(x).lower()
    if isinstance(x, str):
        # As JSON, but for pairs of escapes, which TOML has not, and for DEL, which it has escaped.
        return json.dumps(x, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(x)
