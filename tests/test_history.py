"""What the host loop keeps of a run: the numbers of its metrics, and nothing for each chunk."""

import gc
import tracemalloc

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.blocks import Blocks, History


@pytest.mark.slow
def test_a_chunk_costs_the_bytes_of_its_metrics():
    """An array of one number costs 112 bytes beside it, a dict of five of them 232. JAX and threads
    of other tests allocate now and then; what a chunk keeps is in each of three parts of a run."""
    kept = {}

    def weigh(event):
        if event.iteration % 400 == 200:
            gc.collect()
            kept[event.iteration] = tracemalloc.get_traced_memory()[0]

    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(num_envs=1, num_steps=1)
    tracemalloc.start()
    try:
        result = jaxpg.run(
            jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=1400, chunk=1,
            callbacks=[jaxpg.Callback(on_metrics=weigh)],
        )  # fmt: skip
    finally:
        tracemalloc.stop()
    own = sum(x.nbytes for x in result.metrics.values()) / 1400
    assert list(kept) == [200, 600, 1000, 1400]
    assert min(np.diff(list(kept.values()))) / 400 < 1.5 * own + 20


@pytest.mark.parametrize("lengths", [[1] * 1000, [7] * 63 + [3], [5]])
def test_parts_of_a_history_are_few_and_in_order(lengths):
    history, begin = History(Blocks(1)), 0
    for n in lengths:
        history.add({"x": np.arange(begin, begin + n)[None]})
        begin += n
        assert len(history._parts) <= 1 + np.log2(len(lengths))
    np.testing.assert_array_equal(history.join()["x"], np.arange(begin)[None])


def test_an_agent_without_metrics_has_none():
    history = History(Blocks(1))
    for _ in range(3):
        history.add({})
    assert history.join() == {}


def test_without_blocks_nothing_is_kept():
    history = History(None)
    history.add({"x": np.arange(3)})
    assert history.join() == {}


def test_an_error_at_the_end_keeps_no_other_callback_from_its_end():
    ended = []

    def fail(result):
        raise RuntimeError("a logger without its network")

    watch = [jaxpg.Callback(on_end=x) for x in (fail, ended.append)]
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(num_envs=1, num_steps=1)
    with pytest.raises(RuntimeError, match="without its network"):
        jaxpg.run(
            jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=3, chunk=1, callbacks=watch
        )
    assert [result.iteration for result in ended] == [3]
