"""The plan of a run, and the two programs that it is made of: the initial state, and a chunk."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxpg.core.checks import require_bool, require_integer, require_key
from jaxpg.core.env import Env
from jaxpg.core.machine import collector_paused
from jaxpg.core.memory import largest_number, program_bytes, require_memory, tree_bytes
from jaxpg.core.metrics import require_metrics
from jaxpg.core.parallel.devices import (
    constrain_to_mesh,
    mesh_context,
    put_on_mesh,
    run_mesh,
    shardings_of,
)
from jaxpg.core.parallel.lanes import (
    Lanes,
    freeze_finished_lanes,
    has_lanes,
    lanes,
    take_lane,
)
from jaxpg.core.parallel.seeds import over_seeds, split_batched_args
from jaxpg.core.protocol import check_environment
from jaxpg.core.random_cpu import use_fast_random
from jaxpg.core.single import is_batched, most_seeds
from jaxpg.core.train import initial_state, iterate, require_objects, settle
from jaxpg.core.transfer import begin_from
from jaxpg.core.types import Agent, C, EnvState, Key, Tree

MOST = 2**31 - 1  # that an int32 counts


class Plan(NamedTuple):
    """A run that was judged: what its programs and its loop are made of."""

    agent: Agent  # of lanes, if the config has them
    cfg: Any  # with its horizon
    env: Env
    key: Key
    num_iters: int
    chunk: int  # iterations between callbacks
    mesh: Mesh | None  # over seeds or environments; None for one device


def plan_run(
    agent: Agent[C],
    cfg: C,
    env: Env,
    key: Key,
    *,
    total_steps: int,
    chunk: int | None = None,
    data_parallel: bool = False,
) -> Plan:
    """Plans a run, with arguments as `run` has them. Compiles nothing.

    Raises ValueError for a config, environment, key or number that cannot work, for a run that
    would take more memory than there is, and for metrics that no table can hold.
    """
    require_objects(agent, cfg, env)
    require_key(key, seeds=True)
    require_bool("data_parallel", data_parallel)
    if chunk is not None:
        require_integer("chunk", chunk, 1, MOST)
    use_fast_random()
    settled, num_iters = settle(agent, cfg, env, total_steps)
    one_cfg, one_env = cfg, env
    if has_lanes(cfg):
        sizes = {np.shape(x)[:1] for x in jax.tree.leaves((cfg, env))} | {key.shape}
        if len(sizes) > 1:
            raise ValueError(
                f"config, environment and key have lanes {sorted(sizes)}: allowed is one number"
            )
        one_cfg, one_env = take_lane((cfg, env), 0)
    _require_few_seeds(one_env, key)
    check_environment(one_env)
    mesh = run_mesh(agent, one_cfg, one_env, key, data_parallel)
    # Closed over, config and environment are no tracers, so `init` can judge their numbers too.
    with collector_paused():
        begin = jax.eval_shape(lambda k: agent.init(one_cfg, one_env, k), key.reshape(-1)[0])
    plan = Plan(
        lanes(agent) if has_lanes(cfg) else agent, settled, env, put_on_mesh(mesh, key),
        num_iters, chunk_length(num_iters, chunk), mesh,
    )  # fmt: skip
    if one_cfg is cfg:  # lanes are cut into parts that fit
        _require_room(plan, tree_bytes(begin))
    return plan


def _require_few_seeds(env: Env, key: Key) -> None:
    """Raises ValueError for more seeds in a process than the host keeps environments of."""
    most, here = most_seeds(env.core), key.size // jax.process_count()
    if most is not None and here > most:
        raise ValueError(
            f"{here} seeds: allowed are at most {most} in a process, for {env.name} is on the "
            "host, which keeps the environments of every one; several processes or runs have more"
        )


def chunk_length(num_iters: int, chunk: int | None = None) -> int:
    """Iterations of a chunk: what is asked for, or a thirtieth of the run, at most 100."""
    return chunk or max(1, min(100, num_iters // 30))


def require_seeds(agent: Agent[C], cfg: C, env: Env, seeds: int) -> None:
    """Raises ValueError for more seeds than there is memory for, before their keys are made."""
    if seeds > 1:
        begin = jax.eval_shape(lambda key: agent.init(cfg, env, key), jax.random.key(0))
        require_memory(tree_bytes(begin) * seeds, f"seeds={seeds}", jax.device_count())


def _require_room(plan: Plan, state: int) -> None:
    """Raises ValueError if a run takes more memory than there is. state: bytes, of one seed.

    It traces the programs as `run` will call them: JAX keeps that, so it costs nothing if they are
    called, and metrics and shapes of an agent of one's own are judged before a folder is made.
    """
    agent, cfg, env, key, _, chunk, mesh = plan
    devices = 1 if mesh is None else mesh.size
    what = largest_number(cfg, seeds=(key.size, 1), chunk=(chunk, 100))
    require_memory(state * key.size, what, devices)
    with mesh_context(mesh), collector_paused():
        try:
            shapes = begin_run.trace(agent, cfg, env, key, mesh).out_info
            begun = _as_it_is_called(shapes, mesh)
            program = run_chunk.trace(agent, cfg, env, begun, np.int32(chunk), chunk, mesh)
        except (OverflowError, ValueError) as error:
            if isinstance(error, ValueError) and "overflow" not in str(error):
                raise
            text = f"{what}: arrays longer than {MOST}, which an int32 counts, are not allowed"
            raise ValueError(text) from error
    require_memory(program_bytes(program.jaxpr), what, devices)


def _as_it_is_called(shapes: Tree, mesh: Mesh | None) -> Tree:
    """Shapes of a state with the shardings in which a run has it: JAX keeps a trace for these."""
    if mesh is None:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)
    return jax.tree.map(
        lambda x, on: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on),
        shapes, shardings_of(mesh, shapes),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("agent", "mesh"))
def begin_run(agent, cfg, env, key, mesh):
    if key.ndim == 0:
        return constrain_to_mesh(mesh, initial_state(agent, cfg, env, key))
    shared, own = split_batched_args(cfg, env)
    return over_seeds(functools.partial(initial_state, agent), mesh)(shared, *own, key)


def check_begin(plan: Plan, source: Tree, parts: Sequence[str]) -> None:
    """Raises ValueError, as `transfer.begin_from` does, unless a run can begin with what another
    one has learnt. Compiles nothing."""
    agent, cfg, env, key, _, _, mesh = plan
    with mesh_context(mesh), collector_paused():
        begun = begin_run.trace(agent, cfg, env, key, mesh).out_info
    begun = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), begun)
    jax.eval_shape(lambda state: begin_from(state, source, parts), begun)


def begin_from_other(plan: Plan, source: Tree, parts: Sequence[str]) -> Tree:
    """The initial state of a run with what another one has learnt, see `transfer.begin_from`."""
    agent, cfg, env, key, _, _, mesh = plan
    with mesh_context(mesh), collector_paused():
        return put_on_mesh(mesh, begin_from(begin_run(agent, cfg, env, key, mesh), source, parts))


def renew_episodes(plan: Plan, state: Tree, iteration: int) -> Tree:
    """Begins new episodes in a state that was restored, for an environment on the host, whose own
    state no checkpoint has. What a policy remembers of the old ones goes with them."""

    def fold(key):
        return jax.random.fold_in(key, iteration)

    def has_envs(x):
        return hasattr(x, "_fields") and any(isinstance(part, EnvState) for part in x)

    def renew(old, new):
        if not has_envs(old):
            return old
        fresh = {k: x for k, x in new._asdict().items() if isinstance(x, EnvState) or k == "carry"}
        return old._replace(**fresh)

    agent, cfg, env, key, _, _, mesh = plan
    key = jax.vmap(fold)(key) if key.ndim else fold(key)
    return jax.tree.map(renew, state, begin_run(agent, cfg, env, key, mesh), is_leaf=has_envs)


@functools.partial(jax.jit, static_argnames=("agent", "length", "mesh"), donate_argnames=("state",))
def run_chunk(agent, cfg, env, state, count, length, mesh):
    def one(count, cfg, env, state):
        if isinstance(state, Lanes) and is_batched(env.core):  # a lane that stands still is not
            count = jnp.where(state.active, count, 0)  # stepped: the host does not go back
        state, metrics = iterate(agent, cfg, env, state, length, count)
        require_metrics(jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape[1:], m.dtype), metrics))
        return state, metrics

    if mesh is None or "env" in mesh.axis_names:
        state, metrics = one(count, cfg, env, state)
        return constrain_to_mesh(mesh, state), metrics
    if not isinstance(state, Lanes):
        return over_seeds(one, mesh)((count, cfg, env), state)
    count = jnp.where(state.active.any(), count, 0)
    return freeze_finished_lanes(state, *over_seeds(one, mesh)((count,), cfg, env, state))


# As JAX names it where it reports a compilation. (Its types forget that what is jitted has a name.)
CHUNK_PROGRAM = f"jit({run_chunk.__name__})"  # type: ignore


def device_bytes(
    agent: Agent[C], cfg: C, env: Env, key: Key, *, total_steps: int, chunk: int | None = None
) -> int:
    """Bytes that a run of [seeds] needs on each of its devices, by XLA's analysis of its program.

    It compiles that program; `run` does not compile it again. Raises ValueError as `run` does.
    """
    plan = plan_run(agent, cfg, env, key, total_steps=total_steps, chunk=chunk)
    agent, cfg, env, key, _, chunk, mesh = plan
    shapes = begin_run.lower(agent, cfg, env, key, mesh).out_info
    state = _as_it_is_called(shapes, mesh)  # nothing is allocated: it may be too much
    program = run_chunk.lower(agent, cfg, env, state, np.int32(chunk), chunk, mesh).compile()
    need: Any = program.memory_analysis()
    total = need.argument_size_in_bytes + need.output_size_in_bytes + need.temp_size_in_bytes
    return total - need.alias_size_in_bytes
