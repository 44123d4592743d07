"""A termination cuts what follows, whatever that is: NaN and infinity are felt by no one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg import agents
from jaxpg.agents import ddpg, dqn, sac, sac_discrete, td3
from jaxpg.core import env as E
from jaxpg.experiment.callbacks.guards import nan_guard
from jaxpg.loops import replay
from jaxpg.ops import importance, losses, returns
from jaxpg.replay import uniform
from tests import tabular
from tests.conftest import ACTOR_CRITIC, CONTINUOUS, DISCRETE, TABLE, TINY, slow_of

KEY = jax.random.key(0)
NOT_FINITE = [np.nan, np.inf, -np.inf]
BAD = pytest.mark.parametrize("bad", NOT_FINITE)

# Of reward, value, next_value [T, N], terminated, truncated, gamma, lambda.
OPERATORS = {
    "gae": returns.gae,
    "lambda_return": lambda r, v, n, *rest: returns.lambda_return(r, n, *rest),
    "n_step_return": lambda r, v, n, *ends, lam: returns.n_step_return(r, n, *ends, 2),
    "reward_to_go": lambda r, v, n, *ends, lam: returns.reward_to_go(r, *ends, n),
    "vtrace": lambda r, v, n, *ends, lam: importance.vtrace(v / 9, r, v, n, *ends, 1.0, 1.0, lam),
    "retrace": lambda r, v, n, *ends, lam: importance.retrace(v / 9, r, v, n, *ends, lam),
}


def of(name, reward, value, next_value, terminated, truncated, gamma, lam):
    if name in ("gae", "lambda_return"):
        return OPERATORS[name](reward, value, next_value, terminated, truncated, gamma, lam)
    return OPERATORS[name](reward, value, next_value, terminated, truncated, gamma, lam=lam)


def test_the_case():
    one, yes, no = jnp.ones(1), jnp.ones(1, bool), jnp.zeros(1, bool)
    for bad in NOT_FINITE:
        assert returns.gae(one, 0 * one, bad * one, yes, no, 0.9, 0.9) == 1
        assert returns.gae(one, 0 * one, bad * one, yes, yes, 0.9, 0.9) == 1  # it wins
        assert not np.isfinite(returns.gae(one, 0 * one, bad * one, no, yes, 0.9, 0.9))


@pytest.mark.parametrize("name", OPERATORS)
@BAD
def test_an_operator_and_its_slopes_do_not_see_what_a_termination_cuts(name, bad):
    reward, value, ahead = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 2)), float)
    terminated = jnp.zeros((5, 2), bool).at[1].set(True).at[4, 0].set(True)
    none = jnp.zeros((5, 2), bool)

    def total(reward, value, ahead, gamma, lam):
        out = of(name, reward, value, ahead, terminated, none, gamma, lam)
        return sum(x.sum() for x in jax.tree.leaves(out))

    both = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3, 4)))
    clean = both(reward, value, jnp.where(terminated, 0, ahead), 0.9, 0.8)
    for x, y in zip(
        jax.tree.leaves(both(reward, value, jnp.where(terminated, bad, ahead), 0.9, 0.8)),
        jax.tree.leaves(clean), strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_no_trace_reaches_back_over_an_end(name, end):
    """The next episode's last observation, at a time limit, is what it is: NaN."""
    reward = value = ahead = jnp.ones((4, 1))
    ahead = ahead.at[3].set(jnp.nan)
    ends = {"terminated": jnp.zeros((4, 1), bool), "truncated": jnp.zeros((4, 1), bool)}
    ends[end] = ends[end].at[1].set(True)
    ends["truncated"] = ends["truncated"].at[3].set(True)

    def first(reward):
        out = of(name, reward, value, ahead, *ends.values(), 0.9, 0.8)
        return sum(x[:2].sum() for x in jax.tree.leaves(out))

    for x in jax.tree.leaves(jax.jit(jax.value_and_grad(first))(reward)):
        assert np.isfinite(x).all()


@BAD
def test_gradients_through_a_critic_of_the_successor(bad):
    """A residual gradient: the critic is asked about what a rollout says follows."""

    def step(state, terminated):
        obs = jnp.array([[bad, 1.0], [2.0, bad]])
        return E.finite_at_end({"a": obs, "b": jnp.ones((2, 1), bool)}, terminated)

    obs = step(None, jnp.array([True, False]))
    np.testing.assert_array_equal(obs["a"], [[0, 1], [2, bad]])
    assert obs["b"].dtype == bool

    def error(weight):
        next_value = jnp.tanh(obs["a"][:1] @ weight)
        yes = jnp.ones(1, bool)
        return returns.lambda_return(jnp.ones(1), next_value, yes, ~yes, 0.9, 0.9).sum()

    value, slope = jax.value_and_grad(error)(jnp.ones(2))
    assert value == 1
    np.testing.assert_array_equal(slope, 0)


def batch(env, bad, n=3):
    """Three transitions, the first of which terminated with a last observation that is `bad`."""
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(n, *env.example_obs.shape)), float)
    action = jnp.zeros(n, jnp.int32) if env.discrete else jnp.zeros((n, 1))
    discount = jnp.full(n, 0.9).at[0].set(0)
    ahead = (obs + 1).at[0].set(bad)
    return replay.Batch(obs, action, jnp.ones(n), discount, ahead, jnp.ones(n), {})


LEARNERS = {
    "dqn": (dqn, {"double": False}),
    "double dqn": (dqn, {}),
    "ddpg": (ddpg, {}),
    "td3": (td3, {"policy_delay": 1}),
    "sac": (sac, {}),
    "sac with a value network": (sac, {"value_network": True}),
    "sac_discrete": (sac_discrete, {}),
}


@pytest.mark.parametrize("name", slow_of(LEARNERS, "dqn", "td3", "sac"))  # as those like them
def test_learners_from_replay_feel_nothing(name):
    """Also of numbers that are finite and so large that networks overflow."""
    module, fields = LEARNERS[name]
    me = module.__name__.rsplit(".", 1)[-1]
    cfg = agents.get(me).Config(**fields, hidden=(4,), num_envs=1, num_steps=1, batch_size=3)
    env = jaxpg.make("Pendulum-v1" if me in CONTINUOUS else "CartPole-v1")
    state = jax.jit(functools.partial(module.init, cfg, env))(KEY)

    @jax.jit
    def update(b):
        args = (KEY,) if me != "sac_discrete" else ()
        return module.update(cfg, env, state.learner, b, *args)

    clean = update(batch(env, 0.0))
    for bad in (np.nan, np.inf, 3e38):
        for x, y in zip(
            jax.tree.leaves(update(batch(env, bad))), jax.tree.leaves(clean), strict=True
        ):
            np.testing.assert_array_equal(x, y)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(clean))


class Blows(environment.Environment):
    """Two steps; then it terminates, or is cut, with a last observation that is no number."""

    name = "Blows"
    default_params = tabular.Params(8)

    def __init__(self, bad=np.nan, terminates=True, box=False, reward=1.0):
        self.bad, self.terminates, self.box, self.reward = bad, terminates, box, reward

    def reset_env(self, key, params):
        return jnp.zeros(2), tabular.State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        over = state.time >= 1
        obs = jnp.where(over, self.bad, jnp.ones(2)).at[1].set(3.0)
        reward = jnp.where(over, self.reward, 1.0)
        return obs, tabular.State(state.time + 1), reward, over & self.terminates, {}

    def is_truncated(self, state, params):
        return state.time >= 2

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,)) if self.box else spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(-5.0, 5.0, (2,))


def rollout(core, steps=4):
    env = tabular.make(core)
    policy = lambda obs, carry, key: (jnp.zeros(1, jnp.int32), carry, ())  # noqa: E731
    return E.rollout(env, policy, E.reset(env, KEY, 1), (), KEY, steps)


@BAD
def test_a_rollout_hands_on_what_is_finite(bad):
    """Of a termination. At a time limit the successor is bootstrapped from, and stays as it is."""
    t = rollout(Blows(bad))[2]
    np.testing.assert_array_equal(t.next_obs[:, 0], [[1, 3], [0, 3], [1, 3], [0, 3]])
    t = rollout(Blows(bad, terminates=False))[2]
    np.testing.assert_array_equal(t.next_obs[:, 0], [[1, 3], [bad, 3], [1, 3], [bad, 3]])


def test_a_return_that_is_not_finite_is_of_its_own_episode_alone():
    state, _, _, _, metrics = rollout(Blows(reward=-np.inf), 3)
    assert metrics["episode/return"] == -np.inf
    np.testing.assert_array_equal(state.episode_return, 1)
    state, _, _, _, metrics = rollout(Blows(reward=np.nan), 3)
    assert np.isnan(metrics["episode/return"])
    np.testing.assert_array_equal(state.episode_return, 1)


def test_rewards_of_other_episodes_do_not_enter_a_return_from_replay():
    row = replay.Row(*(jnp.zeros(()),) * 3, jnp.zeros((), bool), jnp.zeros((), bool),
                     jnp.zeros(()), {}, ())  # fmt: skip
    buffer = uniform.init(row, 4)
    rows = jax.tree.map(lambda x: jnp.zeros((4, *x.shape), x.dtype), row)
    rows = rows._replace(reward=jnp.array([1.0, 2.0, jnp.nan, 4.0]), terminated=jnp.arange(4) == 1)
    reward, discount, _ = uniform.n_step(uniform.add(buffer, rows), jnp.array([0]), 3, 1, 0.5)
    assert (reward[0], discount[0]) == (2, 0)


def test_what_a_mask_hides_has_no_slope():
    mask, bad = jnp.array([True, False]), jnp.array([1.0, jnp.nan])
    for loss in (losses.policy_gradient, losses.value):
        value, slope = jax.value_and_grad(lambda x, loss=loss: loss(x, bad, mask))(jnp.ones(2))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


BOOTSTRAP = (*ACTOR_CRITIC, *CONTINUOUS, *DISCRETE)
QUICK = "ppo", "dqn", "expected_sarsa"


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in BOOTSTRAP],
)
def test_every_agent_with_a_critic_learns_from_a_simulator_that_blows_up(name):
    agent = agents.get(name)
    own = TABLE | {"bins": (3, 3), "low": (), "high": ()} if "bins" in TINY[name] else TINY[name]
    cfg = agent.Config(**own)
    env = tabular.make(Blows(box=name in CONTINUOUS))
    total = 8 * agent.steps_per_iter(cfg)
    jaxpg.run(agent, cfg, env, KEY, total_steps=total, callbacks=[nan_guard()])


BSUITE = ["Catch", "DeepSea", "DiscountingChain", "MemoryChain", "SimpleBandit", "UmbrellaChain"]


def ends(env, steps=101):
    """Whether the steps [T, 2] of random actions are terminated, and whether they are truncated."""

    def step(state, key):
        action = jax.vmap(env.action_space.sample)(jax.random.split(key, 2))
        state, t = E.step(env, state, action, key)
        return state, (t.terminated, t.truncated)

    return jax.lax.scan(step, E.reset(env, KEY, 2), jax.random.split(KEY, steps))[1]


@pytest.mark.parametrize("name", BSUITE)
def test_every_episode_of_bsuite_is_terminated_at_its_end(name):
    """In bsuite the last step of each is a `dm_env.termination`; none is cut short."""
    terminated, truncated = ends(jaxpg.make(f"{name}-bsuite"))
    assert terminated.any()
    assert not (truncated & ~terminated).any()


def test_a_shorter_limit_cuts_the_chains_short():
    terminated, truncated = ends(jaxpg.make("DiscountingChain-bsuite", max_steps_in_episode=50))
    assert not terminated.any()
    assert truncated.sum(0).tolist() == [2, 2]
