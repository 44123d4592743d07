"""Settings of the machine: devices, threads, kept programs, Python's garbage collector."""

import contextlib
import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
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


# What XLA is told on a GPU, each measured to pay there: see `use_command_buffers`.
GPU_FLAGS = {
    "--xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,WHILE,CONDITIONAL,"
    "DYNAMIC_SLICE_FUSION",
    "--xla_gpu_graph_min_graph_size": "1",
}
UNTRIED = (0, 12)  # JAX from here on: nobody has looked whether its XLA still knows these flags
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")  # the last one: Windows' Linux


def use_command_buffers() -> None:
    """Lets a GPU launch whole loops at once, by XLA's command buffers. Before JAX starts.

    A small network is bound by the launches of its kernels, 1.6 microseconds each. XLA records
    straight pieces of a program as CUDA graphs by itself; with these two flags also loops, and
    pieces of any length. PPO on CartPole (4 environments x 128 steps, one H100, jax 0.11.2) was
    1.14 times as fast with one seed and 1.05 with 2048; with the rollout unrolled by 8 as well 1.79
    and 1.13, of which unrolling alone gave 1.60 and 1.10. Nothing else was measured.

    Writes the environment variable XLA_FLAGS, where a GPU is to be seen and JAX is older than 0.12:
    XLA ends a process that names a flag it does not know. A flag that is there stays, and a file
    of flags is left alone.

    >>> os.environ["XLA_FLAGS"] = "--xla_gpu_graph_min_graph_size=5"
    >>> jaxpg.use_command_buffers()
    >>> os.environ["XLA_FLAGS"].count("xla_gpu_graph_min_graph_size")  # yours, with a GPU too
    1
    """
    given = os.environ.get("XLA_FLAGS", "")
    if not sees_gpu() or jax.__version_info__ >= UNTRIED or given.strip()[:1] not in ("", "-"):
        return
    there = {word.partition("=")[0] for word in given.split()}
    ours = [f"{flag}={value}" for flag, value in GPU_FLAGS.items() if flag not in there]
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *ours])


def sees_gpu() -> bool:
    """True if JAX will find an NVIDIA GPU, as far as it can be told before it starts: JAX is not
    kept to a CPU, its CUDA plugin is installed, and there is a driver that shows devices."""
    platforms = jax.config.values["jax_platforms"] or "cuda"
    if not {"cuda", "gpu"} & set(platforms.split(",")):
        return False
    if not any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return False
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")  # those behind one that is none are hidden
    if shown is not None and shown.split(",")[0].strip() in ("", "-1", "NoDevFiles"):
        return False
    return bool(shown) or any(map(os.path.exists, DRIVERS))


def on_gpu() -> bool:
    """True where programs are compiled for a GPU, which waits for kernels and not for numbers."""
    return jax.default_backend() == "gpu"


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
