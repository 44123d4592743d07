"""MADDPG: targets, gradients and draws against hand-made ones; a game with a known optimum."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import maddpg
from jaxpg.core.observations import Masked
from jaxpg.core.spaces import MultiBinary, MultiDiscrete
from jaxpg.core.train import initial_state, with_horizon
from jaxpg.loops import central, descent, joint, sharing
from jaxpg.loops.replay import Batch
from jaxpg.ops.relax import straight_through
from tests.conftest import slow_of
from tests.small_games import Hunt, Meet
from tests.tabular import Odd, make

KEY = jax.random.key(0)
SMALL = {
    "num_envs": 2, "num_steps": 3, "hidden": (), "batch_size": 4, "buffer_size": 24,
    "learning_starts": 6, "updates_per_step": 0.5,
}  # fmt: skip


def begin(env, **fields):
    cfg = maddpg.Config(**SMALL | fields)
    return cfg, jax.jit(functools.partial(maddpg.init, cfg, env))(KEY)


def other(tree, seed):
    """Parameters of the same shape, so that an online network is not its copy."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape) / 2, jnp.float32), tree)


# The draw.


def test_a_draw_is_one_hot_with_the_gradient_of_a_softmax():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)), jnp.float32)
    draw = straight_through(KEY, logits, 0.7)
    assert set(np.unique(draw)) == {0, 1}
    assert (draw.sum(-1) == 1).all()
    noise = jax.random.gumbel(KEY, logits.shape)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(50, 4)), jnp.float32)
    found = jax.grad(lambda x: (weight * straight_through(KEY, x, 0.7)).sum())(logits)
    p = np.exp((logits + noise) / 0.7)
    p = p / p.sum(-1, keepdims=True)
    # d p_i / d logit_j = p_i (1[i = j] - p_j) / temperature
    by_hand = p * (weight - (p * weight).sum(-1, keepdims=True)) / 0.7
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_draws_have_the_probabilities_of_the_softmax():
    logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
    draws = straight_through(KEY, jnp.broadcast_to(logits, (40_000, 3)), 3.0)
    np.testing.assert_allclose(draws.mean(0), [0.1, 0.6, 0.3], atol=0.01)


# The joint action.


def test_what_all_do_is_seen_one_hot_and_goes_back():
    env = make(Hunt())
    found = sharing.teams(maddpg.Config(), env)
    action = jnp.array([[0, 1, 2], [1, 1, 0]])
    taken = joint.of_buffer(found, action)
    np.testing.assert_array_equal(taken[0], [[[1, 0], [0, 1]], [[0, 1], [0, 1]]])
    np.testing.assert_array_equal(taken[1], [[[0, 0, 1]], [[1, 0, 0]]])
    np.testing.assert_array_equal(joint.to_buffer(env, found, taken), action)
    own = jnp.full((2, 2, 2), 7.0)
    seen = joint.as_seen(taken, 0, own)
    np.testing.assert_array_equal(seen[0], [[7, 7, 0, 1, 0, 0, 1], [1, 0, 7, 7, 0, 0, 1]])
    np.testing.assert_array_equal(joint.as_seen(taken, 1)[0], [[1, 0, 0, 1, 0, 0, 1]])


def test_several_choices_of_one_player_are_seen_one_after_the_other():
    env = make(Odd(actions=MultiDiscrete((2, 3))))
    (group,) = found = sharing.teams(maddpg.Config(), env)
    action = jnp.array([[1, 2], [0, 1]])
    taken = joint.of_buffer(found, action)
    np.testing.assert_array_equal(taken[0][:, 0], [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]])
    np.testing.assert_array_equal(joint.to_buffer(env, found, taken), action)
    draw = joint.propose(group, jnp.zeros((3, 1, 5)), KEY, 1.0)
    np.testing.assert_array_equal(draw[..., :2].sum(-1), np.ones((3, 1)))
    np.testing.assert_array_equal(draw[..., 2:].sum(-1), np.ones((3, 1)))


# Targets.


def linear(layer, x):
    return np.asarray(x, float) @ np.asarray(layer["kernel"], float) + np.asarray(layer["bias"])


def np_q(critic, player, count, x):
    """Values [count, B] of a player's linear critics: its rows of stacked parameters."""
    (stacked,) = critic["params"].values()
    layer = jax.tree.map(lambda y: y if player is None else y[player], stacked["q"])
    each = [jax.tree.map(lambda y, c=c: y[c], layer) for c in range(count)]
    return np.stack([linear(one, x)[:, 0] for one in each])


def meet_batch():
    """Three steps of `Meet` as if it went on: one in the middle, a cut one, an end."""
    obs = np.array([[[1.0], [1.0]], [[-1.0], [1.0]], [[1.0], [1.0]]])
    next_obs = np.array([[[-1.0], [1.0]], [[0.5], [1.0]], [[9.0], [9.0]]])
    action = np.array([[0.2, -0.4], [0.9, 0.1], [-0.3, 0.6]])
    rewards = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    b = Batch(
        obs, action, rewards.mean(1), np.array([0.8, 0.8, 0.0]), next_obs, np.ones(3),
        {"rewards": rewards},
    )  # fmt: skip
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), b)


@pytest.mark.parametrize(
    ("share", "count"),
    [
        (False, 1),
        (True, 2),
        pytest.param(False, 2, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
    ],
)
def test_the_target_is_the_one_by_hand(share, count):
    """Own rewards; the next actions of all by the copies; a cut row bootstraps, an end does not."""
    env = make(Meet())
    cfg, state = begin(env, share_parameters=share, critics=count, gamma=0.8)
    b, target = meet_batch(), other(state.learner.target, 1)
    actor, critic = target["players"]
    (y,) = maddpg.critic_target(cfg, env, target, b, KEY)
    nxt, expected = np.asarray(b.next_obs, float), np.zeros((3, 2))
    ids = np.eye(2)
    each = lambda i: None if share else i  # noqa: E731
    action = np.zeros((3, 2))
    for i in (0, 1):
        layer = jax.tree.map(lambda x, i=i: x if share else x[i], actor["params"]["actor"])
        seen = np.concatenate([nxt[:, i], np.tile(ids[i], (3, 1))], -1) if share else nxt[:, i]
        action[:, i] = np.tanh(linear(layer, seen)[:, 0])
    for i in (0, 1):
        x = np.concatenate([nxt[:, :, 0], np.tile(ids[i], (3, 1)), action], -1)
        q = np_q(critic, each(i), count, x).min(0)
        expected[:, i] = np.asarray(b.signals["rewards"])[:, i] + [0.8, 0.8, 0.0] * q
    np.testing.assert_allclose(y, expected, atol=1e-5)


def hunt_batch(**signals):
    """Steps of `Hunt`: hunter 0 leaves in the second row and is gone in the third; the fourth is an
    end for all."""
    t = np.arange(4.0)
    obs, next_obs = (
        {
            "hunters": np.stack([x, 10 + x], 1)[..., None] * np.ones(2),
            "prey": np.ones((4, 1, 3)) * (20 + x)[:, None, None],
            "global_state": np.tile(x[:, None], (1, 4)),
        }
        for x in (t, t + 1)
    )
    mask = np.tile(np.array([1, 1, 1, 1, 1, 0, 1], bool), (4, 1))
    rewards = np.array([[1, 2, 3], [4, 5, 6], [0, 8, 9], [0, 2, 1]])
    alive = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 1, 1]])
    leaves = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]])
    said = {"rewards": rewards, "alive": alive, "leaves": leaves} | signals
    floats = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
    seen = [Masked(jax.tree.map(floats, x), jnp.asarray(mask)) for x in (obs, next_obs)]
    action = jnp.array([[0, 1, 2], [1, 1, 0], [0, 0, 2], [1, 0, 0]])
    discount = floats([0.9, 0.9, 0.9, 0.0])
    said = jax.tree.map(floats, said)
    return Batch(seen[0], action, floats(rewards.mean(1)), discount, seen[1], jnp.ones(4), said)


def test_of_integers_the_target_is_at_one_hot_draws_of_the_copies():
    """Groups of different sizes; a global state; whoever leaves has no value after it."""
    env = make(Hunt())
    cfg, state = begin(env, gamma=0.9)
    target = other(state.learner.target, 2)

    def sure(actor, best):  # of what a policy gives, one entry is far above the others
        layer = actor["params"]["actor"]
        bias = 1e3 * jnp.asarray(best, jnp.float32)
        return {"params": actor["params"] | {"actor": layer | {"bias": bias}}}

    best = {"hunters": [[0, 1], [1, 0]], "prey": [[0, 2, 1]]}  # 1 is illegal for the prey
    target = {name: x._replace(actor=sure(x.actor, best[name])) for name, x in target.items()}
    b = hunt_batch()
    y = maddpg.critic_target(cfg, env, target, b, KEY)
    action = [0, 1, 1, 0, 0, 0, 1]
    rewards, ends = np.asarray(b.signals["rewards"]), np.array([0, 0, 0, 1])[:, None] > 0
    ends = ends | (np.asarray(b.signals["leaves"]) > 0)
    for name, numbers in {"hunters": (0, 1), "prey": (2,)}.items():
        for i, player in enumerate(numbers):
            rest = np.tile(np.concatenate([np.eye(3)[player], action]), (4, 1))
            x = np.concatenate([b.next_obs.obs["global_state"], rest], -1)
            q = np_q(target[name].critic, i, 1, x)[0]
            expected = rewards[:, player] + 0.9 * np.where(ends[:, player], 0, q)
            found = y[0 if name == "hunters" else 1][:, i]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


# Gradients.


def quadratic(env, **fields):
    """A config on `Meet`, and critics that are the game's reward, actors tanh(w o + c)."""
    cfg, state = begin(
        env, critic_hidden=(2,), critic_activation=jnp.square, output_coef=0.0, **fields
    )
    (name,) = state.learner.params["players"].critic["params"]
    # Inputs: s, 1, two of the player's number, a0, a1. Squares of a0 + a1 - 0.5 and a0 - 0.8 s.
    kernel = np.array([[0, -0.8], [0, 0], [0, 0], [0, 0], [1, 1], [1, 0]])
    layers = {
        "MLP_0": {"Dense_0": {"kernel": kernel, "bias": np.array([-0.5, 0])}},
        "q": {"kernel": np.array([[-1.0], [-0.5]]), "bias": np.zeros(1)},
    }
    like = state.learner.params["players"].critic["params"][name]
    layers = jax.tree.map(
        lambda x, y: jnp.broadcast_to(jnp.asarray(x, jnp.float32), y.shape), layers, dict(like)
    )
    actor = other(state.learner.params["players"].actor, 3)
    return cfg, maddpg.Params(actor, {"params": {name: layers}})


@pytest.mark.parametrize("others", ["buffer", "policy"])
def test_the_actor_s_gradient_is_that_of_the_reward(others):
    """grad J_0 = E[(1 - a0^2) s dr/da0] for its slope, with dr/da0 = -2 (a0 + a1 - 0.5)
    - (a0 - 0.8 s) at a0 = mu_0(s) and the other's action of the buffer, or of its policy."""
    env = make(Meet())
    cfg, params = quadratic(env, others=others)
    b = meet_batch()
    actions = joint.of_buffer(sharing.teams(cfg, env), b.action)
    if others == "policy":
        actions = central.policies(cfg, env, {"players": params}, b.obs, KEY)
    loss = lambda actor: maddpg.actor_loss(  # noqa: E731
        actor, cfg, env, 0, b, actions, params.critic, KEY
    )[0]
    found = jax.grad(loss)(params.actor)["params"]["actor"]
    w, c = (np.asarray(params.actor["params"]["actor"][x], float) for x in ("kernel", "bias"))
    s, own = np.asarray(b.obs[:, 0, 0], float), np.asarray(b.obs[..., 0], float)
    mu = np.stack([np.tanh(own[:, i] * w[i, 0, 0] + c[i, 0]) for i in (0, 1)], 1)
    other_a = np.asarray(b.action, float) if others == "buffer" else mu
    slopes = (
        -2 * (mu[:, 0] + other_a[:, 1] - 0.5) - (mu[:, 0] - 0.8 * s),
        -2 * (other_a[:, 0] + mu[:, 1] - 0.5),
    )
    for i, slope in enumerate(slopes):
        chain = -(1 - mu[:, i] ** 2) * slope
        np.testing.assert_allclose(found["kernel"][i, 0, 0], (chain * own[:, i]).mean(), rtol=1e-4)
        np.testing.assert_allclose(found["bias"][i, 0], chain.mean(), rtol=1e-4)


@pytest.mark.parametrize("others", ["buffer", "policy"])
def test_an_update_takes_the_others_actions_as_the_field_says(others):
    """By its effect: a step of SGD moves the actors along that gradient."""
    env = make(Meet())
    cfg, params = quadratic(env, others=others)
    still = {"critic_learning_rate": 0.0, "learning_rate": 0.1, "max_grad_norm": 1e9}
    cfg = dataclasses.replace(cfg, optimizer="sgd", **still)
    opt_state = descent.init(maddpg.optimizers(cfg), params)
    each = ({"players": x} for x in (params, params, opt_state))
    learner, b = maddpg.Learner(*each, jnp.zeros((), jnp.int32)), meet_batch()
    new, _, info = jax.jit(functools.partial(maddpg.update, cfg, env))(learner, b, KEY)
    actions = joint.of_buffer(sharing.teams(cfg, env), b.action)
    if others == "policy":
        actions = central.policies(cfg, env, {"players": params}, b.obs, KEY)
    loss = lambda actor: maddpg.actor_loss(  # noqa: E731
        actor, cfg, env, 0, b, actions, params.critic, KEY
    )[0]
    grads = jax.grad(loss)(params.actor)
    jax.tree.map(
        lambda now, old, g: np.testing.assert_allclose(now, old - 0.1 * g, atol=1e-6),
        new.params["players"].actor, params.actor, grads,
    )  # fmt: skip
    assert float(info["loss/policy"]) == pytest.approx(float(loss(params.actor)) / 2, rel=1e-5)
    jax.tree.map(
        lambda now, old, p: np.testing.assert_allclose(now, 0.99 * old + 0.01 * p, atol=1e-6),
        new.target, learner.target, new.params,
    )  # fmt: skip


@pytest.mark.parametrize("share", slow_of([False, True], True))
def test_rows_of_a_player_that_is_gone_move_nothing(share):
    env = make(Hunt())
    cfg, state = begin(env, share_parameters=share, hidden=(3,))
    update = jax.jit(functools.partial(maddpg.update, cfg, env))
    b = hunt_batch()
    rewards = b.signals["rewards"]
    gone = b._replace(signals=b.signals | {"rewards": rewards.at[2:, 0].set(1e6)})
    there = b._replace(signals=b.signals | {"rewards": rewards.at[0, 0].set(1e6)})
    one, two, three = (update(state.learner, x, KEY)[0].params for x in (b, gone, there))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    one, two, three = jax.tree.map(np.asarray, (one, two, three))
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), one, three)
    assert max(jax.tree.leaves(moved["hunters"].critic)) > 0
    if not share:  # an update of one player is its own alone
        assert max(jax.tree.leaves(moved["prey"])) == 0
        pairs = zip(*(jax.tree.leaves(tree["hunters"]) for tree in (one, three)), strict=True)
        for x, y in pairs:
            np.testing.assert_array_equal(x[1], y[1])


@pytest.mark.slow
def test_policies_and_copies_move_once_in_policy_delay_updates():
    env = make(Meet())
    cfg, state = begin(env, policy_delay=3, critics=2)
    update = jax.jit(functools.partial(maddpg.update, cfg, env))
    learner, b = state.learner, meet_batch()
    for n in range(1, 7):
        old = learner
        learner, _, _ = update(old, b, jax.random.fold_in(KEY, n))
        same = lambda x, y: all(map(np.array_equal, *map(jax.tree.leaves, (x, y))))  # noqa: E731
        now, before = learner.params["players"], old.params["players"]
        assert not same(now.critic, before.critic)
        assert same(now.actor, before.actor) == (n % 3 > 0)
        assert same(learner.target, old.target) == (n % 3 > 0)
        assert int(learner.opt_state["players"].actor[1][0].count[0]) == n // 3


# Games.


@pytest.mark.slow
def test_players_with_different_actions_learn_and_do_nothing_illegal():
    """An illegal action of the prey costs a million, while warming up, too."""
    env = make(Hunt())
    cfg = maddpg.Config(**SMALL | {"hidden": (4,)})
    total = 20 * maddpg.maddpg.steps_per_iter(cfg)
    train = jax.jit(functools.partial(jaxpg.train, jaxpg.maddpg, total_steps=total))
    state, metrics = train(cfg, env, KEY)
    returns = metrics["episode/return"]
    assert np.isfinite(returns).any()
    assert np.nanmin(returns) >= 0
    last = {k: float(x[-1]) for k, x in metrics.items() if not k.startswith("episode")}
    assert {"loss/q_hunters", "loss/policy_prey"} < last.keys()
    assert np.isfinite(list(last.values())).all()
    assert (jaxpg.evaluate(jaxpg.maddpg, cfg, env, state, KEY, episodes=4) >= 0).all()


@pytest.mark.parametrize("name", slow_of(["Pendulum-v1", "CartPole-v1"], "CartPole-v1"))
def test_one_player_is_a_game(name):
    """DDPG, or its like with integers: a critic that sees the one action there is."""
    env, cfg = jaxpg.make(name), maddpg.Config(**SMALL | {"hidden": (4,)})
    state, metrics = jax.eval_shape(
        lambda key: jaxpg.train(jaxpg.maddpg, cfg, env, key, 60), jax.random.key(0)
    )
    critic = state.learner.params["players"].critic["params"]
    width = {"Pendulum-v1": 3 + 1 + 1, "CartPole-v1": 4 + 1 + 2}[name]
    (stacked,) = critic.values()
    assert stacked["MLP_0"]["Dense_0"]["kernel"].shape == (1, 1, width, 4)
    assert metrics["loss/q"].shape == (10,)


def test_what_is_no_action_of_a_player_is_refused():
    env = make(Odd(actions=MultiBinary(3)))
    with pytest.raises(ValueError, match=r"maddpg.Config on Odd, whose actions are multi-binary"):
        maddpg.init(maddpg.Config(), env, KEY)
    with pytest.raises(ValueError, match=r"critics=3: allowed is"):
        maddpg.init(maddpg.Config(critics=3), make(Meet()), KEY)


MEET = maddpg.Config(
    num_envs=16, num_steps=1, buffer_size=20_000, learning_starts=500, batch_size=64,
    updates_per_step=0.0625, hidden=(64,), learning_rate=1e-2, critic_learning_rate=1e-2,
    learning_rate_schedule="linear", critic_learning_rate_schedule="linear", noise_std=0.3,
    output_coef=0.0, tau=0.05,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "seeds"), [(24_000, 1), pytest.param(64_000, 4, marks=pytest.mark.slow)]
)
def test_two_players_find_the_optimum_that_neither_finds_alone(steps, seeds):
    """Of the best return a gap of 5 % at most."""
    env, keys = make(Meet()), jax.random.split(KEY, seeds)
    train = jax.jit(jax.vmap(lambda key: jaxpg.train(jaxpg.maddpg, MEET, env, key, steps)[0]))
    states = train(keys)
    obs = jnp.array([[[-1.0], [1.0]], [[1.0], [1.0]]])
    for i in range(seeds):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        action = maddpg.act(MEET, env, state, obs, (), KEY, True)[0][..., 0]
        s, (a, b) = np.array([-1, 1]), np.asarray(action, float).T
        mean = (-np.square(a + b - 0.5) - 0.5 * np.square(a - 0.8 * s)).mean()
        assert Meet.optimum * 1.05 <= mean <= Meet.optimum
        assert a[1] - a[0] == pytest.approx(0.8 / 1.5, abs=0.1)
        assert a.mean() + b.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_a_state_of_shared_networks_is_a_fixed_point_of_step():
    cfg = with_horizon(maddpg.Config(**SMALL, share_parameters=True, critics=2), 100)
    init = functools.partial(initial_state, jaxpg.maddpg)
    begin = jax.eval_shape(init, cfg, make(Hunt()), KEY)
    after, _ = jax.eval_shape(maddpg.step, cfg, make(Hunt()), begin)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), begin) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )
