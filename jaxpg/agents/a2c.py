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
from jaxpg.core import fields
from jaxpg.core.config import config, require_several, static, validate
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Transition, Tree
from jaxpg.loops import intrinsic, optimizers, policies
from jaxpg.nets.actor_critic import actor_critic, empty_carry
from jaxpg.nets.networks import MLP, learning, running
from jaxpg.nets.noise import exploring
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import gae, n_step_return, starts


@config
class Config:
    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(16)
    advantage: str = static(
        "gae",
        choices=("gae", "n_step"),
        help="Estimator: GAE, or the return of exactly n_step steps.",
    )
    gae_lambda: float = fields.gae_lambda(0.95)
    n_step: int = static(5, ge=1, help="Steps of the n_step return; fewer at the end of a rollout.")
    gamma: float = fields.gamma(0.99)
    learning_rate: float = fields.learning_rate(1e-3, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    normalize_advantage: bool = fields.normalize_advantage(False)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    max_grad_norm: float = fields.max_grad_norm(0.5)
    bonus: fields.Bonus = fields.bonus("none")
    bonus_weight: float = fields.bonus_weight(1.0)
    bonus_gamma: float = fields.bonus_gamma(0.99)
    head: str = fields.head("auto", gsde=True)
    noise_every: int | None = fields.noise_every(None)
    noise_log_std: float = fields.noise_log_std(0.0)
    noise_gradient: bool = fields.noise_gradient(False)
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("tanh")
    critic_net: fields.Net | None = fields.critic_net(None)
    critic_hidden: tuple[int, ...] | None = fields.critic_hidden(None)
    critic_activation: fields.Activation | None = fields.critic_activation(None)
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    batch_norm: bool = fields.batch_norm(
        False, help="Batch norm, with a shared torso and no memory."
    )
    shared: bool = fields.shared(False)
    critic_gradient: bool = fields.critic_gradient(True)
    memory: str = fields.memory("none")
    memory_size: int = fields.memory_size(64)
    memory_length: int = fields.memory_length(32)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    env: E.EnvState
    carry: Tree  # [num_envs, ...] what the policy remembers, and noise that it holds; or ()
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    iteration: Array  # [] int32
    key: Key
    explorer: intrinsic.Intrinsic | tuple[()] = ()  # () without a bonus


class Seen(NamedTuple):
    """Outputs of the policy at collection: leaves [T, N, ...]."""

    draw: Array
    carry: Tree  # before the step
    bonus: Tree = ()  # what is added to the advantage; () without a bonus


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    if cfg.batch_norm and not (cfg.shared and cfg.memory == "none"):
        raise ValueError(
            f"a2c.Config batch_norm=True: allowed is False with shared={cfg.shared} and memory="
            f"{cfg.memory!r}; True goes with shared=True and memory='none'"
        )
    for field in ("normalize_advantage", "batch_norm"):
        require_several(cfg, field, cfg.num_envs * cfg.num_steps, "num_envs * num_steps = 1 step")
    k_params, k_env, key = jax.random.split(key, 3)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs)
    env_state = E.reset(env, k_env, cfg.num_envs)
    return TrainState(
        params=params,
        opt_state=optimizers.actor_critic(cfg).init(params),
        env=env_state,
        carry=empty_carry(net, params, env_state.obs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
        explorer=intrinsic.init_on_policy(cfg, env, k_params, cfg.critic_learning_rate),
    )


def advantages(cfg: Config, t: Transition, value: Array, next_value: Array) -> Array:
    """Advantages [T, N]: GAE, or n-step returns less the critic's values."""
    ends = t.terminated, t.truncated
    if cfg.advantage == "gae":
        return gae(t.reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda, scan=scan_returns)
    return n_step_return(t.reward, next_value, *ends, cfg.gamma, cfg.n_step) - value


def loss(
    params: Tree, cfg: Config, env: E.Env, t: Transition, seen: Seen, key: Key
) -> tuple[Array, Metrics]:
    """Loss of actor, critic and entropy bonus on a rollout [T, N]: algorithm S3's two gradients."""
    net, pi = actor_critic(cfg, env)
    start = starts(t.terminated | t.truncated)
    out, value, after = learning(net, params, t.obs, seen.carry, start)
    _, next_value, _ = net.apply(params, t.next_obs, after)
    baseline = net.apply(params, t.obs, method="value") if cfg.batch_norm else value
    advantage = jax.lax.stop_gradient(advantages(cfg, t, baseline, next_value))
    target = advantage + jax.lax.stop_gradient(baseline)
    if cfg.bonus != "none":
        advantage += seen.bonus
    if cfg.normalize_advantage:
        advantage = normalize.standardize(advantage)

    l_policy = losses.policy_gradient(pi.log_prob(out, seen.draw), advantage)
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
        out, _, after = net.apply(state.params, obs, carry, rngs=exploring(cfg, key))
        draw, _ = pi.sample(out, key)
        return pi.action(draw), after, Seen(draw, carry)

    env_state, carry, t, seen, metrics = E.rollout(
        env, act, state.env, state.carry, k_rollout, cfg.num_steps
    )
    ended = t.terminated | t.truncated
    stats = normalize.update_stats(
        state.obs_stats, t.obs, cfg.normalize_steps
    )  # for the next rollout
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, ended, cfg.gamma, scan=scan_returns
    )
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    explorer, found = state.explorer, {}
    if explorer:
        last = normalize.whiten(state.obs_stats, env_state.obs)
        explorer, more, found = intrinsic.learn_on_policy(
            cfg, env, explorer, t, obs, last, k_loss, cfg.critic_learning_rate
        )
        seen = seen._replace(bonus=cfg.bonus_weight * more)
    t = t._replace(obs=obs, next_obs=next_obs, reward=reward)

    # Learn: one update of both on the whole rollout.
    grads, info = jax.grad(loss, has_aux=True)(state.params, cfg, env, t, seen, k_loss)
    updates, opt_state = optimizers.actor_critic(cfg).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(running(net, state.params, t.obs), updates)
    state = TrainState(
        params, opt_state, env_state, carry, stats, scale, state.iteration + 1, key, explorer
    )
    return state, metrics | info | found


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


a2c = Agent("a2c", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
