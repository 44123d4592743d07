"""What a user writes, all in types that a checker knows: nothing here may be an error.

`test_typing.py` has pyright read it. The first three functions are the README's three uses.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxpg
from jaxpg import sweep
from jaxpg.agents import dqn, ppo
from jaxpg.nets.networks import CNN


def call_a_jitted_train_function() -> None:
    env = jaxpg.make("CartPole-v1")
    cfg = jaxpg.preset("ppo", "CartPole-v1")
    train = jax.jit(partial(jaxpg.train, jaxpg.ppo, total_steps=50_000))
    state, _ = train(cfg, env, jax.random.key(0))
    returns = jaxpg.evaluate(jaxpg.ppo, cfg, env, state, jax.random.key(1))
    assert_type(returns, jax.Array)
    print(f"greedy return {returns.mean():.0f} of 500 over {len(returns)} episodes")


def vmap_it() -> None:
    env = jaxpg.make("CartPole-v1", gravity=9.8)
    rates, keys = jnp.array([1e-4, 1e-3]), jax.random.split(jax.random.key(0), 4)

    def final_return(rate: jax.Array, key: jax.Array) -> jax.Array:
        cfg = jaxpg.preset(jaxpg.ppo, "CartPole-v1", learning_rate=rate)
        _, metrics = jaxpg.train(jaxpg.ppo, cfg, env, key, total_steps=20_000)
        assert_type(metrics, dict[str, jax.Array])
        return jaxpg.recent_mean(metrics).mean

    grid = jax.vmap(jax.vmap(final_return, (None, 0)), (0, None))
    print(jax.jit(grid)(rates, keys))


def measure_throughput() -> None:
    jaxpg.use_all_cores()
    jaxpg.use_cache("/tmp/jaxpg")
    agent, env = jaxpg.ppo, jaxpg.make("CartPole-v1")
    cfg, keys = agent.Config(), jax.random.split(jax.random.key(0), 4)
    result = jaxpg.run(agent, cfg, env, keys, total_steps=51_200)
    assert_type(result, jaxpg.Result[ppo.Config])
    print(f"{len(keys) * result.env_steps / result.seconds:,.0f} env steps/s")


def write_configs() -> None:
    cfg = jaxpg.ppo.Config(num_envs=8, learning_rate=1e-3, hidden=(64, 64), target_kl=None)
    assert_type(jaxpg.ppo, jaxpg.Agent[ppo.Config])
    assert_type(cfg, ppo.Config)
    assert_type(cfg.num_envs, int)
    assert_type(cfg.hidden, tuple[int, ...])
    assert_type(jaxpg.ppo.steps_per_iter(cfg), int)
    assert_type(jaxpg.preset(jaxpg.dqn, "CartPole-v1", gamma=0.9), dqn.Config)
    torso = partial(CNN, layers=((16, 3, 1),))
    jaxpg.a2c.Config(net=torso, critic_net=CNN, critic_hidden=(256,), activation=jax.nn.mish)
    jaxpg.td3.Config(critic_activation="elu", kernel_init=jax.nn.initializers.xavier_uniform)
    jaxpg.sac.Config(normalize_obs=True, alpha=0.2, learn_alpha=False)
    jaxpg.q_learning.Config(bins=(3, 3), low=(-1.0, -1.0), high=(1.0, 1.0))
    jaxpg.cem.Config(population=32, elites=4)
    decayed = partial(optax.adamw, weight_decay=0.01)
    jaxpg.a2c.Config(optimizer=decayed, learning_rate_schedule=lambda progress: 1 - progress)
    jaxpg.sac.Config(optimizer="lion(b1=0.95)", alpha_optimizer=optax.sgd)
    assert_type(jaxpg.schedules.linear(jnp.zeros(3), end=0.1), jax.Array)


def keep_a_folder(out: Path) -> None:
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.a2c.Config(num_envs=8)
    rows: list[np.ndarray] = []

    def patient(event: jaxpg.Event) -> bool:
        assert_type(event.iteration, int)
        return event.seconds > 60

    def report(result: jaxpg.Result) -> None:
        print(result.stopped, result.iteration, "of", result.num_iters)

    keep = jaxpg.Callback(
        on_metrics=lambda event: rows.append(event.metrics["episode/return"]), on_end=report
    )
    result = jaxpg.run(
        jaxpg.a2c, cfg, env, jax.random.key(0),
        total_steps=10_000, callbacks=[patient, keep, lambda event: None], out=out, chunk=10,
    )  # fmt: skip
    assert_type(result.metrics, dict[str, np.ndarray])
    print(result.cfg.num_envs, result.agent.name, result.metrics["episode/return"].mean())
    longer = jaxpg.resume(out, total_steps=20_000)
    print(longer.env_steps)
    try:
        loaded = jaxpg.load(out)
    except jaxpg.CheckpointError as error:
        raise SystemExit(str(error)) from error
    print(jaxpg.evaluate(loaded.agent, loaded.cfg, loaded.env, loaded.state, jax.random.key(1)))


def act_elsewhere(out: Path) -> None:
    policy = jaxpg.Policy.load(out, seed=0)
    policy.export(out / "policy.jaxpolicy", platforms=["cpu"])
    policy = jaxpg.Policy.from_file(out / "policy.jaxpolicy")
    assert_type(policy, jaxpg.Policy)
    print(policy.about["agent"], policy(np.zeros(4), key=jax.random.key(0)))
    drawn = jaxpg.render(out, out / "episode.gif", episodes=2)
    print(drawn.returns.mean(), jaxpg.report([out], out / "report.html").name)


def sweep_over_settings() -> None:
    env, cfg, key = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config(), jax.random.key(0)
    points = sweep.grid({"learning_rate": [1e-4, 1e-3], "env.gravity": [9.8, 20.0]})
    found = sweep.run(jaxpg.ppo, cfg, env, key, points, seeds=4, total_steps=20_000)
    assert_type(found, sweep.Sweep)
    print(found.scores.groupby("config")["score"].mean())

    cfgs, envs = sweep.batch(cfg, env, points)
    assert_type(cfgs, ppo.Config)
    train = jax.vmap(partial(jaxpg.train, jaxpg.ppo, total_steps=1000), (0, 0, None))
    print(train(cfgs, envs, key)[1]["episode/return"].shape)

    space = {"learning_rate": sweep.loguniform(1e-5, 1e-2), "num_envs": [4, 8]}
    best = jaxpg.search(jaxpg.ppo, cfg, env, key, space, trials=8, batch=4, total_steps=20_000)
    duel = jaxpg.compare(["ppo", "a2c"], ["CartPole-v1"], key, total_steps=20_000, seeds=4)
    careful = {"usual": "ppo", "careful": (jaxpg.ppo, {"clip_eps": 0.1}), "own": jaxpg.a2c}
    both = jaxpg.compare(careful, ["Cliff-jaxpg", env], key, total_steps=20_000)
    again = sweep.run("ppo", None, "CartPole-v1", key, points, total_steps=20_000)
    assert_type((both, again), tuple[sweep.Sweep, sweep.Sweep])
    jaxpg.check_env(env)
    jaxpg.check_env(env.core)
    one: jaxpg.Result = sweep.result(best.folder, 0)
    jaxpg.pictures.save(jaxpg.pictures.curves(duel), "curves.png")
    print(one.env_steps, jaxpg.statistics.iqm(np.ones((1, 8))))


def fan_out_over_jobs(train: Callable[[int], float]) -> list[float]:
    return jaxpg.fan_out(train, range(4), "jobs", cluster="local", timeout_min=60)


def write_an_agent() -> None:
    @jaxpg.config
    class Config:
        num_steps: int = jaxpg.static(8, ge=1, help="Steps of an iteration.")
        scale: float = jaxpg.number(1.0, gt=0)

    def init(cfg: Config, env: jaxpg.Env, key: jax.Array) -> jax.Array:
        return key

    def step(cfg: Config, env: jaxpg.Env, state: Any) -> tuple[Any, dict[str, jax.Array]]:
        return state, {"agent/scale": jnp.asarray(cfg.scale)}

    def act(cfg: Config, env: jaxpg.Env, state: Any, obs: Any, carry: Any, key: Any, greedy: bool):
        return cfg.scale * obs, carry

    mine = jaxpg.Agent("mine", Config, init, step, act, lambda cfg: cfg.num_steps)
    cfg = mine.Config(num_steps=4, scale=2.0)
    assert_type(cfg, Config)
    jaxpg.train(mine, cfg, jaxpg.make("Pendulum-v1"), jax.random.key(0), total_steps=8)


def roll_out() -> None:
    env = jaxpg.make("CartPole-v1")
    assert_type(env, jaxpg.Env)
    assert_type(env.discrete, bool)

    def policy(obs: Any, carry: Any, key: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
        action = jax.random.randint(key, (len(obs),), 0, 2)
        return action, carry, action * 2

    from jaxpg.core import env as E

    state = E.reset(env, jax.random.key(0), 4)
    _, _, t, seen, metrics = jaxpg.rollout(env, policy, state, (), jax.random.key(1), 16)
    assert_type(t, jaxpg.Transition)
    assert_type(seen, jax.Array)
    assert_type(metrics, dict[str, jax.Array])
