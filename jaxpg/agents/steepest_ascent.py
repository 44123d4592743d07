"""Steepest-ascent hill climbing: the best of several neighbours, if it is no worse.

    theta_i = theta + sigma eps_i,  i = 1 .. n;      theta <- argmax f(theta_i)  if no worse

f is the mean return of the policy with parameters theta (Russell & Norvig, ch. 4). The neighbours
live side by side, so n of them take little longer than one does.

f is measured with noise, and the best of many is often the luckiest. By default an incumbent keeps
the score that it won with; `reevaluate=True` lets it play the same episodes as its challengers.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import fields
from jaxpg.core.config import config, number, static
from jaxpg.core.env import Env
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.train import episode_steps
from jaxpg.core.types import Agent, Array, Key, Metrics, Schedule, Tree
from jaxpg.loops import population
from jaxpg.nets.networks import MLP
from jaxpg.ops.normalize import RunningStats, init_stats


@config
class Config:
    population: int = static(16, ge=1, help="Neighbours of an iteration.")
    sigma: float = number(0.3, ge=0, help="Deviation of the neighbours, per parameter.")
    sigma_schedule: Schedule = schedule()
    normalize_obs: bool = fields.normalize_obs(False)
    reevaluate: bool = fields.reevaluate(True)
    episodes: int = fields.episodes(4)
    num_steps: int | None = fields.episode_steps(None)
    greedy: bool = fields.greedy(True)
    common_random_numbers: bool = fields.common_random_numbers(True)
    slice_size: int | None = fields.slice_size(None)
    devices: int = fields.devices(1)
    head: str = fields.point_head("auto")
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden(())
    activation: fields.Activation = fields.activation("tanh")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    shared: ClassVar[bool] = False  # one network
    memory: ClassVar[str] = "none"  # candidates act on one observation at a time
    batch_norm: ClassVar[bool] = False  # a search has no batch to take statistics of


class TrainState(NamedTuple):
    params: Array  # [D]
    score: Array  # [] of the parameters, when they were the best neighbour
    obs_stats: RunningStats | tuple[()]  # () when off
    acting_stats: RunningStats | tuple[()]  # those through which they saw then
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.initial_params(cfg, env, k_params)
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    return TrainState(params, population.unscored(), stats, stats, jnp.zeros((), jnp.int32), key)


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    neighbours = population.neighbours(state.params, cfg.sigma, k_noise, cfg.population)
    score, value, stats, metrics = population.challenge(
        cfg, env, state.params, state.score, neighbours, state.obs_stats, k_eval
    )
    best = value.argmax()
    better = value[best] >= score
    scored = better | cfg.reevaluate
    acting = population.scored_with(scored, state.obs_stats, state.acting_stats)
    params = jnp.where(better, neighbours[best], state.params)
    score = jnp.where(better, value[best], score)
    metrics |= {"population/score": score, "update/accepted": better.astype(float)}
    return TrainState(params, score, stats, acting, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.acting_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return (cfg.population + cfg.reevaluate) * cfg.episodes * episode_steps(cfg)


steepest_ascent = Agent("steepest_ascent", Config, init, step, act, steps_per_iter)
