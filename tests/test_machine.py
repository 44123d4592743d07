"""Machines that are not Linux with a home: cores, the cache, and Python without docstrings."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jaxpg.cli import common
from jaxpg.core import machine
from jaxpg.nets.heads import base

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "jaxpg").rglob("*.py"))
# Modules of the standard library that not every system has.
LINUX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "spwd"}


def fails(error):
    def call(*_):
        raise error

    return call


def test_cores_are_counted_everywhere(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert machine.count_cores() == common.cores() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(os, "sched_getaffinity", fails(OSError("not here")))
    assert machine.count_cores() == common.cores() == 7
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    assert machine.count_cores() == common.cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.count_cores() == common.cores() == 1


def test_without_a_home_there_is_no_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert machine.cache_folder() == tmp_path / ".cache" / "jaxpg"
    assert machine.cache_folder().is_dir()
    monkeypatch.setattr(Path, "home", fails(RuntimeError("Could not determine home directory.")))
    assert machine.cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / "jaxpg"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # a folder cannot be made
    assert machine.cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # a disk that is read only
    assert machine.cache_folder() is None


CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def no_cache():
    """JAX without a folder of programs; what it had is put back."""
    before = {name: jax.config.values[name] for name in CACHE}
    jax.config.update(CACHE[0], None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_cache_that_is_named_needs_no_home(no_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "cache_folder", lambda: None)
    machine.use_cache()
    assert jax.config.values[CACHE[0]] is None
    machine.use_cache(tmp_path)
    assert jax.config.values[CACHE[0]] == str(tmp_path)


def modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_nothing_rests_on_linux_or_on_asserts():
    """`python -O` leaves assertions out, so they guard nothing."""
    assert len(SOURCES) > 100
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if path.name != "lock.py":  # which asks for fcntl where it is not Windows
            assert not set(modules(tree)) & LINUX, path
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)], path
        asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if path.name != "machine.py":
            assert not asked & {"sched_getaffinity", "home", "getuid", "fork", "killpg"}, path


def without_docstrings(*words, **options):
    return subprocess.run(
        [sys.executable, "-OO", *words], capture_output=True, text=True, timeout=300, **options
    )


@pytest.mark.slow
def test_help_without_docstrings():
    done = without_docstrings("-m", "jaxpg.cli", "train", "ppo", "CartPole-v1", "--help")
    assert done.returncode == 0, done.stderr
    assert "--config.learning-rate" in done.stdout
    assert "--total-steps" in done.stdout


BARE = """
import os, sys
from pathlib import Path
def home():
    raise RuntimeError("Could not determine home directory.")
Path.home = home
del os.sched_getaffinity
from jaxpg import cli
sys.exit(cli.main({words}))
"""
TRAIN = ["train", "ppo", "CartPole-v1", "--total-steps", "1024", "--config.hidden", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("bare", [True, False])
def test_a_run_without_docstrings_and_without_linux(bare, tmp_path):
    hidden = ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "USERPROFILE")
    env = {k: v for k, v in os.environ.items() if k not in hidden or not bare}
    code = BARE.format(words=[*TRAIN, "--out", "run"])
    words = ["-c", code] if bare else ["-m", "jaxpg.cli", *TRAIN, "--out", "run"]
    env |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = without_docstrings(*words, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
    assert (tmp_path / "run" / "curve.png").exists()


def test_distrax_without_docstrings_is_one_sentence(monkeypatch):
    """What `python -OO` does to its import, done here."""

    class Finder:
        def find_spec(self, name, *_):
            if name == "distrax":
                raise TypeError("unsupported operand type(s) for +: 'NoneType' and 'str'")

    monkeypatch.delitem(sys.modules, "distrax", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(TypeError, match="unsupported operand"):
        base.import_distrax()
    flags = SimpleNamespace(flags=SimpleNamespace(optimize=2))
    monkeypatch.setattr(base, "sys", flags)
    with pytest.raises(ValueError, match="allowed is python -O"):
        base.import_distrax()


@pytest.mark.slow
def test_what_needs_docstrings_says_so():
    """TensorFlow Probability, below distrax, adds to its own."""
    done = without_docstrings("-m", "jaxpg.cli", "train", "ppo", "Pendulum-v1", "--out", "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "python -OO cannot import: allowed is python -O" in done.stderr


PLUGIN = "jax_cuda13_plugin"


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine on which JAX 0.11.2 will find a GPU, as far as the environment tells; what a test
    changes of it."""
    made = SimpleNamespace(values={"jax_platforms": None})
    jax = SimpleNamespace(config=made, __version_info__=(0, 11, 2))
    monkeypatch.setattr(machine, "jax", jax)
    monkeypatch.setattr(machine, "find_spec", lambda name: name == PLUGIN or None)
    monkeypatch.setattr(machine, "DRIVERS", (str(tmp_path),))
    for name in ("XLA_FLAGS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return jax


OURS = [f"{flag}={value}" for flag, value in machine.GPU_FLAGS.items()]


def test_on_a_gpu_xla_gets_both_flags_once(gpu):
    for _ in range(2):
        machine.use_command_buffers()
        assert os.environ["XLA_FLAGS"].split() == OURS


def test_flags_of_the_user_stay(gpu, monkeypatch):
    own = "--xla_gpu_graph_min_graph_size=7 --xla_gpu_autotune_level=0"
    monkeypatch.setenv("XLA_FLAGS", own)
    machine.use_command_buffers()
    assert os.environ["XLA_FLAGS"].split() == [*own.split(), OURS[0]]
    monkeypatch.setenv("XLA_FLAGS", "flags.txt")  # which XLA reads
    machine.use_command_buffers()
    assert os.environ["XLA_FLAGS"] == "flags.txt"


@pytest.mark.parametrize(
    ("shown", "seen"),
    [(None, True), ("0", True), ("GPU-1a2b,3", True), ("", False), ("-1", False), ("-1,0", False)],
)
@pytest.mark.parametrize("driver", [True, False])
def test_a_gpu_is_seen_by_what_is_shown_of_it(gpu, monkeypatch, shown, seen, driver):
    if not driver:
        monkeypatch.setattr(machine, "DRIVERS", ("/nowhere",))
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert machine.sees_gpu() is (seen and (driver or shown is not None))


@pytest.mark.parametrize("why", ["no plugin", "platforms", "newer JAX", "hidden"])
def test_no_flag_is_set_without_a_gpu(gpu, monkeypatch, why):
    if why == "no plugin":
        monkeypatch.setattr(machine, "find_spec", lambda name: None)
    elif why == "platforms":
        gpu.config.values["jax_platforms"] = "cpu"
    elif why == "newer JAX":
        gpu.__version_info__ = (0, 12, 0)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    machine.use_command_buffers()
    assert "XLA_FLAGS" not in os.environ


def test_platforms_that_name_the_gpu_have_it(gpu):
    for names, seen in (("cuda", True), ("cuda,cpu", True), ("gpu", True), ("tpu,cpu", False)):
        gpu.config.values["jax_platforms"] = names
        assert machine.sees_gpu() is seen


def start_jax(flags):
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    code = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(code, env=environment, capture_output=True, text=True, timeout=120)


def test_xla_knows_the_flags():
    """It ends a process that names one that it does not know; those of a GPU it knows anywhere."""
    assert start_jax(" ".join(OURS)).returncode == 0
    false = start_jax("--xla_gpu_no_such_flag=1")
    assert false.returncode
    assert "--xla_gpu_no_such_flag" in false.stderr


def test_the_command_sets_them(monkeypatch):
    called = []
    for name in ("use_all_cores", "use_one_thread", "use_cache", "use_command_buffers"):
        monkeypatch.setattr(machine, name, lambda *_, name=name: called.append(name))
    common.set_up(1)
    assert called == ["use_all_cores", "use_command_buffers", "use_cache"]
