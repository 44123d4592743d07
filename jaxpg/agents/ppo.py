"""Proximal Policy Optimization, Schulman et al. (2017), arXiv:1707.06347.

Both objectives of the paper, the clipped surrogate (eq. 7) and the penalty on the KL divergence
(eq. 8) with an adaptive weight, and a third: the weight as the Lagrange multiplier of the
constraint KL <= target_kl, moved by dual ascent.

Beside the paper stand what its authors' code does and the field took over (Engstrom et al. 2020,
arXiv:2005.12729; Huang et al. 2022): a clipped value loss, advantages standardised per
minibatch, orthogonal initialisation, a global gradient norm, annealing, running scales of
observations and rewards. Each is a switch.
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
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import intrinsic, levels, optimizers, policies
from jaxpg.loops.minibatch import epochs, require_minibatches
from jaxpg.nets.actor_critic import actor_critic, empty_carry
from jaxpg.nets.networks import MLP
from jaxpg.nets.noise import exploring
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import gae, starts


@config
class Config:
    num_envs: int = fields.num_envs(4)
    num_steps: int = fields.num_steps(128)
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Per epoch; divides num_envs * num_steps.")
    learning_rate: float = fields.learning_rate(2.5e-4)
    learning_rate_schedule: Schedule = schedule("linear")
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    gae_lambda: float = fields.gae_lambda(0.95)
    objective: str = static(
        "clip",
        choices=("clip", "kl", "lagrangian"),
        help="Clipped ratio, KL penalty, or a KL constraint with a learnt multiplier.",
    )
    clip_eps: float = fields.clip_eps(0.2)
    clip_eps_schedule: Schedule = schedule()
    target_kl: float | None = number(
        None, gt=0, help="KL (nats) per update: clip skips epochs above it, the others aim at it."
    )
    dual_learning_rate: float = number(0.1, ge=0, help="Of the multiplier, in units of target_kl.")
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    value_coef: float = fields.value_coef(0.5)
    clip_value: bool = fields.clip_value(True)
    normalize_advantage: bool = fields.normalize_advantage(True)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    max_grad_norm: float = fields.max_grad_norm(0.5)
    bonus: fields.Bonus = fields.bonus("none")
    bonus_weight: float = fields.bonus_weight(1.0)
    bonus_gamma: float = fields.bonus_gamma(0.99)
    level_replay: bool = fields.level_replay(False)
    level_temperature: float = fields.level_temperature(0.1)
    level_staleness: float = fields.level_staleness(0.1)
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
    shared: bool = fields.shared(False)
    critic_gradient: bool = fields.critic_gradient(True)
    memory: str = fields.memory(
        "none", help="Memory of the network; minibatches are then of sequences."
    )
    memory_size: int = fields.memory_size(64)
    memory_length: int = fields.memory_length(32)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    batch_norm: ClassVar[bool] = False  # a ratio of policies would compare two normalisations


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    env: E.EnvState
    carry: Tree  # [num_envs, ...] what the policy remembers, and noise that it holds; or ()
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    kl_penalty: Array  # [] weight of the penalty under objectives "kl" and "lagrangian"
    iteration: Array  # [] int32
    key: Key
    explorer: intrinsic.Intrinsic | tuple[()] = ()  # () without a bonus
    played: levels.Levels | tuple[()] = ()  # () without level replay


class Seen(NamedTuple):
    """Outputs of the policy at collection: leaves [T, N, ...]."""

    draw: Array
    log_prob: Array
    out: Array  # the head's inputs
    carry: Tree  # before the step


class Batch(NamedTuple):
    """Training data of a rollout: leaves [T, N, ...]; without memory, [T * N, ...]."""

    obs: Tree
    carry: Tree  # before the step; with memory [1, N, ...], before the first
    start: Array  # whether the step is the first of its episode
    draw: Array
    log_prob: Array
    out: Array  # the policy's outputs at collection, for the exact KL divergence
    value: Array
    advantage: Array
    target: Array


def optimizer(cfg: Config) -> optax.GradientTransformation:
    # Adam works element by element, so that all parameters may be one vector: one step, not one for
    # each. An optimiser that looks at shapes (muon) is not flattened.
    return optimizers.build_optimizer(
        cfg.optimizer, cfg.learning_rate, cfg.max_grad_norm, optimizers.ON_POLICY, ravel=True
    )


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    require_minibatches(cfg)
    if cfg.objective != "clip" and cfg.target_kl is None:
        raise ValueError(
            f"ppo.Config target_kl=None: with objective={cfg.objective!r} allowed is a number > 0"
        )

    k_params, k_env, key = jax.random.split(key, 3)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs)
    env_state = E.reset(env, k_env, cfg.num_envs)
    return TrainState(
        params=params,
        opt_state=optimizer(cfg).init(params),
        env=env_state,
        carry=empty_carry(net, params, env_state.obs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        kl_penalty=jnp.ones((), float),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
        explorer=intrinsic.init_on_policy(cfg, env, k_params, cfg.learning_rate),
        played=levels.init(cfg, env),
    )


def loss(
    params: Tree, cfg: Config, env: E.Env, b: Batch, kl_penalty, key: Key
) -> tuple[Array, Metrics]:
    """Loss of a minibatch, eq. 9: the surrogate, the critic's error and the entropy bonus."""
    net, pi = actor_critic(cfg, env)
    k_kl, k_entropy = jax.random.split(key)
    out, value, _ = net.apply(params, b.obs, b.carry, b.start)
    log_ratio = pi.log_prob(out, b.draw) - b.log_prob
    advantage = normalize.standardize(b.advantage) if cfg.normalize_advantage else b.advantage

    if cfg.objective == "clip":
        l_policy = losses.ppo_clip(log_ratio, advantage, cfg.clip_eps)
        kl = losses.approx_kl(log_ratio)
    else:
        exact_kl = pi.kl(b.out, out, k_kl)
        l_policy = losses.ppo_penalty(log_ratio, advantage, exact_kl, kl_penalty)
        kl = exact_kl.mean()
    if cfg.clip_value:
        l_value = losses.clipped_value(value, b.value, b.target, cfg.clip_eps)
    else:
        l_value = losses.value(value, b.target)
    entropy = pi.entropy(out, k_entropy).mean()

    total = l_policy + cfg.value_coef * l_value - cfg.entropy_coef * entropy
    return total, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "policy/approx_kl": kl,
        "policy/clip_fraction": (jnp.abs(jnp.expm1(log_ratio)) > cfg.clip_eps).mean(dtype=float),
    }


def move_penalty(
    cfg: Config, env: E.Env, params: Tree, b: Batch, penalty: Array, key: Key
) -> tuple[Array, Array]:
    """The mean KL divergence of the new policy from the old, and the penalty's next weight:
    section 4 of the paper, or dual ascent."""
    net, pi = actor_critic(cfg, env)
    out, _, _ = net.apply(params, b.obs, b.carry, b.start)
    kl = pi.kl(b.out, out, key).mean()
    if cfg.objective == "kl":
        return kl, losses.adapt_penalty(penalty, kl, cfg.target_kl)
    return kl, losses.dual_ascent(penalty, kl / cfg.target_kl - 1, cfg.dual_learning_rate)


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    (net, pi), opt = actor_critic(cfg, env), optimizer(cfg)
    key, k_rollout, k_learn, k_kl = jax.random.split(state.key, 4)

    # Collect.
    def act(obs, carry, key):
        obs = normalize.whiten(state.obs_stats, obs)
        out, _, after = net.apply(state.params, obs, carry, rngs=exploring(cfg, key))
        draw, log_prob = pi.sample(out, key)
        return pi.action(draw), after, Seen(draw, log_prob, out, carry)

    drawn = levels.draw_levels(cfg, env, state.played)
    env_state, carry, t, seen, metrics = E.rollout(
        drawn, act, state.env, state.carry, k_rollout, cfg.num_steps
    )

    # Advantages. The critic runs once over the batch, not inside the rollout.
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    ended = t.terminated | t.truncated
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, ended, cfg.gamma, scan=scan_returns
    )
    _, value, after = net.apply(state.params, obs, seen.carry)
    _, next_value, _ = net.apply(state.params, next_obs, after)
    ends = t.terminated, t.truncated
    advantage = gae(reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda, scan=scan_returns)
    learnt, explorer, found = advantage, state.explorer, {}
    if explorer:
        last = normalize.whiten(state.obs_stats, env_state.obs)
        explorer, more, found = intrinsic.learn_on_policy(
            cfg, env, explorer, t, obs, last, k_learn, cfg.learning_rate,
            cfg.num_epochs, cfg.minibatches,
        )  # fmt: skip
        learnt = advantage + cfg.bonus_weight * more
    played, known = levels.update_levels(state.played, state.env, t, advantage)
    batch = Batch(
        obs=obs, start=starts(ended), **seen._asdict(),
        value=value, advantage=learnt, target=advantage + value,
    )  # fmt: skip
    if cfg.memory == "none":
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    else:
        batch = batch._replace(carry=jax.tree.map(lambda x: x[:1], batch.carry))

    # Learn.
    penalty = state.kl_penalty

    def update(carry, minibatch, key):
        params, opt_state = carry
        grads, info = jax.grad(loss, has_aux=True)(params, cfg, env, minibatch, penalty, key)
        updates, opt_state = opt.update(grads, opt_state, params)
        return (optimizers.apply_updates(params, updates), opt_state), info

    def too_far(info):
        return info["policy/approx_kl"] > cfg.target_kl

    (params, opt_state), info = epochs(
        update, (state.params, state.opt_state), batch, k_learn,
        num_epochs=cfg.num_epochs, minibatches=cfg.minibatches, axis=int(cfg.memory != "none"),
        stop=too_far if cfg.objective == "clip" and cfg.target_kl is not None else None,
    )  # fmt: skip

    if cfg.objective != "clip":
        kl, penalty = move_penalty(cfg, env, params, batch, penalty, k_kl)
        info |= {"policy/approx_kl": kl, "policy/kl_penalty": penalty}
    explained = losses.explained_variance(value, advantage + value)
    # The statistics are for the next rollout: this one was collected and learnt as it was seen.
    stats = normalize.update_stats(state.obs_stats, t.obs, cfg.normalize_steps)
    state = TrainState(
        params, opt_state, env_state, carry, stats, scale, penalty, state.iteration + 1, key,
        explorer, played,
    )  # fmt: skip
    return state, metrics | info | found | known | {"value/explained_variance": explained}


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


ppo = Agent("ppo", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
