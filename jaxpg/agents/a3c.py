"""Asynchronous advantage actor-critic, Mnih et al. (2016), arXiv:1602.01783, algorithm S3.

In the original, threads share one set of parameters. Each copies it, acts for a few steps,
computes the gradient at its copy, and applies that to what the shared parameters have become in
the meantime, without a lock. To the maths this is gradient descent with stale gradients: which
copy a gradient belongs to is all that the threads decide.

Here it is decided by a number. `num_workers` workers, each with its own environments, take turns;
each acts and differentiates with the parameters of `lag` updates ago and applies its gradient to
the newest. Threads of equal speed are `lag = num_workers - 1`: while one computes, each of the
others applies one update. With `lag = 0` the workers are synchronous in turn, and one such worker
is A2C, exactly. What is gone is the chance in the order of threads, so a run is deterministic; and
torn reads, which are an accident of the original and not its idea.

Deviations from the paper: Adam unless `optimizer="rmsprop"` (its statistics are shared by the
workers, as in the paper's best variant); actor and critic have their own learning rates; GAE,
which at the default `gae_lambda=1` is the paper's n-step return to the end of the rollout.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, static, validate
from jaxpg.core.metrics import merge_metrics
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Transition, Tree
from jaxpg.loops import lag, optimizers, policies
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import gae


@config
class Config:
    num_workers: int = static(4, ge=1, help="Workers, each with a copy of the parameters.")
    lag: int = static(3, ge=0, help="Updates between a worker's copy and the shared parameters.")
    num_envs: int = fields.num_envs(4, help="Environments of each worker, side by side.")
    num_steps: int = fields.num_steps(16, help="Steps of each environment in an update.")
    gae_lambda: float = fields.gae_lambda(1.0)
    gamma: float = fields.gamma(0.99)
    learning_rate: float = fields.learning_rate(1e-3, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    max_grad_norm: float = fields.max_grad_norm(0.5)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    head: str = fields.head("auto")
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("tanh")
    critic_net: fields.Net | None = fields.critic_net(None)
    critic_hidden: tuple[int, ...] | None = fields.critic_hidden(None)
    critic_activation: fields.Activation | None = fields.critic_activation(None)
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    shared: bool = fields.shared(False)
    critic_gradient: bool = fields.critic_gradient(True)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    memory: ClassVar[str] = "none"  # updates are of single steps
    batch_norm: ClassVar[bool] = False  # copies would normalise by other means


class TrainState(NamedTuple):
    params: Tree
    history: Tree  # [lag, ...] the parameters before, oldest first
    opt_state: optax.OptState
    env: E.EnvState  # [W, N, ...]
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]  # returns [W, N]
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    k_params, k_env, key = jax.random.split(key, 3)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs)
    envs = E.reset(env, k_env, cfg.num_workers * cfg.num_envs)
    shape = cfg.num_workers, cfg.num_envs
    return TrainState(
        params=params,
        history=lag.begin(params, cfg.lag),
        opt_state=optimizers.actor_critic(cfg).init(params),
        env=jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), envs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(shape, cfg.normalize_reward),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def loss(
    params: Tree, cfg: Config, env: E.Env, t: Transition, draw: Array, key: Key
) -> tuple[Array, Metrics]:
    """Loss of actor, critic and entropy bonus on one worker's rollout [T, N]."""
    net, pi = actor_critic(cfg, env)
    out, value, _ = net.apply(params, t.obs)
    next_value = net.apply(params, t.next_obs, method="value")
    ends = t.terminated, t.truncated
    advantage = jax.lax.stop_gradient(
        gae(t.reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda, scan=scan_returns)
    )
    target = advantage + jax.lax.stop_gradient(value)
    l_policy = losses.policy_gradient(pi.log_prob(out, draw), advantage)
    l_value = losses.value(value, target)
    entropy = pi.entropy(out, key).mean()
    return l_policy + l_value - cfg.entropy_coef * entropy, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "value/explained_variance": losses.explained_variance(value, target),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    """One update by each worker, in turn. The statistics are shared, as the parameters are."""
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    net, pi = actor_critic(cfg, env)
    opt = optimizers.actor_critic(cfg)

    def work(shared, own) -> tuple[Tree, Tree]:
        params, history, opt_state, stats, of_rewards, key = shared
        env_state, returns = own
        key, k_rollout, k_loss = jax.random.split(key, 3)
        copy = lag.oldest(history, params)

        def act(obs, carry, key):
            out = net.apply(copy, normalize.whiten(stats, obs), method="policy")
            draw, _ = pi.sample(out, key)
            return pi.action(draw), carry, draw

        env_state, _, t, draw, metrics = E.rollout(
            env, act, env_state, (), k_rollout, cfg.num_steps
        )
        ended = t.terminated | t.truncated
        scale = normalize.RewardScale(of_rewards, *returns) if cfg.normalize_reward else ()
        scale, reward = normalize.scale_reward(scale, t.reward, ended, cfg.gamma, scan=scan_returns)
        scaled = t._replace(
            obs=normalize.whiten(stats, t.obs),
            reward=reward,
            next_obs=normalize.whiten(stats, t.next_obs),
        )
        grads, info = jax.grad(loss, has_aux=True)(copy, cfg, env, scaled, draw, k_loss)
        updates, opt_state = opt.update(grads, opt_state, params)
        history, params = lag.push(history, params), optax.apply_updates(params, updates)
        stats = normalize.update_stats(stats, t.obs, cfg.normalize_steps)
        of_rewards, *returns = scale or ((),)
        shared = params, history, opt_state, stats, of_rewards, key
        return shared, (env_state, returns, metrics, info)

    of_rewards, *returns = state.reward_scale or ((),)
    shared = state.params, state.history, state.opt_state, state.obs_stats, of_rewards, state.key
    shared, (env_state, returns, metrics, info) = jax.lax.scan(work, shared, (state.env, returns))
    params, history, opt_state, stats, of_rewards, key = shared
    scale = normalize.RewardScale(of_rewards, *returns) if cfg.normalize_reward else ()
    metrics = merge_metrics(metrics) | jax.tree.map(lambda m: m.mean(0), info)
    state = TrainState(
        params, history, opt_state, env_state, stats, scale, state.iteration + 1, key
    )
    return state, metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    return cfg.num_workers * cfg.num_envs * cfg.num_steps


a3c = Agent("a3c", Config, init, step, act, steps_per_iter)
