"""One process at a time writes a folder, others are told which; a lock dies with its process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

import jaxpg
from jaxpg import cli
from jaxpg.cli import common
from jaxpg.experiment.files.atomic import write_atomically, write_json
from jaxpg.experiment.files.lock import LOCK, claim, hold
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps.sweep import new_record
from tests.experiments import run_folder

ROOT = Path(__file__).parents[1]
AGENT, CFG, KEY = jaxpg.q_learning, jaxpg.q_learning.Config(), jax.random.key(0)
ASKED = {"total_steps": 1000}
SPACE = {"learning_rate": [0.1, 0.2]}


@pytest.fixture(scope="module")
def env():
    return jaxpg.make("Cliff-jaxpg")


@pytest.fixture
def no_compiler(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("something is compiled")

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def me():
    return f"is held by process {os.getpid()} on .* since .*, allowed is a folder that no other"


NEW = {
    "run": lambda env, out: jaxpg.run(AGENT, CFG, env, KEY, out=out, **ASKED),
    "sweep": lambda env, out: jaxpg.sweep.run(
        AGENT, CFG, env, KEY, jaxpg.sweep.grid(SPACE), out=out, **ASKED
    ),
    "search": lambda env, out: jaxpg.search(AGENT, CFG, env, KEY, SPACE, out=out, **ASKED),
    "compare": lambda env, out: jaxpg.compare(
        ["q_learning", "sarsa"], ["Cliff-jaxpg"], KEY, out=out, **ASKED
    ),
}


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
@pytest.mark.parametrize("kind", NEW)
def test_a_new_folder_that_another_holds_is_refused(env, tmp_path, no_compiler, kind, begun):
    if kind == "search":
        pytest.importorskip("optuna")
    out = tmp_path / "out"
    with hold(out, new=True):
        if begun:
            (out / "run.json").write_text("of the other")
        before = contents(out)
        with pytest.raises(ValueError, match=f"^out='{out}': {me()}"):
            NEW[kind](env, out)
        assert contents(out) == before
    assert out.exists() == begun


@pytest.mark.parametrize("kind", ["run", "sweep", "command"])
def test_what_another_holds_is_not_gone_on_with(env, tmp_path, no_compiler, capsys, kind):
    if kind == "sweep":
        about = {"kind": "sweep", **provenance.describe_run(AGENT, CFG, env, KEY)}
        write_json(tmp_path / "sweep.json", new_record(about, ["learning_rate"], 1000))
        out = tmp_path
    else:
        out = run_folder(tmp_path / "run", [1.0, 2.0])
    with hold(out):
        before = contents(out)
        if kind == "command":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(common, "set_up", lambda *_: None)
                assert cli.main(["resume", str(out)]) == 2
            err = capsys.readouterr().err
            assert err.count("\n") == 1
            assert f"process {os.getpid()} on " in err
        else:
            with pytest.raises(ValueError, match=me()):
                jaxpg.resume(out)
        assert contents(out) == before
    assert not (out / LOCK).exists()


def test_those_who_read_need_no_lock(tmp_path):
    out = run_folder(tmp_path / "run", [1.0, 2.0])
    with hold(out):
        assert jaxpg.report([out], tmp_path / "report.html").exists()


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("process 1 on elsewhere", end="", file=file, flush=True)
print("held", flush=True)
time.sleep(600)
"""


def test_a_lock_dies_with_its_process(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / LOCK], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        for new in (False, True):
            with pytest.raises(ValueError, match="held by process 1 on elsewhere, "):
                hold(tmp_path, new).__enter__()
    finally:
        other.kill()
        other.communicate()
    assert contents(tmp_path) == {Path(LOCK): b"process 1 on elsewhere"}
    with hold(tmp_path, new=True), pytest.raises(ValueError, match=me()):
        hold(tmp_path).__enter__()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "\x1b[31mred", "\xff" * 300])
def test_a_holder_without_a_name_is_another_process(tmp_path, text):
    with hold(tmp_path):
        (tmp_path / LOCK).write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"is held by (another process|\ufffd+), allowed"):
            hold(tmp_path).__enter__()


@pytest.mark.filterwarnings("ignore")  # JAX does not like forks: this one only sleeps
def test_children_do_not_keep_a_lock(tmp_path):
    with hold(tmp_path):
        program = subprocess.Popen(["sleep", "60"], close_fds=False)
        fork = os.fork()
        if not fork:
            time.sleep(60)
            os._exit(0)
    try:
        with hold(tmp_path):
            pass
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
        program.kill()
        program.wait()


@pytest.mark.filterwarnings("ignore")
def test_a_fork_that_ends_leaves_the_lock_to_its_parent(tmp_path):
    with contextlib.ExitStack() as held:
        held.enter_context(hold(tmp_path))
        fork = os.fork()
        if not fork:
            with contextlib.suppress(BaseException):
                held.close()
            os._exit(0)
        os.waitpid(fork, 0)
        with pytest.raises(ValueError, match=me()):
            hold(tmp_path).__enter__()


def test_what_a_kill_left_before_the_first_file_is_an_empty_folder(tmp_path):
    (tmp_path / LOCK).write_text("process 1 on elsewhere")
    (tmp_path / ".run.json.1.jaxpg-draft").write_text("half")
    with hold(tmp_path, new=True):
        assert [p.name for p in tmp_path.iterdir()] == [LOCK]
    assert contents(tmp_path) == {}


def test_a_lock_is_never_written_through_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "thesis.txt").write_text("dear")
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(OSError, match=LOCK):
        hold(tmp_path / "run").__enter__()
    assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_folders_are_made_and_taken_away_again(tmp_path):
    with hold(tmp_path / "a" / "b", new=True):
        pass
    with claim(tmp_path / "a" / "b") as folder:
        assert folder.is_dir()
    assert not (tmp_path / "a").exists()
    with claim(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("")
    assert contents(tmp_path) == {Path("a/b/x"): b""}


def test_names_are_claimed_once(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").symlink_to("nowhere")  # is there too
    with contextlib.ExitStack() as held, ThreadPoolExecutor(8) as pool:
        enter = lambda _: held.enter_context(claim(tmp_path / "runs" / "x"))  # noqa: E731
        found = list(pool.map(enter, range(16)))
    assert {p.name for p in found} == {f"x-{n}" for n in range(2, 18)}


def test_a_command_that_fails_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    for line in (
        "train q_learning Cliff-jaxpg --total-steps 0",
        "sweep q_learning Cliff-jaxpg --grid gamma=2",
        "compare q_learning --env ../x",
    ):
        assert cli.main(line.split()) == 2
        assert list(tmp_path.iterdir()) == []


def test_a_draft_is_nobodys_file(tmp_path):
    """What lies beside a file that is written stays as it is, whatever its name."""
    path = tmp_path / "policy"
    for name in ("policy.tmp", "policy.draft", ".policy"):
        (tmp_path / name).write_text("dear")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["policy", "policy.tmp", "policy.draft", ".policy"]
    )
    assert (tmp_path / "policy.tmp").read_text() == "dear"


TRAIN = ["train", "q_learning", "Cliff-jaxpg", "--evaluations", "0", "--total-steps"]
JAXPG = [sys.executable, "-m", "jaxpg.cli"]
PYTHON = {"env": os.environ | {"PYTHONPATH": str(ROOT)}}


@pytest.mark.slow
def test_three_trainings_at_once_have_three_folders(tmp_path):
    line = [*TRAIN, "1000"]
    three = [subprocess.Popen([*JAXPG, *line], cwd=tmp_path, **PYTHON) for _ in range(3)]
    assert [one.wait(timeout=300) for one in three] == [0, 0, 0]
    names = {"q_learning-Cliff-jaxpg", "q_learning-Cliff-jaxpg-2", "q_learning-Cliff-jaxpg-3"}
    assert {p.name for p in (tmp_path / "runs").iterdir()} == names
    for name in names:
        assert jaxpg.load(tmp_path / "runs" / name).stopped == "done"


@pytest.mark.slow
def test_a_second_process_is_told_and_a_kill_frees_the_folder(tmp_path):
    line = [*TRAIN, "1000000000", "--out", "x"]
    first = subprocess.Popen([*JAXPG, *line], cwd=tmp_path, **PYTHON)
    try:
        while not (tmp_path / "x" / "metrics.csv").exists():
            assert first.poll() is None
            time.sleep(0.1)
        for words in (["resume", "x"], line):
            done = subprocess.run(
                [*JAXPG, *words], cwd=tmp_path, capture_output=True, text=True, **PYTHON
            )
            assert done.returncode == 2
            assert f"out='x': is held by process {first.pid} on " in done.stderr
    finally:
        first.kill()
        first.wait()
    with hold(tmp_path / "x"):
        pass
