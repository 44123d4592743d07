"""Robustness: the returns of a policy in environments whose parameters are not those of training.

    grid = {"length": np.linspace(0.25, 1.5, 20), "masspole": np.linspace(0.05, 1, 20)}
    found = measure(ppo, cfg, env, state, key, grid)
    summarize(found)  # nominal, mean, worst and CVaR of the grid

`figures.robustness` draws them. A world is the environment with one value for each parameter. All
worlds are one program, vmapped over parameters, and begin with the same random draws, so that what
differs between two worlds is what the parameters do. The policy acts as in its own environment: its
actions keep their units, whatever bounds a world has.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core import machine
from jaxpg.core.checks import require_integer
from jaxpg.core.episodes import (
    begin_episodes,
    key_for_each_seed,
    play_until_ended,
    policy_of,
    require_episodes,
    step_limit,
)
from jaxpg.core.metrics import add_step
from jaxpg.core.train import require_objects
from jaxpg.core.types import Agent, Array, C, Key, Tree, jit
from jaxpg.envs.recipes import require_limits
from jaxpg.envs.worlds import drawn_ranges, fix_params, nominal, require_parameter

LANES = 2048  # episodes that are played side by side: what the cache of a core holds
LANES_OF_A_GPU = 2**17
WORST = 0.1  # share of the worlds in the CVaR


class Robustness(NamedTuple):
    """Returns of a policy over a grid of worlds. G = the product of the axes' lengths."""

    name: str
    grid: dict[str, np.ndarray]  # of each parameter its values, rising
    returns: np.ndarray  # [seeds, *lengths of the axes, episodes]; NaN: an episode did not end
    nominal: dict[str, float]  # of each parameter its value in the environment itself
    nominal_returns: np.ndarray  # [seeds, episodes] in the nominal world
    trained: dict[str, tuple[float, float]]  # of parameters that training drew, the range


def measure(
    agent: Agent[C],
    cfg: C,
    env: E.Env,
    state: Tree,
    key: Key,
    grid: Mapping[str, np.ndarray],
    episodes: int = 64,
    greedy: bool = True,
    name: str = "",
) -> Robustness:
    """Plays whole episodes in each world of a grid.

    state: as of `evaluate`, of one seed or with a leading [seeds]. grid: the values of each
    parameter, in any order; of integers the nearest ones. A parameter that the environment draws is
    fixed at the grid's value, or at the nominal one. Raises ValueError for what cannot work:
    unknown parameters, those that are no single number, values beyond the environment's limits.
    """
    require_objects(agent, cfg, env)
    require_integer("episodes", episodes, 1)
    grid = {k: settle_axis(env, k, x) for k, x in grid.items()}
    usual = {k: np.asarray(nominal(env, k)) for k in grid}
    meshed = [x.ravel() for x in np.meshgrid(*grid.values(), indexing="ij")]
    worlds = {k: np.append(x, usual[k]) for k, x in zip(grid, meshed, strict=True)}
    count = len(meshed[0])
    require_episodes(env, "episodes", episodes)
    keys = key_for_each_seed(agent, cfg, env, state, key)
    if not keys.ndim:
        state = jax.tree.map(lambda x: x[None], state)
    blocks, most = _in_blocks(worlds, episodes), step_limit(env)
    found = np.asarray(_returns(agent, cfg, env, state, key, blocks, episodes, greedy, most))
    found = found.reshape(len(found), -1, episodes)[:, : count + 1]  # but for the filling
    shape = [len(x) for x in grid.values()]
    drawn = drawn_ranges(env)
    return Robustness(
        name=name or f"{agent.name}-{env.name}",
        grid=grid,
        returns=found[:, :-1].reshape(len(found), *shape, episodes),
        nominal={k: float(x) for k, x in usual.items()},
        nominal_returns=found[:, -1],
        trained={k: (float(drawn[k][0]), float(drawn[k][1])) for k in grid if k in drawn},
    )


def settle_axis(env: E.Env, name: str, values: np.ndarray) -> np.ndarray:
    """The values of a parameter, rising and each once, in its dtype. Raises ValueError for what is
    no parameter of one number, and for values beyond its limits."""
    require_parameter(env, name)
    kind = np.asarray(nominal(env, name)).dtype
    whole = kind.kind in ("i", "u")
    values = np.unique(np.round(values).astype(kind) if whole else np.asarray(values, float))
    if not (values.size and np.isfinite(values).all()):
        raise ValueError(f"{env.name} {name}={values}: allowed are finite numbers, at least one")
    if name == "max_steps_in_episode" and values[0] < 1:
        raise ValueError(f"{env.name} {name}={values[0]}: allowed is an integer >= 1")
    for value in (values[0], values[-1]):
        require_limits(env.name, env.core, fix_params(env, {name: value}).params)
    return values


def _in_blocks(worlds: dict[str, np.ndarray], episodes: int) -> dict[str, np.ndarray]:
    """Worlds [W] as [blocks, worlds of a block], filled up with the last one."""
    count = len(next(iter(worlds.values())))
    lanes = LANES_OF_A_GPU if machine.on_gpu() else LANES
    size = min(max(1, lanes // episodes), count)
    blocks = -(-count // size)

    def lay(x: np.ndarray) -> np.ndarray:
        return np.pad(x, (0, blocks * size - count), mode="edge").reshape(blocks, size)

    return {name: lay(x) for name, x in worlds.items()}


@jit(static_argnames=("agent", "episodes", "greedy", "max_steps"))
def _returns(
    agent: Agent[C], cfg: C, env: E.Env, state: Tree, key: Key, worlds: dict[str, Any],
    episodes: int, greedy: bool, max_steps: int,
) -> Array:  # fmt: skip
    """Returns [seeds, blocks, worlds of a block, episodes], block by block: each ends with the last
    of its own episodes."""

    def play(state):
        asked = state, key, episodes, greedy, max_steps
        return jax.lax.map(functools.partial(_play_block, agent, cfg, env, *asked), worlds)

    return jax.lax.map(play, state)


def _play_block(
    agent: Agent, cfg, env: E.Env, state: Tree, key: Key, episodes: int, greedy: bool,
    max_steps: int, worlds: dict[str, Array],
) -> Array:  # fmt: skip
    """Returns [worlds, episodes] of worlds that are played side by side."""
    policy = policy_of(agent, cfg, env, state, greedy)

    def begin(values):
        env_state, carry, _ = begin_episodes(fix_params(env, values), policy, key, episodes)
        return env_state, carry

    def step(values, env_state, carry, k_policy, k_env):
        action, carry, _ = policy(env_state.obs, carry, k_policy)
        new, t = E.step(fix_params(env, values), env_state, action, k_env, reset=False)
        return new, carry, t.terminated | t.truncated, add_step(env_state, t)[0]["return"]

    def advance(i, alive, loop):
        env_state, carry, found = loop
        k_policy, k_env = jax.random.split(jax.random.fold_in(key, i))
        both = jax.vmap(step, (0, 0, 0, None, None))
        env_state, carry, ended, total = both(worlds, env_state, carry, k_policy, k_env)
        return (env_state, carry, jnp.where(alive & ended, total, found)), ended

    shape = len(next(iter(worlds.values()))), episodes
    loop = *jax.vmap(begin)(worlds), jnp.full(shape, jnp.nan, float)
    (*_, found), _ = play_until_ended(advance, loop, shape, max_steps)
    return found


def conditional_value(means: np.ndarray, share: float = WORST) -> np.ndarray:
    """CVaR [...] of returns: the mean of the lowest share of the worlds' means [..., W], each as
    likely; of a world on the edge the part that belongs to it."""
    count = share * means.shape[-1]
    weight = np.clip(count - np.arange(means.shape[-1]), 0, 1)
    return (np.sort(means, -1) * weight).sum(-1) / weight.sum()


def summarize(found: Robustness, share: float = WORST) -> dict[str, np.ndarray]:
    """Sums up a policy's mean returns over the grid, by seed [seeds]: at the nominal parameters,
    the mean, the worst world's, and the CVaR: the mean of the worst share of worlds."""
    means = found.returns.mean(-1).reshape(len(found.returns), -1)
    return {
        "nominal": found.nominal_returns.mean(-1),
        "mean": means.mean(-1),
        "worst": means.min(-1),
        f"CVaR {share:.0%}": conditional_value(means, share),
    }


def table_rows(several: list[Robustness]) -> list[list[str]]:
    """Rows of a CSV file, the first with the names: of each run, world and seed the mean and the
    standard deviation of returns."""
    names = [*several[0].grid]
    rows = [["run", *names, "seed", "mean", "std"]]
    for found in several:
        places = list(np.ndindex(*(len(x) for x in found.grid.values())))
        for place in places:
            world = [str(found.grid[k][i]) for k, i in zip(names, place, strict=True)]
            for seed, returns in enumerate(found.returns):
                x = returns[place]
                rows.append([found.name, *world, str(seed), f"{x.mean():.6g}", f"{x.std():.6g}"])
    return rows
