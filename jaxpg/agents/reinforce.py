"""REINFORCE, Williams (1992), with the variance reductions that every textbook adds to it.

The estimate of the policy gradient (Sutton et al. 2000; Sutton & Barto 2018, sec. 13.3-13.4) is

    mean over episodes of  sum_t  [gamma^t]  grad log pi(a_t | s_t)  (G_t - b(s_t)),

where G_t is the reward to go, or the return of the whole episode; the baseline b is nothing, the
batch's mean or a learnt value; and gamma^t, which most implementations leave out, is a switch.

Whole episodes only. An iteration resets every environment and runs it for `num_steps`; steps of
an episode that does not end within them are masked out, and `episode/count` counts the others.
`num_steps` must be at least the longest episode, so that the first one of each environment always
counts. Later ones count if they fit, which favours short ones: `episodes="first"` leaves them out
and is unbiased, at the price of the steps it throws away.

`worst` makes it EPOpt, Rajeswaran et al. (2017), arXiv:1610.01283 algorithm 1: only the worst
episodes count. That is unbiased with `baseline="quantile"` and whole returns, see `ops.cvar`.

A time limit ends an episode, and its return is what it earned until then; only the learnt
baseline bootstraps from its own value there (truncation is not termination).
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, require_several, static, validate
from jaxpg.core.episodes import in_first_episode
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.train import episode_limit, episode_steps
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Transition, Tree
from jaxpg.loops import policies
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import cvar, losses, normalize
from jaxpg.ops.normalize import masked_mean, standardize
from jaxpg.ops.returns import complete, episode_return, episode_time, reward_to_go


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int | None = fields.episode_steps(
        None,
        help="Steps of an environment: at least the longest episode. None is its limit, or 500.",
    )
    episodes: str = static(
        "fitting",
        choices=("fitting", "first"),
        help="Episodes that count: all that fit into the rollout, or each environment's first.",
    )
    weight: str = static(
        "reward_to_go",
        choices=("reward_to_go", "total_return"),
        help="Weight of a step: the rewards from it on, or the whole return.",
    )
    baseline: str = static(
        "value",
        choices=("none", "mean", "value", "quantile"),
        help="Baseline of the weight: none, their mean, a learnt value, or the best of the worst.",
    )
    worst: float | None = fields.worst(None)
    discount_states: bool = static(False, help="Factor gamma^t of a reward to go.")
    normalize: bool = static(
        True, help="Weights with mean 0 and variance 1: a mean baseline as well."
    )
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    gamma: float = fields.gamma(0.99)
    learning_rate: float = fields.learning_rate(1e-3, of="policy")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="baseline")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="policy and the baseline")
    critic_updates: int = static(
        10, ge=1, help="Gradient steps of the learnt baseline in an iteration."
    )
    entropy_coef: float = fields.entropy_coef(0.0)
    entropy_coef_schedule: Schedule = schedule()
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
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    shared: ClassVar[bool] = False  # actor and critic learn by different losses at different times
    memory: ClassVar[str] = "none"  # updates are of single steps
    batch_norm: ClassVar[bool] = False  # a batch has steps that do not count
    stored_steps: ClassVar[tuple[int, int]] = (500, 10_000)  # if num_steps is None


class TrainState(NamedTuple):
    actor: Tree
    critic: Tree  # () unless the baseline is learnt
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    iteration: Array  # [] int32
    key: Key


class Batch(NamedTuple):
    """A rollout from fresh episodes: leaves [T, N, ...]."""

    obs: Tree
    draw: Array
    weight: Array  # G_t - b(s_t), or what stands for it
    counts: Array  # bool: whether the step is part of an episode that is learnt from
    episodes: Array  # [] how many episodes those are


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    steps, longest = episode_steps(cfg, env), episode_limit(env)
    if longest > steps:
        raise ValueError(
            f"reinforce.Config num_steps={cfg.num_steps}: allowed is an integer >= "
            f"{longest}, the longest episode of {env.name}; it learns from whole ones only"
        )
    check_weights(cfg, steps, longest)
    key, k_actor, k_critic = jax.random.split(key, 3)
    net, _ = actor_critic(cfg, env)
    actor, critic = net.init(k_actor, env.example_obs, method="policy"), ()
    if cfg.baseline == "value":
        critic = net.init(k_critic, env.example_obs, method="value")
    rule = build_optimizer(cfg.optimizer, cfg.learning_rate)  # its state does not know the rate
    return TrainState(
        actor=actor,
        critic=critic,
        actor_opt=rule.init(actor),
        critic_opt=rule.init(critic),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def check_weights(cfg: Config, steps: int, longest: int) -> None:
    """Raises ValueError for weights that are one number, its own mean, or less a wrong quantile.

    steps: of each environment. longest: the length of the longest episode; 0 if it is not known.
    """
    steps, first = cfg.num_envs * steps, cfg.num_envs if cfg.episodes == "first" else 0
    one_step = 1 in (steps, first * longest)
    one_return = cfg.weight == "total_return" and cfg.baseline != "value" and first == 1
    numbers, what = 2 - (one_step or one_return), "one step" if one_step else "one episode"
    require_several(cfg, "normalize", numbers, what)
    require_several(cfg, "baseline", numbers, what, "mean", "none")
    whole = cfg.weight == "total_return" and not cfg.normalize and cfg.worst is not None
    if cfg.baseline == "quantile" and not whole:
        raise ValueError(
            "reinforce.Config baseline='quantile': allowed with a number for worst, "
            "weight='total_return' and normalize=False alone"
        )


def weights(cfg: Config, t: Transition, value, next_value) -> tuple[Array, Array]:
    """G_t - b(s_t), and which steps count: both [T, N]. The values are zeros if none are learnt."""
    ended = t.terminated | t.truncated
    counts = complete(ended)
    if cfg.episodes == "first":
        counts &= in_first_episode(ended)
    if cfg.worst is not None:
        total = episode_return(t.reward, ended, cfg.gamma, scan=scan_returns)
        worst, quantile = cvar.worst_episodes(total, ended & counts, cfg.worst)
        counts &= worst
        value = quantile if cfg.baseline == "quantile" else value
    if cfg.weight == "reward_to_go":
        weight = reward_to_go(
            t.reward, t.terminated, t.truncated, cfg.gamma, next_value, scan=scan_returns
        )
    else:
        weight = episode_return(t.reward, ended, cfg.gamma, scan=scan_returns)
    weight = weight - (masked_mean(weight, counts) if cfg.baseline == "mean" else value)
    if cfg.normalize:
        weight = standardize(weight, counts)
    if cfg.discount_states and cfg.weight == "reward_to_go":  # the total return has it in it
        weight = weight * cfg.gamma ** episode_time(ended, scan=scan_returns)
    return weight, counts


def loss(actor: Tree, cfg: Config, env: E.Env, b: Batch, key: Key) -> tuple[Array, Metrics]:
    """Loss whose gradient is minus the estimate above: sums over steps, a mean over episodes."""
    net, pi = actor_critic(cfg, env)
    out = net.apply(actor, b.obs, method="policy")
    steps_per_episode = b.counts.sum(dtype=jnp.int32) / jnp.maximum(b.episodes, 1)
    l_policy = steps_per_episode * losses.policy_gradient(
        pi.log_prob(out, b.draw), b.weight, b.counts
    )
    entropy = masked_mean(pi.entropy(out, key), b.counts)
    total = l_policy - cfg.entropy_coef * steps_per_episode * entropy
    return total, {"loss/policy": l_policy, "policy/entropy": entropy}


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    num_steps = episode_steps(cfg, env)
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * num_steps)
    net, pi = actor_critic(cfg, env)
    key, k_env, k_rollout, k_loss = jax.random.split(state.key, 4)

    # Collect whole episodes.
    def act(obs, carry, key):
        obs = normalize.whiten(state.obs_stats, obs)
        draw, _ = pi.sample(net.apply(state.actor, obs, method="policy"), key)
        return pi.action(draw), carry, draw

    fresh = E.reset(env, k_env, cfg.num_envs)
    _, _, t, draw, metrics = E.rollout(env, act, fresh, (), k_rollout, num_steps)

    # Normalise; the statistics of observations are for the next rollout.
    stats = normalize.update_stats(state.obs_stats, t.obs, cfg.normalize_steps)
    ended = (t.terminated | t.truncated).at[-1].set(True)  # the next one begins anew
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, ended, cfg.gamma, scan=scan_returns
    )
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    t = t._replace(obs=obs, reward=reward, next_obs=next_obs)

    # Weigh each step.
    value = next_value = jnp.zeros_like(t.reward)
    if cfg.baseline == "value":
        value = net.apply(state.critic, t.obs, method="value")
        next_value = net.apply(state.critic, t.next_obs, method="value")
    weight, counts = weights(cfg, t, value, next_value)
    episodes = ((t.terminated | t.truncated) & counts).sum(dtype=jnp.int32)
    batch = Batch(t.obs, draw, weight, counts, episodes)

    # Learn.
    grads, info = jax.grad(loss, has_aux=True)(state.actor, cfg, env, batch, k_loss)
    rule = build_optimizer(cfg.optimizer, cfg.learning_rate)
    updates, actor_opt = rule.update(grads, state.actor_opt, state.actor)
    state = state._replace(
        actor=optax.apply_updates(state.actor, updates),
        actor_opt=actor_opt,
        obs_stats=stats,
        reward_scale=scale,
        iteration=state.iteration + 1,
        key=key,
    )
    metrics |= info
    if cfg.worst is not None:
        total = episode_return(t.reward, ended, cfg.gamma, scan=scan_returns)
        metrics["worst/return"] = masked_mean(total, ended & counts)
    if cfg.baseline == "value":
        target = reward_to_go(
            t.reward, t.terminated, t.truncated, cfg.gamma, next_value, scan=scan_returns
        )
        critic, critic_opt, l_value = fit(cfg, net, state, t.obs, target, counts)
        state = state._replace(critic=critic, critic_opt=critic_opt)
        explained = losses.explained_variance(value, target, counts)
        metrics |= {"loss/value": l_value, "value/explained_variance": explained}
    return state, metrics


def fit(cfg: Config, net, state: TrainState, obs, target, counts) -> tuple[Tree, Tree, Array]:
    """Regresses the learnt baseline on this iteration's returns."""
    rule = build_optimizer(cfg.optimizer, cfg.critic_learning_rate)

    def error(critic):
        return losses.value(net.apply(critic, obs, method="value"), target, counts)

    def update(carry, _):
        critic, opt_state = carry
        l_value, grads = jax.value_and_grad(error)(critic)
        updates, opt_state = rule.update(grads, opt_state, critic)
        return (optax.apply_updates(critic, updates), opt_state), l_value

    carry = state.critic, state.critic_opt
    carry, l_value = jax.lax.scan(update, carry, None, cfg.critic_updates)
    return *carry, l_value[0]


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.actor, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    return cfg.num_envs * episode_steps(cfg)


reinforce = Agent("reinforce", Config, init, step, act, steps_per_iter)
