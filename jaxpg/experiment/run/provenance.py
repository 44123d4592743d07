"""Provenance of results, in run.json and sweep.json: agent, config, environment, key and versions;
and the way back to the objects."""

import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg import agents
from jaxpg.core import env as E
from jaxpg.core.checks import require_bool, require_env, require_path
from jaxpg.core.config import from_dict
from jaxpg.core.names import UntrustedError
from jaxpg.core.train import require_agent
from jaxpg.core.types import Agent, Key
from jaxpg.envs import registry
from jaxpg.experiment.files import SWEEP
from jaxpg.experiment.files.atomic import CheckpointError, read_json
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.text import printable, warn

FORMAT = 1  # of both files and of their folders


def is_sweep(folder: str | Path) -> bool:
    """True if the folder is that of a sweep or a comparison."""
    require_path("folder", folder)
    return Path(folder, SWEEP).is_file()


def describe_run(agent: Agent, cfg, env: E.Env, key: Key) -> dict[str, Any]:
    """Describes a run as plain JSON values."""
    known = {
        "agent": agent.name in agents.NAMES and agents.get(agent.name) == agent,
        "env": bool(env.made_of),
    }
    return {
        "format": FORMAT,
        **checkpoint.describe(agent, cfg, env),
        "own": [name for name in known if not known[name]],  # no name gives these again
        "key": key_to_dict(key),
        "made_with": environment_versions(),
    }


def key_to_dict(key: Key) -> dict[str, Any]:
    """Converts a key to plain JSON values."""
    return {
        "generator": str(jax.random.key_impl(key)),
        "words": jax.random.key_data(key).tolist(),
    }


def key_from_dict(record: dict[str, Any]) -> Key:
    """Restores the key of a record."""
    words = jnp.asarray(np.array(record["key"]["words"], np.uint32))
    return jax.random.wrap_key_data(words, impl=record["key"]["generator"])


def environment_versions() -> dict[str, Any]:
    """Versions, platform and devices that affect bit-exact reproduction."""
    devices = jax.devices()
    return {
        **checkpoint.package_versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "x64": jax.config.values["jax_enable_x64"],
    }


def warn_of_other_versions(folder: Path, made_with: dict[str, Any], stacklevel: int = 3) -> None:
    """Warns of every version, platform and device that differs from those of a run or sweep."""
    for what, ours in environment_versions().items():
        if (theirs := made_with.get(what)) != ours:
            said = f"{folder} was made with {what} {theirs}, this is {ours}: "
            said += "it may not go on to the byte as it would have"
            warn(said, stacklevel)


def read_record(path: Path, what: str) -> dict[str, Any]:
    """Reads a record. what: the kind of its folder, "run" or "sweep". Raises CheckpointError for
    one that is missing, damaged, or of a format that this version does not know."""
    if not path.is_file():
        found = f"no {path.name}" if path.parent.is_dir() else "no such folder"
        raise CheckpointError(f"{path.parent}: found {found}, expected the folder of a {what}")
    found = read_json(path)
    if (form := found.get("format", 1)) != FORMAT:
        by = found.get("made_with", {}).get("jaxpg")
        raise CheckpointError(
            f"{path}: found format {form}, written by jaxpg {by}; this version reads {FORMAT}"
        )
    return read_json(path, ("key", "total_steps", "made_with"))


def restore_objects(
    path: Path, agent: Agent | None, env: E.Env | None, trust: bool = False
) -> tuple[Agent, Any, E.Env, Key]:
    """Restores the objects that a record at `path` is about: agent, config, environment and key.

    agent, env: the objects, if they are the user's own. trust: as of `core.config.updated`. Raises
    CheckpointError if they are and are not given, or if what is there now is not what the record
    says, UntrustedError for a class that is not trusted, ValueError for an object of another kind.
    """
    require_bool("trust", trust)
    if agent is not None:
        require_agent(agent)
    if env is not None:
        require_env(env)
    record = read_json(path, ("agent", "config", "environment", "own", "key"))
    for name, given in {"agent": agent, "env": env}.items():
        if name in record["own"] and given is None:
            raise CheckpointError(
                f"{path.parent}: was made with an {name} of your own: pass {name}=..."
            )
    if agent is not None and agent.name != record["agent"]:
        raise CheckpointError(f"{path}: agent: found {record['agent']!r}, expected {agent.name!r}")
    try:
        agent = agent or agents.get(record["agent"])
        env = env or registry.from_dict(record["environment"])
        cfg = from_dict(agent.Config, record["config"], trust)
    except ValueError as error:
        kind = UntrustedError if isinstance(error, UntrustedError) else CheckpointError
        raise kind(printable(f"{path}: {error}")) from error
    for part, value in checkpoint.describe(agent, cfg, env).items():
        if differs := checkpoint.first_difference(record[part], value, part):
            raise CheckpointError(f"{path}: {differs}")
    return agent, cfg, env, key_from_dict(record)
