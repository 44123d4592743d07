"""Policy heads against quadrature and definitions; the initialiser that does not deadlock."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxpg
from jaxpg.core.choices import HEADS
from jaxpg.nets import heads
from jaxpg.nets.initializers import orthogonal

GAUSSIANS = [head for head in HEADS if "gaussian" in head]
OUT = jnp.array([0.7, -0.4])  # mean and log-std of one dimension


def pendulum(head):
    return heads.make(head, jaxpg.make("Pendulum-v1"))


@pytest.mark.parametrize("head", GAUSSIANS)
def test_density_of_the_action_integrates_to_one(head):
    """log_prob is the density of the squashed action in (-1, 1), and of the draw otherwise."""
    pi, squashed = pendulum(head), head.startswith("tanh")
    draws = jnp.linspace(-12, 12, 40_001)[:, None]
    measure = 1 - jnp.tanh(draws[:, 0]) ** 2 if squashed else 1.0
    density = jnp.exp(jax.vmap(pi.log_prob, (None, 0))(OUT, draws)) * measure
    assert float(jnp.trapezoid(density, draws[:, 0])) == pytest.approx(1, abs=1e-3)


def test_squashing_matches_the_jacobian_and_stays_finite():
    plain, squashed = pendulum("gaussian"), pendulum("tanh_gaussian")
    for x in (-3.0, -0.1, 0.0, 2.0):
        draw = jnp.array([x])
        jacobian = jax.jacfwd(jnp.tanh)(draw)[0, 0]
        expected = plain.log_prob(OUT, draw) - jnp.log(jacobian)
        assert float(squashed.log_prob(OUT, draw)) == pytest.approx(float(expected), abs=1e-5)
    for x in (-50.0, 50.0):
        value, slope = jax.value_and_grad(squashed.log_prob, 1)(OUT, jnp.array([x]))
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("head", GAUSSIANS)
@pytest.mark.parametrize("log_std", [-3.0, 0.0, 1.0])
def test_entropy_and_divergence_match_samples(head, log_std):
    pi = pendulum(head)
    out, other = jnp.array([0.7, log_std]), jnp.array([0.5, log_std + 0.3])
    keys = jax.random.split(jax.random.key(0), 40_000)
    draw, log_prob = jax.vmap(pi.sample, (None, 0))(out, keys)
    np.testing.assert_allclose(log_prob, jax.vmap(pi.log_prob, (None, 0))(out, draw), atol=1e-4)
    assert float(pi.entropy(out, keys[0])) == pytest.approx(-float(log_prob.mean()), abs=0.03)
    kl = (log_prob - jax.vmap(pi.log_prob, (None, 0))(other, draw)).mean()
    assert float(pi.kl(out, other, keys[0])) == pytest.approx(float(kl), abs=0.03)


def test_temperature_divides_logits_everywhere():
    env = jaxpg.make("CartPole-v1")
    cold, out = heads.make("auto", env, 0.5), jnp.array([1.0, 0.0])
    expected = jax.nn.log_softmax(out / 0.5)
    np.testing.assert_allclose(
        jax.vmap(cold.log_prob, (None, 0))(out, jnp.arange(2)), expected, rtol=1e-5
    )
    keys = jax.random.split(jax.random.key(0), 20_000)
    often = jax.vmap(cold.sample, (None, 0))(out, keys)[0].mean()
    assert float(often) == pytest.approx(float(jnp.exp(expected[1])), abs=0.01)


@pytest.mark.parametrize("head", GAUSSIANS)
def test_actions_lie_in_the_space(head):
    """Whatever is drawn; in Pendulum's units, which a vmap over its torque changes."""
    draws = jnp.array([[-1e3], [0.0], [1e3]])

    def bounds(torque):
        return heads.make(head, jaxpg.make("Pendulum-v1", max_torque=torque)).action(draws)

    np.testing.assert_allclose(bounds(5.0)[:, 0], [-5, 0, 5], atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 1), (300, 20)])
def test_orthogonal_is(shape):
    w = np.asarray(
        jax.vmap(lambda k: orthogonal(2.0)(k, shape))(jax.random.split(jax.random.key(0), 8))
    )
    gram = (
        np.einsum("kij,kil->kjl", w, w) if shape[0] >= shape[1] else np.einsum("kij,klj->kil", w, w)
    )
    np.testing.assert_allclose(gram, 4 * np.broadcast_to(np.eye(min(shape)), gram.shape), atol=1e-3)


def test_vmapped_init_does_not_hang():
    """flax's own orthogonal initialiser, under vmap on two cores, never came back."""
    code = """
import jax, jaxpg
env, cfg = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config()
init = jax.jit(jax.vmap(lambda k: jaxpg.ppo.init(cfg, env, k)))
jax.block_until_ready(init(jax.random.split(jax.random.key(0), 8)).params)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class Torso(nn.Module):
    """A user's own network."""

    hidden: tuple
    activation: str
    kernel_init: str

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(self.hidden[0])(x))


SWITCHES = {
    "ppo, penalty, tanh": (
        "ppo",
        "Reacher-misc",
        {"objective": "kl", "target_kl": 0.01, "head": "tanh_gaussian_state_std"},
    ),
    "ppo, shared, own torso": (
        "ppo",
        "CartPole-v1",
        {"shared": True, "clip_eps_schedule": "linear", "net": Torso},
    ),
    "ppo, image": ("ppo", "Catch-bsuite", {"kernel_init": "he", "activation": "relu"}),
    "a2c, one step": ("a2c", "Pendulum-v1", {"num_steps": 1, "head": "gaussian_state_std"}),
    "a2c, paper, n steps": (
        "a2c",
        "CartPole-v1",
        {"optimizer": "rmsprop", "shared": True, "advantage": "n_step", "n_step": 3},
    ),
    "a3c, paper": ("a3c", "CartPole-v1", {"optimizer": "rmsprop", "shared": True}),
    "impala, stale": ("impala", "Pendulum-v1", {"correction": "none", "shared": True}),
    "npg, entropy": ("npg", "Pendulum-v1", {"entropy_coef": 0.1, "normalize_advantage": False}),
    "trpo, tanh": ("trpo", "Pendulum-v1", {"head": "tanh_gaussian", "max_kl_schedule": "cosine"}),
    "reinforce, plain": ("reinforce", "CartPole-v1", {"baseline": "none", "normalize": False}),
    "reinforce, mean": (
        "reinforce",
        "Pendulum-v1",
        {"baseline": "mean", "weight": "total_return", "episodes": "first", "entropy_coef": 0.1},
    ),
}


# One of each kind of update runs in the quick part, where the others are traced.
RUN = ("ppo, penalty, tanh", "a2c, paper, n steps", "npg, entropy", "reinforce, mean")


@pytest.mark.parametrize(
    ("case", "runs"),
    [
        *((case, case in RUN) for case in SWITCHES),
        *(pytest.param(x, True, marks=pytest.mark.slow) for x in SWITCHES if x not in RUN),
    ],
)
def test_every_switch_trains(case, runs):
    name, env_name, fields = SWITCHES[case]
    agent = jaxpg.agents.get(name)
    env = jaxpg.make(env_name, max_steps_in_episode=8)
    small = {"num_envs": 2, "num_steps": 8, "hidden": (4,)}
    cfg = agent.Config(**small | fields)
    total = 3 * agent.steps_per_iter(cfg)
    train = jax.jit(lambda cfg, key: jaxpg.train(agent, cfg, env, key, total))
    if not runs:
        train.trace(cfg, jax.random.key(0))
        return
    state, metrics = train(cfg, jax.random.key(0))
    for tree in (state, {k: m for k, m in metrics.items() if not k.startswith("episode")}):
        floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert all(np.isfinite(x).all() for x in floats)
