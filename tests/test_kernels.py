"""What a GPU is given that a CPU is not: the same functions, in fewer kernels."""

import doctest
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import kernels

import jaxpg
from jaxpg.core import machine, packing, products, scans
from jaxpg.loops import optimizers
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.heads import discrete
from tests.conftest import slow_of

KEY = jax.random.key(0)


def plain(tree):
    """The tree with keys as the integers that they are."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def chosen(monkeypatch, gpu):
    monkeypatch.setattr(machine, "on_gpu", lambda: gpu)


def test_a_loop_is_unrolled_on_a_gpu_alone(monkeypatch):
    assert {scans.loop_unroll(kind, 128) for kind in scans.UNROLL} == {1}
    chosen(monkeypatch, True)
    monkeypatch.setitem(scans.UNROLL, "rollout", 8)
    lengths = {0: 1, 1: 1, 5: 5, 7: 7, 12: 6, 13: 1, 20: 5, 128: 8}
    assert {n: scans.loop_unroll("rollout", n) for n in lengths} == lengths


@pytest.mark.parametrize(("module", "examples"), [(scans, 3), (products, 3)])
def test_examples_are_so(module, examples):
    assert doctest.testmod(module, extraglobs={"jax": jax}) == (0, examples)


def test_without_a_compiler_for_gpus_nothing_is_counted(monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", missing)
    with pytest.raises(RuntimeError, match="pip install"):
        kernels.compile_for_gpu(jnp.sin, jnp.ones(3))


def test_a_packed_tree_is_the_tree(monkeypatch):
    tree = {
        "a": jnp.arange(6.0).reshape(2, 3), "b": jnp.float32(7), "key": KEY, "n": jnp.arange(3),
        "large": jnp.ones(packing.LARGE + 1), "none": jnp.zeros((0, 2)), "m": jnp.int32(4),
    }  # fmt: skip
    assert packing.pack(tree) is tree
    assert packing.unpack(tree) is tree
    chosen(monkeypatch, True)
    packed = packing.pack(tree)
    assert sorted(x.size for x in packed.vectors) == [1, 4, 7, packing.LARGE + 1]
    jax.tree.map(np.testing.assert_array_equal, plain(packing.unpack(packed)), plain(tree))
    seven = jax.vmap(lambda _: packed)(jnp.arange(7))  # as a loop stacks them
    several = jax.tree.map(lambda x: jnp.stack([x] * 7), tree)
    jax.tree.map(np.testing.assert_array_equal, plain(packing.unpack(seven)), plain(several))


def test_a_packed_tree_keeps_its_first_axes(monkeypatch):
    tree = {"obs": jnp.arange(24.0).reshape(3, 4, 2), "reward": jnp.ones((3, 4)),
            "key": jax.random.split(KEY, (3, 4)), "large": jnp.ones((3, 4, packing.LARGE)),
            "done": jnp.eye(3, 4) > 0, "one": jnp.ones(())}  # fmt: skip
    chosen(monkeypatch, True)
    packed = packing.pack(tree, keep=2)
    shapes = [x.shape for x in packed.vectors]
    assert sorted(shapes) == [(), (3, 4), (3, 4), (3, 4, 3), (3, 4, packing.LARGE)]
    jax.tree.map(np.testing.assert_array_equal, plain(packing.unpack(packed)), plain(tree))
    tree.pop("one")
    each = jax.vmap(lambda x: packing.unpack(packing.pack(x, keep=1)))(tree)
    jax.tree.map(np.testing.assert_array_equal, plain(each), plain(tree))


def test_parameters_move_by_their_updates(monkeypatch):
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    updates = {"w": jnp.arange(6.0).reshape(2, 3), "b": -jnp.arange(3.0)}
    usual = optimizers.apply_updates(params, updates)
    chosen(monkeypatch, True)
    jax.tree.map(np.testing.assert_array_equal, optimizers.apply_updates(params, updates), usual)
    np.testing.assert_array_equal(usual["w"], 1 + updates["w"])


def test_choices_that_are_written_out_are_those_of_a_reduction(monkeypatch):
    """Draws are the same; of probabilities the last bits may differ."""
    for n in (2, discrete.SHORT):
        out = 3 * jax.random.normal(jax.random.fold_in(KEY, n), (200, n))
        results = []
        for gpu in (False, True):
            chosen(monkeypatch, gpu)
            head = discrete.categorical(n, 0.7)
            draw, log_prob = head.sample(out, KEY)
            rest = head.entropy(out, KEY), head.kl(out, out[::-1], KEY), head.log_prob(out, draw)
            gradient = jax.grad(lambda x, head=head: head.entropy(x, KEY).sum())(out)
            results.append((draw, (log_prob, *rest, gradient)))
        (draw, usual), (other, short) = results
        assert draw.dtype == other.dtype
        assert draw.shape == other.shape == (200,)
        np.testing.assert_array_equal(draw, other)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), usual, short)


def test_the_first_of_the_largest_is_chosen():
    x = jnp.array([[1, 3, 3], [2, 2, 2], [0, -1, 5], [np.nan, 9, np.nan], [1, np.nan, np.inf]])
    np.testing.assert_array_equal(discrete._argmax([*x.T]), jnp.argmax(x, -1))


@pytest.mark.parametrize("other", [{}, {"critic_hidden": (6, 4)}])
def test_two_torsos_with_stacked_parameters_are_the_two(other, monkeypatch):
    env = jaxpg.make("CartPole-v1")
    net, _ = actor_critic(jaxpg.ppo.Config(hidden=(5, 4), layer_norm=True, **other), env)
    params, obs = net.init(KEY, env.example_obs), jax.random.normal(KEY, (7, 4))

    def gradient(gpu):
        def loss(params):
            out, value, _ = net.apply(params, obs, (), jnp.zeros(7, bool))
            return out.sum() + jnp.square(value).sum()

        chosen(monkeypatch, gpu)
        program = jax.jit(jax.grad(loss)).lower(params)
        return program.as_text().count("stablehlo.dot_general"), program.compile()(params)

    (separate, usual), (stacked, found) = gradient(False), gradient(True)
    assert (separate == stacked) == ("critic_hidden" in other)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, usual)


CASES = {
    "ppo": {"num_steps": 16, "minibatches": 2},
    "ppo, early stop": {"num_steps": 8, "minibatches": 2, "target_kl": 1e-4},
    "a2c": {"num_steps": 8},
    "dqn": {"num_steps": 8, "buffer_size": 64, "batch_size": 8, "learning_starts": 8},
    "reinforce": {"num_steps": 16, "normalize_reward": True},
    "npg": {"num_steps": 16},
}


@pytest.mark.parametrize("case", slow_of(CASES, *{*CASES} - {"reinforce"}))
def test_a_gpu_is_given_the_same_function(case, monkeypatch):
    """Its choices, on a CPU: integers and keys are equal, floats but for the last bits."""
    agent = getattr(jaxpg, case.partition(",")[0])
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=5)
    cfg = agent.Config(num_envs=2, hidden=(5,), **CASES[case])
    steps = 4 * agent.steps_per_iter(cfg)

    def train(gpu):
        chosen(monkeypatch, gpu)
        jax.clear_caches()  # traces do not know of the choice
        program = jax.jit(partial(jaxpg.train, agent, total_steps=steps)).lower(cfg, env, KEY)
        return program.as_text(), program.compile()(cfg, env, KEY)

    (text, usual), (unrolled, other) = train(False), train(True)
    assert text != unrolled

    def compare(x, y):
        exact = not jnp.issubdtype(x.dtype, jnp.floating)
        np.testing.assert_allclose(x, y, rtol=0 if exact else 2e-5, atol=0 if exact else 1e-6)

    jax.tree.map(compare, plain(usual), plain(other))
    assert usual[1]["episode/count"].sum() > 5


DIMS = {
    "a layer": ((4, 5), (5, 70), (((1,), (0,)), ((), ()))),
    "few columns": ((4, 5), (5, 3), (((1,), (0,)), ((), ()))),
    "the gradient of its input": ((4, 70), (5, 70), (((1,), (1,)), ((), ()))),
    "that of its kernel": ((7, 5), (7, 40), (((0,), (0,)), ((), ()))),
    "of vectors": ((5,), (5,), (((0,), (0,)), ((), ()))),
    "nothing is summed": ((2,), (3,), (((), ()), ((), ()))),
    "a batch, further axes": ((2, 3, 4, 5), (6, 5, 2, 3), (((1, 3), (3, 1)), ((0,), (2,)))),
}


@pytest.mark.parametrize("case", DIMS)
def test_numbers_that_are_multiplied_and_summed_are_the_product(case):
    *shapes, dims = DIMS[case]
    x, y = (jax.random.normal(jax.random.fold_in(KEY, i), s) for i, s in enumerate(shapes))
    expected = jax.lax.dot_general(x, y, dims, precision="highest")
    found = products.multiply_and_sum(x, y, dims)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def lowered(function, *shapes, platform="cuda"):
    """A program's text before XLA compiles it: no compiler for GPUs is needed."""
    args = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_small_products_are_sums_where_a_gpu_is_compiled_for(monkeypatch):
    def layer(x, w):
        return jnp.tanh(x @ w).sum()

    learn, shapes = jax.grad(layer, (0, 1)), [(128, 64), (64, 64)]
    chosen(monkeypatch, False)
    assert not products.use_fused_products()
    chosen(monkeypatch, True)
    assert products.use_fused_products()
    for function in (layer, learn):
        assert "dot_general" not in lowered(function, *shapes)
        assert "dot_general" in lowered(function, *shapes, platform="cpu")
    two, seven = ([(n, *shape) for shape in shapes] for n in (2, 7))
    assert "dot_general" not in lowered(jax.vmap(learn), *two)
    assert lowered(jax.vmap(learn), *seven).count("dot_general") == 3  # of seven seeds: products
    assert "dot_general" in lowered(layer, (257, 64), (64, 64))
    assert "dot_general" in lowered(layer, (1, 512), (512, 512))
    assert "dot_general" in lowered(lambda x, w: layer(x.astype(jnp.bfloat16), w), *shapes)


@pytest.mark.parametrize("moved", ["lower_fun", "register_lowering"])
def test_a_jax_whose_internals_have_moved_keeps_its_products(moved, monkeypatch):
    monkeypatch.delattr(f"jax.interpreters.mlir.{moved}")
    assert products._register.__wrapped__() is False
