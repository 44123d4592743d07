"""Augmented random search, Mania, Guy & Recht (2018), arXiv:1803.07055, algorithm 1.

    theta <- theta + alpha / (b sigma_R)  sum_k (r_k+ - r_k-) delta_k

over the b best of N random directions delta, judged by max(r_k+, r_k-), the returns of theta +
and - nu delta; sigma_R is the deviation of the 2 b returns that are used. V1 sees observations as
they are; V2 (`normalize_obs=True`) divides them by the running deviation, less the running mean, of
all that were met. The paper's policies are linear; any network will do.

`learning_rate` is alpha and `sigma` is nu. Equal returns move nothing. Deviation: the linear
policy starts from the network's own, small initialisation instead of zeros.
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
from jaxpg.ops.normalize import RunningStats, init_stats, standardize


@config
class Config:
    directions: int = static(
        16, ge=1, help="N, random directions; the population is twice as many."
    )
    top_directions: int = static(8, ge=1, help="b, directions that are used: at most N.")
    learning_rate: float = number(0.02, ge=0, help="Step size alpha.")
    learning_rate_schedule: Schedule = schedule()
    sigma: float = number(0.05, gt=0, help="nu, deviation of the noise, per parameter.")
    sigma_schedule: Schedule = schedule()
    normalize_obs: bool = fields.normalize_obs(
        True, help="Observations as V2 has them, normalised; False is V1."
    )
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
    obs_stats: RunningStats | tuple[()]  # () when off
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.initial_params(cfg, env, k_params)
    if cfg.top_directions > cfg.directions:
        raise ValueError(
            f"ars.Config top_directions={cfg.top_directions}: allowed is an integer <= "
            f"directions={cfg.directions}"
        )
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    return TrainState(params, stats, jnp.zeros((), jnp.int32), key)


def ascent(noise: Array, plus: Array, minus: Array, top: int) -> Array:
    """Direction [D] of an update from directions delta [N, D] and returns [N]: of the `top`."""
    _, index = jax.lax.top_k(jnp.maximum(plus, minus), top)
    noise, plus, minus = noise[index], plus[index], minus[index]
    used = standardize(jnp.concatenate([plus, minus]))  # over sigma_R; equals become zeros
    plus, minus = jnp.split(used, 2)
    return (plus - minus) @ noise / top


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    noise = jax.random.normal(k_noise, (cfg.directions, state.params.size), state.params.dtype)
    both = cfg.sigma * jnp.concatenate([noise, -noise])
    candidates = (state.params + both).astype(state.params.dtype)
    value, stats, metrics = population.fitness(cfg, env, candidates, state.obs_stats, k_eval)
    plus, minus = jnp.split(population.bounded(value), 2)
    change = cfg.learning_rate * ascent(noise, plus, minus, cfg.top_directions)
    params = (state.params + change).astype(state.params.dtype)
    metrics |= {"update/norm": jnp.linalg.norm(change)}
    return TrainState(params, stats, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return 2 * cfg.directions * cfg.episodes * episode_steps(cfg)


ars = Agent("ars", Config, init, step, act, steps_per_iter)
