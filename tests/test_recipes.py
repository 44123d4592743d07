"""Whatever `make` takes comes back from JSON; traced parameters are taken, the rest is refused."""

import dataclasses
import json
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxpg
from jaxpg.cli import main
from jaxpg.core import env as E
from jaxpg.core.protocol import check_environment
from jaxpg.envs import registry, tabular
from jaxpg.envs.finance import portfolio
from tests.tabular import Constant

KEY = jax.random.key(0)


class Given(Constant):
    """An environment that keeps what its constructor got, and arrays made of it."""

    def __init__(self, anything=None, size: int = 3, flag: bool = False, word: str = "a",
                 weights=(1.0, 2.0), scale: float = 1.0):  # fmt: skip
        super().__init__(terminates=True)
        if size > 100:
            raise OverflowError("too much")
        self.given, self.size, self.array = anything, size, jnp.arange(size) * scale


@struct.dataclass
class Rich:
    """Parameters of all kinds."""

    pair: tuple = (1.0, (2.0, 3.0))
    table: np.ndarray = dataclasses.field(default_factory=lambda: jnp.zeros(2, jnp.uint8))
    offset: float | None = None
    furthest: float = np.inf
    mode: str = struct.field(pytree_node=False, default="easy")
    cells: tuple = struct.field(pytree_node=False, default=(2, 3))
    rule: Any = struct.field(pytree_node=False, default=print)
    max_steps_in_episode: int = 8


class OfRich(Constant):
    default_params = Rich()


for name, factory in {"Given-test": Given, "Rich-test": lambda: OfRich(True)}.items():
    if name not in gymnax.registered_envs:
        gymnax.register(name, factory)


def make(**params):
    return jaxpg.make("Given-test", **params)


def through_json(env):
    return registry.from_dict(json.loads(json.dumps(registry.to_dict(env))))


def same(a, b):
    """Whether two values are of the same kind and equal, at any depth."""
    if hasattr(a, "dtype"):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


VALUES = {
    "a tuple": ((1.0, -1.0, 0.0), (1.0, -1.0, 0.0)),
    "a list": ([8, 9], (8, 9)),
    "nested": ([(1, True), ["a", None], ()], ((1, True), ("a", None), ())),
    "an array": (np.arange(6, dtype=np.uint8).reshape(2, 3),) * 2,
    "an array of JAX": (jnp.array([0.1, 0.7]),) * 2,
    "an array in a tuple": ((np.ones(2), 3), (np.ones(2), 3)),
    "an array without elements": (np.zeros((0, 3)),) * 2,
    "words": (("SFFF", "FHFH"), ("SFFF", "FHFH")),
    "an array of words": (np.array(["SF", "HG"]), ("SF", "HG")),
    "text": ("8x8", "8x8"),
    "a truth": (True, True),
    "nothing": (None, None),
    "a number of NumPy": (np.float32(0.1), float(np.float32(0.1))),
    "a number of JAX": (jnp.array(3), 3),
    "a large integer": (2**70, 2**70),
}


@pytest.mark.parametrize("name", VALUES)
def test_an_argument_comes_back(name):
    value, kept = VALUES[name]
    env = make(anything=value)
    again = through_json(env)
    assert same(env.core.given, kept)
    assert again.core is env.core
    assert again == env
    assert hash(again) == hash(env)
    assert registry.with_params(again, max_steps_in_episode=5).core is env.core
    assert jax.tree.structure(again) == jax.tree.structure(env)


def test_arguments_that_python_calls_equal_are_not():
    """True is 1 and 1.0 to a dict."""
    values = (1, True, 1.0, (1,), (True,), "1", np.ones(1), jnp.ones(1), (1.0,), None)
    envs = [make(anything=value) for value in values]
    assert len({env.made_of for env in envs}) == len(values)
    assert len({id(env.core) for env in envs}) == len(values)
    assert all(a is b or a != b for a in envs for b in envs)


def test_environments_with_arrays_are_compared():
    acrobot = jaxpg.make("Acrobot-v1")
    assert acrobot == through_json(acrobot)
    assert hash(acrobot) == hash(through_json(acrobot))
    other = registry.with_params(acrobot, available_torque=[-1.0, 0.0, 2.0])
    assert acrobot != other
    assert acrobot != jaxpg.make("CartPole-v1")
    assert acrobot != "Acrobot-v1"
    assert other.params.available_torque.dtype == jnp.float32


RICH = {
    "as they are": {},
    "a tuple": {"pair": [4, np.array([5.0, 6.0])]},
    "an array": {"table": [7, 8]},
    "an optional number": {"offset": 0.5},
    "an optional array": {"offset": (0.5, 1.0)},
    "text": {"mode": "hard"},
    "a part of the program": {"cells": [4, 5, 6]},
}


@pytest.mark.parametrize("case", RICH)
def test_parameters_of_every_kind_come_back(case):
    """In the structure of their defaults; what JSON cannot say stays the default."""
    env = jaxpg.make("Rich-test", **RICH[case])
    again = through_json(env)
    assert again == env
    assert [x.dtype for x in map(np.asarray, jax.tree.leaves(again))] == [
        x.dtype for x in map(np.asarray, jax.tree.leaves(env))
    ]
    assert again.params.rule is print
    assert again.params.table.dtype == jnp.uint8
    assert registry.with_params(again, furthest=3.0).params.furthest == 3
    check_environment(env)
    assert jax.jit(lambda env: env.params.pair[1][1] * len(env.params.cells))(again) > 5


def test_parameters_of_another_kind_are_refused():
    for params, words in {
        "rule": (max, "rule=<built-in function max>: allowed"),
        "mode": (3, "mode=3: allowed is a string"),
        "furthest": (np.inf, "furthest=inf: allowed is a finite number"),
        "pair": ("ab", "pair='ab': allowed is a finite number"),
        "table": ([[1, 2], [3]], "table=.*: allowed is rows of one length"),
    }.items():
        with pytest.raises(ValueError, match=words[1]):
            jaxpg.make("Rich-test", **{params: words[0]})


GYMNAX = {
    "rewards": ("FrozenLake-misc", {"reward_schedule": (1.0, -1.0, 0.0)}),
    "a map": ("FrozenLake-misc", {"desc": ["SFF", "FHF", "FFG"], "map_name": None}),
    "a goal": ("FourRooms-misc", {"goal_fixed": [8, 9], "pos_fixed": np.array([4, 1])}),
    "a size": ("DeepSea-bsuite", {"size": 4.0, "deterministic": False}),
    "prices": ("AlmgrenChriss-jaxpg", {"assets": 2, "price": [1.0, 2.0]}),
}


@pytest.mark.parametrize("case", GYMNAX)
def test_arguments_of_gymnax_s_come_back(case):
    name, params = GYMNAX[case]
    env = jaxpg.make(name, **params)
    assert through_json(env) == env
    jax.eval_shape(lambda key: E.reset(env, key, 2), KEY)


REFUSED = {
    "an object": ({"anything": object()}, "anything=<object.*allowed is a finite number, text"),
    "a function": ({"anything": print}, "anything=<built-in.*allowed is a finite number"),
    "a dict": ({"anything": {"a": 1}}, r"anything={'a': 1}: allowed is a finite number"),
    "a set": ({"anything": {1}}, "anything=.1.: allowed is a finite number"),
    "NaN in a tuple": ({"anything": (1.0, np.nan)}, r"anything=\(1.0, nan\): allowed"),
    "an infinite array": ({"anything": np.array([np.inf])}, "anything=array.*allowed"),
    "complex": ({"anything": 1j}, "anything=1j: allowed"),
    "a key": ({"anything": KEY}, "anything=.*allowed"),
    "a truth for an integer": ({"size": True}, "size=True: allowed is an integer"),
    "text for an integer": ({"size": "3"}, "size='3': allowed is an integer"),
    "a truth for a number": ({"scale": False}, "scale=False: allowed is a finite number"),
    "an integer for a truth": ({"flag": 1}, "flag=1: allowed is True or False"),
    "a number for text": ({"word": 3}, "word=3: allowed is a string"),
    "a list for text": ({"word": ["a"]}, r"word=\['a'\]: allowed is a string"),
    "truths for weights": ({"weights": (True, False)}, "weights=.*allowed is a finite number"),
    "an object among weights": (
        {"weights": (1.0, object())},
        "weights=.*allowed is a finite number",
    ),
    "a truth among weights": ({"weights": (1.0, True)}, "weights=.*allowed is a finite number"),
    "text among weights": ({"weights": (1.0, "a")}, "weights=.*allowed is a finite number"),
    "what the constructor refuses": ({"size": 1000}, "Given-test .*1000.*OverflowError too much"),
    "half a step": ({"max_steps_in_episode": 1.5}, "episode=1.5: allowed is an integer >= 1"),
    "a truth for steps": ({"max_steps_in_episode": True}, "episode=True: allowed is an integer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_json_cannot_say_or_nobody_means_is_refused(case):
    params, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        make(**params)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("DeepSea-bsuite", {"size": True}, "size=True: allowed is an integer"),
        (
            "DeepSea-bsuite",
            {"action_mapping_key": KEY},
            "action_mapping_key=.*allowed is a finite number",
        ),
        ("CartPole-v1", {"gravity": True}, "gravity=True: allowed is a finite number"),
        ("FourRooms-misc", {"resample_goal_pos": 1}, "resample_goal_pos=1: allowed is True or"),
        ("FrozenLake-misc", {"reward_schedule": 3}, "reward_schedule.*TypeError"),
        ("MetaMaze-misc", {"maze_size": 4}, "maze_size.*AssertionError"),
    ],
)
def test_gymnax_s_own_refuse_in_one_line(name, params, words):
    with pytest.raises(ValueError, match=words) as error:
        jaxpg.make(name, **params)
    assert "\n" not in str(error.value)


WORDS = ("x=[1,2]", "map_name=[1]", "reward_schedule={}", "success_rate=true", "is_slippery=1")


@pytest.mark.parametrize("word", WORDS)
def test_a_parameter_of_the_command_is_one_line(word, capsys):
    assert main(["train", "q_learning", "FrozenLake-misc", "--param", word]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxpg: error: ")
    assert error.count("\n") == 1


def test_a_run_with_a_tuple_can_be_loaded_and_resumed(tmp_path):
    agent, cfg = jaxpg.q_learning, jaxpg.q_learning.Config(num_envs=2, num_steps=4)
    env = jaxpg.make("FrozenLake-misc", reward_schedule=(1.0, -1.0, 0.0), desc=("SF", "HG"))
    settings = {"total_steps": 32, "chunk": 2, "checkpoints": 2}
    stop = [lambda event: True]
    jaxpg.run(agent, cfg, env, KEY, out=tmp_path / "a", callbacks=stop, evaluations=0, **settings)
    assert jaxpg.load(tmp_path / "a").env == env
    done = jaxpg.resume(tmp_path / "a")
    assert done.iteration == 4
    whole = jaxpg.run(agent, cfg, env, KEY, evaluations=0, **settings)
    jax.tree.map(np.testing.assert_array_equal, done.state.params, whole.state.params)


# Traced parameters.


def test_make_takes_a_traced_parameter():
    """The call of the page."""

    def best(slip):
        env = jaxpg.make("GridWorld-jaxpg", map="S..#/...G", slip=slip)
        return tabular.model(env).P

    slips = jnp.array([0.0, 0.1, 0.3])
    each = jax.jit(jax.vmap(best))(slips)
    for slip, P in zip(slips, each, strict=True):
        np.testing.assert_allclose(jax.jit(best)(slip), P)
        np.testing.assert_allclose(best(float(slip)), P, atol=1e-6)


def test_with_params_takes_traced_parameters_and_what_follows_from_them():
    env = jaxpg.make("CartPole-v1")
    state = E.reset(env, KEY, 1)

    def after(gravity, masspole):
        other = registry.with_params(env, gravity=gravity, masspole=masspole)
        _, t = E.step(other, state, jnp.zeros(1, jnp.int32), KEY)
        return t.next_obs, other.params.total_mass

    pairs = jnp.array([5.0, 10.0]), jnp.array([0.1, 0.7])
    obs, mass = jax.jit(jax.vmap(after))(*pairs)
    np.testing.assert_allclose(mass, [1.1, 1.7])
    for i, pair in enumerate(zip(*map(np.asarray, pairs), strict=True)):
        np.testing.assert_allclose(obs[i], after(*map(float, pair))[0], rtol=1e-5)


def test_a_parameter_of_a_market_has_a_gradient():
    w = jnp.array([0.5])

    def growth(rate):
        return portfolio.growth(jaxpg.make("Portfolio-jaxpg", rate=rate), w)

    np.testing.assert_allclose(jax.grad(growth)(0.02), 0.5, rtol=1e-5)  # 1 - w

    def reward(cost):
        env = jaxpg.make("Portfolio-jaxpg", cost=cost)
        return E.step(env, E.reset(env, KEY, 1), jnp.array([[0.5]]), KEY)[1].reward[0]

    assert jax.jit(jax.grad(reward))(0.01) < -0.4


def test_an_environment_first_made_inside_a_trace_is_no_worse_for_it():
    made = jax.jit(lambda n: make(size=7, scale=2.0, max_steps_in_episode=n).params)(5)
    assert made.max_steps_in_episode == 5
    with jax.checking_leaks():
        jax.jit(lambda n: make(size=9, max_steps_in_episode=n).params)(5)
    assert make(size=7, scale=2.0).core.array.tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_what_is_traced_and_cannot_be_is_named():
    with pytest.raises(ValueError, match="size is traced: allowed is a value that is known"):
        jax.jit(lambda n: make(size=n).params)(3)
    with pytest.raises(ValueError, match="anything is traced"):
        jax.jit(lambda n: make(anything=(1, n)).params)(3)
    with pytest.raises(ValueError, match=r"slip=1\.5: allowed is a number"):
        jax.jit(lambda: jaxpg.make("GridWorld-jaxpg", slip=1.5).params)()
    with pytest.raises(ValueError, match="gravity is traced: allowed are numbers"):
        jax.jit(lambda g: registry.to_dict(jaxpg.make("CartPole-v1", gravity=g)))(3.0)
