"""The core of a wrapped environment: what a wrapper changes is a `Rule`, and all else is here.

A core of gymnax's class stays one, without resets of its own: truncation, `final_observation` and
resets drawn ahead are gymnax's. One with a `step` of its own keeps its own resets.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments import environment

from jaxpg.core import goals
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.single import is_batched, name_of
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.recipes import put, take
from jaxpg.envs.wrappers.params import Params


class State(NamedTuple):
    """State of a wrapped environment."""

    inner: Tree  # of the environment in the wrapper
    memory: Tree  # of the wrapper: () if it has none
    truncated: Array  # [] bool: the step that led here was cut short


class Step(NamedTuple):
    """Outcome of one step, before any reset is chosen."""

    obs: Tree  # the true successor
    state: Tree
    reward: Array  # []
    terminated: Array  # [] bool
    truncated: Array  # [] bool
    info: dict[str, Any]
    first: Tree = ()  # first observation of what follows, of a core that resets itself
    reset: Any = ()  # [] bool: it has done so


# What a core says of its players, see `core.games`.
OF_GAMES = "players", "groups", "learners", "zero_sum"
Move = Callable[[Key, Tree, Array, Tree], Step]  # key, state, action, params of the inner core


def _same(space: Any, params: Params) -> Any:
    return space


def same_reward(params: Params, reward: Array) -> Array:
    """The reward of a wrapper that changes none."""
    return reward


def _step(move: Move, key: Key, state: State, action: Array, params: Params) -> tuple[Step, Tree]:
    return move(key, state.inner, action, params.inner), ()


class Rule(NamedTuple):
    """Changes that a wrapper makes. Memory is what it keeps in the state of each environment."""

    # (params, first observation) -> observation, memory
    start: Callable[[Params, Tree], tuple[Tree, Tree]] = lambda params, obs: (obs, ())
    # (move, key, state, action, params) -> the step, memory
    step: Callable[[Move, Key, State, Array, Params], tuple[Step, Tree]] = _step
    # (key, params) -> memory that an episode begins with: for what is drawn; then `start` is unused
    draw: Callable[[Key, Params], Tree] | None = None
    # (key, params, observation) -> what is seen of an episode's first one: for what is drawn of it
    observe: Callable[[Key, Params, Tree], Tree] | None = None
    # (params, memory) -> parameters of the environment in it
    inner: Callable[[Params, Tree], Tree] = lambda params, memory: params.inner
    observation_space: Callable[[Any, Params], Any] = _same
    # (the core, params) -> its action space, where that is another one
    action_space: Callable[[Any, Params], Any] | None = None
    own: Mapping[str, Any] = {}  # usual values of its parameters
    limits: Mapping[str, tuple[float, float]] = {}
    judge: Callable[[Params], str | None] = lambda params: None  # what is wrong, and allowed
    hidden: tuple[str, ...] = ()  # inner parameters that it sets
    repeats: int = 1  # steps of the environment in one of the wrapped
    ends: bool = False  # whether it ends episodes itself
    signals: tuple[str, ...] = ()  # that it adds to the `info` of a step
    # (params, reward [] of the core in it) -> reward, where goals and what reaches them stay
    goal_reward: Callable[[Params, Array], Array] | None = None


def make_core(core: Any, rule: Rule) -> Any:
    """Core of the environment under a rule, as a core of gymnax's class if it is one.

    Raises ValueError for one on the host, which has no state of one environment.
    """
    if is_batched(core):
        raise ValueError(
            f"{name_of(core)} wrappers: allowed are none, for it is on the host; agents normalise, "
            "and arguments of its constructor change it"
        )
    return (_SelfResetting if has_own_step(core) else Wrapped)(core, rule)


def usual_params(core: Any, params: Any) -> Params:
    """Parameters of a wrapped core, the wrapper's own as usual. params: of the core in it."""
    rule, usual = core.rule, core.core.default_params
    params = put(params, {name: take(usual, name) for name in rule.hidden})
    return Params(dict(rule.own), params, rule.hidden, rule.repeats)


def is_wrapped(core: Any) -> bool:
    """True for the core of a wrapped environment."""
    return isinstance(core, (Wrapped, _SelfResetting))


def innermost(core: Any) -> Any:
    """The core in all wrappers."""
    while is_wrapped(core):
        core = core.core
    return core


def plain_state(core: Any, state: Tree) -> Tree:
    """State of the core in all wrappers, of that of the wrapped one."""
    while is_wrapped(core):
        core, state = core.core, state.inner
    return state


def _move(core: Any, key: Key, state: Tree, action: Array, params: Tree) -> Step:
    """One step of a core, to the true successor."""
    if has_own_step(core):
        obs, state, reward, terminated, truncated, info = core.step(key, state, action, params)
        final, ended = info["final_observation"], terminated | truncated
        info = {name: x for name, x in info.items() if name != "final_observation"}
        return Step(final, state, reward, terminated, truncated, info, obs, ended)
    obs, state, reward, terminated, info = core.step_env(key, state, action, params)
    truncated = core.is_truncated(state, params)
    return Step(obs, state, reward, terminated, truncated, info)


def _begin(core: Any, rule: Rule, key: Key, params: Params) -> tuple[Tree, State]:
    """First observation and state of an episode."""
    drawn: Tree = ()
    if rule.observe is not None:
        k_observe, key = jax.random.split(key)
        obs, state = _begin(core, rule._replace(observe=None), key, params)
        return rule.observe(k_observe, params, obs), state
    if rule.draw is not None:
        k_draw, key = jax.random.split(key)
        drawn = rule.draw(k_draw, params)
    reset = core.reset if has_own_step(core) else core.reset_env
    obs, inner = reset(key, rule.inner(params, drawn))
    if rule.draw is not None:
        return obs, State(inner, drawn, jnp.zeros((), bool))
    obs, memory = rule.start(params, obs)
    return obs, State(inner, memory, jnp.zeros((), bool))


def _advance(core: Any, rule: Rule, key: Key, state: State, action: Array, params: Params) -> Step:
    """One step of a wrapped core, to the true successor."""

    def move(key, state, action, params):
        return _move(core, key, state, action, params)

    new, memory = rule.step(move, key, state, action, params)
    return new._replace(state=State(new.state, memory, new.truncated))


def select(chosen: Array, one: Tree, other: Tree) -> Tree:
    """Selects the one tree or the other, by a bool []."""
    return jax.tree.map(lambda x, y: jnp.where(chosen, x, y), one, other)


class Wrapped(environment.Environment):
    """A core of gymnax's class under a rule."""

    def __init__(self, core: Any, rule: Rule):
        self.core, self.rule = core, rule
        self.signals = (*getattr(core, "signals", ()), *rule.signals)
        self.limits = {**getattr(core, "limits", {}), **rule.limits}
        _hand_on_players(self, core)
        _hand_on_goals(self, core, rule)
        # A reset is the inner one with the wrapper's memory, so what it declares holds; but what is
        # drawn for each episode is to be drawn for each: no pool of first states has that.
        own = rule.draw is not None or rule.observe is not None
        self.reset_pool = None if own else getattr(core, "reset_pool", None)

    @property
    def name(self) -> str:
        return name_of(self.core)

    @property
    def default_params(self) -> Params:
        return usual_params(self, self.core.default_params)

    def reset_env(self, key, params):
        return _begin(self.core, self.rule, key, params)

    def step_env(self, key, state: Any, action: Any, params: Any):
        new = _advance(self.core, self.rule, key, state, action, params)
        return new.obs, new.state, new.reward, new.terminated, new.info

    def is_truncated(self, state, params):
        return state.truncated

    def action_space(self, params):
        return _action_space(self, params)

    def observation_space(self, params):
        return _observation_space(self, params)


class _SelfResetting:
    """A core with a `step` of its own, which resets, under a rule."""

    def __init__(self, core: Any, rule: Rule):
        self.core, self.rule, self.name = core, rule, name_of(core)
        self.signals = (*getattr(core, "signals", ()), *rule.signals)
        self.limits = {**getattr(core, "limits", {}), **rule.limits}
        _hand_on_players(self, core)
        _hand_on_goals(self, core, rule)

    @property
    def default_params(self) -> Params:
        return usual_params(self, self.core.default_params)

    def reset(self, key, params):
        return _begin(self.core, self.rule, key, params)

    def step(self, key, state, action, params):
        core, rule = self.core, self.rule
        k_reset = k_observe = key
        if rule.observe is not None:
            k_observe, key = jax.random.split(key)
        if rule.draw is not None or rule.ends:
            key, k_reset = jax.random.split(key)
        new = _advance(core, rule, key, state, action, params)
        fresh: Any = None
        if rule.draw is None:
            obs, memory = rule.start(params, new.first)
            obs = obs if rule.observe is None else rule.observe(k_observe, params, obs)
            fresh = obs, State(new.state.inner, memory, jnp.zeros((), bool))
        if rule.draw is not None or rule.ends:
            own = _begin(core, rule, k_reset, params)
            fresh = own if fresh is None else select(new.reset, fresh, own)
        ended = new.terminated | new.truncated
        obs, state = select(ended, fresh, (new.obs, new.state))
        info = {**new.info, "final_observation": new.obs}
        return obs, state, new.reward, new.terminated, new.truncated, info

    def action_space(self, params):
        return _action_space(self, params)

    def observation_space(self, params):
        return _observation_space(self, params)


def _hand_on_players(wrapped: Any, core: Any) -> None:
    """Says of a wrapped core what the one in it says of its players, if it is a game."""
    for name in OF_GAMES:
        if hasattr(core, name):
            setattr(wrapped, name, getattr(core, name))


def _hand_on_goals(wrapped: Any, core: Any, rule: Rule) -> None:
    """Gives a wrapped core the methods of goals, see `core.goals`, if the one in it has them and
    the wrapper leaves goals as they are."""
    if rule.goal_reward is None or not all(hasattr(core, name) for name in goals.METHODS):
        return
    change = rule.goal_reward

    def goal_reward(achieved: Array, desired: Array, params: Params) -> Array:
        return change(params, core.goal_reward(achieved, desired, params.inner))

    def goal_reached(achieved: Array, desired: Array, params: Params) -> Array:
        return core.goal_reached(achieved, desired, params.inner)

    wrapped.goal_reward, wrapped.goal_reached = goal_reward, goal_reached


def _action_space(core: Any, params: Params) -> Any:
    if core.rule.action_space is not None:
        return core.rule.action_space(core.core, params)
    return core.core.action_space(params.inner)


def _observation_space(core: Any, params: Params) -> Any:
    return core.rule.observation_space(core.core.observation_space(params.inner), params)
