"""Hill climbing: one random neighbour at a time, kept if it is no worse.

    theta' = theta + sigma eps,  eps ~ N(0, I);      theta <- theta'  if  f(theta') >= f(theta)

f is the mean return of the policy with parameters theta; the search is Matyas' (1965). Equals are
accepted, so that it crosses plateaus.

f is measured with noise. By default an incumbent keeps the score that it won with, lucky or not;
`reevaluate=True` lets it play the same episodes as its challenger, at twice the price.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import fields
from jaxpg.core.config import config, number
from jaxpg.core.env import Env
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.train import episode_steps
from jaxpg.core.types import Agent, Array, Key, Metrics, Schedule, Tree
from jaxpg.loops import population
from jaxpg.nets.networks import MLP
from jaxpg.ops.normalize import RunningStats, init_stats


@config
class Config:
    sigma: float = number(0.3, ge=0, help="Deviation of a neighbour, per parameter.")
    sigma_schedule: Schedule = schedule()
    normalize_obs: bool = fields.normalize_obs(False)
    reevaluate: bool = fields.reevaluate(False)
    episodes: int = fields.episodes(4)
    num_steps: int | None = fields.episode_steps(None)
    greedy: bool = fields.greedy(True)
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
    common_random_numbers: ClassVar[bool] = True  # one candidate at a time
    slice_size: ClassVar[None] = None
    devices: ClassVar[int] = 1


class TrainState(NamedTuple):
    params: Array  # [D]
    score: Array  # [] fitness of the incumbent when it was accepted
    obs_stats: RunningStats | tuple[()]  # () when off
    acting_stats: RunningStats | tuple[()]  # those with which it was accepted
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
    neighbour = population.neighbours(state.params, cfg.sigma, k_noise, 1)
    score, value, stats, metrics = population.challenge(
        cfg, env, state.params, state.score, neighbour, state.obs_stats, k_eval
    )
    better = value[0] >= score
    scored = better | cfg.reevaluate
    acting = population.scored_with(scored, state.obs_stats, state.acting_stats)
    params = jnp.where(better, neighbour[0], state.params)
    score = jnp.where(better, value[0], score)
    metrics |= {"population/score": score, "update/accepted": better.astype(float)}
    return TrainState(params, score, stats, acting, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.acting_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return (1 + cfg.reevaluate) * cfg.episodes * episode_steps(cfg)


hill_climbing = Agent("hill_climbing", Config, init, step, act, steps_per_iter)
