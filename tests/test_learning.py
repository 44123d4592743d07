"""Every agent learns, with its preset: a short version of benchmarks/learning.py."""

import jax
import pytest

import jaxpg
from jaxpg import agents, presets
from tests.conftest import INSTALLED

# Some of every kind; values that are learnt from replay are held against known ones in
# test_offpolicy and test_dqn, and every search comes near an optimum in test_policy_search.
QUICK = ("ppo", "q_learning", "sarsa", "expected_sarsa", "simulated_annealing", "cem")


@pytest.fixture(
    params=[
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in INSTALLED
    ]
)
def agent(request):
    return agents.get(request.param)


def test_learns(agent):
    """As the preset's `learns` says."""
    where, bar = next((x, p["learns"]) for x, p in presets.table(agent).items() if "learns" in p)
    env, cfg = jaxpg.make(where), jaxpg.preset(agent, where)
    keys = jax.random.split(jax.random.key(3), bar["seeds"])
    result = jaxpg.run(agent, cfg, env, keys, total_steps=bar["total_steps"])
    returns = jaxpg.evaluate(agent, result.cfg, env, result.state, keys, episodes=32)
    assert returns.shape == (bar["seeds"], 32)
    assert returns.mean() >= bar["least"], returns.mean(-1)


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
