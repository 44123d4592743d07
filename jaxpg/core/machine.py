"""Settings of the machine: devices, threads, kept programs, Python's garbage collector."""

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import jax


def count_cores() -> int:
    """CPU cores that this process may use; where the system does not say, those that there are."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # only Linux and its like know it
        return os.cpu_count() or 1


def use_all_cores(count: int | None = None) -> None:
    """Makes one JAX device of every CPU core (or `count`), for seeds to be laid over.

    More than one have a thread each, unless the environment variable NPROC says otherwise. Call it
    before anything touches JAX's devices. Raises RuntimeError if that has happened.

    >>> jaxpg.use_all_cores(2)
    >>> jax.config.jax_num_cpu_devices
    2
    """
    count = count or count_cores()
    jax.config.update("jax_num_cpu_devices", count)
    if count > 1:
        use_one_thread()


def use_one_thread() -> None:
    """Lets a CPU device compute on one thread, unless NPROC is set. Before JAX starts.

    XLA hands the operations of a program to a pool of threads. Where they take microseconds, as
    those of networks of up to 128 units do, that costs more than it gives: PPO and SAC are 1.2 to
    1.4 times as fast on one thread. Convolutions are not: 1.8 times as slow on one of two.

    >>> jaxpg.use_one_thread()
    >>> os.environ["NPROC"]
    '1'
    """
    os.environ.setdefault("NPROC", "1")  # read when JAX makes its CPU client


# Steps that a GPU is given at once, by what a loop does. Each of them is compiled for itself, so
# there is an end to what pays: a rollout of PPO on CartPole is 1,820, 1,250 and 1,020 kernels and
# copies with 1, 4 and 8 of its steps at once, and takes 6, 20 and 45 s to compile on busy cores.
UNROLL = {"rollout": 4, "returns": 16}


def on_gpu() -> bool:
    """True where programs are compiled for a GPU, which waits for kernels and not for numbers."""
    return jax.default_backend() == "gpu"


def loop_unroll(kind: str, length: int) -> int:
    """Steps of a loop that are compiled as one: its `unroll`, by `kind` of UNROLL, a divisor of its
    length.

    On a GPU a small operation costs the start of its kernel. What steps side by side write, and the
    arithmetic of environments, XLA puts into common kernels. On a CPU it would cost time to
    compile, and gain nothing: 1, the same program as without it.

    >>> jaxpg.core.machine.loop_unroll("rollout", length=128)
    1
    """
    most = min(UNROLL[kind], length) if on_gpu() else 1
    return next((n for n in range(most, 1, -1) if length % n == 0), 1)


def use_cache(folder: str | Path | None = None) -> None:
    """Keeps compiled programs in a folder, so that a process need not compile what another has.

    folder: None is jaxpg in $XDG_CACHE_HOME, or in ~/.cache; where that cannot be, nothing is kept.
    A folder that JAX was given before, as by JAX_COMPILATION_CACHE_DIR, stays. Call it before
    anything is compiled. What is kept is programs that later processes run: the folder has to be
    one that only you can write.

    >>> jaxpg.use_cache("compiled")
    >>> jax.config.jax_compilation_cache_dir
    'compiled'
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    if folder := folder or cache_folder():
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def cache_folder() -> Path | None:
    """The folder of what this user's programs can make again, made if it is not there; None where
    it cannot be: in a container without a home, or with one that cannot be written."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home, "jaxpg")
        folder.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):
        return None
    return folder if os.access(folder, os.W_OK) else None


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Pauses Python's search for cyclic garbage.

    Tracing makes objects by the hundred thousand, few of them garbage, and to look through them
    again and again takes a third of the time.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
