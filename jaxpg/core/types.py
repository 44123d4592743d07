"""The few types that every file shares."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Array = jax.Array
Key = jax.Array  # a typed key: jax.random.key(seed)
Tree: TypeAlias = Any  # a pytree of arrays
Metrics = dict[str, Array]  # scalars of one iteration, keyed "group/name"
Optimizer: TypeAlias = str | Callable[..., Any]  # learning_rate -> optax.GradientTransformation
Scan: TypeAlias = Callable[..., tuple[Tree, Tree]]  # as jax.lax.scan: step, begin, x, reverse=
Schedule: TypeAlias = str | Callable[[Array], Array]  # progress -> factor

C = TypeVar("C", bound="DataclassInstance")  # an agent's config
F = TypeVar("F", bound=Callable)


def jit(**options: Any) -> Callable[[F], F]:
    """A decorator: `jax.jit` with these options, which type checkers see through."""
    return cast(Any, functools.partial(jax.jit, **options))


def learnt_leaves(state: Tree) -> list[tuple[Any, Array]]:
    """Floating leaves of a training state, with their paths: all but what the agent has met, its
    environments and replay buffers. Infinity may be a value of theirs, and NaN an end."""

    def is_met(x):
        return getattr(type(x), "is_met", False)

    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_met)
    return [(p, x) for p, x in leaves if not is_met(x) and jnp.issubdtype(x.dtype, jnp.floating)]


class EnvState(NamedTuple):
    """N environments in the middle of their episodes."""

    is_met = True  # and not learnt
    inner: Tree  # [N, ...] the environments' own state
    obs: Tree  # [N, *obs]
    episode_return: Array  # [N] float: undiscounted, of the running episode
    episode_length: Array  # [N] int32: 0 at the start of an episode
    episode_signals: dict[str, Array]  # [N] float each: likewise, see `signals.summed`
    episode_lost: dict[str, Array]  # [N] float each: what rounding lost of "return" and signals


class Transition(NamedTuple):
    """One step of every environment; `rollout` stacks them to leading axes [T, N].

    `next_obs` is the true successor: at the end of an episode it is the last observation of
    that episode, never the first one of the next. Where an episode terminated, with nothing to
    follow, what is not finite in it is 0: a simulator that blew up harms no one.

    >>> jaxpg.Transition._fields[:5]
    ('obs', 'action', 'reward', 'terminated', 'truncated')
    """

    obs: Tree  # [T, N, *obs] float; a pytree if the environment's is one
    action: Array  # [T, N, *action] as the environment received it
    reward: Array  # [T, N] float
    terminated: Array  # [T, N] bool: the MDP ended, do not bootstrap
    truncated: Array  # [T, N] bool: cut short, bootstrap from next_obs
    next_obs: Tree  # [T, N, *obs]
    signals: dict[str, Array]  # [T, N, ...] float: those that the core names; {} if it names none


class Agent(NamedTuple, Generic[C]):
    """An algorithm: three pure functions, the config they take, and their cost.

    init(cfg, env, key) -> TrainState
        All that is learnt, the environments, the key. Raises ValueError for a config that
        cannot work, before anything compiles.
    step(cfg, env, state) -> TrainState, Metrics
        One iteration: collect, then learn. The state keeps its structure, shapes and dtypes.
    act(cfg, env, state, obs, carry, key, greedy) -> action, carry
        The policy on observations [B, *obs]; `greedy` is a Python bool. `carry` is what the
        policy remembers, () for one without memory; zeros mean that an episode begins.
    steps_per_iter(cfg) -> int
        Environment steps that one `step` consumes.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> state = jax.jit(jaxpg.q_learning.init)(cfg, env, jax.random.key(0))
    >>> state, metrics = jax.jit(jaxpg.q_learning.step)(cfg, env, state)
    >>> jaxpg.q_learning.steps_per_iter(cfg)
    100
    >>> obs, key = env.example_obs[None], jax.random.key(1)
    >>> action, carry = jaxpg.q_learning.act(cfg, env, state, obs, (), key, True)
    >>> action.shape
    (1,)
    """

    name: str
    Config: type[C]
    init: Callable[[C, Any, Key], Tree]
    step: Callable[[C, Any, Tree], tuple[Tree, Metrics]]
    act: Callable[[C, Any, Tree, Tree, Tree, Key, bool], tuple[Array, Tree]]
    steps_per_iter: Callable[[C], int]
