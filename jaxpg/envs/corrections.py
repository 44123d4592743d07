"""Corrections of gymnax's environments, which `registry.make` applies: to gymnasium's dynamics, to
bsuite's ends, and of bounds that observations do not keep.

Beside them stand the parameters that gymnax keeps next to those they follow from.
"""

from gymnax.environments import spaces
from gymnax.environments.bsuite import discounting_chain, memory_chain
from gymnax.environments.classic_control import continuous_mountain_car as gymnax_car
from gymnax.environments.misc import gaussian_bandit, meta_maze
from jax import numpy as jnp

DERIVED = {
    "CartPole-v1": {
        "total_mass": lambda p: p.masscart + p.masspole,
        "polemass_length": lambda p: p.masspole * p.length,
    }
}
for _name in ("CartPolePositions-jaxpg", "CartPoleCost-jaxpg"):
    DERIVED[_name] = DERIVED["CartPole-v1"]


class MountainCarContinuous(gymnax_car.ContinuousMountainCar):
    """The car of gymnasium, which loses its speed at the left wall; gymnax's loses it beyond the
    goal."""

    def step_env(self, key, state, action, params):
        force = jnp.clip(action, params.min_action, params.max_action)
        pull = jnp.cos(3 * state.position) * params.gravity
        velocity = state.velocity + force * params.power - pull
        velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
        position = jnp.clip(state.position + velocity, params.min_position, params.max_position)
        velocity = velocity * (1 - (position == params.min_position) * (velocity < 0))

        there = (position >= params.goal_position) * (velocity >= params.goal_velocity)
        reward = -0.1 * action**2 + 100 * there
        state = gymnax_car.EnvState(
            position=position.squeeze(), velocity=velocity.squeeze(), time=state.time + 1
        )
        done = self.is_terminal(state, params)
        obs, state = self._apply_transition_gradient_policy(self.get_obs(state), state)
        return obs, state, reward.squeeze(), done, {"discount": self.discount(state, params)}


class DiscountingChain(discounting_chain.DiscountingChain):
    """The chains of bsuite, which end, as a task does, when the last of them has paid; gymnax's are
    cut short there, so that values go on after it, and the longest chain looks best."""

    def is_terminated(self, state, params):
        return state.time >= params.reward_timestep.max()


class MemoryChain(memory_chain.MemoryChain):
    """The chain whose context is -1 or 1, and whose clock runs on below 0."""

    def observation_space(self, params):
        return spaces.Box(-1, 2 * self.num_bits, (self.num_bits + 2,), jnp.float32)


class GaussianBandit(gaussian_bandit.GaussianBandit):
    """The bandit whose rewards have no bounds, and whose clock begins at -1."""

    def observation_space(self, params):
        most, end = jnp.finfo(jnp.float32).max, params.max_steps_in_episode
        low, high = jnp.array([-most, 0, 0, -1]), jnp.array([most, 1, 1, end])
        return spaces.Box(low, high, (4,), jnp.float32)


class MetaMaze(meta_maze.MetaMaze):
    """The maze that shows rewards as they are, and whose clock begins at -1."""

    def observation_space(self, params):
        shown, most = self.rf_size**2 + self.num_actions, jnp.finfo(jnp.float32).max
        low = jnp.array([0] * shown + [-most, -1], jnp.float32)
        high = jnp.array([1] * shown + [most, params.max_steps_in_episode], jnp.float32)
        return spaces.Box(low, high, (shown + 2,), jnp.float32)


FACTORIES = {
    "MountainCarContinuous-v0": MountainCarContinuous,
    "DiscountingChain-bsuite": DiscountingChain,
    "MemoryChain-bsuite": MemoryChain,
    "GaussianBandit-misc": GaussianBandit,
    "MetaMaze-misc": MetaMaze,
}
