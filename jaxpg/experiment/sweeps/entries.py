"""Entries of a comparison: its agents and environments, what they are called in its tables, and how
its folder finds them again.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from jaxpg import agents, presets
from jaxpg.core.checks import require_env, show
from jaxpg.core.config import to_dict, updated
from jaxpg.core.env import Env
from jaxpg.core.names import UntrustedError
from jaxpg.core.train import require_agent
from jaxpg.core.types import Agent
from jaxpg.envs import registry
from jaxpg.envs.own import name_of_core
from jaxpg.experiment.files import SWEEP
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.run import checkpoint, provenance
from jaxpg.experiment.text import printable

AgentLike: TypeAlias = str | Agent | tuple[str | Agent, Any]  # with a config, or fields of one
EnvLike: TypeAlias = str | Env
Agents: TypeAlias = Sequence[AgentLike] | Mapping[str, AgentLike]
Envs: TypeAlias = Sequence[EnvLike] | Mapping[str, EnvLike]


class AgentEntry(NamedTuple):
    """Agent of a comparison."""

    agent: Agent
    given: Any  # a config, fields of one, or None for the preset
    name: str | None  # by which it is found again; None if no name does that

    def config(self, env: Env) -> Any:
        """The config for an environment: what was given, over the preset if that are fields, as a
        point of a sweep has them."""
        if self.given is not None and not isinstance(self.given, Mapping):
            return self.given
        return updated(presets.preset(self.agent, env.name), dict(self.given or {}), trust=True)


class EnvEntry(NamedTuple):
    """Environment of a comparison."""

    env: Env
    name: str | None  # of what `make` has not made; None if no name finds that again

    @property
    def told(self) -> dict[str, Any]:
        """Description of the environment for a record."""
        return checkpoint.describe_env(self.env)


def list_agents(given: Agents, env: Env) -> dict[str, AgentEntry]:
    """Finds the agents, by the labels that tables have. env: whose presets tell apart what has one
    name. Raises ValueError for what is no agent, and for labels that are not unique."""
    labels, several = _split("agents", given)
    entries = [_agent_entry(one) for one in several]
    if labels is None:
        names = [_label_of(one, entry) for one, entry in zip(several, entries, strict=True)]
        labels = _tell_apart("agents", names, [_fields_of(entry, env) for entry in entries])
    return dict(zip(labels, entries, strict=True))


def list_envs(given: Envs) -> dict[str, EnvEntry]:
    """Finds the environments, by the labels that tables have. Raises as `list_agents`."""
    labels, several = _split("envs", given)
    entries = [_env_entry(one) for one in several]
    if labels is None:
        names = [x if isinstance(x, str) else x.name for x in several]
        labels = _tell_apart("envs", names, [_params_of(entry.env) for entry in entries])
    return dict(zip(labels, entries, strict=True))


def _split(what: str, given: Any) -> tuple[list[str] | None, list]:
    """Labels, if they are given, and what they stand for."""
    if isinstance(given, Mapping):
        for label in given:
            if not (isinstance(label, str) and label.strip() == label and label.isprintable()):
                raise ValueError(f"{what}: label {show(label)}: allowed is a text in one line")
        return list(given), list(given.values())
    if isinstance(given, (str, Agent)) or not np.iterable(given):
        raise ValueError(f"{what}={show(given)}: allowed is a list of {what}, or a dict by labels")
    return None, list(given)


def _agent_entry(given: Any) -> AgentEntry:
    """Finds an agent by its name, or takes it; of a pair the second is a config, or fields."""
    pair: Any = given if isinstance(given, tuple) and not isinstance(given, Agent) else None
    if pair is not None and len(pair) != 2:
        raise ValueError(f"agent={show(given)}: allowed is a pair, the agent and its config")
    both: tuple[Any, Any] = (given, None) if pair is None else pair
    agent, cfg = both
    if isinstance(agent, str):
        return AgentEntry(agents.find(agent, True), cfg, agent)
    require_agent(agent)
    known = agent.name in agents.names() and agents.get(agent.name) == agent
    return AgentEntry(agent, cfg, agent.name if known else provenance.name_of_agent(agent))


def _env_entry(given: Any) -> EnvEntry:
    if isinstance(given, str):
        return EnvEntry(registry.find(given, True), None)
    require_env(given)
    return EnvEntry(given, None if given.made_of else name_of_core(given.core))


def _label_of(given: Any, entry: AgentEntry) -> str:
    first = given[0] if isinstance(given, tuple) and not isinstance(given, Agent) else given
    return first if isinstance(first, str) else entry.agent.name


def _fields_of(entry: AgentEntry, env: Env) -> dict[str, Any]:
    """The fields of a config that was given that are not as the preset has them."""
    if entry.given is None:
        return {}
    usual = to_dict(presets.preset(entry.agent, env.name))
    own = entry.config(env)
    mine = to_dict(own) if isinstance(own, entry.agent.Config) else {}
    return {name: x for name, x in mine.items() if x != usual.get(name)}


def _params_of(env: Env) -> dict[str, Any]:
    """The parameters of an environment that are not its usual ones."""
    try:
        known = bool(env.made_of)
        usual = registry.find(env.name, True) if known else Env(env.core.default_params, env.core)
        before = checkpoint.describe_env(usual)
    except ValueError:  # its constructor needs arguments
        before = {}
    now = checkpoint.describe_env(env)
    return {k.lstrip("."): x for k, x in now.items() if x != before.get(k) and k != "name"}


def _tell_apart(what: str, names: list[str], fields: list[dict[str, Any]]) -> list[str]:
    """Labels: names, and where one stands for several what is not as usual in each. Raises
    ValueError where that is not enough."""
    labels = []
    for name, own in zip(names, fields, strict=True):
        alike = names.count(name) > 1
        labels.append(", ".join([name, *(f"{k}={x}" for k, x in own.items())]) if alike else name)
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"{what}={show(names)}: two are called {label!r}, allowed is none twice, or a dict "
                "with a label for each"
            )
    return labels


# What a folder says of them, and the way back.


def describe_entries(
    of_agents: Mapping[str, AgentEntry], of_envs: Mapping[str, EnvEntry]
) -> dict[str, Any]:
    """Describes the entries of a comparison as plain JSON values.

    names: of the labels that are not the objects' own names, what these are, and what finds them
    again, null where the user has to give it.
    """
    agent_names = {
        label: {"agent": x.agent.name, "name": x.name}
        for label, x in of_agents.items()
        if not x.name == label == x.agent.name
    }
    env_names = {label: {"name": x.name} for label, x in of_envs.items() if not x.env.made_of}
    names = {"agents": agent_names, "envs": env_names}
    return {
        "configs": {
            label: {name: to_dict(x.config(e.env)) for name, e in of_envs.items()}
            for label, x in of_agents.items()
        },
        "environments": {label: x.told for label, x in of_envs.items()},
        **({"names": names} if agent_names or env_names else {}),
    }


def named(record: dict[str, Any], what: str) -> dict[str, dict[str, Any]]:
    """Entries of a record about labels that are no names themselves. what: "agents" or "envs"."""
    names = record.get("names")
    found = names.get(what) if isinstance(names, dict) else None
    found = found if isinstance(found, dict) else {}
    return {label: one for label, one in found.items() if isinstance(one, dict)}


class Given(NamedTuple):
    """Objects of a comparison that the user gives in the place of its record's, by label."""

    agents: dict[str, Agent]
    envs: dict[str, Env]


def match_given(record: dict[str, Any], agents: Agents, envs: Envs) -> Given:
    """Finds what the objects that the user gives are in a comparison: by their labels, or their
    names. Raises ValueError for what is none of its objects."""
    found = Given({}, {})
    if not (len(agents) or len(envs)):
        return found
    own, own_envs = named(record, "agents"), named(record, "envs")
    called = {label: own.get(label, {}).get("agent", label) for label in record["configs"]}
    for label, given in _pairs("agents", agents):
        agent = _agent_entry(given).agent
        for one in _labels_of("agents", label, agent.name, called, own):
            found.agents[one] = agent
    told = record["environments"]
    for label, given in _pairs("envs", envs):
        env = _env_entry(given).env
        ways = {x: _as_told(env, x in own_envs, told[x]) for x in told}
        alike = {x: env.name for x in told if checkpoint.describe_env(ways[x]) == told[x]}
        alone = {x: env.name if told[x]["name"] == ways[x].name else "" for x in told}
        for one in _labels_of("envs", label, env.name, alike or alone, own_envs):
            found.envs[one] = ways[one]
    return found


def _pairs(what: str, given: Any) -> list[tuple[str | None, Any]]:
    labels, several = _split(what, given)
    return list(zip(labels or [None] * len(several), several, strict=True))


def _labels_of(
    what: str, label: str | None, name: str, called: dict[str, str], own: dict[str, Any]
) -> list[str]:
    """The labels that an object stands for: the one that is given, or all of its name, those first
    that nothing else finds. called: the name of each label."""
    if label is not None:
        found = [label] if label in called else []
    else:
        found = [x for x in called if called[x] == name]
        found = [x for x in found if x in own and own[x].get("name") is None] or found
    if not found:
        said = ", ".join(map(repr, called))
        raise ValueError(f"{what}: {label or name!r} is none of this comparison's: {said}")
    return found


def _as_told(env: Env, own: bool, told: dict[str, Any]) -> Env:
    """An environment under the name that it has in a record. own: whether `make` did not make it
    then."""
    return Env(env.params, env.core) if own else registry.renamed(env, told)


def restore_agent(out: Path, record: dict[str, Any], label: str, given: Given, trust: Any) -> Agent:
    """Restores the agent of a label. Raises CheckpointError for one that is needed and not given,
    UntrustedError for a name that is not allowed."""
    if label in given.agents:
        return given.agents[label]
    own = named(record, "agents").get(label, {"name": label})
    return _restore(out, "agent", label, own, lambda: agents.find(own["name"], trust))


def restore_env(out: Path, record: dict[str, Any], label: str, given: Given, trust: Any) -> Env:
    """Restores the environment of a label, with its parameters. Raises as `restore_agent`, and
    CheckpointError for one that is not what the record says."""
    told = record["environments"][label]
    if label in given.envs:
        now = checkpoint.describe_env(given.envs[label])
        if differs := checkpoint.first_difference(told, now, "environment"):
            raise CheckpointError(f"{out / SWEEP}: {label}: {differs}")
        return given.envs[label]
    own = named(record, "envs").get(label)
    names = {"env": own["name"]} if own else {}
    alone = {"environment": told, "own": [], "names": names}
    return _restore(out, "env", label, own, lambda: provenance.restore_env(alone, trust))


T = TypeVar("T")


def _restore(
    out: Path, what: str, label: str, own: dict[str, Any] | None, find: Callable[[], T]
) -> T:
    """Calls find() -> what a label stands for; an error says where, and what helps."""
    if own is not None and own.get("name") is None:
        raise CheckpointError(
            f"{out}: compares an {what} of your own, {label!r}, that no name finds again: pass "
            f"{what}s={{{label!r}: ...}}"
        )
    try:
        return find()
    except ValueError as error:
        kind = UntrustedError if isinstance(error, UntrustedError) else CheckpointError
        text = f"{out / SWEEP}: {error}; or pass {what}s={{{label!r}: ...}}"
        raise kind(printable(text)) from error
