"""Soft actor-critic, Haarnoja et al. (2018), arXiv:1812.05905, and the first form, 1801.01290.

The aim is the return plus alpha times the policy's entropy, so the policy stays as random as the
task allows. Its gradient flows through the sampled action a = squash(draw) (eq. 9): tanh of a
Gaussian draw, unless another `head` is asked for. The twin critics regress on the soft value of
the next state (eqs. 5 and 3), and the temperature alpha is the multiplier of the constraint that
the entropy is at least `target_entropy` (eq. 18):

    y = r + gamma (min_i Q'_i(s', a') - alpha log pi(a' | s')),    a' ~ pi(. | s')
    J_pi = E[ alpha log pi(a | s) - min_i Q_i(s, a) ]
    J_alpha = E[ -alpha (log pi(a | s) + target_entropy) ]

With `value_network` a separate network learns the soft value of states, and the target is its slow
copy: y = r + gamma V'(s'). The first paper has it so, with alpha fixed (there 1 / reward scale).

`dropout` with `layer_norm` in the critics is DroQ, Hiraoka et al. (2022), arXiv:2110.02034, with
the least of two in the policy's loss, too, where that paper has the mean. With `hindsight` it
learns from goals that were reached (`replay.hindsight`); `cost_limit`: see `loops.replay_costs`.

Deviations: alpha is learnt through its logarithm; a time limit bootstraps.
"""

import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import descent, replay, replay_costs
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets import continuous, heads
from jaxpg.nets.actor_critic import empty_carry
from jaxpg.nets.networks import MLP, Network, dropping
from jaxpg.nets.noise import exploring
from jaxpg.nets.values import critics, state_value
from jaxpg.ops import losses
from jaxpg.ops.constraints import penalize

HEADS = ("auto", "tanh_gaussian_state_std", "tanh_mixture", "flow", "beta", "tanh_gsde")


@config
class Config:
    num_envs: int = fields.num_envs(1)
    num_steps: int = fields.num_steps(1)
    buffer_size: int = fields.buffer_size(100_000)
    learning_starts: int = fields.learning_starts(1000)
    random_warmup: bool = fields.random_warmup(True)
    batch_size: int = fields.batch_size(256)
    updates_per_step: float = fields.updates_per_step(1.0)
    learning_rate: float = fields.learning_rate(3e-4, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    tau: float = fields.tau(0.005)
    alpha: float = fields.alpha(1.0)
    learn_alpha: bool = fields.learn_alpha(True)
    alpha_learning_rate: float = fields.learning_rate(1e-3, of="temperature alpha")
    alpha_optimizer: Optimizer = fields.optimizer("adam", of="temperature alpha")
    target_entropy: float | None = number(
        None, help="Target entropy in nats, of actions in [-1, 1]; None is minus their D."
    )
    value_network: bool = static(False, help="A value network, as in the first paper.")
    head: str = static(
        "auto", choices=HEADS, help="Distribution over actions; auto is tanh_gaussian_state_std."
    )
    components: int | None = static(
        None, ge=1, help="Components of a mixture (None: 3), or bins of a flow (None: 8)."
    )
    noise_every: int | None = fields.noise_every(None)
    noise_log_std: float = fields.noise_log_std(-3.0)
    noise_gradient: bool = fields.noise_gradient(True)
    cost_limit: float | None = fields.cost_limit(None)
    cost_gamma: float = fields.cost_gamma(0.99)
    multiplier_p: float = fields.multiplier_gain(0.05, "a violation")
    multiplier_i: float = fields.multiplier_gain(0.005, "the sum of violations")
    multiplier_d: float = fields.multiplier_gain(0.05, "a rise of the cost")
    hindsight: str = fields.hindsight("none")
    hindsight_goals: int = fields.hindsight_goals(4)
    bonus: fields.Bonus = fields.bonus("none")
    bonus_weight: float = fields.bonus_weight(1.0)
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
    dropout: float = fields.dropout(0.0)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    n_step: ClassVar[int] = 1  # one-step targets
    prioritized: ClassVar[bool] = False  # uniform sampling
    memory: ClassVar[str] = "none"  # updates are of single steps
    batch_norm: ClassVar[bool] = False  # the paper has none


class Params(NamedTuple):
    actor: Tree
    critic: Tree  # both of them
    value: Tree  # () without a value network
    log_alpha: Tree  # []; () where alpha is fixed


class Learner(NamedTuple):
    params: Params
    target: Tree  # a copy, behind: of the critics, or of the value network
    opt_state: Params  # of each
    costs: Any = ()  # a `replay_costs.CostState`; () without a limit


class TrainState(NamedTuple):
    learner: Learner
    replay: replay.Replay
    iteration: Array  # [] int32
    key: Key


def optimizers(cfg: Config) -> Params:
    return Params(
        actor=build_optimizer(cfg.optimizer, cfg.learning_rate),
        critic=build_optimizer(cfg.optimizer, cfg.critic_learning_rate, stacked=True),
        value=build_optimizer(cfg.optimizer, cfg.critic_learning_rate),
        log_alpha=build_optimizer(cfg.alpha_optimizer, cfg.alpha_learning_rate),
    )


def policy(cfg: Config, env: E.Env) -> tuple[Network, heads.ActionHead]:
    """The network and the distribution of the draw, which is squashed to the action."""
    continuous.action_size(cfg, env)  # what cannot be is refused by the agent's name
    head = "tanh_gaussian_state_std" if cfg.head == "auto" else cfg.head
    pi = heads.make(head, env, components=cfg.components)
    return continuous.actor(cfg, env, pi), pi


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    net, _ = policy(cfg, env)
    k_actor, k_critic, k_value, k_env, key = jax.random.split(key, 5)
    obs, action = env.example_obs, jnp.zeros(continuous.action_size(cfg, env), float)
    params = Params(
        actor=net.init(k_actor, obs, method="policy"),
        critic=critics(cfg, env).init(k_critic, obs, action),
        value=state_value(cfg, env).init(k_value, obs) if cfg.value_network else (),
        log_alpha=jnp.log(jnp.asarray(cfg.alpha, float)) if cfg.learn_alpha else (),
    )
    target = jax.tree.map(jnp.copy, params.value if cfg.value_network else params.critic)
    costs = replay_costs.init_costs(cfg, env, params.critic)
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (cfg.num_envs, *x.shape)), obs)
    return TrainState(
        learner=Learner(params, target, descent.init(optimizers(cfg), params), costs),
        replay=replay.init(cfg, env, k_env, empty_carry(net, params.actor, each)),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def sample(
    cfg: Config, env: E.Env, actor: Tree, obs: Array, key: Key, carry: Tree = ()
) -> tuple[Array, Array, Tree]:
    """Actions [..., D] in [-1, 1], the logarithm of their density there [...], and the carry."""
    net, pi = policy(cfg, env)
    out, carry = net.apply(actor, obs, carry, method="explore", rngs=exploring(cfg, key))
    draw, log_prob = pi.sample(out, key)
    return pi.squash(draw), log_prob, carry


def temperature(cfg: Config, params: Params) -> Array | float:
    return jnp.exp(params.log_alpha) if cfg.learn_alpha else cfg.alpha


def soft_value(cfg: Config, env: E.Env, params: Params, critic, obs: Array, key: Key, costs=()):
    """V(s) = min_i Q_i(s, a) - alpha log pi(a | s) with one a ~ pi(. | s), eq. 3; log pi. [B]

    Of a mixture one action of every component counts, by its weight: so the weights learn too.
    With `costs` it is that of the Lagrangian.
    """
    net, pi = policy(cfg, env)

    def of_one(draw, log_prob):
        rngs = dropping(cfg, key, 0)
        # Not `.min(0)`: its gradient is 0 / 0 where XLA computes q twice and rounds it two ways.
        q = jnp.minimum(*critics(cfg, env).apply(critic, obs, pi.squash(draw), rngs=rngs))
        soft = q - temperature(cfg, params) * log_prob
        if costs:
            cost = critics(cfg, env).apply(costs.critic, obs, pi.squash(draw), rngs=rngs)
            soft = penalize(soft, jnp.maximum(*cost), costs.weight)
        return soft, log_prob

    return pi.expect(of_one, net.apply(params.actor, obs, method="policy"), key)


def critic_target(
    cfg: Config, env: E.Env, params: Params, target: Tree, b: replay.Batch, key: Key
) -> Array:
    """Target y of the critics, as above. [B]"""
    if cfg.value_network:
        next_value = state_value(cfg, env).apply(target, b.next_obs)
    else:
        next_value, _ = soft_value(cfg, env, params, target, b.next_obs, key)
    return replay.td_target(b, next_value)


def alpha_gradient(cfg: Config, env: E.Env, log_alpha: Array, log_prob: Array) -> Array:
    """Slope of J_alpha in log alpha, which is alpha (entropy - target_entropy)."""
    goal = cfg.target_entropy
    goal = -continuous.action_size(cfg, env) if goal is None else goal
    return -jnp.exp(log_alpha) * (log_prob + goal)


def update(cfg: Config, env: E.Env, learner: Learner, b: replay.Batch, key: Key):
    """One update of everything. Returns TD errors [B] and metrics."""
    params, target, opt_state, costs = learner
    k_target, k_value, k_policy = jax.random.split(key, 3)
    descend = functools.partial(descent.descend, optimizers(cfg))
    info = {}

    # The critics.
    y = critic_target(cfg, env, params, target, b, k_target)

    def critic_loss(critic):
        error = critics(cfg, env).apply(critic, b.obs, b.action, rngs=dropping(cfg, key, 1)) - y
        return 0.5 * jnp.square(error).mean(-1).sum(), error[0]

    (info["loss/q"], error), grads = jax.value_and_grad(critic_loss, has_aux=True)(params.critic)
    params, opt_state = descend("critic", grads, params, opt_state)

    if cfg.cost_limit is not None:
        cost_of = functools.partial(critics(cfg, env).apply, rngs=dropping(cfg, key, 2))
        next_action, *_ = sample(cfg, env, params.actor, b.next_obs, jax.random.fold_in(key, 1))
        next_cost = cost_of(costs.target, b.next_obs, next_action).max(0)
        costs, info["loss/cost_value"] = replay_costs.learn_costs(
            cfg, costs, b, lambda critic: cost_of(critic, b.obs, b.action), next_cost
        )

    # The first paper's state values.
    if cfg.value_network:
        soft, _ = soft_value(cfg, env, params, params.critic, b.obs, k_value)
        info["loss/value"], grads = jax.value_and_grad(
            lambda value: losses.value(state_value(cfg, env).apply(value, b.obs), soft)
        )(params.value)
        params, opt_state = descend("value", grads, params, opt_state)

    # The policy and its temperature: J_pi is minus the mean soft value.
    def policy_loss(actor):
        with_actor = params._replace(actor=actor)
        soft, log_prob = soft_value(cfg, env, with_actor, params.critic, b.obs, k_policy, costs)
        return -soft.mean(), log_prob.mean()

    (info["loss/policy"], log_prob), grads = jax.value_and_grad(policy_loss, has_aux=True)(
        params.actor
    )
    params, opt_state = descend("actor", grads, params, opt_state)
    if cfg.learn_alpha:
        slope = alpha_gradient(cfg, env, params.log_alpha, log_prob)
        params, opt_state = descend("log_alpha", slope, params, opt_state)

    leader = params.value if cfg.value_network else params.critic
    target = optax.incremental_update(leader, target, cfg.tau)
    info |= {"value/q": y.mean(), "policy/entropy": -log_prob}
    info["policy/alpha"] = temperature(cfg, params)
    return Learner(params, target, opt_state, costs), error, info


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_step = jax.random.split(state.key)
    actor = state.learner.params.actor
    replay_state, learner, metrics = replay.step(
        cfg, env, state.replay, state.learner,
        lambda obs, carry, key: sample(cfg, env, actor, obs, key, carry)[::2],
        lambda learner, batch, key: update(cfg, env, learner, batch, key),
        state.iteration, k_step,
    )  # fmt: skip
    learner, metrics = replay_costs.control_costs(cfg, learner, metrics, replay_state)
    return TrainState(learner, replay_state, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    (net, pi), actor = policy(cfg, env), state.learner.params.actor
    obs, rngs = replay.whiten(state.replay, obs), {} if greedy else exploring(cfg, key)
    out, carry = net.apply(actor, obs, carry, method="explore", rngs=rngs)
    return pi.action(pi.mode(out) if greedy else pi.sample(out, key)[0]), carry


sac = Agent("sac", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
