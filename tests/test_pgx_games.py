"""pgx's games of two players: against pgx's own step, by the rules of the game, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.observations import random_discrete
from jaxpg.envs import suites

pgx = pytest.importorskip("pgx")
from pgx.experimental import auto_reset  # noqa: E402

LANES, STEPS = 32, 320  # 10,240 steps of an environment
TIC = "pgx/tic_tac_toe"
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def random_legal(key, obs, n, wild=0.0):
    """Legal actions [2]; with probability `wild` any for both."""
    k_legal, k_any, k_which = jax.random.split(key, 3)
    mask = obs["action_mask"].reshape(2, n)
    keys = jax.random.split(k_legal)
    legal = jax.vmap(lambda k, m: random_discrete(k, (), n, m))(keys, mask)
    anything = jax.random.randint(k_any, (2,), 0, n)
    return jnp.where(jax.random.bernoulli(k_which, wild), anything, legal)


def play(env, key, wild=0.0, own=None):
    """A way of the adapter, and the same of pgx's own wrapper, which resets: [T, ...] of both."""
    n, (k_reset, k_steps, k_act) = env.core.choices, jax.random.split(key, 3)
    first = env.core.reset(k_reset, env.params)
    other = own and own.init(k_reset)

    def body(loop, drawn):
        (obs, state), theirs = loop
        k_step, k_act = drawn
        action = random_legal(k_act, obs, n, wild)
        after, state, reward, terminated, _, info = env.core.step(k_step, state, action, env.params)
        seen = obs, reward, info["rewards"], terminated, info["final_observation"], after
        if own:
            chosen = action[theirs.current_player]
            theirs = auto_reset(own.step, own.init)(theirs, chosen, k_step)
        return ((after, state), theirs), (seen, theirs)

    keys = jax.random.split(k_steps, STEPS), jax.random.split(k_act, STEPS)
    return jax.lax.scan(body, (first, other), keys)[1]


def lanes(env, **options):
    keys = jax.random.split(jax.random.key(0), LANES)
    return jax.device_get(jax.jit(jax.vmap(lambda key: play(env, key, **options)))(keys))


QUICK = ("connect_four", "tic_tac_toe")
SLOW = ("kuhn_poker", "leduc_holdem", "hex", "othello", "backgammon")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_it_steps_as_pgx_does(name):
    """Rewards of both, ends, masks and what who is to move sees, also after illegal actions."""
    env = jaxpg.make(f"pgx/{name}")
    (_, reward, rewards, terminated, _, after), own = lanes(env, wild=0.05, own=pgx.make(name))
    np.testing.assert_array_equal(terminated, own.terminated)
    np.testing.assert_array_equal(rewards, own.rewards)
    np.testing.assert_array_equal(reward, own.rewards.mean(-1))
    assert terminated.sum() > 20
    assert (rewards != 0).any()
    mover = own.current_player[..., None]
    seen = after["observation"]
    index = mover.reshape(*mover.shape, *[1] * (seen.ndim - mover.ndim))
    np.testing.assert_array_equal(np.take_along_axis(seen, index, 2)[:, :, 0], own.observation)
    mask = after["action_mask"].reshape(*mover.shape[:2], 2, -1)
    legal, waits = (np.take_along_axis(mask, x[..., None], 2)[:, :, 0] for x in (mover, 1 - mover))
    np.testing.assert_array_equal(legal, own.legal_action_mask)
    np.testing.assert_array_equal(waits, [[np.arange(env.core.choices) == 0] * STEPS] * LANES)
    if name in QUICK:  # whose two planes are one's own stones, and the other's
        np.testing.assert_array_equal(seen[:, :, 0], seen[:, :, 1][..., ::-1])


def test_who_has_a_line_has_won_and_chance_is_as_counted():
    """By the rules: signs of both rewards, of whoever began. Random against random the first wins
    .58492, draws .12698 and loses .28810 of all games."""
    env = jaxpg.make(TIC)
    (obs, reward, rewards, terminated, final, _), _ = lanes(env)
    ended = terminated.astype(bool)
    stones = final["observation"][ended][..., 0].reshape(-1, 2, 9)  # of each player
    won = np.any([stones[..., line].all(-1) for line in LINES], 0)
    each = rewards[ended]
    np.testing.assert_array_equal(each, won * 1.0 - won[:, ::-1])
    drawn = ~won.any(1)
    assert (stones[drawn].sum((1, 2)) == 9).all()
    assert not rewards[~ended].any()
    assert not reward.any()
    began = stones.sum(-1).argmax(1)  # the first has a stone more, unless the second has won
    odd = stones.sum((1, 2)) % 2
    began = np.where(odd, began, won.argmax(1) ^ 1)
    assert 0.4 < began.mean() < 0.6  # either player
    of_first = each[np.arange(len(each)), began]
    found = [np.mean(of_first == x) for x in (1, 0, -1)]
    np.testing.assert_allclose(found, [0.58492, 0.12698, 0.28810], atol=4 * 0.5 / len(each) ** 0.5)
    assert len(each) > 1000
    assert obs["observation"].dtype == bool


def test_an_illegal_action_ends_the_game_and_who_waits_has_no_part_in_it():
    env = jaxpg.make(TIC)
    step = jax.jit(lambda s, a: env.core.step_env(jax.random.key(0), s, a, env.params))
    for seed in range(4):
        state = env.core.reset(jax.random.key(seed), env.params)[1]
        mover = int(state.inner.current_player)
        told = lambda own, other: jnp.zeros(2, int).at[mover].set(own).at[1 - mover].set(other)  # noqa: E731, B023
        one = step(state, told(4, 0))
        for other in range(1, 9):
            for a, b in zip(*map(jax.tree.leaves, (one, step(state, told(4, other)))), strict=True):
                np.testing.assert_array_equal(a, b)
        assert not one[3]
        _, _, reward, terminated, info = step(one[1], told(0, 4))  # now it is the other's turn
        assert terminated
        assert info["rewards"][mover] == 1
        assert info["rewards"][1 - mover] == -1
        assert reward == 0


def test_the_limit_truncates():
    env = jaxpg.make("pgx/connect_four", max_steps_in_episode=3)
    state = env.core.reset(jax.random.key(0), env.params)[1]
    step = jax.jit(lambda s: env.core.step(jax.random.key(0), s, jnp.zeros(2, int), env.params))
    for t in range(3):
        _, state, _, terminated, truncated, _ = step(state)
        assert not terminated
        assert truncated == (t == 2)


def test_check_env():
    jaxpg.check_env(TIC)
    jaxpg.check_env("pgx/connect_four")


def test_names_and_sizes():
    listed = suites.names("pgx")
    assert {"pgx/2048", TIC, "pgx/connect_four", "pgx/go_9x9", "pgx/chess"} <= {*listed}
    assert "pgx/sparrow_mahjong" not in listed  # of three players
    assert not hasattr(jaxpg.make("pgx/2048").core, "players")
    for name, size in {"pgx/go_9x9": 9, "pgx/go_19x19": 19}.items():
        env = jaxpg.make(name)
        assert env.core.players == 2
        assert env.core.observation_space(env.params).spaces["observation"].shape[1] == size
        assert env.action_space.nvec == (size * size + 1,) * 2
    small = jaxpg.make("pgx/go_9x9", komi=0.5, size=5)
    assert small.action_space.nvec == (26, 26)
