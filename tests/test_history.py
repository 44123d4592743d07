"""What the host loop keeps of a run: the numbers of its metrics, and nothing for each chunk."""

import gc
import tracemalloc

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core import run as loop


def test_a_chunk_costs_the_bytes_of_its_metrics():
    """An array of one number costs 112 bytes beside it, a dict of five of them 232."""
    kept = {}

    def weigh(event):
        if event.iteration in (600, 1800):
            gc.collect()
            kept[event.iteration] = tracemalloc.get_traced_memory()[0]

    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(num_envs=1, num_steps=1)
    tracemalloc.start()
    try:
        result = jaxpg.run(
            jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=1800, chunk=1,
            callbacks=[jaxpg.Callback(on_metrics=weigh)],
        )  # fmt: skip
    finally:
        tracemalloc.stop()
    own = sum(x.nbytes for x in result.metrics.values()) / 1800
    assert (kept[1800] - kept[600]) / 1200 < 1.5 * own + 20


@pytest.mark.parametrize("lengths", [[1] * 1000, [7] * 63 + [3], [5]])
def test_blocks_of_metrics_are_few_and_in_order(lengths):
    history, begin = [], 0
    for n in lengths:
        loop._append(history, {"x": np.arange(begin, begin + n)[None]})
        begin += n
        assert len(history) <= 1 + np.log2(len(lengths))
    np.testing.assert_array_equal(loop._join(history)["x"], np.arange(begin)[None])


def test_an_agent_without_metrics_has_none():
    history = []
    for _ in range(3):
        loop._append(history, {})
    assert loop._join(history) == {}
