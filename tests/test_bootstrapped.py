"""Bootstrapped DQN: networks, targets and masks against NumPy; who acts, and for how long."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import dqn
from jaxpg.core import env as E
from jaxpg.loops import bootstrapped
from tests.test_dqn import ENV as ONE
from tests.test_dqn import batch, np_q, other

K = 3
SMALL: dict[str, Any] = {
    "hidden": (3,), "num_envs": 4, "num_steps": 1, "buffer_size": 64, "batch_size": 4,
    "learning_starts": 20, "updates_per_step": 0.1, "epsilon_start": 0.0, "epsilon_end": 0.0,
    "ensemble": K, "total_steps": 1e6,
}  # fmt: skip
SEA = jaxpg.make("DeepSea-bsuite", size=4)


@functools.cache
def played(iterations=18):
    """States of a run in DeepSea, whose episodes take four steps, after every iteration."""
    cfg = dqn.Config(**SMALL)
    states = [jax.jit(functools.partial(dqn.init, cfg, SEA))(jax.random.key(0))]
    step = jax.jit(functools.partial(dqn.step, cfg, SEA))
    for _ in range(iterations):
        states.append(step(states[-1])[0])
    return cfg, states


def of_network(tree, k):
    return jax.tree.map(lambda x: x[k], tree)


@pytest.mark.parametrize(
    ("double", "dueling"),
    [(True, False), pytest.param(False, True, marks=pytest.mark.slow)],
)
def test_each_network_has_its_own_target_prior_and_mask(double, dueling):
    """Loss of a batch against a loop over networks and rows in NumPy."""
    cfg = dqn.Config(**SMALL, double=double, dueling=dueling, prior_scale=0.7)
    state = jax.jit(functools.partial(dqn.init, cfg, ONE))(jax.random.key(0))
    online, target, prior = (other(state.learner.params, seed) for seed in (1, 2, 3))
    b, mask = batch(), np.random.default_rng(4).random((12, K)) < 0.5
    b = b._replace(signals={bootstrapped.MARK: jnp.asarray(mask, jnp.float32)})
    total, (error, info) = dqn.loss(online, cfg, ONE, target, b, None, prior)

    def q(params, k, obs):
        return np_q(of_network(params, k), obs) + 0.7 * np_q(of_network(prior, k), obs)

    losses, errors, found = np.zeros((K, 12)), np.zeros((K, 12)), np.zeros((K, 12))
    for k in range(K):
        now, next_q = q(online, k, b.obs), q(target, k, b.next_obs)
        best = (q(online, k, b.next_obs) if double else next_q).argmax(-1)
        for i in range(12):
            found[k, i] = now[i, int(b.action[i])]
            y = float(b.reward[i]) + float(b.discount[i]) * next_q[i, best[i]]
            errors[k, i] = found[k, i] - y
            losses[k, i] = mask[i, k] * float(b.weight[i]) * errors[k, i] ** 2 / 2
    assert float(total) == pytest.approx(losses.mean(), rel=1e-4)
    np.testing.assert_allclose(error, abs(errors).mean(0), rtol=1e-4, atol=1e-4)
    assert float(info["value/q"]) == pytest.approx(found.mean(), rel=1e-4)


@pytest.mark.slow  # its quick twin is the loss above
def test_a_network_does_not_learn_from_steps_of_others():
    cfg = dqn.Config(**SMALL)
    state = jax.jit(functools.partial(dqn.init, cfg, ONE))(jax.random.key(0))
    mask = jnp.zeros((12, K)).at[:, 1].set(1)
    b = batch()._replace(signals={bootstrapped.MARK: mask})
    learner, _, _ = jax.jit(functools.partial(dqn.update, cfg, ONE))(
        state.learner, b, None, state.prior
    )
    moved = [
        max(
            float(abs(x[k] - y[k]).max())
            for x, y in zip(
                jax.tree.leaves(learner.params), jax.tree.leaves(state.learner.params), strict=True
            )
        )
        for k in range(K)
    ]
    assert moved[1] > 1e-5
    assert moved[0] == moved[2] == 0


def test_networks_differ_and_priors_do_not_move():
    _, states = played()
    first, last = states[0], states[-1]
    kernel = jax.tree.leaves(first.learner.params)[-1]
    assert abs(kernel[0] - kernel[1]).max() > 1e-3
    for x, y in zip(jax.tree.leaves(first.prior), jax.tree.leaves(last.prior), strict=True):
        np.testing.assert_array_equal(x, y)
    assert int(last.learner.updates) > 0


def test_a_network_is_followed_for_a_whole_episode():
    """With epsilon 0 the actions of an episode are those of one network; at its end another one is
    drawn, and all of them come up."""
    q = jnp.asarray(np.random.default_rng(0).normal(size=(K, 600, 2)), jnp.float32)
    values, carry = bootstrapped.follow(q, (), jax.random.key(0), False)
    assert np.bincount(carry, minlength=K + 1)[0] == 0
    assert (np.bincount(carry)[1:] > 150).all()
    np.testing.assert_array_equal(values, np.asarray(q)[np.asarray(carry) - 1, np.arange(600)])
    begins = np.arange(600) % 2 == 0
    _, later = bootstrapped.follow(q, jnp.where(begins, 0, carry), jax.random.key(1), False)
    np.testing.assert_array_equal(later[~begins], carry[~begins])
    assert (later[begins] != carry[begins]).any()


def test_a_run_keeps_the_network_until_the_end():
    """Iterations of one step, episodes of four: what is in force is zero just at an end."""
    _, states = played()
    for before, after in itertools.pairwise(states):
        length = np.asarray(after.replay.env.episode_length)
        carry = np.asarray(after.replay.carry)
        np.testing.assert_array_equal(carry == 0, length == 0)
        assert carry.max() <= K
        going = length > 1  # began before the iteration
        np.testing.assert_array_equal(carry[going], np.asarray(before.replay.carry)[going])
    assert sum(int((s.replay.env.episode_length > 1).sum()) for s in states) == 4 * 2 * 4 + 4


def test_masks_are_stored_once_and_half_of_them_are_ones():
    _, states = played()
    stored = states[-1].replay.buffer.data.signals[bootstrapped.MARK]
    assert stored.shape == (64, K)
    assert set(np.unique(stored)) == {0.0, 1.0}
    assert 0.3 < float(stored.mean()) < 0.7
    many = bootstrapped.masks(K, (4000,), jax.random.key(0))[bootstrapped.MARK]
    np.testing.assert_allclose(many.mean(0), 0.5, atol=0.04)
    joint = np.corrcoef(np.asarray(many).T)
    assert abs(joint - np.eye(K)).max() < 0.08


def test_the_greedy_policy_is_the_vote_of_all():
    q = jnp.array([[[0.0, 9.0, 0]], [[1.0, 0, 0]], [[2.0, 0, 1]]])  # [K, 1, actions]
    votes, carry = bootstrapped.follow(q, (), jax.random.key(0), True)
    assert (votes.tolist(), carry) == ([[2.0, 1.0, 0.0]], ())
    cfg, states = played()
    obs = E.reset(SEA, jax.random.key(0), 2).obs
    action, _ = dqn.act(cfg, SEA, states[-1], obs, (), jax.random.key(0), True)
    assert action.shape == (2,)


def test_what_an_ensemble_goes_without_is_refused():
    refused: list[dict[str, Any]] = [{"memory": "gru"}, {"dropout": 0.1}, {"hindsight": "final"}]
    for fields in refused:
        cfg = dqn.Config(**SMALL, **fields)
        with pytest.raises(ValueError, match=rf"{next(iter(fields))}=.*ensemble=3 allowed is"):
            dqn.init(cfg, ONE, jax.random.key(0))
