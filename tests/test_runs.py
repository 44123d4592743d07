"""A run folder can be gone on with, to the byte, after whatever stopped it."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.run import Callback
from jaxpg.core.run import run as core_run
from jaxpg.experiment.callbacks.guards import NonFiniteError
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.run.checkpoint import newest

pytestmark = pytest.mark.defaults

ITERATIONS = 12
ASKED = {
    "total_steps": ITERATIONS * 16, "chunk": 2,
    "evaluations": 3, "episodes": 2, "checkpoints": 4, "keep": 2,
}  # fmt: skip
ROWS = ("metrics.csv", "evaluations.csv")


def tiny(**fields):
    fields = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "num_epochs": 1} | fields
    return jaxpg.ppo.Config(minibatches=1, **fields)


def keys(seeds):
    return jax.random.split(jax.random.key(7), seeds) if seeds else jax.random.key(7)


def train(out, seeds=0, *callbacks, cfg=None, env=None, agent=jaxpg.ppo, **asked):
    env = env or jaxpg.make("CartPole-v1", max_steps_in_episode=30)
    asked = ASKED | asked
    return jaxpg.run(agent, cfg or tiny(), env, keys(seeds), out=out, callbacks=callbacks, **asked)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Uninterrupted runs by number of seeds (0: a single key): result, folder, and the folder as
    a kill would have left it after every chunk's callbacks and, a chunk later, its rows."""
    made = {}

    def get(seeds):
        if seeds not in made:
            root = tmp_path_factory.mktemp(f"seeds{seeds}")

            def copy(event, kind):
                shutil.copytree(root / "run", root / f"{kind}{event.iteration:02}")

            kills = Callback(partial(copy, kind="chunk"), partial(copy, kind="rows"))
            result = train(root / "run", seeds, kills)
            copies = sorted(p for p in root.iterdir() if p.name != "run")
            made[seeds] = result, root / "run", copies
        return made[seeds]

    return get


def same_run(result, out, finished):
    """State, files and metrics are those of the uninterrupted run."""
    whole, folder, _ = finished
    assert (result.stopped, result.iteration) == ("done", ITERATIONS)
    for name in ROWS:
        assert (out / name).read_bytes() == (folder / name).read_bytes(), name
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    assert jax.tree.structure(result.state) == jax.tree.structure(whole.state)
    for x, y in zip(jax.tree.leaves(result.state), jax.tree.leaves(whole.state), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(raw(x)).tobytes() == np.asarray(raw(y)).tobytes()
    assert result.metrics.keys() == whole.metrics.keys()
    for name in whole.metrics:
        np.testing.assert_array_equal(result.metrics[name], whole.metrics[name], strict=True)


def test_the_folder_changes_nothing(finished):
    result, _, _ = finished(0)
    plain = core_run(
        jaxpg.ppo, tiny(), result.env, keys(0), total_steps=ASKED["total_steps"], chunk=2
    )
    jax.tree.map(np.testing.assert_array_equal, plain.state.params, result.state.params)


@pytest.mark.parametrize("seeds", [0, 3])
def test_a_folder_is_whole(finished, seeds):
    result, out, _ = finished(seeds)
    assert {p.name for p in out.iterdir()} == {
        "run.json", "rows.jsonl", "summary.json", "curve.png", "checkpoints", *ROWS
    }  # fmt: skip
    assert sorted(int(p.name) for p in (out / "checkpoints").iterdir()) == [10, 12]
    record = json.loads((out / "run.json").read_text())
    assert (record["agent"], record["environment"]["name"]) == ("ppo", "CartPole-v1")
    assert record["made_with"]["jax"] == jax.__version__
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["stopped"], summary["iteration"], summary["env_steps"]) == ("done", 12, 192)
    assert summary["evaluation"]["iteration"] == 12
    assert len(summary["evaluation"]["greedy"]) == len(summary["evaluation"]["sampled"])
    assert len(summary["evaluation"]["greedy"]) == (seeds or 1)
    same_run(jaxpg.load(out), out, finished(seeds))
    assert jaxpg.load(out).seconds == result.seconds
    assert jaxpg.load(out).cfg == result.cfg


@pytest.mark.parametrize(
    ("seeds", "every"), [(0, 3), (3, 4), pytest.param(0, 1, marks=pytest.mark.slow)]
)
def test_resumed_wherever_it_was_killed(finished, seeds, every):
    for copy in finished(seeds)[2][::every]:
        out = shutil.copytree(copy, copy.parent / f"{copy.name} every {every}")
        for name in ROWS:  # and in the middle of a line
            if (out / name).exists():
                with (out / name).open("a") as file:
                    file.write((out / name).read_text().splitlines()[-1][:-3])
        done = newest(out / "checkpoints")
        if done:
            killed = jaxpg.load(out)
            assert (killed.stopped, killed.iteration) == ("error", done)
            assert all(m.shape[-1] == done for m in killed.metrics.values())
        same_run(jaxpg.resume(out), out, finished(seeds))


@pytest.mark.parametrize("seeds", [0, 3])
def test_resumed_after_a_callback_stopped_it(finished, seeds, tmp_path):
    result = train(tmp_path / "run", seeds, lambda event: event.iteration == 4)
    assert (result.stopped, result.iteration) == ("callback", 4)
    loaded = jaxpg.load(tmp_path / "run")
    assert (loaded.stopped, loaded.iteration, loaded.env_steps) == ("callback", 4, 64)
    same_run(jaxpg.resume(tmp_path / "run"), tmp_path / "run", finished(seeds))


def test_ctrl_c_saves(finished, tmp_path):
    def interrupt(event):
        if event.iteration == 8:
            os.kill(os.getpid(), signal.SIGINT)

    result = train(tmp_path / "run", 0, interrupt)
    assert (result.stopped, result.iteration) == ("interrupt", 8)
    assert newest(tmp_path / "run" / "checkpoints") == 8
    same_run(jaxpg.resume(tmp_path / "run"), tmp_path / "run", finished(0))


SLOW = """
import sys, time
from pathlib import Path
from tests.test_runs import train
train(Path(sys.argv[1]), int(sys.argv[2]), lambda event: time.sleep(0.05))
"""


@pytest.mark.parametrize("seeds", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_resumed_after_sigkill(finished, seeds, tmp_path):
    command = [sys.executable, "-c", SLOW, tmp_path / "run", str(seeds)]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        deadline = time.monotonic() + 120
        while newest(tmp_path / "run" / "checkpoints") is None:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(np.random.default_rng().uniform(0, 0.2))
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "summary.json").exists()
    same_run(jaxpg.resume(tmp_path / "run"), tmp_path / "run", finished(seeds))


@pytest.fixture
def folder(finished, tmp_path):
    """A finished run to break."""
    return shutil.copytree(finished(0)[1], tmp_path / "run")


def test_a_complete_run_is_only_loaded(finished, folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    same_run(jaxpg.resume(folder), folder, finished(0))
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    (folder / "summary.json").unlink()  # as if it was killed at the very end
    same_run(jaxpg.resume(folder), folder, finished(0))
    assert (folder / "summary.json").exists()


def test_a_complete_run_can_be_made_longer(folder):
    with pytest.raises(ValueError, match="total_steps=100: allowed is an integer >= 192"):
        jaxpg.resume(folder, total_steps=100)
    result = jaxpg.resume(folder, total_steps=16 * 16)
    assert (result.stopped, result.iteration, result.num_iters) == ("done", 16, 16)
    assert result.cfg.total_steps == 256
    loaded = jaxpg.load(folder)
    assert (loaded.stopped, loaded.iteration) == ("done", 16)
    for name in result.metrics:
        np.testing.assert_array_equal(loaded.metrics[name], result.metrics[name], strict=True)


def test_an_array_among_the_environment_parameters_comes_back(tmp_path):
    env = jaxpg.make("Acrobot-v1", max_steps_in_episode=30)
    train(tmp_path / "run", 0, lambda event: event.iteration == 2, env=env, evaluations=0)
    assert jaxpg.resume(tmp_path / "run").stopped == "done"


def test_a_resumed_run_may_stop_before_its_next_evaluation(tmp_path):
    out = tmp_path / "run"
    train(out, 0, lambda event: event.iteration == 4)
    assert "evaluation" in json.loads((out / "summary.json").read_text())
    shutil.rmtree(out / "checkpoints")  # so the row of iteration 4 is cut off again
    with pytest.warns(UserWarning, match="the checkpoint of iteration 4 is not there"):
        assert jaxpg.resume(out, callbacks=[lambda event: True]).iteration == 2
    assert "evaluation" not in json.loads((out / "summary.json").read_text())


def test_nan_leaves_the_last_good_checkpoint(tmp_path):
    with pytest.raises(NonFiniteError):
        train(tmp_path / "run", cfg=tiny(learning_rate=1e30), evaluations=0, checkpoints=12)
    done = newest(tmp_path / "run" / "checkpoints")
    if done:
        assert jaxpg.load(tmp_path / "run").stopped == "error"
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("content", ["run.json", "notes.txt"])
def test_a_folder_that_holds_something_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setattr("jaxpg.core.run.run", None)  # nothing is compiled
    (tmp_path / content).write_text("precious")
    with pytest.raises(ValueError, match=r"^out='.*': holds .*, allowed is a new or empty folder$"):
        train(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [content]
    with pytest.raises(ValueError, match="allowed is a new or empty folder"):
        train(tmp_path / content)
    assert (tmp_path / content).read_text() == "precious"


PATH = "lr=[0.1] *?{a}\\b '~/~%d #é"


def test_a_folder_may_have_any_name(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path(PATH)
    train(out, 0, lambda event: event.iteration == 6)
    assert jaxpg.load(out).iteration == 6
    same_run(jaxpg.resume(out), out, finished(0))
    same_run(jaxpg.load(tmp_path / PATH), out, finished(0))
    assert {p.name for p in tmp_path.iterdir()} == {Path(PATH).parts[0]}


@pytest.mark.slow
def test_what_is_made_of_a_run_may_have_any_name(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = Path(shutil.copytree(finished(0)[1], PATH))
    policy = jaxpg.Policy.load(out)
    policy.export(out / "policy")
    obs = np.zeros(4, np.float32)
    assert jaxpg.Policy.from_file(out / "policy")(obs) == policy(obs)
    assert jaxpg.render(out, out / "x.gif", max_steps=2).frames
    if importlib.util.find_spec("imageio_ffmpeg"):
        assert jaxpg.render(out, Path("a:b.mp4"), max_steps=2).frames
        Path("a:b.mp4").unlink()
    assert jaxpg.report([out], out / "x.html").exists()
    assert {p.name for p in tmp_path.iterdir()} == {Path(PATH).parts[0]}


def test_a_name_that_cannot_be_made_to_work_is_refused(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", fail)
    monkeypatch.setattr("jaxpg.core.run.run_plan", None)  # nothing is compiled
    for folder in (tmp_path / "a[b]", tmp_path / "a[b]" / "run"):
        with pytest.raises(ValueError, match=r"^out='.*a\[b\].*': allowed is a path that"):
            train(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chunk", 0), ("evaluations", -1), ("episodes", 0), ("checkpoints", 0), ("keep", 0),
        ("keep", 1.5), ("episodes", None), ("total_steps", 0), ("checkpoints", True),
    ],
)  # fmt: skip
def test_bad_numbers_are_named_and_no_folder_is_made(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"^{name}={value}: allowed is an integer >= \d$"):
        train(tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()


def test_a_bad_config_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="gamma"):
        train(tmp_path / "run", cfg=tiny(gamma=2.0))
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_named(tmp_path):
    for out, found in {tmp_path / "none": "no such folder", tmp_path: "no run.json"}.items():
        for f in (jaxpg.load, jaxpg.resume):
            with pytest.raises(CheckpointError) as error:
                f(out)
            assert str(error.value) == f"{out}: found {found}, expected the folder of a run"


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("run.json", damage),
        ("run.json", cut),
        ("summary.json", damage),
        ("metrics.csv", cut),
        ("metrics.csv", Path.unlink),
        ("metrics.csv", lambda path: path.write_text("")),
        ("checkpoints/12/manifest.json", damage),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_a_damaged_folder_is_named(folder, name, how):
    how(folder / name)
    for f in (jaxpg.load, jaxpg.resume):
        with pytest.raises(CheckpointError, match=str(folder / name)):
            f(folder)


def test_a_run_without_a_checkpoint_cannot_be_loaded(folder):
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        jaxpg.load(folder)


def test_another_version_is_a_warning(folder, monkeypatch):
    monkeypatch.setattr("jaxpg.experiment.run.checkpoint.package_versions", lambda: {"jax": "9.9"})
    with pytest.warns(UserWarning, match=rf"was made with jax {jax.__version__}, this is 9\.9"):
        jaxpg.resume(folder)


def test_an_agent_and_an_environment_of_ones_own(tmp_path):
    out = tmp_path / "run"
    agent = jaxpg.ppo._replace(step=lambda cfg, env, state: jaxpg.ppo.step(cfg, env, state))
    made = jaxpg.make("CartPole-v1")
    env = jaxpg.Env(made.params, made.core)
    train(out, 0, lambda event: event.iteration == 2, agent=agent, env=env, evaluations=0)
    with pytest.raises(CheckpointError, match="an agent of your own: pass agent="):
        jaxpg.load(out, env=env)
    with pytest.raises(CheckpointError, match="an env of your own: pass env="):
        jaxpg.resume(out, agent=agent)
    with pytest.raises(CheckpointError, match="agent: found 'ppo', expected 'other'"):
        jaxpg.load(out, agent=agent._replace(name="other"), env=env)
    longer = jaxpg.Env(made.params.replace(length=0.7), made.core)
    with pytest.raises(CheckpointError, match=r"environment.*length: found 0\.5, expected 0\.7"):
        jaxpg.load(out, agent=agent, env=longer)
    assert jaxpg.load(out, agent=agent, env=env).iteration == 2
    assert jaxpg.resume(out, agent=agent, env=env).stopped == "done"
