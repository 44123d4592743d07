"""Bad input gets one clear line that names the field, the value and what is allowed, at once."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.run import run
from jaxpg.core.train import num_iterations

KEY = jax.random.key(0)


def go(
    agent="ppo", env="CartPole-v1", key=KEY, total_steps=100, params=None, callbacks=(), **fields
):
    agent = jaxpg.agents.get(agent)
    cfg = jaxpg.core.config.replace(agent.Config(), **fields)
    env = jaxpg.make(env, **(params or {}))
    run(agent, cfg, env, key, total_steps=total_steps, callbacks=callbacks)


TABLE = {
    # what is done: (a call, what the error says)
    "unknown agent": (partial(go, "pppo"), "'pppo'.*'ppo'"),
    "unknown environment": (partial(go, env="CartPole-v2"), "'CartPole-v2'.*'CartPole-v1'"),
    "environment by no name": (
        partial(go, env="Go"),
        "'Go': Of the .* that are allowed the nearest are",
    ),
    "needs a download": (partial(go, env="MNISTBandit-bsuite"), "MNISTBandit-bsuite.*download"),
    "unknown parameter": (partial(go, params={"gravty": 1.0}), "'gravty'.*'gravity'"),
    "parameter is text": (partial(go, params={"gravity": "low"}), "gravity='low'"),
    "parameter is NaN": (partial(go, params={"gravity": float("nan")}), "gravity=nan"),
    "parameter is None": (partial(go, params={"gravity": None}), "gravity=None"),
    "no time in an episode": (
        partial(go, params={"max_steps_in_episode": 0}),
        "max_steps_in_episode=0.*>= 1",
    ),
    "unknown field": (partial(go, learning_rte=0.1), "'learning_rte'.*'learning_rate'"),
    "unknown field of a2c": (partial(go, "a2c", epochs=3), "a2c.Config field 'epochs'"),
    "no environments": (partial(go, num_envs=0), "num_envs=0.*>= 1"),
    "fewer than no environments": (partial(go, "a2c", num_envs=-4), "num_envs=-4.*>= 1"),
    "no steps": (partial(go, num_steps=0), "num_steps=0.*>= 1"),
    "no epochs": (partial(go, num_epochs=0), "num_epochs=0.*>= 1"),
    "half an environment": (partial(go, num_envs=2.5), "num_envs=2.5.*integer"),
    "environments in words": (partial(go, num_envs="4"), "num_envs='4'.*integer"),
    "environments are a truth": (partial(go, num_envs=True), "num_envs=True.*integer"),
    "minibatches do not divide": (partial(go, minibatches=7), "minibatches=7.*4 \\* 128 = 512"),
    "gamma above one": (partial(go, gamma=1.5), "gamma=1.5.*<= 1"),
    "gamma below zero": (partial(go, "reinforce", gamma=-0.1), "gamma=-0.1.*>= 0"),
    "one gamma of a batch": (partial(go, gamma=jnp.array([0.9, 1.1])), "gamma=.*<= 1"),
    "lambda above one": (partial(go, "a2c", gae_lambda=2.0), "gae_lambda=2.0.*<= 1"),
    "negative learning rate": (partial(go, learning_rate=-1e-3), "learning_rate=-0.001.*>= 0"),
    "learning rate is NaN": (partial(go, learning_rate=float("nan")), "learning_rate=nan"),
    "learning rate in words": (partial(go, learning_rate="fast"), "learning_rate='fast'"),
    "clip of nothing": (partial(go, clip_eps=0.0), "clip_eps=0.0.*> 0"),
    "temperature of zero": (partial(go, temperature=0.0), "temperature=0.0.*> 0"),
    "unknown objective": (partial(go, objective="trpo"), "objective='trpo'.*'clip', 'kl'"),
    "penalty without a target": (partial(go, objective="kl"), "target_kl=None.*'kl'"),
    "multiplier without a target": (partial(go, objective="lagrangian"), "target_kl=None.*'lagra"),
    "unknown schedule": (
        partial(go, "a2c", learning_rate_schedule="step"),
        "learning_rate_schedule='step'.*'linear'",
    ),
    "warm-up beyond the run": (partial(go, warmup=1.5), "warmup=1.5.*<= 1"),
    "workers of the future": (partial(go, "a3c", lag=-1), "lag=-1.*>= 0"),
    "no workers": (partial(go, "a3c", num_workers=0), "num_workers=0.*>= 1"),
    "unknown correction": (partial(go, "impala", correction="retrace"), "'retrace'.*'vtrace'"),
    "no radius": (partial(go, "trpo", max_kl=0.0), "max_kl=0.0.*> 0"),
    "steps that grow": (partial(go, "trpo", backtrack_ratio=1.5), "backtrack_ratio=1.5.*<= 1"),
    "critic's minibatches do not divide": (
        partial(go, "npg", critic_minibatches=7),
        "npg.Config critic_minibatches=7.*8 \\* 128 = 1024",
    ),
    "unknown activation": (partial(go, activation="sine"), "activation='sine'.*'tanh'"),
    "unknown initialiser": (partial(go, kernel_init="zeros"), "kernel_init='zeros'.*'orthogonal'"),
    "shared torso of two losses": (partial(go, "trpo", shared=True), "trpo.Config field 'shared'"),
    "empty layer": (partial(go, hidden=(64, 0)), "hidden=\\(64, 0\\).*>= 1"),
    "layers in a list": (partial(go, hidden=[64]), "hidden=\\[64\\].*tuple"),
    "network is no class": (partial(go, net="MLP"), "net='MLP'.*class"),
    "discrete head on a box": (
        partial(go, env="Pendulum-v1", head="categorical"),
        "head='categorical' on Pendulum-v1.*continuous.*'gaussian'",
    ),
    "gaussian head on integers": (
        partial(go, head="tanh_gaussian"),
        "head='tanh_gaussian' on CartPole-v1.*discrete.*'categorical'",
    ),
    "unknown head": (partial(go, head="beta"), "head='beta'"),
    "unknown baseline": (partial(go, "reinforce", baseline="median"), "baseline='median'.*'mean'"),
    "rollout too short for an episode": (
        partial(go, "reinforce", num_steps=200),
        "num_steps=200.*>= 500.*CartPole-v1",
    ),
    "no steps in all": (partial(go, total_steps=0), "total_steps=0.*>= 1"),
    "part of a step": (partial(go, total_steps=10.5), "total_steps=10.5"),
    "a truth of NumPy for steps": (
        partial(go, total_steps=np.bool_(True)),
        "total_steps=.*True.*>= 1",
    ),
    "steps in words": (partial(go, total_steps="many"), "total_steps='many'.*>= 1"),
    "steps are NaN": (partial(go, total_steps=float("nan")), "total_steps=nan.*>= 1"),
    "steps without end": (partial(go, total_steps=float("inf")), "total_steps=inf.*>= 1"),
    "no number of steps": (partial(go, total_steps=None), "total_steps=None.*>= 1"),
    "steps in a list": (partial(go, total_steps=[100]), "total_steps=\\[100\\].*>= 1"),
    "no seeds": (partial(go, key=jax.random.split(KEY, 0)), "key of shape \\(0,\\).*\\[seeds\\]"),
    "a callback alone": (partial(go, callbacks=jaxpg.Callback()), "callbacks=Callback.*a list of"),
    "a function alone": (partial(go, callbacks=print), "callbacks=<built-in.*a list of"),
    "no callbacks": (partial(go, callbacks=None), "callbacks=None.*a list of"),
    "a callback that is a number": (partial(go, callbacks=[3]), "callbacks=\\[3\\].*functions"),
    "a legacy key": (partial(go, key=jax.random.PRNGKey(0)), "key=.*jax.random.key"),
    "a seed for a key": (partial(go, key=0), "key=0.*jax.random.key"),
    "a table of keys": (partial(go, key=jax.random.split(KEY, (2, 2))), "\\(2, 2\\).*\\[seeds\\]"),
}


@pytest.mark.parametrize("case", TABLE)
def test_bad_input_is_named_at_once(case):
    call, message = TABLE[case]
    jaxpg.make("CartPole-v1")  # imports are not what is timed
    begun = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert time.process_time() - begun < 1
    assert "\n" not in str(caught.value)


ONE = {"num_envs": 1, "num_steps": 1}
NORMALIZED = ONE | {"normalize_advantage": True}
EPISODE = {"num_envs": 1, "episodes": "first", "weight": "total_return", "baseline": "none"}
# What takes away the mean of a batch of one entry; and the nearest that does not.
ALONE = {
    "ppo": ({"num_envs": 1, "num_steps": 4}, {"minibatches": 2}),
    "ppo with memory": ({**NORMALIZED, "num_envs": 4, "memory": "gru"}, {"num_steps": 2}),
    "a2c": (NORMALIZED, {"num_steps": 2}),
    "a2c with batch norm": ({**ONE, "batch_norm": True, "shared": True}, {"num_envs": 2}),
    "trpo": ({**ONE, "critic_minibatches": 1}, {"normalize_advantage": False}),
    "npg": ({**ONE, "critic_minibatches": 1}, {"num_envs": 2}),
    "reinforce": (EPISODE, {"num_envs": 2}),
    "reinforce with a mean": (EPISODE | {"normalize": False, "baseline": "mean"},
                              {"weight": "reward_to_go"}),
    "reinforce with a critic": (EPISODE | {"params": 1, "baseline": "value"}, {"params": 2}),
    "ddpg": ({"batch_norm": True, "batch_size": 1}, {"batch_size": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", ALONE)
def test_a_batch_of_one_entry_is_not_its_own_mean(case):
    """All that is left of it is 0, and a run would learn nothing, for ever, without a word."""
    (alone, more), agent = ALONE[case], jaxpg.agents.get(case.partition(" ")[0])

    def begin(params=500, **fields):
        env = jaxpg.make("CartPole-v1", max_steps_in_episode=params)
        env = jaxpg.make("Pendulum-v1") if agent.name == "ddpg" else env
        jax.eval_shape(partial(agent.init, agent.Config(**fields), env), KEY)

    with pytest.raises(ValueError, match=r"Config \w+=.*: allowed is .*larger batch; of") as caught:
        begin(**alone)
    assert "\n" not in str(caught.value)
    begin(**alone | more)


def test_annealing_needs_its_length_when_stepping_by_hand():
    env, agent = jaxpg.make("CartPole-v1"), jaxpg.ppo
    state = jax.eval_shape(partial(agent.init, agent.Config(), env), KEY)
    with pytest.raises(ValueError, match="total_steps=None"):
        jax.eval_shape(partial(agent.step, agent.Config(), env), state)


BAD_STEPS = (True, 0, "5", "many", 2.5, float("nan"), float("inf"), None, [5])


@pytest.mark.parametrize("total_steps", BAD_STEPS)
def test_a_pure_run_judges_its_length(total_steps):
    with pytest.raises(ValueError, match=r"total_steps=.*: allowed is an integer >= 1"):
        jaxpg.train(jaxpg.ppo, jaxpg.ppo.Config(), jaxpg.make("CartPole-v1"), KEY, total_steps)


@pytest.mark.parametrize("key", [0, None, "a", [KEY], jax.random.split(KEY, 2)])
def test_a_pure_run_takes_one_key(key):
    with pytest.raises(ValueError, match=r"key.*: allowed is (jax\.random.key|one key)"):
        jaxpg.train(jaxpg.ppo, jaxpg.ppo.Config(), jaxpg.make("CartPole-v1"), key, 100)


def test_a_length_may_be_any_whole_number():
    for total_steps in (1e3, np.int64(1000), np.float32(1000), jnp.array(1000)):
        assert num_iterations(jaxpg.ppo, jaxpg.ppo.Config(), total_steps) == 2


EVALUATIONS = {
    "no episodes": ({"episodes": 0}, "episodes=0.*>= 1"),
    "episodes are a truth": ({"episodes": True}, "episodes=True.*>= 1"),
    "half an episode": ({"episodes": 2.5}, "episodes=2.5.*>= 1"),
    "episodes in an array": ({"episodes": jnp.array(3)}, "episodes=Array.*>= 1"),
    "no steps": ({"max_steps": 0}, "max_steps=0.*>= 1"),
    "steps are None": ({"max_steps": None}, "max_steps=None.*>= 1"),
    "more steps than are counted": ({"max_steps": 2**40}, "max_steps=1099511627776.*<= 2147483647"),
    "greedy in words": ({"greedy": "no"}, "greedy='no'.*True or False"),
    "a seed for a key": ({"key": 0}, "key=0.*jax.random.key"),
    "a legacy key": ({"key": jax.random.PRNGKey(0)}, "key=.*jax.random.key"),
    "several keys for one seed": (
        {"key": jax.random.split(KEY, 2)},
        "key of shape \\(2,\\).*as many as the state has seeds",
    ),
}


@pytest.mark.parametrize("case", EVALUATIONS)
def test_an_evaluation_judges_what_it_is_given(case):
    arguments, message = EVALUATIONS[case]
    agent, env = jaxpg.q_learning, jaxpg.make("Cliff-jaxpg")
    state = agent.init(agent.Config(), env, KEY)
    arguments = {"key": KEY, "max_steps": 50} | arguments
    with pytest.raises(ValueError, match=message):
        jaxpg.evaluate(agent, agent.Config(), env, state, **arguments)


@pytest.mark.parametrize("num_steps", [True, -1, 2.5, "3", None])
def test_a_rollout_has_a_whole_number_of_steps(num_steps):
    env = jaxpg.make("Cliff-jaxpg")
    state = jaxpg.core.env.reset(env, KEY, 2)
    with pytest.raises(ValueError, match=r"num_steps=.*: allowed is an integer >= 0"):
        jaxpg.rollout(env, lambda *args: None, state, (), KEY, num_steps)


def test_a_folder_is_not_made_for_what_cannot_be_called(tmp_path):
    cfg, env = jaxpg.ppo.Config(), jaxpg.make("CartPole-v1")
    with pytest.raises(ValueError, match="callbacks=Callback"):
        jaxpg.run(
            jaxpg.ppo, cfg, env, KEY,
            total_steps=100, callbacks=jaxpg.Callback(), out=tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
