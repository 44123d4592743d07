"""Provenance of results, in run.json and sweep.json: agent, config, environment, key and versions;
and the way back to the objects."""

import contextlib
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg import agents
from jaxpg.core import env as E
from jaxpg.core import sources
from jaxpg.core.callables import names_in, texts_in
from jaxpg.core.checks import require_bool, require_env, require_path
from jaxpg.core.config import from_dict
from jaxpg.core.names import Trust, UntrustedError
from jaxpg.core.sources import AGENTS, ENVS, announced
from jaxpg.core.train import require_agent
from jaxpg.core.types import Agent, Key
from jaxpg.envs import registry
from jaxpg.envs.own import name_of_core
from jaxpg.envs.recipes import settle
from jaxpg.experiment.files import RUN, SWEEP, TUNE
from jaxpg.experiment.files.atomic import CheckpointError, read_json
from jaxpg.experiment.files.kinds import kind_of, tell_kind
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.text import printable, warn

FORMAT = 1  # of both files and of their folders


def is_sweep(folder: str | Path) -> bool:
    """True if the folder is that of a sweep or a comparison."""
    require_path("folder", folder)
    return Path(folder, SWEEP).is_file()


def is_tuning(folder: str | Path) -> bool:
    """True if the folder is that of a tuning."""
    require_path("folder", folder)
    return Path(folder, TUNE).is_file()


def describe_run(agent: Agent, cfg, env: E.Env, key: Key) -> dict[str, Any]:
    """Describes a run as plain JSON values: agent, config, environment, key and versions.

    names: "module:Object" of an agent or environment that has no other name; own: those that have
    none either, of which it warns. sources: of their modules, and of those that the config names.
    """
    told = checkpoint.describe(agent, cfg, env)
    known = {
        "agent": agent.name in agents.names() and agents.get(agent.name) == agent,
        "env": bool(env.made_of),
    }
    find = {"agent": lambda: name_of_agent(agent), "env": lambda: name_of_core(env.core)}
    names = {what: name for what in find if not known[what] and (name := find[what]())}
    own = [what for what in known if not known[what] and what not in names]
    _warn_of_lost(own, told)
    return {
        "format": FORMAT,
        **told,
        "own": own,  # no name gives these again
        **({"names": names} if names else {}),
        **add_sources({}, told, names),
        "key": key_to_dict(key),
        "made_with": environment_versions(),
    }


def name_of_agent(agent: Agent) -> str | None:
    """The "module:Object" by which an agent is found again; None if no module but the script itself
    has it."""
    homes = [getattr(x, "__module__", "") for x in (agent.step, agent.init, agent.act)]
    for name in dict.fromkeys([*homes, *list(sys.modules)]):
        if name.partition(".")[0] in ("__main__", "jaxpg"):
            continue
        for own, value in list(getattr(sys.modules.get(name), "__dict__", {}).items()):
            if isinstance(value, Agent) and value == agent:
                return f"{name}:{own}"
    return None


def add_sources(record: dict[str, Any], *told: Any) -> dict[str, Any]:
    """Adds to a record the sources of the modules that are named in plain JSON values. Of what is
    jaxpg's and Python's own there is nothing to add, and what is on record stays."""
    known = announced(AGENTS) | announced(ENVS)
    named = [known.get(text, text) for text in texts_in(told)]
    modules = {name.partition(":")[0] for name in named if ":" in name}
    found = sources.describe_sources(*sorted(modules & sys.modules.keys()))
    found |= record.get("sources", {})
    return {**record, "sources": found} if found else record


@contextlib.contextmanager
def lasting(out: Any) -> Iterator[None]:
    """Context in which what no other program can import is warned of only if a folder stays: with
    out=None none does."""
    with contextlib.ExitStack() as quiet:
        if out is None:
            quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", f".*{_LOST}")
        yield


_LOST = "(has no name that another program finds|is made in a function or in the script itself)"


def recorded_sources(record: dict[str, Any]) -> sources.Recorded:
    """Sources of modules by a record, without entries that are none."""
    found = record.get("sources")
    found = found if isinstance(found, dict) else {}
    return {name: about for name, about in found.items() if isinstance(about, dict)}


def _recorded_names(record: dict[str, Any]) -> dict[str, Any]:
    found = record.get("names")
    return found if isinstance(found, dict) else {}


def _warn_of_lost(own: list[str], told: dict[str, Any]) -> None:
    """Warns of what no other program can import: objects of a script itself, or of a function."""
    for what in own:
        name = told["agent"] if what == "agent" else told["environment"]["name"]
        warn(
            f"{what} {name!r} has no name that another program finds, as an object of a module "
            f"has: whoever opens the folder has to give it, {what}=... (--{what} MODULE:OBJECT)"
        )
    for field, value in told["config"].items():
        for name in names_in(value):
            if name.startswith("__main__:") or "<" in name:
                warn(
                    f"{field} {name!r} is made in a function or in the script itself, where no "
                    "other program finds it: in a module of its own it is found, made by "
                    "def or class (a lambda has no name)"
                )


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
    """Reads a record. what: the kind of its folder, "run", "sweep" or "tuning". Raises
    CheckpointError for one that is missing, damaged, or of a format that this version does not
    know."""
    if not path.is_file():
        found = f"no {path.name}" if path.parent.is_dir() else "no such folder"
        other = tell_kind(path.parent, path.name)
        text = f"{path.parent}: found {found}, expected the folder of a {what}{other}"
        raise CheckpointError(text)
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

    agent, env: the objects, if no name gives them again, or another one than the record's shall.
    trust: whether any module may be imported for a name; see `core.names`. Raises CheckpointError
    if they are needed and not given, or if what is there now is not what the record says,
    UntrustedError for a name that is not allowed, ValueError for an object of another kind.
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
                f"{path.parent}: was made with an {name} of your own: pass {name}=... "
                f"(--{name} MODULE:OBJECT)"
            )
    if agent is not None and agent.name != record["agent"]:
        raise CheckpointError(f"{path}: agent: found {record['agent']!r}, expected {agent.name!r}")
    allowed = trust or recorded_sources(record)
    agent = agent or _restore(path, "agent", lambda: restore_agent(record, allowed))
    if env is None:
        env = _restore(path, "env", lambda: restore_env(record, allowed))
    else:
        env = _as_recorded(env, record)
    cfg = _restore(path, "", lambda: from_dict(agent.Config, record["config"], allowed))
    # Fields that came after the run was written have their defaults, as before there were any.
    usual = checkpoint.describe(agent, agent.Config(), env)["config"]
    told = record | {"config": usual | record["config"]}
    for part, value in checkpoint.describe(agent, cfg, env).items():
        if differs := checkpoint.first_difference(told[part], value, part):
            raise CheckpointError(f"{path}: {differs}")
    _warn_of_other_sources(path, record)
    return agent, cfg, env, key_from_dict(record)


T = TypeVar("T")


def _restore(path: Path, what: str, find: Callable[[], T]) -> T:
    """Calls find() -> what a name in the record at `path` stands for; an error says where, and
    which option gives it otherwise."""
    try:
        return find()
    except ValueError as error:
        kind = UntrustedError if isinstance(error, UntrustedError) else CheckpointError
        option = f"; or pass {what}=... (--{what} MODULE:OBJECT)" if what else ""
        raise kind(printable(f"{path}: {error}{option}")) from error


def restore_agent(record: dict[str, Any], trust: Trust, name: str | None = None) -> Agent:
    """Restores the agent of a record, or takes that of another name. Raises as `agents.find`."""
    return agents.find(name or _recorded_names(record).get("agent") or record["agent"], trust)


def restore_env(record: dict[str, Any], trust: Trust, name: str | None = None) -> E.Env:
    """Restores the environment of a record, with its parameters; name: of what makes it, if the
    user says that it is another one now. Raises as `registry.find`."""
    if name is not None:  # it may be imported; what it is called with is the folder's
        registry.find_factory(name, True, {})
    told, names = record["environment"], _recorded_names(record)
    if not ("env" in names or "env" in record["own"]):
        made = registry.from_dict(told if name is None else {**told, "name": name}, trust)
        return made if name is None else registry.renamed(made, told)
    if not (name or names.get("env")):
        raise ValueError(f"env {told['name']!r} has no name that finds it")
    env = registry.find(name or names["env"], trust)
    paths, tree = jax.tree_util.tree_flatten_with_path(env.params)
    leaves = [settle(told.get(jax.tree_util.keystr(path), x), x) for path, x in paths]
    return E.Env(jax.tree.unflatten(tree, leaves), env.core)


def _as_recorded(env: E.Env, record: dict[str, Any]) -> E.Env:
    """An environment that is given, under the name that it has in a record, if that is not one of
    gymnax's or jaxpg's."""
    if "env" in _recorded_names(record) or "env" in record["own"]:
        return E.Env(env.params, env.core)
    return registry.renamed(env, record["environment"])


def _warn_of_other_sources(path: Path, record: dict[str, Any]) -> None:
    """Warns of modules that were imported, on whatever word, and are not what they were."""
    before = recorded_sources(record)
    for name, now in sources.describe_sources(*before).items():
        if name in before and now["sha256"] != before[name].get("sha256"):
            warn(f"{path.parent}: the source of {name}, {now['file']}, has changed since", 4)


def named_objects(
    folder: Path, agent: str | None, env: str | None, trust: bool = False
) -> tuple[Agent | None, E.Env | None]:
    """Finds the objects that the user names in the place of those of a run or sweep: for
    `restore_objects`. The environment gets the parameters that are on record. Raises ValueError for
    a comparison, which has many, and as `agents.find` and `registry.find`."""
    if agent is None and env is None:
        return None, None
    record = read_json(folder / (kind_of(folder) or RUN))
    if record.get("kind") == "comparison":
        raise ValueError(f"{folder}: is a comparison, allowed is None for its agents and env")
    return (
        agent if agent is None else restore_agent(record, True, agent),
        env if env is None else restore_env(record, trust, env),
    )
