"""Models of the other players: what they see, what teaches them, and what they are worth."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import games
from jaxpg.core.spaces import MultiDiscrete
from jaxpg.loops import multi_agent, players
from jaxpg.loops.multi_agent import Batch
from jaxpg.nets import opponents
from tests.conftest import slow_of

KEY = jax.random.key(0)
ROCK_PAPER_SCISSORS = {"game": "rock_paper_scissors"}
TINY: dict[str, Any] = {
    **{"num_envs": 2, "num_steps": 4, "hidden": (4,), "memory_size": 4},
    **{"num_epochs": 1, "minibatches": 1, "learning_rate_schedule": "constant"},
}


class Mixed(environment.Environment):
    """Two players of two choices and one of three; the second leaves after the first step."""

    name, players, groups = "Mixed", 3, {"a": 2, "b": 1}  # type: ignore
    signals = "rewards", "alive", "leaves"
    default_params = ()  # type: ignore

    def reset_env(self, key, params):
        return self.observe(0), jnp.zeros((), jnp.int32)

    def step_env(self, key, state, action, params):
        rewards = action.astype(float)
        alive = jnp.array([True, False, True]) | (state == 0)
        leaves = jnp.array([False, True, False]) & (state == 0)
        info = {"rewards": rewards * alive, "alive": alive, "leaves": leaves}
        return self.observe(state + 1), state + 1, rewards.mean(), state >= 2, info

    def observe(self, state):
        seen = jnp.asarray(state, float)
        return {"a": jnp.full((2, 2), seen), "b": jnp.full((1, 1), seen)}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params=None):
        return MultiDiscrete([2, 2, 3])

    def observation_space(self, params=None):
        return spaces.Dict({"a": spaces.Box(0, 3, (2, 2)), "b": spaces.Box(0, 3, (1, 1))})


def mixed():
    core = Mixed()
    return E.Env(core.default_params, core)


def played(env, steps=8):
    """A rollout of random actions, [T, 2]."""
    nvec = jnp.array(env.action_space.nvec)

    def policy(obs, carry, key):
        return jax.random.randint(key, (2, len(nvec)), 0, nvec, jnp.int32), carry, ()

    state = E.reset(env, KEY, 2)
    return jax.jit(lambda s: E.rollout(env, policy, s, (), KEY, steps)[2])(state)


@pytest.mark.parametrize(
    "env",
    [jaxpg.make("Spread-jaxpg"), jaxpg.make("Pursuit-jaxpg"), mixed()],
    ids=lambda env: env.name,
)
def test_others_are_in_the_order_of_the_players(env):
    """For every player, against a loop over all others: what they did and what they can do."""
    t = played(env)
    here = t.signals["alive"] > 0 if "alive" in t.signals else np.ones(t.action.shape, bool)
    everybody, first = range(env.core.players), 0
    for group in games.groups(env):
        did = games.other_actions(env, group, t)
        assert did.dtype == jnp.int32
        for i in range(group.size):
            others = [j for j in everybody if j != first + i]
            nvec = tuple(env.action_space.nvec[j] for j in others)
            assert games.other_choices(env, group, "") == nvec
            for k, j in enumerate(others):
                expected = np.where(here[..., j], t.action[..., j], -1)
                np.testing.assert_array_equal(did[..., i, k], expected)
        first += group.size
    assert (here.all() and (did >= 0).all()) or env.name != "Spread-jaxpg"
    assert not here.all() or env.name != "Mixed", "a test of who has left"


def test_a_scripted_player_did_what_it_really_played():
    env = jaxpg.make("MatrixGame-jaxpg", opponent=[[0, 0, 1]], **ROCK_PAPER_SCISSORS)
    t, [group] = played(env), games.groups(env)
    assert not (t.action[..., 1] == 2).all()
    np.testing.assert_array_equal(games.other_actions(env, group, t)[..., 0, 0], 2)
    np.testing.assert_array_equal(games.other_actions(env, group, t)[..., 1, 0], t.action[..., 0])


def test_log_likelihood_by_hand():
    """Probabilities 0.2, 0.8 of one and 0.5, 0.3, 0.2 of another, who once did nothing."""
    logits = jnp.log(jnp.array([0.2, 0.8, 0.5, 0.3, 0.2])) + jnp.array([3, 3, -1, -1, -1])
    did = jnp.array([[1, 1], [0, -1]])
    found = opponents.log_likelihood((2, 3), jnp.stack([logits] * 2), did)
    np.testing.assert_allclose(found, np.log([[0.8, 0.3], [0.2, 1.0]]), rtol=1e-6)
    np.testing.assert_allclose(opponents.expect((2, 3), logits), [0.2, 0.8, 0.5, 0.3, 0.2], 1e-6)


def batch_of(cfg, env, name="players", steps=5):
    """The network of a group, random parameters, and a batch of made-up data, [T, 2] or [2 T]."""
    [group] = [g for g in games.groups(env) if g.name == name]
    net, pi = players.network(cfg, env, group)
    lead = (steps, 2) if players.in_sequences(cfg) else (2 * steps,)
    rng = np.random.default_rng(0)
    obs = jnp.asarray(rng.normal(size=(*lead, *group.env.obs_shapes[0])), float)
    params = jax.jit(net.init)(KEY, obs[0][:1] if len(lead) > 1 else obs[:1])
    params = jax.tree.map(lambda x: x + 0.3 * jnp.asarray(rng.normal(size=x.shape), float), params)
    carry = multi_agent.empty_carry(net, params, obs[0] if len(lead) > 1 else obs)
    carry = jax.tree.map(lambda x: x[None], carry)
    numbers = jnp.asarray(rng.normal(size=(4, *lead)), float)
    ones = jnp.ones(lead, bool)
    choices: tuple = net.choices  # type: ignore
    others = jnp.asarray(rng.integers(0, choices, (*lead, len(choices))), jnp.int32)
    draw = jnp.asarray(rng.integers(0, 2, lead), jnp.int32)
    batch = Batch(obs, carry, jnp.zeros(lead, bool), draw, *numbers, ones, others)
    return net, pi, params, batch


def gradient(cfg, net, pi, params, batch):
    def loss(params, batch):
        return multi_agent.loss(params, cfg, net, pi, batch, KEY)[0]

    return jax.jit(jax.grad(loss))(params, batch)["params"]


@pytest.mark.parametrize("model", slow_of(["mlp", "gru"], "mlp"))
def test_policy_and_model_do_not_teach_each_other(model):
    """Without a word of what others did the model has no gradient, and with it the policy's and
    the critic's are the same to the last bit; so are their steps, although norms are clipped."""
    cfg = jaxpg.ippo.Config(**TINY, opponent_model=model, max_grad_norm=0.01)
    net, pi, params, batch = batch_of(cfg, jaxpg.make("Spread-jaxpg"))
    both = gradient(cfg, net, pi, params, batch)
    alone = gradient(cfg, net, pi, params, batch._replace(others=-jnp.ones_like(batch.others)))
    assert set(both) > {"inner"}
    for name, leaves in both.items():
        pairs = zip(*map(jax.tree.leaves, (leaves, alone[name])), strict=True)
        for x, y in pairs:
            np.testing.assert_array_equal(x if name == "inner" else 0, y)
        assert max(abs(x).max() for x in jax.tree.leaves(leaves)) > 0, name
    opt = multi_agent.optimizer(cfg)
    update = jax.jit(lambda grads: opt.update({"params": grads}, opt.init(params), params)[0])
    steps = [update(x) for x in (both, alone)]
    pairs = zip(*(jax.tree.leaves(x["params"]["inner"]) for x in steps), strict=True)  # type: ignore
    for x, y in pairs:
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["ippo", "mappo"])
def test_the_prediction_is_in_the_input(name):
    """The model's parameters alone change what the policy says. The critic of `ippo` sees the
    prediction too, that of `mappo` sees all and has no need of it."""
    env = jaxpg.make("Spread-jaxpg")
    cfg = getattr(jaxpg, name).Config(**TINY, opponent_model="mlp")
    [group] = players.teams(cfg, env)
    net, pi = players.network(cfg, env, group)
    obs = players.observe(cfg, env, group, E.reset(env, KEY, 2).obs)
    params = jax.jit(net.init)(KEY, jax.tree.map(lambda x: x[0], obs))
    shapes = net.inner.obs_shapes  # type: ignore
    assert shapes == ((18 + 3 + 2 * 5,),), "what is seen, who sees it, two others' choices"
    own, of_model = params["params"]["inner"], dict(params["params"])
    of_model["Dense_0"] = jax.tree.map(lambda x: x + jnp.arange(10.0), of_model["Dense_0"])
    said = []
    for x in (params, {"params": of_model}):
        out, value, _ = jax.jit(net.apply)(x, obs)
        policy, logits = opponents.split_out(pi, out)
        q = opponents.expect((5, 5), logits)
        np.testing.assert_allclose(q[..., :5].sum(-1), 1, rtol=1e-6)
        of_inner = obs.obs if name == "mappo" else obs
        whole = jnp.concatenate([of_inner, q], -1)
        whole = obs._replace(obs=whole) if name == "mappo" else whole
        same, of_critic, _ = jax.jit(net.inner.apply)({"params": own}, whole)  # type: ignore
        np.testing.assert_allclose(policy, same, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(value, of_critic, rtol=1e-5, atol=1e-6)
        said.append((policy, value))
    (first, of_first), (last, of_last) = said
    assert abs(first - last).max() > 1e-3
    assert (abs(of_first - of_last).max() > 1e-3) == (name == "ippo")


@pytest.mark.slow
def test_a_model_that_remembers_acts_as_it_learns():
    """One step at a time, emptied where an episode begins, and as whole sequences."""
    cfg = jaxpg.ippo.Config(**TINY, opponent_model="gru", memory="gru")
    net, _, params, batch = batch_of(cfg, mixed(), "a", steps=6)
    start = jnp.zeros((6, 2), bool).at[3, 0].set(True)
    apply = jax.jit(net.apply)
    out, value, carry = apply(params, batch.obs, batch.carry, start)
    now = jax.tree.map(lambda x: x[0], batch.carry)
    for t in range(6):
        now = jax.tree.map(lambda x, t=t: jnp.where(start[t][:, None], 0, x), now)
        one, v, now = apply(params, batch.obs[t], now)
        np.testing.assert_allclose(one, out[t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(v, value[t], rtol=1e-5, atol=1e-6)
    pairs = zip(*map(jax.tree.leaves, (carry, now)), strict=True)
    for x, y in pairs:
        np.testing.assert_allclose(x[-1], y, rtol=1e-5, atol=1e-6)
    forgot = apply(params, batch.obs, batch.carry, jnp.zeros_like(start))[0]
    assert abs(forgot - out)[3:, 0, 2:].max() > 1e-4, "the model's own memory is emptied"


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("ippo", False),
        pytest.param("mappo", True, marks=pytest.mark.slow),
        pytest.param("ippo", True, marks=pytest.mark.slow),
        pytest.param("mappo", False, marks=pytest.mark.slow),
    ],
)
def test_the_metric_is_of_the_model_that_has_not_seen_the_data(name, shared):
    """A player that always plays the third, expected there with 0.1: -log 0.1 nats, before an
    iteration that learns. Its own network, which learns nothing, is no part of the mean."""
    env = jaxpg.make("MatrixGame-jaxpg", opponent=[[0, 0, 1]], **ROCK_PAPER_SCISSORS)
    agent = getattr(jaxpg, name)
    cfg = agent.Config(**TINY, opponent_model="mlp", share_parameters=shared, learning_rate=0.1)
    state = jax.jit(functools.partial(agent.init, cfg, env))(KEY)
    learner = state.learners["players"]
    tree = learner.params["params"]
    bias = jnp.zeros_like(tree["Dense_0"]["bias"]) + jnp.log(jnp.array([0.7, 0.2, 0.1]))
    kernel = jnp.zeros_like(tree["Dense_0"]["kernel"])
    tree = tree | {"Dense_0": {"bias": bias, "kernel": kernel}}
    state = state._replace(learners={"players": learner._replace(params={"params": tree})})
    predict = jax.jit(functools.partial(players.predict_others, cfg, env))
    [q] = predict(state, state.env.obs)["players"]
    np.testing.assert_allclose(q, jnp.broadcast_to(jnp.array([0.7, 0.2, 0.1]), (2, 2, 3)), 1e-5)
    after, metrics = jax.jit(functools.partial(agent.step, cfg, env))(state)
    np.testing.assert_allclose(metrics["opponents/cross_entropy"], -np.log(0.1), rtol=1e-5)
    [q] = predict(after, state.env.obs)["players"]
    assert (q[:, 0, 2] > 0.11).all()


def test_who_has_left_is_neither_modelled_nor_models():
    """Of three players the second leaves after one step of three: uniform models say log 2 of a
    player of two choices, log 3 of one of three, and are asked of pairs that were there."""
    env = mixed()
    cfg = jaxpg.ippo.Config(**(TINY | {"num_steps": 3}), opponent_model="mlp")
    state = jax.jit(functools.partial(jaxpg.ippo.init, cfg, env))(KEY)

    def uniform(learner):
        tree = learner.params["params"]
        zeros = jax.tree.map(jnp.zeros_like, tree["Dense_0"])
        return learner._replace(params={"params": tree | {"Dense_0": zeros}})

    state = state._replace(learners={k: uniform(x) for k, x in state.learners.items()})
    _, metrics = jax.jit(functools.partial(jaxpg.ippo.step, cfg, env))(state)
    # Of group a: (0, 1), (0, 2), (1, 0), (1, 2) once, and then (0, 2) twice.
    of_a = (2 * np.log(2) + 4 * np.log(3)) / 6
    np.testing.assert_allclose(metrics["opponents/cross_entropy_a"], of_a, rtol=1e-6)
    np.testing.assert_allclose(metrics["opponents/cross_entropy_b"], np.log(2), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "game", "options"),
    [
        pytest.param(
            "mappo", "Spread-jaxpg", {"opponent_model": "mlp", "memory": "gru"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "ippo", "Spread-jaxpg", {"opponent_model": "mlp", "share_parameters": False},
            marks=pytest.mark.slow,
        ),
        ("ippo", "Kuhn-jaxpg", {"opponent_model": "gru", "share_parameters": False}),
        pytest.param(
            "mappo", "Pursuit-jaxpg", {"opponent_model": "gru", "normalize_obs": True},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "mappo", mixed(), {"opponent_model": "mlp", "memory": "gru", "normalize_obs": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["Spread", "Spread of many", "Kuhn", "Pursuit", "Mixed"],
)  # fmt: skip
def test_games_of_every_kind(name, game, options):
    """Three players and more, groups, masks, memories, seeds side by side: all is finite, the model
    begins as one that knows nothing, and learns from the first data."""
    agent = getattr(jaxpg, name)
    env = jaxpg.make(game) if isinstance(game, str) else game
    cfg = agent.Config(**TINY, **options)
    train = jax.jit(jax.vmap(lambda key: jaxpg.train(agent, cfg, env, key, 24)))
    state, metrics = train(jax.random.split(KEY, 2))
    said = {k: np.asarray(x) for k, x in metrics.items() if "cross_entropy" in k}
    assert len(said) == len(games.groups(env))
    for x in said.values():
        assert x.shape == (2, 3)
        assert (abs(x - np.log(max(env.action_space.nvec))) < 0.5).all()
    judge = functools.partial(jaxpg.evaluate, agent, cfg, env, episodes=2, max_steps=3)
    returns = jax.jit(jax.vmap(lambda state: judge(state, KEY)))(state)
    assert returns.shape == (2, 2)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.learners))


@pytest.mark.slow  # its quick twin: the contract's, of every agent
def test_a_resumed_run_is_the_whole_one(tmp_path):
    env = jaxpg.make("MatrixGame-jaxpg", opponent=[[0.5, 0.3, 0.2]], **ROCK_PAPER_SCISSORS)
    cfg = jaxpg.ippo.Config(**TINY, opponent_model="gru")
    run = functools.partial(jaxpg.run, jaxpg.ippo, cfg, env, KEY, evaluations=1)
    whole = run(total_steps=32)
    run(total_steps=16, out=tmp_path / "run")
    resumed = jaxpg.resume(tmp_path / "run", total_steps=32)
    pairs = zip(*(jax.tree.leaves(x.state.learners) for x in (whole, resumed)), strict=True)
    for x, y in pairs:
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        (jaxpg.make("Spread-jaxpg", continuous=True), "continuous"),
        (jaxpg.make("CartPole-v1"), "one player"),
    ],
    ids=["continuous", "one player"],
)
def test_what_has_no_others_or_no_choices_is_refused(env, kind):
    cfg = jaxpg.ippo.Config(**TINY, opponent_model="mlp")
    with pytest.raises(ValueError, match="discrete") as error:
        jaxpg.run(jaxpg.ippo, cfg, env, KEY, total_steps=8)
    assert f"ippo.Config opponent_model='mlp' on {env.name}: allowed is 'none'" in str(error.value)


def test_without_a_model_nothing_is_predicted():
    env = jaxpg.make("MatrixGame-jaxpg")
    cfg = jaxpg.ippo.Config(**TINY)
    state = jaxpg.ippo.init(cfg, env, KEY)
    with pytest.raises(ValueError, match="opponent_model='none'"):
        players.predict_others(cfg, env, state, state.env.obs)
    _, metrics = jax.eval_shape(functools.partial(jaxpg.ippo.step, cfg, env), state)
    assert "loss/policy" in metrics
    assert "opponents/cross_entropy" not in metrics


def learn_fixed(seeds, total_steps, **options):
    """Against (0.5, 0.3, 0.2): the exact cross-entropy [seeds], and what is played [seeds]."""
    truth = [0.5, 0.3, 0.2]
    env = jaxpg.make("MatrixGame-jaxpg", opponent=[truth], **ROCK_PAPER_SCISSORS)
    cfg = jaxpg.ippo.Config(opponent_model="mlp", num_envs=16, num_steps=32, **options)

    def learn(key):
        state, _ = jaxpg.train(jaxpg.ippo, cfg, env, key, total_steps)
        obs = state.env.obs[:1]
        [q] = players.predict_others(cfg, env, state, obs)["players"]
        action, _ = jaxpg.ippo.act(cfg, env, state, obs, (), key, True)
        return -(jnp.array(truth) * jnp.log(q[0, 0])).sum(), action[0, 0]

    return jax.jit(jax.vmap(learn))(jax.random.split(KEY, seeds))


@pytest.mark.slow
def test_a_fixed_player_is_found_out_soon():
    cross_entropy, action = learn_fixed(2, 20_000, hidden=(4,), learning_rate=3e-3)
    np.testing.assert_array_less(cross_entropy, 1.0325)
    np.testing.assert_array_equal(action, 1)


@pytest.mark.slow
def test_a_fixed_player_is_found_out():
    """The floor is its entropy, 1.02965 nats; the answer is paper."""
    cross_entropy, action = learn_fixed(8, 100_000, hidden=(16,))
    np.testing.assert_array_less(cross_entropy, 1.030)
    np.testing.assert_array_less(1.02965, cross_entropy)
    np.testing.assert_array_equal(action, 1)
