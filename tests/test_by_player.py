"""Returns of each player of a game: what it was paid, summed over the same whole episodes."""

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.cli import main
from jaxpg.core import episodes

KEY = jax.random.key(3)


def learnt(env, key=KEY):
    cfg = jaxpg.ippo.Config(num_envs=2, num_steps=8, hidden=(8,))
    return cfg, jaxpg.ippo.init(cfg, env, key)


def measure(env, cfg, state, key=KEY, **kwargs):
    return np.asarray(jaxpg.evaluate(jaxpg.ippo, cfg, env, state, key, 16, **kwargs))


def test_prisoners_are_paid_by_the_table():
    """Of deterministic policies there is one episode: it is played by hand."""
    env = jaxpg.make("MatrixGame-jaxpg", game="prisoners", rounds=4)
    cfg, state = learnt(env)
    obs, inner = env.core.reset_env(KEY, env.params)
    total = np.zeros(2)
    for _ in range(4):
        action, _ = jaxpg.ippo.act(cfg, env, state, obs[None], (), KEY, True)
        total += np.asarray(env.params.table)[:, action[0, 0], action[0, 1]]
        obs, inner, *_ = env.core.step_env(KEY, inner, action[0], env.params)
    returns = measure(env, cfg, state, by_player=True)
    assert returns.shape == (16, 2)
    np.testing.assert_array_equal(returns, np.broadcast_to(total, (16, 2)))
    sampled = measure(env, cfg, state, greedy=False, by_player=True)
    mean = measure(env, cfg, state, greedy=False)
    np.testing.assert_allclose(sampled.mean(1), mean, atol=1e-6)
    assert len(np.unique(sampled[:, 0] - sampled[:, 1])) > 1  # what the mean does not tell


@pytest.mark.slow
def test_hunters_are_paid_for_what_prey_pay():
    """Nothing is drawn but the start: `play` has every step of the same episodes."""
    env = jaxpg.make("Pursuit-jaxpg", size=4)
    cfg, state = learnt(env)
    returns = measure(env, cfg, state, by_player=True)
    policy = episodes.policy_of(jaxpg.ippo, cfg, env, state, True)
    t, _, mask = episodes.play(env, policy, KEY, 16, 50)
    expected = np.asarray(t.signals["rewards"] * mask[..., None], float).sum(0)
    np.testing.assert_allclose(returns, expected, atol=1e-5)
    np.testing.assert_allclose(returns.mean(1), measure(env, cfg, state), atol=1e-5)
    caught = returns[:, 0] + 0.01 * np.asarray(mask).sum(0)  # each costs time_cost a step
    np.testing.assert_allclose(caught, caught.round(), atol=1e-4)
    assert (returns[:, :3] == returns[:, :1]).all()
    assert len(set(caught.round())) > 1
    assert (returns[:, 3] != returns[:, 4]).any()


@pytest.mark.slow
def test_seeds_are_apart_and_what_has_not_ended_is_nan():
    env = jaxpg.make("MatrixGame-jaxpg", game="matching_pennies", rounds=2)
    keys = jax.random.split(KEY, 3)
    cfg, _ = learnt(env)
    states = jax.vmap(lambda key: jaxpg.ippo.init(cfg, env, key))(keys)
    returns = measure(env, cfg, states, keys, greedy=False, by_player=True)
    assert returns.shape == (3, 16, 2)
    np.testing.assert_array_equal(returns[..., 0], -returns[..., 1])  # a zero sum
    assert returns.any()
    assert np.isnan(measure(env, cfg, states, keys, max_steps=1, by_player=True)).all()


def test_the_command_prints_the_mean_of_each_player(tmp_path, capsys):
    payoffs = [[[1, 1], [1, 1]], [[2, 2], [2, 2]]]  # whatever they do
    env = jaxpg.make("MatrixGame-jaxpg", payoffs=payoffs)
    cfg = jaxpg.ippo.Config(num_envs=2, num_steps=4, minibatches=1, hidden=(4,))
    folder = tmp_path / "run"
    jaxpg.run(jaxpg.ippo, cfg, env, KEY, total_steps=8, out=folder, evaluations=0)
    assert main(["eval", str(folder), "--episodes", "2", "--by-player"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["seed", "player_0", "player_1"] in lines
    assert ["0", "1", "2"] in lines


def test_it_is_asked_of_games_alone():
    env = jaxpg.make("CartPole-v1")
    with pytest.raises(ValueError, match="by_player=True on CartPole-v1: allowed is False"):
        measure(env, *learnt(env), by_player=True)
    game = jaxpg.make("MatrixGame-jaxpg")
    with pytest.raises(ValueError, match="by_player=2: allowed is"):
        measure(game, *learnt(game), by_player=2)
