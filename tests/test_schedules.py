"""Schedules against optax's, and inside agents."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxpg
from jaxpg.core.schedules import SCHEDULES, factor, scheduled
from tests.conftest import ACTOR_CRITIC, RATE, TINY, short_env

STEPS, WARMUP = 100, 20


def reference(kind):
    """The same schedule by optax, as a function of the step."""
    rest = STEPS - WARMUP if kind.startswith("warmup") else STEPS
    decay = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
    }[kind.removeprefix("warmup_") if kind != "warmup" else "constant"]
    if not kind.startswith("warmup"):
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, WARMUP), decay], [WARMUP])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_factor_is_optax_s_schedule(kind):
    for t in range(STEPS + 1):
        ours = factor(kind, jnp.float32(t / STEPS), WARMUP / STEPS)
        np.testing.assert_allclose(ours, reference(kind)(t), atol=1e-5)


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


@pytest.mark.parametrize("name", ACTOR_CRITIC)
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
