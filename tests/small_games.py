"""Small games in gymnax's protocol with known answers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.spaces import MultiDiscrete


@struct.dataclass
class Params:
    max_steps_in_episode: int = 6


@struct.dataclass
class State:
    time: jax.Array
    seen: jax.Array


class Meet(environment.Environment):
    """Two players, one step: both get -(a0 + a1 - 0.5)^2 - 0.5 (a0 - 0.8 s)^2. Only player 0 sees
    s, which is -1 or 1; player 1 sees a 1.

    With a1 = 0.5 - d the best a0 is (d + 0.4 s) / 1.5, which costs (0.8 s - d)^2 / 3, on average
    least for d = 0. So the optimum is a0 = 0.4 s / 1.5, a1 = 0.5, and its return -0.64 / 3.
    """

    name, default_params, players, signals = "Meet", Params(), 2, ("rewards",)
    optimum = -0.64 / 3

    def reset_env(self, key, params):
        s = jax.random.rademacher(key, (), float)
        return self._observe(s), State(jnp.zeros((), jnp.int32), s)

    def _observe(self, s):
        return jnp.array([[s], [1.0]])

    def step_env(self, key, state, action, params):
        (a,), (b,) = action
        s = state.seen
        reward = -jnp.square(a + b - 0.5) - 0.5 * jnp.square(a - 0.8 * s)
        state = State(state.time + 1, s)
        info = {"rewards": jnp.stack([reward, reward])}
        return self._observe(s), state, reward, jnp.ones((), bool), info

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (2, 1))

    def observation_space(self, params):
        return spaces.Box(-1, 1, (2, 1))


class Matrix(environment.Environment):
    """One step of a game in a table: rewards [2, A, B] of both players, who see a 1 each."""

    name, default_params, players, signals = "Matrix", Params(), 2, ("rewards",)

    def __init__(self, table):
        self.table = np.asarray(table, np.float32)

    def reset_env(self, key, params):
        return jnp.ones((2, 1)), State(jnp.zeros((), jnp.int32), jnp.zeros(()))

    def step_env(self, key, state, action, params):
        rewards = jnp.asarray(self.table)[:, action[0], action[1]]
        info = {"rewards": rewards}
        return jnp.ones((2, 1)), state, rewards.mean(), jnp.ones((), bool), info

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return MultiDiscrete(self.table.shape[1:])

    def observation_space(self, params):
        return spaces.Box(0, 1, (2, 1))


CLIMBING = np.array([[[11, -30, 0], [-30, 7, 6], [0, 0, 5]]] * 2, float)
STAG = np.array([[4, 0], [3, 2]], float)
STAG_HUNT = np.stack([STAG, STAG.T])


def q_fixed_points(table, epsilon):
    """Greedy actions (i, j) and values (Q_1, Q_2) that keep each other up: either's values are its
    mean rewards against the other's epsilon-greedy policy, and its action is the best of them."""
    _, rows, columns = table.shape
    found = {}
    for i, j in itertools.product(range(rows), range(columns)):
        mine = (1 - epsilon) * np.eye(rows)[i] + epsilon / rows
        theirs = (1 - epsilon) * np.eye(columns)[j] + epsilon / columns
        q = table[0] @ theirs, mine @ table[1]
        if q[0].argmax() == i and q[1].argmax() == j:
            found[i, j] = q
    return found


class Hunt(environment.Environment):
    """Two hunters with two actions and one prey with three, in groups that see different things;
    six steps, and hunter 0 leaves after the second. Only even actions of the prey are legal, and
    hunters may do all; an illegal action costs everybody a million. There is a global state."""

    name, default_params, players = "Hunt", Params(), 3
    groups = {"hunters": 2, "prey": 1}  # noqa: RUF012
    signals = ("rewards", "alive", "leaves")

    def reset_env(self, key, params):
        state = State(jnp.zeros((), jnp.int32), jnp.zeros(()))
        return self._observe(state), state

    def _observe(self, state):
        t = state.time.astype(float)
        return {
            "hunters": jnp.stack([t, 10 + t])[:, None] * jnp.ones(2),
            "prey": jnp.full((1, 3), 20 + t),
            "action_mask": jnp.array([1, 1, 1, 1, 1, 0, 1], bool),
            "global_state": jnp.full(4, t),
        }

    def step_env(self, key, state, action, params):
        alive = jnp.array([state.time < 2, True, True])
        legal = action[2] != 1
        rewards = jnp.where(alive, jnp.arange(1.0, 4.0) * (action == 0), 0)
        rewards = jnp.where(legal, rewards, -1e6)
        leaves = jnp.array([state.time == 1, False, False])
        state = State(state.time + 1, state.seen)
        info = {"rewards": rewards, "alive": alive, "leaves": leaves}
        return self._observe(state), state, rewards.mean(), jnp.zeros((), bool), info

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        return MultiDiscrete([2, 2, 3])

    def observation_space(self, params):
        inf = float("inf")
        return spaces.Dict(
            {
                "hunters": spaces.Box(-inf, inf, (2, 2)),
                "prey": spaces.Box(-inf, inf, (1, 3)),
                "action_mask": spaces.Box(0, 1, (7,), bool),
                "global_state": spaces.Box(-inf, inf, (4,)),
            }
        )
