"""Proximal policy option-critic, Klissarov, Bacon, Harb & Precup (2017), arXiv:1712.00004.

PPO over options. On a rollout that was collected by call and return, see `loops.options`, several
epochs of minibatches descend the sum of

    policies   PPO's clipped surrogate of pi_omega(a | s), arXiv:1707.06347 eq. 7, with the
               advantage target - Q(s, omega)
    choices    the same of the policy over options, of the steps at which an option was chosen,
               with the advantage target - V(s)
    endings    beta_omega(s') (Q(s', omega) - V(s') + cost), theorem 2 of option-critic
    critic     the error of Q(s, omega), clipped as PPO's

where V is the mean of Q under the policy over options, and no gradient flows through Q in the
first three. Targets are TD(lambda) returns along the options that followed, beginning from
r + gamma U(omega, s'); with `gae_lambda` they are what PPO has, with one option they are the same.
With `deliberation_cost` ending an option has its price (Harb et al. 2018, arXiv:1709.04571). A
time limit is no end: s' is the episode's own last state, and its value counts.

Deviations from the paper: policies, terminations and the policy over options share a torso, Q has
its own (there, all have their own); terminations learn in the same minibatches as the rest.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, require_several, static, validate
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import optimizers, options
from jaxpg.loops.minibatch import epochs
from jaxpg.nets.networks import MLP
from jaxpg.ops import losses, normalize
from jaxpg.ops.options import entropy_of, log_prob_of, of_option, state_value, termination_loss


@config
class Config:
    num_envs: int = fields.num_envs(4)
    num_steps: int = fields.num_steps(128)
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Per epoch; divides num_envs * num_steps.")
    options: int = static(2, ge=1, help="Options that are learnt.")
    deliberation_cost: float = number(
        0.0, ge=0, help="Reward that is paid whenever an option ends."
    )
    learning_rate: float = fields.learning_rate(2.5e-4, of="options' policies")
    learning_rate_schedule: Schedule = schedule("linear")
    termination_learning_rate: float = fields.learning_rate(2.5e-4, of="terminations")
    termination_learning_rate_schedule: Schedule = schedule("linear")
    critic_learning_rate: float = fields.learning_rate(2.5e-4, of="critic")
    critic_learning_rate_schedule: Schedule = schedule("linear")
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    gae_lambda: float = fields.gae_lambda(0.95)
    clip_eps: float = fields.clip_eps(0.2)
    clip_eps_schedule: Schedule = schedule()
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    choice_entropy_coef: float = number(
        0.01, ge=0, help="Weight of the entropy (nats) of the policy over options."
    )
    clip_value: bool = fields.clip_value(True)
    normalize_advantage: bool = fields.normalize_advantage(True)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    max_grad_norm: float = fields.max_grad_norm(0.5)
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

    option_policy: ClassVar[str] = "learnt"


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    env: E.EnvState
    running: options.Running  # [num_envs] the options in force
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    iteration: Array  # [] int32
    key: Key


class Batch(NamedTuple):
    """Training data of a rollout: leaves [T * N, ...]."""

    obs: Tree
    next_obs: Tree
    seen: options.Seen
    choice: Array  # log-probability of the option, if it was chosen
    value: Array  # Q(s, omega) at collection
    target: Array
    advantage: Array  # of the action: target - Q(s, omega)
    choice_advantage: Array  # of the option: target - V(s)
    stay_advantage: Array  # of going on with the option in next_obs
    going: Array  # bool: the episode did not terminate


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    batch = cfg.num_envs * cfg.num_steps
    if batch % cfg.minibatches:
        raise ValueError(
            f"ppoc.Config minibatches={cfg.minibatches}: allowed is a divisor of the batch, "
            f"num_envs * num_steps = {cfg.num_envs} * {cfg.num_steps} = {batch}"
        )
    steps = batch // cfg.minibatches
    require_several(cfg, "normalize_advantage", steps, f"a minibatch of {steps} step")
    k_params, k_env, key = jax.random.split(key, 3)
    params = options.network(cfg, env)[0].init(k_params, env.example_obs)
    return TrainState(
        params=params,
        opt_state=optimizers.actor_critic(cfg).init(params),
        env=E.reset(env, k_env, cfg.num_envs),
        running=options.begin(cfg.num_envs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def loss(params: Tree, cfg: Config, env: E.Env, b: Batch, key: Key) -> tuple[Array, Metrics]:
    """Loss of a minibatch: of policies, choices, endings and critic."""
    net, pi = options.network(cfg, env)
    now, option = net.apply(params, b.obs), b.seen.option
    out, q = of_option(now.out, option), of_option(now.q, option)
    beta = of_option(net.apply(params, b.next_obs).beta, option)
    advantage = normalize.standardize(b.advantage) if cfg.normalize_advantage else b.advantage

    log_ratio = pi.log_prob(out, b.seen.draw) - b.seen.log_prob
    l_policy = losses.ppo_clip(log_ratio, advantage, cfg.clip_eps)
    choice = log_prob_of(now.choice, option) - b.choice
    l_choice = losses.ppo_clip(choice, b.choice_advantage, cfg.clip_eps, b.seen.chosen)
    l_termination = termination_loss(beta, b.stay_advantage, b.going)
    if cfg.clip_value:
        l_value = losses.clipped_value(q, b.value, b.target, cfg.clip_eps)
    else:
        l_value = losses.value(q, b.target)
    entropy, choices = pi.entropy(out, key).mean(), entropy_of(now.choice).mean()

    total = l_policy + l_choice + l_termination + l_value
    return total - cfg.entropy_coef * entropy - cfg.choice_entropy_coef * choices, {
        "loss/policy": l_policy,
        "loss/choice": l_choice,
        "loss/termination": l_termination,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_ratio),
        "policy/clip_fraction": (jnp.abs(jnp.expm1(log_ratio)) > cfg.clip_eps).mean(dtype=float),
        "options/termination": beta.mean(),
        "options/choice_entropy": choices,
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    (net, _), opt = options.network(cfg, env), optimizers.actor_critic(cfg)
    key, k_rollout, k_learn = jax.random.split(state.key, 3)

    # Collect.
    env_state, running, t, seen, metrics = options.collect(
        cfg, env, state.params, state.obs_stats, state.env, state.running, k_rollout
    )
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, t.terminated | t.truncated, cfg.gamma, scan=scan_returns
    )

    # Advantages, of the action, of the option and of going on with it.
    now = net.apply(state.params, obs)
    after = options.arrive(cfg, net.apply(state.params, next_obs), seen.option)
    target, value = options.returns(cfg, reward, t, after), of_option(now.q, seen.option)
    batch = Batch(
        obs=obs, next_obs=next_obs, seen=seen, choice=log_prob_of(now.choice, seen.option),
        value=value, target=target, advantage=target - value,
        choice_advantage=target - state_value(now.q, options.over_options(cfg, now)),
        stay_advantage=after.advantage, going=~t.terminated,
    )  # fmt: skip
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    # Learn.
    def update(carry, minibatch, key):
        params, opt_state = carry
        grads, info = jax.grad(loss, has_aux=True)(params, cfg, env, minibatch, key)
        updates, opt_state = opt.update(grads, opt_state, params)
        return (optimizers.apply_updates(params, updates), opt_state), info

    (params, opt_state), info = epochs(
        update, (state.params, state.opt_state), batch, k_learn,
        num_epochs=cfg.num_epochs, minibatches=cfg.minibatches,
    )  # fmt: skip
    info["value/explained_variance"] = losses.explained_variance(value, target)
    # The statistics are for the next rollout: this one was collected and learnt as it was seen.
    stats = normalize.update_stats(state.obs_stats, t.obs, cfg.normalize_steps)
    state = TrainState(
        params, opt_state, env_state, running, stats, scale, state.iteration + 1, key
    )
    return state, metrics | info


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Array]:
    return options.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


ppoc = Agent("ppoc", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
