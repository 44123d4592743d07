"""Torsos against NumPy, and the switches that change how a network learns."""

import dataclasses
import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxpg
from jaxpg import agents
from jaxpg.core.choices import ACTIVATIONS
from jaxpg.core.train import initial_state
from jaxpg.loops import replay
from jaxpg.nets import values
from jaxpg.nets.actor_critic import ActorCritic, actor_critic
from jaxpg.nets.networks import CNN, MLP, STATISTICS, Conv, learning, running  # fmt: skip
from tests.conftest import CONTINUOUS, INSTALLED, TINY, short_env, slow_of

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
NETWORKS = [name for name in INSTALLED if hasattr(agents.get(name).Config, "kernel_init")]
DROPS = ("ddpg", "td3", "sac", "dqn")
EPS = 1e-5  # flax's, in batch norm


class Torso(nn.Module):
    """A user's own, with none of the switches."""

    hidden: tuple
    activation: str
    kernel_init: str

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(self.hidden[0])(x))


def normals(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def numpy(tree):
    return jax.tree.map(np.asarray, tree)


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(a, b, atol=atol)


# Torsos.


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (4, 2), (2, 2), (6, 3)])
def test_convolution_is_the_sum_under_the_kernel(k, stride):
    x = normals(2, 7, 6, 3)
    net = Conv(5, k, stride)
    variables = net.init(KEY, x)
    variables["params"]["bias"] = normals(5)
    w = np.asarray(variables["params"]["kernel"]).reshape(k, k, 3, 5)
    rows, cols = (7 - k) // stride + 1, (6 - k) // stride + 1
    expected = np.zeros((2, rows, cols, 5))
    for i in range(rows):
        for j in range(cols):
            under = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            expected[:, i, j] = np.einsum("bhwc,hwcf->bf", under, w)
    close(net.apply(variables, x), expected + variables["params"]["bias"])
    whole = np.round(10 * x).astype(np.int8)  # images may be of integers
    assert net.apply(variables, whole).dtype == "float32"
    close(net.apply(variables, whole), net.apply(variables, whole.astype(np.float32)))


@pytest.mark.parametrize(
    ("image", "into_mlp"), [((10, 10, 4), 8 * 8 * 16), ((84, 84, 4), 7 * 7 * 64), ((6,), 6)]
)
def test_cnn_shapes(image, into_mlp):
    out, variables = jax.eval_shape(CNN((32,)).init_with_output, KEY, jnp.zeros((2, *image)))
    assert out.shape == (2, 32)
    assert variables["params"]["MLP_0"]["Dense_0"]["kernel"].shape == (into_mlp, 32)


def test_image_too_small_for_its_kernels():
    """The least image leaves one pixel after the last layer."""
    large = ((32, 8, 4), (64, 4, 2), (64, 3, 1))

    def shape(net, *image):
        return jax.eval_shape(net.init_with_output, KEY, jnp.zeros((1, *image)))[0].shape

    assert shape(CNN((2,), layers=large), 36, 36, 1) == (1, 2)
    with pytest.raises(ValueError, match=r"35 x 40: allowed are at least 36 x 36.*\(32, 8, 4\)"):
        shape(CNN((2,), layers=large), 35, 40, 1)
    assert shape(CNN((2,)), 3, 3, 1) == (1, 2)
    with pytest.raises(ValueError, match="3 x 2: allowed are at least 3 x 3"):
        shape(CNN((2,)), 3, 2, 1)


SIGMOID = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
SELU = 1.0507009873554805, 1.6732632423543772  # scale and alpha
DEFINITIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x * np.vectorize(lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2))))(x),
    "silu": lambda x: x * SIGMOID(x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "selu": lambda x: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(x)),
    "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "sigmoid": SIGMOID,
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "relu6": lambda x: np.clip(x, 0, 6),
}


def test_every_activation():
    x = 3 * normals(16, 4)
    variables = MLP((5,)).init(KEY, x)
    dense = x @ np.asarray(variables["params"]["Dense_0"]["kernel"])
    assert {*ACTIVATIONS} == {*DEFINITIONS}
    for name, f in DEFINITIONS.items():
        out = MLP((5,), name).apply(variables, x)
        close(out, f(dense), 2e-3 if name == "gelu" else 1e-5)  # JAX's gelu is an approximation


def test_layer_norm_is_over_the_features():
    x = normals(3, 4)
    variables = MLP((6,), "tanh", layer_norm=True).init(KEY, x)
    own = variables["params"]["LayerNorm_0"]
    own["scale"], own["bias"] = normals(6), normals(6)
    y = x @ np.asarray(variables["params"]["Dense_0"]["kernel"])
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    out = MLP((6,), "tanh", layer_norm=True).apply(variables, x)
    close(out, np.tanh(y * own["scale"] + own["bias"]))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_agent_has_layer_norm(name):
    agent = agents.get(name)
    cfg = agent.Config(**{k: v for k, v in TINY[name].items() if k not in ("layer_norm", "memory")})
    env = short_env(agent, cfg)

    def size(cfg):
        state = jax.eval_shape(functools.partial(agent.init, cfg, env), KEY)
        return sum(x.size for x in jax.tree.leaves(state))

    assert size(dataclasses.replace(cfg, layer_norm=True)) > size(cfg)
    with pytest.raises(ValueError, match=rf"{name}.Config layer_norm=True: .*False with net=Torso"):
        size(dataclasses.replace(cfg, layer_norm=True, net=Torso))


# A shared torso.


@pytest.mark.parametrize("memory", [{}, {"memory": "gru", "memory_size": 3}])
def test_the_critics_gradient_stops_at_a_shared_torso(memory):
    """What the torso gets is then what it gets of the policy alone, to the byte."""
    env, obs = jaxpg.make("CartPole-v1"), normals(6, 4)
    cfg = jaxpg.a2c.Config(hidden=(5,), shared=True, critic_gradient=False, **memory)

    @functools.partial(jax.jit, static_argnames=("stops", "factor"))
    def grads(variables, stops, factor):
        net, _ = actor_critic(dataclasses.replace(cfg, critic_gradient=not stops), env)

        def loss(variables):
            out, value, _ = net.apply(variables, obs)
            return jnp.square(out - 1).sum() + factor * jnp.square(value - 1).sum()

        return jax.grad(loss)(variables)["params"]

    variables = jax.jit(actor_critic(cfg, env)[0].init)(KEY, obs)
    stopped, policys, both = (
        numpy(grads(variables, *x)) for x in ((True, 1.0), (False, 0.0), (False, 1.0))
    )
    trunk = [k for k in stopped if k.startswith("torso")]
    assert len(trunk) == 1 + bool(memory)
    for name in trunk:
        jax.tree.map(np.testing.assert_array_equal, stopped[name], policys[name])
    assert np.abs(both["torso"]["Dense_0"]["kernel"] - policys["torso"]["Dense_0"]["kernel"]).max()
    jax.tree.map(close, stopped["critic"], both["critic"])
    assert np.abs(stopped["critic"]["kernel"]).max() > 0


@pytest.mark.parametrize("name", ["ppo", "a2c", "a3c", "impala"])
def test_agents_hand_the_switch_on(name):
    env, Config = jaxpg.make("CartPole-v1"), agents.get(name).Config
    assert actor_critic(Config(shared=True), env)[0].critic_gradient
    net, _ = actor_critic(Config(hidden=(4,), shared=True, critic_gradient=False), env)
    assert not net.critic_gradient
    if name != "ppo":  # what it does is the network's own
        return
    variables = net.init(KEY, env.example_obs)
    value = functools.partial(net.apply, method="value")
    grads = jax.jit(jax.grad(value))(variables, env.example_obs + 1)
    assert not any(np.any(x) for x in jax.tree.leaves(grads["params"]["torso"]))
    assert np.any(grads["params"]["critic"]["kernel"])


def test_two_torsos_are_left_alone():
    net = ActorCritic(((4,),), 2, 0, functools.partial(MLP, (3,)), critic_gradient=False)
    variables, obs = net.init(KEY, jnp.ones(4)), jnp.ones(4)
    grads = jax.jit(jax.grad(lambda v: net.apply(v, obs)[1]))(variables)
    assert np.any(grads["params"]["critic_torso"]["Dense_0"]["kernel"])


# Batch norm.


def moved(old, y):
    """The recursion: 0.99 of the old statistics and 0.01 of the batch's mean and variance."""
    y = y.reshape(-1, y.shape[-1])
    return {
        "mean": 0.99 * old["mean"] + 0.01 * y.mean(0),
        "var": 0.99 * old["var"] + 0.01 * y.var(0),
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        close(found[name], expected[name], 1e-6)


@pytest.mark.parametrize("shape", [(4,), (5, 6, 2)])
def test_batch_norm_is_over_the_batch_and_remembers(shape):
    """Of images over the pixels too."""
    net = (MLP if len(shape) == 1 else CNN)((3,), "tanh", batch_norm=True)
    variables = net.init(KEY, jnp.zeros((1, *shape)))
    first = "Dense_0" if len(shape) == 1 else "Conv_0"
    p, old = variables["params"][first], {"mean": np.zeros(1), "var": np.ones(1)}
    learn, move = (jax.jit(functools.partial(f, net)) for f in (learning, running))
    act = jax.jit(net.apply)
    for n in (8, 1, 8):
        x = 2 + 3 * normals(n, *shape)
        if len(shape) == 1:
            y = x @ np.asarray(p["kernel"])
            of_batch = (y - y.mean(0)) / np.sqrt(y.var(0) + EPS)
            remembered = (y - old["mean"]) / np.sqrt(old["var"] + EPS)
            close(learn(variables, x), np.tanh(of_batch), 1e-4)
            close(act(variables, x), np.tanh(remembered), 1e-4)
        else:
            y = np.asarray(Conv(16, 3).apply({"params": p}, x))
        old, variables = moved(old, y), move(variables, x)
        close(variables[STATISTICS]["BatchNorm_0"]["mean"], old["mean"])
        close(variables[STATISTICS]["BatchNorm_0"]["var"], old["var"], 1e-4)


def learner_of(name, **fields):
    """An agent on Pendulum or CartPole, its learner and a batch."""
    agent = agents.get(name)
    cfg = agent.Config(hidden=(4,), batch_size=6, **fields)
    env = jaxpg.make("Pendulum-v1" if name in CONTINUOUS else "CartPole-v1")
    cfg = dataclasses.replace(cfg, total_steps=100.0)
    state = initial_state(agent, cfg, env, KEY)
    n = 6 * getattr(cfg, "policy_delay", 1)
    obs, next_obs = (normals(n, *env.obs_shapes[0]) for _ in range(2))
    action = RNG.integers(0, 2, n) if env.discrete else np.tanh(normals(n, 1))
    b = replay.Batch(obs, action, normals(n), np.full(n, 0.9, np.float32), next_obs, np.ones(n), {})
    return agent, cfg, env, state, b


def test_ddpg_with_batch_norm():
    """Statistics follow the recursion, untouched by Adam; copies follow those; acting uses them."""
    _, cfg, env, state, b = learner_of("ddpg", batch_norm=True, learning_rate=0.1, tau=0.25)
    update = jax.jit(functools.partial(jaxpg.agents.ddpg.update, cfg, env))
    learner, of_actor = state.learner, {"mean": 0, "var": 1}
    of_copy = {"mean": np.zeros(4), "var": np.ones(4)}
    for _ in range(3):
        old = numpy(learner.params)
        learner, _, _ = update(learner, b)
        p = old.actor["params"]["actor_torso"]["Dense_0"]
        of_actor = moved(of_actor, b.obs @ p["kernel"] + p["bias"])
        of_copy = {k: 0.75 * v + 0.25 * of_actor[k] for k, v in of_copy.items()}
    same(learner.params.actor[STATISTICS]["actor_torso"]["BatchNorm_0"], of_actor)
    assert STATISTICS not in learner.params.critic
    same(learner.target.actor[STATISTICS]["actor_torso"]["BatchNorm_0"], of_copy)

    p = numpy(learner.params.actor["params"])
    state = state._replace(learner=learner)
    y = b.obs @ p["actor_torso"]["Dense_0"]["kernel"] + p["actor_torso"]["Dense_0"]["bias"]
    y = (y - of_actor["mean"]) / np.sqrt(of_actor["var"] + EPS)
    own = p["actor_torso"]["BatchNorm_0"]
    y = np.maximum(y * own["scale"] + own["bias"], 0)
    mu = np.tanh(y @ p["actor"]["kernel"] + p["actor"]["bias"])
    act = jax.jit(functools.partial(jaxpg.ddpg.act, cfg, env, greedy=True))
    close(act(state, b.obs, (), KEY)[0], 2 * mu, 1e-4)
    close(act(state, b.obs[0], (), KEY)[0], 2 * mu[0], 1e-4)  # whoever else is in the batch

    # Parameter noise moves parameters, not what is remembered: a variance stays positive.
    actor = learner.params.actor
    noisy = jaxpg.agents.ddpg.perturbed(actor, jax.tree.map(jnp.ones_like, actor["params"]), 9.0)
    jax.tree.map(np.testing.assert_array_equal, noisy[STATISTICS], actor[STATISTICS])


def test_ddpgs_targets_use_the_copies_running_statistics():
    """So a target does not depend on the batch that it is computed in."""
    _, cfg, env, state, b = learner_of("ddpg", batch_norm=True)
    target = jax.jit(functools.partial(jaxpg.agents.ddpg.critic_target, cfg, env))
    one = jax.tree.map(lambda x: x[:1], b)
    close(target(state.learner.params, b)[:1], target(state.learner.params, one))


def test_a2c_with_batch_norm():
    """One step of four environments: the rollout is what the environments show at the start."""
    env = jaxpg.make("CartPole-v1")
    cfg = jaxpg.a2c.Config(
        num_envs=4, num_steps=1, hidden=(3,), shared=True, batch_norm=True, learning_rate=0.1
    )
    state = initial_state(jaxpg.a2c, cfg, env, KEY)
    kernel = np.asarray(state.params["params"]["torso"]["Dense_0"]["kernel"])
    after, _ = jax.jit(jaxpg.a2c.step)(cfg, env, state)
    expected = moved({"mean": 0, "var": 1}, np.asarray(state.env.obs) @ kernel)
    same(after.params[STATISTICS]["torso"]["BatchNorm_0"], expected)
    assert np.abs(kernel - after.params["params"]["torso"]["Dense_0"]["kernel"]).max() > 0.01

    obs = normals(5, 4)
    act = jax.jit(functools.partial(jaxpg.a2c.act, cfg, env, greedy=True))
    alone = np.stack([act(after, x, (), KEY)[0] for x in obs])  # whoever else is in the batch
    np.testing.assert_array_equal(act(after, obs, (), KEY)[0], alone)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("a2c", {"shared": True, "memory": "none"}),
        ("ddpg", {}),
        ("ddpg", {"target_update": "hard"}),
    ],
)
def test_a_state_with_batch_norm_keeps_its_types(name, fields, x64):
    agent = agents.get(name)
    cfg = agent.Config(**TINY[name] | fields | {"batch_norm": True, "total_steps": 100.0})
    env = short_env(agent, cfg)
    with jax.enable_x64(x64):
        begin = jax.eval_shape(functools.partial(initial_state, agent), cfg, env, KEY)
        after, _ = jax.eval_shape(agent.step, cfg, env, begin)
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (begin, after)]
    assert kinds[0] == kinds[1]
    assert not any(x.weak_type for x in jax.tree.leaves(begin))


# Dropout.


def test_dropout_zeroes_its_share_and_scales_the_rest():
    net, x = MLP((20_000,), "relu6", dropout=0.3), jnp.ones((1, 2))
    variables = net.init(KEY, x)
    plain = np.asarray(net.apply(variables, x))
    dropped = np.asarray(net.apply(variables, x, rngs={"dropout": KEY}))
    shown = plain > 0  # where the activation lets a zero be told from a kept unit
    kept = shown & (dropped > 0)
    share = 1 - kept.sum() / shown.sum()
    assert abs(share - 0.3) < 5 * math.sqrt(0.21 / shown.sum())
    close(dropped[kept], np.minimum(plain[kept] / 0.7, 6))


def test_twin_critics_drop_apart():
    net = values.Critics(((3,),), 2, functools.partial(MLP, (16,), dropout=0.5))
    obs, action = normals(4, 3), normals(4, 1)

    @jax.jit
    def of_equal_parameters():
        variables = jax.tree.map(lambda x: jnp.stack([x[0]] * 2), net.init(KEY, obs, action))
        drop = {"dropout": KEY}
        return [net.apply(variables, obs, action, rngs=rngs) for rngs in ({}, drop)]

    plain, dropped = of_equal_parameters()
    np.testing.assert_array_equal(*plain)
    assert np.abs(dropped[0] - dropped[1]).max() > 0


@pytest.mark.parametrize("name", slow_of(DROPS, "td3"))
def test_updates_drop_and_nothing_else_does(name):
    """Acting is one program with and without: and so nothing in it drops."""
    quiet = {"td3": {"target_noise": 0.0}}.get(name, {})
    agent, cfg, env, state, b = learner_of(name, dropout=0.5, **quiet)
    module = getattr(jaxpg.agents, name)
    update = jax.jit(lambda cfg, learner, key: module.update(cfg, env, learner, b, key))
    other = jax.random.key(4)
    td = [update(cfg, state.learner, key)[1] for key in (KEY, KEY, other)]
    np.testing.assert_array_equal(td[0], td[1])
    assert np.abs(td[0] - td[2]).max() > 0
    plain = dataclasses.replace(cfg, dropout=0.0)
    if name in ("ddpg", "dqn"):  # the others draw actions too
        jax.eval_shape(lambda: module.update(plain, env, state.learner, b))  # needs no key

    for greedy in (True, False):
        act = jax.jit(
            lambda cfg, obs, greedy=greedy: agent.act(cfg, env, state, obs, (), KEY, greedy)
        )
        assert act.lower(cfg, b.obs).as_text() == act.lower(plain, b.obs).as_text()


def test_targets_drop():
    _, cfg, env, state, b = learner_of("td3", dropout=0.5, target_noise=0.0)
    target = state.learner.target
    y = jax.jit(lambda key: jaxpg.agents.td3.critic_target(cfg, env, target, b, key))
    assert np.abs(y(KEY) - y(jax.random.key(4))).max() > 0


def test_evaluation_does_not_drop():
    agent, cfg, env, state, _ = learner_of("dqn", dropout=0.5)
    play = jax.jit(lambda cfg: jaxpg.evaluate(agent, cfg, env, state, KEY, episodes=3))
    plain = dataclasses.replace(cfg, dropout=0.0)
    assert play.lower(cfg).as_text() == play.lower(plain).as_text()


# Refusals.


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("a2c", {"batch_norm": True}, "a2c.Config batch_norm=True.*shared=False"),
        ("a2c", {"batch_norm": True, "shared": True, "memory": "gru"}, "memory='gru'"),
        ("ppo", {"batch_norm": True}, "ppo.Config field 'batch_norm'"),
        ("ppo", {"dropout": 0.1}, "ppo.Config field 'dropout'"),
        ("sac", {"dropout": 0.95}, "sac.Config dropout=0.95.*<= 0.9"),
        ("dqn", {"dropout": 0.1, "net": Torso}, "dqn.Config dropout=0.1.*0.0 with net=Torso"),
        ("ddpg", {"batch_norm": True, "net": Torso}, "batch_norm=True.*False with net=Torso"),
    ],
)
def test_refusals(name, fields, said):
    agent = agents.get(name)
    env = jaxpg.make("Pendulum-v1" if name in CONTINUOUS else "CartPole-v1")
    with pytest.raises(ValueError, match=said):
        agent.init(jaxpg.core.config.replace(agent.Config(), **fields), env, KEY)


def test_the_pages_own_torso():
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
    code = next(
        x for x in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class Residual" in x
    )
    names = {}
    exec(code.partition("result =")[0], names)
    init = functools.partial(jaxpg.ppo.init, names["cfg"], names["env"])
    torso = jax.eval_shape(init, KEY).params["params"]["actor_torso"]
    assert len(torso) == 5


def test_the_pages_table():
    """A row says yes where an agent has the field."""
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
    rows = page.partition("## Who has what")[2]
    fields = ("critic_hidden", "critic_gradient", "layer_norm", "batch_norm", "dropout", "memory")
    seen = set()
    for line in rows.splitlines():
        cells = [x.strip() for x in line.split("|")[1:-1]]
        for word in cells[0].split(", ") if cells else ():
            name = {"discrete SAC": "sac_discrete"}.get(word, word.lower())
            if name in NETWORKS:
                has = dataclasses.asdict(agents.get(name).Config())
                assert [x == "yes" for x in cells[1:]] == [f in has for f in fields]
                seen.add(name)
    assert len(seen) == 12
