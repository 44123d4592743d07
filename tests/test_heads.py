"""Policy heads against enumeration, quadrature and samples; the spaces that go with them."""

import functools
import importlib.util
import itertools
from pathlib import Path

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment
from gymnax.environments import spaces as gymnax_spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.spaces import MultiBinary, MultiDiscrete
from jaxpg.envs import registry
from jaxpg.nets import heads
from tests.conftest import ACTOR_CRITIC, TINY, slow_of
from tests.tabular import make

KEY = jax.random.key(0)
NEW = ("beta", "mixture", "tanh_mixture", "flow")
BOXES = ("tanh_gaussian_state_std", *NEW)  # the other Gaussians are in test_nets
# In three dimensions their samples are in the slow part; they are drawn for longer than compiled.
MANY = ("beta", "flow", "mixture", "tanh_mixture")
DRAWN = [pytest.mark.slow, pytest.mark.defaults]
NVEC = (2, 4, 3)


@struct.dataclass
class Params:
    max_steps_in_episode: int = 4


@struct.dataclass
class State:
    time: jax.Array
    target: jax.Array  # 1 or 0 for everything that can be chosen


class Copy(environment.Environment):
    """Four steps; the reward is the share of an action's entries that are the target's, which is
    observed: 0 or 1 everywhere. With `mask` only 0 may be chosen where the target is 1."""

    name = "Copy"
    default_params = Params()

    def __init__(self, space, mask=False):
        self.space, self.mask = space, mask

    def observe(self, state):
        obs = jnp.stack([state.target, 1 - state.target]).astype(float)
        if not self.mask:
            return obs
        first = [np.arange(n) == 0 for n in self.space.nvec]
        return {"target": obs, "action_mask": np.concatenate(first) | (state.target == 0)}

    def reset_env(self, key, params):
        state = State(jnp.zeros((), jnp.int32), jax.random.bernoulli(key).astype(jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        assert action.shape == self.space.shape
        reward = (action == state.target).mean()
        state = State(state.time + 1, jax.random.bernoulli(key).astype(jnp.int32))
        return self.observe(state), state, reward, state.time >= 4, {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return self.space

    def observation_space(self, params):
        obs = gymnax_spaces.Box(0, 1, (2,))
        return gymnax_spaces.Dict({"target": obs}) if self.mask else obs


def box(*shape, high=1.0):
    return make(Copy(gymnax_spaces.Box(-1.0, high, shape)))


SPACES = {"multi": MultiDiscrete(NVEC), "binary": MultiBinary((2, 2))}


def head(name, *shape):
    return heads.make(name, box(*shape) if shape else make(Copy(SPACES[name])))


def outputs(pi, key, scale, *shape):
    return scale * jax.random.normal(key, (*shape, pi.outputs + pi.free_outputs))


# Heads over integers: every action is counted.


def every_action(name):
    sizes = NVEC if name == "multi" else (2,) * 4
    return np.array(list(itertools.product(*map(range, sizes))), np.int32)


@pytest.mark.parametrize("name", SPACES)
def test_heads_over_integers_are_their_enumeration(name):
    temperature = 0.7
    pi = heads.make("auto", make(Copy(SPACES[name])), temperature)
    out, other = outputs(pi, KEY, 1.5, 2)
    actions = every_action(name)

    @jax.jit
    def go(out, other):
        draw, log_prob = pi.sample(jnp.broadcast_to(out, (20_000, out.size)), KEY)
        logs = [
            pi.log_prob(jnp.broadcast_to(x, (len(actions), x.size)), actions) for x in (out, other)
        ]
        return *logs, pi.entropy(out, KEY), pi.kl(out, other, KEY), draw, log_prob, pi.mode(out)

    p, q, entropy, kl, draw, log_prob, mode = map(np.asarray, go(out, other))
    # By hand: a softmax for every entry, or a logistic.
    x, sizes = np.asarray(out, float) / temperature, NVEC if name == "multi" else (1,) * 4
    parts = np.split(x, np.cumsum(sizes)[:-1])
    parts = [v if name == "multi" else np.append(0, v) for v in parts]
    by_hand = [np.exp(v) / np.exp(v).sum() for v in parts]
    expected = np.prod([v[actions[:, i]] for i, v in enumerate(by_hand)], 0)
    np.testing.assert_allclose(np.exp(p), expected, rtol=1e-5)
    assert np.exp(p).sum() == pytest.approx(1, abs=1e-5)
    assert entropy == pytest.approx(-(np.exp(p) * p).sum(), abs=1e-5)
    assert kl == pytest.approx((np.exp(p) * (p - q)).sum(), abs=1e-5)
    np.testing.assert_array_equal(mode, actions[p.argmax()])
    index = (draw[:, None] == actions).all(-1).argmax(-1)
    np.testing.assert_allclose(log_prob, p[index], atol=1e-5)
    np.testing.assert_allclose(np.bincount(index, minlength=len(p)) / 2e4, expected, atol=0.02)


# Heads over a box.


def squashed(name, draw):
    """Actions and |da / ddraw| by the definition."""
    if name == "beta":
        return np.tanh(draw / 2), 0.5 / np.cosh(draw / 2) ** 2
    if name.startswith("tanh") or name == "flow":
        return np.tanh(draw), 1 / np.cosh(draw) ** 2
    return draw, np.ones_like(draw)


@functools.cache
def compiled(name, size):
    """One program for a head: densities of draws, and what is said about two outputs."""
    pi = head(name, size)

    @jax.jit
    def densities(out, draws):
        return pi.log_prob(out, draws)

    @jax.jit
    def said(out, other, key):
        k_draw, k_entropy, k_kl = jax.random.split(key, 3)

        def some(key):
            draw, log_prob = pi.sample(jnp.broadcast_to(out, (100_000, out.size)), key)
            error = jnp.abs(log_prob - pi.log_prob(out, draw)).max()
            return draw[:, 0], pi.squash(draw)[:, 0], log_prob, pi.log_prob(other, draw), error

        draw, action, p, q, error = jax.lax.map(some, jax.random.split(k_draw, 4))
        many, others = (jnp.broadcast_to(x, (10_000, out.size)) for x in (out, other))
        entropy, kl = pi.entropy(many, k_entropy), pi.kl(many, others, k_kl)

        def of(estimates, samples):
            """Means, and the deviation of their difference."""
            parts = (x.var(dtype=float) / x.size for x in (estimates, samples))
            return estimates.mean(), samples.mean(), jnp.sqrt(sum(parts))

        return {
            "draw": draw[0], "action": action[0], "error": error.max(),
            "entropy": of(entropy, -p), "kl": of(kl, p - q),
        }  # fmt: skip

    return pi, densities, said


# Gamma variates by rejection: most of it is running, not compiling.
SAMPLED = [pytest.param(x, marks=pytest.mark.optimised) if x == "beta" else x for x in BOXES]


@pytest.mark.parametrize("name", SAMPLED)
def test_density_over_one_dimension_integrates_to_one(name):
    pi, densities, said = compiled(name, 1)
    out, other = outputs(pi, jax.random.key(3), 0.6, 2)
    x = np.linspace(-18, 18, 20_001)
    log_prob = np.asarray(densities(out, jnp.asarray(x, jnp.float32)[:, None]), float)
    _, width = squashed(name, x)
    density = np.exp(log_prob) * width
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-3)
    # Samples have that density: their distribution function is its integral.
    found = jax.tree.map(np.asarray, said(out, other, KEY))
    below = np.cumsum(density) * (x[1] - x[0])
    share = np.searchsorted(np.sort(found["draw"]), x) / 100_000
    assert np.abs(below - share).max() < 0.01  # 6 deviations of Kolmogorov's statistic
    np.testing.assert_allclose(found["action"], squashed(name, found["draw"])[0], atol=1e-5)


@pytest.mark.parametrize("name", slow_of(BOXES, *MANY[:2]))
def test_density_over_three_dimensions_integrates_to_one(name):
    """By the trapezoid rule on a grid."""
    pi, densities, _ = compiled(name, 3)
    out = outputs(pi, jax.random.key(1), 0.15)
    reach, count = {"beta": (11, 49), "flow": (7, 101)}.get(name, (7, 49))
    x = np.linspace(-reach, reach, count)
    draws = np.stack(np.meshgrid(x, x, x), -1).reshape(-1, 3)
    log_prob = np.asarray(densities(out, jnp.asarray(draws, jnp.float32)), float)
    density = np.exp(log_prob) * squashed(name, draws)[1].prod(-1)
    assert density.sum() * (x[1] - x[0]) ** 3 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        *((1, name) for name in BOXES if name not in ("beta", "flow")),
        pytest.param(1, "flow", marks=DRAWN),
        pytest.param(1, "beta", marks=pytest.mark.optimised),
        *(pytest.param(3, x, marks=DRAWN * (x in MANY)) for x in BOXES),
    ],
)
def test_entropy_and_divergence_match_samples(name, size):
    """Within 2 %, of 400,000 samples; a head that estimates has the mean of 10,000 estimates."""
    pi, _, said = compiled(name, size)
    mild = (0.4, 0.24) if size == 1 else (0.15, 0.1)
    for seed, (scale, far) in enumerate([mild, (0.6, 0.4), (1.0, 1.0)]):  # outputs, and how far
        k_out, k_other = jax.random.split(jax.random.key(seed))  # those of the other policy are
        out, away = outputs(pi, k_out, scale), outputs(pi, k_other, far)
        found = jax.tree.map(np.asarray, said(out, out + away, KEY))
        assert found["error"] < (2e-3 if scale < 1 else 0.01), scale  # the largest of 400,000
        entropy, samples, noise = found["entropy"]
        assert abs(entropy - samples) < 0.02 * max(1, abs(samples))
        assert 3 * noise < 0.02 * max(1, abs(samples))  # or the samples could not tell
        kl, samples, noise = found["kl"]
        if far < 1:
            assert abs(kl - samples) < 0.02 * samples + 3 * noise
        else:
            assert abs(kl - samples) < 0.02 * samples
            assert 3 * noise < 0.02 * samples


@pytest.mark.parametrize("name", slow_of([*BOXES, *SPACES], "flow", "mixture"))
def test_everything_is_finite_up_to_50(name):
    """Values and slopes, of everything that a loss could hold."""
    pi = head(name, 2) if name in BOXES else head("auto", 2)
    if name in SPACES:
        pi = heads.make("auto", make(Copy(SPACES[name])))
    size = pi.outputs + pi.free_outputs
    k_out, k_other, k_draw = jax.random.split(KEY, 3)
    out, other = (
        jnp.concatenate([jax.random.uniform(k, (40, size), minval=-50, maxval=50),
                         50.0 * jax.random.rademacher(k, (20, size)), jnp.zeros((4, size))])
        for k in (k_out, k_other)
    )  # fmt: skip
    if name in SPACES:
        draw = jnp.broadcast_to(jnp.ones(len(pi.mode(out[0])), jnp.int32), pi.mode(out).shape)
    else:
        draw = jnp.clip(
            jax.random.uniform(k_draw, pi.mode(out).shape, minval=-80, maxval=80), -50, 50
        )

    @jax.jit
    @jax.vmap
    def go(out, other, draw, key):
        def all_of_it(out, other, draw):
            sampled, log_prob = pi.sample(out, key)
            through_the_draw = log_prob + pi.squash(sampled).sum()
            parts = (
                pi.log_prob(out, draw.astype(pi.mode(out).dtype)), pi.entropy(out, key),
                pi.kl(out, other, key), through_the_draw,
                pi.action(pi.mode(out)).astype(float).sum(),
            )  # fmt: skip
            return sum(x / 1e20 for x in parts), parts  # slopes that are fine may not add up

        return jax.value_and_grad(all_of_it, (0, 1, 2), has_aux=True)(out, other, draw)

    found = go(out, other, draw.astype(float), jax.random.split(KEY, len(out)))
    for x in jax.tree.leaves(found):
        assert np.isfinite(x).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [("mixture", 1), *(pytest.param("flow", n, marks=pytest.mark.slow) for n in (1, 3))],
)
def test_divergence_has_fisher_s_curvature(name, size):
    """KL(p, p + t d) is t^2 d' F d / 2, F = E[grad log p grad log p'], as natural steps need:
    value and slope at 0 with every key, the curvature in the mean."""
    pi = head(name, size)
    out, direction = outputs(pi, KEY, 0.3, 2)

    @jax.jit
    def go(out):
        many = jnp.broadcast_to(out, (5000, out.size))
        kl = lambda t: pi.kl(many, many + t * direction, KEY)  # noqa: E731
        slope = lambda t: jax.jvp(kl, (t,), (1.0,))[1]  # noqa: E731
        draw, _ = pi.sample(jnp.broadcast_to(out, (100_000, out.size)), KEY)
        score = jax.jvp(lambda x: pi.log_prob(x, draw), (out,), (direction,))[1]
        slopes, curvatures = jax.jvp(slope, (0.0,), (1.0,))
        return kl(0.0), slopes, curvatures, jnp.square(score).mean()

    value, slope, curvature, fisher = map(np.asarray, go(out))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-5 * np.sqrt(fisher))
    assert (curvature >= 0).all()  # natural steps need that of every estimate
    assert curvature.mean() == pytest.approx(fisher, rel=0.05)


def test_a_mixture_s_expectation_has_the_exact_gradient():
    """E[x^2] = sum_k w_k (mu_k^2 + sigma_k^2) and its gradient, in closed form."""
    pi = head("mixture", 1)
    out = outputs(pi, KEY, 0.5)

    def exact(out):
        log_weight, mean, log_std = out[:3], out[3:6] + jnp.array([-1.0, 0, 1]), out[6:]
        return (jax.nn.softmax(log_weight) * (mean**2 + jnp.exp(2 * log_std))).sum()

    def estimate(out, key):
        f = lambda draw, log_prob: jnp.square(draw[..., 0])  # noqa: E731
        return pi.expect(f, jnp.broadcast_to(out, (100_000, 9)), key).mean()

    found, expected = (
        jax.jit(jax.value_and_grad(estimate))(out, KEY),
        jax.value_and_grad(exact)(out),
    )
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=0.03)


def test_a_beta_sample_has_implicit_gradients():
    """The mean of the action is (a - b) / (a + b), with a, b = 1 + softplus(out)."""
    pi = head("beta", 1)
    out = jnp.array([0.5, -0.3])

    def exact(out):
        a, b = 1 + jax.nn.softplus(out)
        return (a - b) / (a + b)

    def estimate(out):
        f = lambda draw, log_prob: pi.squash(draw)[..., 0]  # noqa: E731
        return pi.expect(f, jnp.broadcast_to(out, (40_000, 2)), KEY).mean()

    found, expected = jax.jit(jax.value_and_grad(estimate))(out), jax.value_and_grad(exact)(out)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=0.01)


def test_one_dimension_can_have_two_modes():
    """A flow that is steep in the middle and flat beside it, and a mixture."""
    flow = jnp.zeros(25).at[1].set(-1.1)
    flow = flow.at[10:18].set(jnp.array([0.0, -2, -2, 3, 3, -2, -2, 0]))  # heights of 8 bins
    mixture = jnp.array([0.0, -50, 0, 0, 0, 0, -2, 0, -2])
    action = jnp.linspace(-0.99, 0.99, 199)
    for name, out in {"flow": flow, "tanh_mixture": mixture}.items():
        density = jnp.exp(compiled(name, 1)[1](out, jnp.arctanh(action)[:, None]))
        assert min(density[:60].max(), density[-60:].max()) > 3 * density[99], name


@pytest.mark.parametrize("name", [*NEW, *SPACES])
def test_x64_gives_doubles(name):
    with jax.enable_x64(True):
        pi = head(name, 2) if name in BOXES else heads.make("auto", make(Copy(SPACES[name])))

        def go(key):
            out = jax.random.normal(key, (5, pi.outputs))
            draw, log_prob = pi.sample(out, key)
            return log_prob, pi.log_prob(out, draw), pi.entropy(out, key), pi.kl(out, out + 1, key)

        for x in jax.eval_shape(go, KEY):
            assert x.shape == (5,)
            assert x.dtype == "float64"


# Spaces.


def test_spaces_sample_what_they_contain():
    multi, binary = SPACES.values()
    keys = jax.random.split(KEY, 500)
    draws = jax.vmap(multi.sample)(keys)
    assert draws.shape == (500, 3)
    assert jax.vmap(multi.contains)(draws).all()
    np.testing.assert_array_equal(draws.max(0), np.array(NVEC) - 1)
    assert not multi.contains(jnp.array([0, 4, 0]))
    assert not multi.contains(jnp.array([0, 0]))
    bits = jax.vmap(binary.sample)(keys)
    assert bits.shape == (500, 2, 2)
    assert jax.vmap(binary.contains)(bits).all()
    assert not binary.contains(2 * jnp.ones((2, 2)))
    for wrong in (lambda: MultiDiscrete([]), lambda: MultiDiscrete([2, 0]), lambda: MultiBinary(0)):
        with pytest.raises(ValueError, match="integers >= 1"):
            wrong()


@pytest.mark.parametrize("name", slow_of(SPACES, "binary"))
def test_agents_learn_to_copy(name):
    agent, env = jaxpg.ppo, make(Copy(SPACES[name]))
    cfg = agent.Config(num_envs=16, num_steps=8, hidden=(16,), learning_rate=1e-2, gamma=0.0)
    train = jax.jit(lambda cfg, key: jaxpg.train(agent, cfg, env, key, 60 * 128))
    state, metrics = train(cfg, KEY)
    assert metrics["episode/return"][-5:].mean() > 3.6  # of 4; by chance 2 or less
    obs = jnp.array([[1.0, 0], [0, 1.0]])
    action, _ = jax.jit(lambda k: agent.act(cfg, env, state, obs, (), k, True))(KEY)
    expected = jnp.ones((2, *env.action_space.shape)).at[1].set(0)
    np.testing.assert_array_equal(action, expected)
    assert action.dtype == jnp.int32


def test_a_mask_of_many_choices_is_obeyed():
    """Where the target is 1 only 0 is legal, so the return is half of what it was."""
    env, agent = make(Copy(SPACES["multi"], mask=True)), jaxpg.ppo
    cfg = agent.Config(**TINY["ppo"])
    assert not env.discrete
    state = jax.jit(lambda key: agent.init(cfg, env, key))(KEY)

    @jax.jit
    def actions(key):
        obs = E.reset(env, key, 300).obs
        return obs, agent.act(cfg, env, state, obs, (), key, False)[0]

    obs, action = actions(KEY)
    assert obs.mask.shape == (300, sum(NVEC))
    ones = obs.obs["target"][:, 0] == 1
    assert (action[ones] == 0).all()
    assert (action[~ones] > 0).any()


@pytest.mark.parametrize("shape", [(2, 3), ()])
@pytest.mark.parametrize("name", ["sac", "td3"])
def test_boxes_of_any_shape(name, shape):
    """Policies speak in vectors; the environment gets its own shape, and checks it."""
    agent, env = getattr(jaxpg, name), box(*shape, high=3.0)
    cfg = agent.Config(**TINY[name])
    shapes = jax.eval_shape(lambda k: jaxpg.train(agent, cfg, env, k, 12)[0], KEY)
    assert shapes.replay.buffer.data.action.shape == (16, int(np.prod(shape)))
    state = jax.eval_shape(lambda k: agent.init(cfg, env, k), KEY)
    act = lambda s, k: agent.act(cfg, env, s, jnp.zeros((5, 2)), (), k, False)[0]  # noqa: E731
    assert jax.eval_shape(act, state, KEY).shape == (5, *shape)
    pi = heads.make("tanh_gaussian", env)
    draw = jnp.linspace(-30, 30, 5)[:, None] * jnp.ones(max(1, int(np.prod(shape))))
    found = pi.action(draw)
    assert found.shape == (5, *shape)
    np.testing.assert_allclose(found[::2].reshape(3, -1)[:, 0], [-1, 1, 3], atol=1e-5)


# Agents and heads.


# PPO with all of them, and one that takes natural steps, are the quick twins.
@pytest.mark.parametrize("name", slow_of(ACTOR_CRITIC, *(set(ACTOR_CRITIC) - {"ppo", "npg"})))
def test_every_actor_critic_agent_takes_every_new_head(name):
    """Traced, not compiled: these share what turns outputs into actions."""
    agent, kinds = getattr(jaxpg, name), (*NEW, *SPACES)
    for kind in kinds if name in ("ppo", "trpo") else ("mixture", "multi"):
        env = box(2) if kind in NEW else make(Copy(SPACES[kind]))
        fields = {"head": kind if kind in NEW else "auto", "total_steps": 100}
        cfg = agent.Config(**TINY[name] | fields | ({"objective": "kl"} if name == "ppo" else {}))
        jax.eval_shape(lambda k, c=cfg, e=env: agent.step(c, e, agent.init(c, e, k)), KEY)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("npg", "mixture", marks=pytest.mark.slow),  # traced above, and its divergence
        ("cem", "deterministic"),
    ],
)
def test_heads_train(name, kind):
    agent, env = getattr(jaxpg, name), box(2)
    cfg = agent.Config(**TINY[name] | {"head": kind})
    total = 4 * agent.steps_per_iter(cfg)
    state, metrics = jax.jit(lambda c, k: jaxpg.train(agent, c, env, k, total))(cfg, KEY)
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(np.isfinite(x).all() for x in floats)
    assert all(np.isfinite(m[-1]) for k, m in metrics.items() if not k.startswith("episode"))


def refused(agent_name, space, message, **fields):
    agent, env = getattr(jaxpg, agent_name), make(Copy(space))
    with pytest.raises(ValueError, match=message):
        agent.init(agent.Config(**TINY[agent_name] | fields), env, KEY)


def test_what_does_not_fit_is_refused_by_name():
    multi, binary = SPACES.values()
    flat, endless = gymnax_spaces.Box(-1, 1, (2,)), gymnax_spaces.Box(-1, np.inf, (2,))
    for name in ("dqn", "sac_discrete", "q_learning"):
        refused(name, multi, f"{name}.Config on Copy.*multi-discrete: allowed are")
        refused(name, binary, f"{name}.Config on Copy.*multi-binary: allowed are")
    for name in ("sac", "ddpg", "td3"):
        refused(name, multi, f"{name}.Config on Copy.*multi-discrete: allowed is a Box")
    for name in ("reinforce", "a2c", "a3c", "impala", "npg", "trpo", "ppo"):
        refused(name, flat, f"{name}.Config head='deterministic'.*'gaussian'", head="deterministic")
    refused("sac", flat, "sac.Config head='deterministic'.*'flow'", head="deterministic")
    refused("sac", flat, "sac.Config head='gaussian'.*'tanh_mixture'", head="gaussian")
    refused("sac", flat, "sac.Config components=0.*>= 1", components=0)
    refused("ppo", flat, "head='bernoulli' on Copy.*continuous.*'beta'", head="bernoulli")
    refused("ppo", multi, "head='categorical' on Copy.*'multi_categorical'", head="categorical")
    refused("ppo", binary, "head='flow' on Copy.*multi-binary.*'bernoulli'", head="flow")
    refused("ppo", endless, "head='beta' on Copy.*high=inf.*finite", head="beta")
    refused("ppo", gymnax_spaces.Dict({"a": flat}), "Copy has actions Dict.*MultiDiscrete")
    with pytest.raises(ValueError, match="'deterministic' has no density"):
        head("deterministic", 2).log_prob(jnp.zeros(2), jnp.zeros(2))


@pytest.mark.slow
@pytest.mark.defaults  # learns for longer than it compiles
def test_two_passages_stay_open():
    """A short run of examples/two_passages.py."""
    path = Path(__file__).parents[1] / "examples" / "two_passages.py"
    spec = importlib.util.spec_from_file_location("two_passages", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    density = example.learnt_density("tanh_mixture", 2500, KEY)
    assert min(example.mass(*density)) > 0.25


def test_categorical_is_distrax_s():
    """The same draws from the same key, densities, entropies and divergences."""
    pi = heads.make("auto", registry.make("Acrobot-v1"), 0.7)
    out, other = (outputs(pi, jax.random.key(i), 3.0, 5) for i in (0, 1))
    p, q = (distrax.Categorical(logits=x / 0.7, dtype=jnp.int32) for x in (out, other))
    draw, log_prob = pi.sample(out, KEY)
    np.testing.assert_array_equal(draw, p.sample(seed=KEY))
    np.testing.assert_allclose(log_prob, p.log_prob(draw), rtol=1e-5)
    np.testing.assert_allclose(pi.log_prob(other, draw), q.log_prob(draw), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(out, KEY), p.entropy(), rtol=1e-5)
    np.testing.assert_allclose(pi.kl(out, other, KEY), p.kl_divergence(q), rtol=1e-4)
    np.testing.assert_array_equal(pi.mode(out), p.mode())
