"""A run begins with what another one has learnt: whole or by parts, in every agent."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg import cli
from jaxpg.cli import common
from jaxpg.core.run import Callback
from jaxpg.core.transfer import begin_from
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.report.reproduce import shell_command

# Leaves of all agents' states that no other run gives: everything but parameters and statistics.
FRESH = re.compile(
    r"opt_state|_opt\b|\.env\b|\.carry|\.buffer|\.priorities|\.iteration|\.key|\.updates|\.epsilon"
    r"|\.visits|\.action|score|\.scale$|noise_scale|kl_penalty|\.std$(?<!stats\.std)|\.returns"
    r"|reward_scale\.lost|league\.(count|wins|games)|\.table|\.running"
    r"|\.archive|\.best_way|\.curriculum|\.chance"
)
GAMES = {"ippo": "Kuhn-jaxpg", "mappo": "Kuhn-jaxpg", "iql": "Kuhn-jaxpg", "maddpg": "Kuhn-jaxpg"}
GAMES |= {"self_play": "Kuhn-jaxpg"}


def leaves(state):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(state)}


def filled(shapes, seed, seeds=()):
    """A state of these shapes with numbers of its own in every leaf."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)

    def leaf(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.split(key, seeds) if seeds else key
        return rng.integers(0, 99, (*seeds, *x.shape)).astype(x.dtype)

    return jax.tree.map(leaf, shapes)


def shapes_of(agent, cfg, env=None):
    env = env or jaxpg.make("CartPole-v1")
    return jax.eval_shape(lambda key: agent.init(cfg, env, key), jax.random.key(0))


def same(x, y):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    return x.dtype == y.dtype and np.array_equal(x, y)


# The function.


def test_every_agent_takes_what_is_learnt_and_nothing_else(agent, tiny, env):
    """By the names of fields: what is not FRESH is the other state's; copies of parameters (the
    versions of a lag, the members of a league) are each the other's newest."""
    env = jaxpg.make(GAMES[agent.name]) if agent.name in GAMES else env
    shapes = shapes_of(agent, tiny, env)
    new, old = filled(shapes, 0), filled(shapes, 1)
    made, fresh, theirs = leaves(begin_from(new, old)), leaves(new), leaves(old)
    assert made.keys() == fresh.keys()
    acts = ".best" if ".best" in theirs else ".params"
    for path, x in made.items():
        if FRESH.search(path):
            expected = fresh[path]
        elif path.startswith((".history", ".league.members")):
            one = path.replace(".history", ".params").replace(".league.members", ".learner")
            expected = np.stack([theirs[one]] * len(x))
        else:
            expected = theirs[acts if path == ".params" else path]
        assert same(x, expected), path
    assert any(not FRESH.search(path) for path in made)


class Net(NamedTuple):
    """A state whose targets are those of one network, as SAC's."""

    params: Any
    target: Any
    opt_state: Any
    key: Any


def net(seed, target=None, **params):
    return Net(params, target, np.full(3, seed), jax.random.key(seed))


def test_targets_are_the_others_or_else_copies():
    x, y, z = (np.full(2, i, np.float32) for i in (1, 2, 3))
    old = net(1, {"q": z}, actor={"w": y}, critic={"q": y})
    new = net(0, {"q": x}, actor={"w": x}, critic={"q": x})
    assert same(begin_from(new, old).target["q"], z)
    assert same(begin_from(new, old._replace(target=())).target["q"], y)
    assert same(begin_from(new, old, ["actor"]).target["q"], x)


@pytest.mark.parametrize(("there", "here"), [((), ()), ((), (2,)), ((2,), (2,))])
def test_seeds(there, here):
    """As many, each with its own, or one for all; also the copies, with an axis of their own."""
    shapes = shapes_of(jaxpg.impala, jaxpg.impala.Config(num_envs=2, hidden=(4,), lag=3))
    new, old = filled(shapes, 0, here), filled(shapes, 1, there)
    made = begin_from(new, old)
    for name in ("params", "history"):
        for path, x in leaves(getattr(made, name)).items():
            one = leaves(old.params)[path]
            one = np.broadcast_to(one, (*here, *one.shape[len(there) :]))
            assert same(x, one if name == "params" else np.stack([one] * 3, len(here)))
    assert same(made.key, new.key)


@pytest.mark.parametrize(("there", "here"), [((2,), ()), ((2,), (3,))])
def test_other_numbers_of_seeds_are_refused(there, here):
    shapes = shapes_of(jaxpg.sarsa, jaxpg.sarsa.Config(), jaxpg.make("Cliff-jaxpg"))
    with pytest.raises(ValueError, match=rf"a run of 2 seeds, here {(here or (1,))[0]}: allowed"):
        begin_from(filled(shapes, 0, here), filled(shapes, 1, there))


def test_parts_are_taken_and_others_not():
    shapes = shapes_of(jaxpg.ppo, jaxpg.ppo.Config(num_envs=2, hidden=(4, 3), normalize_obs=True))
    new, old = filled(shapes, 0), filled(shapes, 1)
    made = begin_from(new, old, ["actor_torso/Dense_1", "obs_stats"])
    for path, x in leaves(made).items():
        taken = "['actor_torso']['Dense_1']" in path or ".obs_stats" in path
        assert same(x, leaves(old if taken else new)[path])


SMALL: dict[str, Any] = {"num_envs": 2, "hidden": (4,)}
PENDULUM = "Pendulum-v1"


@pytest.mark.parametrize(
    ("here", "there", "parts"),
    [
        (jaxpg.a2c, jaxpg.ppo, ["actor_torso"]),
        (jaxpg.a2c, jaxpg.ppo, []),  # all fits: the networks are the same
        (jaxpg.trpo, jaxpg.ppo, ["actor", "actor_torso"]),  # which it holds in `actor`
        (jaxpg.ppo, jaxpg.trpo, ["critic_torso", "critic"]),
        (jaxpg.sac_discrete, jaxpg.ppo, ["actor_torso"]),
        (jaxpg.ippo, jaxpg.ippo, ["players/actor_torso"]),
    ],
)
def test_of_another_agent_what_is_called_the_same(here, there, parts):
    env = jaxpg.make("Kuhn-jaxpg" if here is jaxpg.ippo else "CartPole-v1")
    new, old = (shapes_of(x, x.Config(**SMALL), env) for x in (here, there))
    new, old = filled(new, 0), filled(old, 1)
    made, before, theirs = leaves(begin_from(new, old, parts)), leaves(new), leaves(old)
    taken = [path for path, x in made.items() if not same(x, before[path])]
    assert taken
    assert all(not FRESH.search(path) for path in taken)
    for path in taken:
        tail = re.findall(r"\['(?:actor|critic).*", path)[0]
        [one] = [x for p, x in theirs.items() if p.endswith(tail) and not FRESH.search(p)]
        assert same(made[path], one)


def test_what_a_state_is_taken_from_stays_the_callers():
    shapes = shapes_of(jaxpg.dqn, jaxpg.dqn.Config(num_envs=2, hidden=(4,)))
    old = jax.tree.map(jnp.asarray, filled(shapes, 1))
    made = begin_from(jax.tree.map(jnp.asarray, filled(shapes, 0)), old)
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((made.learner, old.learner))]
    assert len(set(buffers)) == len(buffers)


class Search(NamedTuple):
    """A state as evosax's agent has it."""

    params: Any
    search: Any
    key: Any


def test_a_search_begins_with_its_mean():
    key, zeros, ones = jax.random.key(0), np.zeros(2, np.float32), np.ones(2, np.float32)
    made = begin_from(
        Search(zeros, {"mean": zeros, "std": zeros}, key), Search(ones, {"mean": ones}, key)
    )
    assert same(made.params, ones)
    assert same(made.search["mean"], ones)
    assert same(made.search["std"], zeros)
    population = Search(zeros, {"population": np.zeros((3, 2))}, key)
    with pytest.raises(ValueError, match="search without a mean"):
        begin_from(population, population)


def other(agent: Any = jaxpg.ppo, env="CartPole-v1", **fields):
    fields = SMALL | fields
    return lambda: filled(shapes_of(agent, agent.Config(**fields), jaxpg.make(env)), 1)


TORSO = "actor, actor_torso, critic, critic_torso"
WHITE: dict[str, Any] = {"normalize_obs": True}


@pytest.mark.parametrize(
    ("there", "parts", "fields", "said"),
    [
        (other(hidden=(8,)), (), {}, r"actor/kernel is \[8, 2\] there and \[4, 2\] here: allowed"),
        (other(hidden=(8,)), ["actor_torso"], {}, r"actor_torso/Dense_0/bias is \[8\] there and"),
        (other(env="Acrobot-v1"), (), {}, r"actor/bias is \[3\] there and \[2\] here: allowed"),
        (other(env="Acrobot-v1"), ["actor"], {}, "init_parts of what fits: critic$"),
        (other(**WHITE), (), {}, f"has obs_stats, which this one does not learn: .*fits: {TORSO}$"),
        (other(), (), WHITE, f"has no obs_stats, which this one learns: .*of what fits: {TORSO}$"),
        (other(), ["torso"], {}, "unknown part in init_parts 'torso': did you mean 'actor_torso'"),
        (other(), "actor", {}, "init_parts='actor': allowed is a list of names"),
        (other(), [3], {}, r"init_parts=\[3\]: allowed is a list of names"),
        (other(jaxpg.dqn), ["critic"], {}, "has no critic, which this one learns: allowed is"),
        (3, (), {}, "found no parameters: allowed is the folder of a run, a Result, or a training"),
        ({"params": 3.0}, (), {}, "found no parameters"),
        ({}, (), {}, "found no parameters"),
        (lambda: {"params": np.ones(2)}, (), {}, "has no actor, which this one learns"),
    ],
)
def test_what_does_not_fit_is_refused(there, parts, fields, said):
    new = filled(shapes_of(jaxpg.ppo, jaxpg.ppo.Config(**SMALL | fields)), 0)
    with pytest.raises(ValueError, match=said):
        begin_from(new, there() if callable(there) else there, parts)


def test_of_several_of_one_name_none_is_taken():
    new = net(0, (), actor={"w": np.zeros(2)})
    old = net(1, (), red={"actor": {"w": np.ones(2)}}, blue={"actor": {"w": np.ones(2)}})
    with pytest.raises(ValueError, match="actor/w is one of blue/actor/w, red/actor/w there"):
        begin_from(new, old)


def test_the_policy_acts_as_the_other_one_does():
    """Through the statistics of its observations, too."""
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config(**SMALL, normalize_obs=True)
    shapes = shapes_of(jaxpg.ppo, cfg)
    new, old = filled(shapes, 0), filled(shapes, 1)
    obs = np.random.default_rng(2).normal(0, 50, (64, 4)).astype(np.float32)
    act = jax.jit(lambda state: jaxpg.ppo.act(cfg, env, state, obs, (), jax.random.key(0), True)[0])
    before, made, theirs = act(new), act(begin_from(new, old)), act(old)
    assert np.array_equal(made, theirs)
    assert not np.array_equal(before, theirs)


# Runs.

CLIFF = jaxpg.make("Cliff-jaxpg")
ASKED: dict[str, Any] = {"total_steps": 1200, "chunk": 2, "evaluations": 2, "episodes": 2}
ROWS = ("metrics.csv", "evaluations.csv")


def train(seed=0, seeds=0, *callbacks: Any, agent: Any = jaxpg.q_learning, **asked: Any):
    key = jax.random.split(jax.random.key(seed), seeds) if seeds else jax.random.key(seed)
    cfg = jaxpg.q_learning.Config(num_envs=4, num_steps=25)
    return jaxpg.run(agent, cfg, CLIFF, key, callbacks=callbacks, **ASKED | asked)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A run, and its folder; of an agent that no name finds, which nobody needs here."""
    out = tmp_path_factory.mktemp("old") / "run"
    with pytest.warns(UserWarning, match="agent 'mine' has no name"):
        return train(out=out, agent=jaxpg.q_learning._replace(name="mine")), out


def equal(a, b):
    return all(map(same, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_a_run_that_is_resumed_is_the_same_without_the_other_one(old, tmp_path):
    """To the byte, from a checkpoint and from a kill before the first one of its own."""
    shutil.copytree(old[1], tmp_path / "gone")
    kill = Callback(on_begin=lambda _: shutil.copytree(tmp_path / "run", tmp_path / "begun"))
    whole = train(1, 0, kill, out=tmp_path / "run", init_from=tmp_path / "gone")
    part = train(1, 0, lambda e: e.iteration >= 4, out=tmp_path / "part", init_from=old[0])
    assert (part.stopped, part.iteration) == ("callback", 4)
    shutil.rmtree(tmp_path / "gone")
    begun = jaxpg.load(tmp_path / "begun")
    assert begun.iteration == 0
    assert same(begun.state.params, old[0].state.params)
    assert not np.any(begun.state.visits)
    for name in ("part", "begun"):
        result = jaxpg.resume(tmp_path / name)
        assert equal(result.state, whole.state)
        for rows in ROWS:
            assert (tmp_path / name / rows).read_bytes() == (tmp_path / "run" / rows).read_bytes()
    # Without any checkpoint it does not begin anew as another run.
    shutil.rmtree(tmp_path / "part" / "checkpoints")
    (tmp_path / "part" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match="expected that of iteration 0"):
        jaxpg.resume(tmp_path / "part")


def test_folder_result_and_state_are_the_same_origin(old, tmp_path):
    result, folder = old
    origins = folder, str(folder), result, result.state
    runs = [train(1, init_from=x, evaluations=0) for x in origins]
    assert all(equal(x.state, runs[0].state) for x in runs)
    assert not equal(runs[0].state, train(1, evaluations=0).state)


def test_one_seed_begins_many(old):
    stop = {"evaluations": 0, "total_steps": 100, "chunk": 1}
    many = train(1, 2, init_from=old[1], **stop)
    assert many.state.params.shape == (2, *old[0].state.params.shape)


def test_the_record_says_where_it_is_from(old, tmp_path):
    train(1, out=tmp_path / "a", init_from=old[1], init_parts=["params"])
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    told = record["init_from"]
    assert told["folder"] == str(old[1])
    assert (told["agent"], told["environment"], told["iteration"]) == ("mine", CLIFF.name, 12)
    assert told["run"] == json.loads((old[1] / "run.json").read_text())["sha256"]
    assert told["parts"] == ["params"]
    said = shell_command(record, "again")
    assert said is not None
    assert f"--init-from {old[1]} --init-parts params" in said or "init_from=" in said
    train(1, out=tmp_path / "b", init_from=old[0])
    record = json.loads((tmp_path / "b" / "run.json").read_text())
    assert record["init_from"]["digest"] == told["digest"]
    assert "folder" not in record["init_from"]
    assert shell_command(record, "again") is None


def test_what_cannot_work_is_refused_before_a_folder_is_made(old, tmp_path):
    bad = {
        "expected the folder of a run": {"init_from": tmp_path / "none"},
        "init_parts=.*only with init_from": {"init_parts": ["params"]},
        r"params is \[1, 48, 4\] there and \[2, 48, 4\] here": {"init_from": old[1]},
    }
    cfg = jaxpg.q_learning.Config(double=True)
    for said, asked in bad.items():
        with pytest.raises(ValueError, match=said):
            jaxpg.run(
                jaxpg.q_learning, cfg, CLIFF, jax.random.key(0), total_steps=100,
                out=tmp_path / "new", **asked,
            )  # fmt: skip
    assert not (tmp_path / "new").exists()


def test_a_damaged_folder_is_refused(old, tmp_path):
    shutil.copytree(old[1], tmp_path / "run")
    files = (p for p in (tmp_path / "run/checkpoints/12/default").rglob("*") if p.is_file())
    file = max(files, key=lambda p: p.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        train(1, init_from=tmp_path / "run")


def test_a_sweep_refuses_it(old):
    points = jaxpg.sweep.grid(gamma=[0.9])
    with pytest.raises(ValueError, match="init_from: of a sweep allowed is None"):
        jaxpg.sweep.run(
            "q_learning", None, CLIFF, jax.random.key(0), points, total_steps=100,
            init_from=old[1],
        )  # fmt: skip


def test_the_command(old, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "200")

    def call(line):
        code = cli.main(line.split())
        return code, *capsys.readouterr()

    line = "train q_learning Cliff-jaxpg --preset defaults --config.num-envs 4 --chunk 2 "
    line += (
        "--config.num-steps 25 --evaluations 2 --episodes 2 --total-steps 1200 --seed 1 --out run"
    )
    code, said, _ = call(f"{line} --init-from {old[1]} --init-parts params")
    assert code == 0
    assert f"begins with params of {old[1]}" in said
    assert "learnt nothing" not in said
    assert equal(jaxpg.load("run").state, train(1, init_from=old[0]).state)
    code, said, _ = call("show run")
    assert f"params of {old[1]} (mine on Cliff-jaxpg, iteration 12)" in " ".join(said.split())
    code, _, said = call(f"{line}2 --init-from {old[1]} --init-parts torso")
    assert code == 2
    assert "unknown part in init_parts 'torso': Allowed: params" in said
    assert not Path("run2").exists()


# Of every agent.


@pytest.mark.slow
def test_every_agent_goes_on_with_what_another_run_has_learnt(agent, tiny, env):
    """One iteration each: its greedy policy is the other's when it begins, and it learns on."""
    env = jaxpg.make(GAMES[agent.name]) if agent.name in GAMES else env
    asked = {"total_steps": 2 * agent.steps_per_iter(tiny), "chunk": 1}
    keys = jax.random.split(jax.random.key(0), 3)
    old = jaxpg.run(agent, tiny, env, keys[0], **asked)
    begun = begin_from(jax.jit(agent.init)(old.cfg, env, keys[1]), old.state)
    theirs, made = (
        jaxpg.evaluate(agent, old.cfg, env, state, keys[2], episodes=8)
        for state in (old.state, begun)
    )
    assert np.array_equal(theirs, made)
    new = jaxpg.run(agent, tiny, env, keys[1], init_from=old, **asked)
    assert (new.stopped, new.iteration) == ("done", 2)
    for path, x in leaves(new.state).items():
        if jnp.issubdtype(x.dtype, jnp.floating) and ".params" in path:
            assert np.isfinite(x).all(), path
