"""Deep Q-learning, Mnih et al. (2015), doi:10.1038/nature14236.

A network learns what every action is worth from transitions drawn at random from the past. Its
policy is the best of them, but for a fraction epsilon of random actions, which falls over the run.
An update reduces the squared error of Q(s, a) against (eq. 1 of the methods, n = 1)

    y = r_1 + .. + gamma^(n-1) r_n + gamma^n Q'(s_n, argmax_a Q'(s_n, a)),

where Q' is a copy of the network from some updates ago. Four improvements are switches:
`double` lets Q instead of Q' pick the action (van Hasselt et al. 2016, arXiv:1509.06461);
`dueling` splits Q into the state's value and the actions' advantages (Wang et al. 2016,
arXiv:1511.06581); `prioritized` draws what was badly predicted (Schaul et al. 2016,
arXiv:1511.05952); `n_step` looks n rewards ahead (Sutton & Barto 2018, eq. 7.1). With a `memory`
the network is recurrent and learns from sequences with burn-in (see `loops.replay`); with
`hindsight` it learns from goals that were reached (see `replay.hindsight`); an `ensemble` of
networks explores by their disagreement (see `loops.bootstrapped`).

Deviations from the paper: Adam unless `optimizer="rmsprop"`; a time limit bootstraps, since
truncation is not termination; the error is squared, and the gradient's norm clipped, where the
paper clips each error (`loss="huber"`): with values much above 1 that makes every error count
alike, and the few terminal states no longer hold the others down.
"""

import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.observations import action_mask, random_discrete
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import bootstrapped, replay
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets.networks import MLP, dropping
from jaxpg.nets.values import discrete_q


@config
class Config:
    num_envs: int = fields.num_envs(10)
    num_steps: int = fields.num_steps(1)
    buffer_size: int = fields.buffer_size(10_000)
    learning_starts: int = fields.learning_starts(1000)
    updates_per_step: float = fields.updates_per_step(0.1)
    batch_size: int = fields.batch_size(128)
    learning_rate: float = fields.learning_rate(1e-3)
    learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="network")
    gamma: float = fields.gamma(0.99)
    epsilon_start: float = number(1.0, ge=0, le=1, help="Fraction of random actions at the start.")
    epsilon_end: float = number(0.05, ge=0, le=1, help="Fraction of random actions at the end.")
    exploration_fraction: float = number(
        0.5, ge=0, le=1, help="Share of the run over which epsilon falls."
    )
    target_period: int = static(50, ge=1, help="Updates between two copies to the target network.")
    tau: float = fields.tau(1.0, help="How far the target network moves, once a period.")
    double: bool = static(True, help="The online network picks the target's action.")
    dueling: bool = static(False, help="Q is a state's value plus its actions' advantages.")
    n_step: int = static(1, ge=1, help="Rewards that a target looks ahead.")
    prioritized: bool = static(False, help="Transitions are drawn by their TD errors.")
    priority_exponent: float = number(
        0.6, ge=0, le=1, help="alpha of prioritised replay; 0 is uniform."
    )
    importance_exponent: float = number(
        0.4, ge=0, le=1, help="beta of prioritised replay at the start; 1 at the end."
    )
    loss: str = static("squared", choices=("squared", "huber"), help="Loss of a TD error.")
    max_grad_norm: float | None = number(
        10.0, gt=0, help="Largest norm of a gradient; longer ones are scaled down, None is off."
    )
    ensemble: int = static(
        1, ge=1, help="Networks of bootstrapped DQN, each of which acts for whole episodes."
    )
    prior_scale: float = number(
        3.0, ge=0, help="Weight of the prior of each network of an ensemble."
    )
    hindsight: str = fields.hindsight("none")
    hindsight_goals: int = fields.hindsight_goals(4)
    bonus: fields.Bonus = fields.bonus("none")
    bonus_weight: float = fields.bonus_weight(1.0)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((120, 84))
    activation: fields.Activation = fields.activation("relu")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    dropout: float = fields.dropout(0.0, of="network")
    memory: str = fields.memory("none", help="Memory of the network; a batch is then of sequences.")
    memory_size: int = fields.memory_size(64)
    memory_length: int = fields.memory_length(32)
    sequence_length: int = static(16, ge=1, help="Steps of a sequence that are learnt from.")
    burn_in: int = static(8, ge=0, help="Steps before a sequence that only refresh its carry.")
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    random_warmup: ClassVar[bool] = False  # explores by epsilon during warm-up


class Learner(NamedTuple):
    params: Tree
    target: Tree
    opt_state: optax.OptState
    updates: Array  # [] int32


class TrainState(NamedTuple):
    learner: Learner
    replay: replay.Replay
    epsilon: Array  # [] float: of the newest iteration
    iteration: Array  # [] int32
    key: Key
    prior: Tree = ()  # [ensemble, ...] not learnt; () without an ensemble


def optimizer(cfg: Config) -> optax.GradientTransformation:
    return build_optimizer(cfg.optimizer, cfg.learning_rate, cfg.max_grad_norm)


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    k_params, k_env, key = jax.random.split(key, 3)
    bootstrapped.require_fields(cfg)
    q, prior, marks = discrete_q(cfg, env, cfg.dueling), (), ()
    if cfg.ensemble > 1:
        params, prior = bootstrapped.init(q, cfg.ensemble, env.example_obs, k_params)
        carry = jnp.zeros(cfg.num_envs, jnp.int32)
        marks = bootstrapped.masks(cfg.ensemble, (), k_env)
    else:
        params = q.init(k_params, env.example_obs)
        obs = jax.eval_shape(lambda: E.reset(env, k_env, cfg.num_envs).obs)
        _, carry = jax.eval_shape(functools.partial(q.apply, method="remember"), params, obs)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        learner=Learner(params, params, optimizer(cfg).init(params), zero),
        replay=replay.init(cfg, env, k_env, E.zero_carry(carry), marks),
        epsilon=jnp.asarray(cfg.epsilon_start, float),
        iteration=zero,
        key=key,
        prior=prior,
    )


def loss(
    params: Tree, cfg: Config, env: E.Env, target: Tree, b: replay.Batch, key: Key | None = None,
    prior: Tree = (),
) -> tuple[Array, tuple[Array, Metrics]]:  # fmt: skip
    """Weighted mean of the errors' size; the errors and metrics. The key is for dropout.

    Of an ensemble it is the mean over its networks, each with a target of its own.
    """
    net = discrete_q(cfg, env, cfg.dueling)

    def values(params, use):
        """Q(s, .) and Q(s', .), where s' is seen by who remembers s."""
        if cfg.ensemble > 1:
            of = functools.partial(bootstrapped.values, net, params, prior, cfg.prior_scale)
            return of(b.obs), of(b.next_obs)

        def q(i, *args):
            rngs = dropping(cfg, key, use + i)
            return net.apply(params, *args, rngs=rngs, method="remember")

        carry, start = b.carry, b.start
        if cfg.memory != "none" and cfg.burn_in:
            now, start = start[: cfg.burn_in], start[cfg.burn_in :]
            _, carry = q(0, b.before, carry, now)
            carry = jax.lax.stop_gradient(jax.tree.map(lambda x: x[-1:], carry))
        now, after = q(1, b.obs, carry, start)
        return now, q(2, b.next_obs, after)[0]

    now, online_next = values(params, 0)
    next_q = values(target, 3)[1]
    value = of_action(now, b.action)
    best = (online_next if cfg.double else next_q).argmax(-1)
    y = replay.td_target(b, of_action(next_q, best))
    error = value - jax.lax.stop_gradient(y)
    size = (optax.huber_loss if cfg.loss == "huber" else optax.l2_loss)(error)
    if cfg.ensemble > 1:
        size, error = size * b.signals[bootstrapped.MARK].T, abs(error).mean(0)
    total = (b.weight * size).mean()
    return total, (error, {"loss/q": total, "value/q": value.mean()})


def of_action(q: Array, action: Array) -> Array:
    """Q(s, a) [...] from Q(s, .) [..., actions] and a [...], of an ensemble all of one a."""
    action = jnp.broadcast_to(action, q.shape[:-1])
    return jnp.take_along_axis(q, action[..., None], -1)[..., 0]


def update(
    cfg: Config, env: E.Env, learner: Learner, b: replay.Batch, key: Key | None = None,
    prior: Tree = (),
) -> tuple[Learner, Array, Metrics]:  # fmt: skip
    """One step of gradient descent, and the target network's if it is due."""
    params, target, opt_state, n = learner
    grads, (error, info) = jax.grad(loss, has_aux=True)(
        params, cfg, env, target, b, key, prior
    )  # fmt: skip
    change, opt_state = optimizer(cfg).update(grads, opt_state, params)
    params, n = optax.apply_updates(params, change), n + 1
    moved = optax.incremental_update(params, target, cfg.tau)
    due = n % cfg.target_period == 0
    target = jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, target)
    return Learner(params, target, opt_state, n), error, info


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    progress = replay.progress(cfg, state.iteration)
    fall = jnp.clip(progress / jnp.maximum(cfg.exploration_fraction, 1e-9), 0, 1)
    epsilon = cfg.epsilon_start + fall * (cfg.epsilon_end - cfg.epsilon_start)
    epsilon = jnp.asarray(epsilon, float)  # of its own type, also where all of it is weakly typed
    key, k_step = jax.random.split(state.key)

    def policy(obs, carry, key):
        values, carry, key = values_in_force(cfg, env, state, obs, carry, key, False)
        return explore(values, epsilon, key, action_mask(obs)), carry

    replay_state, learner, metrics = replay.step(
        cfg, env, state.replay, state.learner,
        policy,
        lambda learner, batch, key: update(cfg, env, learner, batch, key, state.prior),
        state.iteration, k_step,
        functools.partial(bootstrapped.masks, cfg.ensemble) if cfg.ensemble > 1 else None,
    )  # fmt: skip
    state = TrainState(learner, replay_state, epsilon, state.iteration + 1, key, state.prior)
    return state, metrics | {"policy/epsilon": epsilon}


def values_in_force(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree, Key]:
    """Values [B, actions] whose best action is taken, the carry, and a key that is left."""
    net = discrete_q(cfg, env, cfg.dueling)
    if cfg.ensemble == 1:
        return *net.apply(state.learner.params, obs, carry, method="remember"), key
    key, k_network = jax.random.split(key)
    q = bootstrapped.values(net, state.learner.params, state.prior, cfg.prior_scale, obs)
    return *bootstrapped.follow(q, carry, k_network, greedy), key


def explore(q: Array, epsilon, key: Key, legal: Array | None = None) -> Array:
    """The best action of each row of Q(s, .) [B, actions], or with probability epsilon any legal
    one ([B, actions] bool; by default all)."""
    k_whether, k_action = jax.random.split(key)
    anything = random_discrete(k_action, q.shape[:-1], q.shape[-1], legal)
    whether = jax.random.uniform(k_whether, q.shape[:-1]) < epsilon
    return jnp.where(whether, anything, q.argmax(-1).astype(jnp.int32))


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    obs = replay.whiten(state.replay, obs)
    q, carry, key = values_in_force(cfg, env, state, obs, carry, key, greedy)
    if greedy:
        return q.argmax(-1).astype(jnp.int32), carry
    return explore(q, state.epsilon, key, action_mask(obs)), carry


dqn = Agent("dqn", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
