"""The return that training has come to, and evaluations in memory: no number is NaN by accident."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.metrics import Recent
from jaxpg.experiment.files.atomic import read_json
from jaxpg.experiment.listing.entries import find_entries
from tests.conftest import slow_of

NAN = np.nan


def by_hand(returns, counts, episodes):
    """The definition, episode by episode: from the end, whole iterations until there are enough."""
    total, number, age, found = 0.0, 0, len(returns), False
    for back, (x, count) in enumerate(zip(returns[::-1], counts[::-1], strict=True)):
        if number >= episodes:
            break
        if count and not found:
            age, found = back, True
        for _ in range(count):
            total, number = total + x, number + 1
    return (total / number if number else NAN), number, age


@pytest.fixture(scope="module")
def series():
    """Metrics [seeds, iterations] with stretches without episodes, at the ends too; one seed has
    none at all."""
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 4, (6, 40)) * (draw.random((6, 40)) < 0.4)
    counts[:, -3:] = [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [5, 5, 5], [0, 0, 0]]
    counts[5] = 0
    returns = np.where(counts, draw.normal(size=counts.shape), NAN)
    return {
        "episode/return": returns.astype(np.float32),
        "episode/length": np.where(counts, 3.0, NAN),
        "episode/count": counts.astype(np.int32),
        "loss/policy": returns,
    }


@pytest.mark.parametrize("episodes", [1, 4, 10, 1000])
def test_recent_mean_is_that_of_the_last_episodes(series, episodes):
    found = jaxpg.recent_mean(series, episodes=episodes)
    rows = zip(series["episode/return"].tolist(), series["episode/count"].tolist(), strict=True)
    expected = Recent(*np.array([by_hand(*row, episodes) for row in rows]).T)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    np.testing.assert_array_equal(found.episodes, expected.episodes)
    np.testing.assert_array_equal(found.age, expected.age)
    assert isinstance(found.mean, np.ndarray)
    assert np.isnan(found.mean[5])  # there is nothing to take the mean of
    assert (found.episodes[5], found.age[5]) == (0, 40)
    assert not np.isnan(found.mean[:5]).any()  # though the last iteration of four is NaN
    assert np.isnan(series["episode/return"][:5, -1]).sum() == 3


def test_recent_mean_is_pure(series):
    """Under `jit` and `vmap` it says the same."""
    host = jaxpg.recent_mean(series, "episode/return", 10)
    there = {name: jnp.asarray(x) for name, x in series.items()}
    one = lambda m: jaxpg.recent_mean(m, "episode/return", 10)  # noqa: E731
    for found in (jax.jit(one)(there), jax.jit(jax.vmap(one))(there)):
        np.testing.assert_allclose(found.mean, host.mean, rtol=1e-6)
        np.testing.assert_array_equal(found.episodes, host.episodes)
        np.testing.assert_array_equal(found.age, host.age)


def test_recent_mean_of_one_seed_can_be_printed(series):
    one = {name: x[0] for name, x in series.items()}
    recent = jaxpg.recent_mean(one, "episode/length")
    assert f"{recent.mean:.1f}" == "3.0"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "loss/policy"}, "name='loss/policy': allowed is a mean over episodes: episode/"),
        ({"name": "episode/count"}, "name='episode/count': allowed is a mean over episodes"),
        ({"episodes": 0}, "episodes=0: allowed is an integer >= 1"),
    ],
)
def test_what_is_no_mean_of_episodes_is_refused(series, asked, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.recent_mean(series, **asked)
    with pytest.raises(ValueError, match="nothing counts episodes"):
        jaxpg.recent_mean({"loss/policy": series["loss/policy"]})


# Evaluations in memory, of Q-learning on a cliff of ten steps.

ENV = jaxpg.make("Cliff-jaxpg", max_steps_in_episode=10)
CFG = jaxpg.q_learning.Config(num_envs=2, num_steps=5)


def train(seeds=0, **asked):
    key = jax.random.split(jax.random.key(3), seeds) if seeds else jax.random.key(3)
    asked = {"total_steps": 60, "chunk": 1, "episodes": 3} | asked
    return jaxpg.run(jaxpg.q_learning, CFG, ENV, key, **asked)


@pytest.mark.parametrize("seeds", slow_of([0, 2], 0))
def test_a_run_has_its_evaluations_with_a_folder_and_without(seeds, tmp_path):
    here, there = train(seeds, evaluations=3), train(seeds, evaluations=3, out=tmp_path / "run")
    loaded = jaxpg.load(tmp_path / "run")
    assert here.evaluations["iteration"].tolist() == [2, 4, 6]
    assert here.evaluations["env_steps"].tolist() == [20, 40, 60]
    names = {"iteration", "env_steps", "greedy", "greedy_std", "sampled", "sampled_std"}
    for result in (here, there, loaded):
        assert result.evaluations.keys() == names
        for name, x in result.evaluations.items():
            np.testing.assert_array_equal(x, here.evaluations[name], strict=True)
    assert here.evaluations["greedy"].shape == ((2, 3) if seeds else (3,))
    longer = jaxpg.resume(tmp_path / "run", total_steps=120)
    assert longer.evaluations["iteration"].tolist()[:3] == [2, 4, 6]
    assert longer.evaluations["iteration"].tolist()[-1] == 12
    for name, x in jaxpg.load(tmp_path / "run").evaluations.items():
        np.testing.assert_array_equal(x, longer.evaluations[name], strict=True)


def test_a_run_that_is_only_to_be_fast_evaluates_nothing():
    assert train().evaluations == {}


def test_a_target_needs_no_folder():
    """It ends with the chunk after the one in which it is reached; every return is >= -1000."""
    result = train(2, target=-1000.0, evaluations=6)
    assert (result.stopped, result.iteration) == ("callback", 2)
    assert train(2, target=0.0).evaluations["iteration"].tolist() == [1, 2, 3, 4, 5, 6]


def test_one_key_is_split_for_a_state_of_several_seeds():
    result, key = train(2), jax.random.key(5)
    asked = {"episodes": 3, "max_steps": 20, "greedy": False}
    found = jaxpg.evaluate(jaxpg.q_learning, CFG, ENV, result.state, key, **asked)
    own = jax.random.split(key)
    same = jaxpg.evaluate(jaxpg.q_learning, CFG, ENV, result.state, own, **asked)
    np.testing.assert_array_equal(found, same)
    assert found.shape == (2, 3)


# What a run says before it begins, and when it fails.


def test_a_run_begins_before_anything_compiles(tmp_path):
    seen = []
    keep = jaxpg.Callback(
        on_chunk=lambda event: seen.append(event), on_begin=lambda event: seen.append(event)
    )
    train(2, callbacks=[keep])
    begin = seen[0]
    assert (begin.iteration, begin.num_iters, begin.env_steps) == (0, 6, 0)
    assert (begin.metrics, begin.state) == ({}, None)
    assert [event.iteration for event in seen] == [0, 1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="total_steps=0"):
        train(2, callbacks=[keep], total_steps=0)
    assert len(seen) == 7


def test_why_a_run_failed_is_on_record(tmp_path):
    def fail(event):
        if event.iteration == 3:
            raise OSError("the printer\nis on fire")

    folder = tmp_path / "run"
    with pytest.raises(OSError, match="the printer"):
        train(2, callbacks=[fail], out=folder, name="mine", tags=["long"])
    assert read_json(folder / "failure.json") == {"error": "OSError: the printer is on fire"}
    (entry,) = find_entries(folder)
    assert (entry.state, entry.problem) == ("failed", "OSError: the printer is on fire")
    assert (entry.given, entry.tags) == ("mine", ("long",))
    assert entry.env_steps < 60
    assert jaxpg.resume(folder).stopped == "done"
    assert not (folder / "failure.json").exists()
    (entry,) = find_entries(folder)
    assert (entry.state, entry.env_steps) == ("done", 60)
