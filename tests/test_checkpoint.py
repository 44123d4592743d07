"""A checkpoint is what was saved, or a named error."""

import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.config import replace
from jaxpg.core.run import run
from jaxpg.core.train import initial_state, with_horizon
from jaxpg.experiment.files import arrays
from jaxpg.experiment.run import checkpoint, provenance
from jaxpg.experiment.run.checkpoint import (
    MANIFEST,
    CheckpointError,
    describe,
    newest,
    read_json,
    restore,
    save,
    take_snapshot,
    write_json,
)
from jaxpg.experiment.run.saving import checkpoints

CFG = jaxpg.ppo.Config(num_envs=2, num_steps=8, hidden=(4,), minibatches=1, num_epochs=1)
ITERATIONS, STEPS = 8, 8 * 16
ABOUT = {"agent": "none", "config": {}, "environment": {}}


@pytest.fixture(scope="module")
def env():
    return jaxpg.make("CartPole-v1")


def train(env, folder, *callbacks, every=3, keep=3, **kwargs):
    save = checkpoints(folder, jaxpg.ppo, CFG, env, every, keep)
    key = jax.random.key(0)
    return run(
        jaxpg.ppo, CFG, env, key, total_steps=STEPS, chunk=2, callbacks=[*callbacks, save], **kwargs
    )


def like(env, cfg=CFG):
    begin = functools.partial(initial_state, jaxpg.ppo, with_horizon(cfg, STEPS), env)
    return jax.eval_shape(begin, jax.random.key(0))


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.fixture(scope="module")
def trained(env, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return train(env, folder), folder


@pytest.fixture
def saved(trained, tmp_path):
    """A folder of its own with the checkpoints of iterations 4, 6 and 8."""
    return shutil.copytree(trained[1], tmp_path / "checkpoints")


def same_bytes(a, b):
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        assert np.asarray(raw(x)).tobytes() == np.asarray(raw(y)).tobytes()


def test_a_training_state_comes_back_to_the_byte(trained, env):
    result, folder = trained
    state, iteration = restore(folder, like(env), describe(jaxpg.ppo, CFG, env))
    assert iteration == ITERATIONS
    same_bytes(state, result.state)


class Odd(NamedTuple):
    empty: jax.Array
    nested: dict
    keys: jax.Array
    off: tuple = ()


def odd():
    kinds = (bool, "int8", "int32", "uint32", "bfloat16", "float16", "float32", "complex64")
    return Odd(
        jnp.zeros((0, 3)),
        {f"a/b {k}": (jnp.ones((), k), jnp.ones((2, 3), k)) for k in map(jnp.dtype, kinds)},
        jax.random.split(jax.random.key(1, impl="rbg"), 3),
    )


def test_leaves_of_every_kind_come_back(tmp_path):
    tree = odd()
    save(tmp_path, take_snapshot(tree), 5, ABOUT)
    state, iteration = restore(tmp_path, jax.eval_shape(lambda: tree), ABOUT)
    assert iteration == 5
    same_bytes(state, tree)
    assert jax.random.key_impl(state.keys) == "rbg"


def test_leaves_of_64_bits_come_back(tmp_path):
    with jax.enable_x64(True):
        tree = {"x": jnp.full(3, 1 / 3), "n": jnp.asarray(2**40)}
        save(tmp_path, take_snapshot(tree), 0, ABOUT)
        same_bytes(restore(tmp_path, jax.eval_shape(lambda: tree), ABOUT)[0], tree)
    narrow = {"x": jnp.zeros(3), "n": jnp.zeros((), int)}
    with pytest.raises(
        CheckpointError, match=r"leaves\.\['n'\]: found 'int64\[\]', expected 'int3"
    ):
        restore(tmp_path, jax.eval_shape(lambda: narrow), ABOUT)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, 0),
        lambda path: flip(path, 0.5),
        lambda path: flip(path, 1),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.with_name(path.name + "x").write_bytes(b"more"),
    ],
    ids=["first byte", "a byte", "last byte", "cut", "emptied", "missing", "extra"],
)
def test_damage_to_any_file_is_an_error_and_never_an_older_step(saved, env, damage, request):
    newest_step = saved / str(ITERATIONS)
    files = [path for path in newest_step.rglob("*") if path.is_file()]
    assert len(files) > 5
    if request.node.callspec.id == "missing":  # without a manifest a step is unfinished: see below
        files.remove(newest_step / MANIFEST)
    about = describe(jaxpg.ppo, CFG, env)
    for path in files:
        whole = path.read_bytes()
        damage(path)
        with pytest.raises(CheckpointError, match=path.name):
            restore(saved, like(env), about)
        path.write_bytes(whole)
        path.with_name(path.name + "x").unlink(missing_ok=True)
    assert restore(saved, like(env), about)[1] == ITERATIONS


def test_every_byte_of_a_manifest_counts(saved, env):
    manifest = saved / str(ITERATIONS) / MANIFEST
    whole = manifest.read_bytes()
    for at in np.linspace(0, 1, 97):
        flip(manifest, at)
        with pytest.raises(CheckpointError, match=MANIFEST):
            read_json(manifest)
        manifest.write_bytes(whole)


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", "\xff", '{"sha256": "0"}'])
def test_json_that_is_not_ours_is_an_error(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_a_step_that_was_cut_short_does_not_exist(saved, env):
    (saved / str(ITERATIONS) / MANIFEST).unlink()
    (saved / "9.jaxpg-draft").mkdir()
    (saved / "notes").mkdir()
    tree, iteration = restore(saved, like(env), describe(jaxpg.ppo, CFG, env))
    assert iteration == newest(saved) == 6
    save(saved, take_snapshot(tree), 8, describe(jaxpg.ppo, CFG, env))
    assert sorted(p.name for p in saved.iterdir()) == ["4", "6", "8", "notes"]
    assert newest(saved) == 8


def test_a_renamed_step_is_an_error(saved, env):
    (saved / "8").rename(saved / "88")
    with pytest.raises(CheckpointError, match="iteration: found 8, expected 88"):
        restore(saved, like(env), describe(jaxpg.ppo, CFG, env))


def test_no_checkpoint_is_an_error(tmp_path):
    assert newest(tmp_path / "none") is None
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        restore(tmp_path / "none", {}, ABOUT)


WRONG = {
    "config.hidden: found [4], expected [5]": ("ppo", {"hidden": (5,)}, {}),
    "config.gamma: found 0.99, expected 0.5": ("ppo", {"gamma": 0.5}, {}),
    "environment.length: found 0.5, expected 0.7": ("ppo", {}, {"length": 0.7}),
    "agent: found 'ppo', expected 'a2c'": ("a2c", {}, {}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_it_does_not_belong_to_is_named(saved, env, message):
    name, fields, params = WRONG[message]
    agent = getattr(jaxpg, name)
    cfg = replace(CFG, **fields) if name == "ppo" else agent.Config()
    about = describe(agent, cfg, jaxpg.make("CartPole-v1", **params))
    with pytest.raises(CheckpointError) as error:
        restore(saved, like(env), about)
    assert message in str(error.value)


def test_another_state_is_named(saved, env):
    wide = like(env, jaxpg.ppo.Config(num_envs=2, num_steps=8, hidden=(5,), minibatches=1))
    with pytest.raises(CheckpointError, match=r"actor.*: found 'float32\[4, 2\]', expected"):
        restore(saved, wide, describe(jaxpg.ppo, CFG, env))


def test_a_state_of_an_older_version_is_named(saved, env):
    """It lacks a part that states have by now."""
    newer = like(env)._replace(obs_stats={"lost": jax.ShapeDtypeStruct((), "float32")})
    says = r"obs_stats\['lost'\]: found None, expected 'float32\[\]'; a state of another version of"
    with pytest.raises(CheckpointError, match=says):
        restore(saved, newer, describe(jaxpg.ppo, CFG, env))


def write_record(path, cfg, without=(), **other):
    """The record of a run as an earlier version wrote it: without these fields of the config."""
    env = jaxpg.make("Pendulum-v1")
    record = provenance.describe_run(jaxpg.td3, cfg, env, jax.random.key(0))
    record["config"] = {k: x for k, x in record["config"].items() if k not in without} | other
    write_json(path, record)
    return path


@pytest.mark.parametrize("without", [(), ("normalize_steps",), ("noise", "ou_theta")])
def test_a_record_from_before_a_field_has_its_default(tmp_path, without):
    """Whatever that is: TD3's is a text and a number."""
    cfg = jaxpg.td3.Config(gamma=0.5)
    path = write_record(tmp_path / "run.json", cfg, without)
    assert provenance.restore_objects(path, None, None)[1] == cfg


def test_a_record_with_a_field_that_there_is_not_is_named(tmp_path):
    path = write_record(tmp_path / "run.json", jaxpg.td3.Config(), ("noise",), nois="ou")
    with pytest.raises(CheckpointError, match=r"unknown td3.Config field 'nois'"):
        provenance.restore_objects(path, None, None)


def test_a_checkpoint_from_before_a_field_is_read(saved, env):
    path, about = saved / "8" / "manifest.json", describe(jaxpg.ppo, CFG, env)
    manifest = read_json(path, ())
    del manifest["config"]["clip_eps"]
    write_json(path, manifest)
    assert restore(saved, like(env), about)[1] == 8
    manifest["config"]["gamma"] = 0.5  # what it has is compared as ever
    write_json(path, manifest)
    with pytest.raises(CheckpointError, match=r"config.gamma: found 0.5, expected"):
        restore(saved, like(env), about)


@pytest.mark.parametrize(("keep", "kept"), [(1, [8]), (2, [6, 8]), (9, [4, 6, 8])])
def test_only_the_newest_are_kept(env, tmp_path, keep, kept):
    train(env, tmp_path, keep=keep)
    assert steps(tmp_path) == kept


def poison(state):
    params = jax.tree.map(lambda x: x * jnp.nan, state.params)
    return state._replace(params=params)


def test_a_state_with_nan_is_not_saved(env, tmp_path):
    train(env, tmp_path, lambda event: event.iteration == 4)  # stops with a good state
    good = steps(tmp_path)
    state, iteration = restore(tmp_path, like(env), describe(jaxpg.ppo, CFG, env))
    with pytest.warns(UserWarning, match="is not saved") as warned:
        train(env, tmp_path, state=poison(state), iteration=iteration)
    what = [str(w.message).partition(": ")[2] for w in warned]
    leaf = ".params['params']['actor']['bias'] has a NaN or infinity"
    assert what == [f"iteration {i} is not saved: {leaf}" for i in (6, 8)]
    assert steps(tmp_path) == good


def test_a_run_that_is_stopped_is_saved_once(env, tmp_path):
    result = train(env, tmp_path, lambda event: event.iteration == 2)
    assert (result.stopped, steps(tmp_path)) == ("callback", [2])


def test_a_run_that_fails_is_not_saved(env, tmp_path):
    def fail(event):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        train(env, tmp_path, fail)
    assert newest(tmp_path) is None


def test_checkpoints_of_another_run_are_left_alone(saved, env):
    with pytest.raises(CheckpointError, match="found a checkpoint of iteration 8"):
        train(env, saved)
    assert steps(saved) == [4, 6, 8]


def test_json_comes_back_as_it_was(tmp_path):
    content = {"a": [1, 2.5, None, "é"], "b": {"c": True}}
    write_json(tmp_path / "x.json", content | {"d": (np.float32(0.5), np.arange(2))})
    assert read_json(tmp_path / "x.json") == content | {"d": [0.5, [0, 1]]}


# What is not ours.

SMALL = {"x": jnp.arange(3.0)}


def save_small(folder, iteration, keep=1):
    save(folder, take_snapshot(SMALL), iteration, ABOUT, keep)


FOREIGN = ("2019", "2021.photos", "2", "9.orbax-checkpoint-tmp", "007", "²", "3.jaxpg-draft.mine")


@pytest.mark.parametrize("link", [False, True], ids=["folder", "link"])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_ours_stays(tmp_path, name, link):
    folder, photos = tmp_path / "checkpoints", tmp_path / "photos"
    folder.mkdir()
    photos.mkdir()
    (photos / "beach.jpg").write_text("dear")
    (photos / MANIFEST).write_text('{"iteration": 2019}')
    if link:
        (folder / name).symlink_to(photos)
    else:
        photos.rename(folder / name)
    for iteration in (1, 3, 4):
        save_small(folder, iteration)
    assert (folder / name / "beach.jpg").read_text() == "dear"
    assert sorted(p.name for p in folder.iterdir()) == sorted(["4", name])
    assert newest(folder) == 4


def test_links_to_checkpoints_stay_and_so_do_copies(tmp_path):
    """Not even what is a checkpoint is removed through a link, or under another's number."""
    folder, other = tmp_path / "checkpoints", tmp_path / "other"
    for iteration in (1, 2):
        save_small(other, iteration, keep=2)
    folder.mkdir()
    (folder / "1").symlink_to(other / "1")
    (folder / "5.jaxpg-draft").symlink_to(other / "2")
    shutil.copytree(other / "2", folder / "3")
    for iteration in (4, 6):
        save_small(folder, iteration)
    assert sorted(p.name for p in folder.iterdir()) == ["1", "3", "5.jaxpg-draft", "6"]
    assert steps(other) == [1, 2]
    restore(other, jax.eval_shape(lambda: SMALL), ABOUT)


def test_what_is_in_the_way_of_a_checkpoint_is_named(tmp_path):
    (tmp_path / "2").mkdir()
    save_small(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"/2: found something there, expected a name that"):
        save_small(tmp_path, 2)
    assert newest(tmp_path) == 1


def test_a_checkpoint_that_is_half_removed_is_removed(tmp_path):
    save_small(tmp_path, 1)
    (tmp_path / "1").rename(tmp_path / "1.jaxpg-draft")
    (tmp_path / "1.jaxpg-draft" / MANIFEST).unlink()
    save_small(tmp_path, 2)
    assert steps(tmp_path) == [2]


# Read back once.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: {"['x']": x["['x']"] + 1}, r"found another \['x'\] than was just written"),
        (lambda x: {"y": x["['x']"]}, r"found another \['x'\] than was just written"),
        (None, "found what cannot be read back"),
    ],
    ids=["another", "less", "none"],
)
def test_a_checkpoint_is_read_back_before_it_counts(tmp_path, monkeypatch, change, words):
    save_small(tmp_path, 1, keep=2)
    write = arrays.write
    broken = lambda step, x: change and write(step, change(x))  # noqa: E731
    monkeypatch.setattr(arrays, "write", broken)
    with pytest.raises(CheckpointError, match=words):
        save_small(tmp_path, 2, keep=2)
    monkeypatch.undo()
    assert newest(tmp_path) == 1
    save_small(tmp_path, 3, keep=2)
    assert steps(tmp_path) == [1, 3]


# Paths.

NAMES = (
    "lr=[0.1]", "a]b", "[", "a\\b", "*", "?", "{a,b}", "a b", "schön 速い", "-x", "~", "a\nb", "%d",
    "#1", "$HOME", "a'b", 'a"b', "a:b", "file:", os.fsdecode(b"\xff"), "." * 3, "x" * 200,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_path_may_have_any_letters(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    like = jax.eval_shape(lambda: SMALL)
    for folder in (Path(name), tmp_path / name / "checkpoints"):
        for iteration in (1, 2):
            save_small(folder, iteration)
        assert restore(folder, like, ABOUT)[1] == 2
    (tmp_path / "link").symlink_to(tmp_path / name)
    assert restore(tmp_path / "link", like, ABOUT)[1] == 2
    shutil.move(tmp_path / name, tmp_path / "moved")
    same_bytes(restore(tmp_path / "moved", like, ABOUT)[0], SMALL)


def test_the_folder_for_temporary_files_may_have_any_letters(tmp_path, monkeypatch):
    (tmp_path / "[1]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[1]"))
    save_small(tmp_path / "a[b]", 1)
    assert restore(tmp_path / "a[b]", jax.eval_shape(lambda: SMALL), ABOUT)[1] == 1
    assert list((tmp_path / "[1]").iterdir()) == []


def test_a_save_that_failed_and_still_writes_is_in_nobodys_way(tmp_path, monkeypatch):
    """A thread of Orbax's goes on after the error: what it holds cannot be removed, nor shared."""
    tree = {"x": jnp.ones(3)}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.arrays, "write", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            save(tmp_path, take_snapshot(tree), 5, ABOUT)
    (left,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", lambda path, ignore_errors=False: None)
        save(tmp_path, take_snapshot(tree), 5, ABOUT)
    assert sorted(tmp_path.iterdir()) == sorted([left, tmp_path / "5"])
    same_bytes(restore(tmp_path, jax.eval_shape(lambda: tree), ABOUT)[0], tree)
    save(tmp_path, take_snapshot(tree), 6, ABOUT)
    assert steps(tmp_path) == [5, 6]
