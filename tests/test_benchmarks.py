"""The parts of the benchmarks that figures rest on: counting operations, processes, verdicts."""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import check
import harness
import peers
from flops import flops

import jaxpg


def test_products_are_counted_with_the_lengths_of_their_loops():
    x, w = jnp.zeros((3, 5)), jnp.zeros((5, 5))
    one = 2 * 3 * 5 * 5

    def looped(x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=7)[0]

    assert flops(looped, x) == 7 * one
    assert flops(jax.vmap(looped), jnp.zeros((2, 3, 5))) == 2 * 7 * one
    # Backwards there are two products for each: for the input and, if asked for, the weight.
    assert flops(jax.grad(lambda x: looped(x).sum()), x) == 2 * 7 * one
    assert flops(lambda x: jax.lax.cond(True, lambda x: x @ w, lambda x: x, x), x) == one
    undecided = lambda x: jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ w, x)  # noqa: E731
    assert flops(undecided, x) == one
    assert flops(undecided, x, trips=4) == 4 * one


def test_a_convolution_is_counted_as_the_products_that_it_is():
    image, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))

    def convolve(image):
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert flops(convolve, image) == 2 * (2 * 6 * 6 * 5) * (3 * 3 * 3)


def test_an_iteration_of_ppo_costs_what_its_networks_do():
    env, hidden = jaxpg.make("CartPole-v1"), 16
    cfg = jaxpg.ppo.Config(num_envs=2, num_steps=8, hidden=(hidden, hidden), total_steps=1000)
    state = jax.eval_shape(lambda key: jaxpg.ppo.init(cfg, env, key), jax.random.key(0))
    body = 4 * hidden + hidden * hidden
    forward = 2 * (2 * body + 3 * hidden)  # actor with 2 actions, critic with 1 value
    # Backwards: weights of all layers, inputs of all but the first.
    learning = cfg.num_epochs * (2 * forward + forward - 2 * 2 * 4 * hidden)
    # The critic alone is needed of the batch and its successors, the actor alone of the rollout;
    # in the jaxpr both are computed, and XLA drops what nobody reads.
    counted = flops(jaxpg.ppo.step, cfg, env, state) / 16
    assert counted == pytest.approx(learning + 3 * forward, rel=0.02)


def test_a_process_that_hangs_is_killed_and_one_that_fails_says_why():
    begun = time.monotonic()
    hang = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with pytest.raises(harness.Failed, match="killed after 1 s"):
        harness.fresh([sys.executable, "-c", hang], 1)
    assert time.monotonic() - begun < 20
    with pytest.raises(harness.Failed, match="ZeroDivisionError"):
        harness.fresh([sys.executable, "-c", "1 / 0"], 60)
    assert harness.worker([sys.executable, "-c", "print('x\\n[1]')"], 60) == [1]


def test_peak_memory_is_that_of_the_process_itself():
    big = bytearray(200 * 2**20)
    code = "import harness; print(harness.peak_memory())"
    folder = str(Path(harness.__file__).parent)
    child = float(harness.fresh([sys.executable, "-c", code], 60, cwd=folder, PYTHONPATH=folder))
    assert 2 < child < 100
    assert harness.peak_memory() > len(big) / 2**20


def test_returns_that_differ_by_chance_are_not_below():
    assert check.not_below([500, 500], [500, 500])
    assert check.not_below([499, 500, 500], [500, 500, 499.5])
    assert not check.not_below([450, 452, 451], [500, 499, 500])
    assert not check.not_below([499], [500])


def test_bars_beside_peers_follow_the_measured_ratios():
    def rows(rate, compiled=4.0):
        return [{"steps/s": rate, "return": 500.0, "compile s": compiled}] * 3

    runs = {"jaxpg": rows(300.0), "rejax": rows(200.0), "purejaxrl": rows(250.0)}
    assert check.fastest(runs) == "purejaxrl"
    assert peers.ratios(runs, "purejaxrl") == pytest.approx([1.2] * 3)
    assert check.fastest({"jaxpg": rows(1.0), "sb3": rows(2.0)}) is None
    scale = check.Scale(1, seeds=16)
    lines = check.speed(scale, {1: runs, 16: runs}, {})
    one, many = next(lines), next(lines)
    assert one.held
    assert "PureJaxRL" in one.what
    assert not many.held  # 1.2 is less than 1.8


def test_what_was_given_goes_before_what_was_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "KNOWN", tmp_path / "peers.json")
    peers.KNOWN.write_text(json.dumps({"rejax": "/old/python", "sb3": "/sb3/python"}))
    import argparse

    parser = argparse.ArgumentParser()
    peers.options(parser)
    found = peers.places(parser.parse_args(["--rejax", "/new/python", "--purejaxrl", "/pure"]))
    assert found["rejax"] == found["purejaxrl_python"] == "/new/python"
    assert found["sb3"] == "/sb3/python"
    every = peers.commands(found, 16, 512, 512)
    assert set(every) == {"jaxpg", "jaxpg-1", "rejax", "purejaxrl"}  # the others are not vmapped
    assert every["purejaxrl"][-1] == "/pure"
