"""Settings of a run that differ from its preset and from the defaults."""

import contextlib
from typing import Any, NamedTuple

from jaxpg import presets
from jaxpg.core.config import to_dict
from jaxpg.core.env import Env
from jaxpg.core.names import Trust
from jaxpg.envs import registry
from jaxpg.experiment.run import checkpoint, provenance
from jaxpg.experiment.run.provenance import environment_versions

HIDDEN = ("total_steps",)  # which the run fills in


class Difference(NamedTuple):
    """Setting of a run that is not the usual one."""

    name: str  # env.NAME is a parameter of the environment
    value: Any
    preset: Any  # of the agent in the environment, see `presets.find`; None for parameters
    default: Any


def list_differences(record: dict[str, Any]) -> list[Difference]:
    """Lists the settings of a record, run.json or sweep.json, that differ from the agent's
    defaults, from its preset for the environment (or its general profile), or from the
    environment's own parameters.

    Raises ValueError for an agent of the user's own that no name gives again, or that may not be
    imported on the word of a folder (see `core.names`). Of such an environment all parameters are
    listed.
    """
    if "agent" in record.get("own", ()):
        raise ValueError("an agent of one's own: its defaults are not known")
    trust, environment = provenance.recorded_sources(record), dict(record["environment"])
    agent = provenance.restore_agent(record, trust)
    default = to_dict(agent.Config())
    tuned = to_dict(presets.preset(agent, environment["name"]))
    found = [
        Difference(name, value, tuned.get(name), default.get(name))
        for name, value in record["config"].items()
        if name not in HIDDEN and not value == tuned.get(name) == default.get(name)
    ]
    usual = _usual_parameters(record, trust)
    found += [
        Difference(f"env.{key}", value, None, usual.get(key, "?"))
        for key, value in environment.items()
        if key != "name" and value != usual.get(key, "?")
    ]
    return found


def has_profile(record: dict[str, Any]) -> bool:
    """True for a run whose agent has a general profile in its environment, and no preset."""
    agent = provenance.restore_agent(record, provenance.recorded_sources(record))
    return presets.find(agent, record["environment"]["name"]).of == presets.GENERAL


def _usual_parameters(record: dict[str, Any], trust: Trust) -> dict[str, Any]:
    """Description of an environment with its usual parameters, for a record; {} if they cannot be
    known here: it may not be imported, or its constructor needs arguments."""
    with contextlib.suppress(ValueError):
        env = provenance.restore_env(record, trust)
        if env.made_of:
            return registry.to_dict(registry.find(env.name, trust))
        return checkpoint.describe_env(Env(env.core.default_params, env.core))
    return {}


def list_versions(made_with: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Versions, platform and devices of a run, and those of this process."""
    ours = environment_versions()
    return {name: (value, ours.get(name)) for name, value in made_with.items()}
