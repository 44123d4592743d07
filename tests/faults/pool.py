"""Processes with the shim in them, and what they answer."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import ROOT, quick_environment

HERE = Path(__file__).parent
SECONDS = 120  # until a process that does not answer is ended


class Answer(NamedTuple):
    """What came of a request."""

    seen: Any = None
    error: tuple[str, str] | None = None  # the exception's class, and its text
    warned: tuple[str, ...] = ()
    operations: int = 0
    ended: str = ""  # how the process ended: "killed", "hung"
    trace: str = ""


def compile_shim(folder: Path) -> Path | None:
    """Compiles the shim; None without a C compiler that can, or where nothing is preloaded."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "shim.so"
    words = [compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "shim.c", "-ldl"]
    done = subprocess.run([*words, "-lpthread"], capture_output=True)
    return library if done.returncode == 0 else None


def environment(library: Path | None, cache: Path) -> dict[str, str]:
    """What a worker's environment is: XLA's quick flags, one cache of programs for all."""
    found = quick_environment() | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    found.pop("JAXPG_TEST_XLA", None)
    return found | ({"LD_PRELOAD": str(library)} if library else {})


class Worker:
    """A process that does what it is told; another takes its place when it has ended."""

    def __init__(self, environ: dict[str, str], folder: Path):
        self.environ, self.folder, self.process = environ, folder, None
        self.folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> subprocess.Popen:
        with (self.folder / "stderr.txt").open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker"], env=self.environ, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=self.folder,
            )  # fmt: skip

    def ask(self, do: str, *args, fault: dict | None = None) -> Answer:
        """What comes of a request. fault: as `worker.arm` takes it."""
        process = self.process = self.process or self.begin()
        hung = threading.Timer(SECONDS, process.kill)
        hung.start()
        request = json.dumps({"do": do, "args": args, "fault": fault})
        with contextlib.suppress(BrokenPipeError):
            print(request, file=process.stdin, flush=True)
        line = process.stdout.readline()
        late = not hung.is_alive()
        hung.cancel()
        if not line:
            self.end()
            return Answer(ended="hung" if late else "killed")
        found = json.loads(line)
        kind, text, trace = found["error"] or ("", "", "")
        error = (kind, text) if kind else None
        told = tuple(found["warned"])
        return Answer(found["seen"], error, told, found["operations"], "", trace)

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process = None


class Pool:
    """A few workers, and a thread for each that lets them work."""

    def __init__(self, environ: dict[str, str], folder: Path, size: int = 2):
        self.environ, self.size = environ, size
        self.free: queue.Queue[Worker] = queue.Queue()
        self.workers = [Worker(environ, folder / f"worker-{i}") for i in range(size)]
        for worker in self.workers:
            self.free.put(worker)

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        one = self.free.get()
        try:
            yield one
        finally:
            self.free.put(one)

    def map(self, function, items) -> list:
        """function(worker, item) of every item, in their order."""

        def one(item):
            with self.worker() as worker:
                return function(worker, item)

        with ThreadPoolExecutor(self.size) as threads:
            return list(threads.map(one, items))

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
