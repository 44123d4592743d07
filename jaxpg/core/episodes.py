"""Whole episodes under a policy that does not learn: their returns, or what it does in them.

There are two loops. `play` takes a given number of steps and keeps them all; `play_until_ended`
ends with the last episode, and its caller keeps what it wants of the steps.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core import signals
from jaxpg.core.checks import require_bool, require_integer, require_key, show
from jaxpg.core.games import is_game
from jaxpg.core.memory import require_memory, tree_bytes
from jaxpg.core.metrics import add_step
from jaxpg.core.parallel.lanes import has_lanes
from jaxpg.core.parallel.seeds import over_seeds, seed_mesh, split_batched_args
from jaxpg.core.protocol import check_environment
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.single import is_batched, wait_for_host
from jaxpg.core.train import initial_state, require_objects, without_weak_types
from jaxpg.core.types import Agent, Array, C, Key, Transition, Tree, jit

Loop = TypeVar("Loop")
MOST_STEPS = 2**31 - 1  # that an int32 counts
LIMITS = 10_000, 100_000  # of an episode: what every one gets, and the most that one can get


def evaluate(
    agent: Agent[C],
    cfg: C,
    env: E.Env,
    state: Tree,
    key: Key,
    episodes: int = 128,
    greedy: bool = True,
    max_steps: int = 100_000,
    by_player: bool = False,
    signal: str | None = None,
) -> Array:
    """Undiscounted returns [episodes] of one whole episode in each of `episodes` environments.

    greedy: the mode of the policy, else a sample. An episode that has not ended after `max_steps`
    counts as NaN. by_player: of a game each player's own return, [episodes, P], of the same
    episodes; else it is that of the mean reward, which is 0 where the sum is zero. signal: in the
    place of returns the sums of this signal of the environment over the same episodes, such as
    "success" of one with goals: 1 where an episode ends at its goal, else 0, so that their mean is
    the success rate. With a state of several seeds and `key` [seeds], or one key, which is then
    split into as many, all has a leading [seeds]. Raises ValueError before anything compiles for
    what cannot work, for `by_player` where there are no players, and for a signal that is not there
    or is no number.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> state = jax.jit(jaxpg.q_learning.init)(cfg, env, jax.random.key(0))
    >>> key = jax.random.key(1)
    >>> jaxpg.evaluate(jaxpg.q_learning, cfg, env, state, key, episodes=4, max_steps=100).shape
    (4,)
    """
    require_objects(agent, cfg, env)
    require_key(key, seeds=True)
    require_integer("max_steps", max_steps, 1, MOST_STEPS)
    require_bool("greedy", greedy)
    require_bool("by_player", by_player)
    if by_player and not is_game(env.core):
        raise ValueError(f"by_player=True on {env.name}: allowed is False, for it is no game")
    if signal is not None:
        _require_signal(env, signal, by_player)
    require_integer("episodes", episodes, 1)
    key = key_for_each_seed(agent, cfg, env, state, key)
    sizes = {np.shape(x)[:1] for x in jax.tree.leaves(state)}
    if key.ndim and sizes != {key.shape}:
        raise ValueError(
            f"key of shape {key.shape}: allowed is one key, or as many as the state has seeds; its "
            f"arrays begin with {sorted(sizes)}"
        )
    if not (has_lanes(cfg) or isinstance(key, jax.core.Tracer)):  # those are judged before
        check_environment(env)
        require_episodes(env, "episodes", episodes, key.size)
        _require_state(agent, cfg, env, state, key)
    names = (signal or "return",)
    if by_player:
        names = tuple(f"return_{i}" for i in range(env.core.players))
    asked = int(episodes), bool(greedy), int(max_steps), names
    call = functools.partial(episode_sums, agent, cfg, env, state, key, *asked)
    found = wait_for_host(env.core, key, call)
    return found if by_player else found[..., 0]


def _require_signal(env: E.Env, signal: str, by_player: bool) -> None:
    """Raises ValueError unless an environment sums such a signal, and nothing else is asked for."""
    known = signals.scalars(env.core, env.params)
    said = f"signal={show(signal)} on {env.name}"
    if signal not in known:
        some = f", or one of {', '.join(known)}" if known else ", for it has no signals of a number"
        raise ValueError(f"{said}: allowed is None{some}")
    if by_player:
        raise ValueError(f"{said} with by_player=True: allowed is one of the two")


def key_for_each_seed(agent: Agent, cfg, env: E.Env, state: Tree, key: Key) -> Key:
    """Splits one key into as many as the state of an agent has seeds, if it has several."""
    own: Any = getattr(state, "key", None)  # [seeds] then; also where all else has unknown axes
    is_key = isinstance(own, jax.Array) and jnp.issubdtype(own.dtype, jax.dtypes.prng_key)
    if key.ndim or not (is_key and own.ndim):
        return key
    if not has_lanes(cfg):  # of several learners in one environment one state has several keys
        one: Any = jax.eval_shape(lambda key: agent.init(cfg, env, key), key)
        if own.ndim == one.key.ndim:
            return key
    return jax.random.split(key, len(own))


def step_limit(env: E.Env) -> int:
    """Steps after which evaluations give up an episode: the lower one of LIMITS, or the upper one
    if the environment's own limit, `max_steps_in_episode`, lies between them."""
    own = getattr(env.params, "max_steps_in_episode", 0)  # or an array [lanes]
    longer = isinstance(own, jax.core.Tracer) or LIMITS[0] <= np.max(own) <= LIMITS[1]
    return LIMITS[bool(longer)]


def require_episodes(env: E.Env, name: str, episodes: int, seeds: int = 1) -> None:
    """Raises ValueError unless so many episodes, of so many seeds, can be played side by side.

    name: of the number, in the error.
    """
    require_integer(name, episodes, 1)
    state = jax.eval_shape(lambda key: E.reset(env, key, episodes), jax.random.key(0))
    require_memory(tree_bytes(state) * seeds, f"{name}={episodes}")


def _require_state(agent: Agent, cfg, env: E.Env, state: Tree, key: Key) -> None:
    """Raises ValueError for what is no state of the agent, or one of other seeds than the key."""
    begin = jax.jit(initial_state, static_argnums=0)  # JAX keeps the trace
    like = begin.trace(agent, cfg, env, key.reshape(-1)[0]).out_info
    if type(state) is not type(like):
        raise ValueError(f"state={show(state)}: allowed is one of {agent.name}, as `train` gives")
    if jax.tree.structure(state) != jax.tree.structure(like):
        return  # of another environment: what acts may be the same
    pairs = zip(*map(jax.tree.leaves, (state, like)), strict=True)
    if {np.ndim(x) - np.ndim(y) for x, y in pairs} - {key.ndim}:
        raise ValueError(
            f"state of other seeds than the key of shape {key.shape}: allowed is one key for the "
            "state of one seed, or [seeds] of both"
        )


@jit(static_argnames=("agent", "episodes", "greedy", "max_steps", "names"))
def episode_sums(
    agent: Agent[C], cfg: C, env: E.Env, state: Tree, key: Key, episodes: int, greedy: bool,
    max_steps: int, names: tuple[str, ...],
) -> Array:  # fmt: skip
    """Sums over episodes by name, `return` or of a signal: [episodes, names]; the rest, but for its
    checks, as of `evaluate`."""
    if key.ndim:
        settings = {"episodes": episodes, "greedy": greedy, "max_steps": max_steps}
        one = functools.partial(episode_sums, agent, **settings, names=names)
        shared, own = split_batched_args(cfg, env)
        return over_seeds(one, seed_mesh(len(key), env))(shared, *own, state, key)
    check_environment(env)
    policy = policy_of(agent, cfg, env, state, greedy)
    env_state, carry, key = begin_episodes(env, policy, key, episodes)

    def advance(step, alive, loop):
        env_state, carry, key, found = loop
        key, k_policy, k_env = jax.random.split(key, 3)
        action, carry, _ = policy(env_state.obs, carry, k_policy)
        new, t = E.step(env, env_state, action, k_env, reset=False)
        ended = t.terminated | t.truncated
        sums = add_step(env_state, t)[0]
        now = jnp.stack([sums[name] for name in names], -1)
        found = jnp.where((alive & ended)[:, None], now, found)
        return (new, carry, key, found), ended

    none = jnp.full((episodes, len(names)), jnp.nan, float)
    loop = env_state, carry, key, none
    (env_state, *_, found), _ = play_until_ended(advance, loop, (episodes,), max_steps)
    release(env, env_state)
    return found


@jit(static_argnames=("agent", "episodes", "greedy", "num_steps"))
def actions(
    agent: Agent[C],
    cfg: C,
    env: E.Env,
    state: Tree,
    key: Key,
    episodes: int,
    greedy: bool,
    num_steps: int,
) -> tuple[Array, Array]:
    """The actions [T, episodes, *action] of the first T = `num_steps` steps of one episode in each
    of `episodes` environments, and a mask [T, episodes] bool, false after the episode's end.

    Summed over T the mask is the episodes' lengths. With `key` [seeds] and a state of as many
    seeds both have a leading [seeds].
    """
    require_key(key, seeds=True)
    if key.ndim:
        settings = {"episodes": episodes, "greedy": greedy, "num_steps": num_steps}
        one = functools.partial(actions, agent, **settings)
        shared, own = split_batched_args(cfg, env)
        return over_seeds(one, seed_mesh(len(key), env))(shared, *own, state, key)
    policy = policy_of(agent, cfg, env, state, greedy)
    t, _, mask = play(env, policy, key, episodes, num_steps)
    return t.action, mask


def play(
    env: E.Env, policy: Callable, key: Key, episodes: int, num_steps: int
) -> tuple[Transition, Any, Array]:
    """Plays one episode in each of `episodes` environments, up to `num_steps` = T steps.

    policy: as `rollout` takes it, (obs, carry, key) -> action, carry, seen. Returns the transitions
    and what the policy saw, both [T, episodes, ...], and a mask [T, episodes] bool, false after the
    episode's end.
    """
    env_state, carry, key = begin_episodes(env, policy, key, episodes)
    env_state, _, t, seen, _ = E.rollout(env, policy, env_state, carry, key, num_steps)
    release(env, env_state)
    return t, seen, in_first_episode(t.terminated | t.truncated)


def begin_episodes(
    env: E.Env, policy: Callable, key: Key, episodes: int
) -> tuple[E.EnvState, Tree, Key]:
    """Returns freshly reset environments, the zero carry and the next key."""
    require_key(key)
    use_fast_random()
    k_env, key = jax.random.split(key)
    env_state = without_weak_types(E.reset(env, k_env, episodes))
    # What the policy answers to () has the shapes of what it remembers.
    carry = E.zero_carry(jax.eval_shape(lambda: policy(env_state.obs, (), key)[1]))
    return env_state, carry, key


def release(env: E.Env, state: E.EnvState) -> None:
    """Says that nobody will step these environments any more: the host may have others' of them."""
    if is_batched(env.core):
        env.core.release(state.inner, env.params)


def play_until_ended(
    advance: Callable[[Array, Array, Loop], tuple[Loop, Array]],
    loop: Loop,
    shape: tuple[int, ...],
    max_steps: int,
) -> tuple[Loop, Array]:
    """Steps environments [*shape] until the first episode of each has ended, or `max_steps` times.

    advance(step [] int32, alive [*shape] bool, loop) -> loop, ended [*shape] bool makes one step;
    `alive` are the first episodes that had not ended before it. Returns the loop's last value, and
    which episodes have ended [*shape].
    """

    def running(x):
        step, ended, _ = x
        return (step < max_steps) & ~ended.all()

    def body(x):
        step, ended, loop = x
        loop, now = advance(step, ~ended, loop)
        return step + 1, ended | now, loop

    begin = jnp.zeros((), jnp.int32), jnp.zeros(shape, bool), loop
    _, ended, loop = jax.lax.while_loop(running, body, begin)
    return loop, ended


def in_first_episode(ended: Array) -> Array:
    """Mask [T, ...] of the steps of each environment's first episode, from the ends of episodes."""
    return jnp.cumsum(ended, 0, dtype=jnp.int32) - ended == 0


def policy_of(agent: Agent, cfg, env: E.Env, state: Tree, greedy: bool) -> Callable:
    """Policy of a state, as `rollout` calls it."""

    def policy(obs, carry, key):
        action, carry = agent.act(cfg, env, state, obs, carry, key, greedy)
        return action, carry, ()

    return policy
