"""Hill climbing with adaptive noise: the radius shrinks on success and widens on failure.

    theta' = theta + r eps;      if f(theta') >= f(theta):  theta <- theta',  r <- shrink r
                                 else:                                      r <- widen r

f is the mean return of the policy with parameters theta. Where things get better the search looks
closely, where they do not it looks farther: the reverse of the 1/5 rule of evolution strategies,
which widens on success to go faster. It gets off plateaus, which are what CartPole is made of.

f is measured with noise; `reevaluate` is about that, as in hill climbing.
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
    sigma: float = number(0.1, ge=0, help="First radius: deviation of a neighbour, per parameter.")
    sigma_schedule: Schedule = schedule()
    shrink: float = number(
        0.7, gt=0, le=1, help="Factor of the radius after a neighbour that was better."
    )
    widen: float = number(1.2, ge=1, help="Factor of the radius after one that was not.")
    min_scale: float = number(0.01, gt=0, le=1, help="Least radius, in units of sigma.")
    max_scale: float = number(20.0, ge=1, help="Largest radius, in units of sigma.")
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
    scale: Array  # [] the radius, in units of sigma
    obs_stats: RunningStats | tuple[()]  # () when off
    acting_stats: RunningStats | tuple[()]  # those with which it was accepted
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.initial_params(cfg, env, k_params)
    one = jnp.ones((), params.dtype)
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    score, iteration = population.unscored(), jnp.zeros((), jnp.int32)
    return TrainState(params, score, one, stats, stats, iteration, key)


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    radius = cfg.sigma * state.scale
    neighbour = population.neighbours(state.params, radius, k_noise, 1)
    score, value, stats, metrics = population.challenge(
        cfg, env, state.params, state.score, neighbour, state.obs_stats, k_eval
    )
    better = value[0] >= score
    scored = better | cfg.reevaluate
    acting = population.scored_with(scored, state.obs_stats, state.acting_stats)
    params = jnp.where(better, neighbour[0], state.params)
    score = jnp.where(better, value[0], score)
    scale = state.scale * jnp.where(better, cfg.shrink, cfg.widen)
    scale = jnp.clip(scale, cfg.min_scale, cfg.max_scale).astype(state.scale.dtype)
    metrics |= {
        "population/score": score,
        "population/sigma": radius,
        "update/accepted": better.astype(float),
    }
    return TrainState(params, score, scale, stats, acting, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.acting_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return (1 + cfg.reevaluate) * cfg.episodes * episode_steps(cfg)


adaptive_noise = Agent("adaptive_noise", Config, init, step, act, steps_per_iter)
