"""Cooperative navigation, `simple_spread` of the Multi-Agent Particle Environment (MPE).

N agents in the plane share N landmarks out among themselves without a word, and do not bump into
each other (Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
Environments", section 5.1). Agents are discs with a mass. In a step of `dt` seconds

    x' = x + dt v
    v' = (1 - damping) v + dt (accel u + sum of contacts) / mass

where u is -1, 0 or 1 along an axis, or anything between, and two agents at a distance d push each
other apart with

    contact_force k log(1 + exp((2 agent_size - d) / k)),    k = contact_margin

A step's reward of agent i is, with l = local_ratio,

    -(1 - l) sum over landmarks of the distance of the agent next to it - l (agents that i touches)

at x': the first part is everybody's, the second its own, so that rewards differ. Numbers, and the
order of both lines, are those of MPE in PettingZoo (the package mpe2) and JaxMARL; in the first one
of 2017 an agent moves with its new velocity.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.spaces import MultiDiscrete
from jaxpg.core.types import Array

# Of actions 0 .. 4: nothing, left, right, down, up.
PUSHES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]], np.float32)
NEAR = 1e-12  # least distance in a contact: two agents in one place do not push


@struct.dataclass
class Params:
    dt: float = 0.1  # seconds
    damping: float = 0.25  # part of the velocity that a step takes away
    accel: float = 5.0  # force of a push
    mass: float = 1.0
    agent_size: float = 0.15  # radius
    contact_force: float = 100.0
    contact_margin: float = 0.001
    local_ratio: float = 0.5  # of collisions in a reward
    max_steps_in_episode: int = 25


@struct.dataclass
class State:
    position: Array  # [N, 2]
    velocity: Array  # [N, 2]
    landmarks: Array  # [N, 2]
    time: Array  # [] int32


class Spread(environment.Environment):
    """Actions [N] of 0 .. 4: stay, left, right, down, up. Continuous ones [N, 2] in [-1, 1]: the
    force along both axes.

    Observations [N, 6 N] of each, as in MPE: its velocity (2) and its place (2), then relative to
    it the landmarks (2 N) and the others (2 N - 2), and 2 N - 2 zeros, which are what the others
    say: here nobody speaks.
    """

    name, default_params = "Spread-jaxpg", Params()  # type: ignore  # properties in gymnax
    signals = ("rewards",)

    def __init__(self, agents: int = 3, continuous: bool = False):
        """Raises ValueError for a number of agents that is not an integer >= 1."""
        if agents != int(agents) or agents < 1:
            raise ValueError(f"{self.name} agents={agents!r}: allowed is an integer >= 1")
        self.players, self.continuous = int(agents), bool(continuous)
        inf = float("inf")
        self.limits = {
            "dt": (0, inf), "damping": (0, 1), "accel": (0, inf), "mass": (1e-6, inf),
            "agent_size": (0, inf), "contact_force": (0, inf), "contact_margin": (1e-6, inf),
            "local_ratio": (0, 1),
        }  # fmt: skip

    def reset_env(self, key, params):
        places = jax.random.uniform(key, (2, self.players, 2), float, -1, 1)
        time = jnp.zeros((), jnp.int32)
        state = State(places[0], jnp.zeros_like(places[0]), places[1], time)
        return self.observe(state, _differences(state.position)), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        push = jnp.clip(action, -1, 1) if self.continuous else jnp.asarray(PUSHES)[action]
        force = params.accel * push + contacts(state.position, params)
        position = state.position + params.dt * state.velocity
        velocity = (1 - params.damping) * state.velocity + params.dt * force / params.mass
        state = State(position, velocity, state.landmarks, state.time + 1)
        apart = _differences(position)
        rewards = self.rewards(state, apart, params)
        info = {"rewards": rewards}
        return self.observe(state, apart), state, rewards.mean(), jnp.zeros((), bool), info

    def rewards(self, state: State, apart: Array, params: Params) -> Array:
        """Rewards [N] of a state that was reached. apart: [N, N, 2], as of `_differences`."""
        to_landmarks = state.landmarks[:, None] - state.position
        nearest = jnp.sqrt(jnp.square(to_landmarks).sum(-1).min(1))
        touch = jnp.sqrt(jnp.square(apart).sum(-1)) < 2 * params.agent_size
        touched = (touch & ~np.eye(self.players, dtype=bool)).sum(1, dtype=float)
        return -(1 - params.local_ratio) * nearest.sum() - params.local_ratio * touched

    def observe(self, state: State, apart: Array) -> Array:
        """Observations [N, 6 N]. apart: [N, N, 2], as of `_differences`."""
        n = self.players
        to_landmarks = state.landmarks - state.position[:, None]
        # Without the diagonal: each row begins one entry later than the one before.
        others = apart.reshape(n * n, 2)[1:].reshape(n - 1, n + 1, 2)[:, :-1].reshape(n, 2 * n - 2)
        parts = [state.velocity, state.position, to_landmarks.reshape(n, 2 * n), others]
        return jnp.concatenate([*parts, jnp.zeros_like(others)], -1)

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        if self.continuous:
            return spaces.Box(-1.0, 1.0, (self.players, 2))
        return MultiDiscrete([len(PUSHES)] * self.players)

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (self.players, 6 * self.players))


def contacts(position: Array, params: Params) -> Array:
    """Forces [N, 2] of the contacts of agents at position [N, 2].

    >>> import jax.numpy as jnp
    >>> from jaxpg.envs.games import spread
    >>> touching = jnp.array([[0.0, 0.0], [0.2, 0.0]])  # closer than two radii of 0.15
    >>> spread.contacts(touching, spread.Params()).round(3).tolist()
    [[-10.0, 0.0], [10.0, 0.0]]
    """
    apart = _differences(position)
    distance = jnp.sqrt(jnp.maximum(jnp.square(apart).sum(-1), NEAR**2))
    k = params.contact_margin
    depth = k * jax.nn.softplus((2 * params.agent_size - distance) / k)
    return -(apart * (params.contact_force * depth / distance)[..., None]).sum(1)


def _differences(position: Array) -> Array:
    """From agent i to agent j: [N, N, 2]."""
    return position - position[:, None]


ENVIRONMENTS = {"Spread-jaxpg": Spread}
