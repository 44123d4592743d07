"""Simulated annealing, Kirkpatrick, Gelatt & Vecchi (1983), of a policy's parameters.

    theta' = sqrt(1 - sigma^2) theta + sigma s eps
    theta <- theta'  with probability  min(1, exp((f' - f) / T))

f is the mean return of the policy with parameters theta, minus it the paper's energy; the rule is
Metropolis' (1953). Early, at a high temperature T, the search walks almost freely; later it climbs.
T falls geometrically, by the factor `cooling` a candidate, as the paper's schedule does. The best
parameters that were met act.

The neighbour is Crank and Nicolson's (Cotter et al. 2013, arXiv:1202.0709, eq. 4.4): with it the
free walk has the stationary law N(0, s^2 I). A plain step sigma eps walks off for ever, and the
farther off, the less a step is to a linear policy, which only feels the direction of its weights.

f is measured with noise; `reevaluate` is about that, as in hill climbing.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import fields
from jaxpg.core.config import config, number
from jaxpg.core.env import Env
from jaxpg.core.schedules import schedule, scheduled, unsigned
from jaxpg.core.train import episode_steps
from jaxpg.core.types import Agent, Array, Key, Metrics, Schedule, Tree
from jaxpg.loops import population
from jaxpg.nets.networks import MLP
from jaxpg.ops.normalize import RunningStats, init_stats


@config
class Config:
    sigma: float = number(0.5, ge=0, le=1, help="Step, in units of the scale.")
    sigma_schedule: Schedule = schedule()
    scale: float = number(1.0, gt=0, help="Deviation of the parameters in the long run.")
    initial_temperature: float = number(
        30.0, ge=0, help="First temperature T, in units of the return."
    )
    cooling: float = number(0.98, ge=0, le=1, help="Factor of the temperature for each candidate.")
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
    params: Array  # [D] where the walk is
    score: Array  # [] what they came with
    best: Array  # [D] the best parameters so far
    best_score: Array  # []
    obs_stats: RunningStats | tuple[()]  # () when off
    acting_stats: RunningStats | tuple[()]  # those with which it was the best
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.initial_params(cfg, env, k_params)
    here = params, population.unscored()
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    return TrainState(*here, *here, stats, stats, jnp.zeros((), jnp.int32), key)


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval, k_accept = jax.random.split(state.key, 4)
    kept = jnp.sqrt(1 - jnp.square(cfg.sigma)) * state.params
    neighbour = population.neighbours(kept, cfg.sigma * cfg.scale, k_noise, 1)
    score, value, stats, metrics = population.challenge(
        cfg, env, state.params, state.score, neighbour, state.obs_stats, k_eval
    )
    heat = cfg.initial_temperature * cfg.cooling ** unsigned(state.iteration).astype(float)
    accepted = (value[0] >= score) | (
        heat * jnp.log(jax.random.uniform(k_accept)) < value[0] - score
    )
    best = value[0] >= state.best_score
    metrics |= {
        "population/score": jnp.where(accepted, value[0], score),
        "population/temperature": heat,
        "update/accepted": accepted.astype(float),
    }
    state = TrainState(
        params=jnp.where(accepted, neighbour[0], state.params),
        score=metrics["population/score"],
        best=jnp.where(best, neighbour[0], state.best),
        best_score=jnp.where(best, value[0], state.best_score),
        obs_stats=stats,
        acting_stats=population.scored_with(best, state.obs_stats, state.acting_stats),
        iteration=state.iteration + 1,
        key=key,
    )
    return state, metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.best, state.acting_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return (1 + cfg.reevaluate) * cfg.episodes * episode_steps(cfg)


simulated_annealing = Agent("simulated_annealing", Config, init, step, act, steps_per_iter)
