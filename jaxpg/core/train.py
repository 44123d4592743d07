"""Training as a pure function: jit it, vmap it over keys, configs and environment parameters."""

import dataclasses
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import require_env, require_key, show
from jaxpg.core.config import label, replace, validate
from jaxpg.core.env import Env
from jaxpg.core.machine import collector_paused
from jaxpg.core.memory import largest_number, require_memory, tree_bytes
from jaxpg.core.packing import pack, unpack
from jaxpg.core.protocol import check_environment
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.single import wait_for_host
from jaxpg.core.types import Agent, Array, C, Key, Metrics, Tree

MOST_ITERATIONS = 2**32 - 1  # of the four bytes in which a state counts them
NO_LIMIT = 500  # steps of an episode, where the environment has no limit of its own


def require_agent(agent: Any) -> None:
    """Raises ValueError unless a value is an Agent."""
    if not isinstance(agent, Agent):
        raise ValueError(f"agent={show(agent)}: allowed is an Agent, such as jaxpg.ppo")


def require_objects(agent: Agent, cfg: Any, env: Env) -> None:
    """Raises ValueError unless these are an agent, a config of its own, and an environment."""
    require_agent(agent)
    if not isinstance(cfg, agent.Config):
        given = label(type(cfg)) if dataclasses.is_dataclass(type(cfg)) else show(cfg)
        order = "; the order is agent, cfg, env, key" if isinstance(cfg, (str, Env)) else ""
        raise ValueError(f"cfg={given}: allowed for {agent.name} is {label(agent.Config)}{order}")
    require_env(env)


def num_iterations(agent: Agent[C], cfg: C, total_steps: int) -> int:
    """Number of iterations that consume at least `total_steps` environment steps.

    Raises ValueError if `total_steps` is not a positive integer, or more than a state counts.
    """
    known = (int, float, np.ndarray, np.generic, jax.Array)
    one = isinstance(total_steps, known) and not isinstance(total_steps, jax.core.Tracer)
    x = np.asarray(total_steps if one else "no number")
    if x.dtype.kind == "O":  # an integer that no array holds
        x = np.asarray(float(min(max(total_steps, -(2**63)), 2**63)))
    whole = x.ndim == 0 and x.dtype.kind in "iuf" and np.isfinite(x) and x == np.floor(x)
    if not whole or x < 1:
        raise ValueError(f"total_steps={show(total_steps)}: allowed is an integer >= 1")
    steps = agent.steps_per_iter(cfg)
    if int(total_steps) > steps * MOST_ITERATIONS:
        raise ValueError(
            f"total_steps={show(total_steps)}: allowed is an integer <= {steps * MOST_ITERATIONS}, "
            f"{MOST_ITERATIONS} iterations of {steps} steps"
        )
    return -(-int(total_steps) // steps)


def with_horizon(cfg: C, total_steps: int) -> C:
    """The config with its `total_steps`, over which schedules run, filled in if it was None."""
    return replace(cfg, total_steps=float(total_steps)) if _is_open(cfg, "total_steps") else cfg


def _is_open(cfg: Any, name: str) -> bool:
    """True for a config that has a field, and None in it."""
    return any(f.name == name and getattr(cfg, name) is None for f in dataclasses.fields(cfg))


def episode_limit(env: Env) -> int:
    """Steps of the environment's longest episode, by its `max_steps_in_episode`, of lanes by the
    largest; 0 if it has no limit, or one that is traced."""
    limit = getattr(env.params, "max_steps_in_episode", 0)
    known = not isinstance(limit, jax.core.Tracer) and np.isfinite(limit).all()
    return int(np.max(limit)) if known else 0


def episode_steps(cfg: Any, env: Env | None = None) -> int:
    """Steps of an episode, at most, for those that learn from whole ones: the config's `num_steps`.

    None is the environment's own limit, where that is traced the usual one of its code; NO_LIMIT if
    it has none, or if no environment is given. Where the config has `stored_steps`, for all steps
    of an iteration are stored, None is at least the first of these two numbers. Raises ValueError
    for None with a limit above the second.
    """
    if env is None or cfg.num_steps is not None:
        return cfg.num_steps or NO_LIMIT
    usual = dataclasses.replace(env, params=env.core.default_params)
    limit = episode_limit(env) or episode_limit(usual) or NO_LIMIT
    least, most = vars(type(cfg)).get("stored_steps", (1, limit))
    if limit > most:
        raise ValueError(
            f"{label(type(cfg))} num_steps=None: allowed is an integer >= {limit}, the longest "
            f"episode of {env.name}, or an environment with a lower max_steps_in_episode; None is "
            f"no more than {most}, for all steps are stored"
        )
    return max(limit, least)


def with_episode_steps(cfg: C, env: Env) -> C:
    """The config with its `num_steps` filled in if it was None, see `episode_steps`."""
    return replace(cfg, num_steps=episode_steps(cfg, env)) if _is_open(cfg, "num_steps") else cfg


def settle(agent: Agent[C], cfg: C, env: Env, total_steps: int) -> tuple[C, int]:
    """The config as a run of `total_steps` has it, with its horizon and the steps of an episode;
    and the run's iterations.

    Raises ValueError for a number that is not allowed, of either.
    """
    validate(cfg)
    cfg = with_episode_steps(cfg, env)
    num_iters = num_iterations(agent, cfg, total_steps)
    return with_horizon(cfg, total_steps), num_iters


def without_weak_types(tree: Tree) -> Tree:
    """Casts weakly typed leaves to their dtype. One of an environment that writes `0.0` would
    change its type after one step and compile the whole loop twice."""

    def cast(x: Array) -> Array:
        return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.astype(x.dtype)

    return jax.tree.map(cast, tree)


def initial_state(agent: Agent[C], cfg: C, env: Env, key: Key) -> Tree:
    """The initial state, in the types that it keeps."""
    return without_weak_types(agent.init(cfg, env, key))


def iterate(
    agent: Agent[C], cfg: C, env: Env, state: Tree, length: int, count: Array | None = None
) -> tuple[Tree, Metrics]:
    """`length` iterations in one loop; metrics are [length].

    With `count` (a traced integer <= length) only so many are run and the rest of the metrics
    are zeros: the loop compiles once for every count, and never with the trip count 1 that XLA
    would inline and round differently.
    """
    step = jax.jit(agent.step, inline=True)  # traced once for the two uses below
    shapes = jax.eval_shape(lambda *args: pack(step(*args)[1]), cfg, env, state)
    what = f"total_steps of {length} iterations" if count is None else f"chunk={length}"
    require_memory(length * tree_bytes(shapes), what)
    metrics = jax.tree.map(lambda m: jnp.zeros((length, *m.shape), m.dtype), shapes)

    def body(i, loop):
        state, metrics = loop
        state, new = step(cfg, env, state)
        return state, jax.tree.map(lambda m, x: m.at[i].set(x), metrics, pack(new))

    trips = length if count is None else count
    state, metrics = jax.lax.fori_loop(0, trips, body, (state, metrics))
    return state, unpack(metrics)


@collector_paused()
def train(agent: Agent[C], cfg: C, env: Env, key: Key, total_steps: int) -> tuple[Tree, Metrics]:
    """A whole run of at least `total_steps` environment steps (whole iterations).

    Returns the final state and the metrics, each [iterations]. Raises ValueError for a config, a
    key or a number that is not allowed; inside `jit` only the config's static fields can be judged.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> state, metrics = jaxpg.train(jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=900)
    >>> metrics["episode/return"].shape  # [iterations]
    (9,)
    """
    require_objects(agent, cfg, env)
    require_key(key)
    use_fast_random()
    cfg, num_iters = settle(agent, cfg, env, total_steps)
    check_environment(env)
    if not isinstance(key, jax.core.Tracer):  # else nothing is made yet
        begin = jax.eval_shape(lambda key: initial_state(agent, cfg, env, key), key)
        require_memory(tree_bytes(begin), largest_number(cfg))

    def call():
        return iterate(agent, cfg, env, initial_state(agent, cfg, env, key), num_iters)

    return wait_for_host(env.core, key, call)
