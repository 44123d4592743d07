"""Evolution strategies, Salimans et al. (2017), arXiv:1703.03864.

The gradient of the return under Gaussian noise of the parameters, E f(theta + sigma eps), needs no
gradient of f (their eq. 1). It is estimated from antithetic pairs,

    g = 1 / (2 n sigma)  sum_i  (u(theta + sigma eps_i) - u(theta - sigma eps_i)) eps_i,

where u is the rank of the return in the population, centred and scaled to [-1/2, 1/2], and climbed
by Adam with weight decay (section 2 and algorithm 1).

Deviation: with at least as many pairs as parameters, and no more than 64 of these, the directions
are orthogonal and of length sqrt(D) in blocks of D (Choromanski et al. 2018, arXiv:1804.02395).
The estimate stays unbiased, and of a quadratic it is exact but for an incomplete last block.
`orthogonal=False` draws independent Gaussians; among many parameters they are nearly orthogonal
anyway. Equal returns share a rank: a population of equals is left where it is.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import fields
from jaxpg.core.config import config, number, static
from jaxpg.core.env import Env
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.train import episode_steps
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import population
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets.initializers import orthogonal as orthonormal
from jaxpg.nets.networks import MLP
from jaxpg.ops.normalize import RunningStats, init_stats

ORTHOGONAL = 64  # parameters at most: a block costs their number cubed


@config
class Config:
    population: int = static(64, ge=2, help="Candidates of an iteration: even, they are pairs.")
    sigma: float = number(0.1, gt=0, help="Deviation of the noise, per parameter.")
    sigma_schedule: Schedule = schedule()
    learning_rate: float = fields.learning_rate(0.03)
    learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="policy")
    weight_decay: float = number(0.005, ge=0, help="Coefficient of weight decay.")
    ranks: bool = static(True, help="Fitness is its centred rank, else the return itself.")
    orthogonal: bool = static(True, help="Directions of the noise are orthogonal.")
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
    hidden: tuple[int, ...] = fields.hidden((64, 64))
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
    opt_state: optax.OptState
    obs_stats: RunningStats | tuple[()]  # () when off
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: Env, key: Key) -> TrainState:
    key, k_params = jax.random.split(key)
    params = population.initial_params(cfg, env, k_params)
    if cfg.population % 2:
        raise ValueError(f"es.Config population={cfg.population}: allowed is an even integer >= 2")
    stats = init_stats(env.example_obs, cfg.normalize_obs)
    opt_state = optimizer(cfg, env).init(params)
    return TrainState(params, opt_state, stats, jnp.zeros((), jnp.int32), key)


def optimizer(cfg: Config, env: Env) -> optax.GradientTransformation:
    return build_optimizer(
        cfg.optimizer,
        cfg.learning_rate,
        unravel=lambda params: population.unraveller(cfg, env)(params),
    )


def directions(key: Key, pairs: int, size: int, orthogonal: bool = True) -> Array:
    """Perturbations eps [pairs, size], each added and subtracted, with E eps eps' = I."""
    if not orthogonal or size > min(pairs, ORTHOGONAL):
        return jax.random.normal(key, (pairs, size), jnp.float32)
    keys = jax.random.split(key, -(-pairs // size))
    blocks = jax.vmap(lambda k: orthonormal(size**0.5)(k, (size, size)))(keys)
    return blocks.reshape(-1, size)[:pairs]


def gradient(noise: Array, plus: Array, minus: Array, sigma) -> Array:
    """The estimate [D] from eps [n, D] and the utilities [n] of theta + and - sigma eps."""
    return (plus - minus) @ noise / (2 * len(noise) * sigma)


def centred_ranks(value: Array) -> Array:
    """Ranks of fitness [P], scaled to [-1/2, 1/2]; equals share the mean of theirs."""
    ordered = jnp.sort(value)
    below = jnp.searchsorted(ordered, value, side="left")
    upto = jnp.searchsorted(ordered, value, side="right")
    return (below + upto - 1) / (2 * max(len(value) - 1, 1)) - 0.5


def step(cfg: Config, env: Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_noise, k_eval = jax.random.split(state.key, 3)
    noise = directions(k_noise, cfg.population // 2, state.params.size, cfg.orthogonal)
    both = cfg.sigma * jnp.concatenate([noise, -noise])
    candidates = (state.params + both).astype(state.params.dtype)
    value, stats, metrics = population.fitness(cfg, env, candidates, state.obs_stats, k_eval)
    utility = centred_ranks(value) if cfg.ranks else population.bounded(value)
    plus, minus = jnp.split(utility, 2)
    ascent = gradient(noise, plus, minus, cfg.sigma)
    descent = (cfg.weight_decay * state.params - ascent).astype(state.params.dtype)
    updates, opt_state = optimizer(cfg, env).update(descent, state.opt_state, state.params)
    params: Tree = optax.apply_updates(state.params, updates)
    metrics |= {"update/norm": jnp.linalg.norm(updates)}
    return TrainState(params, opt_state, stats, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return population.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Upper bound: every episode at full length. `population/env_steps` counts the steps taken."""
    return cfg.population * cfg.episodes * episode_steps(cfg)


es = Agent("es", Config, init, step, act, steps_per_iter)
