"""Every agent learns, with its preset: a short version of benchmarks/learning.py."""

import jax
import pytest

import jaxpg

# steps, and what the mean over the seeds must reach: a random policy gets about 22 on CartPole, and
# -1200 on Pendulum
ENOUGH = {
    "reinforce": (200_000, 200),
    "a2c": (250_000, 300),
    "a3c": (250_000, 300),
    "impala": (250_000, 300),
    "npg": (40_000, 300),
    "trpo": (40_000, 300),
    "ppo": (50_000, 450),
    "dqn": (50_000, 350),
    "sac_discrete": (24_000, 150),
    "ddpg": (12_000, -400),
    "td3": (12_000, -400),
    "sac": (10_000, -400),
    "q_learning": (100_000, -13),
    "sarsa": (100_000, -17),
    "expected_sarsa": (50_000, -15),
    "hill_climbing": (1_000_000, 150),
    "steepest_ascent": (2_000_000, 200),
    "simulated_annealing": (2_400_000, 300),
    "adaptive_noise": (2_400_000, 300),
    "cem": (1_280_000, 300),
    "es": (2_560_000, 300),
    "ars": (1_280_000, 300),
    "evosax": (1_280_000, 200),
}

# Where, if not on CartPole. At the edge of the cliff the greedy policy earns -13, two rows up -17.
WHERE = dict.fromkeys(("ddpg", "td3", "sac"), "Pendulum-v1")
WHERE |= dict.fromkeys(("q_learning", "sarsa", "expected_sarsa"), "Cliff-jaxpg")


SLOW = ("dqn", "sac_discrete", "ddpg", "td3", "sac")  # two seeds have to do


def test_learns(agent):
    (steps, least), where = ENOUGH[agent.name], WHERE.get(agent.name, "CartPole-v1")
    env, cfg = jaxpg.make(where), jaxpg.preset(agent, where)
    seeds = 2 if agent.name in SLOW else 4
    keys = jax.random.split(jax.random.key(3), seeds)
    result = jaxpg.run(agent, cfg, env, keys, total_steps=steps)
    returns = jaxpg.evaluate(agent, result.cfg, env, result.state, keys, episodes=32)
    assert returns.shape == (seeds, 32)
    assert returns.mean() >= least, returns.mean(-1)


def test_a_parameter_of_the_environment_can_be_a_batch():
    """The policy that was learnt on Earth, on three planets, in one program."""
    agent, cfg = jaxpg.ppo, jaxpg.ppo.Config(hidden=(4,))
    key, earth = jax.random.key(0), jaxpg.make("CartPole-v1")
    state = agent.init(cfg, earth, key)

    def returns(gravity):
        env = jaxpg.make("CartPole-v1")
        env = jaxpg.Env(env.params.replace(gravity=gravity), env.core)
        return jaxpg.evaluate(agent, cfg, env, state, key, episodes=8, greedy=False).mean()

    planets = jax.vmap(returns)(jax.numpy.array([3.7, 9.8, 90.0]))
    assert planets[0] > planets[2]
    assert float(planets[1]) == pytest.approx(float(returns(9.8)))
