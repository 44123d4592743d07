"""An algorithm of one's own beside the baselines, in one table: advantage-weighted regression.

python examples/own_agent.py [--total-steps 50000] [--seeds 4] [--out comparisons/own]

Peng et al. (2019), arXiv:1910.00177, here on fresh rollouts in CartPole. The policy imitates its
own actions, the more the better they were:

    loss = mean of  - w_t log pi(a_t | s_t) + 1/2 (V(s_t) - R_t)^2,    w_t = exp(A_t / beta)

An agent is three pure functions, a config, and the line at the end that packs them. It goes where
an agent of jaxpg goes. From the command it has a name too: own_agent:awr, in this file's folder.
"""

import argparse
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops.returns import gae


@jaxpg.config
class Config:
    """Static fields are a part of the compiled program; numbers may be swept within one."""

    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(64)
    num_epochs: int = jaxpg.static(8, ge=1, help="Steps of Adam on each rollout.")
    beta: float = jaxpg.number(4.0, gt=0, help="The smaller, the fewer actions are imitated.")
    gamma: float = fields.gamma(0.99)
    gae_lambda: float = fields.gae_lambda(0.95)
    learning_rate: float = fields.learning_rate(3e-3)
    head: str = fields.head("auto")
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("tanh")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)

    shared: ClassVar[bool] = False  # what it goes without, and `actor_critic` asks for
    memory: ClassVar[str] = "none"
    batch_norm: ClassVar[bool] = False


class TrainState(NamedTuple):
    params: Any
    opt_state: optax.OptState
    env: E.EnvState
    key: jax.Array


def optimizer(cfg):
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(cfg.learning_rate))


def init(cfg, env, key):
    k_params, k_env, key = jax.random.split(key, 3)
    params = actor_critic(cfg, env)[0].init(k_params, env.example_obs)
    return TrainState(params, optimizer(cfg).init(params), E.reset(env, k_env, cfg.num_envs), key)


def step(cfg, env, state):
    """One iteration: a rollout, and some steps of Adam on all of it."""
    net, pi = actor_critic(cfg, env)
    key, k_rollout = jax.random.split(state.key)

    def policy(obs, carry, key):
        draw, _ = pi.sample(net.apply(state.params, obs, method="policy"), key)
        return pi.action(draw), carry, draw

    env_state, _, t, draw, metrics = E.rollout(env, policy, state.env, (), k_rollout, cfg.num_steps)
    value, next_value = (net.apply(state.params, o, method="value") for o in (t.obs, t.next_obs))
    ends = t.terminated, t.truncated  # the one cuts the bootstrap, both cut the trace
    advantage = gae(t.reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda)
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    weight = jnp.minimum(jnp.exp(scaled / cfg.beta), 20)

    def loss(params):
        out, now, _ = net.apply(params, t.obs)
        l_policy = -(weight * pi.log_prob(out, draw)).mean()
        l_value = 0.5 * jnp.square(now - (value + advantage)).mean()
        return l_policy + l_value, {"loss/policy": l_policy, "loss/value": l_value}

    def descend(carry, _):
        params, opt_state = carry
        grads, info = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer(cfg).update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), info

    learnt = state.params, state.opt_state
    (params, opt_state), info = jax.lax.scan(descend, learnt, length=cfg.num_epochs)
    metrics |= {name: x.mean() for name, x in info.items()}
    return TrainState(params, opt_state, env_state, key), metrics


def act(cfg, env, state, obs, carry, key, greedy):
    net, pi = actor_critic(cfg, env)
    out = net.apply(state.params, obs, method="policy")
    return pi.action(pi.mode(out) if greedy else pi.sample(out, key)[0]), carry


awr = jaxpg.Agent("awr", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--total-steps", type=int, default=50_000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", help="a new folder, for `jaxpg report`")
    args = parser.parse_args()
    agents = [awr, (awr, {"beta": 1.0}), "ppo"]  # an object, settings of one's own, a name
    found = jaxpg.compare(
        agents, ["CartPole-v1"], jax.random.key(0),
        total_steps=args.total_steps, seeds=args.seeds, evaluations=1, out=args.out,
    )  # fmt: skip
    print(found.scores.groupby("agent", sort=False)["score"].agg(["mean", "min", "max"]).round(1))


if __name__ == "__main__":
    main()
