"""Rules of steps: actions that are repeated, episodes that are cut short, rewards."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.checks import require_integer
from jaxpg.core.games import is_game
from jaxpg.core.single import example_action, name_of, trace_step
from jaxpg.core.train import without_weak_types
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.recipes import is_traced
from jaxpg.envs.wrappers.layer import Move, Rule, State, Step, same_reward
from jaxpg.envs.wrappers.params import Params

MOST = 1000  # steps of one repeated action


def action_repeat(core: Any, num: int) -> Rule:
    """Rule that makes several steps with one action."""
    require_integer("action_repeat num", num, 1, MOST)
    require_no_mask("action_repeat", core)

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        def again(before: Step, key: Key) -> tuple[Step, None]:
            over = before.terminated | before.truncated
            new = move(key, before.state, action, params.inner)
            new = _sum_up(core, before, new)
            return jax.tree.map(lambda old, x: _keep(over, old, x), before, new), None

        k_steps = jax.random.split(key, num)
        like = jax.eval_shape(lambda: move(k_steps[0], state.inner, action, params.inner))
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like._replace(state=()))
        none = none._replace(reward=none.reward.astype(float))
        begin = _sum_up(core, none, none)._replace(
            state=without_weak_types(jax.tree.map(jnp.asarray, state.inner))
        )
        new, _ = jax.lax.scan(again, begin, k_steps)
        return new._replace(truncated=new.truncated & ~new.terminated), ()

    return Rule(step=step, repeats=num)


def _sum_up(core: Any, before: Step, new: Step) -> Step:
    """A step with the rewards of those before it; and signals, if they are numbers. A player of a
    game was there if it was in the first of them, and leaves if it does in any."""

    def one(name: str) -> Array:
        x = new.info[name]
        if is_game(core) and name in ("alive", "leaves"):
            return jnp.maximum(before.info[name], x)  # who has left does not come back
        if is_game(core) and name == "actions":
            return x  # no number to add up
        if x.dtype == jnp.bool_:
            return x
        return before.info[name].astype(float) + x.astype(float)

    sums = {name: one(name) for name in getattr(core, "signals", ())}
    return new._replace(reward=before.reward + new.reward, info={**new.info, **sums})


def _keep(over: Array, old: Array, new: Any) -> Array:
    new = jnp.asarray(new)
    is_key = jnp.issubdtype(new.dtype, jax.dtypes.prng_key)
    return jnp.where(over, old, new if is_key else new.astype(old.dtype))


def sticky_actions(core: Any) -> Rule:
    """Rule that executes the action before, by chance. Its memory: that action, if there is one."""
    require_no_mask("sticky_actions", core)

    def start(params: Params, obs: Tree):
        return obs, (example_action(core, params.inner), jnp.zeros((), bool))

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        k_stick, key = jax.random.split(key)
        last, there = state.memory
        action = jnp.asarray(action)
        each = action.shape[:1] + (1,) * (action.ndim - 1) if is_game(core) else ()
        stuck = there & jax.random.bernoulli(k_stick, params.own["sticky_probability"], each)
        action = jnp.where(stuck, last.astype(action.dtype), action)
        new = move(key, state.inner, action, params.inner)
        return new, (action.astype(last.dtype), jnp.ones((), bool))

    own, limits = {"sticky_probability": 0.25}, {"sticky_probability": (0.0, 1.0)}
    return Rule(start, step, own=own, limits=limits, goal_reward=same_reward)


def require_no_mask(kind: str, core: Any) -> None:
    """Raises ValueError for an environment in which the action before may be illegal."""
    first, after = trace_step(core, core.default_params)
    if any(isinstance(x, dict) and "action_mask" in x for x in (first[0], after[-1])):
        raise ValueError(
            f"{kind} of {name_of(core)}, whose actions are not always legal: allowed are "
            "environments without an action_mask, for an action may be illegal when it is repeated"
        )


def time_limit(core: Any) -> Rule:
    """Rule that truncates episodes. Its memory: the steps so far."""

    def start(params: Params, obs: Tree):
        return obs, jnp.zeros((), jnp.int32)

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        new = move(key, state.inner, action, params.inner)
        steps = state.memory + 1
        late = (steps >= params.own["time_limit"]) & ~new.terminated
        return new._replace(truncated=new.truncated | late), steps

    most = 2**31 - 1  # that an int32 counts
    return Rule(
        start, step, own={"time_limit": 1000}, limits={"time_limit": (1, most)}, ends=True,
        goal_reward=same_reward,
    )  # fmt: skip


def clip_reward(core: Any) -> Rule:
    """Rule that clips rewards."""

    def clip(reward: Array, params: Params) -> Array:
        return jnp.clip(reward, params.own["reward_low"], params.own["reward_high"])

    def judge(params: Params) -> str | None:
        low, high = params.own["reward_low"], params.own["reward_high"]
        if is_traced((low, high)) or low <= high:
            return None
        return f"reward_low={low}: allowed is a number <= reward_high={high}"

    return _of_rewards(core, clip)._replace(
        own={"reward_low": -1.0, "reward_high": 1.0}, judge=judge
    )


def scale_reward(core: Any) -> Rule:
    """Rule that scales rewards."""
    scale = _of_rewards(core, lambda reward, params: reward * params.own["reward_scale"])
    return scale._replace(own={"reward_scale": 1.0})


def _of_rewards(core: Any, change: Callable[[Array, Params], Array]) -> Rule:
    """Rule that makes another reward of each; in a game of each player's, whose mean is the game's
    (over those who learn, where one is scripted)."""

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        new = move(key, state.inner, action, params.inner)
        if not is_game(core):
            return new._replace(reward=change(jnp.asarray(new.reward, float), params)), ()
        rewards = change(jnp.asarray(new.info["rewards"], float), params)
        mean = rewards[: getattr(core, "learners", core.players)].mean()
        return new._replace(reward=mean, info={**new.info, "rewards": rewards}), ()

    def goal_reward(params: Params, reward: Array) -> Array:
        return change(jnp.asarray(reward, float), params)

    return Rule(step=step, goal_reward=goal_reward)
