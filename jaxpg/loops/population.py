"""Fitness of flat parameter vectors: all that black-box policy search needs of the world.

A candidate is a vector [D], all parameters of a policy network. Its fitness is the mean return of
`episodes` first episodes. Every candidate lives in environments of its own, all at once; with
common random numbers they start alike and meet the same noise, so that a difference between two
of them is theirs and not their luck's.

These functions read the fields `episodes, num_steps, greedy, common_random_numbers, slice_size,
devices` of a config, and those of the network. `stats` whiten observations; () leaves them alone.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from jaxpg.core import env as E
from jaxpg.core.checks import require_key
from jaxpg.core.config import label, validate
from jaxpg.core.episodes import play_until_ended
from jaxpg.core.metrics import add_step, episode_metrics
from jaxpg.core.train import episode_limit, episode_steps, without_weak_types
from jaxpg.core.types import Array, Key, Metrics, Tree
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import normalize
from jaxpg.ops.normalize import RunningStats, masked_mean, whiten

Stats = RunningStats | tuple[()]


class Lives(NamedTuple):
    """The first episodes of P candidates, E of each."""

    returns: Array  # [P, E] undiscounted, until the end or `num_steps`
    lengths: Array  # [P, E] int32
    ended: Array  # [P, E] bool
    signals: dict[str, Array]  # [P, E] each: sums of the scalar ones, like the returns
    seen: Stats  # [P, ...] of the observations; () if nobody asks


def initial_params(cfg, env: E.Env, key: Key) -> Array:
    """The parameters [D] that a search begins with: the network's own initialisation.

    Raises ValueError for a config that cannot work: `num_steps` below the longest episode, or
    more `devices` than there are.
    """
    require_key(key)
    validate(cfg)
    if (longest := episode_limit(env)) > episode_steps(cfg, env):
        raise ValueError(
            f"{label(type(cfg))} num_steps={cfg.num_steps}: allowed is an integer >= "
            f"{longest}, the longest episode of {env.name}; fitness is of whole ones"
        )
    if cfg.devices > len(jax.devices()):
        raise ValueError(
            f"{label(type(cfg))} devices={cfg.devices}: allowed is an integer <= "
            f"{len(jax.devices())}, as many as there are; jaxpg.use_all_cores() makes one of each"
        )
    net, _ = actor_critic(cfg, env)
    return ravel_pytree(net.init(key, env.example_obs, method="policy"))[0]


def act(cfg, env: E.Env, params: Array, stats, obs: Tree, carry, key: Key, greedy: bool):
    """An agent's `act` under parameters [D]. A policy that was searched greedily stays greedy."""
    net, pi = actor_critic(cfg, env)
    out = net.apply(unraveller(cfg, env)(params), whiten(stats, obs), method="policy")
    draw = pi.mode(out) if greedy or cfg.greedy else pi.sample(out, key)[0]
    return pi.action(draw), carry


def fitness(
    cfg, env: E.Env, candidates: Array, stats: Stats, key: Key
) -> tuple[Array, Stats, Metrics]:
    """The fitness [P] of candidates [P, D]: the mean return of their first episodes.

    A fitness or a candidate that is not finite is the worst: -inf, and its episodes are no data.
    Returns also the statistics with all observations that were met, and the metrics of the
    population. `nan_guard` ends a run in which none is finite.
    """
    lives = _over_devices(cfg, env, candidates, stats, key)
    value = lives.returns.mean(-1)
    fine = jnp.isfinite(value) & jnp.isfinite(candidates).all(-1)
    counts = lives.ended & fine[:, None]
    totals = lives.signals | {"return": lives.returns}
    sums = {name: jnp.where(counts, x, 0).sum() for name, x in totals.items()} | {
        "length": jnp.where(counts, lives.lengths, 0).sum(dtype=float),
        "count": counts.sum(dtype=jnp.int32),
    }
    metrics = episode_metrics(sums) | {
        "population/best": jnp.where(fine, value, -jnp.inf).max(),
        "population/mean": masked_mean(value, fine),
        "population/env_steps": lives.lengths.sum(dtype=jnp.int32),
    }
    return jnp.where(fine, value, -jnp.inf), merge_stats(stats, lives.seen), metrics


def unscored() -> Array:
    """Score of what was never evaluated: everything beats it, and a state stays finite."""
    return jnp.asarray(jnp.finfo(jnp.result_type(float)).min)


def challenge(
    cfg, env: E.Env, params: Array, score: Array, challengers: Array, stats: Stats, key: Key
) -> tuple[Array, Array, Stats, Metrics]:
    """The fitness of an incumbent [] and of those who challenge it, [P, D] -> [P]; the statistics
    with all observations that were met; and metrics.

    The incumbent plays the same episodes if the config's `reevaluate` is on, else it keeps the
    score that it has.
    """
    if not cfg.reevaluate:
        value, stats, metrics = fitness(cfg, env, challengers, stats, key)
        return score, value, stats, metrics
    everyone = jnp.concatenate([params[None], challengers])
    value, stats, metrics = fitness(cfg, env, everyone, stats, key)
    return jnp.maximum(value[0], unscored()), value[1:], stats, metrics


def scored_with(scored: Array, now: Stats, before: Stats) -> Stats:
    """Statistics that the score of what acts belongs to: those of `now` if it was `scored` [] bool
    now, else those of before. With others the same parameters are another policy."""
    return jax.tree.map(functools.partial(jnp.where, scored), now, before)


def neighbours(params: Array, sigma, key: Key, count: int) -> Array:
    """Parameters [D] with Gaussian noise of deviation `sigma`, [] or [D], `count` times."""
    noise = jax.random.normal(key, (count, *params.shape), params.dtype)
    return params + jnp.asarray(sigma, params.dtype) * noise


def bounded(value: Array) -> Array:
    """Fitness [P] for methods that calculate with it: -inf becomes the worst that is finite."""
    fine = jnp.isfinite(value)
    worst = jnp.where(fine, value, jnp.inf).min()
    return jnp.where(fine, value, jnp.where(fine.any(), worst, 0))


def unraveller(cfg, env: E.Env):
    """The function from a vector [D] to the network's parameters."""
    net, _ = actor_critic(cfg, env)
    init = functools.partial(net.init, method="policy")
    shapes = jax.eval_shape(init, jax.random.key(0), env.example_obs)
    return ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))[1]


def _over_devices(cfg, env: E.Env, candidates: Array, stats, key: Key) -> Lives:
    """`_live` for every candidate: each device takes a share of them, slice by slice."""
    count, devices = len(candidates), cfg.devices
    if jax.sharding.get_abstract_mesh().manual_axes:
        devices = 1  # seeds are laid over the devices already
    share = -(-count // devices)
    size = min(cfg.slice_size or share, share)
    slices = -(-share // size)
    shared, own = (cfg, env, stats, key), (candidates,)
    if not cfg.common_random_numbers:
        shared, own = (cfg, env, stats, None), (candidates, jax.random.split(key, count))

    def of_device(shared, own):
        if slices == 1:
            return _live(shared, own)
        own = jax.tree.map(lambda x: x.reshape(slices, size, *x.shape[1:]), own)
        lives = jax.lax.map(functools.partial(_live, shared), own)
        return jax.tree.map(lambda x: x.reshape(slices * size, *x.shape[2:]), lives)

    if (whole := devices * slices * size) > count:  # the last candidate fills up the last slice
        filled = jnp.minimum(jnp.arange(whole), count - 1)
        own = jax.tree.map(lambda x: x[filled], own)
    if devices > 1:
        mesh = Mesh(np.array(jax.devices()[:devices]), ("candidate",))
        each = PartitionSpec("candidate")
        of_device = jax.shard_map(
            of_device, mesh=mesh, in_specs=(PartitionSpec(), each), out_specs=each, check_vma=False
        )
    return jax.tree.map(lambda x: x[:count], of_device(shared, own))


def _live(shared: tuple, own: tuple) -> Lives:
    """The first episodes of some candidates, all at once, until the last of them has ended."""
    (cfg, env, stats, key), candidates = shared, own[0]
    net, pi = actor_critic(cfg, env)
    params = jax.vmap(unraveller(cfg, env))(candidates)
    # With one key for all, what is random is computed once and not once a candidate.
    keys, axis = (key, None) if key is not None else (own[1], 0)

    def begin(key):
        return without_weak_types(E.reset(env, jax.random.fold_in(key, 0), cfg.episodes))

    def move(key, params, state, step):
        k_policy, k_env = jax.random.split(jax.random.fold_in(key, step + 1))
        out = net.apply(params, whiten(stats, state.obs), method="policy")
        draw = pi.mode(out) if cfg.greedy else pi.sample(out, k_policy)[0]
        return E.step_before_reset(env, state, pi.action(draw), k_env)

    def advance(step, alive, loop):
        state, lives = loop
        seen = lives.seen
        if seen != ():
            seen = jax.vmap(normalize.merge_stats)(seen, alive.astype(float), state.obs)
        new, t = jax.vmap(move, (axis, 0, 0, None))(keys, params, state, step)
        so_far, _ = add_step(state, t)
        totals = {"return": lives.returns} | lives.signals
        totals = {name: jnp.where(alive, so_far[name], x) for name, x in totals.items()}
        lives = Lives(totals.pop("return"), lives.lengths + alive, lives.ended, totals, seen)
        return (new, lives), t.terminated | t.truncated

    state = jax.vmap(begin, axis, axis_size=len(candidates))(keys)
    shape = len(candidates), cfg.episodes
    nothing = normalize.init_stats(env.example_obs, stats != ())
    lives = Lives(
        jnp.zeros(shape, float), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool),
        jax.tree.map(jnp.zeros_like, state.episode_signals),
        jax.tree.map(lambda x: jnp.broadcast_to(x, (len(candidates), *x.shape)), nothing),
    )  # fmt: skip
    (_, lives), ended = play_until_ended(advance, (state, lives), shape, episode_steps(cfg, env))
    return lives._replace(ended=ended)


def merge_stats(stats: Stats, seen: Stats) -> Stats:
    """Merges statistics with those of each candidate [P, ...] that are finite."""
    if not (stats and seen):
        return stats
    flat = [x.reshape(len(seen.count), -1) for x in jax.tree.leaves((seen.mean, seen.std))]
    fine = jnp.isfinite(jnp.concatenate(flat, -1)).all(-1)
    return normalize.merge_stats(stats, jnp.where(fine, seen.count, 0), seen.mean, seen.std)
