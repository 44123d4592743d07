"""Standardising and running statistics, against numpy over everything at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.ops import losses, normalize

ALIKE = [0.0, 0.1, -3.3, 1000.1, 1e6, 16777217.0]  # some of their means round, some do not
standardize = jax.jit(normalize.standardize)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [(None, 3.5), ([True, True, False, True], 7 / 3), ([False] * 4, 0.0)],
)
def test_masked_mean(mask, expected):
    x = jnp.array([1.0, 2.0, 7.0, 4.0])
    mask = None if mask is None else jnp.array(mask)
    np.testing.assert_allclose(normalize.masked_mean(x, mask), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(50,), (10, 5), (1, 50)])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1e-6, 0), (1e6, -1e6), (3, 100)])
def test_standardize_is_the_textbooks(shape, scale, shift):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32) * scale + shift
    out = standardize(np.float32(x))
    np.testing.assert_allclose(out, (x - x.mean()) / x.std(), rtol=1e-4, atol=1e-4)


def test_standardize_sees_only_the_mask():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(20, 3)).astype(np.float32), rng.random((20, 3)) < 0.5
    x[~mask] += 1e6  # so large that beside it the rest would count as all alike
    out = np.array(standardize(x, mask))
    np.testing.assert_allclose(out[mask], (x[mask] - x[mask].mean()) / x[mask].std(), rtol=1e-4)
    np.testing.assert_array_equal(out[mask], standardize(np.where(mask, x, 0), mask)[mask])


@pytest.mark.parametrize("constant", ALIKE)
@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("function", [standardize, normalize.standardize])  # they round apart
def test_entries_all_alike_become_exact_zeros(constant, size, function):
    """Rounding leaves a tiny deviation: dividing by it would make a signal of nothing."""
    x, mask = np.full(size + 3, constant, np.float32), np.arange(size + 3) < size
    np.testing.assert_array_equal(function(x[:size]), 0)
    x[~mask] = 5  # what the mask hides is not alike
    np.testing.assert_array_equal(function(x, mask)[:size], 0)


@pytest.mark.parametrize("constant", [*ALIKE, None])
@pytest.mark.parametrize("mask", [None, np.ones(7, bool), np.zeros(7, bool)])
def test_standardize_is_never_nan(constant, mask):
    """Neither in its value nor in its gradient."""
    x = np.float32(np.arange(7) if constant is None else np.full(7, constant))
    value, grad = weighted(x, mask)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@jax.jit
@jax.value_and_grad
def weighted(x, mask):
    return normalize.standardize(x, mask) @ jnp.arange(7.0)


update_stats = jax.jit(normalize.update_stats)


def merged(batches, example):
    stats = normalize.init_stats(example)
    for batch in batches:
        stats = update_stats(stats, batch)
    return stats


@pytest.mark.parametrize("feature", [(), (2, 3)])
@pytest.mark.parametrize("lead", [(1,), (4, 5), (2, 3, 4)])
def test_merged_batches_are_one_big_batch(feature, lead):
    rng = np.random.default_rng(0)
    # Every batch has its own mean, so that forgetting the term between batches shows.
    batches = [
        rng.normal(loc=10 * i - 20, scale=i + 1, size=(*lead, *feature)).astype(np.float32)
        for i in range(5)
    ]
    flat = np.concatenate([b.reshape(-1, *feature) for b in batches]).astype(np.float64)
    for order in (batches, batches[::-1]):
        stats = merged(order, jnp.zeros(feature))
        assert stats.count == len(flat)
        np.testing.assert_allclose(stats.mean, flat.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(normalize.std(stats), flat.std(0), rtol=1e-5)


def test_statistics_stand_once_they_have_enough():
    rng = np.random.default_rng(0)
    batches = [rng.normal(3 * i, i + 1, (4, 2)).astype(np.float32) for i in range(5)]
    lanes = normalize.init_stats(jnp.zeros(2))
    lanes = jax.tree.map(lambda x: jnp.zeros((3, *x.shape)), lanes)
    for batch in batches:  # each lane has its own end: in a batch, between two, never
        lanes = jax.vmap(update_stats, (0, None, 0))(lanes, batch, jnp.array([5.0, 12.0, 1e9]))
    for lane, taken in enumerate((2, 3, 5)):
        expected = merged(batches[:taken], batches[0][0])
        assert lanes.count[lane] == 4 * taken
        np.testing.assert_allclose(lanes.mean[lane], expected.mean, rtol=1e-6)
        np.testing.assert_allclose(lanes.std[lane], expected.std, rtol=1e-6)


def test_statistics_survive_a_large_mean():
    """The difference of two sums of squares would lose all digits here."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(1e4, 1, (100, 2)).astype(np.float32) for _ in range(20)]
    np.testing.assert_allclose(
        normalize.std(merged(batches, batches[0][0])),
        np.concatenate(batches).astype(float).std(0),
        rtol=1e-3,
    )


@pytest.mark.parametrize("pack", [lambda a, b: {"b": a, "a": b}, lambda a, b: (a, b)])
def test_statistics_of_pytrees(pack):
    """An observation may be a dict or a pair, with leaves of different shapes and dtypes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 6, 2, 2)).astype(np.uint8)
    goals = rng.normal(size=(3, 6)).astype(np.float32)
    stats = merged(
        [pack(*x) for x in zip(images, goals, strict=True)], pack(images[0, 0], goals[0, 0])
    )
    assert stats.count == 18
    for got, x in zip(
        jax.tree.leaves(normalize.whiten(stats, pack(images, goals), clip=100.0)),
        jax.tree.leaves(pack(images, goals)),
        strict=True,
    ):
        x = x.astype(np.float64)
        expected = (x - x.mean((0, 1))) / x.std((0, 1))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_statistics_under_vmap():
    """A lane (a seed, say) keeps its own statistics."""
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 4)).astype(np.float32)
    lanes = jax.jit(jax.vmap(lambda x: merged(x, x[0, 0]), 1))(x)
    for i in range(3):
        for got, alone in zip(lanes[:3], merged(x[:, i], x[0, i, 0])[:3], strict=True):
            np.testing.assert_allclose(got[i], alone, rtol=1e-5)


@pytest.mark.parametrize("constant", ALIKE)
def test_a_constant_feature_stays_small(constant):
    """Its deviation is 1, so what differs from it later is not blown up."""
    rng = np.random.default_rng(0)
    batches = [np.float32(rng.normal(size=(7, 2))) for _ in range(5)]
    for batch in batches:
        batch[:, 0] = constant
    stats = merged(batches, batches[0][0])
    std = normalize.std(stats)
    assert std[0] == 1
    np.testing.assert_allclose(std[1], np.concatenate(batches)[:, 1].std(), rtol=1e-5)
    later = normalize.whiten(stats, jnp.array([constant, 0.0]))
    np.testing.assert_allclose(later[0], 0, atol=1e-6 * max(abs(constant), 1))


UNITS = [1e-30, 1e-20, 1e-6, 0.99e-4, 1e6, 1e20, 1e30]  # squares of some leave float32


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("lead", [(8, 2), (1,)])
def test_the_unit_of_an_observation_does_not_matter(unit, lead):
    """Also of a deviation far below the mean, and where values come one by one."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(loc=[0, 50], size=(*lead, 2)) for _ in range(5)]
    plain, other = (merged([np.float32(b * u) for b in batches], jnp.zeros(2)) for u in (1.0, unit))
    expected = normalize.whiten(plain, np.float32(batches[0]))
    assert np.std(np.concatenate(batches), 0).min() > 0.5
    found = normalize.whiten(other, np.float32(batches[0] * unit))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(normalize.std(other), unit * normalize.std(plain), rtol=1e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_a_reward_does_not_matter(unit):
    rng = np.random.default_rng(0)
    reward, ended = rng.normal(1, 3, (6, 2)), rng.random((6, 2)) < 0.3
    scaled = [
        scale_reward(normalize.init_reward_scale(2), np.float32(reward * u), ended, 0.9)[1]
        for u in (1.0, unit)
    ]
    np.testing.assert_allclose(*scaled, rtol=1e-5)
    assert np.abs(scaled[0]).max() > 0.5


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_unit_of_an_advantage_does_not_matter(unit, masked):
    x = np.random.default_rng(0).normal(size=8)
    mask = np.arange(8) < 5 if masked else None
    found = [standardize(np.float32(x * u), mask) for u in (unit, 1.0)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert np.abs(found[0]).max() > 0.5
    explained = [
        losses.explained_variance(np.float32(0.5 * x * u), np.float32(x * u), mask)
        for u in (unit, 1.0)
    ]
    np.testing.assert_allclose(*explained, rtol=1e-4)
    assert explained[0] == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("size", [0.1, 1e-25, 1e30])
def test_a_constant_is_harmless_however_large_the_batch(size):
    """The rounding of a sum of many grows with their number."""
    stats = merged([np.full((300_000, 1), size, np.float32)] * 2, jnp.zeros(1))
    assert stats.std == 0
    assert stats.mean == np.float32(size)
    assert normalize.std(stats) == 1


def test_rounding_of_a_constant_is_not_whitened():
    x = np.float32(0.1) + np.spacing(np.float32(0.1)) * np.arange(-3, 4)
    assert normalize.std(merged([np.float32(x)[:, None]], jnp.zeros(1))) == 1


@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e20])
def test_groups_are_taken_in_as_their_values_would_be(unit):
    """An empty one, a NaN in it too, is not looked at."""
    rng = np.random.default_rng(0)
    groups = [unit * rng.normal(i, i + 1, (5 * i + 2, 3)) for i in range(4)]
    stats = merged([np.float32(groups[0])], jnp.zeros(3))
    count = jnp.array([0.0, *map(len, groups[1:])])
    mean, std = (
        jnp.array([np.full(3, np.nan), *(f(g, axis=0) for g in groups[1:])], float)
        for f in (np.mean, np.std)
    )
    stats, flat = jax.jit(normalize.merge_stats)(stats, count, mean, std), np.concatenate(groups)
    assert stats.count == len(flat)
    np.testing.assert_allclose(stats.mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats.std, flat.std(0), rtol=1e-5)


def test_off_is_nothing():
    assert normalize.init_stats(jnp.zeros(2), False) == normalize.init_reward_scale(2, False) == ()


def test_whiten_before_there_is_data_only_clips():
    x = jnp.array([-50.0, -1.5, 0.0, 3.0, 11.0])
    stats = normalize.init_stats(x)
    np.testing.assert_array_equal(normalize.std(stats), 1)
    np.testing.assert_array_equal(normalize.whiten(stats, x), [-10, -1.5, 0, 3, 10])
    np.testing.assert_array_equal(normalize.whiten(stats, x, 2.0), [-2, -1.5, 0, 2, 2])


scale_reward = jax.jit(normalize.scale_reward)


def scaled_by_loop(rollouts, gamma, clip):
    """gym's NormalizeReward, one environment's step at a time, except that a rollout is divided
    by the deviation that includes all of it."""
    returns, seen = np.zeros(rollouts[0][0].shape[1]), []
    for reward, ended in rollouts:
        for t, i in np.ndindex(reward.shape):
            returns[i] = gamma * returns[i] + reward[t, i]
            seen.append(returns[i])
            if ended[t, i]:
                returns[i] = 0
        yield np.clip(reward / np.std(seen), -clip, clip), returns.copy()


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("clip", [0.4, 10.0])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_scale_reward_is_gyms_over_whole_rollouts(gamma, clip, rate):
    """Two rollouts in a row: what an episode earned in the first counts on in the second."""
    rng = np.random.default_rng(0)
    rollouts = [
        (rng.normal(1, 3, (6, 2)).astype(np.float32), rng.random((6, 2)) < rate) for _ in range(2)
    ]
    scale = normalize.init_reward_scale(2)
    for (reward, ended), (expected, returns) in zip(
        rollouts, scaled_by_loop(rollouts, gamma, clip), strict=True
    ):
        scale, scaled = scale_reward(scale, reward, ended, gamma, clip)
        np.testing.assert_allclose(scaled, expected, rtol=1e-5)
        np.testing.assert_allclose(scale.returns, returns, rtol=1e-5)


def test_scale_reward_leaves_silence_alone():
    """A first rollout without any reward has no deviation to divide by."""
    silence, ended = np.zeros((6, 2), np.float32), np.zeros((6, 2), bool)
    scale, scaled = scale_reward(normalize.init_reward_scale(2), silence, ended, 0.9, 10.0)
    np.testing.assert_array_equal(scaled, 0)
    assert normalize.std(scale.stats) == 1
