"""Presets: whose settings apply, the general profile, files of one's own, no settings at all."""

import doctest
import itertools
import json
import tomllib
from pathlib import Path

import jax
import pytest

import jaxpg
from jaxpg import agents, presets
from jaxpg.core.config import from_dict, to_dict
from jaxpg.envs import registry, suites
from jaxpg.experiment.listing.settings import has_profile
from jaxpg.experiment.report import parts
from jaxpg.experiment.run import folder
from jaxpg.experiment.sweeps import entries
from tests.tabular import Picky, make
from tests.test_cli import elsewhere  # noqa: F401  fixtures
from tests.test_cli import jaxpg as command  # noqa: F401

FILES = Path(presets.__file__).parent
FREE = next(x for x in ("SimpleBandit-bsuite", "MountainCar-v0") if x not in presets.table("ppo"))
PROFILES = {
    path.stem: table["config"]
    for path in sorted(FILES.glob("*.toml"))
    if (table := tomllib.loads(path.read_text()).get(presets.GENERAL))
}
OWN = """
["CartPole-v1"]
total_steps = 64
config = { gamma = 0.5 }

["*"]
total_steps = 128
config = { gamma = 0.25, num_envs = 2 }
"""


# Whose settings apply.


def test_an_environment_has_its_own_table_or_else_the_general_one():
    assert presets.find("ppo", "CartPole-v1").of == "CartPole-v1"
    found = presets.find("ppo", FREE)
    assert found.of == presets.GENERAL
    assert found.settings["config"] == PROFILES["ppo"]
    cfg = jaxpg.preset("ppo", FREE)
    assert cfg == from_dict(jaxpg.ppo.Config, PROFILES["ppo"]) != jaxpg.ppo.Config()
    assert jaxpg.preset("ppo", "my_walk:Walk") == cfg  # of anybody's environment
    assert jaxpg.preset("ppo", "CartPole-v1") not in (cfg, jaxpg.ppo.Config())


def test_an_agent_without_a_profile_has_its_defaults():
    assert presets.find("q_learning", "GridWorld-jaxpg") == ({}, None)
    assert jaxpg.preset("q_learning", "GridWorld-jaxpg") == jaxpg.q_learning.Config()
    own = jaxpg.ppo._replace(step=lambda cfg, env, state: None)
    assert presets.find(own, FREE) == ({}, None)


def test_the_word_defaults_means_no_settings():
    for env in ("CartPole-v1", FREE):
        assert presets.find("ppo", env, "defaults") == ({}, None)
        assert jaxpg.preset("ppo", env, "defaults") == jaxpg.ppo.Config()
    assert jaxpg.preset("ppo", "CartPole-v1", "defaults", gamma=0.5) == jaxpg.ppo.Config(gamma=0.5)


@pytest.mark.parametrize("env", [None, ["CartPole-v1"], registry.make("CartPole-v1")])
def test_an_environment_that_is_no_name_is_refused(env):
    """An Env has no table, so it would be given the general profile in silence."""
    for call in presets.find, jaxpg.preset:
        with pytest.raises(ValueError, match=r"env=.*: allowed is the name of an environment"):
            call("ppo", env)


def test_a_profile_is_no_environment():
    for name in agents.NAMES:
        others = {env for env in presets.table(name) if "/" in env}
        assert presets.table(name).keys() - others <= set(registry.names())
        assert {env.partition("/")[0] for env in others} <= set(suites.SUITES)


def test_a_field_of_a_config_has_the_agents_default():
    """The profile is a config that is asked for by name; a config made by hand knows nothing of
    it."""
    assert presets.find_objects("ppo", None, FREE)[1] != jaxpg.ppo.Config()
    cfg = jaxpg.ppo.Config()
    assert presets.find_objects("ppo", cfg, FREE)[1] is cfg


def test_a_run_takes_the_word_too(monkeypatch):
    taken = []
    monkeypatch.setattr(folder, "run", lambda *args: taken.append(args[2]))
    for preset in (None, "defaults"):
        jaxpg.run("ppo", None, "Catch-bsuite", jax.random.key(0), total_steps=100, preset=preset)
    assert taken == [jaxpg.preset("ppo", "Catch-bsuite"), jaxpg.ppo.Config()]


def test_a_comparison_takes_the_general_profile():
    (entry,) = entries.list_agents(["ppo"], registry.make("Catch-bsuite")).values()
    assert entry.config(registry.make("Catch-bsuite")) == jaxpg.preset("ppo", "Catch-bsuite")
    assert entry.config(registry.make("CartPole-v1")) == jaxpg.preset("ppo", "CartPole-v1")


@pytest.mark.parametrize(
    ("name", "every"),
    [("ppo", 5), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in PROFILES)],
)
def test_a_profile_fits_every_environment_that_the_defaults_fit(name, every):
    """In the quick part a fifth of them: each is a network that is traced."""
    agent, key, fitting = agents.get(name), jax.random.key(0), 0

    def fits(cfg, env):
        try:
            jax.eval_shape(lambda key: agent.init(cfg, env, key), key)
        except ValueError:
            return False
        return True

    envs = [registry.make(x) for x in [*registry.names()][::every]]
    envs += [make(Picky()), make(Picky(True))]
    profile = from_dict(agent.Config, PROFILES[name])
    for env in envs:
        fitting += (fit := fits(profile, env))
        assert fit or not fits(agent.Config(), env), env.name
    assert fitting > 3


def test_examples_are_so():
    assert doctest.testmod(presets, extraglobs={"jaxpg": jaxpg}) == (0, 2)


# Files of one's own.


def test_a_file_of_ones_own_may_have_a_general_table(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(OWN)
    assert presets.find("ppo", "CartPole-v1", path).of == "CartPole-v1"
    assert jaxpg.preset("ppo", "CartPole-v1", path).gamma == 0.5
    assert presets.find("ppo", "Catch-bsuite", path).of == presets.GENERAL
    assert jaxpg.preset("ppo", "Catch-bsuite", path) == jaxpg.ppo.Config(gamma=0.25, num_envs=2)
    path.write_text("\ufeff" + OWN, encoding="utf-8")  # as some editors begin a file
    assert jaxpg.preset("ppo", "CartPole-v1", path).gamma == 0.5
    path.write_text(OWN.replace("0.25", "4.0"))
    assert jaxpg.preset("ppo", "CartPole-v1", path).gamma == 0.5
    with pytest.raises(ValueError, match=r"p\.toml: ppo\.Config gamma=4\.0: allowed is"):
        jaxpg.preset("ppo", "Catch-bsuite", path)
    path.write_text(OWN.replace("config = { gamma = 0.25", "confi = { gamma = 0.25"))
    with pytest.raises(ValueError, match=r'p\.toml: unknown entry of \["\*"\] .confi.'):
        jaxpg.preset("ppo", "Catch-bsuite", path)
    path.write_text(OWN.replace('"*"', '"Acrobot-v1"'))
    with pytest.raises(
        ValueError, match=r'no table \["Catch-bsuite"\] and none \["\*"\], only those of C'
    ):
        jaxpg.preset("ppo", "Catch-bsuite", path)


# The command.

FEW = {"hidden": [4], "num_envs": 2, "num_steps": 8, "minibatches": 1, "num_epochs": 1}
TINY = "--config.hidden 4 --config.num-envs 2 --config.num-steps 8 --config.minibatches 1 "
TINY += "--config.num-epochs 1 --evaluations 0 --param max_steps_in_episode=8"


@pytest.mark.slow
def test_the_command_says_whose_settings_it_takes(command):  # noqa: F811
    Path("p.toml").write_text(OWN)
    none = f"There is no preset of ppo for {FREE}: these are its general profile."
    cases = {
        (FREE,): f"{none} `--preset defaults` has its bare defaults.",
        (FREE, "defaults"): "settings: the defaults of ppo",
        (FREE, "p.toml"): "settings of p.toml, the general ones",
        ("CartPole-v1", "p.toml"): "settings of p.toml",
        ("CartPole-v1",): "",
    }
    for i, (asked, said) in enumerate(cases.items()):
        line = " --preset ".join(asked)
        code, out, _ = command(f"train ppo {line} {TINY} --total-steps 16 --name run{i}")
        assert code == 0
        before = out.partition(f"ppo on {asked[0]}, 16 env steps")[0]
        assert " ".join(before.split()) == said
        assert max(map(len, out.splitlines())) <= 80
        record = json.loads(Path(f"runs/run{i}/run.json").read_text())
        assert record["config"] == to_dict(jaxpg.preset("ppo", *asked)) | FEW
        assert record.get("preset") == (asked[1] if asked[1:] else None)
        shown = [line.split() for line in command(f"show run{i}")[1].splitlines()]
        told = [line[2:] for line in shown if line[:2] == ["settings", "of"]]
        assert told == [list(asked[1:])] * bool(asked[1:])
        column = "profile" if asked[0] == FREE else "preset"
        assert ["setting", "here", column, "default"] in shown


def test_the_length_of_a_run_is_that_of_its_table(command):  # noqa: F811
    Path("p.toml").write_text(OWN)
    code, out, _ = command(f"train ppo {FREE} --preset p.toml {TINY}")
    assert code == 0
    assert f"ppo on {FREE}, 128 env steps" in out


def test_help_has_the_settings_that_apply(command):  # noqa: F811
    tuned, bare = jaxpg.preset("ppo", FREE), jaxpg.ppo.Config()
    assert tuned.learning_rate != bare.learning_rate
    words = {FREE: tuned, f"{FREE} --preset defaults": bare, "": bare}
    for name, (line, cfg) in itertools.product(("train", "tune"), words.items()):
        out = " ".join(command(f"{name} ppo {line} --help")[1].replace("│", " ").split())
        assert f"Learning rate of the network. (default: {cfg.learning_rate})" in out


def test_list_has_the_general_profiles(command):  # noqa: F811
    part = command("list")[1].split("PRESETS")[1].split("ENVIRONMENTS")[0]
    assert "general profile, elsewhere " + ", ".join(x for x in agents.NAMES if x in PROFILES) in (
        " ".join(part.split())
    )
    assert "*" not in part


# Reports.


@pytest.mark.parametrize(
    ("env", "column", "words"),
    [
        (FREE, "general profile", "defaults or its general profile."),
        ("CartPole-v1", "preset for CartPole-v1", "defaults or its preset."),
    ],
)
def test_a_report_says_whose_settings_it_compares_with(env, column, words):
    told = to_dict(jaxpg.preset("ppo", env, gamma=0.5))
    page = "".join(parts.settings_tables("ppo", jaxpg.ppo, told, {"name": env}))
    assert f">{column}<" in page
    assert words in page


def test_a_run_knows_a_general_profile_from_a_preset():
    for env, is_general in (("Catch-bsuite", True), ("CartPole-v1", False)):
        record = {"agent": "ppo", "own": [], "environment": {"name": env}}
        assert has_profile(record) is is_general
    record = {"agent": "sarsa", "own": [], "environment": {"name": "GridWorld-jaxpg"}}
    assert not has_profile(record)
