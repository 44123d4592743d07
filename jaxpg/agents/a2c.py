"""Advantage actor-critic, the synchronous form of A3C, Mnih et al. (2016), arXiv:1602.01783.

The actor follows grad log pi(a_t | s_t) A_t, the critic regresses on the target A_t + V(s_t), one
update a rollout. The advantage is GAE (arXiv:1506.02438), which at lambda = 1 is the paper's
algorithm S3 (each step looks ahead to the end of the rollout) and at lambda = 0 the TD error; or
the return of exactly `n_step` steps. With `num_steps=1` either is the one-step actor-critic of
Sutton & Barto (2018), sec. 13.5.

Deviations from the paper: Adam instead of shared RMSProp, unless `optimizer="rmsprop"`; and the
actor and the critic have their own learning rates (a shared torso learns at the actor's).

With `batch_norm` (Ioffe & Szegedy 2015) the gradient is that of the network with the mean and
variance of the rollout. Running ones serve everything else: acting, advantages and targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Transition, Tree
from jaxpg.loops import optimizers
from jaxpg.nets.actor_critic import actor_critic, empty_carry
from jaxpg.nets.heads import HEADS
from jaxpg.nets.memories import MEMORIES
from jaxpg.nets.networks import ACTIVATIONS, INITS, MLP, learning, running
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import gae, n_step_return, starts


@config
class Config:
    num_envs: int = static(16, ge=1)
    num_steps: int = static(16, ge=1)  # per environment and iteration
    advantage: str = static("gae", choices=("gae", "n_step"))
    gae_lambda: float = number(0.95, ge=0, le=1)
    n_step: int = static(5, ge=1)  # of advantage "n_step"; fewer at the end of a rollout
    gamma: float = number(0.99, ge=0, le=1)
    learning_rate: float = number(1e-3, ge=0)  # of the actor
    learning_rate_schedule: str = schedule()
    critic_learning_rate: float = number(1e-3, ge=0)
    critic_learning_rate_schedule: str = schedule()
    optimizer: str = static("adam", choices=("adam", "rmsprop"))
    entropy_coef: float = number(0.01, ge=0)
    entropy_coef_schedule: str = schedule()
    normalize_advantage: bool = static(False)
    normalize_obs: bool = static(False)
    normalize_reward: bool = static(False)
    max_grad_norm: float = number(0.5, gt=0)
    head: str = static("auto", choices=HEADS)
    temperature: float = number(1.0, gt=0)  # of a categorical head
    net: type = static(MLP)  # any flax module: net(hidden, activation, kernel_init)
    hidden: tuple[int, ...] = static((64, 64), ge=1)
    activation: str = static("tanh", choices=ACTIVATIONS)
    kernel_init: str = static("orthogonal", choices=INITS)
    layer_norm: bool = static(False)
    batch_norm: bool = static(False)  # with a shared torso and no memory
    shared: bool = static(False)  # one torso for actor and critic
    critic_gradient: bool = static(True)  # whether a shared torso learns from the critic too
    memory: str = static("none", choices=MEMORIES)
    memory_size: int = static(64, ge=1)
    memory_length: int = static(32, ge=1)  # steps that attention looks back
    warmup: float = number(0.05, ge=0, le=1)  # fraction of the run, of warmup schedules
    total_steps: float | None = number(None, gt=0)  # of schedules; `train` and `run` fill it in


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    env: E.EnvState
    carry: Tree  # [num_envs, ...] what the policy remembers; () without memory
    obs_stats: normalize.RunningStats | tuple  # () when off
    reward_scale: normalize.RewardScale | tuple
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    if cfg.batch_norm and not (cfg.shared and cfg.memory == "none"):
        raise ValueError(
            f"a2c.Config batch_norm=True: allowed is False with shared={cfg.shared} and memory="
            f"{cfg.memory!r}; True goes with shared=True and memory='none'"
        )
    k_params, k_env, key = jax.random.split(key, 3)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs)
    env_state = E.reset(env, k_env, cfg.num_envs)
    return TrainState(
        params=params,
        opt_state=optimizers.actor_critic(cfg).init(params),
        env=env_state,
        carry=empty_carry(net, params, env_state.obs),
        obs_stats=normalize.init_stats(env.example_obs) if cfg.normalize_obs else (),
        reward_scale=normalize.init_reward_scale(cfg.num_envs) if cfg.normalize_reward else (),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def advantages(cfg: Config, t: Transition, value: Array, next_value: Array) -> Array:
    """How much better each step did than the critic said. [T, N]"""
    ends = t.terminated, t.truncated
    if cfg.advantage == "gae":
        return gae(t.reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda)
    return n_step_return(t.reward, next_value, *ends, cfg.gamma, cfg.n_step) - value


def loss(params: Tree, cfg: Config, env: E.Env, t: Transition, key: Key) -> tuple[Array, Metrics]:
    """Actor, critic and entropy bonus on a rollout [T, N]: algorithm S3's two gradients."""
    net, pi = actor_critic(cfg, env)
    start = starts(t.terminated | t.truncated)
    out, value, after = learning(net, params, t.obs, t.extras["carry"], start)
    _, next_value, _ = net.apply(params, t.next_obs, after)
    baseline = net.apply(params, t.obs, method="value") if cfg.batch_norm else value
    advantage = jax.lax.stop_gradient(advantages(cfg, t, baseline, next_value))
    target = advantage + jax.lax.stop_gradient(baseline)
    if cfg.normalize_advantage:
        advantage = normalize.standardize(advantage)

    l_policy = losses.policy_gradient(pi.log_prob(out, t.extras["draw"]), advantage)
    l_value = losses.value(value, target)
    entropy = pi.entropy(out, key).mean()
    return l_policy + l_value - cfg.entropy_coef * entropy, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "value/explained_variance": losses.explained_variance(value, target),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    net, pi = actor_critic(cfg, env)
    key, k_rollout, k_loss = jax.random.split(state.key, 3)

    # Collect.
    def act(obs, carry, key):
        obs = normalize.whiten(state.obs_stats, obs)
        out, _, after = net.apply(state.params, obs, carry)
        draw, _ = pi.sample(out, key)
        return pi.action(draw), after, {"draw": draw, "carry": carry}

    env_state, carry, t, metrics = E.rollout(
        env, act, state.env, state.carry, k_rollout, cfg.num_steps
    )
    ended = t.terminated | t.truncated
    stats = normalize.update_stats(state.obs_stats, t.obs)  # for the next rollout
    scale, reward = normalize.scale_reward(state.reward_scale, t.reward, ended, cfg.gamma)
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    t = t._replace(obs=obs, next_obs=next_obs, reward=reward)

    # Learn: one update of both on the whole rollout.
    grads, info = jax.grad(loss, has_aux=True)(state.params, cfg, env, t, k_loss)
    updates, opt_state = optimizers.actor_critic(cfg).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(running(net, state.params, t.obs), updates)
    state = TrainState(params, opt_state, env_state, carry, stats, scale, state.iteration + 1, key)
    return state, metrics | info


def act(cfg: Config, env: E.Env, state: TrainState, obs, carry, key: Key, greedy: bool):
    net, pi = actor_critic(cfg, env)
    out, _, carry = net.apply(state.params, normalize.whiten(state.obs_stats, obs), carry)
    return pi.action(pi.mode(out) if greedy else pi.sample(out, key)[0]), carry


a2c = Agent("a2c", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
