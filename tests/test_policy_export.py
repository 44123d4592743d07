"""A policy acts as its agent does: from the run, from a file without what trains, and as ONNX."""

import functools
import json
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxpg
from jaxpg import agents, cli
from jaxpg.cli import common
from jaxpg.core.run import Result
from jaxpg.core.train import initial_state
from jaxpg.experiment.files.atomic import CheckpointError, write_json
from tests.conftest import INSTALLED, TINY, short_env, slow_of

# Agent and environment: one of every kind of action, state and normalisation.
CASES = {
    "ppo": ("ppo", "CartPole-v1"),
    "ppo-continuous": ("ppo", "Pendulum-v1"),  # normalises observations
    "sac": ("sac", "Pendulum-v1"),
    "dqn": ("dqn", "CartPole-v1"),
    "q_learning": ("q_learning", "GridWorld-jaxpg"),  # discrete observations
    "cem": ("cem", "CartPole-v1"),
}
BINS = ("bins", "low", "high")
ABSENT = ("gymnax", "flax", "distrax", "optax", "orbax", "chex", "tyro", "matplotlib")


class Made(NamedTuple):
    result: Result
    policy: jaxpg.Policy
    file: object  # path of the exported policy
    obs: np.ndarray  # [7, *obs]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a case needs, made once: a run of a few iterations, its policy, the file."""
    done = {}

    def get(case):
        if case not in done:
            name, env_name = CASES[case]
            agent, fields = agents.get(name), dict(TINY[name])
            if case == "q_learning":
                fields = {k: v for k, v in fields.items() if k not in BINS}
            cfg, env = agent.Config(**fields), jaxpg.make(env_name)
            if hasattr(env.params, "max_steps_in_episode"):
                env = jaxpg.make(env_name, max_steps_in_episode=fields["num_steps"])
            steps = 5 * agent.steps_per_iter(cfg)
            result = jaxpg.run(agent, cfg, env, jax.random.key(3), total_steps=steps)
            policy = jaxpg.Policy.of(result)
            file = tmp_path_factory.mktemp(case) / "one.jaxpolicy"
            policy.export(file)
            obs = np.random.default_rng(0).normal(size=(7, *env.example_obs.shape))
            if case == "q_learning":
                obs = np.eye(obs.shape[-1])[np.arange(7)]
            done[case] = Made(result, policy, file, obs.astype(np.float32))
        return done[case]

    return get


@pytest.fixture(params=CASES)
def case(request, made):
    return made(request.param)


@functools.partial(jax.jit, static_argnums=(0, 6))
def own_action(agent, cfg, env, state, obs, key, greedy):
    return agent.act(cfg, env, state, obs, (), key, greedy)[0]


def act(result, obs, key=None):
    """The agent's own answer for a batch of observations."""
    greedy = key is None
    key = jax.random.key(0) if greedy else key
    return np.asarray(own_action(*result[:4], obs, key, greedy))


@jax.jit
def row(state, seed):
    """The state of one seed, by one program for all."""
    return jax.tree.map(lambda x: x[seed], state)


def same(found, expected):
    """Integers to the byte; numbers as far as two compilations of a program agree."""
    assert isinstance(found, np.ndarray | np.generic)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


# From the run.


@pytest.mark.parametrize("key", [None, 4])
def test_actions_are_those_of_the_agent(case, key):
    key = None if key is None else jax.random.key(key)
    same(case.policy(case.obs, key=key), act(case.result, case.obs, key))
    for i in (0, 3):
        same(case.policy(case.obs[i], key=key), act(case.result, case.obs[i : i + 1], key)[0])
    if case.result.agent.name != "cem":  # which searched greedily, and stays so
        draws = [case.policy(case.obs[0], key=jax.random.key(i)) for i in range(50)]
        assert len(np.unique(draws)) > 1


def test_a_policy_acts_as_numpy_does(made):
    """No code of the agent's: whiten, two layers, clip to the space."""
    state, policy = made("ppo-continuous").result.state, made("ppo-continuous").policy
    obs = made("ppo-continuous").obs
    stats, params = state.obs_stats, jax.tree.map(np.float64, state.params["params"])
    x = (obs - np.float64(stats.mean)) / np.float64(stats.std)
    x = np.clip(x, -10, 10)
    (layer,) = params["actor_torso"].values()
    x = np.tanh(x @ layer["kernel"] + layer["bias"])
    mean = x @ params["actor"]["kernel"] + params["actor"]["bias"]
    np.testing.assert_allclose(policy(obs), 2 * np.clip(mean, -1, 1), rtol=1e-4, atol=1e-5)


def test_only_what_acts_is_kept(made):
    """Neither critics, optimisers nor memories: the policy is smaller than a minibatch."""

    def kept(name):
        return sorted(map(np.shape, made(name).policy.weights))

    def shapes(tree):
        return sorted(map(np.shape, jax.tree.leaves(tree)))

    states = {name: made(name).result.state for name in CASES}
    assert kept("sac") == shapes(states["sac"].learner.params.actor)
    assert kept("dqn") == shapes((states["dqn"].learner.params, states["dqn"].epsilon))
    stats = {name: states[name].obs_stats[1:3] for name in ("cem", "ppo")}  # mean, deviation
    assert kept("cem") == shapes((states["cem"].params, stats["cem"]))
    table = states["q_learning"]
    assert kept("q_learning") == shapes((table.params, table.epsilon))
    ppo = states["ppo"].params["params"]
    actor = {k: v for k, v in ppo.items() if k.startswith("actor")}
    assert kept("ppo") == shapes((actor, stats["ppo"]))


def test_the_policy_outlives_the_state(made):
    """The state's memory is donated when a run goes on; the policy has its own."""
    result, obs = made("ppo").result, made("ppo").obs
    state = jax.tree.map(jnp.copy, result.state)
    policy = jaxpg.Policy.of(result._replace(state=state))
    before = policy(obs)
    for x in jax.tree.leaves(state):
        x.delete()
    np.testing.assert_array_equal(policy(obs), before)


def test_discrete_observations_may_be_integers(made):
    policy, obs = made("q_learning").policy, made("q_learning").obs
    np.testing.assert_array_equal(policy(obs.argmax(-1)), policy(obs))
    assert policy(3) == policy(obs[3])
    assert policy(np.int64(3)).shape == ()
    assert policy.about["states"] == obs.shape[-1]
    for wrong in (-1, obs.shape[-1], [0, 99]):
        with pytest.raises(ValueError, match="allowed are integers >= 0 and < "):
            policy(wrong)


@pytest.mark.parametrize(
    ("obs", "words"),
    [
        (np.zeros(3), r"obs of shape \(3,\): allowed is \(4,\), or \(B, 4\) of a batch"),
        (np.zeros((2, 3)), r"obs of shape \(2, 3\)"),
        (np.zeros((2, 2, 4)), r"obs of shape \(2, 2, 4\)"),
        (np.zeros((0, 4)), r"obs of shape \(0, 4\)"),
        (1.0, r"obs of shape \(\)"),
    ],
)
@pytest.mark.parametrize("where", ["run", "file"])
def test_a_wrong_observation_is_refused(made, obs, words, where):
    policy = made("ppo").policy if where == "run" else jaxpg.Policy.from_file(made("ppo").file)
    with pytest.raises(ValueError, match=words):
        policy(obs)


def test_a_wrong_key_is_refused(made):
    policy, obs = made("ppo").policy, made("ppo").obs
    for wrong in (0, jax.random.PRNGKey(0), jax.random.split(jax.random.key(0)), "a"):
        with pytest.raises(ValueError, match=r"key.*: allowed is"):
            policy(obs, key=wrong)
    with pytest.raises(ValueError, match="threefry2x32"):
        policy(obs, key=jax.random.key(0, impl="rbg"))
    assert policy(obs[0].tolist()) == policy(obs[0])  # a list of numbers is one array


# A run folder.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("seeds") / "run"
    fields = {"num_envs": 2, "num_steps": 4, "hidden": (4,), "minibatches": 1, "num_epochs": 1}
    cfg, env = jaxpg.ppo.Config(**fields), jaxpg.make("CartPole-v1", max_steps_in_episode=8)
    keys = jax.random.split(jax.random.key(0), 3)
    result = jaxpg.run(
        jaxpg.ppo, cfg, env, keys, total_steps=40, out=out, evaluations=0, checkpoints=2
    )
    return out, result


def test_a_seed_of_a_run_folder(folder, made):
    out, result = folder
    obs, seen = made("ppo").obs * 30, set()
    for seed in range(3):
        one = result._replace(state=row(result.state, seed))
        policy = jaxpg.Policy.load(out, seed=seed)
        for i in range(4):
            key = jax.random.key(i)
            same(policy(obs, key=key), act(one, obs, key))
        seen.add(policy.weights[0].tobytes() if hasattr(policy.weights[0], "tobytes") else seed)
    assert len(seen) == 3
    assert policy.about["seed"] == 2
    assert policy.about["iteration"] == result.iteration
    for wrong in (3, -1, 0.0, True, None):
        with pytest.raises(ValueError, match=r"seed=.*: allowed is an integer >= 0 and <= 2"):
            jaxpg.Policy.load(out, seed=wrong)


def test_a_folder_that_cannot_be_trusted(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        jaxpg.Policy.load(tmp_path / "nowhere")
    record = json.loads((folder[0] / "run.json").read_text())
    del record["sha256"]
    write_json(tmp_path / "run.json", record)
    with pytest.raises(CheckpointError, match="found no finished checkpoint"):
        jaxpg.Policy.load(tmp_path)


def test_command(folder, tmp_path, made, monkeypatch, capsys):
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    out, _ = folder
    file = tmp_path / "cartpole.jaxpolicy"
    assert cli.main(["export", str(out), "--out", str(file), "--seed", "1"]) == 0
    assert capsys.readouterr().out == f"{file}  {file.stat().st_size:,} bytes\n"
    obs = made("ppo").obs * 30
    own = jaxpg.Policy.load(out, seed=1)
    np.testing.assert_array_equal(jaxpg.Policy.from_file(file)(obs), own(obs))
    assert list(tmp_path.iterdir()) == [file]

    for line, words in {
        f"export {out} --out {tmp_path}/x --seed 3": "seed=3: allowed is an integer >= 0 and <= 2",
        f"export {tmp_path} --out {tmp_path}/x": "run.json: found no such file",
        f"export {out} --out {tmp_path}/nowhere/x": "allowed is a file in a folder that is there",
    }.items():
        assert cli.main(line.split()) == 2
        err = capsys.readouterr().err
        assert err.startswith("jaxpg: error: ")
        assert err.count("\n") == 1
        assert words in err
    assert cli.main(["export", str(out)]) == 2
    assert "--out PATH" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


# A file.


@pytest.mark.parametrize("size", slow_of([1, 2, 5], 2))
def test_the_file_acts_alike_for_any_batch(case, size):
    policy, obs = jaxpg.Policy.from_file(case.file), case.obs[:size]
    same(policy(obs), case.policy(obs))
    key = jax.random.key(size)
    same(policy(obs, key=key), case.policy(obs, key=key))


def test_without_what_trains(made, tmp_path):
    """In a process where nothing of it can be imported."""
    program = """if True:
        import json, sys
        from importlib.abc import MetaPathFinder

        class Absent(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ABSENT:
                    raise ModuleNotFoundError(f"No module named {name!r}")

        sys.meta_path.insert(0, Absent())
        import jax, numpy as np, jaxpg
        for case, file in json.loads(sys.argv[1]).items():
            policy = jaxpg.Policy.from_file(file)
            obs = np.load(f"{case}.npy")
            np.save(f"{case}-greedy.npy", policy(obs))
            np.save(f"{case}-sampled.npy", policy(obs, key=jax.random.key(9)))
        assert not {m.partition(".")[0] for m in sys.modules} & set(ABSENT)
        """.replace("ABSENT", repr(ABSENT))
    for name in CASES:
        np.save(tmp_path / f"{name}.npy", made(name).obs)
    files = json.dumps({name: str(made(name).file) for name in CASES})
    done = subprocess.run(
        [sys.executable, "-c", program, files],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in CASES:
        result, obs = made(name).result, made(name).obs
        same(np.load(tmp_path / f"{name}-greedy.npy"), act(result, obs))
        same(np.load(tmp_path / f"{name}-sampled.npy"), act(result, obs, jax.random.key(9)))


def test_the_file_says_what_it_is(made):
    file = made("ppo-continuous").file
    magic, line, _ = file.read_bytes().split(b"\n", 2)
    assert magic.startswith(b"jaxpolicy 1 ")
    about = json.loads(line)
    assert about["agent"] == "ppo"
    assert about["environment"]["name"] == "Pendulum-v1"
    assert about["config"]["normalize_obs"] is True
    assert about["observation"] == {"": {"shape": [3], "dtype": "float32"}}
    assert about["action"] == {"shape": [1], "dtype": "float32"}
    assert about["versions"]["jax"] == jax.__version__
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    assert jaxpg.Policy.from_file(file).about == about


def test_a_policy_from_a_file_can_be_exported_again(made, tmp_path):
    policy = jaxpg.Policy.from_file(made("ppo").file)
    policy.export(tmp_path / "again", platforms=["cpu"])
    again = jaxpg.Policy.from_file(tmp_path / "again")
    assert again.about["platforms"] == ["cpu"]
    np.testing.assert_array_equal(again(made("ppo").obs), policy(made("ppo").obs))


def test_a_changed_byte_is_an_error(made, tmp_path):
    data = made("ppo").file.read_bytes()
    bad = tmp_path / "bad"
    places = {0, 10, 20, data.index(b"\n"), data.index(b'"agent"'), len(data) - 1}
    for place in places | set(range(100, len(data), len(data) // 20)):
        changed = bytearray(data)
        changed[place] ^= 1
        bad.write_bytes(changed)
        with pytest.raises(ValueError, match="bad: found"):
            jaxpg.Policy.from_file(bad)
    for other in (data[:-1], data + b"x", data[: len(data) // 2], b"", b"\x89PNG"):
        bad.write_bytes(other)
        with pytest.raises(ValueError, match="bad: found"):
            jaxpg.Policy.from_file(bad)
    with pytest.raises(FileNotFoundError):
        jaxpg.Policy.from_file(tmp_path / "nowhere")


def test_double_precision_says_so(tmp_path):
    file, obs = tmp_path / "double", np.ones((2, 4))
    with jax.enable_x64(True):
        cfg, env = jaxpg.ppo.Config(hidden=(4,)), jaxpg.make("CartPole-v1")
        state = initial_state(jaxpg.ppo, cfg, env, jax.random.key(0))
        metrics = {"episode/return": np.zeros(0)}
        result = Result(jaxpg.ppo, cfg, env, state, metrics, 0, 1, "done", 0.0)
        policy = jaxpg.Policy.of(result)
        policy.export(file)
        np.testing.assert_array_equal(jaxpg.Policy.from_file(file)(obs), policy(obs))
    with pytest.raises(ValueError, match="double: was made under jax_enable_x64"):
        jaxpg.Policy.from_file(file)


# An agent with a memory, and observations of several parts.


class Space(NamedTuple):
    shape: tuple = ()


class Core:
    """As much of an environment as a policy asks for: its observation has two parts."""

    name, default_params = "parts", ()

    def reset(self, key, params):
        return {"place": jnp.zeros(3), "speed": jnp.zeros(())}, ()

    def observation_space(self, params):
        return Space()

    action_space = observation_space


class Memory(NamedTuple):
    table: jax.Array
    rubbish: jax.Array
    key: jax.Array


def remember(cfg, env, state, obs, carry, key, greedy):
    """Adds up what it has seen; behind a `jit` that takes the whole state."""

    @jax.jit
    def inner(state, total):
        return (total[:, None] + obs["place"]) @ state.table

    total = obs["speed"] + (0 if isinstance(carry, tuple) else carry)
    noise = 0 if greedy else jax.random.normal(key, total.shape)
    return inner(state, total) + noise, total


@pytest.fixture(scope="module")
def rememberer():
    state = Memory(jnp.arange(3.0), jnp.zeros((10_000, 100)), jax.random.key(0))
    agent = jaxpg.Agent("mine", jaxpg.ppo.Config, None, None, remember, None)
    env = jaxpg.Env((), Core())
    metrics = {"episode/return": np.zeros(1)}
    result = Result(agent, jaxpg.ppo.Config(), env, state, metrics, 1, 1, "done", 0.0)
    return jaxpg.Policy.of(result)


@pytest.mark.parametrize("where", ["run", "file"])
def test_memory_is_handed_back_and_forth(rememberer, tmp_path, where):
    policy = rememberer
    if where == "file":
        policy.export(tmp_path / "file")
        assert (tmp_path / "file").stat().st_size < 100_000  # not the 4 MB that it never reads
        policy = jaxpg.Policy.from_file(tmp_path / "file")
    assert [x.shape for x in policy.weights] == [(3,)]
    place, speed = np.ones((2, 3)), np.array([1.0, 5.0])
    carry, total = None, np.zeros(2)
    for _ in range(3):
        action, carry = policy({"place": place, "speed": speed}, carry)
        total += speed
        np.testing.assert_array_equal(action, (total + 1) * 3)  # sum of 0, 1, 2
    one, _ = policy({"place": place[0], "speed": speed[0]})
    assert one == 6
    wrong = r"carry of shapes \[\(2,\)\]: allowed are \[\(1,\)\]"
    with pytest.raises(ValueError, match=wrong):
        policy({"place": place[0], "speed": speed[0]}, carry)
    with pytest.raises(ValueError, match=r"parts \[\"\['place'\]\"\]: allowed are"):
        policy({"place": place})
    with pytest.raises(
        ValueError, match=r"obs\['speed'\] of shape \(3,\): allowed is \(\)|batches"
    ):
        policy({"place": place, "speed": np.ones(3)})
    with pytest.raises(ValueError, match="batches"):
        policy({"place": place, "speed": 1.0})


# Every agent, with numbers drawn at random for what it learns.


# Those that act as an agent of CASES does, or of players as self-play does, are in the slow part.
ALIKE = (
    "reinforce", "a2c", "a3c", "impala", "npg", "trpo", "ppo", "ippo", "mappo", "maddpg", "iql",
    "dqn", "td3", "sac", "q_learning", "sarsa", "expected_sarsa", "hill_climbing",
    "steepest_ascent", "simulated_annealing", "adaptive_noise", "cem", "es", "ars", "evosax",
)  # fmt: skip
OPTIONS = ("option_critic", "ppoc")


@pytest.mark.parametrize("name", slow_of(INSTALLED, *ALIKE))
def test_every_agent_can_be_exported(name, tmp_path):
    agent = agents.get(name)
    cfg = agent.Config(**{k: v for k, v in TINY[name].items() if k != "memory"})  # test_memory has
    env = short_env(agent, cfg)
    rng = np.random.default_rng(0)

    def draw(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jax.lax.full_like(x, 0)
        return jnp.asarray(rng.uniform(0.1, 1, x.shape) * rng.choice([1, 3]), x.dtype)

    like = jax.eval_shape(lambda key: initial_state(agent, cfg, env, key), jax.random.key(0))
    metrics = {"episode/return": np.zeros(1)}
    state = jax.tree.map(draw, like)
    policy = jaxpg.Policy.of(Result(agent, cfg, env, state, metrics, 1, 1, "done", 0.0))
    obs = rng.normal(size=(3, *env.example_obs.shape)) * 2
    policy.export(tmp_path / "file", platforms=["cpu"])
    expected, found = policy(obs), jaxpg.Policy.from_file(tmp_path / "file")(obs)
    if name in OPTIONS:  # the option in force is a memory
        (expected, [option]), (found, [other]) = expected, found
        same(np.asarray(other), np.asarray(option))
    same(found, expected)
    if find_spec("onnx") and find_spec("onnxruntime"):
        policy.export_onnx(tmp_path / "model.onnx")
        close(onnx_actions(tmp_path / "model.onnx", obs), expected)


# ONNX.


def onnx_actions(file, obs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["action"], {"obs": np.asarray(obs, np.float32)})[0]


def close(found, expected):
    """Another runtime rounds otherwise."""
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7])
def test_onnx_acts_alike_for_any_batch(case, tmp_path, size):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    case.policy.export_onnx(file)
    close(onnx_actions(file, case.obs[:size]), act(case.result, case.obs[:size]))
    model = onnx.load(file)
    assert json.loads(model.metadata_props[0].value) == case.policy.about


ACTIVATIONS = ("tanh", "relu", "elu", "gelu", "silu", "leaky_relu")


class Convolutions(nn.Module):
    """An image torso, as one of a user's own may be."""

    hidden: tuple
    activation: str
    kernel_init: str

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 2), strides=(2, 1), padding="SAME")(x))
        x = nn.LayerNorm()(nn.Conv(2, (2, 2), padding="VALID", kernel_dilation=(2, 1))(x))
        return nn.silu(nn.Dense(self.hidden[0])(x.reshape(x.shape[0], -1)))


@pytest.mark.parametrize("net", [*ACTIVATIONS, Convolutions])
def test_onnx_of_networks(net, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    env_name, fields = "Pendulum-v1", {"activation": net, "head": "tanh_gaussian_state_std"}
    if net is Convolutions:
        env_name, fields = "Breakout-MinAtar", {"net": net}
    cfg, env = jaxpg.a2c.Config(hidden=(4,), **fields), jaxpg.make(env_name)
    state = initial_state(jaxpg.a2c, cfg, env, jax.random.key(1))
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)  # noqa: E731
    state = state._replace(params=jax.tree.map(draw, state.params))
    metrics = {"episode/return": np.zeros(1)}
    result = Result(jaxpg.a2c, cfg, env, state, metrics, 1, 1, "done", 0.0)
    jaxpg.Policy.of(result).export_onnx(tmp_path / "model.onnx")
    obs = rng.normal(size=(50, *env.example_obs.shape))
    expected = act(result, obs.astype(np.float32))
    assert len(np.unique(expected)) > 1
    close(onnx_actions(tmp_path / "model.onnx", obs), expected)


def test_onnx_with_memory_and_what_it_cannot_say(rememberer, made, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    rememberer.export_onnx(file)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    feed = {"obs['place']": np.ones((2, 3)), "obs['speed']": np.array([1, 5]), "carry0": [2, 3]}
    feed = {name: np.asarray(x, np.float32) for name, x in feed.items()}
    action, carry = session.run(["action", "next_carry0"], feed)
    np.testing.assert_array_equal(carry, [3, 8])
    np.testing.assert_array_equal(action, [12, 27])

    with pytest.raises(ValueError, match="ONNX: the policy uses 'call_exported'"):
        jaxpg.Policy.from_file(made("ppo").file).export_onnx(tmp_path / "x")
    assert list(tmp_path.iterdir()) == [file]


def test_onnx_is_an_extra(made, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs the extra"):
        made("ppo").policy.export_onnx(tmp_path / "x")
