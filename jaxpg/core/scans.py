"""Loops over time, of which a GPU is given several steps at once."""

from collections.abc import Callable

import jax

from jaxpg.core import machine
from jaxpg.core.types import Tree

# Steps that a GPU is given at once, by what a loop does. Each of them is compiled for itself, so
# there is an end to what pays: a rollout of PPO on CartPole is 1,660, 670 and 590 kernels and
# copies with 1, 4 and 8 of its steps at once, and all of PPO takes 6.5, 8 and 10 s to compile.
UNROLL = {"rollout": 4, "returns": 16}


def scan(
    kind: str, step: Callable, begin: Tree, x: Tree, *, reverse: bool = False
) -> tuple[Tree, Tree]:
    """Runs `step(carry, x_t) -> carry, y_t` over data x [T, ...]: the last carry, and y [T, ...].

    As `jax.lax.scan`, with as many steps in one as the machine is given of this `kind` of UNROLL.

    >>> scan("returns", lambda total, x: (total + x, total), 0, jax.numpy.arange(4))[0].item()
    6
    """
    length = len(jax.tree.leaves(x)[0])
    return jax.lax.scan(step, begin, x, reverse=reverse, unroll=loop_unroll(kind, length))


def scan_returns(
    step: Callable, begin: Tree, x: Tree, *, reverse: bool = False
) -> tuple[Tree, Tree]:
    """`scan` for the recursions of `ops`, which take it as their `scan`.

    >>> scan_returns(lambda total, x: (total + x, total), 0, jax.numpy.arange(4))[0].item()
    6
    """
    return scan("returns", step, begin, x, reverse=reverse)


def loop_unroll(kind: str, length: int) -> int:
    """Steps of a loop that are compiled as one: its `unroll`, by `kind` of UNROLL, a divisor of its
    length.

    On a GPU a small operation costs the start of its kernel. What steps side by side write, and the
    arithmetic of environments, XLA puts into common kernels. On a CPU it would cost time to
    compile, and gain nothing: 1, the same program as without it.

    >>> loop_unroll("rollout", length=128)
    1
    """
    most = min(UNROLL[kind], length) if machine.on_gpu() else 1
    return next((n for n in range(most, 1, -1) if length % n == 0), 1)
