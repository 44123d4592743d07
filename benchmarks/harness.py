"""Shared parts of the benchmarks: fresh processes that cannot hang, medians, tables, the machine.

Imports nothing but the standard library and rich, so that a driver stays small beside what it
measures; `peer_programs.py` runs in interpreters without jaxpg and imports only `peak_memory`.
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
# What a shell may have set and a measurement must not depend on.
UNWANTED = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", "XLA_FLAGS", "NPROC")


class Failed(RuntimeError):
    """A process ended with an error, whose last line is the text, or was killed at its timeout."""


def fresh(
    command: Sequence[str], timeout: float, cwd: str | Path | None = None, **environ: str
) -> str:
    """The stdout of a fresh process; it and its children are killed (SIGKILL) after `timeout` s.

    environ: added to the environment, of which UNWANTED is left out. Raises Failed.
    """
    env = {name: x for name, x in os.environ.items() if name not in UNWANTED} | environ
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=errors, text=True,
            cwd=cwd, env=env, start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"killed after {timeout:.0f} s") from None
        finally:
            if process.poll() is None:  # a hung XLA ignores SIGTERM; so might its children
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"exit code {process.returncode}"]
            raise Failed(lines[-1])
    return out


def worker(command: Sequence[str], timeout: float, **environ: str) -> dict:
    """The JSON object in the last line that a fresh process prints. Raises Failed."""
    return json.loads(fresh(command, timeout, **environ).splitlines()[-1])


def own(file: str, *args, python: str = sys.executable) -> list[str]:
    """The command that runs a file of this folder."""
    return [python, str(HERE / file), *map(str, args)]


def peak_memory() -> float:
    """MB of this process at its peak. `ru_maxrss` would count what its parent had at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    scale = 2**20 if sys.platform == "darwin" else 1024  # bytes there, KB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def medians(runs: Sequence[dict]) -> dict:
    """The median of every number over runs with the same names; None where one has none."""
    return {
        name: None
        if any(r[name] is None for r in runs)
        else statistics.median(r[name] for r in runs)
        for name in runs[0]
    }


def spread(values: Iterable[float]) -> str:
    """Median and range: "1.31 (1.25 to 1.40)"."""
    values = list(values)
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


def short(x: float | None) -> str:
    """A number in at most six characters: 1.2M, 231k, 4.1, 0.03; a dash for None."""
    if x is None:
        return "-"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= 10 * size or (abs(x) >= size and unit != "k"):
            return f"{x / size:.3g}{unit}"
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> None:
    """Prints a table of at most 80 columns; the first `text` of them are words."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    out = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, name in enumerate(columns):
        out.add_column(name, justify="left" if i < text else "right", overflow="fold")
    for row in rows:
        out.add_row(*map(str, row))
    Console(width=80, highlight=False).print(out)


def count_cores() -> int:
    """CPU cores that this process may use; where the system does not say, those that there are."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def machine() -> dict:
    """Machine that the figures were measured on, in words."""
    from importlib.metadata import PackageNotFoundError, version

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    versions = {}
    for package in ("jax", "jaxlib", "gymnax", "flax", "optax", "distrax", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": count_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **versions,
    }  # fmt: skip


def save(file: str, record: dict, path: Path | None = None) -> None:
    """Writes a record with the machine beside the script, or at `path`: whole or not at all."""
    path = path or Path(file).with_suffix(".json")
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**record, "machine": machine()}, indent=1) + "\n")
    new.replace(path)
