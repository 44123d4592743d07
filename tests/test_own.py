"""What is the user's own has a name, "module:Object", in every command; folders give it again."""

import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
import zipfile

import jax
import pytest

import jaxpg
from jaxpg import agents, cli
from jaxpg.cli import common
from jaxpg.core import names, sources
from jaxpg.core.config import from_dict, to_dict
from jaxpg.core.names import TORSO, UntrustedError, resolve_name
from jaxpg.envs import registry
from jaxpg.experiment.files import RUN, SWEEP
from jaxpg.experiment.files.atomic import CheckpointError, read_json, write_json
from jaxpg.experiment.listing.settings import list_differences
from jaxpg.experiment.report import reproduce
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps.points import apply_point
from tests import pages
from tests.experiments import run_folder

pytestmark = pytest.mark.defaults

COUNT = itertools.count()
WORLD = """
import collections
import jax
import jax.numpy as jnp
import jaxpg
from flax import struct
from gymnax.environments import spaces
from jaxpg.core.env import Env
from jaxpg.nets.networks import MLP
from os import system
from shutil import rmtree

open({mark!r}, "a").write("x")

@struct.dataclass
class Params:
    goal: float = 3.0

Pair = collections.namedtuple("Pair", "goal wind")

class World:
    name = "World"
    def __init__(self, size=5, kind=None, usual=None):
        self.size, self.default_params = size, usual or Params()
    def reset(self, key, params):
        return jnp.zeros(1), jnp.zeros(())
    def step(self, key, state, action, params):
        ended = state >= 3
        info = {{"final_observation": state[None]}}
        return state[None], state + 1, params.goal * 1.0, ended, jnp.array(False), info
    def action_space(self, params):
        return spaces.Discrete(2)
    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))

class Needs(World):
    def __init__(self, size):
        super().__init__(size)

class Pairs(World):
    def __init__(self):
        super().__init__(usual=Pair(3.0, 0.5))

class Dicts(World):
    def __init__(self):
        super().__init__(usual={{"goal": 3.0}})

class Net(MLP):
    pass

world, whole = World(7), Env(Params(goal=9.0), World(8))
agent = jaxpg.a2c._replace(name="mine")

def make(size=4, kind="a"):
    return World(size)

def make_env(size=4, kind="a") -> "jaxpg.Env":
    return Env(Params(goal=2.0), World(size))

def make_cart(masspole=0.1):
    return jaxpg.make("CartPole-v1", masspole=masspole)

def make_none():
    return 3

def activate(x, power=1):
    return x**power
"""


LAMBDAS = """
import jax.numpy as jnp
import optax

lam = lambda x: jnp.tanh(x)
rate = lambda learning_rate: optax.sgd(learning_rate)
falls = lambda progress: 1 - progress

def make():
    def act(x):
        return jnp.tanh(x)
    return act

act = make()

def real(x):
    return jnp.tanh(x)
"""


class Module:
    """A module in a file of its own, which leaves a mark where it is imported."""

    def __init__(self, folder):
        self.name, self.folder = f"world{next(COUNT)}", folder
        self.file, self.mark = folder / f"{self.name}.py", folder / "mark"
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(WORLD.format(mark=str(self.mark)))

    def of(self, name):
        return f"{self.name}:{name}"

    @property
    def imported(self):
        return self.mark.exists()

    def sources(self):
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return {self.name: {"file": str(self.file), "sha256": digest}}


@pytest.fixture
def module(tmp_path, monkeypatch):
    found = Module(tmp_path / "path")
    monkeypatch.syspath_prepend(found.folder)
    monkeypatch.chdir(found.folder)
    monkeypatch.delenv(names.TRUST, raising=False)
    yield found
    sys.modules.pop(found.name, None)


# Names of environments and agents.


@pytest.mark.parametrize(
    ("name", "params", "size", "goal"),
    [
        ("World", {}, 5, 3.0),
        ("World", {"size": 9, "goal": 1.0}, 9, 1.0),
        ("Needs", {"size": 9, "goal": 1.0}, 9, 1.0),
        ("Pairs", {"goal": 1.0}, 5, 1.0),
        ("Dicts", {"goal": 1.0}, 5, 1.0),
        ("world", {}, 7, 3.0),
        ("whole", {}, 8, 9.0),
        ("make", {"size": 3}, 3, 3.0),
        ("make_env", {"kind": "b"}, 4, 2.0),
    ],
)
def test_an_environment_by_name(module, name, params, size, goal):
    env = jaxpg.make(module.of(name), **params)
    told = json.loads(json.dumps(registry.to_dict(env)))
    assert told["name"] == env.name == module.of(name)
    usual = env.params if isinstance(env.params, dict) else vars(env.params) if name not in (
        "Pairs",) else env.params._asdict()  # fmt: skip
    assert (env.core.size, usual["goal"]) == (size, goal)
    assert registry.from_dict(told) == env
    other = registry.with_params(env, goal=0.5)
    assert registry.to_dict(other) == told | {"goal": 0.5}
    if "size" in registry.arguments(env):
        assert registry.with_params(other, size=2).core.size == 2
    assert registry.with_params(env) == env  # and one jit key


def test_what_follows_from_a_parameter_follows_it_under_another_name_too(module):
    env = registry.with_params(jaxpg.make(module.of("make_cart")), length=0.8)
    assert env.params.polemass_length == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("Nothing", {}, "has no Nothing"),
        ("Needz", {}, "has no Needz; did you mean 'Needs'"),
        ("Net", {}, "allowed is an environment: a class or an object with reset, step"),
        ("jnp", {}, "allowed is an environment"),
        ("agent", {}, "allowed is an environment"),
        ("make_none", {}, r"is 3 without reset.*allowed is an environment"),
        ("World", {"siz": 3}, "did you mean 'size'"),
        ("World", {"size": 1.5}, "size=1.5: allowed is an integer"),
        ("World", {"goal": "far"}, "goal='far': allowed is a finite number"),
        ("Needs", {}, "has no size: its constructor needs one, given by --param size="),
    ],
)
def test_what_is_no_environment_is_refused_in_one_sentence(module, name, params, words):
    with pytest.raises(ValueError, match=words) as caught:
        jaxpg.make(module.of(name), **params)
    assert "\n" not in str(caught.value)
    assert module.of(name) in str(caught.value)


def test_a_path_for_a_module_and_a_typo_in_it_are_answered(module):
    name = module.name
    for text in (f"{name}.py:World", f"./{name}:World"):
        with pytest.raises(ValueError, match=f"did you mean '{name}:World'"):
            jaxpg.make(text)
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        jaxpg.make(f"{name}x:World")
    (module.folder / "json.py").write_text("MyEnv = 3")
    with pytest.raises(ValueError, match=r"it is .*json.__init__.py, and not the json.py here"):
        jaxpg.make("json:MyEnv")


def test_a_module_that_changes_the_working_directory_moves_nothing(module):
    (module.folder / "mover.py").write_text("import os; os.chdir('/'); x = 3")
    with pytest.raises(ValueError, match="allowed is an environment"):
        jaxpg.make("mover:x")
    assert os.getcwd() == str(module.folder)


def test_a_name_that_leads_to_no_name_is_refused(module):
    (module.folder / "lambdas.py").write_text(LAMBDAS)
    names = {"activation": "lam", "optimizer": "rate", "learning_rate_schedule": "falls"}
    for field, name in names.items():
        with pytest.raises(ValueError, match="a lambda has no name of its own, use def"):
            from_dict(jaxpg.a2c.Config, {field: f"lambdas:{name}"}, True)
    with pytest.raises(ValueError, match="it is made in a function"):
        from_dict(jaxpg.a2c.Config, {"activation": "lambdas:act"}, True)
    cfg = from_dict(jaxpg.a2c.Config, {"activation": "lambdas:real"}, True)
    assert to_dict(cfg)["activation"] == "lambdas:real"


def test_a_script_that_ends_when_it_is_imported_is_refused(module):
    for line, words in {"raise SystemExit(3)": "SystemExit: 3", "x = (": "SyntaxError"}.items():
        (module.folder / "script.py").write_text(line)
        with pytest.raises(ValueError, match=rf"'script:x': cannot import it: {words}"):
            jaxpg.make("script:x")


def test_an_agent_by_name(module):
    assert agents.find(module.of("agent"), True).name == "mine"
    assert agents.find("ppo") is jaxpg.ppo
    assert jaxpg.preset(module.of("agent"), "CartPole-v1") == jaxpg.a2c.Config()
    for name, words in {"World": "allowed is an Agent", "no": "has no no"}.items():
        with pytest.raises(ValueError, match=words):
            agents.find(module.of(name), True)
    with pytest.raises(ValueError, match="did you mean 'ppo'"):
        agents.find("pppo")


def test_an_agent_with_the_name_of_a_built_in_one_has_no_presets(module):
    assert jaxpg.preset("a2c", "CartPole-v1") != jaxpg.a2c.Config()
    own = jaxpg.a2c._replace(step=lambda cfg, env, state: None)
    assert jaxpg.preset(own, "CartPole-v1") == jaxpg.a2c.Config()


# What a record says, and what it gives again.


def record(env, agent=jaxpg.a2c, **fields):
    return provenance.describe_run(agent, agent.Config(**fields), env, jax.random.key(0))


def test_a_record_says_names_and_sources(module):
    env, agent = jaxpg.make(module.of("World"), size=6), agents.find(module.of("agent"), True)
    net = sys.modules[module.name].Net
    about = record(env, agent, net=net)
    assert about["own"] == []
    assert about["names"] == {"agent": module.of("agent")}
    assert about["environment"] == {"name": module.of("World"), "size": 6, "goal": 3.0}
    assert about["sources"] == module.sources()
    assert record(jaxpg.make("CartPole-v1")).keys() == {
        "format", "agent", "config", "environment", "own", "key", "made_with",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["World()", "world", "whole.core", "Pairs()", "World(9)"])
def test_objects_of_a_module_are_found_by_name(module, tmp_path, name):
    """What a program trains without a name, too."""
    jaxpg.make(module.of("World"))
    core = eval(name, vars(sys.modules[module.name]))
    env = jaxpg.Env(jax.tree.map(lambda x: x + 1, core.default_params), core)
    if name == "World(9)":
        with pytest.warns(UserWarning, match=r"no name that .*env=\.\.\."):
            assert record(env)["own"] == ["env"]
        return
    about = record(env)
    assert about["own"] == []
    assert about["names"]["env"].startswith(module.name)
    path = tmp_path / "x" / RUN
    path.parent.mkdir()
    write_json(path, about)
    _, _, again, _ = provenance.restore_objects(path, None, None)
    assert again == env if name != "World()" and name != "Pairs()" else again.params == env.params


def test_what_no_other_program_finds_is_warned_of_when_it_is_written():
    agent = jaxpg.a2c._replace(name="mine", step=lambda cfg, env, state: None)

    class Net(jaxpg.a2c.Config().net):
        pass

    with pytest.warns(UserWarning, match="no other program|another program") as caught:
        about = record(jaxpg.make("CartPole-v1"), agent, net=Net)
    said = [str(x.message) for x in caught]
    assert len(said) == 2
    assert "agent 'mine' has no name" in said[0]
    assert "<locals>.Net" in said[1]
    assert about["own"] == ["agent"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record(jaxpg.make("CartPole-v1"))


def a_run(path, module, **more):
    """The folder of a run of the module's environment, agent and network, which has no state."""
    config = to_dict(jaxpg.a2c.Config(num_envs=2, num_steps=4, hidden=(4,)))
    about = {
        "agent": "mine", "config": config | {"net": module.of("Net")},
        "environment": {"name": module.of("World"), "size": 6, "goal": 3.0},
        "names": {"agent": module.of("agent")}, "sources": module.sources(),
    }  # fmt: skip
    return run_folder(path, [[1.0, 2, 3]], **about | more)


def restore(folder, **objects):
    return provenance.restore_objects(folder / RUN, None, None, **objects)


def test_a_folder_gives_them_again(module, tmp_path):
    folder = a_run(tmp_path / "x", module)
    agent, cfg, env, _ = restore(folder)
    assert (agent.name, env.core.size, cfg.net) == ("mine", 6, sys.modules[module.name].Net)
    assert provenance.named_objects(folder, None, None) == (None, None)


def test_a_moved_module_is_named_by_an_option(module, tmp_path):
    folder = a_run(tmp_path / "x", module, config=to_dict(jaxpg.a2c.Config()))
    there = Module(module.folder / "other")
    module.file.unlink()
    with pytest.raises(
        CheckpointError, match=r"there is no module.*it was .*\(--agent MODULE"
    ) as e:
        restore(folder)
    assert str(module.file) in str(e.value)
    sys.path.insert(0, str(there.folder))
    try:
        agent, env = provenance.named_objects(folder, there.of("agent"), there.of("World"))
        found = provenance.restore_objects(folder / RUN, agent, env)
        assert found[2].name == module.of("World")  # as it is on record
        assert found[2].core.size == 6
        plain = jaxpg.Env(env.params, env.core)  # in Python any object will do
        assert provenance.restore_objects(folder / RUN, agent, plain)[2].name == env.name
        other = jaxpg.make(there.of("World"), size=6, goal=4.0)
        with pytest.raises(CheckpointError, match=r"environment\.goal: found 3\.0, expected 4\.0"):
            provenance.restore_objects(folder / RUN, agent, other)
    finally:
        sys.path.remove(str(there.folder))


def test_a_changed_source_is_an_error_or_with_trust_a_warning(module, tmp_path):
    folder = a_run(tmp_path / "x", module)
    module.file.write_text(module.file.read_text() + "\n")
    with pytest.raises(
        UntrustedError, match=r"has changed since.*--trust.*--agent MODULE"
    ) as caught:
        restore(folder)
    assert str(module.file) in str(caught.value)
    assert not module.imported
    with pytest.warns(UserWarning, match=f"the source of {module.name}, .* has changed since"):
        restore(folder, trust=True)
    assert module.imported


# What a folder of someone else can do with that.


def link(module, folder):
    folder.mkdir()
    (folder / RUN).write_text("{}")
    (folder / module.file.name).write_text(module.file.read_text())
    module.file.unlink()
    module.file.symlink_to(folder / module.file.name)


def link_folder(module, folder):
    folder.mkdir()
    (folder / RUN).write_text("{}")
    inner = folder / "code"
    inner.mkdir()
    module.file.rename(inner / module.file.name)
    there = module.folder / "there"
    there.symlink_to(inner)
    sys.path.insert(0, str(there))


ATTACKS = {
    "a run folder on the path": lambda m, f: (m.folder / RUN).write_text("{}"),
    "a sweep's folder": lambda m, f: (m.folder / SWEEP).write_text("{}"),
    "a run folder above": lambda m, f: (m.folder.parent / RUN).write_text("{}"),
    "a link that leads nowhere": lambda m, f: (m.folder / RUN).symlink_to("nowhere"),
    "a link into a run folder": link,
    "a link to a folder in a run folder": link_folder,
    "another source": lambda m, f: m.file.write_text(m.file.read_text() + "#"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_is_not_the_user_s_own_is_not_run(module, tmp_path, attack, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    recorded = module.sources()
    ATTACKS[attack](module, tmp_path / "someone")
    with pytest.raises(UntrustedError, match=r"--trust") as caught:
        resolve_name(module.of("Net"), TORSO, recorded)
    assert "\n" not in str(caught.value)
    assert not module.imported
    assert module.name not in sys.modules
    assert resolve_name(module.of("Net"), TORSO, True).__name__ == "Net"


def test_no_record_and_half_a_record_run_nothing(module):
    package = module.folder / f"package{module.name}"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(module.mark)!r}, 'w').close()")
    module.file.rename(package / "inner.py")
    name = f"{package.name}.inner"
    inner = hashlib.sha256((package / "inner.py").read_bytes()).hexdigest()
    outer = hashlib.sha256((package / "__init__.py").read_bytes()).hexdigest()
    half = {name: {"sha256": inner}}
    for recorded in ({}, half, half | {package.name: {"sha256": inner}}, {name: {}}):
        with pytest.raises(UntrustedError):
            resolve_name(f"{name}:Net", TORSO, recorded)
    assert not module.imported
    found = resolve_name(f"{name}:Net", TORSO, half | {package.name: {"sha256": outer}})
    assert found.__module__ == name
    for part in (name, package.name):
        sys.modules.pop(part)


def test_compiled_code_zips_and_plain_folders_run_nothing(module, monkeypatch):
    import py_compile

    recorded = module.sources()
    py_compile.compile(str(module.file), str(module.file) + "c")
    with zipfile.ZipFile(module.folder / "x.zip", "w") as file:
        file.write(module.file, "zipped.py")
    (module.folder / "bare").mkdir()
    (module.folder / "bare" / "inner.py").write_text(module.file.read_text())
    module.file.unlink()
    monkeypatch.syspath_prepend(module.folder / "x.zip")
    digest = recorded[module.name]
    for name in (module.name, "zipped", "bare", "bare.inner"):
        with pytest.raises(UntrustedError, match="has no file of Python source"):
            resolve_name(f"{name}:Net", TORSO, dict.fromkeys((name, "bare"), digest))
    assert not module.imported


def test_what_runs_is_what_was_judged(module):
    """Python would run what it finds compiled beside a source of the same age and size."""
    import importlib.util
    import py_compile

    text, recorded = module.file.read_text(), module.sources()
    module.file.write_text(text.replace("class Net", "class Bad"))
    py_compile.compile(str(module.file), importlib.util.cache_from_source(str(module.file)))
    age = os.stat(module.file)
    module.file.write_text(text)
    os.utime(module.file, ns=(age.st_atime_ns, age.st_mtime_ns))
    assert resolve_name(module.of("Net"), TORSO, recorded).__name__ == "Net"


def test_names_are_as_they_are_written(module):
    """Where the file system tells letters apart; where it does not, Python does."""
    recorded = module.sources()
    other = module.name.upper()
    with pytest.raises(ValueError, match="there is no module"):
        resolve_name(f"{other}:Net", TORSO, {other: recorded[module.name]})
    for name in (f"{module.name}.Net", f".{module.name}:Net", f"{module.name}/x:Net"):
        with pytest.raises(ValueError, match="allowed is module:Name"):
            resolve_name(name, TORSO, recorded)


def test_parts_of_python_and_programs_are_no_one_s_own():
    for name in ("this", "antigravity", "idlelib.idle", "pytest.__main__"):
        found = sources.find_sources(name)
        recorded = {x: {"sha256": source.digest} for x, source in found.items()}
        with pytest.raises(UntrustedError, match="a part of Python, or a program"):
            resolve_name(f"{name}:Net", TORSO, recorded)
        assert name not in sys.modules


CALLS = {
    "of Python": ("shutil:rmtree", {"path": "x"}),
    "of C": ("os:system", {"command": "x"}),
    "jaxpg's own": ("jaxpg.envs.registry:make", {"name": "x:y"}),
    "one that returns an Env": ("jaxpg.core.env:step", {}),
    "imported by it": ("{}:rmtree", {"path": "x"}),
    "imported from C": ("{}:system", {"command": "x"}),
    "of a package": ("pytest:main", {}),
    "one with text": ("{}:make", {"kind": "x"}),
    "one with text in a list": ("{}:make", {"kind": ["x"]}),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_folder_calls_no_function_with_what_it_likes(module, case):
    name, params = CALLS[case]
    told = {**params, "name": name.format(module.name)}
    if "name" in params:  # which a record cannot say twice
        told = {"name": name}
    with pytest.raises(UntrustedError, match=r"to call .* could do anything"):
        registry.from_dict(told, module.sources())


def test_a_folder_calls_the_user_s_own_with_numbers(module):
    recorded = module.sources()
    told = {"name": module.of("make"), "size": 3}
    assert registry.from_dict(told, recorded).core.size == 3
    told = {"name": module.of("make_env"), "kind": "b"}  # it says that it returns an Env
    assert registry.from_dict(told, recorded).params.goal == 2.0


def test_nor_through_the_points_of_a_sweep_or_the_user_s_option(module, tmp_path):
    recorded = module.sources()
    env = registry.from_dict({"name": module.of("make")}, recorded)
    cfg = jaxpg.a2c.Config()
    assert apply_point(cfg, env, {"env.size": 2}, recorded)[1].core.size == 2
    with pytest.raises(UntrustedError, match="it gets text"):
        apply_point(cfg, env, {"env.kind": "x"}, recorded)
    assert apply_point(cfg, env, {"env.kind": "x"}, True)
    told = {"name": "gone:make", "kind": "x", "goal": 3.0}
    folder = a_run(tmp_path / "x", module, environment=told)
    with pytest.raises(UntrustedError, match="it gets text"):
        provenance.named_objects(folder, None, module.of("make"))
    assert provenance.named_objects(folder, None, module.of("make"), True)[1].name == "gone:make"


@pytest.mark.parametrize("part", ["names", "sources"])
@pytest.mark.parametrize("value", [3, [], "x", {"agent": 3, "env": []}, None])
def test_what_a_record_cannot_mean_is_a_checkpoint_error(module, tmp_path, part, value):
    folder = a_run(tmp_path / "x", module, **{part: value})
    with pytest.raises((CheckpointError, UntrustedError)) as caught:
        restore(folder)
    assert str(folder) in str(caught.value)
    assert part == "names" or not module.imported


BAD_CALLABLES = [
    "os:system",
    "subprocess:Popen",
    "jax.debug:callback",
    {"partial": "jax.numpy:save", "args": ["x"]},
    {"partial": "jax.numpy:load", "args": ["x"], "keywords": {"allow_pickle": True}},
    "jaxpg.experiment.files.atomic:write_atomically",
    "jaxpg.nets.networks:partial",
    {"partial": "shutil:rmtree", "args": ["x"]},
    {"partial": "jax.nn:elu", "keywords": {"alpha": {"partial": "shutil:rmtree", "args": ["x"]}}},
    {"partial": "{}:activate", "keywords": {"power": "x"}},
]


@jaxpg.config
class Callables:
    rule: type | None = jaxpg.static(None, kind=names.Kind("a function", callable))


@pytest.mark.parametrize("told", BAD_CALLABLES, ids=str)
def test_a_folder_puts_no_such_function_into_a_config(module, told):
    told = json.loads(json.dumps(told).replace("{}", module.name))
    with pytest.raises(ValueError, match=r"could do anything|has no|allowed is"):
        from_dict(Callables, {"rule": told}, module.sources())
    allowed = {"partial": module.of("activate"), "args": [], "keywords": {"power": 2}}
    assert from_dict(Callables, {"rule": allowed}, module.sources()).rule(3) == 9


# Packages.


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that announces an agent and environments."""
    site = tmp_path / "site"
    module = Module(site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv(names.TRUST, raising=False)
    announce(site, module)
    sources.announced.cache_clear()
    yield module
    sources.announced.cache_clear()
    sys.modules.pop(module.name, None)


def announce(site, module):
    about = site / f"{module.name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.name}\nVersion: 1.0\n")
    lines = ["[jaxpg.envs]", f"World-v0 = {module.of('World')}", f"Bad-v0 = {module.of('Nothing')}"]
    lines += [f"CartPole-v1 = {module.of('World')}"]
    lines += ["[jaxpg.agents]", f"announced = {module.of('agent')}", f"ppo = {module.of('agent')}"]
    (about / "entry_points.txt").write_text("\n".join(lines))


def test_what_a_package_announces_has_a_name(package, tmp_path):
    assert not package.imported
    assert "World-v0" in registry.names()
    assert agents.names()[-1] == "announced"
    env = jaxpg.make("World-v0", size=2)
    assert (env.name, env.core.size) == ("World-v0", 2)
    assert agents.get("announced").name == "mine"
    assert agents.get("ppo") is jaxpg.ppo  # a name that there is keeps its meaning
    assert jaxpg.make("CartPole-v1").name == "CartPole-v1"
    with pytest.raises(ValueError, match="has no Nothing"):
        jaxpg.make("Bad-v0")
    about = record(env)
    assert about["sources"] == package.sources()
    assert registry.from_dict(about["environment"]) == env  # and needs no record to be trusted
    assert registry.with_params(env, goal=2.0).params.goal == 2.0


def test_the_list_shows_what_a_package_announces(package, monkeypatch, capsys):
    monkeypatch.setattr(agents, "NAMES", ("a2c",))
    monkeypatch.setattr(registry, "names", lambda: ["World-v0", "Bad-v0"])
    assert cli.main(["list"]) == 0
    said = capsys.readouterr()
    assert "announced" in said.out or "mine" in said.out
    assert "World-v0" in said.out
    assert "Bad-v0: " in said.err


def test_a_folder_announces_nothing(tmp_path, monkeypatch):
    """Not the working directory, and not a run folder on the path."""
    for folder in (tmp_path / "here", tmp_path / "run" / "code"):
        folder.mkdir(parents=True)
        announce(folder, Module(folder))
        monkeypatch.syspath_prepend(folder)
    (tmp_path / "run" / RUN).write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    sources.announced.cache_clear()
    try:
        assert "World-v0" not in sources.announced(sources.ENVS)
    finally:
        sources.announced.cache_clear()


# Commands.


@pytest.fixture
def quiet(module, monkeypatch):
    """A command line that makes no devices, but notes when it would: before the import."""
    order = []
    monkeypatch.setattr(common, "set_up", lambda *_: order.append(module.imported))
    return order


READS = ["eval", "resume", "render", "report", "export"]


@pytest.mark.parametrize("command", READS)
def test_commands_that_read_a_folder_need_nothing_more(command, module, quiet, tmp_path, capsys):
    """Quick twin of the transcript: they come as far as the checkpoint, which is not there."""
    folder = a_run(
        tmp_path / "x", module, config=to_dict(jaxpg.a2c.Config(num_envs=2, hidden=(4,)))
    )
    out = ["--out", str(tmp_path / f"x.{'html' if command == 'report' else 'gif'}")]
    words = [command, str(folder), *([] if command in ("eval", "resume") else out)]
    if command == "resume":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jaxpg, "resume", lambda run, **k: restore(run) and 1 / 0)
            with pytest.raises(ZeroDivisionError):
                cli.main(words)
    else:
        assert cli.main(words) == 2 * (command != "report")
        assert command == "report" or "found no finished checkpoint" in capsys.readouterr().err
    assert module.imported
    assert not any(quiet)
    assert quiet


@pytest.mark.parametrize("command", READS)
def test_commands_that_read_a_folder_take_others(command, module, quiet, tmp_path, capsys):
    folder = a_run(
        tmp_path / "x", module, config=to_dict(jaxpg.a2c.Config(num_envs=2, hidden=(4,)))
    )
    out = ["--out", str(tmp_path / f"x.{'html' if command == 'report' else 'gif'}")]
    words = [command, str(folder), *([] if command in ("eval", "resume") else out)]
    words += ["--agent", module.of("agent"), "--env", module.of("Nothing")]
    assert cli.main(words) == 2
    assert f"environment '{module.of('Nothing')}': cannot import it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "train {0}:agent {0}:World --param size=6 --seeds 2 --config.net {0}:Net",
        "sweep {0}:agent {0}:World --grid env.size=4,6 --param goal=2",
        "compare ppo {0}:agent --env {0}:World",
    ],
)
def test_commands_that_train_import_after_the_devices_are_made(line, module, quiet, monkeypatch):
    seen = []

    def go(*args, **_):
        seen.extend(args)
        raise ZeroDivisionError

    monkeypatch.setattr(jaxpg, "run", go)
    monkeypatch.setattr("jaxpg.experiment.sweeps.sweep.run", go)
    monkeypatch.setattr("jaxpg.experiment.sweeps.compare.compare", go)
    words = line.format(module.name).split()
    with pytest.raises(ZeroDivisionError):
        cli.main(words)
    assert quiet[0] is False
    if words[0] == "compare":
        assert list(seen[0]) == ["ppo", module.of("agent")]
        return
    agent, cfg, env = seen[:3]
    assert (agent.name, env.name) == ("mine", module.of("World"))
    if words[0] == "train":
        assert (env.core.size, cfg.net.__name__) == (6, "Net")
    assert not list(module.folder.glob("*s/*"))  # nothing is left behind


def test_a_working_directory_in_a_run_folder_is_not_on_the_path(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.chdir(run)
    monkeypatch.setattr(sys, "path", [x for x in sys.path if x])
    with common.working_directory():
        assert sys.path[-1] == str(run)
    (run / RUN).write_text("{}")
    with common.working_directory():
        assert str(run) not in sys.path
    assert str(run) not in sys.path


def test_devices_are_chosen_by_the_words_before_there_is_a_config(monkeypatch):
    chosen = []
    monkeypatch.setattr(common, "cores", lambda: 6)
    monkeypatch.setattr(common, "set_up", lambda seeds, *_: chosen.append(seeds))
    for words in ("--seeds 3", "--seeds=2 --config.x 3", "", "--data-parallel", "--seeds x"):
        common.set_up_ahead("train", words.split())
    common.set_up_ahead("train", ["--data-parallel", "--config.num-envs", "12"])
    common.set_up_ahead("sweep", [])
    assert chosen == [3, 2, 1, 4, 12, 6]


def test_the_command_of_a_report_names_them(module, tmp_path):
    about = read_json(a_run(tmp_path / "x", module) / RUN)
    command = shlex.split(reproduce.shell_command(about, "again"))
    assert command[:4] == ["jaxpg", "train", module.of("agent"), module.of("World")]
    assert command[command.index("--param") + 1] == "size=6"
    assert command[command.index("--config.net") + 1] == module.of("Net")
    sys.modules.pop(module.name)
    assert reproduce.shell_command(about | {"sources": {}}, "again") is None


def test_what_differs_from_the_usual_is_known_of_one_s_own(module, tmp_path):
    about = read_json(a_run(tmp_path / "x", module) / RUN)
    found = {x.name: (x.value, x.default) for x in list_differences(about)}
    assert found["env.size"] == (6, "?")  # an argument of the constructor
    assert "env.goal" not in found
    assert found["net"][0] == module.of("Net")
    sys.modules.pop(module.name)
    module.mark.unlink()
    with pytest.raises(UntrustedError):
        list_differences(about | {"sources": {}})
    assert not module.imported
    lost = record(jaxpg.make("CartPole-v1")) | {"own": ["env"]}  # by no name
    assert {x.name for x in list_differences(lost)} >= {"env.gravity"}


# The page.


PAGE = "docs/own.md"


def page_file():
    return next(x.text for x in pages.blocks(PAGE) if x.kind == "python")


def transcript():
    """The commands of the page's transcript, with what each prints."""
    text = re.search(r"```text\n(.*?)```", (pages.ROOT / PAGE).read_text(), re.S)[1]
    return [x.partition("\n")[::2] for x in re.split(r"^\$ ", text, flags=re.M) if x]


def test_the_page_s_transcript_is_of_nine_commands(tmp_path, monkeypatch):
    """Quick twin: their words are those of the command, and the names lead to the page's file."""
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_walk.py").write_text(page_file())
    lines = [shlex.split(line) for line, _ in transcript()]
    expected = ["train", "eval", "resume", "render", "plot", "report", "export", "sweep", "compare"]
    assert [words[1] for words in lines] == expected
    try:
        for words in lines:
            pages.parse(words, monkeypatch)
        assert "my_walk" in sys.modules
    finally:
        sys.modules.pop("my_walk", None)


@pytest.mark.slow
def test_nine_commands_on_what_nobody_registered(tmp_path):
    """The page's transcript, in a fresh folder, each command a process on two devices."""
    (tmp_path / "my_walk.py").write_text(page_file())
    program = "import sys; from jaxpg.cli import main; sys.path.remove(''); sys.exit(main())"
    environment = os.environ | {
        "PYTHONPATH": str(pages.ROOT),
        "MPLBACKEND": "agg",
        "COLUMNS": "100",
    }
    for line, shown in transcript():
        done = subprocess.run(
            [sys.executable, "-c", program, *shlex.split(line)[1:]],
            cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, line + done.stdout[-2000:] + done.stderr[-2000:]
        printed = {x.split()[0] for x in done.stdout.splitlines() if x.split()}
        assert {x.split()[0] for x in shown.splitlines()} <= printed, line
    about = read_json(tmp_path / "runs" / "walk" / RUN)
    assert about["environment"]["name"] == "my_walk:Walk"
    assert about["names"]["agent"] == "my_walk:my_agent"
    assert about["config"]["net"] == "my_walk:Sines"
    assert about["made_with"]["devices"].startswith(f"{min(2, common.cores())} x")
    for name in ("walk.gif", "walk.png", "walk.html", "walk.jaxpolicy"):
        assert (tmp_path / name).stat().st_size > 1000
