"""`check_env` finds every planted mistake by the line of the contract that it breaks."""

import dataclasses
import random
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.core.plan import plan_run
from jaxpg.core.single import STEP
from jaxpg.core.spaces import MultiBinary
from jaxpg.envs import contract, registry
from jaxpg.envs.contract import episodes
from tests import small_games
from tests.conftest import TINY, slow_of

Box, Discrete = spaces.Box, spaces.Discrete
ROOT = Path(__file__).parents[1]


@struct.dataclass
class Params:
    max_steps_in_episode: int = 40
    mistake: int = 0  # a number, so that all of these are one program


@struct.dataclass
class State:
    x: jax.Array
    time: jax.Array


# Mistakes that only a run shows, by their numbers.
RUN = {
    "a NaN in an observation": ("finite", r"observation of step has a NaN or infinity"),
    "an infinite reward": ("finite", "reward is inf after some step"),
    "a NaN in a signal": ("finite", "the signal 'toll' is nan after some step"),
    "an observation out of its space": ("bounds", r"\[0\] of step goes from .* its space from -4"),
    "an observation that is not reset": ("auto-reset", "has terminated is still that of the epis"),
    "a state that is not reset": (
        "auto-reset",
        "the state after an episode has terminated is none",
    ),
    "a reset where it terminates alone": ("auto-reset", "observation after .* truncated is still"),
    "the next episode's observation": ("final observation", "is the first one of the next"),
    "the observation before": ("final observation", "another one than the observation while"),
    "a time limit that terminates": (
        "time limit",
        "terminated is set where max_steps_in_episode=10",
    ),
    "a time limit that does both": (
        "time limit",
        "terminated is set where max_steps_in_episode=10",
    ),
    "a time limit that nobody keeps": (
        "time limit",
        "with max_steps_in_episode=10 an episode goes",
    ),
    "both flags at a natural end": ("time limit", "both set at an end that is no time limit"),
    "episodes that begin alike": ("keys", "after one has terminated begins in one state"),
    "no action that is legal": ("mask", "action_mask leaves no action"),
}


class Walk:
    """A walk on a line from a random place: beyond 2 it terminates, a limit truncates it."""

    name, default_params, signals = "Walk", Params(), ("toll",)

    def __init__(self, **other):
        vars(self).update(other)

    def action_space(self, params):
        return Discrete(2)

    def observation_space(self, params):
        return Box(-4.0, 4.0, (2,))

    def obs(self, state):
        return jnp.stack([state.x, state.time / 100])

    def reset(self, key, params):
        state = State(jax.random.uniform(key, (), float, -1, 1), jnp.zeros((), jnp.int32))
        return self.obs(state), state

    def step(self, key, state, action, params):
        planted = {name: params.mistake == i for i, name in enumerate(RUN, 1)}
        choose = lambda name, wrong, right: jnp.where(planted[name], wrong, right)  # noqa: E731
        k_move, k_reset = jax.random.split(key)
        x = state.x + 0.6 * action - 0.3 + 0.1 * jax.random.normal(k_move, (), float)
        after = State(x, state.time + 1)
        over, late = abs(x) > 2, after.time >= params.max_steps_in_episode
        late &= ~planted["a time limit that nobody keeps"]
        merged = planted["a time limit that terminates"] | planted["a time limit that does both"]
        terminated = over | (late & merged)
        truncated = late & ~planted["a time limit that terminates"]
        truncated |= over & planted["both flags at a natural end"]
        ended = terminated | truncated
        k_reset = jax.random.wrap_key_data(
            choose(
                "episodes that begin alike", jnp.zeros(2, jnp.uint32), jax.random.key_data(k_reset)
            )
        )
        fresh_obs, fresh = self.reset(k_reset, params)
        seen = self.obs(after)
        seen = seen.at[0].set(choose("a NaN in an observation", jnp.nan, seen[0]))
        seen = seen.at[0].multiply(choose("an observation out of its space", 10.0, 1.0))
        back = ended & ~planted["an observation that is not reset"]
        back &= ~(planted["a reset where it terminates alone"] & ~over)
        obs = jnp.where(back, fresh_obs, seen)
        final = choose("the next episode's observation", obs, seen)
        final = choose("the observation before", self.obs(state), final)
        kept = ended & ~planted["a state that is not reset"]
        new = jax.tree.map(lambda a, b: jnp.where(kept, a, b), fresh, after)
        reward = choose("an infinite reward", jnp.inf, 1.0)
        mask = jnp.ones(2, bool) & ~planted["no action that is legal"]
        toll = choose("a NaN in a signal", jnp.nan, 0.0)
        info = {"final_observation": final, "action_mask": mask, "toll": toll}
        return obs, new, reward, terminated, truncated, info


class InGymnax(environment.Environment):
    """The same walk in gymnax's class, which resets and truncates by itself."""

    name, default_params = "InGymnax", Params()
    obs, action_space, observation_space = Walk.obs, Walk.action_space, Walk.observation_space
    reset_env = Walk.reset

    def step_env(self, key, state, action, params):
        state = State(state.x + 0.6 * action - 0.3, state.time + 1)
        return self.obs(state), state, 1.0, abs(state.x) > 2, {}


class Inherited(InGymnax):
    """It keeps gymnax's parameters, and with them a limit of one step."""

    default_params = environment.EnvParams()


class Unfinished(environment.Environment):
    """Without step_env and the spaces."""

    reset_env = Walk.reset


class Timeless(InGymnax):
    """gymnax's is_truncated asks for the state's time."""

    def reset_env(self, key, params):
        return jnp.zeros(2), {"x": jnp.zeros(())}

    def step_env(self, key, state, action, params):
        return jnp.zeros(2), state, 1.0, False, {}


class Pooled(InGymnax):
    reset_pool = 0


class Integers(InGymnax):
    def step_env(self, key, state, action, params):
        obs, *others = super().step_env(key, state, action, params)
        return (obs.astype(jnp.int32), *others)


class SixParts(InGymnax):
    def step_env(self, key, state, action, params):
        return (*super().step_env(key, state, action, params)[:4], False, {})


@dataclasses.dataclass
class NoHash(Walk):
    size: int = 3

    def __init__(self):
        pass


class Counter(Walk):
    """Counts in the object."""

    steps = 0

    def step(self, key, state, action, params):
        self.steps += 1
        return super().step(key, state, action, params)


class Keeper(Walk):
    """Keeps what it has computed."""

    def reset(self, key, params):
        obs, self.state = super().reset(key, params)
        return obs, self.state


class Filler(Walk):
    """Writes into an array of its own."""

    def __init__(self):
        self.seen = np.zeros(3)

    def reset(self, key, params):
        self.seen[0] += 1
        return super().reset(key, params)


KEPT = []


def reset_into_a_global(key, params):
    obs, state = Walk().reset(key, params)
    KEPT[:] = [obs + 1]
    return obs, state


APPLY = jax.jit(lambda function, x: function(x), static_argnums=0)


def reset_through_jit(key, params):
    """JAX's cache keeps the function, and with it what it closes over."""
    obs, state = Walk().reset(key, params)
    return APPLY(lambda x: (x + obs) / 2, obs), state


def reset_by_python(key, params):
    obs, state = Walk().reset(key, params)
    return obs + random.random() / 100, state


def reset_by_another_key(key, params):
    return Walk().reset(jax.random.key(3), params)


def step_with_if(key, state, action, params):
    reward = 1.0 if state.x > 0 else 0.0
    return (*Walk().step(key, state, action, params)[:2], reward)


def changed(**values):
    """A walk whose step gives another value for some of its six."""

    def step(key, state, action, params):
        given = dict(zip(STEP, Walk().step(key, state, action, params), strict=True))
        info = values.get("info", given["info"])
        return tuple((given | values | {"info": info}).values())

    return Walk(step=step)


def reset_to(change):
    return Walk(reset=lambda key, params: change(*Walk().reset(key, params)))


def seen_as(space):
    return Walk(observation_space=lambda params: space)


def params_of(value):
    return Walk(default_params=value)


class Bare:
    """No pytree."""


class Nothing:
    default_params = ()


class Floats(InGymnax):
    """Says integers, and gives floats."""

    def obs(self, state):
        return state.x

    def observation_space(self, params):
        return Discrete(3)


@struct.dataclass
class Named(Params):
    """One of its leaves is no number."""

    map: str = "S..G"


class Parts(InGymnax):
    """Sees a dict, and says a Box."""

    def obs(self, state):
        return {"x": super().obs(state)}


def game_of(**other):
    core = small_games.Hunt()
    vars(core).update(other)
    return core


FLAG, INFO = jnp.zeros((), bool), {"final_observation": jnp.zeros(2)}
# Mistakes that shapes, or two traces, show. Those above the line are what `run` says, too.
SHAPES = {
    "integers after floats": (
        changed(obs=jnp.zeros(2, int)), "observation", "reset and step have float32 and int32: al"
    ),
    "integers of step_env": (
        Integers(), "observation", "of reset and step_env have float32 and int32: allowed is one"
    ),
    "a text in info": (
        changed(info=INFO | {"note": "x"}), "values", r"info\[.note.\] is a str: allowed are arr"
    ),
    "a text in the state": (
        reset_to(lambda obs, _: (obs, {"a": "x"})), "values", r"state\[.a.\] is a str: allowed are"
    ),
    "no methods": (Nothing(), "methods", "Nothing has no reset: allowed is a core with"),
    "no parameters": (params_of(Bare()), "parameters", "of Bare, which is no pytree.*struct.datac"),
    "a name among the parameters": (params_of(Named()), "parameters", "map is a str.*pytree_node"),
    "gym's reset": (Walk(reset=lambda: 0), "methods", r"takes \(\), allowed is reset\(key, params"),
    "gym's step": (Walk(step=lambda action: 0), "methods", r"\(action\), allowed is step\(key, st"),
    "a space without parameters": (
        Walk(action_space=lambda: Discrete(2)), "methods", "allowed is action_space\\(params\\)"
    ),
    "a space that fails": (
        Walk(action_space=lambda params: Discrete(params.size)), "action space",
        "action_space fails, AttributeError",
    ),
    "nothing but gymnax's class": (Unfinished(), "methods", "gymnax's class asks for action_space"),
    "no hash": (NoHash(), "hash", "NoHash has no hash.*eq=False"),
    "a name that is none": (Walk(name=3), "methods", "Walk name=3: allowed is a text"),
    "reset gives obs alone": (reset_to(lambda obs, _: obs), "values", "reset gives .* obs, state"),
    "gymnasium's five values": (
        Walk(step=lambda key, state, action, params: (0, state, 0.0, FLAG, {})), "values",
        "step gives 5 values, allowed are obs.*; in place of one done: terminated .* truncated",
    ),
    "six parts": (SixParts(), "values", "step_env gives 6 values.*is_truncated\\(state, params\\)"),
    "a list": (
        Walk(step=lambda *args: [*Walk().step(*args)]), "values", "step gives list, allowed are obs"
    ),
    "a reward in a row": (changed(reward=jnp.zeros(1)), "reward", r"float32 and shape \(1,\)"),
    "a number for an end": (changed(terminated=jnp.zeros(())), "ends", "of float32.*a bool"),
    "no successor": (changed(info={}), "final observation", "no 'final_observation', the true"),
    "another shape than at first": (
        changed(obs=jnp.zeros(3)), "observation", r"of reset and step are \(2,\) and \(3,\)"
    ),
    "another shape than its space": (
        seen_as(Box(-4.0, 4.0, (3,))), "observation", r"of shape \(2,\), its space of \(3,\)"
    ),
    "another state than at first": (
        changed(state=jnp.zeros(())), "state", "states of reset and step are State"
    ),
    "a state of another dtype": (
        reset_to(lambda obs, state: (obs, state.replace(x=0))), "state",
        "x of int32 and float32: allowed is one dtype",
    ),
    "an if": (
        Walk(step=step_with_if), "traceable",
        "cannot be traced, TracerBoolConversionError.*jnp.where",
    ),
    "NumPy": (
        reset_to(lambda obs, state: (np.sin(np.asarray(obs)), state)), "traceable",
        "TracerArrayConversionError.*jax.numpy",
    ),
    "no time": (Timeless(), "traceable", "is_truncated asks for state.time"),
    "a mask of another size": (
        changed(info=INFO | {"action_mask": jnp.ones(3, bool)}), "mask", r"shape \(3,\).*\(2,\)"
    ),
    "a mask of parts": (
        changed(info=INFO | {"action_mask": {"a": jnp.ones(2)}}), "mask", r"is no array.*\(2,\)"
    ),
    "an array in a Dict": (
        seen_as(spaces.Dict({"a": Box(-4.0, 4.0, (2,))})), "observation",
        "is an array, its space a Dict: both the same",
    ),
    "an array in a Tuple": (
        seen_as(spaces.Tuple([Box(-4.0, 4.0, (2,))])), "observation", "its space a Tuple of 1"
    ),
    "bounds the wrong way": (
        Walk(action_space=lambda params: Box(1.0, -1.0, (2,))), "action space", "low=1.0 and high"
    ),
}  # fmt: skip
TRACES = {
    "a dict in a Box": (
        Parts(), "observation space", "is a dict, its space a Box: allowed is a Dict"
    ),
    "groups of more players than there are": (
        game_of(players=2), "players", "allowed are 2 players in all"
    ),
    "a kind that sees nothing": (
        game_of(groups={"hunters": 2, "foxes": 1}), "players", "allowed are .'foxes', 'hunters'."
    ),
    "a game without rewards of its players": (
        game_of(signals=("alive",)), "players", r"one 'rewards' of shape \(3,\)"
    ),
    "actions of no kind": (
        Walk(action_space=lambda params: spaces.Tuple([Discrete(2)])), "action space",
        "action space Tuple.*: allowed is Discrete, MultiDiscrete, MultiBinary or Box",
    ),
    "observations of no kind": (
        seen_as(Bare()), "observation space", "is a Bare: allowed is a Box, Discrete, Dict or Tuple"
    ),
    "observations between wrong bounds": (
        seen_as(Box(4.0, -4.0, (2,))), "observation space", "low=4.0 and high=-4.0"
    ),
    "a float in a Discrete": (
        Floats(), "observation", "of float32, its space Discrete"
    ),
    "an observation of another dtype": (
        changed(obs=jnp.zeros(2, jnp.float16)), "observation", "have float32 and float16: allowed"
    ),
    "a signal that is not there": (Walk(signals=("cost",)), "signals", "of a step has no 'cost'"),
    "a goal that nothing reaches": (
        Walk(goal_reward=lambda *args: 0.0), "goals", "it has no goal_reached, allowed are both of"
    ),
    "a pool of nothing": (
        Pooled(), "reset pool", "reset_pool=0: allowed is an integer >= 1"
    ),
    "one step, as gymnax has it": (Inherited(), "time limit", "ends after one step: give it in"),
    "a counter": (Counter(), "pure", "reset or step changes self.steps: what changes belongs in"),
    "a value of a trace": (Keeper(), "pure", "a trace leaves its values in self.state"),
    "an array that is written": (Filler(), "pure", "reset or step changes self.seen"),
    "a global": (Walk(reset=reset_into_a_global), "pure", "cannot be repeated.*Leaked"),
    "Python's random numbers": (Walk(reset=reset_by_python), "pure", "traced to another program"),
    "a key of its own": (Walk(reset=reset_by_another_key), "keys", "draws random numbers and not"),
}  # fmt: skip


def faults_of(env):
    """The faults by rule, as the error lists them."""
    with pytest.raises(ValueError, match="breaks the contract of environments") as error:
        jaxpg.check_env(env)
    _, *lines = str(error.value).splitlines()
    assert all(line.startswith("- ") for line in lines)
    return [tuple(line.removeprefix("- ").split(": ", 1)) for line in lines]


def assert_only(env, rule, words, more=frozenset()):
    found = faults_of(env)
    assert {name for name, _ in found} == {rule, *more}, found
    words = words.removeprefix("Nothing ").removeprefix("Walk ")
    assert any(re.search(words, text) for _, text in found), found
    assert rule in contract.RULES


@pytest.mark.parametrize("case", slow_of(SHAPES | TRACES, "a global"))  # JAX looks for it
def test_a_mistake_that_needs_no_run_is_found(case, monkeypatch):
    """Without the run, which the slow part has."""
    monkeypatch.setattr(episodes, "find_faults", lambda env: [])
    assert_only(*(SHAPES | TRACES)[case])


# What a run shows of them, too.
MORE = {
    "a float in a Discrete": {"bounds"},
    "an observation of another dtype": {"final observation"},
}


@pytest.mark.slow  # as "a global", and what was compiled is lost
def test_what_jax_keeps_in_its_own_caches_is_no_fault(monkeypatch):
    core = Walk(reset=reset_through_jit)
    with pytest.raises(Exception, match="Leaked"), jax.checking_leaks():
        jax.make_jaxpr(core.reset)(jax.random.key(0), Params())
    monkeypatch.setattr(episodes, "find_faults", lambda env: [])
    jaxpg.check_env(core)


@pytest.mark.slow
@pytest.mark.parametrize("case", TRACES)
def test_nothing_else_is_found(case):
    assert_only(*TRACES[case], MORE.get(case, ()))


@pytest.mark.parametrize("case", SHAPES)
def test_a_run_says_the_same(case):
    """And neither a KeyError nor "not enough values to unpack"."""
    core, _, words = SHAPES[case]
    env, cfg = jaxpg.Env(core.default_params, core), jaxpg.ppo.Config(**TINY["ppo"])
    with pytest.raises(ValueError, match=words) as error:
        plan_run(jaxpg.ppo, cfg, env, jax.random.key(0), total_steps=8)
    assert "\n" not in str(error.value)


WALK, USUAL = Walk(), Params(mistake=np.int32(0))


@pytest.mark.parametrize("case", RUN)
def test_a_mistake_that_a_run_shows_is_found(case):
    """All are one program."""
    params = Params(mistake=list(RUN).index(case) + 1)
    assert_only(jaxpg.Env(params, WALK), *RUN[case])


def test_several_mistakes_are_said_at_once():
    core = changed(reward=jnp.zeros(1), terminated=jnp.zeros(()), info={})
    assert [rule for rule, _ in faults_of(core)] == ["reward", "ends", "final observation"]


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Cliff-jaxpg"])
def test_environments_that_are_right_pass(name):
    assert jaxpg.check_env(jaxpg.make(name)) is None


def test_a_core_of_ones_own_passes():
    jaxpg.check_env(WALK)
    jaxpg.check_env("tests.test_check_env:InGymnax")


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_every_environment_passes(name):
    jaxpg.check_env(name)


@struct.dataclass
class Kept:
    """A counter over all episodes, as wrappers that log have it."""

    inner: State
    episodes: jax.Array
    key: jax.Array


class Logging(Walk):
    """What is right, and looks wrong: a state with a key and a counter that no end sets back; an
    observation of several parts, NaN where nothing follows; no parameters; actions of many bits."""

    default_params, signals = (), ()

    def action_space(self, params):
        return MultiBinary((2, 2))

    def observation_space(self, params):
        return spaces.Dict({"x": Box(-9.0, 9.0, (2,)), "one": Discrete(3)})

    def reset(self, key, params):
        obs, state = WALK.reset(key, USUAL)
        return self.parts(obs), Kept(state, jnp.zeros((), jnp.int32), key)

    def parts(self, obs):
        return {"x": obs, "one": jnp.zeros((), jnp.int32)}

    def step(self, key, state, action, params):
        action = action.sum() % 2
        obs, inner, reward, over, late, info = WALK.step(key, state.inner, action, USUAL)
        final = jnp.where(over, jnp.nan, info["final_observation"])
        state = Kept(inner, state.episodes + (over | late), key)
        info = {"final_observation": self.parts(final), "action_mask": jnp.ones(4, bool)}
        return self.parts(obs), state, reward, over, late, info


@pytest.mark.slow
def test_what_only_looks_wrong_passes():
    jaxpg.check_env(Logging())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "env=5: allowed is what jaxpg.make gives, .* or a core, with reset, step"),
        (Walk, "env=<class .*an instance of that class"),
        ("Walk-v0", "unknown environment 'Walk-v0'"),
    ],
)
def test_what_is_no_environment_is_named(given, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.check_env(given)


def test_the_page_has_every_line_of_the_contract():
    page = (ROOT / "docs" / "environments.md").read_text()
    found = dict(re.findall(r"^\| `([a-z -]+)` \| (.+) \|$", page, re.M))
    assert found.keys() == contract.RULES.keys()
    planted = {rule for _, rule, _ in (SHAPES | TRACES).values()} | {
        rule for rule, _ in RUN.values()
    }
    assert planted == contract.RULES.keys()
