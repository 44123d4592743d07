"""What every agent promises. A new agent is one row in conftest.TINY."""

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.parallel.lanes import stack
from jaxpg.core.run import run
from jaxpg.core.spaces import MultiDiscrete
from jaxpg.core.train import initial_state, iterate, with_horizon
from jaxpg.experiment.callbacks.guards import NonFiniteError, nan_guard
from tests.conftest import CONTINUOUS, DISCRETE, INSTALLED, RATE, RUIN, TINY, short_env, slow_of
from tests.tabular import Odd, make

ITERATIONS = 9
TABLES = ("q_learning", "sarsa", "expected_sarsa")
# One agent of each kind of loop, where what is tested does not depend on the agent's equations.
FAMILIES = ("reinforce", "ppo", "dqn", "sac", "q_learning", "simulated_annealing", "es")
SEEDED = ("ppo", "dqn", "q_learning", "es")  # of these in the quick part


# What does not depend on an agent's equations is seen of one of each kind in the quick part.
of_a_kind = pytest.mark.parametrize(
    "agent", slow_of(INSTALLED, *(set(INSTALLED) - set(FAMILIES))), indirect=True
)


def same_bytes(a, b):
    """Every leaf of two pytrees is equal to the byte, NaNs included."""
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    la, lb = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(la) == len(lb)
    for x, y in zip(la, lb, strict=True):
        assert np.asarray(raw(x)).tobytes() == np.asarray(raw(y)).tobytes()


def describe(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


def learnt(state):
    """What the learning rate moves, wherever a state keeps it; batch norm's statistics move
    anyway."""
    state = getattr(state, "learner", state)
    if hasattr(state, "learners"):  # of groups of players
        whole = {name: learner.params for name, learner in state.learners.items()}
    else:
        whole = state.params if hasattr(state, "params") else state.actor
    paths = jax.tree_util.tree_leaves_with_path(whole)
    return [x for path, x in paths if "batch_stats" not in jax.tree_util.keystr(path)]


def with_gravity(env, value):
    name = "g" if env.name == "Pendulum-v1" else "gravity"
    return dataclasses.replace(env, params=env.params.replace(**{name: value}))


@functools.cache
def chunked(name, chunk, seed=0, seeds=0):
    """A run of ITERATIONS in chunks; programs are compiled once and shared by the tests."""
    agent = getattr(jaxpg, name)
    cfg = agent.Config(**TINY[name])
    key, env = jax.random.key(seed), short_env(agent, cfg)
    steps = ITERATIONS * agent.steps_per_iter(cfg)
    key = jax.random.split(key, seeds) if seeds else key
    return run(agent, cfg, env, key, total_steps=steps, chunk=chunk)


@functools.cache
def traced(name):
    """A step as a program, and the types of what goes in and comes out: traced once for the tests
    that ask no more of an agent."""
    agent = getattr(jaxpg, name)
    cfg = agent.Config(**TINY[name])
    env, cfg = short_env(agent, cfg), with_horizon(cfg, 100)
    begin = jax.eval_shape(functools.partial(initial_state, agent), cfg, env, jax.random.key(0))
    program = jax.jit(agent.step).trace(cfg, env, begin)
    types = jax.tree.unflatten(jax.tree.structure(program.out_info), program.jaxpr.out_avals)
    return begin, program.jaxpr, types


def test_state_is_a_fixed_point_of_step(agent):
    begin, _, (after, metrics) = traced(agent.name)
    assert describe(begin) == describe(after)
    assert not any(x.weak_type for x in jax.tree.leaves(begin) if hasattr(x, "weak_type"))
    assert all(m.shape == () for m in metrics.values()), "metrics are scalars"
    assert all("/" in name for name in metrics), "metrics are named group/name"


def test_one_trace_serves_every_key_number_and_environment_parameter(agent, tiny, env):
    traces = 0

    @jax.jit
    def go(cfg, env, key):
        nonlocal traces
        traces += 1
        if traces > 1:  # that it happens is all that is asked of a second one
            return key
        return jaxpg.train(agent, cfg, env, key, 2 * agent.steps_per_iter(cfg))

    other = with_gravity(env, 12.0)
    go.trace(tiny, env, jax.random.key(0))
    go.trace(tiny, env, jax.random.key(1))
    go.trace(
        dataclasses.replace(tiny, **{RATE.get(agent.name, "learning_rate"): 0.5}),
        env,
        jax.random.key(0),
    )
    go.trace(tiny, other, jax.random.key(0))
    assert traces == 1
    static = {"hidden": (5,)} if hasattr(tiny, "hidden") else {"bins": (2,) * 4}
    go.trace(dataclasses.replace(tiny, **static), env, jax.random.key(0))
    assert traces == 2


@of_a_kind
def test_a_parameter_of_the_environment_is_no_constant_of_the_program(agent):
    earth = chunked(agent.name, 7)
    sun = with_gravity(earth.env, 274.0)
    key = jax.random.key(0)
    other = run(agent, earth.cfg, sun, key, total_steps=earth.env_steps, chunk=7)
    with pytest.raises(AssertionError):
        same_bytes((earth.state, earth.metrics), (other.state, other.metrics))


@pytest.mark.defaults  # bytes are those of the programs that users run
@of_a_kind
def test_iterations_one_by_one_do_not_change_a_byte(agent):
    parts = chunked(agent.name, 7)
    assert parts.iteration == ITERATIONS
    assert parts.stopped == "done"
    keep = functools.partial(run, agent, parts.cfg, parts.env, jax.random.key(0), chunk=7)
    one = keep(total_steps=1)
    rows = [one.metrics]
    for i in range(2, ITERATIONS + 1):
        # The same program, asked for a single iteration.
        steps = i * agent.steps_per_iter(parts.cfg)
        one = keep(total_steps=steps, state=one.state, iteration=i - 1)
        rows.append(one.metrics)
    same_bytes(parts.state, one.state)
    same_bytes(parts.metrics, {k: np.concatenate([r[k] for r in rows]) for k in parts.metrics})


@pytest.mark.defaults  # as above
@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        *((name, 1) for name in SEEDED),
        *(
            pytest.param(name, 1, marks=pytest.mark.slow)
            for name in FAMILIES if name not in SEEDED
        ),
        ("q_learning", ITERATIONS),
        pytest.param("ppo", ITERATIONS, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_chunks_do_not_change_a_byte(name, chunk):
    """Another program, which XLA might round differently; the loop around agents is shared."""
    parts, other = chunked(name, 7), chunked(name, chunk)
    same_bytes(parts.state, other.state)
    same_bytes(parts.metrics, other.metrics)


def test_same_seed_same_bytes_other_seed_other_bytes(agent):
    again = chunked.__wrapped__(agent.name, 7)
    same_bytes(again.state, chunked(agent.name, 7).state)
    with pytest.raises(AssertionError):
        same_bytes(again.state, chunked(agent.name, 7, seed=1).state)


@pytest.mark.parametrize("name", slow_of(INSTALLED, *(set(INSTALLED) - set(SEEDED))))
def test_seeds_are_rows_of_one_program(name):
    """Keys and integers are the same as in a run of their own; floats part in the last bits."""
    many, agent = chunked(name, 7, seeds=2), getattr(jaxpg, name)
    cfg, env = many.cfg, many.env
    keys = jax.random.split(jax.random.key(0), 2)
    one = run(agent, cfg, env, keys[1], total_steps=many.env_steps, chunk=7)
    assert many.metrics["episode/return"].shape == (2, ITERATIONS)
    same_bytes(jax.tree.map(lambda x: x[1], many.state.key), one.state.key)
    for name, column in one.metrics.items():
        np.testing.assert_allclose(many.metrics[name][1], column, rtol=2e-2, atol=2e-3)


def test_a_run_of_seeds_traces_its_chunk_once():
    """What is judged before it begins is the program that it calls."""
    traces, plain = [], jaxpg.q_learning

    def step(*args):
        traces.append(args)
        return plain.step(*args)

    agent, cfg = plain._replace(step=step), plain.Config(**TINY["q_learning"])
    keys = jax.random.split(jax.random.key(0), 2)
    run(agent, cfg, short_env(agent, cfg), keys, total_steps=1)
    assert len(traces) == 1


@of_a_kind
def test_a_step_takes_a_batch_of_seeds_and_of_every_number(agent, tiny, env):
    """Of the config and of the environment, as the lanes of a sweep are; by its types alone."""
    cfg, keys = with_horizon(tiny, 100), jax.random.split(jax.random.key(0), 2)
    cfgs, envs = stack([(cfg, env)] * 2)
    begin = functools.partial(initial_state, agent)
    one, *_ = traced(agent.name)
    many = jax.eval_shape(jax.vmap(begin), cfgs, envs, keys)
    after, metrics = jax.eval_shape(jax.vmap(agent.step), cfgs, envs, many)
    assert jax.tree.map(lambda x: ((2, *x.shape), x.dtype), one) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )
    assert all(m.shape == (2,) for m in metrics.values())


def test_no_host_callback_in_the_program(agent):
    _, program, _ = traced(agent.name)
    assert "callback" not in str(program)


def test_resume_from_the_middle_is_exact(agent):
    whole = chunked(agent.name, 7)
    cfg, env, total = whole.cfg, whole.env, whole.env_steps
    stop = lambda event: True  # noqa: E731
    key = jax.random.key(0)
    part = run(agent, cfg, env, key, total_steps=total, chunk=7, callbacks=[stop])
    assert (part.iteration, part.stopped) == (7, "callback")
    rest = run(
        agent, cfg, env, key, total_steps=total, chunk=7, state=part.state, iteration=part.iteration
    )
    same_bytes(rest.state, whole.state)
    same_bytes({k: m[7:] for k, m in whole.metrics.items()}, rest.metrics)


def test_nan_is_caught(agent, tiny, env):
    """Two steps of this learning rate leave float32, while returns stay finite."""
    name = RUIN.get(agent.name, "learning_rate")
    if name is None:
        pytest.skip("it takes in nothing that is not finite: see test_policy_search")
    cfg = dataclasses.replace(tiny, **{name: 3e38})
    total = 20 * agent.steps_per_iter(cfg)
    with pytest.raises(NonFiniteError, match=r"iterations? \d+"):
        run(agent, cfg, env, jax.random.key(0), total_steps=total, chunk=7, callbacks=[nan_guard()])


def with_rate(agent, cfg, rate):
    """Every number that says how far the parameters move."""
    rates = {f for f in cfg.__dataclass_fields__ if f.endswith("learning_rate")}
    rates |= {RATE.get(agent.name, "learning_rate")}
    return dataclasses.replace(cfg, **dict.fromkeys(rates, rate))


def test_a_rate_of_zero_leaves_the_parameters_alone_and_another_does_not(agent, tiny, env):
    number = RATE.get(agent.name)
    still = 1e-30 if number == "max_kl" else 0.0  # a divergence has to be positive
    far = 0.1 if number == "sigma" else 1e-2  # a search has to look far enough

    def moved(rate):
        cfg, steps = with_rate(agent, tiny, rate), agent.steps_per_iter(tiny)
        begin, end = (
            run(agent, cfg, env, jax.random.key(0), total_steps=n * steps, chunk=7).state
            for n in (1, 14)
        )
        apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), learnt(begin), learnt(end))
        return max(jax.tree.leaves(apart))

    assert moved(still) < 1e-6
    assert moved(far) > 1e-4


def test_a_batch_of_rates_is_a_run_of_each():
    """A `vmap` over a learning rate does what it says; that all agents take one is tested above."""
    agent, cfg = jaxpg.ppo, jaxpg.ppo.Config(**TINY["ppo"])
    env = short_env(agent, cfg)

    def go(rate):
        own = with_horizon(with_rate(agent, cfg, rate), 1000)
        state = initial_state(agent, own, env, jax.random.key(0))
        return learnt(iterate(agent, own, env, state, 3)[0])

    batch = jax.jit(jax.vmap(go))(jnp.array([0.0, 1e-2, 1e-2]))
    still, one, other = (jax.tree.map(lambda x, i=i: x[i], batch) for i in range(3))
    same_bytes(one, other)
    with pytest.raises(AssertionError):
        same_bytes(still, one)


def finite(metrics):
    """Of the last iteration: an agent that learns from replay warms up first."""
    return all(np.isfinite(m[-1]) for k, m in metrics.items() if not k.startswith("episode"))


def trained(agent, env, cfg):
    """The state after two iterations, all of it finite."""
    total = 2 * agent.steps_per_iter(cfg)
    train = jax.jit(functools.partial(jaxpg.train, agent, total_steps=total))
    state, metrics = train(cfg, env, jax.random.key(0))
    assert finite(metrics)
    return state


def odd_spaces(name):
    """For an agent by its name: discrete observations, actions with bounds of their own each,
    integer rewards; and, unless it is a table, an observation in parts and, if it can be, several
    choices at once."""
    yield Odd(discrete=name in DISCRETE)
    if name not in TABLES:
        several = None if name in (*DISCRETE, *CONTINUOUS) else MultiDiscrete((2, 3))
        yield Odd(discrete=name in DISCRETE, parts=True, actions=several)


@of_a_kind
@pytest.mark.parametrize("which", [0, 1])
def test_odd_spaces_train_and_act(agent, tiny, which):
    """All agents are traced, which judges shapes and types; some of each kind of loop run, in the
    last of their spaces, and PPO in both: among its first are bounded actions."""
    if "bins" in TINY[agent.name]:
        tiny = dataclasses.replace(tiny, bins=(), low=(), high=())
    envs = list(odd_spaces(agent.name))
    if which == len(envs):
        pytest.skip("a table needs a discrete observation")
    env, key = make(envs[which]), jax.random.key(1)
    obs, space = E.reset(env, key, 9).obs, env.action_space
    act = functools.partial(agent.act, greedy=False)
    runs = agent.name == "ppo" or (agent.name in (*SEEDED, "sac") and which == len(envs) - 1)
    if not runs:
        tiny = with_horizon(tiny, 100)
        begin = jax.eval_shape(functools.partial(initial_state, agent), tiny, env, key)
        state, _ = jax.eval_shape(agent.step, tiny, env, begin)
        assert describe(begin) == describe(state)
        action, _ = jax.eval_shape(act, tiny, env, state, obs, (), key)
        assert action.shape == (9, *space.shape)
        return
    action, _ = jax.jit(act)(tiny, env, trained(agent, env, tiny), obs, (), key)
    assert action.shape == (9, *space.shape)
    if hasattr(space, "low"):
        assert ((action >= space.low) & (action <= space.high)).all()
    else:
        choices = jnp.array(getattr(space, "nvec", None) or space.n)
        assert ((action >= 0) & (action < choices)).all()


@pytest.mark.parametrize("name", CONTINUOUS + DISCRETE)
def test_the_other_kind_of_actions_is_refused(name):
    agent, odd = getattr(jaxpg, name), make(Odd(discrete=name in CONTINUOUS))
    with pytest.raises(ValueError, match=f"{name}.Config on Odd.*allowed"):
        agent.init(agent.Config(**TINY[name]), odd, jax.random.key(0))


@pytest.mark.parametrize(
    "name",
    slow_of(["Pendulum-v1", "FrozenLake-misc", "UmbrellaChain-bsuite"], "UmbrellaChain-bsuite"),
)
def test_gymnax_spaces_train_and_evaluate(name):
    """What lies between agents and spaces is shared: one agent speaks for all."""
    short = {"max_steps_in_episode": 8} if "Umbrella" not in name else {}
    agent, env, key = jaxpg.ppo, jaxpg.make(name, **short), jax.random.key(1)
    cfg = agent.Config(**TINY["ppo"])
    state = trained(agent, env, cfg)
    returns = jaxpg.evaluate(agent, cfg, env, state, key, episodes=3, greedy=False)
    assert returns.shape == (3,)
    assert np.isfinite(returns).all()


@of_a_kind
def test_x64_keeps_the_types(agent, tiny, env):
    """A carry that changes its type would not be one; float64 reaches the metrics."""
    tiny = with_horizon(tiny, 100)
    with jax.enable_x64(True):
        init = functools.partial(initial_state, agent, tiny, env)
        begin = jax.eval_shape(init, jax.random.key(0))
        after, metrics = jax.eval_shape(lambda state: agent.step(tiny, env, state), begin)
    assert describe(begin) == describe(after)
    assert metrics["episode/return"].dtype == "float64"


def test_x64_runs():
    """A process of its own, with x64 from the first array on."""
    code = """
import jax; jax.config.update("jax_enable_x64", True)
import jaxpg
from tests.conftest import TINY
env = jaxpg.make("CartPole-v1", max_steps_in_episode=8)
cfg = jaxpg.ppo.Config(**TINY["ppo"])
train = jax.jit(lambda cfg, env, key: jaxpg.train(jaxpg.ppo, cfg, env, key, 16))
state, metrics = train(cfg, env, jax.random.key(0))
assert metrics["loss/policy"].dtype == "float64", metrics["loss/policy"].dtype
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
