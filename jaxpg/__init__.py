"""jaxpg: policy-gradient reinforcement learning for JAX.

The public face is flat, and loads what it needs when it is first used: `jaxpg.ppo` is an agent,
`jaxpg.make` an environment, `jaxpg.train` a pure function, `jaxpg.run` the host loop around it.
"""

import importlib

from jaxpg import agents

__version__ = "0.1.0"

_HOME = {
    "Agent": "core.types",
    "Transition": "core.types",
    "Env": "core.env",
    "make": "core.env",
    "rollout": "core.env",
    "config": "core.config",
    "number": "core.config",
    "static": "core.config",
    "train": "core.train",
    "evaluate": "core.evaluate",
    "use_all_cores": "core.machine",
    "use_cache": "core.machine",
    "use_one_thread": "core.machine",
    "distributed": "core.processes",
    "fan_out": "experiment.fan_out",
    "Callback": "core.run",
    "Event": "core.run",
    "Result": "core.run",
    "run": "experiment.runs",
    "resume": "experiment.runs",
    "load": "experiment.runs",
    "CheckpointError": "experiment.checkpoint",
    "compare": "experiment.compare",
    "search": "experiment.search",
    "report": "experiment.report",
    "render": "experiment.render",
    "Policy": "experiment.policy",
    "preset": "presets",
}

_MODULES = {
    "diagnostics": "experiment.diagnostics",
    "pictures": "experiment.pictures",
    "statistics": "experiment.statistics",
    "sweep": "experiment.sweep",
}

__all__ = sorted([*_HOME, *_MODULES, *agents.NAMES])


def __getattr__(name: str):
    if name in agents.NAMES:
        value = agents.get(name)
    elif name in _MODULES:
        value = importlib.import_module(f"jaxpg.{_MODULES[name]}")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"jaxpg.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'jaxpg' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
