"""Tuned settings per agent and environment, one TOML file an agent.

A table `["CartPole-v1"]` holds `total_steps` and `config`, the fields that differ from the agent's
defaults. The table `["*"]` is the agent's general profile: settings that were found over many
environments at once, used where an environment has no table of its own. Some tables have `learns`,
a bar of tests/test_learning.py: the mean greedy return, `least`, that the first `total_steps` steps
have to reach over `seeds` seeds; a general profile has a list of them, each with its `env`. (A
random policy gets about 22 on CartPole and -1200 on Pendulum; on the cliff the greedy policy earns
-13 at its edge, -17 two rows up.) What each preset reached is measured by `benchmarks/learning.py`,
in benchmarks/learning.json.
"""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, overload

from jaxpg import agents
from jaxpg.core.checks import show
from jaxpg.core.config import from_dict, replace
from jaxpg.core.env import Env
from jaxpg.core.types import Agent, C
from jaxpg.envs import registry
from jaxpg.presets.file import GENERAL, Preset, choose, read_file

DEFAULTS = "defaults"  # in the place of a file: no preset, and no general profile


def table(agent: str | Agent) -> dict[str, dict[str, Any]]:
    """The presets of an agent, without its general profile: environment name -> {total_steps,
    config}; {} of an agent that is not jaxpg's, whatever its name."""
    return {name: settings for name, settings in _read(agent).items() if name != GENERAL}


def _read(agent: str | Agent) -> dict[str, dict[str, Any]]:
    """All tables of an agent's file."""
    name = agent if isinstance(agent, str) else agent.name
    if isinstance(agent, Agent) and (name not in agents.NAMES or agents.get(name) != agent):
        return {}
    file = resources.files(__name__) / f"{name}.toml"
    return tomllib.loads(file.read_text()) if file.is_file() else {}


def find(agent: str | Agent, env: str, file: str | Path | None = None, /) -> Preset:
    """Finds the settings that apply to an agent in an environment, and whose they are: those of the
    environment, else the agent's general profile, else none.

    file: one of your own in the place of jaxpg's, or "defaults" for none. Raises ValueError for an
    unknown agent, for an environment that is no name, and as `presets.file.read_file`.

    >>> find("ppo", "CartPole-v1").of, find("ppo", "Catch-bsuite").of, find("es", "Catch-bsuite").of
    ('CartPole-v1', '*', None)
    """
    agent = agents.find(agent, True) if isinstance(agent, str) else agent
    if not isinstance(agent, Agent):
        raise ValueError(f"agent={show(agent)}: allowed is an Agent, or its name")
    if not isinstance(env, str):  # of an Env, no table would be found
        raise ValueError(f"env={show(env)}: allowed is the name of an environment")
    if file is None:
        return choose(_read(agent), env)
    return Preset({}, None) if str(file) == DEFAULTS else read_file(file, agent, env)


@overload
def preset(agent: Agent[C], env: str, file: str | Path | None = None, /, **fields: Any) -> C: ...


@overload
def preset(agent: str, env: str, file: str | Path | None = None, /, **fields: Any) -> Any: ...


def preset(agent: str | Agent, env: str, file: str | Path | None = None, /, **fields: Any) -> Any:
    """The agent's config tuned for an environment; if there is none its general profile, or else
    its defaults, which are `agent.Config()`.

    file: one of your own, such as `jaxpg tune` writes, in the place of jaxpg's; or "defaults".
    fields: override it. Raises ValueError for an unknown agent or field, for an environment that is
    no name, and as `presets.file.read_file`.

    >>> jaxpg.preset("ppo", "CartPole-v1", num_envs=16).num_envs
    16
    """
    agent = agents.find(agent, True) if isinstance(agent, str) else agent
    found = find(agent, env, file)
    return replace(from_dict(agent.Config, found.settings.get("config", {})), **fields)


def find_objects(agent: Any, cfg: Any, env: Any) -> tuple[Agent[Any], Any, Env]:
    """The agent and the environment that names stand for, also "module:Object", and the preset in
    the place of no config; what is no name comes back as it is. Raises ValueError for an unknown
    name.

    For what runs experiments. Pure functions, `train` and `evaluate`, take objects alone: theirs
    are arguments of compiled programs.
    """
    agent = agents.find(agent, True) if isinstance(agent, str) else agent
    env = registry.find(env, True) if isinstance(env, str) else env
    if cfg is None and isinstance(agent, Agent) and isinstance(env, Env):
        cfg = preset(agent, env.name)
    return agent, cfg, env
