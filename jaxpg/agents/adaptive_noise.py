"""Hill climbing with adaptive noise: the radius shrinks on success and widens on failure.

    theta' = theta + r eps;      if f(theta') >= f(theta):  theta <- theta',  r <- shrink r
                                 else:                                      r <- widen r

f is the mean return of the policy with parameters theta. Where things get better the search looks
closely, where they do not it looks farther: the reverse of the 1/5 rule of evolution strategies,
which widens on success to go faster. It gets off plateaus, which are what CartPole is made of.

f is measured with noise. By default an incumbent keeps the score that it won with, lucky or not;
`reevaluate=True` lets it play the same episodes as its challenger, at twice the price.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.config import config, number, static
from jaxpg.core.env import Env
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics
from jaxpg.loops import population
from jaxpg.nets.heads import POINT_HEADS
from jaxpg.nets.networks import ACTIVATIONS, INITS, MLP


@config
class Config:
    sigma: float = number(0.1, ge=0)  # the first radius: deviation of a neighbour, per parameter
    sigma_schedule: str = schedule()
    shrink: float = number(0.7, gt=0, le=1)
    widen: float = number(1.2, ge=1)
    min_scale: float = number(0.01, gt=0, le=1)  # the radius stays between these times sigma
    max_scale: float = number(20.0, ge=1)
    reevaluate: bool = static(False)  # the incumbent too, on the same episodes
    episodes: int = static(4, ge=1)  # of an evaluation
    num_steps: int = static(500, ge=1)  # of an episode, at most
    greedy: bool = static(True)  # the policy's mode, else samples
    head: str = static("auto", choices=POINT_HEADS)
    temperature: float = number(1.0, gt=0)  # of a categorical head
    net: type = static(MLP)  # any flax module: net(hidden, activation, kernel_init)
    hidden: tuple[int, ...] = static((), ge=1)  # () is a linear policy
    activation: str = static("tanh", choices=ACTIVATIONS)
    kernel_init: str = static("orthogonal", choices=INITS)
    layer_norm: bool = static(False)
    warmup: float = number(0.05, ge=0, le=1)  # fraction of the run, of warmup schedules
    total_steps: float | None = number(None, gt=0)  # of schedules; `train` and `run` fill it in

    shared = False  # one network, and one candidate at a time
    common_random_numbers, slice_size, devices = True, None, 1


class TrainState(NamedTuple):
    params: Array  # [D]
    score: Array  # [] what they won with
    scale: Array  # [] the radius, in units of sigma
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.start(cfg, env, k_params)
    one = jnp.ones((), params.dtype)
    return TrainState(params, population.unscored(), one, jnp.zeros((), jnp.int32), key)


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    radius = cfg.sigma * state.scale
    neighbour = population.neighbours(state.params, radius, k_noise, 1)
    score, value, metrics = population.challenge(
        cfg, env, state.params, state.score, neighbour, k_eval
    )
    better = value[0] >= score
    params = jnp.where(better, neighbour[0], state.params)
    score = jnp.where(better, value[0], score)
    scale = state.scale * jnp.where(better, cfg.shrink, cfg.widen)
    scale = jnp.clip(scale, cfg.min_scale, cfg.max_scale).astype(state.scale.dtype)
    metrics |= {
        "population/score": score,
        "population/sigma": radius,
        "update/accepted": better.astype(float),
    }
    return TrainState(params, score, scale, state.iteration + 1, key), metrics


def act(cfg: Config, env: Env, state: TrainState, obs, carry, key: Key, greedy: bool):
    return population.act(cfg, env, state.params, (), obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """As many as are simulated at most; `population/env_steps` says how many were lived."""
    return (1 + cfg.reevaluate) * cfg.episodes * cfg.num_steps


adaptive_noise = Agent("adaptive_noise", Config, init, step, act, steps_per_iter)
