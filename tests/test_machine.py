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
