"""Shell commands that reproduce a run or a sweep."""

import dataclasses
import json
import pprint
import shlex
from typing import Any

import jax
import numpy as np

from jaxpg import agents
from jaxpg.core.config import class_fields, from_dict, to_dict
from jaxpg.core.names import Trust
from jaxpg.core.types import Agent
from jaxpg.envs import registry
from jaxpg.experiment.run.origin import INIT
from jaxpg.experiment.sweeps.entries import named
from jaxpg.presets import preset

# What `jaxpg train` does where it has no option.
_USUAL = {"chunk": None, "episodes": 128, "checkpoints": 5, "keep": 3}
_TRIED = 100  # seeds; the one that keys were split off cannot be read off them


def shell_command(about: dict[str, Any], out: str) -> str | None:
    """Returns the commands for what run.json or sweep.json is about; None if no name gives an agent
    or environment again, or none that may be imported, if a preset has changed since a comparison,
    or if it began with another run's parameters that are in no folder.

    out: the new folder. `jaxpg train` or `jaxpg compare` where that can say it, else Python from a
    here-document, with all numbers to the last digit.
    """
    if about.get("kind") == "comparison":
        return _compare_command(about, out)
    if "folder" not in about.get(INIT, {"folder": ""}):  # it began with a state of a program
        return None
    if find_agent(about) is None or (environment := _env_recipe(about)) is None:
        return None
    about = {**about, "environment": environment}
    if "points" in about:
        return _python_script(about, out)
    seed = find_seed(about["key"])
    usual = all(about.get(name, value) == value for name, value in _USUAL.items())
    params = _env_params(environment, about.get("sources", {}))
    if seed is None or not usual or params is None:
        return _python_script(about, out)
    words = ["jaxpg", "train", _agent_name(about), environment["name"]]
    words += ["--total-steps", str(about["total_steps"])]
    if (seeds := len(np.atleast_2d(about["key"]["words"]))) > 1:
        words += ["--seeds", str(seeds)]
    if seed:
        words += ["--seed", str(seed)]
    if about["evaluations"] != 10:
        words += ["--evaluations", str(about["evaluations"])]
    if about.get("target") is not None:
        words += ["--target", repr(about["target"])]
    if begun := about.get(INIT):
        parts = begun["parts"]
        words += ["--init-from", begun["folder"], *(["--init-parts", *parts] if parts else [])]
    for name, value in params.items():
        words += ["--param", f"{name}={value}"]
    options = _config_options(about)
    return None if options is None else shlex.join([*words, *options, "--out", out])


def _agent_name(about: dict[str, Any]) -> str:
    return about.get("names", {}).get("agent") or about["agent"]


def _name_of_label(about: dict[str, Any], what: str, label: str) -> str | None:
    """Returns the name of an agent or environment of a comparison; None if it has none."""
    return named(about, what).get(label, {"name": label}).get("name")


def find_agent(about: dict[str, Any], name: str | None = None) -> Agent | None:
    """Finds the agent of a record, or of a label in a comparison; None if it has no name, is not
    here, or may not be imported."""
    if "agent" in about.get("own", ()) or ("agent" not in about and name is None):
        return None
    name = _agent_name(about) if name is None else _name_of_label(about, "agents", name)
    try:
        return None if name is None else agents.find(name, about.get("sources", {}))
    except ValueError:
        return None


def _env_recipe(about: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the keywords of `jaxpg.make` that give the environment of a record; None if none do,
    or if it may not be imported."""
    told, names = about["environment"], about.get("names", {})
    if "env" in about.get("own", ()):
        return None
    if registry.is_registered(told["name"]):
        return told
    if "env" in names:  # its parameters are on record by path: ".goal"
        told = {key.removeprefix("."): value for key, value in told.items()}
        told["name"] = names["env"]
    try:
        same = registry.to_dict(registry.from_dict(told, about.get("sources", {}))) == told
    except ValueError:
        return None
    return told if same else None


def _compare_command(about: dict[str, Any], out: str) -> str | None:
    seed = find_seed(about["key"])
    names, configs = list(about["configs"]), about["configs"]
    trust = about.get("sources", {})
    found = {name: find_agent(about, name) for name in names}
    told = about["environments"]
    envs = {label: _name_of_label(about, "envs", label) for label in told}
    envs |= {label: x["name"] for label, x in told.items() if registry.is_registered(x["name"])}
    try:
        same = all(
            agent is not None and to_dict(preset(agent, told[env]["name"])) == config
            for name, agent in found.items()
            for env, config in configs[name].items()
        ) and all(_is_usual(name, told[label], trust) for label, name in envs.items())
    except ValueError:  # what may not be imported
        return None
    if seed is None or not same:
        return None
    words = ["jaxpg", "compare", *(_name_of_label(about, "agents", name) for name in names)]
    words += ["--env", *envs.values()]
    words += ["--total-steps", about["total_steps"], "--seeds", about["seeds"], "--seed", seed]
    words += ["--evaluations", about["evaluations"], "--episodes", about["episodes"], "--out", out]
    return shlex.join(map(str, words))


def _is_usual(name: str | None, told: dict[str, Any], trust: Trust) -> bool:
    """True if a name gives an environment as a record has it, with its usual parameters."""
    if name is None:
        return False
    made = registry.to_dict(registry.find(name, trust))
    alike = {key.removeprefix("."): value for key, value in told.items()}
    return made == alike | {"name": name}


def find_seed(key: dict[str, Any]) -> int | None:
    """Finds the `--seed` that gives a key, or split keys, as run.json has it; None if there is
    none."""
    words = np.array(key["words"], np.uint32)
    if key["generator"] != str(jax.random.key_impl(jax.random.key(0))):
        return None
    seeds = range(_TRIED) if words.ndim == 2 else [int(words[-1])]
    for seed in seeds:
        ours = jax.random.key(seed)
        ours = jax.random.split(ours, len(words)) if words.ndim == 2 else ours
        if np.array_equal(jax.random.key_data(ours), words):
            return seed
    return None


def _env_params(environment: dict[str, Any], trust: Trust) -> dict[str, Any] | None:
    """Parameters that `--param` has to say, as JSON; None if that does not give them all."""
    name = environment["name"]
    try:
        usual = registry.to_dict(registry.find(name, trust))
    except ValueError:  # it needs arguments
        usual = {"name": name}
    differ = {k: v for k, v in environment.items() if usual.get(k, ...) != v}
    try:
        # Those that follow from others need no saying.
        for key in list(differ):
            fewer = {k: v for k, v in differ.items() if k != key}
            if registry.to_dict(registry.find(name, trust, **fewer)) == environment:
                differ = fewer
        if registry.to_dict(registry.find(name, trust, **differ)) != environment:
            return None
    except ValueError:
        return None
    return {k: json.dumps(v) for k, v in differ.items()}


def _config_options(about: dict[str, Any]) -> list[str]:
    """Options for the settings that differ from the preset, as `jaxpg train` has them."""
    agent, words = agents.find(_agent_name(about), about.get("sources", {})), []
    usual = to_dict(preset(agent, about["environment"]["name"]))
    for field in dataclasses.fields(agent.Config):
        value = about["config"].get(field.name)
        if field.name not in about["config"] or value == usual[field.name]:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--config.{'' if value else 'no-'}{flag}"]
        else:
            value = json.dumps(value) if isinstance(value, dict) else value  # a partial
            values = value if isinstance(value, list) else [value]
            words += [f"--config.{flag}", *map(str, values)]
    return words


def _agent_code(about: dict[str, Any]) -> str:
    name = _agent_name(about)
    return f"jaxpg.{name}" if name in agents.NAMES else f"jaxpg.agents.find({name!r}, True)"


def _python_script(about: dict[str, Any], out: str) -> str:
    """Writes a here-document for the Python that runs it."""
    agent = agents.find(_agent_name(about), about.get("sources", {}))
    default = to_dict(agent.Config())
    differ = {k: v for k, v in about["config"].items() if default.get(k, ...) != v}
    classes = {k for k in class_fields(agent.Config) & differ.keys() if ":" in str(differ[k])}
    known = {k: v for k, v in differ.items() if k not in classes}
    from_dict(agent.Config, known)  # raises ValueError for what this version does not know
    own = all(str(differ[k]).startswith("jaxpg.") for k in classes)
    trust = "" if own else ", trust=True"
    lines = [
        "import jax",
        "import numpy as np",
        "",
        "import jaxpg",
        "from jaxpg.core.config import from_dict",
        "",
        f"agent = {_agent_code(about)}",
        f"cfg = from_dict(agent.Config, {_format_literal(differ)}{trust})",
        f"env = jaxpg.make(**{_format_literal(about['environment'])})",
        f"words = np.array({_format_literal(about['key']['words'])}, np.uint32)",
        f"key = jax.random.wrap_key_data(words, impl={about['key']['generator']!r})",
    ]
    names = ["total_steps", "evaluations", "episodes", "target"]
    names += ["seeds", "lanes", "memory"] if "points" in about else ["chunk", "checkpoints", "keep"]
    more = [f"    {n}={about[n]!r}," for n in names if about.get(n) is not None]
    if "points" in about:
        lines += ["points = [", *(f"    {point!r}," for point in about["points"]), "]"]
        lines += ["jaxpg.sweep.run(", "    agent, cfg, env, key, points,"]
    else:
        lines += ["jaxpg.run(", "    agent, cfg, env, key,"]
        if begun := about.get(INIT):
            init = {"init_from": begun["folder"], "init_parts": begun["parts"]}
            more += [f"    {name}={value!r}," for name, value in init.items() if value]
    lines += [*more, f"    out={out!r},", ")"]
    return "\n".join(["python - <<'EOF'", *lines, "EOF"])


def _format_literal(value) -> str:
    return pprint.pformat(value, width=88, compact=True, sort_dicts=False)
