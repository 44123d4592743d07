"""Corrections of gymnax's environments to gymnasium's dynamics, which `registry.make` applies.

Beside them stand the parameters that gymnax keeps next to those they follow from.
"""

from gymnax.environments.classic_control import continuous_mountain_car as gymnax_car
from jax import numpy as jnp

DERIVED = {
    "CartPole-v1": {
        "total_mass": lambda p: p.masscart + p.masspole,
        "polemass_length": lambda p: p.masspole * p.length,
    }
}
DERIVED["CartPolePositions-jaxpg"] = DERIVED["CartPole-v1"]


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


FACTORIES = {"MountainCarContinuous-v0": MountainCarContinuous}
