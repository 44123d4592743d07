"""Schedules against optax's, and inside agents."""

import ast
import dataclasses
import doctest
import functools
import inspect
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxpg
from jaxpg import schedules
from jaxpg.core import named_options
from jaxpg.core.config import from_dict, to_dict, validate
from jaxpg.core.schedules import SCHEDULES, SHAPES, factor, scheduled
from jaxpg.loops import optimizers
from tests.conftest import ACTOR_CRITIC, RATE, ROOT, TINY, short_env, slow_of

STEPS, WARMUP = 100, 20


def restarts(steps):
    """Four cosines behind each other."""
    one = optax.cosine_decay_schedule(1.0, steps / 4)
    return optax.join_schedules([one] * 4, [steps / 4, steps / 2, 3 * steps / 4])


def reference(kind):
    """The same schedule by optax, as a function of the step."""
    rest = STEPS - WARMUP if kind.startswith("warmup") else STEPS
    decay = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
        "exponential": optax.exponential_decay(1.0, rest, 0.01),
        "polynomial": optax.polynomial_schedule(1.0, 0.0, 2, rest),
        "piecewise": optax.piecewise_constant_schedule(1.0, {rest // 2: 0.1}),
        "cosine_restarts": restarts(rest),
    }[kind.removeprefix("warmup_") if kind != "warmup" else "constant"]
    if not kind.startswith("warmup"):
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, WARMUP), decay], [WARMUP])


def require_course(kind, expected, warmup=0.0):
    """A schedule against a function of the step, but for the step at which a cycle begins anew: of
    a progress in float32 it may come one later."""
    progress = jnp.arange(STEPS, dtype=jnp.float32) / STEPS
    ours = factor(kind, progress, warmup)
    theirs = np.array([expected(t) for t in range(STEPS)])
    fine = np.isclose(ours, theirs, atol=1e-5)
    jumps = np.abs(np.diff(theirs, append=theirs[-1:])) + np.abs(
        np.diff(theirs, prepend=theirs[:1])
    )
    assert (fine | (jumps > 0.3)).all()
    assert fine.sum() >= STEPS - 6


@pytest.mark.parametrize("kind", SCHEDULES)
def test_factor_is_optax_s_schedule(kind):
    require_course(kind, reference(kind), WARMUP / STEPS)


OPTIONS = {
    "linear(end=0.1)": optax.linear_schedule(1.0, 0.1, STEPS),
    "cosine(end=0.1)": optax.cosine_decay_schedule(1.0, STEPS, 0.1),
    "exponential(rate=0.2)": optax.exponential_decay(1.0, STEPS, 0.2),
    "exponential(rate=0.2, end=0.5)": optax.exponential_decay(1.0, STEPS, 0.2, end_value=0.5),
    "polynomial(power=3, end=0.2)": optax.polynomial_schedule(1.0, 0.2, 3, STEPS),
    "piecewise(at=(0.25, 0.75), factors=(2, 0.5))": optax.piecewise_constant_schedule(
        1.0, {25: 2.0, 75: 0.25}
    ),
    "cosine_restarts(cycles=2, end=0.1, decay=0.5)": optax.join_schedules(
        [optax.cosine_decay_schedule(1.0, 50, 0.1), optax.cosine_decay_schedule(0.5, 50, 0.2)], [50]
    ),
    "cosine_restarts(cycles=2, growth=3)": optax.join_schedules(
        [optax.cosine_decay_schedule(1.0, 25), optax.cosine_decay_schedule(1.0, 75)], [25]
    ),
    functools.partial(schedules.exponential, rate=0.2): optax.exponential_decay(1.0, STEPS, 0.2),
    functools.partial(schedules.piecewise, at=(), factors=()): optax.constant_schedule(1.0),
    schedules.linear: optax.linear_schedule(1.0, 0.0, STEPS),
    (lambda progress: jnp.exp(-progress)): lambda t: np.exp(-t / STEPS),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_factor_with_options_is_optax_s_schedule(kind):
    require_course(kind, OPTIONS[kind])


@pytest.mark.parametrize("kind", ["linear", "cosine", "polynomial", "cosine_restarts"])
def test_a_schedule_ends_at_its_end(kind):
    assert float(factor(f"{kind}(end=0.25)", jnp.float32(1), 0.0)) == pytest.approx(0.25)
    assert float(factor(f"warmup_{kind}(end=0.25)", jnp.float32(1), 0.1)) == pytest.approx(0.25)


def test_the_page_lists_every_name_with_its_options():
    page = (ROOT / "docs" / "schedules.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for name, function in SHAPES.items():
        options = list(inspect.signature(function).parameters.values())[1:]
        told = re.findall(r"`(\w+)=([^`]+)`", rows[name].split(" | ")[1])
        assert [(x.name, x.default) for x in options] == [(k, ast.literal_eval(v)) for k, v in told]


@pytest.mark.parametrize("module", [schedules, named_options, optimizers])
def test_examples_run(module):
    done = doctest.testmod(module, extraglobs={"jax": jax})
    assert done.attempted
    assert not done.failed


def by_python(progress):
    return 1.0 if progress < 0.5 else 0.1


WRONG = {
    "linaer": "did you mean 'linear'. allowed is one of 'constant', .*, or a function progress",
    "steps": "allowed is one of 'constant', 'linear', .*, or a function progress -> factor",
    "linaer(end=0.1)": "did you mean 'linear'. allowed is one of constant, linear",
    "linear(stop=0.1)": "unknown option 'stop': allowed are its options end",
    "constant(end=0.1)": "unknown option 'end': it has no options",
    "linear(end=-0.1)": "end=-0.1: allowed is a number >= 0",
    "linear(end='x')": "end='x': allowed is a finite number",
    "exponential(rate=0)": "rate=0: allowed is a number > 0",
    "polynomial(power=True)": "power=True: allowed is a finite number",
    "piecewise(at=(0.7, 0.5), factors=(1, 1))": "at=.*: allowed are numbers from 0 to 1 that rise",
    "piecewise(at=(0.5, 1.5), factors=(1, 1))": "at=.*: allowed are numbers from 0 to 1 that rise",
    "piecewise(at=(0.5, 0.7))": "factors=.*: allowed is one number for each of at",
    "piecewise(at=0.5, factors=0.1)": "at=0.5: allowed is a tuple of numbers",
    "cosine_restarts(cycles=0)": "cycles=0: allowed is an integer >= 1 and <= 100",
    "cosine_restarts(growth=99)": "growth=99: allowed is a number > 0 and <= 10",
    1.0: "allowed is one of",
    jnp.exp: "its argument is called 'x', allowed is progress or p",
    by_python: "with a traced progress it gave TracerBoolConversionError",
    (lambda progress: progress[None]): "allowed is a function that maps a float .* to a float",
    (lambda progress: 1): "allowed is a function that maps a float .* to a float",
    functools.partial(schedules.linear, stop=0.1): "unknown option 'stop': .* end",
    functools.partial(schedules.linear, end=-1): "with a traced .* ValueError: end=-1: allowed is",
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_schedule_is_refused_in_one_sentence(kind):
    cfg = jaxpg.a2c.Config(learning_rate_schedule=kind)
    with pytest.raises(
        ValueError, match=f"^a2c.Config learning_rate_schedule=.*: {WRONG[kind]}"
    ) as caught:
        validate(cfg)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["warmup_cosine(end=0.1)", functools.partial(schedules.exponential, rate=0.1)]
)
def test_a_config_with_a_schedule_goes_through_json(kind):
    cfg = jaxpg.a2c.Config(learning_rate_schedule=kind)
    told = json.loads(json.dumps(to_dict(cfg)))
    assert from_dict(jaxpg.a2c.Config, told) == cfg


def test_a_schedule_of_one_s_own_moves_a_number_under_vmap():
    own = functools.partial(schedules.exponential, rate=0.25)
    cfg = jaxpg.a2c.Config(learning_rate_schedule=own, total_steps=1000.0)

    def rate(start):
        now = scheduled(dataclasses.replace(cfg, learning_rate=start), jnp.int32(50), 10)
        return now.learning_rate

    np.testing.assert_allclose(jax.vmap(rate)(jnp.array([1.0, 2.0])), [0.5, 1.0], rtol=1e-6)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_no_warmup_and_nothing_else_are_finite(kind, warmup):
    progress = jnp.linspace(0, 1, 11)
    factors = factor(kind, progress, warmup)
    assert np.isfinite(factors).all()
    assert ((factors >= 0) & (factors <= 1)).all()
    if kind == "warmup" and warmup == 1.0:
        np.testing.assert_allclose(factors, progress, atol=1e-6)
    if kind == "warmup_linear" and warmup == 0.0:
        np.testing.assert_allclose(factors, 1 - progress, atol=1e-6)


def test_scheduled_moves_every_number_that_has_a_schedule_and_no_other():
    cfg = jaxpg.a2c.Config(
        learning_rate=1.0, learning_rate_schedule="linear", critic_learning_rate=2.0,
        critic_learning_rate_schedule="cosine", entropy_coef=0.5, total_steps=1000.0,
    )  # fmt: skip
    at = jax.jit(functools.partial(scheduled, steps_per_iter=10))
    now = at(cfg, jnp.int32(25))
    assert float(now.learning_rate) == pytest.approx(0.75)
    assert float(now.critic_learning_rate) == pytest.approx(1 + np.cos(np.pi / 4), rel=1e-5)
    assert float(now.entropy_coef) == 0.5
    assert float(now.gamma) == pytest.approx(cfg.gamma)
    after = at(cfg, jnp.int32(999))  # a run that goes on beyond its length stays at the end
    assert float(after.learning_rate) == 0.0


def test_the_length_of_a_schedule_is_asked_for():
    cfg = jaxpg.a2c.Config(entropy_coef_schedule="cosine")
    with pytest.raises(
        ValueError, match=r"a2c.Config total_steps=None.*entropy_coef_schedule='cos"
    ):
        scheduled(cfg, jnp.int32(0), 10)


@pytest.mark.parametrize("name", [n for n in jaxpg.agents.NAMES if n != "evosax"])  # has its own
def test_every_rate_and_entropy_coefficient_can_follow_a_schedule(name):
    fields = set(jaxpg.agents.get(name).Config.__dataclass_fields__)
    for number in ("learning_rate", "critic_learning_rate", "max_kl", "entropy_coef"):
        assert number not in fields or f"{number}_schedule" in fields, number
    for field in fields:
        if field.endswith("_schedule"):
            assert {field.removesuffix("_schedule"), "warmup", "total_steps"} <= fields


@pytest.mark.parametrize("name", slow_of(ACTOR_CRITIC, *{*ACTOR_CRITIC} - {"reinforce", "ppo"}))
def test_a_run_that_warms_up_begins_at_rest_and_one_that_decays_ends_slowly(name):
    """The size of an update at the start, in the middle and near the end of a run of ten."""
    agent, tiny = jaxpg.agents.get(name), jaxpg.agents.get(name).Config(**TINY[name])
    env = short_env(agent, tiny)
    numbers = {RATE.get(name, "learning_rate")}
    numbers |= {"critic_learning_rate"} & set(tiny.__dataclass_fields__)
    fields = dict.fromkeys(numbers, 1e-3) | {f"{n}_schedule": "warmup_linear" for n in numbers}
    cfg = dataclasses.replace(
        tiny, **fields, warmup=0.5, total_steps=10.0 * agent.steps_per_iter(tiny)
    )
    state = jaxpg.core.train.initial_state(agent, cfg, env, jax.random.key(0))
    learnt = lambda s: s.params if hasattr(s, "params") else (s.actor, s.critic)  # noqa: E731

    @jax.jit
    def size(iteration):
        new, _ = agent.step(cfg, env, state._replace(iteration=iteration))
        return optax.global_norm(optax.tree.sub(learnt(new), learnt(state)))

    still, full, late = (float(size(jnp.int32(i))) for i in (0, 5, 9))
    assert still == 0
    assert 0 < late < 0.6 * full
