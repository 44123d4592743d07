"""JaxMARL's MPE through the adapter against JaxMARL's own `step`, which resets: one way of both."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs import registry, suites

jaxmarl = pytest.importorskip("jaxmarl")
from jaxmarl.registration import registered_envs  # noqa: E402

NAMES = [name for name in registered_envs if name.startswith("MPE_")]
QUICK = ("MPE_simple_spread_v3", "MPE_simple_tag_v3")
LANES, STEPS, LIMIT = 32, 320, 7  # 10,240 steps of an environment
BY_DEFAULT_CONTINUOUS = {"MPE_simple_world_comm_v3": {"action_type": "Discrete"}}


def slow_but(*quick):
    return [x if x in quick else pytest.param(x, marks=pytest.mark.slow) for x in NAMES]


@pytest.mark.parametrize("name", slow_but(*QUICK))
def test_it_steps_as_jaxmarl_does(name):
    """Observations, true rewards of each, ends and what follows them, by agents' names. JaxMARL
    ends an episode one step after its limit: with one that is smaller by one, both end together."""
    env = jaxpg.make(f"jaxmarl/{name}", max_steps_in_episode=LIMIT)
    own = jaxmarl.make(name, **BY_DEFAULT_CONTINUOUS.get(name, {}))
    own.max_steps = LIMIT - 1

    def lane(key):
        k_reset, k_steps, k_act = jax.random.split(key, 3)
        one = env.core.reset(k_reset, env.params)
        other = own.reset(k_reset)

        def body(states, drawn):
            mine, theirs = states
            k_step, k_act = drawn
            action = env.core.action_space(env.params).sample(k_act)
            obs, mine, reward, terminated, truncated, info = env.core.step(
                k_step, mine, action, env.params
            )
            told = {agent: action[i] for i, agent in enumerate(own.agents)}
            seen, theirs, rewards, dones, _ = own.step(k_step, theirs, told)
            ends = terminated, truncated, jnp.stack([dones[x] for x in ("__all__", *own.agents)])
            return (mine, theirs), (obs, seen, reward, info["rewards"], rewards, ends)

        keys = jax.random.split(k_steps, STEPS), jax.random.split(k_act, STEPS)
        return one[0], other[0], jax.lax.scan(body, (one[1], other[1]), keys)[1]

    lanes = jax.jit(jax.vmap(lane))(jax.random.split(jax.random.key(0), LANES))
    first, own_first, (obs, seen, reward, each, rewards, ends) = jax.device_get(lanes)
    same = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    for i, agent in enumerate(own.agents):
        for mine, theirs in ((first, own_first), (obs, seen)):
            same(row_of(mine, agent, own.agents), theirs[agent])
        same(each[..., i], rewards[agent])
    same(reward, np.mean([rewards[x] for x in own.agents], 0), rtol=1e-4)
    terminated, truncated, dones = ends
    assert not terminated.any()
    np.testing.assert_array_equal(truncated, dones.all(-1))
    np.testing.assert_array_equal(truncated, dones.any(-1))
    np.testing.assert_array_equal(truncated[:, LIMIT - 1 :: LIMIT], True)
    assert truncated.sum() == LANES * (STEPS // LIMIT)


def row_of(obs, agent, agents):
    """The row of an agent: of its kind, and among those of its kind in JaxMARL's order."""
    kind = lambda name: re.sub(r"_\d+$", "", name)  # noqa: E731
    alike = [name for name in agents if kind(name) == kind(agent)]
    rows = obs[kind(agent)] if isinstance(obs, dict) else obs
    return rows[..., alike.index(agent), :]


@pytest.mark.parametrize("name", slow_but(QUICK[1]))
def test_the_contract_holds(name):
    env = jaxpg.make(f"jaxmarl/{name}")
    jaxpg.check_env(env)
    own = jaxmarl.make(name)
    assert env.params.max_steps_in_episode == own.max_steps == 25
    core = env.core
    assert core.players == len(own.agents)
    assert sum(getattr(core, "groups", {"all": core.players}).values()) == core.players


def test_the_true_successor_is_there_where_jaxmarl_has_the_next_episode():
    env = jaxpg.make("jaxmarl/MPE_simple_spread_v3", max_steps_in_episode=1)
    longer = jaxpg.make("jaxmarl/MPE_simple_spread_v3")
    key, action = jax.random.key(1), jnp.array([1, 2, 3])
    _, state = env.core.reset(key, env.params)
    obs, *_, info = env.core.step(key, state, action, env.params)
    after = longer.core.step(key, state, action, longer.params)[0]
    np.testing.assert_array_equal(info["final_observation"], after)
    assert not np.allclose(obs, after)


def test_arguments_are_those_of_jaxmarl():
    env = jaxpg.make("jaxmarl/MPE_simple_spread_v3", num_agents=4, num_landmarks=2, local_ratio=0.1)
    assert env.core.observation_space(env.params).shape == (4, 20 + 4 - 4)
    assert env.action_space.nvec == (5,) * 4
    free = jaxpg.make("jaxmarl/MPE_simple_spread_v3", action_type="Continuous")
    assert free.action_space.shape == (3, 5)
    with pytest.raises(
        ValueError, match=r"actions of \[\(5,\), \(9,\)\]: allowed are those of one"
    ):
        jaxpg.make("jaxmarl/MPE_simple_world_comm_v3", action_type="Continuous")
    with pytest.raises(ValueError, match=r"its constructor refuses that.*supports 2 agents"):
        jaxpg.make("jaxmarl/MPE_simple_speaker_listener_v4", num_agents=3)
    with pytest.raises(ValueError, match=r"unknown jaxmarl environment.*did you mean"):
        jaxpg.make("jaxmarl/MPE_simple_spread_v4")


def test_all_names_are_listed_and_registered():
    listed = suites.names("jaxmarl")
    assert listed == [f"jaxmarl/{name}" for name in NAMES]
    assert all(map(registry.is_registered, listed))
