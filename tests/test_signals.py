"""What an environment says beside its reward: with the right step, stored, summed over episodes."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import resets
from jaxpg.core.metrics import merge_metrics
from jaxpg.loops import replay
from tests.conftest import slow_of

KEY = jax.random.key(0)


@struct.dataclass
class Params:
    max_steps_in_episode: int = 4
    terminates_at: int = 3


@struct.dataclass
class State:
    time: jax.Array


class Toll(environment.Environment):
    """The observation is the time; the k-th step of an episode costs k and every second is loud.

    It terminates after `terminates_at` steps, or is cut at `max_steps_in_episode`.
    """

    name, default_params = "Toll", Params()

    def __init__(self, box=False, signals=("cost", "loud", "pair")):
        self.box, self.signals = box, signals

    def reset_env(self, key, params):
        return jnp.zeros(1), State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        state = State(state.time + 1)
        info = {
            "cost": state.time,
            "loud": state.time % 2 == 0,
            "pair": jnp.stack([state.time, -state.time]),
            "return": state.time,
            "parts": {"a": state.time},
            "wave": state.time * jnp.complex64(1j),
            "secret": key,
        }
        obs = state.time[None].astype(float)
        return obs, state, jnp.ones(()), state.time >= params.terminates_at, info

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,)) if self.box else spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 5, (1,))


class OwnStep:
    """The same with a `step` that is not gymnax's."""

    name, default_params, signals = "OwnToll", Params(), ("cost", "loud", "pair")
    toll = Toll()

    def __getattr__(self, name):
        return getattr(self.toll, name)

    def step(self, key, state, action, params):
        return self.toll.step(key, state, action, params)


def make(core=None, **params):
    core = core or Toll()
    return E.Env(core.default_params.replace(**params), core)


ENDS = {  # how an episode ends: parameters, its length, its cost, how often it is loud
    "termination": ({}, 3, 6.0, 1.0),
    "truncation": ({"terminates_at": 9}, 4, 10.0, 2.0),
}


def collect(env, key, num_steps):
    def policy(obs, carry, key):
        return jnp.zeros(2, jnp.int32), carry, ()

    return E.rollout(env, policy, E.reset(env, key, 2), (), key, num_steps)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["drawn ahead", "gymnax's step", "a step of its own"])
def test_a_rollout_has_them_of_the_step_s_true_outcome(end, way, monkeypatch):
    params, length, cost, loud = ENDS[end]
    if way == "gymnax's step":
        monkeypatch.setattr(resets, "LARGE", -1)
    env = make(OwnStep() if way == "a step of its own" else None, **params)
    state, _, t, _, metrics = jax.jit(lambda k: collect(env, k, 10))(KEY)
    assert (t.terminated | t.truncated).sum() == 2 * (10 // length)
    assert set(t.signals) == {"cost", "loud", "pair"}
    assert all(x.dtype == jnp.float32 for x in t.signals.values())
    time = t.obs[..., 0] + 1  # of an episode's last step too
    np.testing.assert_array_equal(t.signals["cost"], time)
    np.testing.assert_array_equal(t.signals["loud"], time % 2 == 0)
    np.testing.assert_array_equal(t.signals["pair"], jnp.stack([time, -time], -1))
    assert set(metrics) == {f"episode/{x}" for x in ("return", "length", "count", "cost", "loud")}
    assert metrics["episode/cost"] == cost
    assert metrics["episode/loud"] == loud
    rest = 10 % length  # steps of the episode that goes on
    np.testing.assert_array_equal(state.episode_signals["cost"], [rest * (rest + 1) / 2] * 2)


def test_before_the_first_episode_ends_there_is_no_mean():
    _, _, _, _, metrics = jax.jit(lambda k: collect(make(), k, 2))(KEY)
    assert np.isnan(metrics["episode/cost"])
    parts = {"episode/cost": jnp.array([np.nan, 6.0]), "episode/count": jnp.array([0, 3])}
    assert merge_metrics(parts) == {"episode/cost": 6.0, "episode/count": 3}


def test_an_episode_is_summed_across_rollouts():
    cfg = jaxpg.a2c.Config(num_envs=2, num_steps=2, hidden=(4,))
    train = functools.partial(jaxpg.train, jaxpg.a2c, total_steps=24)
    _, metrics = jax.jit(train)(cfg, make(), KEY)
    ended = metrics["episode/count"] > 0
    assert ended.tolist() == [False, True, True] * 2
    np.testing.assert_array_equal(metrics["episode/cost"][ended], 6.0)


SMALL = {"hidden": (4,)}
STORE = SMALL | {
    "num_envs": 2, "num_steps": 3, "buffer_size": 24, "learning_starts": 6, "batch_size": 16,
}  # fmt: skip
MEMORY = {"memory": "gru", "memory_size": 4, "sequence_length": 2, "burn_in": 1}
AGENTS = {  # every way that metrics of episodes take
    "ppo": SMALL | {"num_envs": 2, "num_steps": 8, "minibatches": 1},
    "a3c": SMALL | {"num_envs": 2, "num_steps": 4, "num_workers": 2},
    "reinforce": SMALL | {"num_envs": 2, "num_steps": 8},
    "dqn": STORE,
    "sac": STORE,
    "q_learning": {"num_envs": 2, "num_steps": 6, "bins": (6,)},
    "cem": SMALL | {"population": 4, "elites": 2, "episodes": 2, "num_steps": 8},
}


@pytest.mark.parametrize("name", slow_of(AGENTS, "a3c", "sac"))
def test_every_agent_tells_what_an_episode_costs(name):
    """Of every seed of a `vmap`, in one program however episodes end."""
    agent = jaxpg.agents.get(name)
    cfg = agent.Config(**AGENTS[name])
    total = 4 * agent.steps_per_iter(cfg)
    train = jax.vmap(functools.partial(jaxpg.train, agent, total_steps=total), (None, None, 0))
    train, core = jax.jit(train), Toll(name == "sac")
    for params, _, cost, loud in ENDS.values():
        _, metrics = train(cfg, make(core, **params), jax.random.split(KEY, 2))
        ended = metrics["episode/count"] > 0
        assert ended.shape == (2, 4)
        assert ended.any(1).all()
        np.testing.assert_allclose(metrics["episode/cost"][ended], cost)
        np.testing.assert_allclose(metrics["episode/loud"][ended], loud)
        assert "episode/pair" not in metrics


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("dqn", {"n_step": 3, "prioritized": True}),
        *(
            pytest.param(*x, marks=pytest.mark.slow)
            for x in (("dqn", {}), ("sac", {}), ("dqn", MEMORY))
        ),
    ],
)
def test_a_buffer_keeps_them_beside_their_step(name, fields):
    agent = jaxpg.agents.get(name)
    cfg = agent.Config(**STORE | fields)
    env = make(Toll(name == "sac"))
    train = jax.jit(functools.partial(jaxpg.train, agent, total_steps=60))
    memory = train(cfg, env, KEY)[0].replay
    rows = memory.buffer.data
    assert memory.buffer.size == 24
    np.testing.assert_array_equal(rows.signals["cost"], rows.obs[:, 0] + 1)
    np.testing.assert_array_equal(rows.signals["pair"][:, 1], -rows.obs[:, 0] - 1)
    cfg = jaxpg.core.config.replace(cfg, total_steps=60.0)
    draw = jax.jit(functools.partial(replay.sample, cfg))
    _, batch = draw(memory.buffer, memory.priorities, jnp.int32(0), KEY)
    assert len(np.unique(batch.obs)) == 3
    np.testing.assert_array_equal(batch.signals["cost"], batch.obs[..., 0] + 1)
    np.testing.assert_array_equal(batch.signals["pair"][..., 1], -batch.obs[..., 0] - 1)


def test_without_any_a_state_and_a_buffer_have_no_more_leaves():
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.dqn.Config(**STORE)
    state = jax.eval_shape(lambda k: jaxpg.dqn.init(cfg, env, k), KEY)
    assert state.replay.env.episode_signals == state.replay.buffer.data.signals == {}
    assert len(jax.tree.leaves(state.replay.buffer.data)) == 6


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (("toll",), r"Toll signals=\('toll',\): the info of a step has no 'toll'.*'cost'"),
        (("cost", "parts"), "the info of a step has no 'parts', allowed are its arrays"),
        (("terminated",), "the info of a step has no 'terminated'"),
        ("cost", "Toll signals='cost': allowed is a tuple of names"),
        (None, "Toll signals=None: allowed is a tuple of names"),
        ((3,), r"Toll signals=\(3,\): allowed is a tuple of names"),
        ({"cost"}, "Toll signals={'cost'}: allowed is a tuple of names"),
        (("wave",), r"'wave' is of complex64, allowed are floats, integers and booleans"),
        (("secret",), r"'secret' is of key<fry>, allowed are floats, integers and booleans"),
        (("return",), r"'return' is taken by the metric episode/return.*'length', 'count'"),
    ],
)
def test_names_are_checked_at_the_door(signals, message):
    cfg = jaxpg.ppo.Config(**AGENTS["ppo"])
    with pytest.raises(ValueError, match=message):
        jaxpg.run(jaxpg.ppo, cfg, make(Toll(signals=signals)), KEY, total_steps=16)


def test_a_run_folder_has_them_among_its_metrics(tmp_path):
    cfg = jaxpg.ppo.Config(**AGENTS["ppo"])
    jaxpg.run(
        jaxpg.ppo, cfg, make(), KEY, total_steps=64, out=tmp_path / "run", evaluations=0
    )  # fmt: skip
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["episode/cost"]) for r in rows] == [6.0] * 4
    assert [float(r["episode/return"]) for r in rows] == [3.0] * 4
