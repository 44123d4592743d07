"""Bad input, by command and in Python: one line that names it, at once, and nothing is left."""

import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

import jaxpg
from jaxpg import cli
from jaxpg.cli import common
from jaxpg.core import memory
from tests.bad_calls import CALLS
from tests.bad_lines import LINES

# Tracing is allowed, compiling these is not. (Small programs of JAX's own make keys and zeros.)
PROGRAMS = {
    f"jit({x})" for x in ("begin_run", "run_chunk", "_returns", "_evaluate", "_record_steps")
}
SECONDS = 2  # of the processor, after the import


def test_there_are_enough():
    assert len(LINES) >= 100
    assert len(CALLS) >= 60


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda devices=1: 24 * 10**9)


@pytest.fixture
def compiled():
    """Names of the programs that are compiled meanwhile."""
    found = []

    def listen(event: str, duration_secs: float, **about) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `run`, a run of two seeds, and `thesis`, a text."""
    folder = tmp_path_factory.mktemp("place")
    env, keys = jaxpg.make("Cliff-jaxpg"), jax.random.split(jax.random.key(0))
    cfg, out = jaxpg.q_learning.Config(), folder / "run"
    jaxpg.run(jaxpg.q_learning, cfg, env, keys, total_steps=200, out=out, evaluations=0)
    (folder / "thesis").mkdir()
    (folder / "thesis" / "thesis.txt").write_text("dear")
    return folder


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.parametrize("line", LINES)
def test_bad_lines(line, place, capsys, monkeypatch, compiled):
    monkeypatch.chdir(place)
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    before, begun = listing(place), time.process_time()
    code = cli.main(line.split())
    took = time.process_time() - begun
    printed, said = capsys.readouterr()
    assert (code, printed) == (2, "")
    assert said.startswith("jaxpg: error: ")
    assert said.count("\n") == 1
    assert LINES[line] in said
    assert took < SECONDS
    assert listing(place) == before
    assert not [name for name in PROGRAMS if f"jit({name})" in compiled]


@pytest.mark.parametrize("name", CALLS)
def test_bad_calls(name, tmp_path, monkeypatch, compiled):
    call, words = CALLS[name]
    monkeypatch.chdir(tmp_path)
    begun = time.process_time()
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert time.process_time() - begun < SECONDS
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert not [name for name in PROGRAMS if f"jit({name})" in compiled]


@pytest.mark.parametrize(
    "line",
    [
        "train ppo CartPole-v1 --config.num-envs 1000000000000",
        pytest.param("train ppo CartPole-v1 --config.gamma high", marks=pytest.mark.slow),
        pytest.param("train ppo CartPole-v1 --seeds 1000000000000", marks=pytest.mark.slow),
        pytest.param("sweep ppo CartPole-v1 --random gamma=0.9:1 --count 1000000000",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_process_of_its_own_says_the_same(line, tmp_path):
    command = [sys.executable, "-m", "jaxpg.cli", *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("jaxpg: error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
