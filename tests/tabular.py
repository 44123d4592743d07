"""Small environments in gymnax's protocol with known answers."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg import Env


@struct.dataclass
class Params:
    max_steps_in_episode: int = 8


@struct.dataclass
class State:
    time: jax.Array


class Constant(environment.Environment):
    """One state, reward 1 for ever; cut every 8 steps, by truncation or by termination."""

    def __init__(self, terminates: bool):
        self.terminates = terminates

    name = "Constant"
    default_params = Params()

    def reset_env(self, key, params):
        return jnp.ones(1), State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        state = State(state.time + 1)
        ended = (state.time >= 8) & self.terminates
        return jnp.ones(1), state, jnp.float32(1), ended, {}

    def is_truncated(self, state, params):
        return (state.time >= 8) & (not self.terminates)

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 1, (1,))


class Chain(environment.Environment):
    """Three steps; actions are summed. The reward is a table of (time, sum so far, action)."""

    name = "Chain"
    default_params = Params(3)
    rewards = jnp.array([[[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]]] * 3) * jnp.array(
        [1.0, -0.5, 2.0]
    ).reshape(3, 1, 1)

    def reset_env(self, key, params):
        return jax.nn.one_hot(0, 9), State(jnp.zeros(2, jnp.int32))

    def step_env(self, key, state, action, params):
        time, total = state.time
        reward = self.rewards[time, total, action]
        time, total = time + 1, total + action
        obs = jax.nn.one_hot(3 * time + total, 9)
        return obs, State(jnp.stack([time, total])), reward, time >= 3, {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 1, (9,))


class Odd(environment.Environment):
    """A discrete observation, three actions with bounds of their own (or one discrete action of
    three, or what `actions` says), an integer reward: 1 if the actions, in their own units, sum to
    less than the time. In parts, the observation is a Dict with an image beside it."""

    def __init__(self, discrete: bool = False, parts: bool = False, actions=None):
        self.discrete, self.parts, self.actions = discrete, parts, actions

    name = "Odd"
    default_params = Params()

    def observe(self, time):
        if not self.parts:
            return time % 5
        return {"time": time % 5, "image": jnp.full((4, 4, 1), time, jnp.uint8)}

    def reset_env(self, key, params):
        zero = jnp.zeros((), jnp.int32)
        return self.observe(zero), State(zero)

    def step_env(self, key, state, action, params):
        state = State(state.time + 1)
        reward = (action.sum() < state.time).astype(jnp.int32)
        return self.observe(state.time), state, reward, state.time >= 8, {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        if self.actions is not None:
            return self.actions
        if self.discrete:
            return spaces.Discrete(3)
        return spaces.Box(jnp.array([-1.0, 0.0, 2.0]), jnp.array([1.0, 5.0, 2.5]), (3,))

    def observation_space(self, params):
        time = spaces.Discrete(5)
        if not self.parts:
            return time
        return spaces.Dict({"time": time, "image": spaces.Box(0, 255, (4, 4, 1), jnp.uint8)})


@struct.dataclass
class PickyState:
    time: jax.Array
    legal: jax.Array  # [4] bool


class Picky(environment.Environment):
    """Six steps of four actions, of which one to three are legal: 1 for the first of those, 0 for
    the others, -1e6 for an illegal one. The mask is part of a Dict observation that has an image,
    an integer and a Tuple beside it, or of `info`."""

    name = "Picky"
    default_params = Params()

    def __init__(self, by_info: bool = False):
        self.by_info = by_info

    def reset_env(self, key, params):
        legal = jnp.ones(4, bool) if self.by_info else self.draw(key)
        state = PickyState(jnp.zeros((), jnp.int32), legal)
        return self.observe(state), state

    def draw(self, key):
        k_one, k_rest = jax.random.split(key)
        one = jnp.arange(4) == jax.random.randint(k_one, (), 0, 4)
        none = jnp.arange(4) == (one.argmax() + 1) % 4
        return (jax.random.bernoulli(k_rest, 0.5, (4,)) | one) & ~none

    def observe(self, state):
        if self.by_info:
            return state.time % 3
        image = jnp.outer(state.legal, state.legal)[..., None]
        beside = state.time % 3, state.time[None] / 6
        return {"image": image, "beside": beside, "action_mask": state.legal}

    def step_env(self, key, state, action, params):
        reward = jnp.where(state.legal[action], (action == state.legal.argmax()) * 1.0, -1e6)
        state = PickyState(state.time + 1, self.draw(key))
        info = {"action_mask": state.legal} if self.by_info else {}
        return self.observe(state), state, reward, state.time >= 6, info

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Discrete(4)

    def observation_space(self, params):
        if self.by_info:
            return spaces.Discrete(3)
        beside = spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (1,))))
        return spaces.Dict(
            {
                "image": spaces.Box(0, 1, (4, 4, 1)),
                "beside": beside,
                "action_mask": spaces.Box(0, 1, (4,)),
            }
        )


@struct.dataclass
class ProbeState:
    side: jax.Array  # [1] -1 or 1


class Probe(environment.Environment):
    """One step; the observation is a side, -1 or 1. The reward is 1 for the action on that side, or
    in a Box 1 less the squared distance from half of it."""

    name = "Probe"
    default_params = Params(1)

    def __init__(self, discrete: bool):
        self.discrete = discrete

    def reset_env(self, key, params):
        side = jax.random.rademacher(key, (1,), float)
        return side, ProbeState(side)

    def step_env(self, key, state, action, params):
        side = state.side
        reward = action == (side[0] > 0) if self.discrete else 1 - jnp.sum((action - side / 2) ** 2)
        return side, state, jnp.asarray(reward, float), jnp.ones((), bool), {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Discrete(2) if self.discrete else spaces.Box(-1, 1, (1,))

    def observation_space(self, params):
        return spaces.Box(-1, 1, (1,))


def make(core) -> Env:
    return Env(core.default_params, core)
