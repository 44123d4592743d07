"""Every sample once an epoch, in a new order each time, and a stop that really stops."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import jaxpg
from jaxpg.loops import minibatch

B, M, E = 12, 3, 4  # batch, minibatches, epochs
BATCH = {"id": jnp.arange(B), "x": jnp.stack([10 * jnp.arange(B), -jnp.arange(B)], 1)}
NEW = (jnp.int32(0), jnp.full((E * M, B // M), -1))  # updates so far, the ids that each one saw


def update(carry, batch, key):
    """Writes down what it is given; its metric is the number of updates before it."""
    count, seen = carry
    together = (batch["x"] == jnp.stack([10 * batch["id"], -batch["id"]], 1)).all()
    metrics = {"count": count.astype(float), "together": together.astype(float)}
    return (count + 1, seen.at[count].set(batch["id"])), metrics


@partial(jax.jit, static_argnames="stopping")
def run(key, limit=np.inf, stopping=True):
    """The mean count of epoch e is e M + (M - 1) / 2; the first epoch above `limit` is the last."""
    stop = (lambda metrics: metrics["count"] > limit) if stopping else None
    return minibatch.epochs(update, NEW, BATCH, key, num_epochs=E, minibatches=M, stop=stop)


def limit_for(epochs):
    return M * (epochs - 1.0)


@pytest.mark.parametrize("stopping", [False, True])
def test_every_sample_is_seen_once_an_epoch(stopping):
    (count, seen), metrics = run(jax.random.key(0), stopping=stopping)
    assert count == E * M
    orders = seen.reshape(E, B)
    for order in orders:
        np.testing.assert_array_equal(jnp.sort(order), jnp.arange(B))
    assert metrics["together"] == 1  # all leaves in the same order
    np.testing.assert_allclose(metrics["count"], (E * M - 1) / 2)  # the mean over all updates


def test_every_epoch_and_every_key_has_its_own_order():
    orders = [run(jax.random.key(k), stopping=False)[0][1].reshape(E, B) for k in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    distinct = {tuple(order.tolist()) for order in [*orders[0], *orders[2]]}
    assert len(distinct | {tuple(range(B))}) == 2 * E + 1


@pytest.mark.parametrize("epochs", [1, 2, E, None])
def test_stop_skips_the_epochs_that_remain(epochs):
    key = jax.random.key(0)
    limit = jnp.inf if epochs is None else limit_for(epochs)
    ran = epochs or E
    (count, seen), metrics = run(key, limit)
    (_, everything), _ = run(key, stopping=False)

    assert count == ran * M
    np.testing.assert_array_equal(seen[: ran * M], everything[: ran * M])
    np.testing.assert_array_equal(seen[ran * M :], -1)
    assert metrics["update/epochs"] == ran
    assert metrics["update/epochs"].dtype == jnp.int32
    # Means over the updates that ran: a skipped epoch counts neither above nor below the line.
    np.testing.assert_allclose(metrics["count"], (ran * M - 1) / 2)
    assert metrics["together"] == 1


def test_stop_sees_the_mean_of_one_epoch():
    """Not its last minibatch, nor the mean since the start: each would stop elsewhere."""
    mean_of_second = M + (M - 1) / 2
    assert run(jax.random.key(0), mean_of_second - 0.1)[1]["update/epochs"] == 2
    assert run(jax.random.key(0), mean_of_second + 0.1)[1]["update/epochs"] == 3


def test_lanes_of_a_vmap_stop_on_their_own():
    keys = jax.random.split(jax.random.key(0), 4)
    limits = jnp.array([limit_for(1), limit_for(3), jnp.inf, limit_for(2)])
    lanes = jax.vmap(run)(keys, limits)
    np.testing.assert_array_equal(lanes[1]["update/epochs"], [1, 3, E, 2])
    for i in range(4):
        alone = run(keys[i], limits[i])
        jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), lanes, alone)


def test_a_skipped_epoch_leaves_no_nan():
    """A lane that stops because its loss explodes must not be spoilt by what it then skips."""

    def explode(carry, batch, key):
        carry = carry + jnp.where(carry >= M, jnp.nan, 1)
        return carry, {"carry": carry}

    def run(limit):
        return minibatch.epochs(
            explode,
            jnp.zeros(()),
            jnp.arange(B),
            jax.random.key(0),
            num_epochs=E,
            minibatches=M,
            stop=lambda metrics: metrics["carry"] > limit,
        )

    for carry, metrics in (run(1.0), jax.tree.map(lambda x: x[0], jax.vmap(run)(jnp.ones(1)))):
        assert carry == M
        np.testing.assert_allclose(metrics["carry"], (M + 1) / 2)


def test_jit_changes_nothing():
    args = jax.random.key(0), limit_for(2)
    jax.tree.map(np.testing.assert_array_equal, run(*args), run.__wrapped__(*args))


@pytest.mark.parametrize("minibatches", [1, B])
def test_one_minibatch_or_one_sample_each(minibatches):
    total, metrics = minibatch.epochs(
        lambda carry, x, key: (carry + x.sum(), {"size": jnp.float32(x.size)}),
        jnp.zeros(()),
        jnp.arange(B, dtype=float),
        jax.random.key(0),
        num_epochs=2,
        minibatches=minibatches,
    )
    assert total == 2 * sum(range(B))
    assert metrics["size"] == B / minibatches


def test_an_uneven_split_is_refused():
    """Samples would be dropped, or repeated, in silence."""

    def accept(carry, batch, key):
        return carry, {}

    with pytest.raises((TypeError, ValueError)):
        minibatch.epochs(accept, (), BATCH, jax.random.key(0), num_epochs=1, minibatches=5)


@pytest.mark.parametrize("size", [1, 2, 12, 512, 2**16 + 1])
def test_permutations_are_permutations(size):
    orders = minibatch.permutations(jax.random.key(0), 3, size)
    assert orders.dtype == jnp.int32
    np.testing.assert_array_equal(jnp.sort(orders), np.arange(size)[None].repeat(3, 0))


def test_permutations_are_uniform():
    """Every order of four equally often: chi-squared with 23 degrees of freedom."""
    draws = 24_000
    orders = np.asarray(minibatch.permutations(jax.random.key(0), draws, 4))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - draws / 24) ** 2 / (draws / 24)).sum() < scipy.stats.chi2.ppf(0.999, 23)


def test_every_update_has_a_key_of_its_own():
    def collect(carry, x, key):
        count, seen = carry
        return (count + 1, seen.at[count].set(jax.random.key_data(key))), {}

    new = jnp.int32(0), jnp.zeros((E * M, 2), jnp.uint32)
    (_, seen), _ = minibatch.epochs(
        collect, new, jnp.arange(B), jax.random.key(0), num_epochs=E, minibatches=M
    )
    assert len(np.unique(seen, axis=0)) == E * M


@pytest.mark.slow
def test_an_optimiser_that_looks_at_shapes_sees_them():
    """Of parameters that were one vector, Muon would make Adam's step without a word."""
    shapes = []

    def seeing(learning_rate):
        muon = optax.contrib.muon(learning_rate)

        def update(grads, state, params):
            shapes.extend(jax.tree.map(jnp.shape, tree) for tree in (grads, params))
            return muon.update(grads, state, params)

        return optax.GradientTransformation(muon.init, update)

    cfg = jaxpg.ppo.Config(
        num_envs=2, num_steps=2, hidden=(3,), minibatches=1, total_steps=4, optimizer=seeing
    )
    env = jaxpg.make("CartPole-v1")
    state = jaxpg.ppo.init(cfg, env, jax.random.key(0))
    after, _ = jaxpg.ppo.step(cfg, env, state)
    assert shapes
    assert all(x == jax.tree.map(jnp.shape, state.params) for x in shapes)
    orthogonal = after.opt_state[1].inner_states["muon"].inner_state[0].mu
    assert {x.ndim for x in jax.tree.leaves(orthogonal)} == {2}
