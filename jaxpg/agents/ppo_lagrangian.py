"""PPO under a limit on the cost of an episode, by a Lagrange multiplier.

The Lagrangian  J - lambda (J_C - cost_limit)  is maximised by the policy and minimised by lambda.
For the policy it is PPO (arXiv:1707.06347 eq. 7) on the advantages (A - lambda A_C) / (1 + lambda),
with a critic for the reward and one for the cost. lambda is moved once an iteration, by a PID
controller, Stooke et al. (2020), arXiv:2007.03964 algorithm 2:

    v = J_C - cost_limit,   I <- (I + v)+,   lambda = (p v + i I + d (J_C - J_C before)+)+

With p = d = 0 it is the usual dual ascent (Ray et al. 2019), which swings about the limit, for
ever where the policy answers quickly: the integral is a quarter of a period late. The proportional
part damps it.

Deviations: J_C is the mean of the episodes that ended in the last rollout; before the first has
ended lambda is 0, and where none ended it stays. The cost's critic is fitted apart from the actor's
epochs.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, require_several, static, validate
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import fit_value, optimizers, policies
from jaxpg.loops.costs import CostState, init_costs, learn_costs, require_limit
from jaxpg.loops.minibatch import epochs
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import losses, normalize
from jaxpg.ops.constraints import penalize
from jaxpg.ops.returns import gae


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int = fields.num_steps(128)
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Per epoch; divides num_envs * num_steps.")
    cost_limit: float | tuple[float, ...] | None = fields.cost_limit(None)
    cost_unit: str = fields.cost_unit("episode")
    cost_gamma: float = fields.cost_gamma(0.99)
    cost_gae_lambda: float = fields.cost_gae_lambda(0.95)
    multiplier_p: float = fields.multiplier_gain(0.05, "a violation")
    multiplier_i: float = fields.multiplier_gain(0.005, "the sum of violations")
    multiplier_d: float = fields.multiplier_gain(0.05, "a rise of the cost")
    learning_rate: float = fields.learning_rate(2.5e-4)
    learning_rate_schedule: Schedule = schedule("linear")
    critic_learning_rate: float = fields.learning_rate(1e-3, of="cost's critic")
    critic_learning_rate_schedule: Schedule = schedule()
    critic_epochs: int = fields.critic_epochs(4)
    critic_minibatches: int = fields.critic_minibatches(4)
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    gae_lambda: float = fields.gae_lambda(0.95)
    clip_eps: float = fields.clip_eps(0.2)
    clip_eps_schedule: Schedule = schedule()
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    value_coef: float = fields.value_coef(0.5)
    clip_value: bool = fields.clip_value(True)
    normalize_advantage: bool = fields.normalize_advantage(True)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
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

    shared: ClassVar[bool] = False
    memory: ClassVar[str] = "none"
    batch_norm: ClassVar[bool] = False  # a ratio of policies would compare two normalisations


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    costs: CostState | tuple[()]  # () without a limit
    env: E.EnvState
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    iteration: Array  # [] int32
    key: Key


class Batch(NamedTuple):
    """Training data of a rollout: leaves [T * N, ...]."""

    obs: Tree
    draw: Array
    log_prob: Array
    value: Array
    advantage: Array  # of the Lagrangian
    target: Array


def optimizer(cfg: Config) -> optax.GradientTransformation:
    return optimizers.build_optimizer(
        cfg.optimizer, cfg.learning_rate, cfg.max_grad_norm, optimizers.ON_POLICY, ravel=True
    )


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    fit_value.check(cfg)
    require_limit(cfg, env)
    batch = cfg.num_envs * cfg.num_steps
    if batch % cfg.minibatches:
        raise ValueError(
            f"ppo_lagrangian.Config minibatches={cfg.minibatches}: allowed is a divisor of the "
            f"batch, num_envs * num_steps = {cfg.num_envs} * {cfg.num_steps} = {batch}"
        )
    steps = batch // cfg.minibatches
    require_several(cfg, "normalize_advantage", steps, f"a minibatch of {steps} step")
    k_params, k_cost, k_env, key = jax.random.split(key, 4)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs)
    return TrainState(
        params=params,
        opt_state=optimizer(cfg).init(params),
        costs=init_costs(cfg, env, net.init(k_cost, env.example_obs, method="value")),
        env=E.reset(env, k_env, cfg.num_envs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def loss(params: Tree, cfg: Config, env: E.Env, b: Batch, key: Key) -> tuple[Array, Metrics]:
    """Loss of a minibatch: the surrogate of the Lagrangian, the critic's error and the entropy."""
    net, pi = actor_critic(cfg, env)
    out, value, _ = net.apply(params, b.obs)
    log_ratio = pi.log_prob(out, b.draw) - b.log_prob
    advantage = normalize.standardize(b.advantage) if cfg.normalize_advantage else b.advantage
    l_policy = losses.ppo_clip(log_ratio, advantage, cfg.clip_eps)
    if cfg.clip_value:
        l_value = losses.clipped_value(value, b.value, b.target, cfg.clip_eps)
    else:
        l_value = losses.value(value, b.target)
    entropy = pi.entropy(out, key).mean()
    total = l_policy + cfg.value_coef * l_value - cfg.entropy_coef * entropy
    return total, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_ratio),
        "policy/clip_fraction": (jnp.abs(jnp.expm1(log_ratio)) > cfg.clip_eps).mean(dtype=float),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    (net, pi), opt = actor_critic(cfg, env), optimizer(cfg)
    key, k_rollout, k_learn, k_cost = jax.random.split(state.key, 4)

    # Collect.
    def act(obs, carry, key):
        out = net.apply(state.params, normalize.whiten(state.obs_stats, obs), method="policy")
        draw, log_prob = pi.sample(out, key)
        return pi.action(draw), carry, (draw, log_prob)

    env_state, _, t, (draw, log_prob), metrics = E.rollout(
        env, act, state.env, (), k_rollout, cfg.num_steps
    )

    # Advantages of the reward and of the cost, and the multiplier between them.
    def value_of(critic, obs):
        return net.apply(critic, obs, method="value")

    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    value, next_value = value_of(state.params, obs), value_of(state.params, next_obs)
    ends = t.terminated, t.truncated
    advantage = gae(
        t.reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda, scan=scan_returns
    )
    target, costs, info = advantage + value, state.costs, {}
    if cfg.cost_limit is not None:
        costs, limit, info = learn_costs(cfg, value_of, state.costs, t, obs, next_obs, k_cost)
        advantage = penalize(advantage, limit.advantage, costs.weight)
    batch = Batch(obs, draw, log_prob, value, advantage, target)
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    # Learn.
    def update(carry, minibatch, key):
        params, opt_state = carry
        grads, found = jax.grad(loss, has_aux=True)(params, cfg, env, minibatch, key)
        updates, opt_state = opt.update(grads, opt_state, params)
        return (optimizers.apply_updates(params, updates), opt_state), found

    (params, opt_state), found = epochs(
        update, (state.params, state.opt_state), batch, k_learn,
        num_epochs=cfg.num_epochs, minibatches=cfg.minibatches,
    )  # fmt: skip
    info |= found | {"value/explained_variance": losses.explained_variance(value, target)}
    stats = normalize.update_stats(state.obs_stats, t.obs, cfg.normalize_steps)
    state = TrainState(params, opt_state, costs, env_state, stats, state.iteration + 1, key)
    return state, metrics | info


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


ppo_lagrangian = Agent(
    "ppo_lagrangian", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps
)
