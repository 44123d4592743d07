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
    "make": "envs.registry",
    "rollout": "core.env",
    "config": "core.config",
    "number": "core.config",
    "static": "core.config",
    "train": "core.train",
    "evaluate": "core.episodes",
    "use_all_cores": "core.machine",
    "use_cache": "core.machine",
    "use_one_thread": "core.machine",
    "distributed": "core.parallel.processes",
    "fan_out": "experiment.jobs",
    "Callback": "core.run",
    "Event": "core.run",
    "Result": "core.run",
    "use_fast_random": "core.random_cpu",
    "run": "experiment.runs",
    "resume": "experiment.runs",
    "load": "experiment.runs",
    "CheckpointError": "experiment.run.checkpoint",
    "compare": "experiment.sweeps.compare",
    "search": "experiment.sweeps.search",
    "report": "experiment.report.build",
    "render": "experiment.render.video",
    "Policy": "experiment.export.policy",
    "preset": "presets",
}

_MODULES = {
    "diagnostics": "experiment.diagnostics",
    "pictures": "experiment.figures",
    "statistics": "experiment.analysis.statistics",
    "sweep": "experiment.sweeps",
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
