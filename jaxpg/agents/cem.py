"""The cross-entropy method with extra noise: de Boer et al. (2005), Szita & Lorincz (2006).

A Gaussian over the parameters, one mean and one variance each, is fitted again and again to the
best of its own samples, the elite:

    theta_i ~ N(mu, diag(var));   mu <- mean of the elite,  var <- variance of the elite + Z_t

Without Z_t the spread vanishes before the mean is any good (Szita & Lorincz, fig. 1). It is
`extra_noise` times the first variance and falls linearly to 0 over the run. The mean acts.
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
    population: int = static(64, ge=1, help="Candidates of an iteration.")
    elites: int = static(
        8, ge=1, help="Best candidates, which make the next mean; at most the population."
    )
    sigma: float = number(0.5, ge=0, help="First deviation, per parameter.")
    extra_noise: float = number(0.05, ge=0, help="Variance added, in units of sigma^2.")
    extra_noise_schedule: Schedule = schedule("linear")
    normalize_obs: bool = fields.normalize_obs(False)
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
    params: Array  # [D] the mean
    std: Array  # [D]
    obs_stats: RunningStats | tuple[()]  # () when off
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.initial_params(cfg, env, k_params)
    if cfg.elites > cfg.population:
        raise ValueError(
            f"cem.Config elites={cfg.elites}: allowed is an integer <= population={cfg.population}"
        )
    std = jnp.full(params.shape, cfg.sigma, params.dtype)
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    return TrainState(params, std, stats, jnp.zeros((), jnp.int32), key)


def fit(candidates: Array, value: Array, elites: int) -> tuple[Array, Array, Array]:
    """Mean and variance [D] of the elite of [P, D]; and how many these are. The infinitely bad
    do not belong to it, not even if there are not enough others."""
    top, index = jax.lax.top_k(value, elites)
    fine = jnp.isfinite(top)
    elite = jnp.where(fine[:, None], candidates[index], 0)
    count = fine.sum(dtype=jnp.int32)
    mean = elite.sum(0) / jnp.maximum(count, 1)
    off = jnp.where(fine[:, None], elite - mean, 0)
    return mean, jnp.square(off).sum(0) / jnp.maximum(count, 1), count


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    candidates = population.neighbours(state.params, state.std, k_noise, cfg.population)
    value, stats, metrics = population.fitness(cfg, env, candidates, state.obs_stats, k_eval)
    mean, var, count = fit(candidates, value, cfg.elites)
    std = jnp.sqrt(var + cfg.extra_noise * jnp.square(cfg.sigma)).astype(state.std.dtype)
    state = TrainState(
        params=jnp.where(count > 0, mean, state.params),
        std=jnp.where(count > 0, std, state.std),
        obs_stats=stats,
        iteration=state.iteration + 1,
        key=key,
    )
    return state, metrics | {"population/sigma": state.std.mean()}


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return cfg.population * cfg.episodes * episode_steps(cfg)


cem = Agent("cem", Config, init, step, act, steps_per_iter)
