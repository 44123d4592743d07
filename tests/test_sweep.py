"""Sweeps: points, lanes, parts, tables; what was killed goes on to the byte."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jaxpg
from jaxpg import sweep
from jaxpg.core.config import to_dict
from jaxpg.core.parallel.lanes import ACTIVE, lanes, stack
from jaxpg.core.plan import device_bytes, plan_run
from jaxpg.core.train import with_horizon
from jaxpg.envs import registry
from jaxpg.experiment.files.atomic import CheckpointError, read_json, write_json
from jaxpg.experiment.listing.entries import read_entry
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.run.standing import judge_lanes
from jaxpg.experiment.sweeps import points, tables
from jaxpg.nets.networks import MLP
from tests.conftest import TINY, short_env
from tests.test_contract import same_bytes

SMALL = {"num_envs": 2, "num_steps": 4, "hidden": (4,), "minibatches": 1, "num_epochs": 1}
STEPS = 20 * 8
SETTINGS = {"total_steps": STEPS, "seeds": 2, "episodes": 4}


@pytest.fixture(scope="module")
def env():
    return jaxpg.make("CartPole-v1", max_steps_in_episode=16)


@pytest.fixture(scope="module")
def cfg():
    return jaxpg.ppo.Config(**SMALL)


def go(cfg, env, every, **settings):
    return sweep.run(jaxpg.ppo, cfg, env, jax.random.key(0), every, **SETTINGS | settings)


# Points.


def test_a_grid_is_every_combination_in_order():
    every = sweep.grid({"env.gravity": [5, 10]}, learning_rate=[1e-3, 1e-2])
    assert every == [
        {"env.gravity": 5, "learning_rate": 1e-3},
        {"env.gravity": 5, "learning_rate": 1e-2},
        {"env.gravity": 10, "learning_rate": 1e-3},
        {"env.gravity": 10, "learning_rate": 1e-2},
    ]


def test_random_points_have_the_distribution_that_was_asked_for():
    drawn = sweep.random(
        4000,
        learning_rate=sweep.loguniform(1e-5, 1e-1),
        gamma=sweep.uniform(0.9, 1.0),
        activation=["tanh", "relu"],
    )
    rate, gamma = (np.array([p[n] for p in drawn]) for n in ("learning_rate", "gamma"))
    assert rate.min() >= 1e-5
    assert rate.max() <= 1e-1
    shares = np.histogram(np.log10(rate), bins=4, range=(-5, -1))[0] / 4000
    np.testing.assert_allclose(shares, 0.25, atol=0.03)
    assert gamma.mean() == pytest.approx(0.95, abs=0.003)
    assert np.mean([p["activation"] == "relu" for p in drawn]) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(np.log(rate), gamma)[0, 1]) < 0.06
    assert drawn == sweep.random(
        4000,
        learning_rate=sweep.loguniform(1e-5, 1e-1),
        gamma=sweep.uniform(0.9, 1.0),
        activation=["tanh", "relu"],
    )
    assert drawn != sweep.random(4000, {n: [1, 2] for n in drawn[0]}, seed=1)
    assert all(len(f"{p['learning_rate']:.3e}") <= 9 for p in drawn)


def test_points_of_one_structure_are_one_group(cfg, env):
    every = sweep.grid({"hidden": [(4,), (8,)], "learning_rate": [1, 0.1], "env.gravity": [5, 9.8]})
    pairs = [points.apply_point(cfg, env, p) for p in every]
    assert points.group_by_program(pairs) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # None switches something off, which is another program.
    pairs = [points.apply_point(cfg, env, {"target_kl": x}) for x in (None, 0.1, 0.2)]
    assert points.group_by_program(pairs) == [[0], [1, 2]]


def test_a_static_field_that_is_a_fraction_can_be_listed():
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.dqn.Config()
    own, _ = points.apply_point(cfg, env, {"updates_per_step": 0.5})
    assert own.updates_per_step == 0.5
    with pytest.raises(ValueError, match=r"num_envs=2\.5: it is static"):
        points.apply_point(cfg, env, {"num_envs": 2.5})


def test_parameters_that_follow_from_others_follow():
    env = jaxpg.make("CartPole-v1", gravity=5.0)
    heavy = registry.with_params(env, masspole=0.7)
    assert heavy.params.gravity == 5.0
    assert heavy.params.total_mass == pytest.approx(heavy.params.masscart + 0.7)
    assert heavy.core is env.core


@pytest.mark.parametrize("name", ["Acrobot-v1", "DeepSea-bsuite", "FrozenLake-misc"])
def test_an_environment_comes_back_from_json_with_its_arrays(name):
    env = jaxpg.make(name)
    back = registry.from_dict(json.loads(json.dumps(registry.to_dict(env))))
    assert jax.tree.structure(back) == jax.tree.structure(env)
    for a, b in zip(jax.tree.leaves(env), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_of_points_is_for_vmap(cfg, env):
    cfgs, envs = sweep.batch(cfg, env, sweep.grid({"gamma": [0.5, 0.9], "env.gravity": [1, 2.5]}))
    np.testing.assert_allclose(cfgs.gamma, [0.5, 0.5, 0.9, 0.9])
    np.testing.assert_allclose(envs.params.gravity, [1, 2.5, 1, 2.5])
    assert cfgs.learning_rate.shape == (4,)
    assert {x.dtype for x in jax.tree.leaves(cfgs)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda c, e: sweep.grid(gamma=[]), "gamma=.*at least one"),
        (lambda c, e: sweep.grid(gamma=[0.9, 0.9]), "gamma=.*none twice"),
        (lambda c, e: sweep.grid(gamma=0.9), "gamma=0.9: allowed is a list"),
        (lambda c, e: sweep.grid(activation="tanh"), "activation='tanh': allowed is a list"),
        (lambda c, e: sweep.random(0, gamma=[0.9]), "count=0: allowed is an integer >= 1"),
        (lambda c, e: sweep.uniform(1, 0), "range 1 .. 0"),
        (lambda c, e: sweep.uniform(0, np.inf), "range 0 .. inf"),
        (lambda c, e: sweep.loguniform(0, 1), "loguniform 0 .. 1"),
        (lambda c, e: sweep.batch(c, e, []), "points="),
        (lambda c, e: sweep.batch(c, e, sweep.grid(num_envs=[2, 4])), "num_envs: static.* one"),
        (lambda c, e: go(c, e, []), "points="),
        (lambda c, e: go(c, e, sweep.grid(gama=[0.9])), "'gama': did you mean 'gamma'"),
        (lambda c, e: go(c, e, sweep.grid({"env.gravit": [1]})), "did you mean 'env.gravity'"),
        (lambda c, e: go(c, e, sweep.grid(gravity=[1])), "did you mean 'env.gravity'"),
        (lambda c, e: go(c, e, sweep.grid(total_steps=[1])), "unknown field of a sweep"),
        (lambda c, e: go(c, e, sweep.grid(gamma=[0.9, 1.5])), "gamma=1.5: allowed is"),
        (lambda c, e: go(c, e, sweep.grid(minibatches=[1, 3])), "minibatches=3: allowed is a div"),
        (lambda c, e: go(c, e, sweep.grid(learning_rate=[[1, 2]])), "allowed is one value in each"),
        (
            lambda c, e: go(c, e, sweep.random(2, num_envs=sweep.uniform(2, 9))),
            "num_envs=.*static.*list of values, not a range",
        ),
        (lambda c, e: go(c, e, [{}], seeds=0), "seeds=0: allowed is an integer >= 1"),
        (lambda c, e: go(c, e, [{}], evaluations=0), "evaluations=0: allowed"),
        (lambda c, e: go(c, e, [{}], lanes=0), "lanes=0: allowed"),
        (lambda c, e: go(c, e, [{}], memory=0.5), "memory=0.5: allowed"),
        (lambda c, e: go(c, e, [{}], target=np.nan), "target=nan: allowed"),
        (lambda c, e: go(c, e, [{}], total_steps=0), "total_steps=0: allowed"),
        (
            lambda c, e: sweep.run(jaxpg.ppo, c, e, jax.random.split(jax.random.key(0)), [{}],
                                   total_steps=8),
            r"key of shape \(2,\): allowed is one key",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named_before_anything_compiles(cfg, env, tmp_path, make, words):
    begun = time.process_time()
    with sweep.watching.count_compilations() as compiled, pytest.raises(ValueError, match=words):
        make(cfg, env)
    assert not compiled
    assert time.process_time() - begun < 15


def test_integers_of_numpy_are_integers(tmp_path):
    settings = {"seeds": np.int32(2), "episodes": np.int64(4), "lanes": np.int64(2)}
    record = sweep.sweep.new_record({}, [], np.int64(STEPS), **settings)
    assert json.loads(json.dumps(record)) == record
    assert [record[name] for name in settings] == [2, 4, 2]


def test_a_folder_that_holds_something_is_left_alone(cfg, env, tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds files, allowed is a new or empty folder"):
        go(cfg, env, [{}], out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


# Lanes.


def of_rates(cfg, env, rates, **changes):
    cfg = dataclasses.replace(cfg, total_steps=float(STEPS), **changes)
    return stack([(dataclasses.replace(cfg, learning_rate=rate), env) for rate in rates])


def train(cfg, env, **settings):
    keys = jax.random.split(jax.random.key(0), 2)[jnp.array([0, 1, 0])]
    return jaxpg.run(jaxpg.ppo, cfg, env, keys, total_steps=STEPS, chunk=7, **settings)


def test_lanes_are_runs_of_their_own(cfg, env):
    """Keys and integers are those of a plain run; floats part in the last bits."""
    many = train(*of_rates(cfg, env, (1e-3, 1e-2, 1e-2)))
    plain = jaxpg.run(
        jaxpg.ppo, dataclasses.replace(cfg, learning_rate=1e-2), env,
        jax.random.split(jax.random.key(0), 2), total_steps=STEPS, chunk=7,
    )  # fmt: skip
    for lane, seed in ((1, 1), (2, 0)):
        same_bytes(many.state.state.key[lane], plain.state.key[seed])
        for name, column in plain.metrics.items():
            np.testing.assert_allclose(
                many.metrics[name][lane], column[seed], rtol=2e-2, atol=2e-3, err_msg=name
            )
    assert many.metrics[ACTIVE].all()
    assert not np.allclose(many.metrics["loss/value"][0], many.metrics["loss/value"][2])


def test_a_lane_that_diverges_stands_still_and_leaves_the_others_alone(cfg, env):
    good, bad = (train(*of_rates(cfg, env, (1e-3, rate, 1e-2))) for rate in (1e-4, 3e38))
    take = jax.jit(lambda r, lane: jax.tree.map(lambda x: x[lane], r))  # one program
    for lane in (0, 2):
        same_bytes(*(take((r.state, r.metrics), lane) for r in (good, bad)))
    assert list(np.asarray(bad.state.active)) == [True, False, True]
    assert bad.iteration == 20
    (state, metrics), going = take((bad.state, bad.metrics), 1), bad.metrics[ACTIVE][1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.state.params))
    assert not going.any(), "nothing of the chunk in which it diverged is kept"
    assert np.isnan(metrics["loss/value"]).all()
    assert (metrics["episode/count"] == 0).all()


def test_lanes_that_are_all_lost_end_as_an_error(cfg, env, tmp_path):
    """As one seed that is not finite does; one that had reached the target is not lost."""
    rates = of_rates(cfg, env, (3e38, 3e38, 3e38))
    assert train(*rates).stopped == "error"
    assert train(*of_rates(cfg, env, (1e-3, 3e38, 3e38))).stopped == "done"
    found = train(*rates, out=tmp_path / "lost", target=17.0)
    assert (found.stopped, found.iteration < 20) == ("error", True)
    why = "NonFiniteError: what all 3 lanes learnt is not finite"
    entry = read_entry(tmp_path / "lost")
    assert (entry.state, entry.problem) == ("failed", why)
    for again in (jaxpg.load, jaxpg.resume):
        assert again(tmp_path / "lost").stopped == "error"
    assert read_entry(tmp_path / "lost").problem == why
    ended = found._replace(stopped="callback", evaluations={"greedy": np.array([[18.0, 2]] * 3)})
    assert judge_lanes(ended, 17.0).stopped == "callback"
    assert judge_lanes(ended, 19.0).stopped == judge_lanes(ended, None).stopped == "error"


def test_lanes_have_one_number(cfg, env):
    cfgs, envs = of_rates(cfg, env, (1e-3, 1e-2))
    with pytest.raises(ValueError, match=r"lanes \[\(2,\), \(3,\)\]: allowed is one number"):
        train(cfgs, envs)


def test_an_agent_of_lanes_is_one_key_of_the_jit_cache():
    assert lanes(jaxpg.ppo) is lanes(jaxpg.ppo)


# Sweeps.


@pytest.fixture(scope="module")
def whole(cfg, env, tmp_path_factory):
    """Two static values, three rates of which one diverges, two seeds; and its folder."""
    every = sweep.grid(hidden=[[4], [5]], learning_rate=[1e-3, 1e-2, 3e38])
    return go(cfg, env, every, out=tmp_path_factory.mktemp("sweep") / "whole", evaluations=2)


def test_a_sweep_compiles_one_program_for_each_static_value(whole):
    assert whole.about["compilations"] == 2
    assert [len(part["lanes"]) for part in whole.about["parts"]] == [6, 6]


def test_tables_are_tidy(whole):
    table, scores = whole.table, whole.scores
    assert list(table.columns[:6]) == [
        "config", "hidden", "learning_rate", "seed", "iteration", "env_steps",
    ]  # fmt: skip
    assert not table.duplicated(["config", "seed", "iteration"]).any()
    counts = table.groupby(["config", "seed"]).size()
    assert counts.index.tolist() == [(c, s) for c in range(6) for s in (0, 1)]
    # The second step of the enormous rate is not finite: of its chunk, here of 1, nothing is kept.
    assert counts.tolist() == [20, 20, 20, 20, 1, 1] * 2
    assert (table["env_steps"] == 8 * table["iteration"]).all()
    assert table["loss/value"].notna().all()
    assert not any(name.startswith("lane/") for name in table)
    heads = table[["config", "hidden", "learning_rate"]].drop_duplicates()
    assert heads["config"].tolist() == list(range(6))
    assert heads["hidden"].tolist() == ["[4]"] * 3 + ["[5]"] * 3
    assert heads["learning_rate"].tolist() == [1e-3, 1e-2, 3e38] * 2
    assert scores["config"].tolist() == [c for c in range(6) for _ in (0, 1)]
    lost = scores["config"].isin([2, 5])
    assert (scores["ended"] == np.where(lost, "diverged", "done")).all()
    assert (scores["score"].isna() == lost).all()
    assert (scores["env_steps"] == np.where(lost, 8, STEPS)).all()
    last = whole.evaluations.groupby(["config", "seed"])["greedy"].last()
    assert scores["score"].dropna().tolist() == last.tolist()
    assert (whole.evaluations.groupby(["config", "seed"]).size() == 2).all()


def test_rows_of_blocks_end_where_a_lane_ends(cfg, env, whole, tmp_path):
    """The lane of the enormous rate learns in its first iteration alone."""
    every = [p for p in whole.about["points"] if p["hidden"] == [4]]
    found = go(cfg, env, every, out=tmp_path / "s", evaluations=2, log_every=3)
    full = whole.table[whole.table["config"] < 3]
    ends = {0: [3, 6, 9, 12, 15, 18, 20], 1: [3, 6, 9, 12, 15, 18, 20], 2: [1]}
    for (config, seed), rows in found.table.groupby(["config", "seed"]):
        assert rows["iteration"].tolist() == ends[config]
        assert rows["env_steps"].tolist() == [8 * end for end in ends[config]]
        own = full[(full["config"] == config) & (full["seed"] == seed)]
        blocks = own.groupby((own["iteration"] - 1) // 3)
        assert rows["episode/count"].tolist() == blocks["episode/count"].sum().tolist()
        np.testing.assert_allclose(rows["loss/value"], blocks["loss/value"].mean(), rtol=1e-6)
    pd.testing.assert_frame_equal(found.scores, whole.scores[whole.scores["config"] < 3])
    one = sweep.result(tmp_path / "s", 1)
    assert one.iterations.tolist() == ends[1]
    rows = found.table[found.table["config"] == 1]
    np.testing.assert_allclose(one.metrics["loss/value"].ravel(), rows["loss/value"], rtol=1e-6)
    with pytest.raises(ValueError, match="log_every=0: allowed is an integer >= 1"):
        go(cfg, env, every, out=tmp_path / "none", log_every=0)
    assert not (tmp_path / "none").exists()


def test_what_is_loaded_is_what_was_returned(whole):
    again = jaxpg.load(whole.folder)
    for name in tables.TABLES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(whole, name), check_dtype=False)
    assert again.about == whole.about


def test_a_config_of_a_sweep_is_a_run(whole):
    found = sweep.result(whole.folder, 4)
    assert to_dict(found.cfg)["hidden"] == [5]
    assert float(found.cfg.learning_rate) == pytest.approx(1e-2)
    assert found.agent == jaxpg.ppo
    rows = whole.table[whole.table["config"] == 4].sort_values(["seed", "iteration"])
    np.testing.assert_allclose(found.metrics["loss/value"].ravel(), rows["loss/value"], rtol=1e-6)
    key = jax.random.split(jax.random.key(3))
    returns = jaxpg.evaluate(found.agent, found.cfg, found.env, found.state, key, episodes=4)
    assert returns.shape == (2, 4)
    action = jaxpg.Policy.of(found, seed=1)(np.zeros(4, np.float32))
    assert action in (0, 1)
    with pytest.raises(ValueError, match="config=6: allowed is an integer >= 0 and <= 5"):
        sweep.result(whole.folder, 6)


@pytest.mark.slow
def test_slices_do_not_change_what_is_found(cfg, env, whole, tmp_path):
    """A third of the lanes at a time: the same rows, from the same seeds."""
    every = [p for p in whole.about["points"] if p["hidden"] == [4]]
    said = []
    sliced = go(cfg, env, every, out=tmp_path / "s", evaluations=2, lanes=2, log=said.append)
    assert [part["width"] for part in sliced.about["parts"]] == [2, 2, 2]
    assert sliced.about["compilations"] == 1
    assert said[0] == "compiling ..."
    assert said[1].startswith("ppo on CartPole-v1: 3 configs x 2 seeds, 3 parts of 2, ")
    ours = whole.table[whole.table["hidden"] == "[4]"].reset_index(drop=True)
    assert sliced.table[["config", "seed", "iteration"]].equals(
        ours[["config", "seed", "iteration"]]
    )
    np.testing.assert_allclose(sliced.table["loss/value"], ours["loss/value"], rtol=2e-2, atol=2e-3)


def test_a_sweep_of_which_nothing_is_finite_has_failed(cfg, env, tmp_path):
    rates = {"learning_rate": 3e38}
    lost = go(cfg, env, [rates], out=tmp_path / "lost")
    assert set(lost.scores["ended"]) == {"diverged"}
    for found in (lost, sweep.load(tmp_path / "lost"), sweep.resume(tmp_path / "lost")):
        assert found.about["failed"] == "NonFiniteError: what all 2 seeds learnt is not finite"
    entry = read_entry(tmp_path / "lost")
    assert (entry.state, entry.problem) == ("failed", lost.about["failed"])
    some = go(cfg, env, [rates, {"learning_rate": 1e-3}], out=tmp_path / "some", lanes=2)
    assert set(some.scores["ended"]) == {"diverged", "done"}, "a part each"
    assert "failed" not in some.about
    assert read_entry(tmp_path / "some").state == "done"


@pytest.mark.slow  # its quick twin is that of slices, above
def test_memory_cuts_a_sweep(cfg, env, tmp_path):
    """The limit is of each device."""
    said, every = [], sweep.grid(gamma=[0.1, 0.2, 0.3, 0.4])
    whole = go(cfg, env, every, log=said.append)
    assert len(whole.about["parts"]) == 1
    planned = tables.open_sweep(tmp_path, jaxpg.ppo, cfg, env, jax.random.key(0), whole.about)
    planned.out.mkdir(exist_ok=True)
    _, agent, cfgs, envs, keys = planned.part(0)
    need = device_bytes(agent, cfgs, envs, keys, total_steps=STEPS)
    limit = int(need * 0.6)
    cut = go(cfg, env, every, out=tmp_path / "cut", log=said.append, memory=limit)
    parts = len(cut.about["parts"])
    assert parts in (2, 4)
    assert "4 configs x 2 seeds, 1 part of 8, " in said[1]
    assert f"4 configs x 2 seeds, {parts} parts of {8 // parts}, " in said[3]
    _, agent, cfgs, envs, keys = tables.open_folder(tmp_path / "cut").part(0)
    need = device_bytes(agent, cfgs, envs, keys, total_steps=STEPS)
    assert need <= limit, "by what XLA says of the program that was run"
    assert len(cut.scores) == len(whole.scores) == 8


@pytest.mark.slow  # it says something with several devices; its quick twin is that of slices
def test_seeds_that_no_device_count_divides_are_filled_up(cfg, env):
    found = go(cfg, env, [{}], seeds=3)
    assert found.scores["seed"].tolist() == [0, 1, 2]
    assert len(found.table) == 3 * 20


def test_a_seed_that_reaches_its_target_ends_there(cfg, env):
    """16 steps are an episode's limit, so a target of 1 is met at once, and 17 never."""
    first = go(cfg, env, [{}], seeds=8, target=1.0)
    assert set(first.scores["ended"]) == {"target"}
    assert set(first.scores["env_steps"]) == {2 * 8}, "the first of ten evaluations"
    never = go(cfg, env, [{}], seeds=8, target=17.0)
    assert set(never.scores["ended"]) == {"done"}
    assert set(never.scores["env_steps"]) == {STEPS}
    # One between: some seeds end early, at different times, and the table says when.
    some = go(cfg, env, [{}], seeds=8, target=10.0, evaluations=10)
    ends = some.evaluations.groupby("seed").last()
    for row in some.scores.itertuples():
        reached = ends.loc[row.seed, "greedy"] >= 10.0
        assert row.ended == ("target" if reached else "done")
        assert row.env_steps == ends.loc[row.seed, "env_steps"]
    assert (some.evaluations.groupby("seed")["greedy"].apply(lambda x: (x >= 10).sum()) <= 1).all()


def test_points_may_hold_classes_and_arrays(cfg, env, tmp_path):
    """As they are written down they are text and numbers."""
    this = tables.open_sweep(
        tmp_path, jaxpg.ppo, cfg, env, jax.random.key(0), go(cfg, env, [{}]).about
    )
    point = {"net": MLP, "gamma": np.float32(0.5), "hidden": (4,)}
    planned = sweep.sweep.plan_parts(this, [point], lambda text: None)
    assert planned.record["points"][-1] == {
        "net": "jaxpg.nets.networks:MLP", "gamma": 0.5, "hidden": [4],
    }  # fmt: skip
    assert read_json(tmp_path / "sweep.json")["points"] == planned.record["points"]


@pytest.mark.slow
def test_own_environments_are_swept(cfg):
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=16)
    own = jaxpg.Env(env.params, env.core)
    found = go(cfg, own, sweep.grid({"env.gravity": [5.0, 50.0]}))
    assert len(found.scores) == 4
    assert found.about["own"] == ["env"]


# Folders.


def test_a_changed_byte_is_found(whole, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    text = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(text.replace("1", "2", 1))
    with pytest.raises(CheckpointError, match=r"results.csv: found .*, expected .*sha256"):
        jaxpg.load(folder)
    (folder / "results.csv").unlink()
    with pytest.raises(CheckpointError, match=r"results.csv"):
        jaxpg.load(folder)
    record = read_json(folder / "sweep.json")
    write_json(folder / "sweep.json", {**_unsealed(record), "format": 99})
    for what in (jaxpg.load, sweep.resume):
        with pytest.raises(CheckpointError, match=r"found format 99, written by jaxpg 0\.1"):
            what(folder)
    with pytest.raises(CheckpointError, match="found no such folder, expected the folder of a"):
        sweep.resume(tmp_path / "nowhere")


def _unsealed(record):
    return {k: v for k, v in record.items() if k != "sha256"}


def test_what_lies_where_a_part_shall_be_stays(whole, tmp_path):
    record = _unsealed(whole.about)
    parts = [part | {"over": False} for part in record.pop("parts")]
    del record["digests"]
    write_json(tmp_path / "sweep.json", record | {"parts": parts})
    (tmp_path / "parts" / "0").mkdir(parents=True)
    (tmp_path / "parts" / "0" / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match="parts/0': holds files, allowed is a new or empty folder"):
        sweep.resume(tmp_path)
    assert (tmp_path / "parts" / "0" / "thesis.txt").read_text() == "dear"


def test_the_folder_of_a_sweep_may_have_any_name(whole, cfg, env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out = Path("~", "lr=[0.1] *?{a}\\b")
    points = sweep.grid(learning_rate=[1e-3, 1e-2, 3e38])
    found = go(cfg, env, points, out=out, evaluations=2)
    for folder in (out, tmp_path / out):
        assert jaxpg.load(folder).scores.equals(sweep.resume(folder).scores)
        assert sweep.result(folder, 1).iteration == 20
    assert found.scores["score"].tolist()[:4] == whole.scores["score"].tolist()[:4]
    assert {p.name for p in tmp_path.iterdir()} == {"~"}
    (out / "results.csv").unlink()
    record = _unsealed(read_json(out / "sweep.json"))
    del record["digests"]  # as if it was killed at the very end
    write_json(out / "sweep.json", record)
    assert sweep.resume(out).table.equals(found.table)
    assert jaxpg.report([out], out / "x.html").exists()


def test_seeds_of_parts_that_ended_apart_are_joined():
    floats, counts = np.float32([[1.0, 2.0, 3.0]]), np.int32([[1, 2, 3]])
    joined = tables._join_seeds([floats[:, :1], floats])
    np.testing.assert_array_equal(joined, np.float32([[1, np.nan, np.nan], [1, 2, 3]]))
    joined = tables._join_seeds([counts, counts[:, :2]])
    np.testing.assert_array_equal(joined, [[1, 2, 3], [1, 2, 0]])
    assert joined.dtype == np.int32


PROGRAM = """
import sys, jax, jaxpg
from jaxpg import sweep
from tests.test_sweep import SETTINGS, SMALL
env, cfg = jaxpg.make("CartPole-v1", max_steps_in_episode=16), jaxpg.ppo.Config(**SMALL)
folder, what = sys.argv[1:]
if what == "resume":
    found = sweep.resume(folder)
else:
    every = sweep.grid(hidden=[[4], [5]], learning_rate=[1e-3, 3e38])
    found = sweep.run(jaxpg.ppo, cfg, env, jax.random.key(0), every, out=folder,
                      **SETTINGS | {"total_steps": 400 * 8, "evaluations": 20, "target": 13.0})
"""


@pytest.mark.slow  # its quick twins: a search that was stopped, and a run that was killed
def test_a_sweep_that_was_killed_goes_on_to_the_byte(tmp_path):
    """SIGKILL in the middle of the second part."""
    call = lambda *words: [sys.executable, "-c", PROGRAM, *map(str, words)]  # noqa: E731
    there = {"cwd": Path(__file__).parents[1], "env": os.environ}
    subprocess.run(call(tmp_path / "whole", "run"), check=True, timeout=300, **there)
    process = subprocess.Popen(call(tmp_path / "killed", "run"), **there)
    checkpoints = tmp_path / "killed" / "parts" / "1" / "checkpoints"
    deadline = time.monotonic() + 300
    while checkpoint.newest(checkpoints) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "scores.csv").exists(), "it was killed before its end"
    under_way = jaxpg.load(tmp_path / "killed")
    assert len(under_way.table) > 0
    assert "running" in set(under_way.scores["ended"])
    subprocess.run(call(tmp_path / "killed", "resume"), check=True, timeout=300, **there)
    for name in tables.TABLES.values():
        ours, theirs = (tmp_path / f / f"{name}.csv" for f in ("whole", "killed"))
        assert ours.read_bytes() == theirs.read_bytes(), name


# Search and comparison.


def test_a_search_is_batches_of_one_program(cfg, env, tmp_path):
    pytest.importorskip("optuna")
    space = {"learning_rate": sweep.loguniform(1e-4, 1e-1), "gamma": [0.9, 0.99]}
    go = lambda trials, out: jaxpg.search(  # noqa: E731
        jaxpg.ppo, cfg, env, jax.random.key(0), space, trials=trials, batch=4, out=out, **SETTINGS
    )
    found = go(7, tmp_path / "a")
    assert len(found.about["points"]) == 8, "rounded up to whole batches"
    assert found.about["compilations"] <= 1, "none, if another test has asked for it before"
    assert found.fields == ["learning_rate", "gamma"]
    rates = [p["learning_rate"] for p in found.about["points"]]
    assert len(set(rates)) == 8
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert len(found.scores) == 16
    assert sweep.resume(tmp_path / "a").scores.equals(jaxpg.load(tmp_path / "a").scores)
    # One that was stopped after its first batch chooses the same points afterwards.
    first = go(4, tmp_path / "b")
    assert first.about["points"] == found.about["points"][:4]
    record = _unsealed(read_json(tmp_path / "b" / "sweep.json"))
    record["search"]["trials"] = 7
    del record["digests"]
    write_json(tmp_path / "b" / "sweep.json", record)
    assert sweep.resume(tmp_path / "b").about["points"] == found.about["points"]


def test_a_search_moves_to_where_returns_are_high(monkeypatch):
    """The tables say how far each point is from the best one; later batches are nearer to it."""
    pytest.importorskip("optuna")
    from jaxpg.experiment.sweeps import search

    fields = ("gamma", "gae_lambda", "entropy_coef")
    one = {"low": 0.0, "high": 1.0, "log": False}
    record = {"search": {"space": dict.fromkeys(fields, one), "batch": 8}, "points": []}
    far = lambda point: float(np.mean([abs(x - 0.6) for x in point.values()]))  # noqa: E731

    class Final:
        def __init__(self, points):
            self.scores = {i: [-far(p)] for i, p in enumerate(points)}

        def iqm(self, configs):
            return self.scores[configs[0]][0]

    monkeypatch.setattr(search, "read_tables", lambda out, record: record)
    monkeypatch.setattr(search.scores, "final", lambda record: Final(record["points"]))
    for _ in range(8):
        points = search.propose_points(tables.SweepFolder(Path(), record, None, None))
        record = record | {"points": record["points"] + points}
    errors = [far(point) for point in record["points"]]
    assert np.mean(errors[-32:]) < 0.8 * np.mean(errors[:16])
    assert min(errors[16:]) < 0.5 * min(errors[:16])


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"num_envs": sweep.uniform(2, 8)}, "num_envs=2 .. 8: it is static.*a list of values"),
        ({"gamma": sweep.uniform(0.9, 1.1)}, "gamma=1.1: allowed is"),
        ({"gama": [0.9, 1.0]}, "did you mean 'gamma'"),
        ({"minibatches": [1, 3]}, "minibatches=3: allowed is a divisor"),
        ({"gamma": []}, "gamma=.*at least one"),
    ],
)
def test_a_space_that_cannot_be_searched_is_named(cfg, env, space, words):
    pytest.importorskip("optuna")
    with pytest.raises(ValueError, match=words):
        jaxpg.search(jaxpg.ppo, cfg, env, jax.random.key(0), space, **SETTINGS)


def test_a_comparison_is_a_sweep_over_agents(tmp_path):
    settings = {"total_steps": 2000, "seeds": 2, "episodes": 4, "evaluations": 2}
    found = jaxpg.compare(
        ["q_learning", "sarsa"], ["Cliff-jaxpg"], jax.random.key(0), out=tmp_path / "c", **settings
    )
    assert found.fields == ["agent"]
    assert found.scores["agent"].tolist() == ["q_learning"] * 2 + ["sarsa"] * 2
    assert set(found.scores["ended"]) == {"done"}
    assert found.about["compilations"] == 2
    one = sweep.result(tmp_path / "c", 1)
    assert one.agent == jaxpg.sarsa
    assert one.cfg.num_envs == jaxpg.preset("sarsa", "Cliff-jaxpg").num_envs
    pd.testing.assert_frame_equal(
        sweep.resume(tmp_path / "c").scores, found.scores, check_dtype=False
    )
    with pytest.raises(ValueError, match="'sarse': did you mean 'sarsa'"):
        jaxpg.compare(["sarse"], ["Cliff-jaxpg"], jax.random.key(0))
    with pytest.raises(ValueError, match="did you mean 'Cliff-jaxpg'"):
        jaxpg.compare(["sarsa"], ["Clif-jaxpg"], jax.random.key(0))
    with pytest.raises(ValueError, match=r"agents=.*none twice"):
        jaxpg.compare(["sarsa", "sarsa"], ["Cliff-jaxpg"], jax.random.key(0))
    with pytest.raises(ValueError, match=r"ddpg.Config on CartPole-v1"):
        jaxpg.compare(["ppo", "ddpg"], ["CartPole-v1"], jax.random.key(0))


@pytest.mark.parametrize("name", ["ppo", "dqn", "q_learning", "es"])
def test_lanes_hold_an_agent_of_each_kind(name):
    """One of each kind of loop; what they ask of all agents, leaves that can be batched, is in the
    contract."""
    agent, tiny = getattr(jaxpg, name), getattr(jaxpg, name).Config(**TINY[name])
    cfgs, envs = stack([(with_horizon(tiny, 100), short_env(agent, tiny))] * 2)
    held = lanes(agent)
    keys = jax.random.split(jax.random.key(0))
    plan_run(agent, cfgs, envs, keys, total_steps=100)
    state = jax.eval_shape(jax.vmap(held.init), cfgs, envs, keys)
    after, metrics = jax.eval_shape(jax.vmap(held.step), cfgs, envs, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics[ACTIVE].shape == (2,)
