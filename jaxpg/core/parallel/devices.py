"""One run's environments over devices: data parallel.

The environments are laid over a mesh with the axis "env"; all else that a state holds is on every
device. The program stays what it was: XLA's partitioner splits what is done to each environment,
and adds up over devices what is a sum or a mean over environments, so gradients and running
statistics are those of the whole batch. The mesh is JAX's ambient one (`jax.set_mesh`); without it
the hints below do nothing.
"""

import contextlib

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpg.core.parallel.seeds import seed_mesh
from jaxpg.core.single import is_batched
from jaxpg.core.types import Agent, EnvState, Key, Tree


def run_mesh(agent: Agent, cfg, env, key: Key, data_parallel: bool) -> Mesh | None:
    """Mesh of a run: over its seeds, over its environments, or None for a single device.

    Raises ValueError for a run that cannot be laid over the devices and processes there are.
    """
    if key.ndim and data_parallel:
        raise ValueError(
            f"data_parallel=True with {len(key)} seeds: allowed is one key; seeds are laid over "
            "the devices themselves"
        )
    if key.ndim:
        return seed_mesh(len(key), env)
    if data_parallel and is_batched(env.core):
        raise ValueError(
            f"data_parallel=True: allowed is False, for {env.name} is on the host, and no device's"
        )
    if data_parallel:
        return env_mesh(agent, cfg)
    if jax.process_count() > 1:
        raise ValueError(
            f"one key on {jax.process_count()} processes: allowed is data_parallel=True, or a "
            "multiple of so many keys"
        )
    return None


def env_mesh(agent: Agent, cfg) -> Mesh:
    """Mesh of all devices, for the environments of a run.

    Raises ValueError if the agent has no `num_envs`, or it is no multiple of the devices' number.
    """
    devices = jax.devices()
    if not hasattr(cfg, "num_envs"):
        raise ValueError(
            f"data_parallel=True: allowed is False, for {agent.name} has no num_envs to lay over "
            "devices"
        )
    if cfg.num_envs % len(devices):
        raise ValueError(
            f"num_envs={cfg.num_envs}: with data_parallel=True allowed is a multiple of "
            f"{len(devices)}, the number of devices"
        )
    return Mesh(np.array(devices), ("env",))


def mesh_context(mesh: Mesh | None):
    """Sets the ambient mesh for `shard_axis`; does nothing for a mesh over seeds."""
    ours = mesh is not None and mesh.axis_names == ("env",)
    return jax.set_mesh(mesh) if ours else contextlib.nullcontext()


def _ambient_mesh() -> jax.sharding.AbstractMesh | None:
    """The ambient mesh over environments; None without one, or if it is of one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.axis_names == ("env",) and mesh.size > 1 else None


def shard_axis(tree: Tree, axis: int) -> Tree:
    """Shards this axis over the ambient mesh, in leaves where the devices divide it."""
    mesh = _ambient_mesh()
    if mesh is None:
        return tree
    spec = PartitionSpec(*[None] * axis, "env")

    def leaf(x):
        fits = x.ndim > axis and x.shape[axis] % mesh.size == 0
        return jax.lax.with_sharding_constraint(x, spec) if fits else x

    return jax.tree.map(leaf, tree)


def unshard(tree: Tree) -> Tree:
    """Puts what is laid over the ambient mesh whole on every device of it."""
    if _ambient_mesh() is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


def shardings_of(mesh: Mesh, state: Tree) -> Tree:
    """Sharding of every leaf of a state: over "seed", or the environments over "env"."""
    if mesh.axis_names == ("seed",):
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec("seed")), state)

    def is_env(x):
        return isinstance(x, EnvState)

    def of(x):
        axis = x.episode_length.ndim - 1 if is_env(x) else None  # workers may stand before it
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "env")
        return jax.tree.map(lambda _: NamedSharding(mesh, spec), x)

    return jax.tree.map(of, state, is_leaf=is_env)


def put_on_mesh(mesh: Mesh | None, tree: Tree) -> Tree:
    """Puts host arrays on the mesh, with the shardings that a run starts with."""
    if mesh is None:
        return tree
    shardings = shardings_of(mesh, tree)
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    # Other processes' devices take no `device_put`; a program takes the same array from each.
    return jax.jit(lambda x: x, out_shardings=shardings)(tree)


def constrain_to_mesh(mesh: Mesh | None, state: Tree) -> Tree:
    """Constrains a state inside `jit` to the shardings it came in with, so that it keeps them."""
    if mesh is None or mesh.axis_names != ("env",):
        return state
    return jax.lax.with_sharding_constraint(state, shardings_of(mesh, state))
