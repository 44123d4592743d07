"""jaxpg: policy-gradient reinforcement learning for JAX.

The public face is flat, and loads what it needs when it is first used: `jaxpg.ppo` is an agent,
`jaxpg.make` an environment, `jaxpg.train` a pure function, `jaxpg.run` the host loop around it.
"""

import importlib
from typing import TYPE_CHECKING

from jaxpg import agents as agents

__version__ = "0.1.0"

_HOME = {
    "Agent": "core.types",
    "Transition": "core.types",
    "Env": "core.env",
    "make": "envs.registry",
    "check_env": "envs.contract",
    "action_repeat": "envs.wrappers.functions",
    "clip_reward": "envs.wrappers.functions",
    "flatten_observation": "envs.wrappers.functions",
    "frame_stack": "envs.wrappers.functions",
    "grayscale_observation": "envs.wrappers.functions",
    "levels": "envs.wrappers.functions",
    "noisy_actions": "envs.wrappers.functions",
    "noisy_observations": "envs.wrappers.functions",
    "randomized": "envs.wrappers.functions",
    "residual": "envs.wrappers.functions",
    "resize_observation": "envs.wrappers.functions",
    "scale_reward": "envs.wrappers.functions",
    "shielded": "envs.wrappers.functions",
    "sticky_actions": "envs.wrappers.functions",
    "time_aware_observation": "envs.wrappers.functions",
    "time_limit": "envs.wrappers.functions",
    "rollout": "core.env",
    "config": "core.config",
    "number": "core.config",
    "static": "core.config",
    "train": "core.train",
    "evaluate": "core.episodes",
    "recent_mean": "core.metrics",
    "use_all_cores": "core.machine",
    "use_cache": "core.machine",
    "use_command_buffers": "core.machine",
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
    "tune": "experiment.tuning.tune",
    "report": "experiment.report.build",
    "robustness": "experiment.robustness",
    "render": "experiment.render.video",
    "Policy": "experiment.export.policy",
    "preset": "presets",
}

_MODULES = {
    "callbacks": "experiment.callbacks",
    "diagnostics": "experiment.diagnostics",
    "pictures": "experiment.figures",
    "schedules": "core.schedules",
    "statistics": "experiment.analysis.statistics",
    "sweep": "experiment.sweeps",
}

if TYPE_CHECKING:  # the same names from the same homes, for editors and type checkers
    # isort: off
    from jaxpg.agents.a2c import a2c as a2c
    from jaxpg.agents.a3c import a3c as a3c
    from jaxpg.agents.adaptive_noise import adaptive_noise as adaptive_noise
    from jaxpg.agents.ars import ars as ars
    from jaxpg.agents.cem import cem as cem
    from jaxpg.agents.cpo import cpo as cpo
    from jaxpg.agents.ddpg import ddpg as ddpg
    from jaxpg.agents.dqn import dqn as dqn
    from jaxpg.agents.es import es as es
    from jaxpg.agents.evosax import evosax as evosax
    from jaxpg.agents.expected_sarsa import expected_sarsa as expected_sarsa
    from jaxpg.agents.go_explore import go_explore as go_explore
    from jaxpg.agents.hill_climbing import hill_climbing as hill_climbing
    from jaxpg.agents.impala import impala as impala
    from jaxpg.agents.ippo import ippo as ippo
    from jaxpg.agents.iql import iql as iql
    from jaxpg.agents.maddpg import maddpg as maddpg
    from jaxpg.agents.mappo import mappo as mappo
    from jaxpg.agents.npg import npg as npg
    from jaxpg.agents.option_critic import option_critic as option_critic
    from jaxpg.agents.ppo import ppo as ppo
    from jaxpg.agents.ppo_lagrangian import ppo_lagrangian as ppo_lagrangian
    from jaxpg.agents.ppoc import ppoc as ppoc
    from jaxpg.agents.q_learning import q_learning as q_learning
    from jaxpg.agents.reinforce import reinforce as reinforce
    from jaxpg.agents.sac import sac as sac
    from jaxpg.agents.sac_discrete import sac_discrete as sac_discrete
    from jaxpg.agents.sarsa import sarsa as sarsa
    from jaxpg.agents.self_play import self_play as self_play
    from jaxpg.agents.simulated_annealing import simulated_annealing as simulated_annealing
    from jaxpg.agents.steepest_ascent import steepest_ascent as steepest_ascent
    from jaxpg.agents.td3 import td3 as td3
    from jaxpg.agents.trpo import trpo as trpo
    from jaxpg.core import schedules as schedules
    from jaxpg.core.config import config as config, number as number, static as static
    from jaxpg.core.env import Env as Env, rollout as rollout
    from jaxpg.core.episodes import evaluate as evaluate
    from jaxpg.core.machine import (
        use_all_cores as use_all_cores,
        use_cache as use_cache,
        use_command_buffers as use_command_buffers,
        use_one_thread as use_one_thread,
    )
    from jaxpg.core.metrics import recent_mean as recent_mean
    from jaxpg.core.parallel.processes import distributed as distributed
    from jaxpg.core.random_cpu import use_fast_random as use_fast_random
    from jaxpg.core.run import Callback as Callback, Event as Event, Result as Result
    from jaxpg.core.train import train as train
    from jaxpg.core.types import Agent as Agent, Transition as Transition
    from jaxpg.envs.contract import check_env as check_env
    from jaxpg.envs.registry import make as make
    from jaxpg.envs.wrappers.functions import (
        action_repeat as action_repeat,
        clip_reward as clip_reward,
        flatten_observation as flatten_observation,
        frame_stack as frame_stack,
        grayscale_observation as grayscale_observation,
        levels as levels,
        noisy_actions as noisy_actions,
        noisy_observations as noisy_observations,
        randomized as randomized,
        residual as residual,
        resize_observation as resize_observation,
        scale_reward as scale_reward,
        shielded as shielded,
        sticky_actions as sticky_actions,
        time_aware_observation as time_aware_observation,
        time_limit as time_limit,
    )
    from jaxpg.experiment import callbacks as callbacks, diagnostics as diagnostics, figures, sweeps
    from jaxpg.experiment.analysis import statistics as statistics
    from jaxpg.experiment.export.policy import Policy as Policy
    from jaxpg.experiment.jobs import fan_out as fan_out
    from jaxpg.experiment.render.video import render as render
    from jaxpg.experiment.report.build import report as report
    from jaxpg.experiment.robustness import robustness as robustness
    from jaxpg.experiment.run.checkpoint import CheckpointError as CheckpointError
    from jaxpg.experiment.runs import load as load, resume as resume, run as run
    from jaxpg.experiment.sweeps.compare import compare as compare
    from jaxpg.experiment.sweeps.search import search as search
    from jaxpg.experiment.tuning.tune import tune as tune
    from jaxpg.presets import preset as preset

    pictures = figures
    sweep = sweeps
    # isort: on
else:
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
