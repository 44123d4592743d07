"""Agents learn, with their presets and general profiles: a short version of
benchmarks/learning.py."""

import jax
import pytest

import jaxpg
from jaxpg import agents, presets
from tests.conftest import INSTALLED

pytestmark = pytest.mark.defaults  # what users run

# Some of every kind; values that are learnt from replay are held against known ones in
# test_offpolicy and test_dqn, and every search comes near an optimum in test_policy_search.
QUICK = ("ppo", "q_learning")


def bars(agent):
    """What an agent has to learn, (whose settings, environment, bar): its presets' `learns`, and
    those of its general profile, each with its `env`, which may have a preset too."""
    of_presets = [(x, x, p["learns"]) for x, p in presets.table(agent).items() if "learns" in p]
    general = presets.find(agent, presets.GENERAL).settings.get("learns", [])
    return of_presets + [(presets.GENERAL, bar["env"], bar) for bar in general]


def marked(name):
    """Parameters of an agent; the first one is in the quick part, if the agent is."""
    for i, (settings, env, bar) in enumerate(bars(name)):
        marks = () if i == 0 and name in QUICK else pytest.mark.slow
        yield pytest.param(name, settings, env, bar, marks=marks, id=f"{name}-{env}")


@pytest.mark.parametrize(
    ("name", "settings", "env", "bar"), [x for name in INSTALLED for x in marked(name)]
)
def test_learns(name, settings, env, bar):
    """As `learns` says, with the settings of the environment, or those of the general profile."""
    agent, cfg, env = agents.get(name), jaxpg.preset(name, settings), jaxpg.make(env)
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
