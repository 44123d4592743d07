"""Environments of gymnax 1.x's protocol, vectorised, with true successors at resets.

Whatever the environment declares, an agent sees float observations (a discrete one as one-hot), in
a pytree if the space is a Dict or a Tuple; float rewards, the true successor at an auto-reset, and
actions clipped to the space. Where only some actions are legal, observations come as `Masked`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core import (
    machine,
    packing,
    products,
    resets,
    scans,
    signals,
    single,
    spaces,
    sums,
)
from jaxpg.core.checks import require_env, require_integer, require_key, show
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.memory import require_memory
from jaxpg.core.metrics import add_step, ended_episodes, episode_metrics, no_episodes
from jaxpg.core.observations import Masked, array_leaves, finite_at_end
from jaxpg.core.parallel.devices import shard_axis
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.types import Array, EnvState, Key, Metrics, Transition, Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Env:
    """An environment as a pytree: its parameters are leaves, its code is static.

    `core` is any object with gymnax's methods: reset(key, params), step(key, state, action,
    params), action_space(params), observation_space(params), and `default_params`, `name`. One that
    says `batched = True` takes all lanes at once.

    >>> env = jaxpg.make("Cliff-jaxpg")
    >>> env.discrete, env.example_obs.shape
    (True, (48,))
    """

    params: Any
    core: Any = dataclasses.field(metadata={"static": True})
    # What `make` got: the name, and the constructor's arguments as JSON.
    made_of: tuple = dataclasses.field(default=(), metadata={"static": True})

    def __eq__(self, other: object) -> bool:
        """True for the same code and recipe with parameters of the same values, arrays included."""
        if not isinstance(other, Env) or jax.tree.structure(self) != jax.tree.structure(other):
            return False
        pairs = zip(jax.tree.leaves(self), jax.tree.leaves(other), strict=True)
        return all(a is b or np.array_equal(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((self.core, self.made_of))

    @property
    def name(self) -> str:
        """Name by which `make` made it, or its core's own."""
        return self.made_of[0] if self.made_of else single.name_of(self.core)

    @property
    def action_space(self) -> Any:
        """The space under these parameters: its bounds may be traced."""
        return self.core.action_space(self.params)

    @property
    def discrete(self) -> bool:
        """True where actions are integers 0 .. n-1."""
        return hasattr(self.action_space, "n")

    @property
    def action_kind(self) -> str:
        """Kind of the actions, as errors call it: see `spaces.kind`."""
        return spaces.kind(self.action_space)

    @property
    def obs_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of every leaf of an observation, its mask left out."""
        return tuple(x.shape for x in array_leaves(self.example_obs))

    @property
    def example_obs(self) -> Tree:
        """Zeros in the shape and dtype of one observation [*obs], as agents see it."""
        obs = jax.eval_shape(lambda k: reset(self, k, 1).obs, jax.random.key(0))
        return jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), obs)


def _observe(env: Env, obs: Tree, info: dict | None = None) -> Tree:
    """Observations [N, ...] as agents see them. info: of the same states; None of first ones."""
    space, mask = env.core.observation_space(env.core.default_params), None
    if isinstance(obs, dict) and "action_mask" in obs:
        mask = obs["action_mask"]
        obs = {name: x for name, x in obs.items() if name != "action_mask"}
    elif info is not None and "action_mask" in info:
        mask = info["action_mask"]
    elif info is None and _masked_by_info(env.core):
        mask = jnp.ones((len(jax.tree.leaves(obs)[0]), spaces.num_choices(env.action_space)))
    obs = _as_floats(space, obs)
    return obs if mask is None else Masked(obs, mask.astype(bool))


def _as_floats(space, obs: Tree) -> Tree:
    inner = getattr(space, "spaces", None)  # of a Dict or a Tuple
    if isinstance(obs, dict):
        return {name: _as_floats(inner and inner[name], x) for name, x in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_as_floats(inner and inner[i], x) for i, x in enumerate(obs))
    if hasattr(space, "n"):
        return jax.nn.one_hot(obs, space.n, dtype=float)
    return jax.tree.map(lambda x: x.astype(float), obs)


@functools.cache
def _masked_by_info(core) -> bool:
    """True if the `info` of `step` has an `action_mask`."""
    params = core.default_params
    kind = spaces.kind(core.action_space(params))
    if kind not in ("discrete", "multi-discrete", "multi-binary"):
        return False
    return "action_mask" in signals.info_of_step(core, params)


def to_space(env: Env, action: Array) -> Array:
    """A policy's action [..., D] in the units and the shape of the space: see `spaces.stretch`."""
    return spaces.stretch(env.action_space, action)


def action_size(env: Env) -> int:
    """Number of entries of a policy's action, whatever the shape of the space."""
    return math.prod(env.action_space.shape)


def first_infinite_bound(env: Env) -> str | None:
    """The bound of a Box that is not finite, such as "high=inf"; None if both are or are traced."""
    with jax.ensure_compile_time_eval():
        space = env.action_space
    for name in ("low", "high"):
        bound = getattr(space, name)
        if not isinstance(bound, jax.core.Tracer) and np.any(~spaces.is_bound(np.asarray(bound))):
            return f"{name}={bound}"
    return None


def reset(env: Env, key: Key, num_envs: int) -> EnvState:
    """`num_envs` fresh episodes.

    Raises ValueError for what is not allowed, and for signals that the core names and lacks.
    """
    require_env(env)
    require_key(key)
    require_integer("num_envs", num_envs, 1)
    resets.pool_size(env.core)
    zeros = {x: jnp.zeros(num_envs, float) for x in signals.summed(env.core, env.params)}
    keys = jax.random.split(key, num_envs)
    obs, inner = single.over_lanes(env.core, env.core.reset, (0, None))(keys, env.params)
    total, length = jnp.zeros(num_envs, float), jnp.zeros(num_envs, jnp.int32)
    return EnvState(inner, _observe(env, obs), total, length, zeros, {"return": total, **zeros})


def step(
    env: Env, state: EnvState, action: Array, key: Key, reset: bool = True
) -> tuple[EnvState, Transition]:
    """One step of every environment; those whose episode ends are reset.

    action: [N, *action] in the units of the space. reset: if False they may go on beyond their end
    instead, for a caller that looks no further. Returns a Transition [N, ...].
    """
    require_key(key)
    keys = jax.random.split(key, action.shape[0])
    return _step(env, state, action, keys, None if reset or has_own_step(env.core) else ())


def step_before_reset(
    env: Env, state: EnvState, action: Array, key: Key
) -> tuple[EnvState, Transition]:
    """The very step that `step` makes, by the same draws, without the reset; an environment whose
    code of `step` is not gymnax's resets all the same."""
    require_key(key)
    keys = jax.random.split(key, action.shape[0])
    if has_own_step(env.core):
        return _step(env, state, action, keys, None)
    # gymnax's `step` splits its key: the other half is for the reset.
    return _step(env, state, action, jax.vmap(jax.random.split)(keys)[:, 0], ())


def _step(
    env: Env, state: EnvState, action: Array, keys: Key, fresh: tuple | Callable | None
) -> tuple[EnvState, Transition]:
    """`step` with the keys [N] and, if they were drawn ahead, the observations and states [N, ...]
    that follow episodes that end, or a function that gives them, by the mask [N] of those that do;
    (): none follow."""
    move = env.core.step if fresh is None else functools.partial(_without_reset, env.core)
    move = single.over_lanes(env.core, move, (0, 0, 0, None))
    obs, inner, reward, terminated, truncated, info = move(keys, state.inner, action, env.params)
    obs = packing.write_once(obs)
    going = ~(terminated | truncated)
    if fresh is not None:
        info = info | {"final_observation": obs}
    if callable(fresh):
        fresh = fresh(~going)
    if fresh:
        obs, inner = jax.tree.map(functools.partial(_where, going), (obs, inner), fresh)
    next_obs = finite_at_end(_observe(env, info["final_observation"], info), terminated)
    values = {name: info[name].astype(float) for name in getattr(env.core, "signals", ())}
    reward = reward.astype(float)
    t = Transition(state.obs, action, reward, terminated, truncated, next_obs, values)
    if "action_mask" in info:  # of an episode's first state nothing is known
        info = {"action_mask": info["action_mask"].astype(bool) | ~going[:, None]}
    new = *add_step(state, t), sums.one_more(state.episode_length)
    totals, lost, length = jax.tree.map(lambda x: jnp.where(going, x, 0), new)
    obs, total = _observe(env, obs, info), totals.pop("return")
    return EnvState(inner, obs, total, length, totals, lost), t


# As gymnax does it: parameters may be NumPy arrays, which no tracer can index.
@functools.partial(jax.jit, static_argnames="core", inline=True)
def _without_reset(core, key: Key, state: Tree, action: Array, params):
    """gymnax's `step` up to where it resets."""
    obs, state, reward, terminated, info = core.step_env(key, state, action, params)
    return obs, state, reward, terminated, core.is_truncated(state, params), info


def _where(mask: Array, x: Array, y: Array) -> Array:
    """Selects x or y [N, ...] by the mask [N]."""
    return jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, y)


def zero_carry(carry: Tree) -> Tree:
    """Zero carry, with which an episode begins, like `carry` or what `jax.eval_shape` tells."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), carry)


Seen = TypeVar("Seen")


def rollout(
    env: Env,
    policy: Callable[[Tree, Tree, Key], tuple[Array, Tree, Seen]],
    state: EnvState,
    carry: Tree,
    key: Key,
    num_steps: int,
) -> tuple[EnvState, Tree, Transition, Seen, Metrics]:
    """Steps every environment `num_steps` times under `policy`.

    policy(obs [N, *obs], carry, key) -> action [N, *action], carry, seen. A carry [N, ...]
    (recurrent state) is zeroed where an episode ended; pass () without one. `seen` is what learning
    needs of the policy beside its action: a NamedTuple of the caller's own, leaves [N, ...], or one
    array, or ().

    Returns the new EnvState, the carry, a Transition [T, N, ...], seen [T, N, ...], and the
    metrics of the episodes that ended: `episode/return`, `episode/length` and `episode/<name>` of
    every scalar signal (means; NaN if none ended, which is "no data") and `episode/count`.

    >>> env = jaxpg.make("Cliff-jaxpg")
    >>> state = jaxpg.core.env.reset(env, jax.random.key(0), num_envs=2)
    >>> policy = lambda obs, carry, key: (jax.random.randint(key, (2,), 0, 4), carry, ())
    >>> *_, t, seen, metrics = jaxpg.rollout(env, policy, state, (), jax.random.key(1), num_steps=5)
    >>> t.reward.shape
    (5, 2)
    """
    require_env(env)
    require_key(key)
    require_integer("num_steps", num_steps, 0)
    if not isinstance(state, EnvState):
        raise ValueError(f"state={show(state)}: allowed is an EnvState, as `core.env.reset` gives")
    use_fast_random()
    products.use_fused_products()
    num_envs = len(state.episode_return)
    require_memory(8 * num_steps * num_envs, f"num_steps={num_steps}")  # of keys alone
    k_policy, k_envs = jax.random.split(key)
    k_policy = jax.random.split(k_policy, num_steps)
    k_envs = jax.random.split(k_envs, (num_steps, num_envs))

    apart = machine.on_gpu()  # where a sum in each step would be a kernel in each step
    loop = (*shard_axis((state, carry), 0), no_episodes(state, apart))
    k_envs, ahead, pool = resets.draw(env.core, env.params, k_envs)
    drawn = k_policy, packing.pack(shard_axis((k_envs, ahead), 1), keep=2)

    def body(loop, drawn):
        (state, carry, totals, turn), (k_policy, rest) = loop, drawn
        k_envs, fresh = packing.unpack(rest)
        action, carry, seen = policy(state.obs, carry, k_policy)
        new, t = _step(env, state, action, k_envs, resets.follow(pool, turn) or fresh)
        ended = t.terminated | t.truncated
        carry = jax.tree.map(lambda c: _where(ended, jnp.zeros_like(c), c), carry)
        totals = jax.tree.map(jnp.add, totals, ended_episodes(state, t, apart))
        new, t, carry, totals = packing.write_step(new, t, carry, totals)
        turn = resets.next_turn(pool, turn, ended)
        return (new, carry, totals, turn), packing.pack((t, seen), keep=1)

    loop = *loop, resets.begin_turn(pool)
    (state, carry, totals, _), outputs = scans.scan("rollout", body, loop, drawn)
    return state, carry, *shard_axis(packing.unpack(outputs), 1), episode_metrics(totals)
