"""Soft actor-critic for discrete actions, Christodoulou (2019), arXiv:1910.07207.

SAC's aim, the return plus alpha times the policy's entropy. With finitely many actions nothing is
sampled in the losses: pi(. | s) and Q(s, .) are vectors, and the expectations over actions are
sums (eqs. 10 to 12):

    y = r + gamma sum_a pi(a | s') (min_i Q'_i(s', a) - alpha log pi(a | s'))
    J_pi = E[ sum_a pi(a | s) (alpha log pi(a | s) - min_i Q_i(s, a)) ]
    J_alpha = E[ sum_a pi(a | s) (-alpha (log pi(a | s) + target_entropy)) ]

With a `cost_limit` the policy's loss is that of a Lagrangian (see `loops.replay_costs`).

Deviations from the paper: alpha is learnt through its logarithm; a time limit bootstraps, since
truncation is not termination.
"""

import functools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, validate
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import descent, replay, replay_costs
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets.actor_critic import ActorCritic
from jaxpg.nets.networks import MLP, Network, torso
from jaxpg.nets.values import discrete_q
from jaxpg.ops.constraints import penalize


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int = fields.num_steps(1)
    buffer_size: int = fields.buffer_size(100_000)
    learning_starts: int = fields.learning_starts(1000)
    random_warmup: bool = fields.random_warmup(True)
    batch_size: int = fields.batch_size(64)
    updates_per_step: float = fields.updates_per_step(0.25)
    learning_rate: float = fields.learning_rate(3e-4, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(3e-4, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    tau: float = fields.tau(0.005)
    alpha: float = fields.alpha(1.0)
    learn_alpha: bool = fields.learn_alpha(True)
    alpha_learning_rate: float = fields.learning_rate(3e-4, of="temperature alpha")
    alpha_optimizer: Optimizer = fields.optimizer("adam", of="temperature alpha")
    target_entropy_ratio: float = number(
        0.98, ge=0, le=1, help="Target entropy, as a fraction of the uniform policy's."
    )
    cost_limit: float | None = fields.cost_limit(None)
    cost_gamma: float = fields.cost_gamma(0.99)
    multiplier_p: float = fields.multiplier_gain(0.05, "a violation")
    multiplier_i: float = fields.multiplier_gain(0.005, "the sum of violations")
    multiplier_d: float = fields.multiplier_gain(0.05, "a rise of the cost")
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("relu")
    critic_net: fields.Net | None = fields.critic_net(None)
    critic_hidden: tuple[int, ...] | None = fields.critic_hidden(None)
    critic_activation: fields.Activation | None = fields.critic_activation(None)
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    n_step: ClassVar[int] = 1  # one-step targets
    prioritized: ClassVar[bool] = False  # uniform sampling
    memory: ClassVar[str] = "none"  # updates are of single steps
    hindsight: ClassVar[str] = "none"  # of dqn, ddpg, td3 and sac
    bonus: ClassVar[str] = "none"  # of ppo, a2c, dqn and sac
    batch_norm: ClassVar[bool] = False  # the paper has none
    dropout: ClassVar[float] = 0.0  # the paper has none


class Params(NamedTuple):
    actor: Tree
    critic: tuple[Tree, Tree]
    log_alpha: Tree  # []; () where alpha is fixed


class Learner(NamedTuple):
    params: Params
    target: tuple[Tree, Tree]  # a copy of the critics, behind
    opt_state: Params  # of each
    costs: Any = ()  # a `replay_costs.CostState`; () without a limit


class TrainState(NamedTuple):
    learner: Learner
    replay: replay.Replay
    iteration: Array  # [] int32
    key: Key


def optimizers(cfg: Config) -> Params:
    return Params(
        build_optimizer(cfg.optimizer, cfg.learning_rate),
        build_optimizer(cfg.optimizer, cfg.critic_learning_rate),
        build_optimizer(cfg.alpha_optimizer, cfg.alpha_learning_rate),
    )


def actor_network(cfg: Config, env: E.Env) -> Network:
    return ActorCritic(env.obs_shapes, env.action_space.n, 0, torso(cfg), cfg.kernel_init)


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    q = discrete_q(cfg, env)
    k_actor, k_first, k_second, k_env, key = jax.random.split(key, 5)
    params = Params(
        actor=actor_network(cfg, env).init(k_actor, env.example_obs, method="policy"),
        critic=(q.init(k_first, env.example_obs), q.init(k_second, env.example_obs)),
        log_alpha=jnp.log(jnp.asarray(cfg.alpha, float)) if cfg.learn_alpha else (),
    )
    target = jax.tree.map(jnp.copy, params.critic)
    costs = replay_costs.init_costs(cfg, env, params.critic)
    return TrainState(
        learner=Learner(params, target, descent.init(optimizers(cfg), params), costs),
        replay=replay.init(cfg, env, k_env),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def log_pi(cfg: Config, env: E.Env, actor: Tree, obs: Array) -> Array:
    """The policy: obs [..., *obs] -> log-probabilities of all actions [..., actions]."""
    return jax.nn.log_softmax(actor_network(cfg, env).apply(actor, obs, method="policy"))


def both(cfg: Config, env: E.Env, critic: tuple[Tree, Tree], obs: Array) -> Array:
    """Q_1 and Q_2 of all actions: [2, B, actions]."""
    return jnp.stack([discrete_q(cfg, env).apply(c, obs) for c in critic])


def temperature(cfg: Config, params: Params) -> Array | float:
    return jnp.exp(params.log_alpha) if cfg.learn_alpha else cfg.alpha


def critic_target(cfg: Config, env: E.Env, params: Params, target, b: replay.Batch) -> Array:
    """Target y of the critics, as above. [B]"""
    log_prob = log_pi(cfg, env, params.actor, b.next_obs)
    soft = both(cfg, env, target, b.next_obs).min(0) - temperature(cfg, params) * log_prob
    return replay.td_target(b, (jnp.exp(log_prob) * soft).sum(-1))


def policy_loss(
    cfg: Config, env: E.Env, params: Params, obs: Array, costs: Any = ()
) -> tuple[Array, Array]:
    """Loss J_pi of the policy, as above, and its mean entropy; with `costs` of the Lagrangian."""
    log_prob = log_pi(cfg, env, params.actor, obs)
    prob, q = jnp.exp(log_prob), both(cfg, env, params.critic, obs).min(0)
    loss = temperature(cfg, params) * log_prob - q
    if costs:
        loss = -penalize(-loss, both(cfg, env, costs.critic, obs).max(0), costs.weight)
    return (prob * loss).sum(-1).mean(), -(prob * log_prob).sum(-1).mean()


def alpha_gradient(cfg: Config, env: E.Env, log_alpha: Array, entropy: Array) -> Array:
    """Slope of J_alpha in log alpha, which is alpha (entropy - target_entropy)."""
    target_entropy = cfg.target_entropy_ratio * math.log(env.action_space.n)
    return jnp.exp(log_alpha) * (entropy - target_entropy)


def update(cfg: Config, env: E.Env, learner: Learner, b: replay.Batch):
    """One update of everything. Returns TD errors [B] and metrics."""
    params, target, opt_state, costs = learner
    descend = functools.partial(descent.descend, optimizers(cfg))
    info = {}

    # The critics.
    y = critic_target(cfg, env, params, target, b)

    def q_of(critic):
        q = both(cfg, env, critic, b.obs)
        return jnp.take_along_axis(q, b.action[None, :, None], -1)[..., 0]

    def critic_loss(critic):
        error = q_of(critic) - y
        return 0.5 * jnp.square(error).mean(-1).sum(), error[0]

    (info["loss/q"], error), grads = jax.value_and_grad(critic_loss, has_aux=True)(params.critic)
    params, opt_state = descend("critic", grads, params, opt_state)

    if cfg.cost_limit is not None:
        prob = jnp.exp(log_pi(cfg, env, params.actor, b.next_obs))
        next_cost = (prob * both(cfg, env, costs.target, b.next_obs).max(0)).sum(-1)
        costs, info["loss/cost_value"] = replay_costs.learn_costs(cfg, costs, b, q_of, next_cost)

    # The policy and its temperature.
    (info["loss/policy"], entropy), grads = jax.value_and_grad(
        lambda actor: policy_loss(cfg, env, params._replace(actor=actor), b.obs, costs),
        has_aux=True,
    )(params.actor)
    params, opt_state = descend("actor", grads, params, opt_state)
    if cfg.learn_alpha:
        slope = alpha_gradient(cfg, env, params.log_alpha, entropy)
        params, opt_state = descend("log_alpha", slope, params, opt_state)

    target: Tree = optax.incremental_update(params.critic, target, cfg.tau)
    info |= {"value/q": y.mean(), "policy/entropy": entropy}
    info["policy/alpha"] = temperature(cfg, params)
    return Learner(params, target, opt_state, costs), error, info


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_step = jax.random.split(state.key)
    actor = state.learner.params.actor

    def policy(obs, carry, key):
        return jax.random.categorical(key, log_pi(cfg, env, actor, obs)).astype(jnp.int32), carry

    replay_state, learner, metrics = replay.step(
        cfg, env, state.replay, state.learner, policy,
        lambda learner, batch, key: update(cfg, env, learner, batch),
        state.iteration, k_step,
    )  # fmt: skip
    learner, metrics = replay_costs.control_costs(cfg, learner, metrics, replay_state)
    return TrainState(learner, replay_state, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    log_prob = log_pi(cfg, env, state.learner.params.actor, replay.whiten(state.replay, obs))
    action = log_prob.argmax(-1) if greedy else jax.random.categorical(key, log_prob)
    return action.astype(jnp.int32), carry


sac_discrete = Agent(
    "sac_discrete", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps
)
