"""Masks of actions, and observations that are pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.observations import Masked, array_leaves, mask_illegal
from jaxpg.nets import heads
from jaxpg.ops import dynamic_programming as dp
from tests.conftest import CONTINUOUS, INSTALLED, TINY
from tests.tabular import Picky, make

TABLES = ("q_learning", "sarsa", "expected_sarsa")
TRAINED = ("q_learning", "ppo", "dqn", "cem")  # one of each kind of loop
ALSO_TRAINED = ("expected_sarsa", "sac_discrete")
# They act as PPO does, or CEM; and of players IQL and self-play are the quick twins.
LIKE_OTHERS = (
    "reinforce", "a2c", "a3c", "impala", "npg", "trpo", "cpo", "ppo_lagrangian", "ppoc", "ippo",
    "mappo", "maddpg", "hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise",
    "es", "ars", "evosax",
)  # fmt: skip
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("name", "trains"),
    [
        *(
            pytest.param(name, name in TRAINED, marks=[pytest.mark.slow] * (name in LIKE_OTHERS))
            for name in INSTALLED if name not in CONTINUOUS
        ),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ALSO_TRAINED),
    ],
)  # fmt: skip
def test_no_agent_takes_an_illegal_action(name, trains):
    """Greedy and sampled; and in training and while warming up, where one costs a million."""
    agent, fields = getattr(jaxpg, name), dict(TINY[name])
    env = make(Picky(by_info=name in TABLES))
    if name in (*TABLES, "go_explore"):
        fields |= {"bins": (), "low": (), "high": ()}
    cfg = agent.Config(**fields)
    if trains:
        total = 10 * agent.steps_per_iter(cfg)
        state, metrics = jax.jit(lambda cfg: jaxpg.train(agent, cfg, env, KEY, total))(cfg)
        assert np.isfinite(metrics["episode/return"]).any()
        assert np.nanmin(metrics["episode/return"]) >= 0
        statistics = getattr(state, "obs_stats", ())  # which leave the mask alone
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(statistics))
        assert statistics or name != "ppo"
    else:
        state = jax.jit(lambda cfg: agent.init(cfg, env, KEY))(cfg)

    @jax.jit
    def actions(key):
        obs = E.reset(env, key, 64).obs
        mask = obs.mask & (jnp.arange(64)[:, None] % 4 != jnp.arange(4))  # of info it is all True
        obs = Masked(obs.obs, mask.at[:, 0].set(~mask[:, 1:].any(-1)))
        both = [agent.act(cfg, env, state, obs, (), key, greedy)[0] for greedy in (0, 1)]
        return jnp.stack([jnp.take_along_axis(obs.mask, a[:, None], -1) for a in both])

    assert actions(KEY).all()


def test_an_agent_that_sees_the_mask_finds_the_first_legal_action():
    """From the image; a random legal action gets 1 in about 2.5."""
    env, cfg = (
        make(Picky()),
        jaxpg.ppo.Config(num_envs=16, num_steps=32, learning_rate=3e-3, hidden=(32,)),
    )
    _, metrics = jax.jit(lambda cfg: jaxpg.train(jaxpg.ppo, cfg, env, KEY, 20_000))(cfg)
    assert metrics["episode/return"][-5:].mean() > 5


def test_an_observation_is_floats_and_a_mask():
    env = make(Picky())
    obs = E.reset(env, KEY, 5).obs
    assert isinstance(obs, Masked)
    assert obs.mask.dtype == bool
    assert {x.dtype for x in array_leaves(obs)} == {jnp.dtype("float32")}
    assert env.obs_shapes == ((3,), (1,), (4, 4, 1))  # the integer is one-hot
    with pytest.raises(ValueError, match=r"q_learning|Discrete and Box"):
        jaxpg.q_learning.init(jaxpg.q_learning.Config(), env, KEY)


def test_a_mask_in_info_is_of_the_state_that_was_reached():
    env = make(Picky(by_info=True))
    state = E.reset(env, KEY, 3)
    assert state.obs.mask.all()
    for i in range(6):
        action = jnp.argmax(state.obs.mask, -1)
        state, t = E.step(env, state, action, jax.random.key(i))
        going = ~t.terminated[:, None]
        assert not t.next_obs.mask.all(-1).any()  # the end of an episode has its own mask
        np.testing.assert_array_equal(state.obs.mask, t.next_obs.mask | ~going)
        assert (t.reward == 1).all()


def test_of_a_million_samples_none_is_illegal():
    mask = jax.random.bernoulli(KEY, 0.3, (1000, 4)).at[:, 0].set(True)
    out = mask_illegal(10 * jax.random.normal(KEY, (1000, 4)), Masked((), mask))
    pi = heads.make("categorical", make(Picky()), temperature=3.0)
    draws = jax.vmap(lambda k: pi.sample(out, k)[0])(jax.random.split(KEY, 1000))
    assert mask[jnp.arange(1000), draws].all()
    assert mask[jnp.arange(1000), pi.mode(out)].all()


def test_what_is_illegal_has_no_part_in_entropy_or_gradient():
    pi = heads.make("categorical", make(Picky()))
    logits, mask = jnp.array([0.3, -1.0, 2.0, 0.5]), jnp.array([True, False, True, False])
    masked = lambda x, mask: mask_illegal(x, Masked((), mask))  # noqa: E731
    p = np.exp([0.3, 2.0]) / np.exp([0.3, 2.0]).sum()
    expected = -(p * np.log(p)).sum()
    assert pi.entropy(masked(logits, mask), KEY) == pytest.approx(expected, abs=1e-6)
    assert pi.log_prob(masked(logits, mask), 2) == pytest.approx(np.log(p[1]), abs=1e-6)
    slope = jax.grad(lambda x: pi.log_prob(masked(x, mask), 2))(logits)
    np.testing.assert_allclose(slope, [-p[0], 0, 1 - p[1], 0], atol=1e-6)

    # All but one are masked: nothing can be learnt, and nothing is NaN.
    alone = mask.at[0].set(False)
    for f in (
        lambda x: pi.entropy(x, KEY),
        lambda x: pi.log_prob(x, 2),
        lambda x: pi.kl(x, masked(-logits, alone), KEY),
    ):
        value, slope = jax.value_and_grad(lambda x, f=f: f(masked(x, alone)))(logits)
        assert float(value) == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_a_table_explores_what_is_legal():
    Q, legal = (
        jnp.array([[1.0, 5, 2, 0], [3, 3, 9, 3]]),
        jnp.array([[1, 0, 1, 1], [1, 1, 0, 1]]) > 0,
    )
    third = 0.3 / 3
    expected = [[third, 0, 0.7 + third, third], [0.7 / 3 + third] * 2 + [0, 0.7 / 3 + third]]
    policy = dp.greedy_policy(Q, 0.3, legal)
    np.testing.assert_allclose(policy, expected, atol=1e-6)
    np.testing.assert_allclose(dp.soft_value(Q, 0.3, legal), (policy * Q).sum(-1), atol=1e-6)
