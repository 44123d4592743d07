"""Natural steps: against dense matrices, and against answers known in closed form."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxpg
from jaxpg.agents import npg, trpo
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import trust_region as tr
from tests.conftest import slow_of
from tests.tabular import Chain, make
from tests.test_gradient import trajectories

ENVS = ("CartPole-v1", "Pendulum-v1")
KEY = jax.random.key(11)


def policy(env, seed=0, **fields):
    """A policy of about fifty parameters on random observations: its mean KL and parameters."""
    cfg = trpo.Config(hidden=(7,), **fields)
    net, pi = actor_critic(cfg, env)
    k_params, k_obs, k_noise, k_draw = jax.random.split(jax.random.key(seed), 4)
    params = net.init(k_params, env.example_obs, method="policy")
    flat, unravel = ravel_pytree(params)
    params = unravel(flat + 0.5 * jax.random.normal(k_noise, flat.shape, flat.dtype))
    obs = jax.random.normal(k_obs, (32, *env.example_obs.shape))
    old = net.apply(params, obs, method="policy")
    k_kl = jax.random.split(KEY)[1]  # what `improve` makes of KEY
    kl = lambda p: pi.kl(old, net.apply(p, obs, method="policy"), k_kl).mean()  # noqa: E731
    return cfg, kl, params, (obs, pi.sample(old, k_draw)[0])


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", slow_of(ENVS, "Pendulum-v1"))
def test_fisher_vector_products_are_the_dense_hessian_s_and_cg_inverts_it(name, double):
    _, kl, params, _ = policy(jaxpg.make(name))
    params = jax.tree.map(lambda x: x.astype(float), params)
    flat, unravel = ravel_pytree(params)
    assert 28 <= flat.size <= 60
    damping = 0.1
    dense = jax.jit(jax.hessian(lambda x: kl(unravel(x))))(flat) + damping * jnp.eye(flat.size)
    product = jax.jit(tr.fisher_vector_product(kl, params, damping))
    solve = jax.jit(lambda v: tr.conjugate_gradient(product, v, flat.size))
    rng = np.random.default_rng(0)
    for _ in range(5):
        v = jnp.asarray(rng.normal(size=flat.size))
        ours = ravel_pytree(product(unravel(v)))[0]
        np.testing.assert_allclose(ours, dense @ v, rtol=1e-4, atol=1e-4)
        x = ravel_pytree(solve(unravel(v)))[0]
        np.testing.assert_allclose(x, np.linalg.solve(dense, v), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", slow_of(ENVS, "Pendulum-v1"))
def test_the_hessian_of_the_kl_is_the_fisher_matrix(name, double):
    """E[grad log pi grad log pi'], for discrete actions by summation, else by many draws."""
    env = jaxpg.make(name)
    cfg, kl, params, (obs, _) = policy(env)
    net, pi = actor_critic(cfg, env)
    flat, unravel = ravel_pytree(jax.tree.map(lambda x: x.astype(float), params))

    @jax.jit
    def scores(draw):
        def log_prob(x, obs, draw):
            return pi.log_prob(net.apply(unravel(x), obs, method="policy"), draw)

        return jax.vmap(jax.grad(log_prob), (None, 0, 0))(flat, obs, draw)  # [32, P]

    out = net.apply(unravel(flat), obs, method="policy")
    if env.discrete:
        fisher = 0
        for a in (0, 1):
            g = scores(jnp.full(32, a))
            fisher += jnp.einsum("b,bp,bq->pq", jax.nn.softmax(out)[:, a], g, g) / 32
        tolerance = 1e-8
    else:
        draws = jax.vmap(lambda k: pi.sample(out, k)[0])(jax.random.split(jax.random.key(5), 8000))
        g = jax.lax.map(scores, draws, batch_size=500).reshape(-1, flat.size)
        fisher, tolerance = g.T @ g / len(g), 0.03
    hessian = jax.jit(jax.hessian(lambda x: kl(unravel(x))))(flat)
    scale = jnp.abs(hessian).max()
    np.testing.assert_allclose(hessian / scale, fisher / scale, atol=tolerance)


def test_a_natural_step_has_its_length_and_no_gradient_is_no_step():
    diagonal = jnp.array([4.0, 1.0, 0.25])
    step = tr.natural_step(lambda v: diagonal * v, jnp.array([1.0, 2.0, 0.0]), 0.02, 3)
    assert 0.5 * jnp.vdot(step, diagonal * step) == pytest.approx(0.02, rel=1e-5)
    np.testing.assert_allclose(step / step[0], [1.0, 8.0, 0.0], rtol=1e-5)
    none = tr.natural_step(lambda v: diagonal * v, jnp.zeros(3), 0.02, 3)
    assert none.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("room", "fraction"), [(2.0, 1.0), (0.9, 0.5), (0.13, 0.125), (0.0, 0.0)])
def test_line_search_takes_the_first_point_that_is_accepted(room, fraction):
    search = jax.jit(
        lambda room, p: tr.line_search(
            lambda q: q["w"][0] < 1 + room, p, {"w": jnp.ones(2)}, 0.5, 4
        )
    )
    params = {"w": jnp.array([1.0, 1 / 3])}
    new, taken = search(room, params)
    assert float(taken) == fraction
    np.testing.assert_array_equal(new["w"], params["w"] + fraction)
    many, taken = jax.vmap(search, (0, None))(jnp.array([2.0, 0.13, 0.0]), params)
    assert taken.tolist() == [1.0, 0.125, 0.0]
    assert many["w"][2].tolist() == params["w"].tolist()


@pytest.mark.parametrize("name", slow_of(ENVS, "Pendulum-v1"))
def test_trpo_stays_in_its_region_or_where_it_was(name):
    """100 random batches an action space: policy, observations, actions and advantages."""
    env = jaxpg.make(name)

    @jax.jit
    def go(seed, max_kl, scale):
        cfg, kl, params, (obs, draw) = policy(env, seed, max_kl=max_kl)
        advantage = scale * jax.random.normal(jax.random.fold_in(jax.random.key(9), seed), (32,))
        new, info = trpo.improve(params, cfg, env, trpo.Batch(obs, draw, advantage), KEY)
        same = jax.tree.map(lambda a, b: (a == b).all(), params, new)
        return kl(new), info, jnp.stack(jax.tree.leaves(same)).all()

    rng, moved = np.random.default_rng(1), 0
    for seed in range(100):
        max_kl = 10 ** rng.uniform(-4, 0)
        kl, info, same = go(seed, max_kl, 10 ** rng.uniform(-3, 3))
        if same:
            assert info["policy/step_fraction"] == 0
        else:
            moved += 1
            assert kl <= max_kl * (1 + 1e-5)
            assert info["policy/improvement"] > 0
            assert info["policy/kl"] == pytest.approx(float(kl), rel=1e-3, abs=1e-7)
    assert moved >= 80


def test_trpo_without_an_improvement_is_unchanged_to_the_byte():
    env = jaxpg.make("CartPole-v1")
    cfg, _, params, (obs, draw) = policy(env, backtracks=0)
    for advantage in (jnp.zeros(32), jnp.full(32, jnp.nan)):
        new, info = jax.jit(partial(trpo.improve, cfg=cfg, env=env))(
            params, b=trpo.Batch(obs, draw, advantage), key=KEY
        )
        assert info["policy/step_fraction"] == 0
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(new), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_npg_s_direction_on_a_tabular_softmax_mdp_is_the_advantage(double):
    """Kakade (2001): with a table of logits the natural gradient of the return changes them by
    the advantage, in every state, whatever the states' frequencies; Agarwal et al. (2021),
    arXiv:1908.00261 lemma 15. Checked on a batch that holds each trajectory as often as its
    probability says, so that no sampling error is in it."""
    t, env = trajectories(), make(Chain())
    cfg = npg.Config(hidden=(), damping=0.0, cg_iterations=60, max_kl=1e-8)
    net, _ = actor_critic(cfg, env)
    probs = {0: 0.25, 1: 0.75}  # of the actions, in every state
    params = jax.tree.map(
        lambda x: jnp.zeros(x.shape, float),
        net.init(jax.random.key(0), env.example_obs, method="policy"),
    )
    bias = jnp.log(jnp.array([probs[0], probs[1]]))
    params["params"]["actor"]["bias"] = bias

    # Exact Q, V and A by going backwards; states are (time, sum of actions).
    rewards = np.asarray(Chain.rewards, float)
    v, advantage = np.zeros((4, 4)), np.zeros((3, 3, 2))
    for time in (2, 1, 0):
        for total in range(time + 1):
            q = [rewards[time, total, a] + v[time + 1, total + a] for a in (0, 1)]
            v[time, total] = probs[0] * q[0] + probs[1] * q[1]
            advantage[time, total] = np.array(q) - v[time, total]

    actions = np.array(list(itertools.product((0, 1), repeat=3)))
    copies = [round(64 * np.prod([probs[a] for a in row])) for row in actions]
    assert sum(copies) == 64
    columns = np.repeat(np.arange(8), copies)
    batch = jax.tree.map(lambda x: x[:, columns], t)
    sums = (np.cumsum(actions, 1) - actions)[columns].T
    a = advantage[np.arange(3)[:, None], sums, actions[columns].T]
    batch = npg.Batch(batch.obs, batch.action, jnp.array(a))
    new, _ = jax.jit(npg.improve)(params, cfg, env, batch, KEY)

    change = net.apply(new, jnp.eye(9), method="policy") - bias
    change = np.asarray(change - (change @ jnp.array([0.25, 0.75]))[:, None])  # logits are relative
    seen = [(time, total) for time in range(3) for total in range(time + 1)]
    ours = np.stack([change[3 * time + total] for time, total in seen])
    exact = np.stack([advantage[time, total] for time, total in seen])
    np.testing.assert_allclose(
        ours / np.linalg.norm(ours), exact / np.linalg.norm(exact), atol=1e-5
    )


@pytest.mark.slow
def test_four_seeds_in_one_loop_step_as_far_as_one():
    """With jax.scipy's conjugate gradients this program read memory that nobody had written."""
    env, cfg = jaxpg.make("CartPole-v1"), npg.Config()
    train = jax.jit(
        jax.vmap(partial(jaxpg.train, jaxpg.npg, total_steps=3 * 1024), (None, None, 0))
    )
    _, metrics = train(cfg, env, jax.random.split(jax.random.key(7), 4))
    assert metrics["policy/kl"].shape == (4, 3)
    assert (metrics["policy/kl"] > 0.4 * cfg.max_kl).all()
    assert (metrics["policy/kl"] < 1.6 * cfg.max_kl).all()
