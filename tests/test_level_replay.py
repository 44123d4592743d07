"""Prioritised level replay: the rule against the paper's algorithm one episode at a time, levels as
an environment draws them, and both as a part of PPO."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.train import initial_state, with_horizon
from jaxpg.core.types import Transition
from jaxpg.envs import registry, worlds
from jaxpg.loops import levels
from jaxpg.ops import level_replay
from tests.test_randomized import shown

KEY = jax.random.key(3)


class Sampler:
    """Algorithm 1 as it is written, a list for each thing that is known of a level."""

    def __init__(self, count, beta, rho):
        self.scores, self.last, self.episodes = {}, {}, 0
        self.count, self.beta, self.rho = count, beta, rho

    def begin(self, level):
        self.episodes += 1
        self.last[level] = self.episodes

    def chances(self):
        """Of the next episode: replay with the share of levels that were seen."""
        seen = sorted(self.scores, key=lambda i: (-self.scores[i], i))
        weight = {level: (1 / (n + 1)) ** (1 / self.beta) for n, level in enumerate(seen)}
        stale = {i: self.episodes - self.last.get(i, 0) for i in seen}
        found = np.zeros(self.count)
        for i in range(self.count):
            if i not in self.scores:
                found[i] = 1 / self.count  # (new / count) * (1 / new)
                continue
            by_score = weight[i] / sum(weight.values())
            by_stale = stale[i] / sum(stale.values()) if sum(stale.values()) else by_score
            mixed = (1 - self.rho) * by_score + self.rho * by_stale
            found[i] = len(seen) / self.count * mixed
        return found


@pytest.mark.parametrize(("beta", "rho"), [(0.1, 0.1), (0.5, 0.3), (2.0, 1.0), (1.0, 0.0)])
def test_the_rule_is_the_papers_algorithm(beta, rho):
    """Over rollouts of random levels, ends and advantages, with ties among scores."""
    count, rng = 7, np.random.default_rng(0)
    sampler = Sampler(count, beta, rho)
    state = levels.Levels(jnp.zeros(count), jnp.zeros(count, bool), jnp.zeros(count))
    for rollout in range(5):
        shape = (4, 2)
        level = rng.integers(0, 1 + min(count, 2 + 2 * rollout), shape) % count
        start = rng.random(shape) < 0.4
        advantage = rng.integers(-2, 3, shape).astype(np.float32)
        for i, begins in zip(level.ravel(), start.ravel(), strict=True):
            if begins:
                sampler.begin(int(i))
        for i in np.unique(level):
            sampler.scores[int(i)] = np.abs(advantage[level == i]).mean()
        score, seen = level_replay.update_scores(
            state.score, state.seen, jnp.asarray(level), jnp.asarray(advantage)
        )
        stale = level_replay.update_staleness(state.staleness, jnp.asarray(level), start)
        state = levels.Levels(score, seen, stale)
        found = np.asarray(level_replay.level_distribution(*state, beta, rho))
        np.testing.assert_allclose(found, sampler.chances(), rtol=1e-4, atol=1e-7)
        assert found.sum() == pytest.approx(1, abs=1e-5)


def test_ends_of_the_rule():
    """Nothing seen, one level alone, the limits of the temperature."""
    zeros, none = jnp.zeros(4), jnp.zeros(4, bool)
    nothing = zeros, none, zeros, 0.1, 0.1
    with jax.debug_nans(True):  # nor is there a NaN on the way
        np.testing.assert_array_equal(level_replay.replay_distribution(*nothing), zeros)
        np.testing.assert_array_equal(level_replay.level_distribution(*nothing), np.full(4, 0.25))
    one = none.at[2].set(True)
    np.testing.assert_array_equal(
        level_replay.replay_distribution(zeros, one, zeros, 0.1, 0.5), [0, 0, 1, 0]
    )
    score, stale = jnp.array([1.0, 4.0, 2.0, 3.0]), jnp.array([1.0, 0.0, 2.0, 1.0])
    cold = level_replay.replay_distribution(score, ~none, stale, 0.01, 0.0)
    np.testing.assert_allclose(cold, [0, 1, 0, 0], atol=1e-6)
    hot = level_replay.replay_distribution(score, ~none, stale, 1e6, 0.0)
    np.testing.assert_allclose(hot, np.full(4, 0.25), rtol=1e-4)
    only = level_replay.replay_distribution(score, ~none, stale, 0.1, 1.0)
    np.testing.assert_allclose(only, [0.25, 0, 0.5, 0.25], rtol=1e-6)
    many = jnp.arange(5000.0)  # ranks whose tenth power float32 does not hold
    far = level_replay.replay_distribution(many, many >= 0, many, 0.1, 0.1)
    assert np.isfinite(far).all()
    assert float(far.sum()) == pytest.approx(1, abs=1e-4)


SIZES, PAIRS = [2.0, 5.0, 9.0], [np.array([0.0, 1.0]), np.array([5.0, 7.0]), np.array([3.0, 3.0])]


def roll(env, num_steps, num_envs):
    def act(obs, carry, key):
        return jnp.ones((num_envs, 1)), carry, ()

    def go(env, key):
        return E.rollout(env, act, E.reset(env, key, num_envs), (), key, num_steps)

    state, _, t, _, metrics = jax.jit(go)(env, KEY)
    return jax.tree.map(np.asarray, t), state, metrics


def test_a_level_is_a_row_of_all_its_parameters():
    """Drawn for each episode by the probabilities, told with each step, and of the episode that
    the step was in, also at its end."""
    chances = np.array([0.5, 0.2, 0.3])
    env = registry.with_params(
        jaxpg.levels(shown(), size=SIZES, pair=PAIRS), level_probabilities=chances
    )
    t, state, metrics = roll(env, 80, 40)  # of 4 steps each
    level = t.signals["level"][..., 0].astype(int)
    np.testing.assert_array_equal(t.obs[..., 0], np.array(SIZES)[level])
    np.testing.assert_array_equal(t.next_obs[..., 3:], np.array(PAIRS)[level])
    episodes = level.reshape(20, 4, 40)
    assert (episodes == episodes[:, :1]).all()
    counts = np.bincount(episodes[:, 0].ravel(), minlength=3)
    assert stats.chisquare(counts, chances * counts.sum()).pvalue > 0.01
    assert "episode/level" not in metrics
    assert set(np.asarray(state.inner.memory)) <= {0, 1, 2}
    assert env.action_space.high == 9  # as wide as the widest level
    never = registry.with_params(env, level_probabilities=np.array([0.0, 1.0, 0.0]))
    assert (roll(never, 80, 40)[0].signals["level"] == 1).all()


def test_levels_come_in_every_form_and_through_json():
    plain = jaxpg.make("Maze-jaxpg", size=5)
    forms = [range(3), [0, 1, 2], np.arange(3), jnp.arange(3), (0, 1, 2)]
    first, *others = [jaxpg.levels(plain, level=x) for x in forms]
    for env in others:
        assert env == first
    assert registry.from_dict(registry.to_dict(first)) == first
    assert jaxpg.make("Maze-jaxpg", size=5, wrappers=[("levels", {"level": [0, 1, 2]})]) == first
    stacked = jaxpg.frame_stack(first, 2)
    assert stacked.core.signals == ("level",)
    assert stacked.params.replace(level_probabilities=1).level_probabilities == 1


def test_a_fixed_world_is_one_level_and_what_follows_from_it_follows():
    plain = jaxpg.make("CartPole-v1")
    env = jaxpg.levels(plain, masspole=[0.1, 0.3, 0.2], gravity=[9.0, 8.0, 7.0])
    assert worlds.drawn_ranges(env)["masspole"] == (0.1, 0.3)
    assert env.core.rule.inner(env.params, 1).total_mass == pytest.approx(1.3)
    world = worlds.fix_params(env, {"masspole": 0.4})
    now = world.core.rule.inner(world.params, 0)
    assert (len(world.params.level_probabilities), now.gravity) == (1, pytest.approx(9.8))
    assert (now.masspole, now.total_mass) == (pytest.approx(0.4), pytest.approx(1.4))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"levle": [0, 1]}, "level"),
        ({"level": 3}, "levels level=3: allowed are values of all levels, a list or an array"),
        ({"level": []}, "allowed is at least one level"),
        ({"level": [0, 0.5]}, "level_choices=.*allowed is an integer"),
        ({"level": [0, -1]}, "level_choices=.*allowed is a number >= 0"),
        ({"level": [0, 1], "max_steps_in_episode": [9, 9, 9]}, "2 in level_choices, 3 in max_st"),
        ({}, "levels: allowed is at least one parameter"),
    ],
)
def test_what_are_no_levels_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.levels(jaxpg.make("Maze-jaxpg", size=5), **values)


def test_probabilities_are_of_all_levels_and_sum_to_one():
    env = jaxpg.levels(jaxpg.make("Maze-jaxpg", size=5), level=range(2))
    for wrong, words in (
        (np.array([0.5, 0.4]), "sum is 1"),
        (np.ones(1), "2 in level_choices, 1 in level_prob"),
        (np.array([1.5, -0.5]), "level_probabilities=.*allowed is a number >= 0 and <= 1"),
    ):
        with pytest.raises(ValueError, match=words):
            registry.with_params(env, level_probabilities=wrong)


def test_probabilities_may_be_given_beside_the_levels():
    """They are alike unless they are given; what is given twice is refused."""
    wrappers = [("levels", {"level": [0, 1]})]
    env = jaxpg.make("Maze-jaxpg", size=5, wrappers=wrappers, level_probabilities=[0.75, 0.25])
    np.testing.assert_allclose(env.params.level_probabilities, [0.75, 0.25])
    with pytest.raises(ValueError, match="level_choices is given twice, in wrappers and beside"):
        jaxpg.make("Maze-jaxpg", size=5, wrappers=wrappers, level_choices=[1, 2])


def test_a_refusal_of_many_levels_is_one_line():
    wrappers = [("levels", {"level": range(200)})]
    for wrong in (np.full(200, 0.1), np.full(200, -1.0)):
        with pytest.raises(ValueError, match="level_probabilities=") as refused:
            jaxpg.make("Maze-jaxpg", size=5, wrappers=wrappers, level_probabilities=wrong)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 400


# In PPO.

TINY = {"num_envs": 2, "num_steps": 6, "minibatches": 2, "num_epochs": 1, "hidden": (4,)}


@functools.cache
def maze():
    return jaxpg.levels(jaxpg.make("Maze-jaxpg", size=5, max_steps_in_episode=4), level=range(3))


def config(**more):
    return with_horizon(jaxpg.ppo.Config(**TINY, level_replay=True, **more), 96)


step = jax.jit(jaxpg.ppo.step)


@functools.cache
def begin():
    return jax.jit(initial_state, static_argnums=0)(jaxpg.ppo, config(), maze(), KEY)


def test_ppo_plays_the_levels_that_are_to_be_replayed():
    cfg, state = config(), begin()
    assert not state.played.seen.any()
    known = levels.Levels(jnp.array([0.1, 0.7, 0.3]), jnp.ones(3, bool), jnp.array([0.0, 1.0, 9.0]))
    for share, wanted in ((0.0, 1), (1.0, 2)):  # the highest score; the stalest
        now = dataclasses.replace(cfg, level_temperature=0.01, level_staleness=share)
        known = known._replace(staleness=known.staleness.at[1].set(0))
        after, metrics = step(now, maze(), state._replace(played=known))
        # Episodes are of 4 steps and the rollout of 6: all that run now were drawn in it.
        np.testing.assert_array_equal(after.env.inner.memory, [wanted, wanted])
        assert metrics["levels/seen"] == 1
        assert after.played.staleness[wanted] < 2


def test_what_ppo_learns_of_levels_is_the_mean_advantage():
    """By a rollout that is made up: two environments, whose first goes on with its episode."""
    level = np.array([[0, 2], [0, 2], [1, 1]])
    ended = jnp.array([[False, False], [True, True], [False, False]])
    advantage = jnp.array([[1.0, -2.0], [3.0, 0.5], [0.25, -0.75]])
    filler = jnp.zeros((3, 2))
    signals = {"level": jnp.asarray(level, float)[..., None]}
    t = Transition(filler, filler, filler, ended, ended & False, filler, signals)
    before = begin().env._replace(episode_length=jnp.array([5, 0], jnp.int32))
    first = levels.Levels(
        jnp.array([9.0, 9.0, 9.0]), jnp.zeros(3, bool), jnp.array([4.0, 4.0, 4.0])
    )
    after, metrics = levels.update_levels(first, before, t, advantage)
    np.testing.assert_allclose(after.score, [2.0, 0.5, 1.25])
    # Level 2 begins, then level 1 twice: of level 0 no episode began.
    np.testing.assert_array_equal(after.staleness, [7, 0, 2])
    assert metrics["levels/score"] == pytest.approx(1.25)


def raw(x):
    keys = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if keys else x).tobytes()


def test_a_run_with_level_replay_goes_on_byte_identically():
    """From a state that was taken to the host, and a stopped run from its last iteration."""
    cfg, env = jaxpg.ppo.Config(**TINY, level_replay=True), maze()
    stop = [lambda event: event.iteration == 4]
    whole, part = (
        jaxpg.run(jaxpg.ppo, cfg, env, KEY, total_steps=96, chunk=4, callbacks=c)
        for c in ([], stop)
    )
    rest = jaxpg.core.run.run(
        jaxpg.ppo, whole.cfg, env, KEY, total_steps=96, chunk=4, state=part.state, iteration=4
    )
    both = [[raw(x) for x in jax.tree.leaves(r.state)] for r in (rest, whole)]
    assert both[0] == both[1]
    assert whole.metrics["levels/seen"][-1] == 1
    assert (np.asarray(whole.state.played.staleness) > 0).any()


def test_off_it_is_no_part_of_the_program(monkeypatch):
    """The step is the one that never heard of levels, and the state has nothing of them."""
    env, cfg = jaxpg.make("Maze-jaxpg", size=5), with_horizon(jaxpg.ppo.Config(**TINY), 96)
    state = jax.eval_shape(functools.partial(initial_state, jaxpg.ppo, cfg, env), KEY)
    assert state.played == ()

    def program():
        return jax.jit(lambda *args: jaxpg.ppo.step(*args)).lower(cfg, env, state).as_text()

    off = program()
    monkeypatch.setattr(levels, "draw_levels", lambda cfg, env, state: env)
    monkeypatch.setattr(levels, "update_levels", lambda state, *rest: (state, {}))
    assert program() == off


def test_an_environment_without_levels_is_refused():
    with pytest.raises(ValueError, match="level_replay=True: Maze-jaxpg has no levels; allowed"):
        jaxpg.ppo.init(config(), jaxpg.make("Maze-jaxpg", size=5), KEY)
    with pytest.raises(ValueError, match=r"level_temperature=0.0: allowed is .* > 0"):
        jaxpg.ppo.init(config(level_temperature=0.0), maze(), KEY)
