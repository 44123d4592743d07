"""What the command says of itself, and of runs that are there: runs, show, status, completion."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxpg import __version__, agents, cli
from jaxpg.core.config import nearest, unknown
from jaxpg.experiment.files import lock
from jaxpg.experiment.files.atomic import read_json, write_json
from jaxpg.experiment.listing import ends, pace, remove
from jaxpg.experiment.listing.entries import find_entries
from jaxpg.experiment.run.record import check_labels
from tests import experiments
from tests.test_cli import elsewhere, jaxpg  # noqa: F401  fixtures

NAN = math.nan


@pytest.fixture
def shelf(tmp_path):
    """Folders of every state, and things that are no runs."""
    runs = tmp_path / "runs"
    made = experiments.run_folder(runs / "done", [[1, 2, 3], [4, NAN, 6]], greedy=[10.0, 20.0])
    labels = {"name": "mine", "tags": ["long", "thesis"]}
    experiments.run_folder(runs / "stopped", [1, 2], summary=False, total_steps=40, **labels)
    experiments.run_folder(runs / "deep/er/failed", [1, 2], summary=False, env="Acrobot-v1")
    write_json(runs / "deep/er/failed/failure.json", {"error": "NonFiniteError: params"})
    experiments.run_folder(runs / "broken", [1, 2])
    text = (runs / "broken/run.json").read_text()
    (runs / "broken/run.json").write_text(text.replace("ppo", "pqo"))
    about = experiments.sweep([{"gamma": 0.9}, {"gamma": 0.8}], [[1, 2], [5, 7]]).about
    part = {"iterations": 10, "env_steps": 5, "width": 4, "over": True}
    about |= {"parts": [part | {"lanes": [[0, 0], [0, 1], [1, 0], [1, 1]]}], "digests": {}}
    (tmp_path / "sweeps" / "swept" / "parts" / "0").mkdir(parents=True)
    write_json(tmp_path / "sweeps/swept/sweep.json", about)
    scores = "config,gamma,seed,score\n0,0.9,0,1\n0,0.9,1,2\n1,0.8,0,5\n1,0.8,1,7\n"
    (tmp_path / "sweeps/swept/scores.csv").write_text(scores)
    (runs / "notes").mkdir()
    (runs / "link").symlink_to(made, target_is_directory=True)
    for i, folder in enumerate(("done", "stopped", "deep/er/failed", "broken")):
        os.utime(runs / folder / "run.json", (1e9 + i, 1e9 + i))
    return tmp_path


def by_name():
    return {entry.folder.name: entry for entry in find_entries()}


# Runs.


def test_entries_say_what_the_folders_hold(shelf):
    found = by_name()
    assert [x.folder.name for x in find_entries()] == [
        "done", "stopped", "failed", "broken", "swept"
    ]  # fmt: skip  # the oldest first, no link, no folder of anything else
    assert {name: x.state for name, x in found.items()} == {
        "done": "done", "stopped": "interrupted", "failed": "failed", "broken": "damaged",
        "swept": "done",
    }  # fmt: skip
    done = found["done"]
    assert (done.agent, done.environment, done.seeds) == ("ppo", "CartPole-v1", 2)
    assert (done.env_steps, done.total_steps, done.result) == (30, 30, 15.0)
    assert done.size == sum(p.stat().st_size for p in done.folder.rglob("*") if p.is_file())
    stopped = found["stopped"]
    assert (stopped.env_steps, stopped.total_steps) == (20, 40)
    assert (stopped.given, stopped.tags) == ("mine", ("long", "thesis"))
    assert math.isnan(stopped.result)
    assert found["failed"].problem == "NonFiniteError: params"
    assert "broken/run.json: found a changed" in found["broken"].problem
    swept = found["swept"]
    assert (swept.kind, swept.seeds, swept.result) == ("sweep", 2, 6.0)  # of its best point
    assert (swept.env_steps, swept.total_steps) == (200, 200)
    with lock.hold(stopped.folder):
        now = by_name()["stopped"]
    assert now.state == "going on"
    assert now.holder.startswith(f"process {os.getpid()} on ")


def test_a_name_that_a_killed_process_left_holds_nothing(shelf):
    path = shelf / "runs/stopped/.jaxpg-lock"
    path.write_text(f"process {os.getpid()} on here since 2026-01-01 00:00:00")
    assert lock.read_holder(path.parent) is None
    assert by_name()["stopped"].state == "interrupted"


def test_runs_is_a_table_that_fits(jaxpg, shelf):  # noqa: F811
    code, out, _ = jaxpg("runs")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = out.split()
    assert {"agent,", "ppo", "interrupted", "damaged", "failed", "#long", "#thesis"} <= set(words)
    assert out.index("runs/done") < out.index("runs/stopped") < out.index("sweeps/swept")
    code, out, _ = jaxpg("runs --sort result --state done")
    assert out.index("swept") < out.index("runs/done")  # 6 before 15
    assert "stopped" not in out
    code, out, _ = jaxpg("runs --tag thesis --json")
    assert [x["name"] for x in json.loads(out)] == ["runs/stopped"]
    assert json.loads(out)[0]["result"] is None
    assert "Acrobot-v1" in jaxpg("runs runs/deep --env Acrobot-v1")[1]
    assert jaxpg("runs --agent sac")[1].startswith("no runs of that kind")
    assert jaxpg("runs nowhere")[2].startswith("jaxpg: error: folder='nowhere': allowed is")
    shutil.rmtree("runs")
    shutil.rmtree("sweeps")
    assert jaxpg("runs")[1].startswith("no runs in runs/")


@pytest.mark.parametrize("count", [1, 3, 700])
def test_last_rows_are_those_of_the_whole_table(tmp_path, count, monkeypatch):
    monkeypatch.setattr(ends, "LAST", 64)
    rows = [
        {"seed": str(i % 3), "iteration": str(i), "x": "" if i % 2 else "1.5"} for i in range(500)
    ]
    text = "".join(",".join(row.values()) + "\n" for row in rows)
    (tmp_path / "t.csv").write_text("seed,iteration,x\n" + text + "2,50")  # the last is cut short
    assert ends.last_rows(tmp_path / "t.csv", count) == rows[-count:]
    assert ends.last_rows(tmp_path / "none.csv", 1) == []


def test_a_thousand_folders_take_seconds(tmp_path):
    one = experiments.run_folder(tmp_path / "runs/0", [[1, 2, 3]], greedy=[10.0])
    for i in range(1, 300):
        shutil.copytree(one, tmp_path / "runs" / str(i))
    begun = time.process_time()
    assert len(find_entries(tmp_path / "runs")) == 300
    assert time.process_time() - begun < 1.5  # it takes a fifth of that


# Removing.


def test_delete_removes_what_jaxpg_wrote(jaxpg, shelf, monkeypatch):  # noqa: F811
    done = shelf / "runs/done"
    for mine in ("thesis.txt", "metrics.ipynb", "results.csv"):  # a run has no such table
        (done / mine).write_text("dear")
    for name in ("process-1", "process-notes"):
        (done / name).mkdir()
        (done / name / "metrics.csv").write_text("")
    step = done / "checkpoints/3"
    step.mkdir(parents=True)
    (step / "made-by-jaxpg").write_text("")
    (done / "checkpoints/2019").mkdir()  # photos
    (done / "outside").symlink_to(shelf / "sweeps", target_is_directory=True)
    code, _, err = jaxpg("runs --delete done")
    assert (code, "allowed is it with --yes" in err) == (2, True)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert jaxpg("runs --delete done")[0] == 1
    assert (done / "run.json").exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    code, out, _ = jaxpg("runs --delete done mine")  # a folder's name, and a run's
    assert code == 0
    kept = "metrics.ipynb, outside, process-notes, results.csv, thesis.txt"
    assert f"but not what jaxpg did not write: checkpoints, {kept}" in out
    left = {p.relative_to(done).as_posix() for p in done.rglob("*")}
    assert left == {
        *kept.split(", "),
        "checkpoints",
        "checkpoints/2019",
        "process-notes/metrics.csv",
    }
    assert not (shelf / "runs/stopped").exists()
    assert (shelf / "sweeps/swept/sweep.json").exists()
    assert jaxpg("runs --delete sweeps/swept --yes")[0] == 0
    assert not (shelf / "sweeps/swept").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs/link", "is a link"),
        ("donne", "unknown run 'donne'"),
        ("runs/notes", "unknown run"),
        ("broken", "runs/broken: allowed is the folder of a run or a sweep that jaxpg wrote"),
    ],
)
def test_what_is_no_run_is_not_removed(jaxpg, shelf, name, words):  # noqa: F811
    before = sorted(shelf.rglob("*"))
    code, _, err = jaxpg(f"runs --delete {name} --yes")
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert sorted(shelf.rglob("*")) == before


def test_a_run_that_goes_on_is_not_removed(jaxpg, shelf):  # noqa: F811
    folder = shelf / "runs/done"
    with lock.hold(folder):
        before = sorted(folder.rglob("*"))
        assert "is being written by process" in jaxpg("runs --delete done --yes")[2]
        with pytest.raises(ValueError, match="is held by process"):
            remove.remove_run(folder)
        assert sorted(folder.rglob("*")) == before
    strange = shelf / "strange"
    strange.mkdir()
    (strange / "run.json").write_text("{}")  # another program's
    with pytest.raises(ValueError, match="that jaxpg wrote"):
        remove.remove_run(strange)


# One run.


def test_show_lists_what_is_not_as_usual(jaxpg, shelf):  # noqa: F811
    record = read_json(shelf / "runs/stopped/run.json")
    record["environment"]["gravity"] = 20.0
    record["made_with"]["jax"] = "0.9.9"
    write_json(shelf / "runs/stopped/run.json", record)
    code, out, _ = jaxpg("show runs/stopped")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines()]
    assert ["learning_rate", "0.5", "0.004", "0.00025"] in rows  # here, preset, default
    assert ["env.gravity", "20.0", "9.8"] in rows
    assert [r for r in rows if r[:1] == ["num_envs"]] == [["num_envs", "4", "16", "4"]]
    assert not [r for r in rows if r[:1] == ["gae_lambda"]]  # as usual
    assert "jaxpg resume runs/stopped" in out
    assert "mine #long #thesis" in out
    assert "jax 0.9.9 (here" in " ".join(out.split())
    assert "metrics.csv" in out
    record["environment"]["name"] = "nowhere:Env"  # looked at, not imported
    write_json(shelf / "runs/stopped/run.json", record)
    out = jaxpg("show runs/stopped")[1]
    assert ["env.gravity", "20.0", "?"] in [line.split() for line in out.splitlines()]
    assert "found a changed or cut file" in jaxpg("show runs/broken")[2]
    assert "allowed is the folder of a run or a sweep" in jaxpg("show runs/notes")[2]
    assert jaxpg("show sweeps/swept")[0] == 0
    assert "1 of 1 are over" in jaxpg("status sweeps/swept")[1]
    assert jaxpg("show mine")[1] == out  # by the name that it was given
    assert "unknown run 'mime': did you mean 'mine'?" in jaxpg("show mime")[2]


def test_status_counts_from_where_this_process_began(jaxpg, shelf):  # noqa: F811
    """Two seeds, ten steps an iteration; checkpoint 1 is of an earlier process, 2 of this one."""
    now = time.time()
    folder = experiments.run_folder(
        shelf / "runs/on", np.ones((2, 6)), greedy=[3.0, 5.0], summary=False, total_steps=1000
    )
    for iteration, ago in ((1, 500), (2, 40)):
        step = folder / f"checkpoints/{iteration}/manifest.json"
        step.parent.mkdir(parents=True)
        step.write_text("{}")
        os.utime(step, (now - ago, now - ago))
    for name in ("metrics.csv", "evaluations.csv"):
        os.utime(folder / name, (now - 20, now - 20))
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - 60))
    found = pace.measure_pace(folder, f"process 1 on here since {since}")
    assert (found.iteration, found.num_iters, found.env_steps) == (6, 100, 60)
    assert found.rate == pytest.approx(2 * 10 * 4 / 20)  # 4 iterations in 20 seconds
    assert found.left == pytest.approx(2 * (1000 - 60) / found.rate)
    assert found.age == pytest.approx(20, abs=5)
    assert found.returns == {"greedy": [3.0, 5.0], "sampled": [3.0, 5.0]}
    with lock.hold(folder):
        code, out, _ = jaxpg("status runs/on")
    assert code == 0
    assert f"going on, process {os.getpid()} on" in out
    assert "6 of 100" in out
    assert "at 60 env steps" in out
    assert "interrupted; go on with: jaxpg resume runs/on" in " ".join(
        jaxpg("status runs/on")[1].split()
    )


# Names and tags.


@pytest.mark.parametrize("name", ["", " a", "a/b", "..", "-x", "a\n", "a\x1b", "x" * 101, 3])
def test_a_name_is_that_of_a_folder(name):
    with pytest.raises(ValueError, match=r"name=.*: allowed is the name of a folder"):
        check_labels(name, ())


@pytest.mark.parametrize("tags", ["long", ["a b"], [""], [3], 5])
def test_tags_are_words(tags):
    with pytest.raises(ValueError, match=r"tags=.*: allowed is a list of words"):
        check_labels(None, tags)


def test_name_and_tags_go_into_the_record():
    assert check_labels(None, ()) == {}  # so that run.json is as it was
    assert check_labels("mine 2", ("a", "b:c", "a")) == {"name": "mine 2", "tags": ["a", "b:c"]}


def test_name_decides_on_the_folder(jaxpg, monkeypatch):  # noqa: F811
    import jaxpg as library

    asked = {}

    def run(*args, **named):
        asked.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "run", run)
    line = "train q_learning Cliff-jaxpg --name mine --tag long --tag thesis"
    assert jaxpg(line)[0] == 130
    assert (asked["out"], asked["name"], asked["tags"]) == (
        Path("runs/mine"), "mine", ("long", "thesis")
    )  # fmt: skip
    code, out, err = jaxpg("train q_learning Cliff-jaxpg --name ../mine")
    assert (code, out) == (2, "")
    assert "name='../mine': allowed is the name of a folder" in err
    assert not list(Path().iterdir())


# What the command says of itself.


def test_version(jaxpg):  # noqa: F811
    assert jaxpg("--version") == (0, f"jaxpg {__version__}\n", "")


def test_a_broken_pipe_ends_the_command_as_others_end(tmp_path):
    """Whether nobody reads when it prints, or when what is left is written at the end."""
    for words in (["--help"], ["train", "--help"]):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "jaxpg", *words]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60)
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_without_an_agent_is_wrapped(jaxpg, monkeypatch, columns):  # noqa: F811
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ("train", "sweep"):
        code, out, _ = jaxpg(f"{command} --help")
        assert code == 0
        text = [line for line in out.splitlines() if not line.startswith("  jaxpg")]  # examples
        assert max(map(len, text)) <= max(min(columns, 100), 56)
        assert f"usage: jaxpg {command} AGENT ENV" in out
        words = out.split()
        assert {"--total-steps", "--seeds", "--name", "sac_discrete,", "`jaxpg"} <= set(words)
    assert jaxpg("train")[0] == 2


def test_an_unknown_name_has_the_nearest_three():
    assert nearest("CARTPOLE-V1", ["Pendulum-v1", "CartPole-v1"])[0] == "CartPole-v1"
    said = str(unknown("agent", "PPO", agents.NAMES))
    begin = f"unknown agent 'PPO': did you mean 'ppo'? Of the {len(agents.NAMES)} that are allowed"
    assert said.startswith(begin)
    assert "the nearest are ppo, ppoc, ippo; `jaxpg list` has all" in said
    assert str(unknown("thing", "x", "abc")) == "unknown thing 'x': Allowed: a, b, c"
    assert str(unknown("thing", "x", ())) == "unknown thing 'x': there are none"


@pytest.fixture(scope="module")
def scripts():
    """The scripts of completion, by shell."""
    from contextlib import redirect_stdout
    from io import StringIO

    made = {}
    for shell in ("bash", "zsh", "fish"):
        with redirect_stdout(StringIO()) as said:
            assert cli.main(["completion", shell]) == 0
        made[shell] = said.getvalue()
    return made


# Words that are there, and what has to come for the last of them.
COMPLETED = {
    "tr": {"train"},
    "train pp": {"ppo", "ppoc", "ppo_lagrangian"},
    "train ppo CartPole-": {"CartPole-v1"},
    "train ppo CartPole-v1 --see": {"--seed", "--seeds"},
    "train ppo CartPole-v1 --config.gam": {"--config.gamma"},
    "train sac Pendulum-v1 --config.clip": set(),
    "train ppo CartPole-v1 --config.objective k": {"kl"},
    "sweep ppo CartPole-v1 --gri": {"--grid"},
    "compare ppo sars": {"sarsa"},
    "runs --dele": {"--delete"},
    "completion z": {"zsh"},
}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes(scripts, tmp_path):
    (tmp_path / "script").write_text(scripts["bash"])
    lines = ["source ./script"]
    for words in COMPLETED:
        lines += [f"COMP_WORDS=(jaxpg {words}); COMP_CWORD={len(words.split())}", "_jaxpg"]
        lines += ['echo "${COMPREPLY[*]}"']
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == ""
    found = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(COMPLETED, found, strict=True)) == COMPLETED


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh_completes(scripts, tmp_path):
    (tmp_path / "script").write_text(scripts["zsh"])
    lines = [
        'compadd() { shift; for x in "$@"; do',
        '[[ $x == "${words[CURRENT]}"* ]] && print -rn -- "$x "; done }',
        "compdef() { :; }",
        "source ./script",
    ]
    for words in COMPLETED:
        lines += [f"words=(jaxpg {words}); CURRENT={len(words.split()) + 1}; _jaxpg; print"]
    done = subprocess.run(
        ["zsh", "-fc", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True
    )
    found = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(COMPLETED, found, strict=True)) == COMPLETED


@pytest.mark.skipif(not shutil.which("fish"), reason="needs fish")
def test_fish_completes(scripts, tmp_path):
    (tmp_path / "script").write_text(scripts["fish"])
    lines = ["source ./script"]
    lines += [
        f"echo (complete -C 'jaxpg {words}' | string replace -r '\\t.*' '')" for words in COMPLETED
    ]
    done = subprocess.run(
        ["fish", "--no-config", "-c", "\n".join(lines)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    found = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(COMPLETED, found, strict=True)) == COMPLETED


def test_every_shell_has_every_name(scripts):
    import jaxpg as library

    for script in scripts.values():
        for name in (*cli.COMMANDS, *agents.NAMES, "Pendulum-v1", "total-steps", "out"):
            assert name in script
        for field in dataclasses.fields(library.ppo.Config):
            option = f"config.{field.name.replace('_', '-')}"
            assert (option in script) == (field.name != "total_steps")
