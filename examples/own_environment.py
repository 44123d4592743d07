"""An environment of one's own: a boat crosses a river whose current it does not know.

python examples/own_environment.py [--total-steps 100000] [--seeds 4]

Checks the environment against the contract, trains PPO in it with several seeds at once, and prints
what the greedy policies reach. The class is all that there is to an environment: nothing is
registered. From the command it has a name too: own_environment:River, in the folder of this file.
"""

import argparse

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg

MOST = 6.0  # the speed of a boat or a current that an observation has room for


@struct.dataclass
class Params:
    """Numbers of the river. They may be swept, and drawn anew for every seed."""

    width: float = 1.0
    current: float = 0.3  # the most that the river pulls, to either side
    max_steps_in_episode: int = 60


@struct.dataclass
class State:
    place: jax.Array  # [2]: how far across, and how far off the pier
    pull: jax.Array  # [] of the river, in this episode
    time: jax.Array  # [] int32: gymnax's time limit asks for it


class River(environment.Environment):
    """The pier is straight across. Every step costs 0.02; to land costs the way that is left to the
    pier, and ends the episode. gymnax's class adds the time limit and the auto-reset."""

    name, default_params = "River", Params()

    def reset_env(self, key, params):
        pull = jax.random.uniform(key, (), float, -params.current, params.current)
        state = State(jnp.zeros(2), pull, jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        speed = 0.1 * jnp.stack([jnp.cos(action[0]), jnp.sin(action[0]) + state.pull])
        place = jnp.clip(state.place + speed, jnp.array([0, -MOST]), MOST)
        landed = place[0] >= params.width  # terminated: nothing follows
        reward = -0.02 - landed * abs(place[1])
        state = State(place, state.pull, state.time + 1)
        return self.observe(key, state, action, params), state, reward, landed, {}

    def observe(self, key, state, action, params):
        return state.place

    def action_space(self, params):
        return spaces.Box(-1.5, 1.5, (1,))  # where the bow points, radians

    def observation_space(self, params):
        return spaces.Box(jnp.array([0.0, -MOST]), jnp.array([MOST, MOST]), (2,))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--total-steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()

    core = River()
    env = jaxpg.Env(core.default_params, core)
    jaxpg.check_env(env)  # says in one sentence each what is wrong, if something is

    cfg = jaxpg.ppo.Config(num_envs=16, num_steps=64, learning_rate=1e-3)
    keys, k_eval = jax.random.split(jax.random.key(0), (2, args.seeds))
    result = jaxpg.run(jaxpg.ppo, cfg, env, keys, total_steps=args.total_steps)
    returns = jaxpg.evaluate(jaxpg.ppo, result.cfg, env, result.state, k_eval)
    for seed, mean in enumerate(returns.mean(1)):
        print(f"seed {seed}: greedy return {mean:.3f}")


if __name__ == "__main__":
    main()
