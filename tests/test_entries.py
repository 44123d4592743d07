"""Agents and environments of comparisons as names and as objects: one table, labels that tell them
apart, and a folder that finds them again or says what it needs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxpg
from jaxpg import presets, sweep
from jaxpg.experiment.files.atomic import CheckpointError, read_json, write_json
from jaxpg.experiment.report.reproduce import shell_command
from jaxpg.experiment.run import folder
from jaxpg.experiment.sweeps import entries
from tests.test_check_env import InGymnax

ROOT = Path(__file__).parents[1]
KEY = jax.random.key(0)
SMALL = {"num_envs": 2, "num_steps": 4, "hidden": (4,), "minibatches": 1, "num_epochs": 1}
ASKED = {"total_steps": 16, "seeds": 2, "episodes": 2, "evaluations": 1}
CARTPOLE = jaxpg.make("CartPole-v1")


def own_agent(name="mine"):
    """An agent that no module has: hill climbing's cheap cousin, whose policy is one number."""

    @jaxpg.config
    class Config:
        num_steps: int = jaxpg.static(8, ge=1)
        rate: float = jaxpg.number(0.5, ge=0)

    def init(cfg, env, key):
        return {"p": jnp.zeros(()), "env": jaxpg.core.env.reset(env, key, 1), "key": key}

    def act(cfg, env, state, obs, carry, key, greedy):
        drawn = jax.random.bernoulli(key, jax.nn.sigmoid(state["p"]), (len(obs),))
        return drawn.astype(jnp.int32), carry

    def step(cfg, env, state):
        key, k_play, k_p = jax.random.split(state["key"], 3)
        policy = lambda obs, carry, k: (*act(cfg, env, state, obs, carry, k, False), ())  # noqa: E731
        played = jaxpg.rollout(env, policy, state["env"], (), k_play, cfg.num_steps)
        p = state["p"] + cfg.rate * jax.random.normal(k_p)
        return {"p": p, "env": played[0], "key": key}, played[-1]

    return jaxpg.Agent(name, Config, init, step, act, lambda cfg: cfg.num_steps)


def own_env(**params):
    """An environment that no module has."""

    class Here(InGymnax):
        name = "Here"

    return jaxpg.Env(Here.default_params.replace(**params), Here())


# Labels.


def labels(agents, env=CARTPOLE):
    return list(entries.list_agents(agents, env))


def test_agents_are_called_by_name_and_by_what_differs():
    cfg = jaxpg.preset("ppo", "CartPole-v1", gamma=0.5, hidden=(4,))
    assert labels(["ppo", jaxpg.a2c, own_agent()]) == ["ppo", "a2c", "mine"]
    assert labels([("ppo", cfg)]) == ["ppo"]
    found = labels(["ppo", ("ppo", cfg), (jaxpg.ppo, {"clip_eps": 0.3})])
    assert found == ["ppo", "ppo, gamma=0.5, hidden=[4]", "ppo, clip_eps=0.3"]
    assert labels({"wide": ("ppo", cfg), "usual": "ppo"}) == ["wide", "usual"]
    points = [(agent, p) for agent in ("ppo", "a2c") for p in sweep.grid(gamma=[0.9, 0.99])]
    assert "a2c, gamma=0.9" in labels(points)
    assert len(set(labels(points))) == 4


def test_environments_are_called_by_name_and_by_what_differs():
    heavy = jaxpg.make("CartPole-v1", gravity=20.0)
    assert list(entries.list_envs(["Cliff-jaxpg", heavy])) == ["Cliff-jaxpg", "CartPole-v1"]
    found = list(entries.list_envs([CARTPOLE, heavy]))
    assert found == ["CartPole-v1", "CartPole-v1, gravity=20.0"]
    one, two = own_env(), own_env(max_steps_in_episode=8)
    assert list(entries.list_envs([one, two])) == ["Here", "Here, max_steps_in_episode=8"]
    assert list(entries.list_envs({"far": two})) == ["far"]


def commanded(agents, envs):
    """The command of a report, for a comparison of these."""
    of_envs = entries.list_envs(envs)
    told = entries.describe_entries(entries.list_agents(agents, CARTPOLE), of_envs)
    key = {"generator": "threefry2x32", "words": [0, 3]}
    return shell_command({"kind": "comparison", "key": key, **told, **ASKED}, "new")


def test_a_report_says_the_command_where_names_give_all_again():
    asked = "--total-steps 16 --seeds 2 --seed 3 --evaluations 1 --episodes 2 --out new"
    env = InGymnax()
    envs = ["CartPole-v1", jaxpg.Env(env.default_params, env)]
    said = "jaxpg compare ppo sac --env CartPole-v1 tests.test_check_env:InGymnax"
    assert commanded({"a": "ppo", "b": jaxpg.sac}, envs) == f"{said} {asked}"
    assert commanded([("ppo", {"gamma": 0.5})], ["CartPole-v1"]) is None
    assert commanded([own_agent()], ["CartPole-v1"]) is None
    assert commanded(["ppo"], [own_env()]) is None
    assert commanded(["ppo"], [jaxpg.make("CartPole-v1", gravity=20.0)]) is None


def test_what_cannot_be_told_apart_is_named():
    with pytest.raises(ValueError, match="two are called 'mine', allowed is none twice, or a dict"):
        labels([own_agent(), own_agent()])
    with pytest.raises(ValueError, match="two are called 'ppo'"):
        labels(["ppo", ("ppo", jaxpg.preset("ppo", "CartPole-v1"))])
    with pytest.raises(ValueError, match="two are called 'Cliff-jaxpg'"):
        entries.list_envs(["Cliff-jaxpg", jaxpg.make("Cliff-jaxpg")])


def test_fields_of_a_pair_are_over_the_preset():
    (entry,) = entries.list_agents([("ppo", {"hidden": [4], "gamma": 0.5})], CARTPOLE).values()
    expected = jaxpg.preset("ppo", "CartPole-v1", hidden=(4,), gamma=0.5)
    assert entry.config(CARTPOLE) == expected != jaxpg.ppo.Config(hidden=(4,), gamma=0.5)


# What a folder says.


def test_a_record_names_what_names_find_again():
    of_agents = entries.list_agents({"a": "ppo", "b": own_agent(), "sac": jaxpg.sac}, CARTPOLE)
    gymnax = InGymnax()
    envs = [CARTPOLE, own_env(), jaxpg.Env(gymnax.default_params, gymnax)]
    of_envs = entries.list_envs(envs)
    record = json.loads(json.dumps(entries.describe_entries(of_agents, of_envs)))
    assert record["names"]["agents"] == {
        "a": {"agent": "ppo", "name": "ppo"}, "b": {"agent": "mine", "name": None}
    }  # fmt: skip
    assert record["names"]["envs"] == {
        "Here": {"name": None}, "InGymnax": {"name": "tests.test_check_env:InGymnax"}
    }  # fmt: skip
    nothing, out = entries.Given({}, {}), Path("folder")
    assert entries.restore_agent(out, record, "a", nothing, {}) == jaxpg.ppo
    back = entries.restore_env(out, record, "InGymnax", nothing, {})
    assert isinstance(back.core, InGymnax)
    with pytest.raises(CheckpointError, match="of your own, 'b', that no name finds again"):
        entries.restore_agent(out, record, "b", nothing, {})
    with pytest.raises(CheckpointError, match="of your own, 'Here', that no name finds again"):
        entries.restore_env(out, record, "Here", nothing, {})
    given = entries.match_given(record, [of_agents["b"].agent], {"Here": own_env(mistake=1)})
    assert entries.restore_agent(out, record, "b", given, {}) == of_agents["b"].agent
    with pytest.raises(CheckpointError, match=r"Here: environment..mistake: found 0, expected 1"):
        entries.restore_env(out, record, "Here", given, {})
    for what, name in (
        ({"agents": [jaxpg.td3]}, "td3"),
        ({"envs": [jaxpg.make("Cliff-jaxpg")]}, "Cl"),
    ):
        with pytest.raises(ValueError, match=f"'{name}.* is none of this comparison's: "):
            entries.match_given(record, **{"agents": (), "envs": ()} | what)


def stop_before(out, part):
    """Makes of a comparison's folder one that was stopped before a part."""
    record = read_json(out / "sweep.json")
    del record["digests"]
    record["parts"][part]["over"] = False
    del record["parts"][part]["run"]
    write_json(out / "sweep.json", record)
    shutil.rmtree(out / "parts" / str(part))
    for table in out.glob("*.csv"):
        table.unlink()


@pytest.mark.slow
def test_an_own_agent_beside_ppo_on_an_own_environment(tmp_path):
    """One table; what was stopped goes on with the objects, and says so without them."""
    out, mine, env = tmp_path / "c", own_agent(), own_env(max_steps_in_episode=8)
    agents = [mine, ("ppo", jaxpg.ppo.Config(**SMALL))]
    with pytest.warns(UserWarning, match="has no name that another program finds"):
        found = jaxpg.compare(agents, [env], KEY, out=out, **ASKED)
    assert found.scores["agent"].tolist() == ["mine"] * 2 + ["ppo"] * 2
    assert found.scores["score"].notna().all()
    assert found.about["compilations"] == 2
    tables = {path.name: path.read_bytes() for path in out.glob("*.csv")}

    assert sweep.result(out, 0, mine, env).agent == mine
    assert jaxpg.load(out).scores.equals(found.scores)
    assert sweep.resume(out, agents=agents, envs=[env]).scores.equals(found.scores)

    stop_before(out, 0)
    with pytest.raises(CheckpointError, match="c: compares an agent of your own, 'mine'"):
        jaxpg.resume(out, env=env)
    with pytest.raises(CheckpointError, match="c: compares an env of your own, 'Here'"):
        sweep.resume(out, agents=[mine])
    assert not (out / "parts" / "0").exists()
    with pytest.warns(UserWarning, match="has no name that another program finds"):
        sweep.resume(out, agents={"mine": mine}, envs=[env])
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == tables


@pytest.mark.slow
def test_agents_of_one_config_are_programs_of_their_own():
    """Another step with the same Config is not the first one's lane."""

    def frozen(cfg, env, state):
        return state, jaxpg.ppo.step(cfg, env, state)[1]

    other = jaxpg.ppo._replace(name="frozen", step=frozen)
    cfg = jaxpg.ppo.Config(**SMALL)
    found = jaxpg.compare([("ppo", cfg), (other, cfg)], [own_env()], KEY, **ASKED)
    assert found.about["compilations"] == 2
    assert len(found.about["parts"]) == 2


@pytest.mark.slow
def test_an_own_agent_is_swept_in_an_own_environment(tmp_path):
    mine, env = own_agent(), own_env(max_steps_in_episode=8)
    points = sweep.grid({"rate": [0.1, 0.5], "env.max_steps_in_episode": [4, 8]})
    with pytest.warns(UserWarning, match="has no name that another program finds"):
        found = sweep.run(mine, None, env, KEY, points, out=tmp_path / "s", **ASKED)
    assert len(found.scores) == 8
    assert found.about["compilations"] == 1
    assert sweep.result(tmp_path / "s", 3, mine, env).cfg.rate == 0.5
    with pytest.raises(ValueError, match=r"agents=.*: allowed for a sweep is agent="):
        sweep.resume(tmp_path / "s", agents=[mine])
    jaxpg.report([tmp_path / "s"], tmp_path / "page.html")


@pytest.mark.slow
def test_one_call_from_a_folder_of_ones_own(tmp_path):
    """Names of modules in the working folder; the folder is read, gone on with and reported by
    another process."""
    for name in ("own_agent", "own_environment"):
        shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    train = f"""
import jax, jaxpg
agents = [("own_agent:awr", {{"num_envs": 2, "num_steps": 4, "hidden": [4]}}), ("ppo", {SMALL})]
envs = ["own_environment:River", jaxpg.make("Pendulum-v1", max_steps_in_episode=8)]
found = jaxpg.compare(agents, envs, jax.random.key(0), out="c", **{ASKED})
print(sorted(set(zip(found.scores["agent"], found.scores["env"]))))
"""
    read = """
import jaxpg
print(jaxpg.sweep.result("c", 0).agent.name, len(jaxpg.resume("c").scores))
jaxpg.sweep.resume("c", agents=["own_agent:awr"], envs=["own_environment:River"])
jaxpg.report(["c"], "page.html")
from jaxpg.cli import main
assert main("resume c --agent own_agent:awr --env own_environment:River".split()) == 0
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=600,
        )
        for code in (train, read)
    ]  # fmt: skip
    assert not any(done.returncode for done in said), said
    assert "('own_agent:awr', 'own_environment:River')" in said[0].stdout
    assert said[1].stdout.split()[:2] == ["awr", "8"]
    assert "own_agent:awr" in (tmp_path / "page.html").read_text()


# Names where objects are meant.


def test_names_stand_for_objects_where_experiments_run(monkeypatch):
    agent, cfg, env = presets.find_objects("ppo", None, "CartPole-v1")
    assert (agent, env) == (jaxpg.ppo, CARTPOLE)
    assert cfg == jaxpg.preset("ppo", "CartPole-v1") != jaxpg.ppo.Config()
    assert presets.find_objects(jaxpg.ppo, cfg, CARTPOLE) == (jaxpg.ppo, cfg, CARTPOLE)
    taken = []
    monkeypatch.setattr(folder, "run", lambda *args: taken.append(args[1:4]))
    jaxpg.run("ppo", None, "CartPole-v1", KEY, total_steps=100)
    assert taken == [(agent, cfg, env)]
