"""Hill climbing: one random neighbour at a time, kept if it is no worse.

    theta' = theta + sigma eps,  eps ~ N(0, I);      theta <- theta'  if  f(theta') >= f(theta)

f is the mean return of the policy with parameters theta; the search is Matyas' (1965). Equals are
accepted, so that it crosses plateaus.

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
    sigma: float = number(0.3, ge=0)  # deviation of a neighbour, per parameter
    sigma_schedule: str = schedule()
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
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.start(cfg, env, k_params)
    return TrainState(params, population.unscored(), jnp.zeros((), jnp.int32), key)


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    neighbour = population.neighbours(state.params, cfg.sigma, k_noise, 1)
    score, value, metrics = population.challenge(
        cfg, env, state.params, state.score, neighbour, k_eval
    )
    better = value[0] >= score
    params = jnp.where(better, neighbour[0], state.params)
    score = jnp.where(better, value[0], score)
    metrics |= {"population/score": score, "update/accepted": better.astype(float)}
    return TrainState(params, score, state.iteration + 1, key), metrics


def act(cfg: Config, env: Env, state: TrainState, obs, carry, key: Key, greedy: bool):
    return population.act(cfg, env, state.params, (), obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """As many as are simulated at most; `population/env_steps` says how many were lived."""
    return (1 + cfg.reevaluate) * cfg.episodes * cfg.num_steps


hill_climbing = Agent("hill_climbing", Config, init, step, act, steps_per_iter)
