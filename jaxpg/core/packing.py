"""Trees as one vector a dtype, and what is written where: a GPU reads and writes in few kernels."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core import machine
from jaxpg.core.types import Array, EnvState, Transition, Tree

LARGE = 2**13  # numbers of a leaf: more of them cost as much to move as a kernel does to start


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """A tree whose leaves of a dtype lie in one vector; a loop may stack the vectors."""

    vectors: list[Array]  # [..., sum of sizes] each; a leaf that is alone as it is, [..., *shape]
    structure: Any = dataclasses.field(metadata={"static": True})
    shapes: tuple[tuple[int, ...], ...] = dataclasses.field(metadata={"static": True})
    groups: tuple[tuple[int, ...], ...] = dataclasses.field(metadata={"static": True})


def pack(tree: Tree, keep: int = 0) -> Tree:
    """The tree as Packed on a GPU, keys and large leaves by themselves; elsewhere as it is.

    keep: the first axes that vectors keep, of leaves that have those of the first leaf; others are
    by themselves. A loop over many small arrays starts kernels for each: one that adds, one that
    writes.
    """
    if not machine.on_gpu():
        return tree
    leaves, structure = jax.tree.flatten(tree)
    groups: dict[object, list[int]] = {}
    for i, x in enumerate(leaves):
        alone = x.size > LARGE or jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        other = x.shape[:keep] != leaves[0].shape[:keep]
        groups.setdefault(i if alone or other else x.dtype, []).append(i)

    def join(group: list[int]) -> Array:
        xs = [leaves[i] for i in group]
        if len(xs) == 1:
            return xs[0]
        return jnp.concatenate([x.reshape(*x.shape[:keep], -1) for x in xs], -1)

    return Packed(
        [join(group) for group in groups.values()],
        structure,
        tuple(x.shape[keep:] for x in leaves),
        tuple(map(tuple, groups.values())),
    )


def unpack(tree: Tree) -> Tree:
    """The tree that was packed, with the further first axes that its vectors have got."""
    if not isinstance(tree, Packed):
        return tree
    leaves: dict[int, Array] = {}
    for vector, group in zip(tree.vectors, tree.groups, strict=True):
        if len(group) == 1:
            leaves[group[0]] = vector
            continue
        begin = 0
        for i in group:
            end = begin + math.prod(tree.shapes[i])
            part = jax.lax.slice_in_dim(vector, begin, end, axis=-1)
            leaves[i], begin = part.reshape(*vector.shape[:-1], *tree.shapes[i]), end
    return tree.structure.unflatten([leaves[i] for i in range(len(leaves))])


def write_once(tree: Tree) -> Tree:
    """The tree, whose arrays a GPU writes here; elsewhere as it is.

    Small arrays XLA computes again in every kernel that reads them, and what they came from: of
    several steps in one, all that went before.
    """
    return jax.lax.optimization_barrier(tree) if machine.on_gpu() else tree


def write_step(
    state: EnvState, t: Transition, carry: Tree, totals: Tree
) -> tuple[EnvState, Transition, Tree, Tree]:
    """A step's results, written once: all but observations, which are arrays of another shape and
    so another kernel. They are written where the environment gives them."""
    rest = state._replace(obs=()), t._replace(obs=(), next_obs=()), carry, totals
    after, moved, carry, totals = write_once(rest)
    t = moved._replace(obs=t.obs, next_obs=t.next_obs)
    return after._replace(obs=state.obs), t, carry, totals
