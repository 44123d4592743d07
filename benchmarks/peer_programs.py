"""PPO on CartPole-v1 with the common default, once, in one library; `peers.py` calls it.

python benchmarks/peer_programs.py LIBRARY --steps N [--seeds N] [--seed N] [--checkout FOLDER]

The common default, PureJaxRL's and CleanRL's: 4 environments x 128 steps, 4 epochs of 4
minibatches, learning rate 2.5e-4 annealed to 0, gamma 0.99, lambda 0.95, clip 0.2 (values too),
entropy 0.01, value 0.5, global gradient norm 0.5, Adam's epsilon 1e-5, tanh 64 x 64. Each function
here does it as the library's own users do, with evaluations while training off. What a library
does not offer is as it comes: rejax anneals no learning rate and clips gradients by element, SBX
clips no values. Each returns

    steps/s    of all seeds together, once compiled
    compile s  until the first update could begin; None where nothing is compiled
    return     of whole episodes afterwards, sampled actions, mean over seeds; None if not to be had

The process prints them as one line of JSON, with its peak memory in MB.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

EPISODES = 128  # of each seed; 20 for libraries that take seconds for one
EVERY = 512  # environment steps of an iteration


class Setting(NamedTuple):
    """Settings of PPO in which measurements differ; all others are the common default."""

    env: str = "CartPole-v1"
    num_envs: int = 4
    minibatches: int = 4
    learning_rate: float = 2.5e-4
    max_steps: int = 500  # of an episode, when returns are measured


COMMON = Setting()
Programs = tuple[Callable, Callable]  # train(key) -> state, returns(state, key) -> [episodes]


def jaxpg(steps: int, seeds: int, seed: int, devices: int | None) -> dict:
    """One seed: jit of `train`. Several: `run`, which lays them over the devices. Both with one
    thread a device, as the command chooses for networks of this size."""
    from functools import partial

    import jax
    import numpy as np

    import jaxpg

    jaxpg.use_one_thread()
    if seeds > 1 and devices != 1:
        jaxpg.use_all_cores(devices)
    agent, cfg, env = jaxpg.ppo, jaxpg.ppo.Config(), jaxpg.make("CartPole-v1")
    key, k_eval = jax.random.split(jax.random.key(seed))
    begun = time.perf_counter()
    if seeds == 1:
        train = jax.jit(partial(jaxpg.train, agent, total_steps=steps))
        train = train.lower(cfg, env, key).compile()
        compiled = time.perf_counter()
        state, _ = jax.block_until_ready(train(cfg, env, key))
        done = time.perf_counter()
    else:
        key, k_eval = jax.random.split(key, seeds), jax.random.split(k_eval, seeds)
        jaxpg.run(agent, cfg, env, key, total_steps=steps, callbacks=[lambda event: True])
        compiled = time.perf_counter()  # and the first chunk is run, a fiftieth
        state = jaxpg.run(agent, cfg, env, key, total_steps=steps).state
        done = time.perf_counter()
    returns = jaxpg.evaluate(agent, cfg, env, state, k_eval, EPISODES, greedy=False)
    return _result(steps * seeds, begun, compiled, done, float(np.mean(returns)))


def rejax(steps: int, seeds: int, seed: int) -> dict:
    return _vmapped(*rejax_ppo(COMMON, steps), steps, seeds, seed)


def rejax_ppo(setting: Setting, steps: int) -> Programs:
    """rejax's PPO, with what it offers of a setting."""
    import rejax
    from rejax.evaluate import evaluate

    algo = rejax.get_algo("ppo").create(
        env=setting.env, num_envs=setting.num_envs, num_steps=128, num_epochs=4,
        num_minibatches=setting.minibatches, learning_rate=setting.learning_rate,
        max_grad_norm=0.5, total_timesteps=steps, eval_freq=steps, skip_initial_evaluation=True,
        agent_kwargs={"activation": "tanh"},
    )  # fmt: skip
    algo = algo.replace(eval_callback=lambda algo, state, key: ())

    def returns(state, key):
        play = algo.make_act(state), key, algo.env, algo.env_params, EPISODES, setting.max_steps
        return evaluate(*play)[1]

    return lambda key: algo.train(key)[0], returns


def purejaxrl(steps: int, seeds: int, seed: int, checkout: Path) -> dict:
    return _vmapped(*purejaxrl_ppo(COMMON, steps, seeds, checkout), steps, seeds, seed)


def purejaxrl_ppo(setting: Setting, steps: int, seeds: int, checkout: Path) -> Programs:
    """PureJaxRL's file ppo.py, as it is.

    What its wrappers import and its PPO does not use is replaced by empty modules if it is not
    installed. With several seeds flax's orthogonal initialiser, a batched QR, waits for ever on a
    machine with two cores: they begin from normal weights of the same size, which changes nothing
    of the work that is measured.
    """
    for name, contents in (
        ("brax", ("envs",)), ("brax.envs", ()), ("brax.envs.wrappers", ()),
        ("brax.envs.wrappers.training", ("EpisodeWrapper", "AutoResetWrapper")), ("navix", ()),
    ):  # fmt: skip
        try:
            __import__(name)
        except ImportError:
            module = sys.modules[name] = types.ModuleType(name)
            vars(module).update(dict.fromkeys(contents))
    sys.path.insert(0, str(checkout / "purejaxrl"))
    import flax.linen as nn
    import gymnax
    import jax

    if seeds > 1:
        # An orthogonal [n, m] of gain g has entries of variance g**2 / max(n, m).
        nn.initializers.orthogonal = lambda gain: (
            lambda key, shape, dtype=float: (
                gain / max(shape) ** 0.5 * jax.random.normal(key, shape, dtype)
            )
        )
    import ppo

    config = {
        "LR": setting.learning_rate, "NUM_ENVS": setting.num_envs, "NUM_STEPS": 128,
        "TOTAL_TIMESTEPS": steps, "UPDATE_EPOCHS": 4, "NUM_MINIBATCHES": setting.minibatches,
        "GAMMA": 0.99, "GAE_LAMBDA": 0.95, "CLIP_EPS": 0.2, "ENT_COEF": 0.01,
        "VF_COEF": 0.5, "MAX_GRAD_NORM": 0.5, "ACTIVATION": "tanh", "ENV_NAME": setting.env,
        "ANNEAL_LR": True, "DEBUG": False,
    }  # fmt: skip
    env, params = gymnax.make(setting.env)
    net = ppo.ActorCritic(env.action_space(params).n, activation="tanh")

    def returns(out, key):
        """It has no evaluation of its own; an episode is over after `max_steps`."""
        weights = out["runner_state"][0].params

        def episode(key):
            k_reset, key = jax.random.split(key)

            def step(loop, key):
                obs, state, going, total = loop
                k_act, k_step = jax.random.split(key)
                action = net.apply(weights, obs.reshape(-1))[0].sample(seed=k_act)
                obs, state, reward, done, _ = env.step(k_step, state, action, params)
                return (obs, state, going & ~done, total + reward * going), None

            loop = (*env.reset(k_reset, params), jax.numpy.array(True), 0.0)
            return jax.lax.scan(step, loop, jax.random.split(key, setting.max_steps))[0][-1]

        return jax.vmap(episode)(jax.random.split(key, EPISODES))

    return ppo.make_train(config), returns


def sbx(steps: int, seeds: int, seed: int) -> dict:
    from flax import linen as nn
    from sbx import PPO

    return _baseline(PPO, steps, seed, compiles=True, activation=nn.tanh)


def sb3(steps: int, seeds: int, seed: int) -> dict:
    from stable_baselines3 import PPO
    from torch import nn

    return _baseline(
        PPO, steps, seed, compiles=False, activation=nn.Tanh, clip_range_vf=0.2, device="cpu"
    )


def cleanrl(steps: int, seeds: int, seed: int, checkout: Path) -> dict:
    """CleanRL's file ppo.py, whose defaults these are; rate and returns are those it prints."""
    import runpy

    file = checkout.resolve() / "cleanrl" / "ppo.py"
    sys.argv = [str(file), "--total-timesteps", str(steps), "--seed", str(seed), "--no-cuda"]
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)  # it writes TensorBoard files
        runpy.run_path(str(file), run_name="__main__")
        os.chdir("/")
    lines = printed.getvalue().splitlines()
    rate = float([x for x in lines if x.startswith("SPS:")][-1].split()[1])
    returns = [x.split("episodic_return=")[1] for x in lines if "episodic_return=" in x][-20:]
    last = [float(x.strip("[]")) for x in returns]  # gymnasium 1 tells it no returns
    return {"steps/s": rate, "compile s": None, "return": sum(last) / len(last) if last else None}


def _vmapped(train, returns, steps: int, seeds: int, seed: int) -> dict:
    """train(key) -> state and returns(state, key) -> [episodes], of one seed or of several."""
    import jax

    keys = jax.random.split(jax.random.PRNGKey(seed), (2, seeds))
    if seeds == 1:
        keys = keys[:, 0]
    else:
        train, returns = jax.vmap(train), jax.vmap(returns)
    begun = time.perf_counter()
    program = jax.jit(train).lower(keys[0]).compile()
    compiled = time.perf_counter()
    state = jax.block_until_ready(program(keys[0]))
    done = time.perf_counter()
    reached = float(jax.jit(returns)(state, keys[1]).mean())
    return _result(steps * seeds, begun, compiled, done, reached)


def _baseline(algorithm, steps: int, seed: int, compiles: bool, activation, **kwargs) -> dict:
    """Stable-Baselines3's interface, which SBX has too."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    env = make_vec_env("CartPole-v1", 4, seed=seed)
    model = algorithm(
        "MlpPolicy", env, n_steps=128, batch_size=128, n_epochs=4,
        learning_rate=lambda left: 2.5e-4 * left, gamma=0.99, gae_lambda=0.95, clip_range=0.2,
        ent_coef=0.01, vf_coef=0.5, max_grad_norm=0.5, seed=seed,
        policy_kwargs={"activation_fn": activation, "net_arch": {"pi": [64, 64], "vf": [64, 64]}},
        **kwargs,
    )  # fmt: skip
    begun = time.perf_counter()
    model.learn(EVERY)  # in SBX functions are compiled when they are first called
    compiled = time.perf_counter()
    model.learn(steps)
    done = time.perf_counter()
    reached, _ = evaluate_policy(model, env, n_eval_episodes=20, deterministic=False)
    result = _result(steps, begun, compiled, done, float(reached))
    return result if compiles else {**result, "compile s": None}


def _result(steps: int, begun: float, compiled: float, done: float, reached: float) -> dict:
    return {"steps/s": steps / (done - compiled), "compile s": compiled - begun, "return": reached}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", choices=PROGRAMS)
    parser.add_argument("--steps", type=int, required=True, help="of each seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers")
    parser.add_argument("--checkout", type=Path, help="of a library that is no package")
    parser.add_argument("--devices", type=int, help="of jaxpg; all cores if it is not given")
    args = parser.parse_args()
    more = {"checkout": args.checkout} if args.library in CHECKOUTS else {}
    more |= {"devices": args.devices} if args.library == "jaxpg" else {}
    row = PROGRAMS[args.library](args.steps, args.seeds, args.seed, **more)
    from harness import peak_memory

    print(json.dumps({**row, "memory MB": peak_memory()}))
    return 0


PROGRAMS = {f.__name__: f for f in (jaxpg, rejax, purejaxrl, sbx, sb3, cleanrl)}
CHECKOUTS = ("purejaxrl", "cleanrl")
VMAPPED = ("jaxpg", "rejax", "purejaxrl")  # the others train one seed at a time

if __name__ == "__main__":
    sys.exit(main())
