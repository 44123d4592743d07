"""A file from others runs nothing: names in it import what is allowed, and nothing else."""

import hashlib
import itertools
import json
import re
import sys
from functools import partial

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg import cli
from jaxpg.cli import common
from jaxpg.core.config import class_fields, from_dict, to_dict
from jaxpg.core.names import TORSO, TRUST, UntrustedError, resolve_name
from jaxpg.envs import registry
from jaxpg.experiment.export import program
from jaxpg.experiment.figures import play
from jaxpg.experiment.files.atomic import CheckpointError, read_json, write_json
from jaxpg.experiment.report import reproduce
from jaxpg.nets.networks import CNN, MLP
from tests.experiments import run_folder, sweep

COUNT = itertools.count()
CONFIG = jaxpg.ppo.Config(num_envs=2, num_steps=4, hidden=(4,), minibatches=1)


class Torso(MLP):
    """A network that this program has."""

    class Inner(MLP):
        """One in a class."""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module on Python's path that leaves a mark where it is imported: its name, and whether."""
    name, mark = f"mynets{next(COUNT)}", tmp_path / "mark"
    folder = tmp_path / "path"
    folder.mkdir()
    code = f"open({str(mark)!r}, 'w').close()\nfrom jaxpg.nets.networks import MLP\n"
    (folder / f"{name}.py").write_text(f"{code}class Net(MLP):\n    pass\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv(TRUST, raising=False)
    return name, mark.exists


def a_run(path, net):
    return run_folder(path, [[1.0, 2, 3]], config=to_dict(CONFIG) | {"net": net})


@pytest.mark.parametrize("trust", ["no", "false", 1])
def test_trust_is_true_or_false(tmp_path, module, trust):
    """What is only taken for true allows nothing."""
    name, imported = module
    path = a_run(tmp_path / "run", f"{name}:Net")
    for call in (
        lambda: jaxpg.load(path, trust=trust),
        lambda: jaxpg.resume(path, trust=trust),
        lambda: jaxpg.Policy.load(path, trust=trust),
        lambda: jaxpg.render(path, tmp_path / "x.gif", trust=trust),
        lambda: jaxpg.report([path], tmp_path / "x.html", trust=trust),
    ):
        with pytest.raises(ValueError, match=r"trust=.*allowed is True or False"):
            call()
    assert not imported()


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ({"agent": "ppo"}, "agent='ppo': allowed is an Agent"),
        ({"env": "CartPole-v1"}, "env='CartPole-v1': allowed is what jaxpg.make gives"),
        ({"agent": jaxpg.a2c}, "agent: found 'ppo', expected 'a2c'"),
    ],
)
def test_objects_of_one_s_own_are_judged(tmp_path, objects, words):
    path = a_run(tmp_path / "run", "jaxpg.nets.networks:MLP")
    for call in (jaxpg.load, jaxpg.resume):
        with pytest.raises(ValueError, match=words):
            call(path, **objects)


def a_sweep(path, points, net="jaxpg.nets.networks:MLP", **more):
    """The folder of a sweep whose only part has not begun."""
    about = sweep(points or [{}], [[1.0]] * max(1, len(points)), **more).about
    env = registry.to_dict(registry.make("CartPole-v1"))
    own = {"points": points, "format": 1, "parts": []}
    if points:
        part = {"width": 1, "iterations": 1, "env_steps": 10, "over": False}
        own["parts"] = [{"lanes": [[0, 0]]} | part]
    if about["kind"] == "sweep":
        own |= {"config": to_dict(CONFIG) | {"net": net}, "environment": env}
    else:
        about["configs"]["ppo"]["CartPole-v1"]["net"] = net
    path.mkdir()
    write_json(path / "sweep.json", json.loads(json.dumps(about | own)))
    return path


def a_part(path, net):
    """A sweep of jaxpg's network, with a part that names another."""
    a_sweep(path, [{"gamma": 0.5}])
    run_folder(path / "parts" / "0", [[1.0]], config=to_dict(CONFIG) | {"net": net})
    return path


RUNS = {
    "load": jaxpg.load,
    "Policy.load": jaxpg.Policy.load,
    "resume": jaxpg.resume,
    "render": lambda x, **k: jaxpg.render(x, x.parent / "x.gif", **k),
    "report": lambda x, **k: jaxpg.report([x], x.parent / "x.html", **k),
    "play": play,
}
PPO = {"agent": "ppo", "env": "CartPole-v1"}
RESULT = partial(jaxpg.sweep.result, config=0)
SWEEPS = {
    "config": (lambda p, n: a_sweep(p, [{"gamma": 0.5}], n), RESULT),
    "point": (lambda p, n: a_sweep(p, [{"net": n}]), RESULT),
    "part": (a_part, RESULT),
    "comparison": (
        lambda p, n: a_sweep(p, [PPO], n, kind="comparison"),
        RESULT,
    ),
    "resume of a config": (lambda p, n: a_sweep(p, [{"gamma": 0.5}], n), jaxpg.resume),
    "resume of a point": (lambda p, n: a_sweep(p, [{"net": n}]), jaxpg.resume),
    "resume of a part": (a_part, jaxpg.resume),
    "resume of a comparison": (
        lambda p, n: a_sweep(p, [PPO], n, kind="comparison"),
        jaxpg.resume,
    ),
}
CASES = {name: (a_run, call) for name, call in RUNS.items()} | SWEEPS


@pytest.mark.filterwarnings("ignore:.* was made with")
@pytest.mark.parametrize("case", CASES)
def test_a_folder_imports_nothing_unless_it_is_trusted(case, module, tmp_path):
    make, call = CASES[case]
    name, imported = module
    folder = make(tmp_path / "x", f"{name}:Net")
    with pytest.raises(UntrustedError, match=r"trust=True \(--trust\)") as caught:
        call(folder)
    assert f"net='{name}:Net'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not imported()
    assert name not in sys.modules
    if case not in ("report", *(c for c in CASES if c.startswith("resume"))):
        with pytest.raises(ValueError, match=r"found no |expected \[500\]"):
            call(folder, trust=True)
        assert imported()
    if case == "report":  # which goes on without a policy
        assert call(folder, trust=True).exists()
        assert imported()


def test_a_search_imports_nothing(module, tmp_path):
    pytest.importorskip("optuna")
    name, imported = module
    space = {"net": [f"{name}:Net"]}
    search = {"space": space, "trials": 1, "batch": 1}
    folder = a_sweep(tmp_path / "x", [], search=search)
    with pytest.warns(UserWarning, match="was made with"), pytest.raises(UntrustedError):
        jaxpg.resume(folder)
    assert not imported()


def test_tables_and_curves_ask_for_no_network(module, tmp_path):
    """So they need no trust."""
    name, imported = module
    jaxpg.load(a_sweep(tmp_path / "x", [{"net": f"{name}:Net"}]))
    run = a_run(tmp_path / "y", f"{name}:Net")
    assert cli.main(["plot", str(run)]) == 0
    assert (run / "curve.png").exists()
    assert not imported()


@pytest.mark.parametrize("command", ["eval", "resume", "report", "render", "export", "robustness"])
def test_commands_say_how_to_allow_it(command, module, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    name, imported = module
    folder = a_run(tmp_path / "x", f"{name}:Net")
    ending = {"report": "html", "robustness": "png"}.get(command, "gif")
    words = [command, str(folder)]
    words += [] if command in ("eval", "resume") else ["--out", str(tmp_path / f"x.{ending}")]
    words += ["--param", "length=0.1:1"] if command == "robustness" else []
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("jaxpg: error: ")
    assert "--trust" in err
    assert f"{TRUST}={name}" in err
    assert not imported()
    if command != "resume":  # which would train
        cli.main([*words, "--trust"])
        assert imported()


def test_what_is_typed_needs_no_trust(module, monkeypatch):
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    monkeypatch.setattr(jaxpg, "run", lambda agent, cfg, *_, **__: seen.append(cfg) or 1 / 0)
    name, imported = module
    seen = []
    with pytest.raises(ZeroDivisionError):
        cli.main(f"train ppo CartPole-v1 --config.net {name}:Net".split())
    assert imported()
    assert seen[0].net is sys.modules[name].Net


WRONG = (
    "builtins:int",
    "subprocess:Popen",
    "jaxpg.core.machine:os",
    "jaxpg.core.machine:os.system",
    "jaxpg.nets.networks:nn.Dense",
    "jaxpg.nets.networks:Conv",
    "jaxpg.nets.networks:torso",
    "jaxpg.nets.networks:MLP.__call__",
    "jaxpg.nets.nowhere:MLP",
    "jaxpg.nets.networks:Nothing",
    "jaxpg:ppo",
    "flax.linen:Dense",
    "flax.linen:Module",
    "..networks:MLP",
    "jaxpg.nets.networks",
    "jaxpg.nets.networks:",
    ":MLP",
    "",
)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_network_is_refused(name, trust):
    with pytest.raises(ValueError, match=r"ppo\.Config net=") as caught:
        from_dict(jaxpg.ppo.Config, {"net": name}, trust)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_no_network_is_refused_in_python_too():
    for net in (int, MLP(()).__class__.__base__, type):
        with pytest.raises(ValueError, match=r"net=.*allowed is a flax module class"):
            jaxpg.run(
                jaxpg.ppo, jaxpg.ppo.Config(net=net), jaxpg.make("CartPole-v1"),
                jax.random.key(0), total_steps=10,
            )  # fmt: skip


def test_what_is_here_is_found():
    for name, net in {
        "jaxpg.nets.networks:CNN": CNN,
        f"{__name__}:Torso": Torso,
        f"{__name__}:Torso.Inner": Torso.Inner,
    }.items():
        assert from_dict(jaxpg.ppo.Config, {"net": name}).net is net


def test_settings_of_the_user(module, monkeypatch):
    name, imported = module
    for listed in ("", "other", name[:-1], f"{name}x", f"{name}.sub"):
        monkeypatch.setenv(TRUST, listed)
        with pytest.raises(UntrustedError):
            resolve_name(f"{name}:Net", TORSO)
    assert not imported()
    monkeypatch.setenv(TRUST, f"other, {name}")
    assert resolve_name(f"{name}:Net", TORSO) is sys.modules[name].Net


def test_a_folder_here_is_no_package(module, tmp_path):
    """Python takes any folder for a package: a run folder with a module in it too."""
    _, imported = module
    folder = tmp_path / "path" / "plain"
    folder.mkdir()
    (folder / "inner.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    for name in ("plain:Net", "plain.inner:Net"):
        with pytest.raises(UntrustedError):
            resolve_name(name, TORSO)
    with pytest.raises(ValueError, match="plain has no Net"):
        resolve_name("plain:Net", TORSO, trust=True)
    assert not imported()


def test_a_module_makes_nothing_for_a_file(module, monkeypatch):
    """What a module has only when it is asked for it, a trusted name may ask for."""
    asked = []
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "__getattr__", lambda x: asked.append(x) or Torso, raising=False)
    with pytest.raises(ValueError, match="has no Later"):
        resolve_name(f"{__name__}:Later", TORSO)
    assert not asked
    assert resolve_name(f"{__name__}:Later", TORSO, trust=True) is Torso


def test_classes_of_ones_own_config():
    """Without a kind, a name stands for a subclass of what it replaces."""

    class Local(MLP):
        pass

    @jaxpg.config
    class Config:
        net: type = jaxpg.static(Torso)
        local: type = jaxpg.static(Local)

    assert class_fields(Config) == {"net", "local"}
    own = to_dict(Config())
    assert "<locals>" in own["local"]
    assert from_dict(Config, own) == Config()
    for name in ("subprocess:Popen", "builtins:int", "jaxpg.nets.networks:CNN"):
        with pytest.raises(ValueError, match=r"allowed is a subclass of tests\.test_trust:Torso"):
            from_dict(Config, {"net": name})


def test_the_command_of_a_report_imports_nothing(module, tmp_path):
    name, imported = module
    record = read_json(a_run(tmp_path / "x", f"{name}:Net") / "run.json") | {"keep": 1}
    command = reproduce.shell_command(record, "again")
    assert f"'{name}:Net'" in command
    assert ", trust=True)" in command  # it is seen there
    assert not imported()
    plain = reproduce.shell_command(record | {"config": to_dict(CONFIG)}, "again")
    assert "trust" not in plain


# Policy files.


def resealed(path, parts):
    """A policy file with other programs."""
    _, _, body = path.read_bytes().partition(b"\n")
    line, _, rest = body.partition(b"\n")
    about = json.loads(line)
    parts = {"weights": rest[: about["parts"]["weights"]]} | parts
    about["parts"] = {name: len(part) for name, part in parts.items()}
    body = b"\n".join([json.dumps(about).encode(), b"".join(parts.values())])
    digest = hashlib.sha256(body).hexdigest().encode()
    path.write_bytes(b"jaxpolicy 1 " + digest + b"\n" + body)


def test_a_policy_file_calls_no_python(tmp_path):
    """JAX would write, and run, a call of Python or of any other code, if it were asked to."""
    env = jaxpg.make("Cliff-jaxpg")
    cfg = jaxpg.q_learning.Config()
    state = jaxpg.q_learning.init(cfg, env, jax.random.key(0))
    metrics = {"episode/return": np.zeros(1)}
    result = jaxpg.Result(jaxpg.q_learning, cfg, env, state, metrics, 1, 1, "done", 0.0)
    path = tmp_path / "x.jaxpolicy"
    jaxpg.Policy.of(result).export(path)
    jaxpg.Policy.from_file(path)

    def foreign(x):
        return jax.ffi.ffi_call(other, jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    python, other = "xla_ffi_python_cpu_callback", "the_code_of_some_other_body"
    free = [jax.export.DisabledSafetyCheck.custom_call(other)]
    program = jax.export.export(jax.jit(foreign), disabled_checks=free)(np.zeros(2, np.float32))
    code = bytes(program.serialize())
    for target in (other, python):
        code = code.replace(other.encode(), target.encode())
        resealed(path, {"greedy": code, "sampled": code})
        with pytest.raises(ValueError, match=f"{path}: .*{target}"):
            jaxpg.Policy.from_file(path)


def test_a_policy_file_may_call_arithmetic():
    """What JAX promises to keep for exports, but for kernels that somebody else wrote."""
    own = ["tf.call_tf_function", "tpu_custom_call", "mosaic_gpu_v2", "xla_python_cpu_callback"]
    own += ["xla_ffi_python_gpu_callback", "xla_ffi_partitioned_python_cpu_callback", ""]
    arithmetic = ["cu_threefry2x32_ffi", "lapack_sgetrf_ffi", "cusolver_getrf_ffi"]
    arithmetic += ["shape_assertion", "Qr"]
    arithmetic += ["stablehlo.dynamic_top_k", "LuDecomposition", "cu_lu_pivots_to_permutation"]
    assert not [name for name in own if re.fullmatch(program.CALLS, name)]
    assert [name for name in arithmetic if re.fullmatch(program.CALLS, name)] == arithmetic


def test_a_damaged_folder_is_still_a_checkpoint_error(tmp_path):
    """What is wrong for another reason than trust is no matter of trust."""
    folder = a_run(tmp_path / "x", "builtins:int")
    with pytest.raises(CheckpointError, match="net='builtins:int'"):
        jaxpg.load(folder, trust=True)
