"""`jaxpg list`: agents, environments, suites and presets."""

import sys
from typing import TYPE_CHECKING

from jaxpg.cli import common
from jaxpg.cli.about.usage import wrap

if TYPE_CHECKING:
    from jaxpg.core.types import Agent

PROBES = {"discrete": "CartPole-v1", "continuous": "Pendulum-v1"}  # an environment of each kind
GAME = "game"
NAME, KIND = 21, 12  # columns of a name, and of the kinds of actions beside it


def overview(suite: str | None = None) -> int:
    """Lists the agents and environments, which go together, and which have presets.

    Args:
        suite: list the environments of this suite instead, such as brax.
    """
    from jaxpg import agents, presets
    from jaxpg.envs import registry, suites

    if suite is not None:
        common.tell(*suites.names(suite))
        return 0
    common.tell("AGENTS  what they are, and the actions that they choose", "")
    tuned: dict[str, list[str]] = {}
    general, lost = [], []
    for name in agents.names():
        try:
            agent = agents.get(name)
        except ValueError as error:  # of an installed package that does not work
            lost.append(f"{name}: {error}")
            continue
        where = agent.step.__module__
        if where.startswith("jaxpg.loops."):  # a step that several share; each has its own config
            where = agent.Config.__module__
        about = (sys.modules[where].__doc__ or agent.name).splitlines()[0]
        _tell(wrap(about, NAME + KIND, f"{name:<{NAME}}{_actions(agent)}"))
        for env_name in presets.table(agent):
            tuned.setdefault(env_name, []).append(agent.name)
        if presets.find(agent, presets.GENERAL).of is not None:
            general.append(agent.name)
    common.tell("", "PRESETS  environments for which agents are tuned", "")
    for env_name, names in tuned.items():
        _tell(wrap(", ".join(names), NAME + KIND, env_name))
    if general:
        _tell(wrap(", ".join(general), NAME + KIND, "general profile, elsewhere"))
    kinds: dict[str, list[str]] = {kind: [] for kind in (*PROBES, GAME)}
    for name in registry.names():
        try:
            kinds[_kind_of(name)].append(name)
        except ValueError as error:
            lost.append(f"{name}: {error}")
    for kind, names in kinds.items():
        what = "GAMES  several players" if kind == GAME else f"ENVIRONMENTS  {kind} actions"
        common.tell("", f"{what} ({len(names)})", "")
        _tell(wrap(", ".join(names)))
    common.tell("", "SUITES  their environments: jaxpg list --suite NAME", "")
    for name in suites.SUITES:
        missing = "" if suites.is_installed(name) else f"pip install 'jaxpg[{name}]'"
        common.tell(f"  {name:<{NAME}}{missing or 'installed'}")
    for line in lost:
        common.say(f"warning: {line}")
    return 0


def _tell(text: str) -> None:
    common.tell(*text.splitlines())


def _actions(agent: "Agent") -> str:
    """The kinds of actions that an agent chooses, as one word."""
    from jaxpg import presets

    kinds = [kind for kind, probe in PROBES.items() if _fits(agent, probe)]
    if not kinds:  # a table fits few environments
        kinds = sorted({_kind_of(env_name) for env_name in presets.table(agent)})
    return "both" if len(kinds) == len(PROBES) else ", ".join(kinds)


def _kind_of(env_name: str) -> str:
    from jaxpg.envs import registry

    env = registry.make(env_name)
    if hasattr(env.core, "players"):
        return GAME
    return "discrete" if env.discrete else "continuous"


def _fits(agent: "Agent", env_name: str) -> bool:
    """True if the agent can be initialised in the environment, with its preset."""
    import jax

    from jaxpg import presets
    from jaxpg.envs import registry

    try:
        env, cfg = registry.make(env_name), presets.preset(agent, env_name)
        jax.eval_shape(lambda key: agent.init(cfg, env, key), jax.random.key(0))
    except ValueError:
        return False
    return True
