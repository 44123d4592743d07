"""Environments that agents cannot take are named before anything compiles; those without an end, or
with an infinity of their own, train."""

import csv
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import episodes
from jaxpg.core.parallel.lanes import Lanes, freeze_finished_lanes
from jaxpg.core.plan import plan_run
from jaxpg.core.protocol import check_environment
from jaxpg.core.run import Event
from jaxpg.core.types import EnvState
from jaxpg.envs import registry
from jaxpg.experiment.callbacks.evaluation import evaluation
from jaxpg.experiment.callbacks.guards import NonFiniteError, nan_guard
from jaxpg.replay import uniform
from tests.conftest import TINY

pytestmark = pytest.mark.defaults

KEY, INF = jax.random.key(0), jnp.inf
Box, Discrete = spaces.Box, spaces.Discrete


@struct.dataclass
class Params:
    cost: float = 0.0


@struct.dataclass
class State:
    time: jax.Array
    nearest: jax.Array  # infinite until something was near: no number, and no failure


class Endless(environment.Environment):
    """Two states by turns, a reward of 1, an infinity in the state, and no end; `wrong` replaces
    parts of it."""

    name, default_params = "Endless", Params()

    def __init__(self, **wrong):
        self.wrong = wrong

    def get(self, what, usual):
        return self.wrong.get(what, usual)

    def reset_env(self, key, params):
        zero = jnp.zeros((), jnp.int32)
        return self.get("first", self.get("obs", zero)), State(zero, jnp.array(INF))

    def step_env(self, key, state, action, params):
        state = State(state.time + 1, state.nearest)
        ended = self.get("terminated", jnp.zeros((), bool))
        reward = self.get("reward", jnp.ones(()) - params.cost)
        return self.get("obs", state.time % 2), state, reward, ended, {}

    def is_truncated(self, state, params):
        return self.get("truncated", jnp.zeros((), bool))

    def action_space(self, params):
        return self.get("actions", Discrete(2))

    def observation_space(self, params):
        return self.get("space", Discrete(2))


class OwnStep(Endless):
    """A `step` of its own, which gives what it was told."""

    def step(self, key, state, action, params):
        return self.wrong["given"](self.reset(key, params))


def env_of(core=None, **wrong):
    core = core or Endless(**wrong)
    return jaxpg.Env(core.default_params, core)


def box(**wrong):
    """With observations [2]."""
    return env_of(**{"obs": jnp.zeros(2), "space": Box(0, 1, (2,))} | wrong)


FLAG, REWARD = jnp.zeros((), bool), jnp.ones(())
GIVEN = {
    "five values": lambda x: (*x, REWARD, FLAG, {}),
    "no successor": lambda x: (*x, REWARD, FLAG, FLAG, {}),
    "another successor": lambda x: (*x, REWARD, FLAG, FLAG, {"final_observation": jnp.ones(3)}),
}
BROKEN = {
    "a vector for a reward": (env_of(reward=jnp.ones(1)), r"Endless: reward is.*shape \(1,\)"),
    "a reward of truths in a row": (env_of(reward=jnp.ones((2, 2))), r"reward is.*\(2, 2\)"),
    "an imaginary reward": (env_of(reward=jnp.ones(()) * 1j), "reward is of complex64.*real"),
    "a vector for an end": (env_of(terminated=jnp.zeros(1, bool)), r"terminated is.*\(1,\).*bool"),
    "a number for an end": (env_of(terminated=jnp.zeros(())), "terminated is of float32.*a bool"),
    "an integer for a cut": (
        env_of(OwnStep(given=lambda x: (*x, REWARD, FLAG, 0, {"final_observation": x[0]}))),
        "truncated is of int32.*a bool",
    ),
    "no elements": (
        box(obs=jnp.zeros(0), space=Box(0, 1, (0,))), r"observation space Box of shape \(0,\).*>= 1"
    ),
    "no elements, whatever the space": (box(obs=jnp.zeros(0)), r"observation of shape \(0,\)"),
    "an observation of nothing": (env_of(obs={}), r"observation {}: allowed is at least one"),
    "an integer for a shape": (
        env_of(actions=Box(-1.0, 1.0, 2)), "action space Box of shape 2: allowed is a tuple"
    ),
    "an integer for an observation's": (
        box(space=Box(0, 1, 2)), "Endless observation space Box of shape 2: allowed is a tuple"
    ),
    "a shape of floats": (env_of(actions=Box(-1.0, 1.0, (2.0,))), r"shape \(2.0,\): allowed"),
    "no actions": (env_of(actions=Box(-1.0, 1.0, (0,))), r"action space Box of shape \(0,\)"),
    "bounds of another shape": (
        env_of(actions=Box(np.zeros(3), np.ones(3), (2,))), r"\(3,\) and \(3,\): .*each of \(2,\)"
    ),
    "bounds the wrong way": (env_of(actions=Box(1.0, -1.0, (2,))), "low=1.0 and high=-1.0"),
    "a bound that is NaN": (env_of(actions=Box(np.nan, 1.0, (2,))), "low=nan.*allowed"),
    "another observation than is said": (
        box(space=Box(0, 1, (3,))), r"of shape \(2,\), its space of \(3,\)"
    ),
    "another part than is said": (
        box(obs={"a": jnp.zeros(2)}, space=spaces.Dict({"b": Box(0, 1, (2,))})), r"\['a'\].*\['b'\]"
    ),
    "a first observation of its own": (
        env_of(OwnStep(given=GIVEN["another successor"])), r"reset and info are \(\) and \(3,\)"
    ),
    "five values": (env_of(OwnStep(given=GIVEN["five values"])), "step gives 5 values"),
    "a state of its own": (
        env_of(OwnStep(given=lambda x: (x[0], 0, REWARD, FLAG, FLAG, {"final_observation": x[0]}))),
        r"Endless: states of reset and step are State\(.* and \(\), allowed is one",
    ),
    "no successor": (env_of(OwnStep(given=GIVEN["no successor"])), "no 'final_observation'"),
    "an error of its own": (
        env_of(OwnStep(given=lambda x: x.nothing)), "cannot be traced, AttributeError: 'tuple'"
    ),
    "parameters that are no numbers": (
        jaxpg.make("CartPole-v1", gravity=[9.8, 20.0]), r"reward|cannot be traced"
    ),
    "a name": ("CartPole-v1", "env='CartPole-v1': allowed is what jaxpg.make gives"),
    "nothing": (None, "env=None: allowed is what jaxpg.make gives"),
    "a bare core": (Endless(), "env=<.*allowed is what jaxpg.make gives, or jaxpg.Env"),
    "no core": (jaxpg.Env(Params(), Params()), "Params has no reset: allowed is a core with"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_agents_cannot_take_is_named(case):
    env, words = BROKEN[case]
    with pytest.raises(ValueError, match=words) as error:
        plan_run(jaxpg.ppo, jaxpg.ppo.Config(**TINY["ppo"]), env, KEY, total_steps=8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", ["a vector for a reward", "an integer for a shape"])
def test_it_is_named_wherever_an_environment_is_given(case):
    env, words = BROKEN[case]
    cfg = jaxpg.ppo.Config(**TINY["ppo"])
    with pytest.raises(ValueError, match=words):
        jaxpg.train(jaxpg.ppo, cfg, env, KEY, 8)
    with pytest.raises(ValueError, match=words):
        jax.jit(lambda env: jaxpg.train(jaxpg.ppo, cfg, env, KEY, 8))(env)
    with pytest.raises(ValueError, match=words):
        jaxpg.evaluate(jaxpg.ppo, cfg, env, (), KEY, episodes=2)


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-misc", "LiquidationGame-jaxpg"])
def test_environments_that_are_right_pass(name):
    check_environment(jaxpg.make(name))
    jax.eval_shape(lambda env: check_environment(env), jaxpg.make(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_every_environment_passes(name):
    check_environment(jaxpg.make(name))


# Without an end.


def test_evaluations_give_up_at_a_limit():
    assert episodes.step_limit(env_of()) == 10_000
    assert episodes.step_limit(jaxpg.make("CartPole-v1")) == 10_000
    longer = jaxpg.make("CartPole-v1", max_steps_in_episode=30_000)
    assert episodes.step_limit(longer) == 100_000
    assert episodes.step_limit(jaxpg.make("CartPole-v1", max_steps_in_episode=10**9)) == 10_000
    lanes = jax.tree.map(lambda x: jnp.full(2, x), longer)
    assert episodes.step_limit(lanes) == 100_000


def measured(callback, **metrics):
    series = {"episode/return": np.ones((2, 3))}
    values = {name: np.zeros(2) for name in ("greedy", "greedy_std", "sampled", "sampled_std")}
    values = {f"eval/{k}": np.array(metrics.get(k, x)) for k, x in values.items()}
    lanes = {k: v for k, v in metrics.items() if "/" in k}
    callback.on_metrics(Event(3, 9, 30, {**series, **values, **lanes}, None, 1.0))


def test_an_empty_cell_is_explained_once(tmp_path):
    callback = evaluation(jaxpg.ppo, jaxpg.ppo.Config(), env_of(), KEY, 3, 4, tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        measured(callback)
        assert not said
        measured(callback, greedy=[np.nan, 3.0])
        measured(callback, sampled=[np.nan, np.nan])
    (only,) = said
    assert "Endless: an evaluation has no mean return" in str(only.message)
    assert "within 10,000 steps" in str(only.message)
    assert "`max_steps_in_episode`" in str(only.message)
    rows = list(csv.DictReader((tmp_path / "evaluations.csv").open()))
    assert [row["greedy"] for row in rows] == ["0.0", "0.0", "", "3.0", "0.0", "0.0"]


def test_a_lane_that_has_ended_needs_no_explanation():
    callback = evaluation(jaxpg.ppo, jaxpg.ppo.Config(), env_of(), KEY, 3, 4)
    active = {"lane/active": np.array([[1, 1, 1], [1, 0, 0]])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured(callback, greedy=[1.0, np.nan], sampled=[1.0, np.nan], **active)
    with pytest.warns(UserWarning, match="did not end within"):
        measured(callback, greedy=[np.nan, np.nan], **active)


def test_a_task_without_an_end_trains_and_says_so(tmp_path, monkeypatch):
    """With an infinity in its state."""
    monkeypatch.setattr(episodes, "LIMITS", (20, 100))
    agent = jaxpg.q_learning
    cfg = agent.Config(num_envs=2, num_steps=4)
    with pytest.warns(UserWarning, match="did not end within 20 steps") as said:
        result = jaxpg.run(
            agent, cfg, env_of(), KEY, total_steps=32, episodes=2, evaluations=2, out=tmp_path / "a"
        )
    assert result.stopped == "done"
    assert np.isinf(result.state.env.inner.nearest).all()
    assert len(said) == 1
    assert jaxpg.load(tmp_path / "a", env=env_of(result.env.core)).iteration == 4


# An infinity of its own.


class Learner(NamedTuple):
    params: dict
    env: EnvState
    buffer: uniform.Buffer


def learner(params=0.0, inner=0.0, stored=0.0, seeds=3):
    row = jnp.zeros(seeds)
    env = EnvState({"x": row + inner}, row + inner, row, row.astype(int), {}, {})
    return Learner({"w": row + params}, env, uniform.Buffer(row + stored, row, row))


def test_the_guard_watches_what_is_learnt():
    look = nan_guard().on_chunk
    event = Event(4, 9, 40, {"episode/return": np.ones((3, 2))}, None, 1.0)
    for met in (learner(), learner(inner=INF), learner(stored=jnp.nan), learner(0.0, INF, INF)):
        look(event._replace(state=met))
    for bad in (learner(INF), learner(jnp.nan, INF, INF)):
        with pytest.raises(NonFiniteError, match=r"^params\['w'\] is not finite in seeds 0, 1, 2"):
            look(event._replace(state=bad))
    look(event._replace(state=(learner().env, jnp.zeros(3, int))))  # nothing is learnt


def test_a_lane_that_met_an_infinity_goes_on():
    before = Lanes(learner(), jnp.ones(3, bool))
    for after, active in ((learner(inner=INF, stored=INF), True), (learner(INF), False)):
        frozen, _ = freeze_finished_lanes(before, before._replace(state=after), {})
        assert frozen.active.tolist() == [active] * 3
        assert np.isinf(frozen.state.env.inner["x"]).all() == active


def test_a_state_of_episodes_is_met():
    state = jax.eval_shape(lambda key: E.reset(env_of(), key, 2), KEY)
    assert type(state).is_met
    assert "is_met" not in state._fields
