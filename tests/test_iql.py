"""Independent Q-learning: targets by hand; matrix games, of which the fixed points are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import iql
from jaxpg.loops import sharing
from jaxpg.loops.replay import Batch
from tests.small_games import CLIMBING, STAG_HUNT, Hunt, Matrix, q_fixed_points
from tests.tabular import make

KEY = jax.random.key(0)
SMALL = {
    "num_envs": 2, "num_steps": 3, "hidden": (), "batch_size": 4, "buffer_size": 24,
    "learning_starts": 6, "updates_per_step": 0.5,
}  # fmt: skip


def other(tree, seed):
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape), jnp.float32), tree)


def batch():
    """Three steps of a game: one in the middle, a cut one, an end. Player 1 leaves in the first."""
    obs, next_obs = (np.random.default_rng(i).normal(size=(3, 2, 1)) for i in (0, 1))
    rewards = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    leaves, alive = np.array([[0, 1], [0, 0], [0, 0]]), np.array([[1, 1], [1, 1], [1, 0]])
    said = {"rewards": rewards, "leaves": leaves, "alive": alive}
    b = Batch(
        obs, np.zeros((3, 2)), rewards.mean(1), np.array([0.9, 0.9, 0.0]), next_obs, np.ones(3),
        said,
    )  # fmt: skip
    b = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), b)
    return b._replace(action=jnp.array([[0, 2], [1, 1], [2, 0]], jnp.int32))


@functools.cache
def begin(**fields):
    cfg, env = iql.Config(**SMALL | fields), make(Matrix(CLIMBING))
    return cfg, env, jax.jit(functools.partial(iql.init, cfg, env))(KEY)


def np_q(params, share, obs):
    """Q(o, .) [B, 2, actions] of linear networks, own or one that sees who it acts for."""
    layer, found = jax.tree.map(np.asarray, params["params"]["q"]), []
    for i in (0, 1):
        x, one = obs[:, i], layer
        if share:
            x = np.concatenate([x, np.tile(np.eye(2)[i], (len(x), 1))], -1)
        else:
            one = jax.tree.map(lambda y, i=i: y[i], layer)
        found.append(x @ one["kernel"] + one["bias"])
    return np.stack(found, 1)


@pytest.mark.parametrize(
    ("share", "double"),
    [
        (True, False),
        (False, True),
        pytest.param(True, True, marks=pytest.mark.slow),
        pytest.param(False, False, marks=pytest.mark.slow),
    ],
)
def test_target_and_loss_are_those_by_hand(share, double):
    cfg, env, state = begin(share_parameters=share, double=double, gamma=0.9)
    (group,) = sharing.teams(cfg, env)
    like = state.learner.params["players"]
    params, target, b = other(like, 1), other(like, 2), batch()
    next_obs, rewards = np.asarray(b.next_obs), np.asarray(b.signals["rewards"])
    lagged = np_q(target, share, next_obs)
    best = (np_q(params, share, next_obs) if double else lagged).argmax(-1)
    y = np.zeros((3, 2))
    for t in range(3):
        for i in (0, 1):
            over = t == 2 or (t == 0 and i == 1)
            y[t, i] = rewards[t, i] + (0 if over else 0.9 * lagged[t, i, best[t, i]])
    found = iql.td_target(cfg, group, params, target, b)
    np.testing.assert_allclose(found, y, atol=1e-5)
    q = np_q(params, share, np.asarray(b.obs))
    error = np.array([[q[t, i, b.action[t, i]] - y[t, i] for i in (0, 1)] for t in range(3)])
    loss, (errors, info) = iql.loss(params, cfg, group, target, b)
    np.testing.assert_allclose(errors, error, atol=1e-5)
    squares = 0.5 * error**2
    there = [squares[:, 0], squares[:2, 1]]  # player 1 had left before the third
    mean = np.concatenate(there).mean() if share else sum(x.mean() for x in there)
    assert float(loss) == pytest.approx(mean, rel=1e-5)
    assert float(info["loss/q"]) == pytest.approx(mean if share else mean / 2, rel=1e-5)


def test_copies_are_made_once_in_a_period():
    cfg, env, state = begin(target_period=3)
    update = jax.jit(functools.partial(iql.update, cfg, env))
    learner, b = state.learner, batch()
    for n in range(1, 7):
        old = learner.target
        learner, _, _ = update(learner, b)
        expected = learner.params if n % 3 == 0 else old
        jax.tree.map(np.testing.assert_array_equal, learner.target, expected)


def test_epsilon_falls_over_its_fraction_of_the_run_and_each_explores_by_itself():
    cfg, env, state = begin(exploration_fraction=0.4, epsilon_start=0.9, epsilon_end=0.1)
    cfg = jaxpg.core.config.replace(cfg, total_steps=6000.0)
    step = jax.jit(functools.partial(iql.step, cfg, env))
    for iteration, epsilon in ((0, 0.9), (200, 0.5), (400, 0.1), (900, 0.1)):
        new, metrics = step(state._replace(iteration=jnp.int32(iteration)))
        assert float(metrics["policy/epsilon"]) == pytest.approx(epsilon, abs=1e-6)
        assert float(new.epsilon) == float(metrics["policy/epsilon"])
    obs, state = jnp.ones((20_000, 2, 1)), state._replace(epsilon=jnp.float32(0.6))
    best = np.asarray(iql.act(cfg, env, state, obs, (), KEY, True)[0])
    assert (best == best[0]).all()
    action, _ = iql.act(cfg, env, state, obs, (), KEY, False)
    same = np.asarray(action == best[0], float)
    np.testing.assert_allclose(same.mean(0), 0.6, atol=0.02)  # 0.4 and a third of 0.6
    assert np.cov(same.T)[0, 1] == pytest.approx(0, abs=0.01)


def test_groups_learn_and_do_nothing_illegal():
    """An illegal action of the prey costs a million, while warming up, too."""
    env, cfg = make(Hunt()), iql.Config(**SMALL | {"hidden": (4,)})
    train = jax.jit(functools.partial(jaxpg.train, jaxpg.iql, total_steps=120))
    state, metrics = train(cfg, env, KEY)
    assert np.nanmin(metrics["episode/return"]) >= 0
    assert np.isfinite([metrics["loss/q_hunters"][-1], metrics["loss/q_prey"][-1]]).all()
    assert (jaxpg.evaluate(jaxpg.iql, cfg, env, state, KEY, episodes=4) >= 0).all()


def learnt_values(table, seeds, steps, **fields):
    """Q_1 and Q_2 [seeds, actions] of both players after learning."""
    cfg = iql.Config(
        num_envs=64, num_steps=1, hidden=(), buffer_size=6400, learning_starts=640, batch_size=256,
        updates_per_step=0.0625, share_parameters=False, learning_rate=0.1,
        learning_rate_schedule="linear", max_grad_norm=1e3, **fields,
    )  # fmt: skip
    env = make(Matrix(table))
    train = jax.jit(jax.vmap(lambda key: jaxpg.train(jaxpg.iql, cfg, env, key, steps)[0]))
    params = train(jax.random.split(KEY, seeds)).learner.params["players"]["params"]["q"]
    q = params["kernel"][:, :, 0] + params["bias"]
    return np.asarray(q[:, 0]), np.asarray(q[:, 1])


TABLES = [
    pytest.param(CLIMBING, id="climbing"),
    pytest.param(STAG_HUNT, id="stag hunt", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("table", TABLES)
def test_against_random_play_values_are_the_means_of_the_table(table):
    own = table[0], table[1].T
    for mine, q in zip(own, learnt_values(table, 2, 20_000, epsilon_end=1.0), strict=True):
        error = mine.std(1) / np.sqrt(6400 / len(mine))  # of a mean over what the buffer holds
        assert (np.abs(q - mine.mean(1)) < 4 * error + 0.05).all()


@pytest.mark.parametrize("table", TABLES)
def test_play_ends_in_a_fixed_point_of_the_table(table):
    """Each player's action is the best against what the other does in the end, and its value what
    the table gives. In neither game is that the best there is: what is safe while the other
    explores is learnt first."""
    epsilon = 0.2
    points = q_fixed_points(table, epsilon)
    safe = len(table[0]) - 1
    assert {(0, 0), (safe, safe)} <= points.keys()
    assert table[:, 0, 0].sum() == table.sum(0).max()
    for both in zip(*learnt_values(table, 4, 40_000, epsilon_end=epsilon), strict=True):
        assert [q.argmax() for q in both] == [safe, safe]
        for q, expected in zip(both, points[safe, safe], strict=True):
            assert q.max() == pytest.approx(expected.max(), abs=0.4)


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match=r"iql.Config on Pendulum-v1, whose actions are contin"):
        iql.init(iql.Config(), jaxpg.make("Pendulum-v1"), KEY)
