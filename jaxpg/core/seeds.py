"""Many seeds as one program: vmapped, and laid over the devices."""

import os
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxpg.core.lanes import apart
from jaxpg.core.types import Tree


def use_all_cores(count: int | None = None) -> None:
    """Makes one JAX device of every CPU core (or `count`), for seeds to be laid over.

    Call it before anything touches JAX's devices. Raises RuntimeError if that has happened.
    """
    jax.config.update("jax_num_cpu_devices", count or len(os.sched_getaffinity(0)))


def seed_mesh(num_seeds: int) -> Mesh:
    """The most devices that divide `num_seeds` evenly, as a mesh with the axis "seed"."""
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if num_seeds % n == 0)
    return Mesh(np.array(devices[:count]), ("seed",))


def shared_and_own(cfg, env, *shared: Tree) -> tuple[tuple, tuple]:
    """What all seeds share and what each has of its own, for f(*shared, cfg, env, ...): config and
    environment are shared, unless they are those of lanes."""
    return (shared, (cfg, env)) if apart(cfg) else ((*shared, cfg, env), ())


def over_seeds(f: Callable, mesh: Mesh) -> Callable:
    """f(*shared, *own) for every seed: call it as g(shared: tuple, *own), own leaves [seeds, ...].

    Each device runs its share of the seeds on its own: a `while_loop` on one never waits for
    another, which a sharding left to the compiler would make it do.
    """
    seeds = PartitionSpec("seed")

    def mapped(shared: tuple, *own: Tree) -> Tree:
        def local(shared, *own):
            return jax.vmap(lambda *own: f(*shared, *own))(*own)

        if mesh.size == 1:
            return local(shared, *own)
        specs = (PartitionSpec(), *[seeds] * len(own))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=seeds, check_vma=False)(
            shared, *own
        )

    return mapped
