"""IMPALA, Espeholt et al. (2018), arXiv:1802.01561: actors behind the learner, and V-trace.

Actors collect with the parameters of `lag` iterations ago; the learner's policy has moved on, so
what they bring is off-policy. V-trace corrects it (eq. 1): truncated importance weights rho say
whose value is learnt, truncated traces c how far a surprise reaches back. The policy follows

    rho_t grad log pi(a_t | s_t) (r_t + gamma v_{t+1} - V(s_t)),

with v the V-trace targets that the critic regresses on (sec. 4.2); at lambda < 1 it is mixed with
V. In the original the lag is whatever the queue of a distributed system makes it; here it is a
number, so that a run is deterministic and the correction can be studied. At lag 0 every ratio is 1
and this is the on-policy n-step actor-critic with n up to the end of the rollout.
`correction="none"` learns from the stale rollout as if it were fresh.

Deviations from the paper: Adam unless `optimizer="rmsprop"`; actor and critic have their own
learning rates instead of a weight on the critic's loss, and by default their own torsos.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Transition, Tree
from jaxpg.loops import lag, optimizers, policies
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import losses, normalize
from jaxpg.ops.importance import effective_sample_size, vtrace


@config
class Config:
    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(20)
    lag: int = static(1, ge=0, help="Iterations between the actors' parameters and the learner's.")
    correction: str = static(
        "vtrace", choices=("vtrace", "none"), help="Correction of the targets for old actors."
    )
    rho_bar: float = number(1.0, gt=0, help="Bound of the importance weights; at least c_bar.")
    c_bar: float = number(1.0, ge=0, help="Bound of the traces.")
    vtrace_lambda: float = number(
        1.0, ge=0, le=1, help="Lambda of V-trace (remark 2); 0 is the one-step target."
    )
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
    batch_norm: ClassVar[bool] = False  # actors would normalise by other means


class TrainState(NamedTuple):
    params: Tree
    history: Tree  # [lag, ...] the parameters before, oldest first
    opt_state: optax.OptState
    env: E.EnvState
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    iteration: Array  # [] int32
    key: Key


class Seen(NamedTuple):
    """Outputs of the actors' policy: leaves [T, N, ...]."""

    draw: Array
    log_prob: Array


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    k_params, k_env, key = jax.random.split(key, 3)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs)
    return TrainState(
        params=params,
        history=lag.begin(params, cfg.lag),
        opt_state=optimizers.actor_critic(cfg).init(params),
        env=E.reset(env, k_env, cfg.num_envs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def loss(
    params: Tree, cfg: Config, env: E.Env, t: Transition, seen: Seen, key: Key
) -> tuple[Array, Metrics]:
    """Loss of policy, critic and entropy on a rollout [T, N] of the actors' policy: sec. 4.2."""
    net, pi = actor_critic(cfg, env)
    out, value, _ = net.apply(params, t.obs)
    next_value = net.apply(params, t.next_obs, method="value")
    log_prob = pi.log_prob(out, seen.draw)
    log_ratio = jax.lax.stop_gradient(log_prob - seen.log_prob)
    target, advantage = vtrace(
        log_ratio if cfg.correction == "vtrace" else jnp.zeros_like(log_ratio),
        t.reward, value, next_value, t.terminated, t.truncated,
        cfg.gamma, cfg.rho_bar, cfg.c_bar, cfg.vtrace_lambda, scan=scan_returns,
    )  # fmt: skip
    l_policy = losses.policy_gradient(log_prob, advantage)
    l_value = losses.value(value, target)
    entropy = pi.entropy(out, key).mean()
    return l_policy + l_value - cfg.entropy_coef * entropy, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "policy/lag_kl": losses.approx_kl(log_ratio),  # from the actors' policy to the learner's
        "policy/effective_samples": effective_sample_size(log_ratio.reshape(-1)) / log_ratio.size,
        "value/explained_variance": losses.explained_variance(value, target),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    net, pi = actor_critic(cfg, env)
    key, k_rollout, k_loss = jax.random.split(state.key, 3)

    # Collect, with the parameters of `lag` iterations ago.
    behaviour = lag.oldest(state.history, state.params)

    def act(obs, carry, key):
        obs = normalize.whiten(state.obs_stats, obs)
        draw, log_prob = pi.sample(net.apply(behaviour, obs, method="policy"), key)
        return pi.action(draw), carry, Seen(draw, log_prob)

    env_state, _, t, seen, metrics = E.rollout(env, act, state.env, (), k_rollout, cfg.num_steps)

    # Normalise by the statistics that the actors had; what they met is for the next rollout.
    stats = normalize.update_stats(state.obs_stats, t.obs, cfg.normalize_steps)
    ended = t.terminated | t.truncated
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, ended, cfg.gamma, scan=scan_returns
    )
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    t = t._replace(obs=obs, reward=reward, next_obs=next_obs)

    # Learn, from the parameters of now.
    grads, info = jax.grad(loss, has_aux=True)(state.params, cfg, env, t, seen, k_loss)
    updates, opt_state = optimizers.actor_critic(cfg).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    history = lag.push(state.history, state.params)
    state = TrainState(
        params, history, opt_state, env_state, stats, scale, state.iteration + 1, key
    )
    return state, metrics | info


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


impala = Agent("impala", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
