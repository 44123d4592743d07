"""What holds on a GPU, where there is one: `JAXPG_TEST_XLA=default pytest -m gpu`.

Promises of test_contract, of an agent that learns from rollouts and of one that learns from replay.
Products are in float32 here: an H100 rounds them to ten bits by itself, which two programs of one
run do at different places. Which promise is exact, and which not: docs/devices.md.
"""

import os

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core import machine
from tests import test_contract as contract
from tests.conftest import require_gpu

AGENTS = ("ppo", "sac")


def marked(test):
    return pytest.mark.gpu(pytest.mark.optimised(test))


@pytest.fixture(scope="module", autouse=True)
def own_programs():
    """Runs that other tests keep were compiled without the optimiser."""
    contract.chunked.cache_clear()
    with jax.default_matmul_precision("highest"):
        yield
    contract.chunked.cache_clear()


def test_a_test_for_a_gpu_is_skipped_with_a_sentence():
    with pytest.raises(pytest.skip.Exception, match="needs a GPU: JAX's backend here is cpu"):
        require_gpu("cpu")
    require_gpu("gpu")


@marked
def test_xla_has_what_the_command_sets():
    assert all(flag in os.environ["XLA_FLAGS"] for flag in machine.GPU_FLAGS)


@marked
@pytest.mark.parametrize("name", AGENTS)
def test_one_program_gives_the_same_bytes_twice(name):
    again = contract.chunked.__wrapped__(name, 7)
    contract.same_bytes(again.state, contract.chunked(name, 7).state)
    assert {x.platform for x in jax.tree.leaves(again.state)[0].devices()} == {"gpu"}


@marked
@pytest.mark.parametrize("name", AGENTS)
def test_iterations_one_by_one_do_not_change_a_byte(name):
    contract.test_iterations_one_by_one_do_not_change_a_byte(getattr(jaxpg, name))


@marked
@pytest.mark.parametrize("name", AGENTS)
def test_resume_is_exact(name):
    contract.test_resume_from_the_middle_is_exact(getattr(jaxpg, name))


@marked
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("chunk", [2, contract.ITERATIONS])
def test_chunks_of_another_length_give_the_same_run(name, chunk):
    """Another program, for which XLA may choose other kernels: keys and counts to the byte."""
    parts, other = contract.chunked(name, 7), contract.chunked(name, chunk)
    contract.same_bytes(parts.state.key, other.state.key)
    contract.same_bytes(parts.metrics["episode/count"], other.metrics["episode/count"])
    for key, column in parts.metrics.items():
        np.testing.assert_allclose(other.metrics[key], column, rtol=2e-2, atol=2e-3, err_msg=key)


@marked
@pytest.mark.parametrize("name", AGENTS)
def test_seeds_alone_and_together_are_the_same_runs(name):
    contract.test_seeds_are_rows_of_one_program(name)
