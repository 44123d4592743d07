"""Many seeds as one program: vmapped, and laid over the devices."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxpg.core.parallel.lanes import has_lanes
from jaxpg.core.single import is_batched
from jaxpg.core.types import Tree


def seed_mesh(num_seeds: int, env: Tree = None) -> Mesh:
    """The most devices that divide `num_seeds` evenly, as a mesh with the axis "seed"; of several
    processes as many of each, and one of each for an environment on the host. Raises ValueError if
    these do not divide it."""
    processes = jax.process_count()
    if num_seeds % processes:
        raise ValueError(f"{num_seeds} seeds: allowed is a multiple of {processes}, the processes")
    each = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
    most = 1 if _on_host(env) else min(map(len, each))
    count = max(n for n in range(1, most + 1) if num_seeds % (n * processes) == 0)
    return Mesh(np.array([own[:count] for own in each]).ravel(), ("seed",))


def seeds_here(num_seeds: int) -> list[int]:
    """Indices of the seeds on this process's devices."""
    mesh = seed_mesh(num_seeds)
    owners = [d.process_index for d in mesh.devices for _ in range(num_seeds // mesh.size)]
    return [seed for seed, owner in enumerate(owners) if owner == jax.process_index()]


def split_batched_args(cfg, env, *shared: Tree) -> tuple[tuple, tuple]:
    """Splits the arguments of f(*shared, cfg, env, ...) into those broadcast to all seeds and those
    batched per seed. Config and environment are batched only for lanes."""
    return (shared, (cfg, env)) if has_lanes(cfg) else ((*shared, cfg, env), ())


def _on_host(tree: Tree) -> bool:
    """True if a tree holds an environment whose lanes are one call of the host."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: hasattr(x, "core"))
    return any(is_batched(x.core) for x in nodes if hasattr(x, "core"))


def over_seeds(f: Callable, mesh: Mesh) -> Callable:
    """Vectorises f(*shared, *own) over seeds, as g(shared: tuple, *own), own leaves [seeds, ...].

    Each device runs its share of the seeds on its own: a `while_loop` on one never waits for
    another, which a sharding left to the compiler would make it do. Where an environment is on the
    host, a device trains its seeds one after the other.
    """
    seeds = PartitionSpec("seed")

    def mapped(shared: tuple, *own: Tree) -> Tree:
        def local(shared, *own):
            if _on_host((shared, own)):
                return jax.lax.map(lambda own: f(*shared, *own), own)
            return jax.vmap(lambda *own: f(*shared, *own))(*own)

        if mesh.size == 1:
            return local(shared, *own)
        specs = (PartitionSpec(), *[seeds] * len(own))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=seeds, check_vma=False)(
            shared, *own
        )

    return mapped
