"""IPPO and MAPPO: advantages against loops, gradients against exact payoffs, symmetries."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import games
from jaxpg.core.games import Rows
from jaxpg.envs.games import matrix
from jaxpg.loops import multi_agent, players
from jaxpg.loops.multi_agent import Batch, Experience, Learner, Seen
from jaxpg.loops.sharing import teams
from jaxpg.ops import games as exact
from tests import small_games
from tests.conftest import slow_of

T, N, P, D = 6, 3, 2, 3
KEY = jax.random.key(0)
PLAIN = {"normalize_advantage": False, "entropy_coef": 0.0, "value_coef": 0.0}


class Linear:
    """A network whose value is linear in the observation, and whose logits are its parameters."""

    def init(self, key):
        return {"value": jax.random.normal(key, (D,)), "logits": jnp.zeros(4)}

    def apply(self, params, obs, carry=(), start=None):
        logits = jnp.broadcast_to(params["logits"], (*obs.shape[:-1], 4))
        return logits + obs.sum(-1, keepdims=True) * jnp.arange(4), obs @ params["value"], carry


def random_rows(seed=0):
    """Rows [T, N, P] of a rollout: environment 1 terminates at step 2, 2 is cut at step 3, and in
    environment 0 player 1 leaves at step 1."""
    rng = np.random.default_rng(seed)
    obs, next_obs = (jnp.asarray(rng.normal(size=(T, N, P, D)), float) for _ in range(2))
    terminated, truncated = np.zeros((2, T, N, P), bool)
    terminated[2, 1], truncated[3, 2], terminated[1, 0, 1] = True, True, True
    alive = np.ones((T, N, P), bool)
    alive[2:, 0, 1] = False
    reward = jnp.asarray(rng.normal(size=(T, N, P)) * alive, float)
    rows = Rows(reward, *map(jnp.asarray, (terminated, truncated, alive)))
    draw = jnp.asarray(rng.integers(0, 4, (T, N, P)), jnp.int32)
    seen = Seen(draw, jnp.asarray(rng.normal(size=(T, N, P)) - 1.4, float), ())
    return Experience(obs, next_obs, rows, seen)


def learner_of(cfg, count=None):
    def begin(key):
        params = Linear().init(key)
        return Learner(params, multi_agent.optimizer(cfg).init(params), (), ())

    return begin(KEY) if count is None else jax.vmap(begin)(jax.random.split(KEY, count))


def test_advantages_are_those_of_every_player_in_every_environment():
    """With three environments and two players the two orders of merging them differ."""
    cfg = jaxpg.ippo.Config(gamma=0.9, gae_lambda=0.7, normalize_advantage=False)
    learner, data = learner_of(cfg), random_rows()
    merged = jax.tree.map(multi_agent.merge_players, data)
    batch, *_ = multi_agent.evaluate_rows(cfg, Linear(), pi(), P, learner, merged)
    obs, next_obs, rows, *_ = jax.tree.map(np.asarray, data)
    w = np.asarray(learner.params["value"])
    expected = np.zeros((T, N, P))
    for n, p in itertools.product(range(N), range(P)):
        ahead = 0.0
        for t in reversed(range(T)):
            ended = rows.terminated[t, n, p] or rows.truncated[t, n, p]
            successor = 0.0 if rows.terminated[t, n, p] else next_obs[t, n, p] @ w
            delta = rows.reward[t, n, p] + 0.9 * successor - obs[t, n, p] @ w
            ahead = delta + (0.0 if ended else 0.9 * 0.7 * ahead)
            expected[t, n, p] = ahead
    found = batch.advantage.reshape(T, N, P)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    other_order = np.swapaxes(np.asarray(batch.advantage).reshape(T, P, N), 1, 2)
    assert np.abs(other_order - expected).max() > 0.1, "a test of the order"


@pytest.mark.parametrize("shared", slow_of([True, False], False))
def test_to_permute_the_players_is_to_permute_what_they_learn(shared):
    cfg = jaxpg.ippo.Config(num_epochs=1, minibatches=1, learning_rate=0.1, share_parameters=shared)
    data, turned = random_rows(), jax.tree.map(lambda x: x[:, :, ::-1], random_rows())
    one = learner_of(cfg, None if shared else P)
    flipped = one if shared else jax.tree.map(lambda x: x[::-1], one)
    found, _ = multi_agent.learn_group(cfg, Linear(), pi(), P, one, data, KEY)
    same, _ = multi_agent.learn_group(cfg, Linear(), pi(), P, flipped, turned, KEY)
    same = same if shared else jax.tree.map(lambda x: x[::-1], same)
    moved = np.abs(found.params["logits"] - one.params["logits"]).max()
    assert moved > 0.01
    for x, y in zip(*(jax.tree.leaves(z.params) for z in (found, same)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_a_player_that_is_not_there_changes_nothing():
    """Its observations, rewards and actions may be anything."""
    cfg = jaxpg.ippo.Config(num_epochs=1, minibatches=1, learning_rate=0.1)
    data, noise = random_rows(), random_rows(seed=1)
    wider = jax.tree.map(lambda x, y: jnp.concatenate([x, y[:, :, :1]], 2), data, noise)
    nobody = wider.rows.alive.at[:, :, P].set(False)
    wider = wider._replace(rows=wider.rows._replace(alive=nobody))
    learner = learner_of(cfg)
    found, of_two = multi_agent.learn_group(cfg, Linear(), pi(), P, learner, data, KEY)
    same, of_three = multi_agent.learn_group(cfg, Linear(), pi(), P + 1, learner, wider, KEY)
    assert np.abs(found.params["logits"] - learner.params["logits"]).max() > 0.01
    pairs = zip(*map(jax.tree.leaves, ((found, of_two), (same, of_three))), strict=True)
    for x, y in pairs:
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def pi():
    """The head of four actions."""
    env = jaxpg.make("MatrixGame-jaxpg", payoffs=np.zeros((2, 4, 4)).tolist())
    return players.network(jaxpg.ippo.Config(), env, games.groups(env)[0])[1]


# Opposed goals, and mixed motives; the others are in the slow part.
QUICK = {("ippo", "matching_pennies"), ("mappo", "chicken")}
BOTH = list(itertools.product(("ippo", "mappo"), matrix.GAMES))


@pytest.mark.parametrize(
    ("name", "game"),
    [x if x in QUICK else pytest.param(*x, marks=pytest.mark.slow) for x in BOTH],
)
def test_the_expected_gradient_is_the_derivative_of_the_exact_payoff(name, game):
    """By enumeration of all joint actions, of a random policy and with a critic that is wrong: the
    derivative of each player's own payoff by its own logits."""
    with jax.enable_x64(True):
        agent, env = getattr(jaxpg, name), jaxpg.make("MatrixGame-jaxpg", game=game)
        cfg = agent.Config(hidden=(2,), share_parameters=False, num_envs=1, num_steps=4, **PLAIN)
        found, exactly = expected_gradient(agent, cfg, env)
    assert np.abs(exactly).max() > 0.01
    np.testing.assert_allclose(found, exactly, atol=1e-6)


def expected_gradient(agent, cfg, env):
    """Gradients by the biases of the policies' last layer, which are logits: [P, n] each."""
    payoffs, count = env.core.payoffs(env.params), env.core.players
    [group] = teams(cfg, env)
    net, head = players.network(cfg, env, group)
    begin = jax.jit(lambda key: agent.init(cfg, env, key))(KEY)
    noise = jax.random.split(jax.random.key(1), 100)
    params = jax.tree.map(
        lambda x: x + jax.random.normal(noise[x.size % 100], x.shape, x.dtype),
        begin.learners[group.name].params,
    )
    obs = players.observe(cfg, env, group, E.reset(env, KEY, 1).obs)  # [1, P, ...]
    out, value, _ = jax.jit(jax.vmap(net.apply, (0, 1), 1))(params, obs)
    strategies = list(jax.nn.softmax(out[0]))

    @jax.jit
    def gradient(params, batch):
        loss = lambda p, b: multi_agent.loss(p, cfg, net, head, b, KEY)[0]  # noqa: E731
        return jax.vmap(jax.grad(loss), (0, 1))(params, batch)

    total = 0.0
    for actions in itertools.product(*map(range, env.core.nvec)):
        probability = np.prod([p[a] for p, a in zip(strategies, actions, strict=True)])
        draw = jnp.asarray(actions)[None]  # [1, P]
        advantage = payoffs[(slice(None), *actions)][None] - value
        old = jax.vmap(head.log_prob, 1, 1)(out, draw)
        ones = jnp.ones((1, count), bool)
        batch = Batch(obs, (), ~ones, draw, old, value, advantage, value, ones, ())
        grad = gradient(params, batch)
        total += probability * grad["params"]["actor"]["bias"]
    wanted = exact.policy_gradient(payoffs, list(jax.nn.log_softmax(out[0])))
    return -np.asarray(total), np.asarray(jnp.stack(wanted))


def test_rewards_of_all_are_summed_by_player():
    """In the prisoners' dilemma who confesses gets 0, and who does not -3: returns tell them apart,
    and the environment's own is the mean."""
    env = jaxpg.make("MatrixGame-jaxpg", game="prisoners", rounds=4)
    policy = lambda obs, carry, key: (jnp.array([[0, 1]] * 2), carry, ())  # noqa: E731
    state = E.reset(env, KEY, 2)
    *_, metrics = jax.jit(lambda s: E.rollout(env, policy, s, (), KEY, 8))(state)
    returns = {k: float(v) for k, v in metrics.items() if "return" in k}
    assert returns == {
        "episode/return": -6.0, "episode/return_0": -12.0, "episode/return_1": 0.0
    }  # fmt: skip


def test_players_of_a_kind_that_share_a_network_are_told_who_they_are():
    env = jaxpg.make("Spread-jaxpg")
    [group] = games.groups(env, with_id=True)
    obs = E.reset(env, KEY, 2).obs
    own = group.env.core.observe(obs)
    assert own.shape == (2, 3, 21)
    np.testing.assert_array_equal(own[..., :18], obs)
    np.testing.assert_array_equal(own[..., 18:], [np.eye(3)] * 2)
    assert group.env.example_obs.shape == (21,)
    assert group.env.discrete
    assert group.env.action_space.n == 5


def test_a_central_critic_sees_what_all_see_and_whose_value_is_asked_for():
    env = jaxpg.make("Spread-jaxpg")
    [group] = games.groups(env)
    obs = E.reset(env, KEY, 2).obs
    seen = games.central_observation(env, obs, group)
    assert seen.shape == (2, 3, 57)
    for p in range(3):
        np.testing.assert_array_equal(seen[:, p, :54], obs.reshape(2, -1))
        np.testing.assert_array_equal(seen[:, p, 54:], np.eye(3)[[p, p]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": ()}, "has the signals (): allowed here is one 'rewards' of shape (2,)"),
        ({"groups": {"a": 1, "b": 2}}, "allowed are 2 players in all"),
        ({"_observe": lambda state: jnp.zeros((3, 1))}, "players have shape (3, 1)"),
        ({"nvec": (3, 2), "_observe": lambda state: jnp.zeros((2, 1))}, "alike in a group"),
        ({"groups": ["a", "b"]}, "groups=['a', 'b']: allowed are 2 players in all"),
        ({"groups": {"a": 2.0}}, "integers >= 1"),
        ({"groups": {"a": 2, "b": 0}}, "integers >= 1"),
        ({"players": None}, "players=None: allowed is an integer >= 1"),
        (
            {"groups": {"a": 1, "b": 1}, "_observe": lambda state: jnp.zeros((2, 1))},
            "is of shape (2, 1): allowed is a dict of ['a', 'b']",
        ),
        ({"_observe": lambda state: jnp.zeros(2)}, "players have shape (2,), allowed is [2, D]"),
        ({"signals": ("rewards", "alive"), "players": 3}, "an entry for each of the 3 players"),
    ],
)
def test_what_is_no_game_is_refused(change, message):
    core = matrix.MatrixGame("prisoners", rounds=1)
    core._judge = lambda params: None
    vars(core).update(change)
    with pytest.raises(ValueError, match="allowed") as error:
        games.groups(E.Env(core.default_params, core))
    assert message in str(error.value)


def changed_hunt(**change):
    """The hunt, with other entries of its observation or of its `info`."""
    core = small_games.Hunt()
    observe, step, space = core._observe, core.step_env, core.observation_space
    inner = {name: x for name, x in change.items() if name not in core.signals}

    def other_step(*args):
        *first, info = step(*args)
        told = {name: x for name, x in change.items() if name in core.signals}
        return *first, info | told

    def other_space(params):
        boxes = {k: spaces.Box(-1.0, 1.0, jnp.shape(x)) for k, x in inner.items()}
        return spaces.Dict(space(params).spaces | boxes)

    core._observe = lambda state: observe(state) | inner
    core.step_env, core.observation_space = other_step, other_space
    return core


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"foxes": jnp.zeros((2, 3))}, "allowed are ['hunters', 'prey'], 'action_mask' and"),
        ({"global_state": jnp.zeros((2, 3))}, "global_state is (2, 3): allowed is one array"),
        ({"prey": jnp.zeros((3, 1))}, "observations of prey have shape (3, 1), allowed is [1, D]"),
        ({"action_mask": jnp.ones(3)}, "action_mask of shape (3,): allowed is (7,)"),
        ({"alive": jnp.ones(())}, "signal 'alive' of shape (): allowed is (3,)"),
        ({"leaves": jnp.ones(2)}, "signal 'leaves' of shape (2,): allowed is (3,)"),
        ({"rewards": jnp.ones((3, 1))}, "signal 'rewards' of shape (3, 1): allowed is (3,)"),
    ],
)
def test_what_a_game_of_groups_gets_wrong_is_named(change, message):
    core = changed_hunt(**change)
    with pytest.raises(ValueError, match="allowed") as error:
        games.groups(E.Env(core.default_params, core))
    assert message in str(error.value)


@pytest.mark.parametrize("name", slow_of(["ippo", "mappo"], "mappo"))
def test_every_environment_is_a_game_of_one_player(name):
    """Alone, all critics are central and all parameters are one's own."""
    agent, env = getattr(jaxpg, name), jaxpg.make("Cliff-jaxpg")
    small = agent.Config(num_envs=2, num_steps=4, minibatches=1, hidden=(3,))
    train = jax.jit(jaxpg.train, static_argnums=(0, 4))
    returns = []
    for shared in (True, False):
        cfg = dataclasses.replace(small, share_parameters=shared)
        state, metrics = train(agent, cfg, env, KEY, 32)
        returns.append(metrics["episode/length"])
        assert jaxpg.evaluate(agent, cfg, env, state, KEY, episodes=2, max_steps=5).shape == (2,)
    assert returns[0].shape == returns[1].shape == (4,)
