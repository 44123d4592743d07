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
from jaxpg.envs import registry
from jaxpg.presets import preset

# What `jaxpg train` does where it has no option.
_USUAL = {"chunk": None, "episodes": 128, "checkpoints": 5, "keep": 3}
_TRIED = 100  # seeds; the one that keys were split off cannot be read off them


def shell_command(about: dict[str, Any], out: str) -> str | None:
    """Returns the commands for what run.json or sweep.json is about; None if an agent or
    environment is the user's own, which no name gives again, or if a preset has changed since a
    comparison.

    out: the new folder. `jaxpg train` or `jaxpg compare` where that can say it, else Python from a
    here-document, with all numbers to the last digit.
    """
    if about.get("kind") == "comparison":
        return _compare_command(about, out)
    if about.get("own") or about.get("agent") not in agents.NAMES:
        return None
    if "points" in about:
        return _python_script(about, out)
    seed = find_seed(about["key"])
    usual = all(about.get(name, value) == value for name, value in _USUAL.items())
    params = _env_params(about["environment"])
    if seed is None or not usual or params is None:
        return _python_script(about, out)
    words = ["jaxpg", "train", about["agent"], about["environment"]["name"]]
    words += ["--total-steps", str(about["total_steps"])]
    if (seeds := len(np.atleast_2d(about["key"]["words"]))) > 1:
        words += ["--seeds", str(seeds)]
    if seed:
        words += ["--seed", str(seed)]
    if about["evaluations"] != 10:
        words += ["--evaluations", str(about["evaluations"])]
    if about.get("target") is not None:
        words += ["--target", repr(about["target"])]
    for name, value in params.items():
        words += ["--param", f"{name}={value}"]
    options = _config_options(about)
    return None if options is None else shlex.join([*words, *options, "--out", out])


def _compare_command(about: dict[str, Any], out: str) -> str | None:
    seed = find_seed(about["key"])
    names, configs = list(about["configs"]), about["configs"]
    same = all(
        to_dict(preset(agent, env)) == config
        for agent in names
        for env, config in configs[agent].items()
    ) and all(registry.to_dict(registry.make(n)) == env for n, env in about["environments"].items())
    if seed is None or not same:
        return None
    words = ["jaxpg", "compare", *names, "--env", *about["environments"]]
    words += ["--total-steps", about["total_steps"], "--seeds", about["seeds"], "--seed", seed]
    words += ["--evaluations", about["evaluations"], "--episodes", about["episodes"], "--out", out]
    return shlex.join(map(str, words))


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


def _env_params(environment: dict[str, Any]) -> dict[str, Any] | None:
    """Parameters that `--param` has to say, as JSON; None if that does not give them all."""
    name = environment["name"]
    usual = registry.to_dict(registry.make(name))
    differ = {k: v for k, v in environment.items() if usual.get(k, ...) != v}
    try:
        # Those that follow from others need no saying.
        for key in list(differ):
            fewer = {k: v for k, v in differ.items() if k != key}
            if registry.to_dict(registry.make(name, **fewer)) == environment:
                differ = fewer
        if registry.to_dict(registry.make(name, **differ)) != environment:
            return None
    except ValueError:
        return None
    return {k: json.dumps(v) for k, v in differ.items()}


def _config_options(about: dict[str, Any]) -> list[str]:
    """Options for the settings that differ from the preset, as `jaxpg train` has them."""
    agent, words = agents.get(about["agent"]), []
    usual = to_dict(preset(agent, about["environment"]["name"]))
    for field in dataclasses.fields(agent.Config):
        value = about["config"].get(field.name)
        if field.name not in about["config"] or value == usual[field.name]:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--config.{'' if value else 'no-'}{flag}"]
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"--config.{flag}", *map(str, values)]
    return words


def _python_script(about: dict[str, Any], out: str) -> str:
    """Writes a here-document for the Python that runs it."""
    agent = agents.get(about["agent"])
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
        f"agent = jaxpg.{agent.name}",
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
    lines += [*more, f"    out={out!r},", ")"]
    return "\n".join(["python - <<'EOF'", *lines, "EOF"])


def _format_literal(value) -> str:
    return pprint.pformat(value, width=88, compact=True, sort_dicts=False)
