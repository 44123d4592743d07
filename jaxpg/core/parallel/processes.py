"""A job of several processes, on one machine or many, that run the same program side by side.

Every process calls every function here, in the same order, or the others wait for it. With one
process they cost nothing.
"""

import contextlib
import functools
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpg.core.types import Tree


def distributed(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the processes of a job into one JAX that has all of their devices.

    Under SLURM, Open MPI, Kubernetes and on cloud TPUs nothing need be said. By hand: coordinator
    is HOST:PORT, a free port of the machine of process 0; process is which of `processes` this is:
    0, 1, ... Call it before anything touches JAX's devices.

    Raises ValueError for arguments that are not allowed or, without any, where no scheduler says
    what they are; RuntimeError if JAX has started.

    >>> jaxpg.distributed("localhost:29517", processes=1, process=0)
    >>> jax.process_count()
    1
    """
    _collectives_in_one_order()
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    if coordinator is None and processes is None and process is None:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            text = ", ".join(f"{name}=None" for name in given)
            raise ValueError(
                f"{text}: allowed is that only under a scheduler that JAX knows; none is found "
                f"({error})"
            ) from error
        return
    host, _, port = (coordinator or "").rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError(f"coordinator={coordinator!r}: allowed is HOST:PORT")
    if type(processes) is not int or processes < 1:
        raise ValueError(f"processes={processes!r}: allowed is an integer >= 1")
    if type(process) is not int or not 0 <= process < processes:
        raise ValueError(f"process={process!r}: allowed is an integer >= 0 and < {processes}")
    jax.distributed.initialize(coordinator, processes, process)


def _collectives_in_one_order() -> None:
    """Tells XLA to run a program's collectives one after the other on the CPU. Its default schedule
    may run two at once, in one order here and in another there, and gloo then mixes them up."""
    if jax.__version_info__ < (0, 12):  # XLA ends a process that names a flag it does not have
        flag = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"


def is_main_process() -> bool:
    """True on process 0, which writes and prints for all."""
    return jax.process_index() == 0


def broadcast_from_main(f: Callable[[], Any]) -> Any:
    """Calls f on process 0 alone, once all have come here; all return, or raise, what it does."""
    if jax.process_count() == 1:
        return f()
    from jax.experimental import multihost_utils

    any_process(False)
    value, mine, packed = None, None, b""
    if is_main_process():
        try:
            value = f()
        except Exception as error:
            mine, packed = error, _pack_error(error)
    answer = pickle.dumps((value, packed))
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(answer))))
    raw = np.frombuffer(answer[:size].ljust(size, b"\0"), np.uint8)
    sent = np.asarray(multihost_utils.broadcast_one_to_all(raw)).tobytes()
    if not is_main_process():
        value, packed = pickle.loads(sent)
        mine = pickle.loads(packed) if packed else None
    if mine is not None:
        raise mine
    return value


@contextlib.contextmanager
def agree_on_errors() -> Iterator[None]:
    """Context at whose end all processes wait for each other; if any has met an error in it, all
    raise that one, of the first process that has. Its words say which that is, if it is not all of
    them. Nothing within may wait for another process."""
    if jax.process_count() == 1:
        yield
        return
    mine = None
    try:
        yield
    except Exception as error:
        mine = error
    if (found := _first_error(mine)) is not None:
        raise found


def _first_error(mine: Exception | None) -> Exception | None:
    """The error of the first process that has one, on all of them."""
    from jax.experimental import multihost_utils

    packed = b"" if mine is None else _pack_error(mine)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(len(packed))))
    if not sizes.any():
        return None
    raw = np.frombuffer(packed.ljust(int(sizes.max()), b"\0"), np.uint8)
    sent = np.asarray(multihost_utils.process_allgather(raw))
    first = int(np.flatnonzero(sizes)[0])
    error = pickle.loads(sent[first, : sizes[first]].tobytes())
    if not sizes.all() and len(error.args) == 1 and isinstance(error.args[0], str):
        error = type(error)(f"process {first}: {error.args[0]}")
    error.__cause__ = mine
    return error


def _pack_error(error: Exception) -> bytes:
    """Bytes of an error or, if it cannot be sent, of a RuntimeError with its words."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # some can be written and not read
    except Exception:
        packed = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return packed


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Logical OR of each flag over all processes."""
    if jax.process_count() == 1:
        return flags
    from jax.experimental import multihost_utils

    return tuple(multihost_utils.process_allgather(np.array(flags)).any(0).tolist())


def largest_of_processes(*numbers: float) -> tuple[float, ...]:
    """Largest of each number over all processes."""
    if jax.process_count() == 1:
        return numbers
    from jax.experimental import multihost_utils

    return tuple(multihost_utils.process_allgather(np.array(numbers, np.float32)).max(0).tolist())


@functools.cache  # one function per mesh: a new one would be compiled again
def _to_all(mesh: Mesh) -> Callable:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))


def replicate(tree: Tree) -> Tree:
    """Replicates arrays that are sharded over processes, so that every process can read them
    whole. With one process it does nothing.

    Of several processes each waits here for its devices, before and after: on CPUs two programs
    that do not need each other may run in either order, and their collectives would mix.
    """
    if jax.process_count() == 1:
        return tree

    def leaf(x):
        sharded = isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated)
        sharding: Any = x.sharding if sharded else None  # of arrays like these, a NamedSharding
        return jax.block_until_ready(_to_all(sharding.mesh)(x)) if sharded else x

    return jax.tree.map(leaf, jax.block_until_ready(tree))
