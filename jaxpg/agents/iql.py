"""Independent Q-learning, Tan (1993), with networks Tampuu et al. (2017): DQN for each player.

To a player the others are a part of its environment: it learns what its own actions are worth, on
what it sees itself, and takes the best of them but for a fraction epsilon, which falls over the
run. All learn at the same time, from rewards of their own, as in deep Q-learning (Mnih et al.
2015):

    y_i = r_i + gamma Q'_i(o'_i, argmax_a Q_i(o'_i, a)),

where Q' is a copy of the network from some updates ago and `double` off lets it pick the action,
too. Nothing in it knows that the others learn: what the buffer holds is of players that there are
no longer, and no target is right for long. It is the yardstick of methods that do know.

Players of one kind share a network, which is told who of them it acts for, or have one each. The
papers: doi:10.1016/B978-1-55860-307-3.50049-6; doi:10.1371/journal.pone.0172395.

Deviations from Tampuu et al.: Adam; double Q-learning; a time limit bootstraps; the gradient's norm
is clipped in place of each error.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.games import Group, join_actions
from jaxpg.core.observations import action_mask
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import replay, sharing
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.loops.tabular import explore
from jaxpg.nets.networks import MLP
from jaxpg.nets.values import discrete_q


@config
class Config:
    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(1)
    buffer_size: int = fields.buffer_size(20_000)
    learning_starts: int = fields.learning_starts(1000)
    updates_per_step: float = fields.updates_per_step(0.0625)
    batch_size: int = fields.batch_size(128)
    share_parameters: bool = fields.share_parameters(True)
    player_id: bool = fields.player_id(True)
    learning_rate: float = fields.learning_rate(5e-4)
    learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="network")
    max_grad_norm: float = fields.max_grad_norm(10.0)
    gamma: float = fields.gamma(0.99)
    epsilon_start: float = number(1.0, ge=0, le=1, help="Fraction of random actions at the start.")
    epsilon_end: float = number(0.05, ge=0, le=1, help="Fraction of random actions at the end.")
    exploration_fraction: float = number(
        0.5, ge=0, le=1, help="Share of the run over which epsilon falls."
    )
    target_period: int = static(100, ge=1, help="Updates between two copies of the networks.")
    tau: float = fields.tau(1.0, help="How far the copies move, once a period.")
    double: bool = static(True, help="The online network picks the target's action.")
    dueling: bool = static(False, help="Q is a state's value plus its actions' advantages.")
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("relu")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    random_warmup: ClassVar[bool] = False  # explores by epsilon during warm-up
    n_step: ClassVar[int] = 1  # one-step targets
    prioritized: ClassVar[bool] = False  # uniform sampling
    memory: ClassVar[str] = "none"  # updates are of single steps
    hindsight: ClassVar[str] = "none"  # of dqn, ddpg, td3 and sac
    bonus: ClassVar[str] = "none"  # of ppo, a2c, dqn and sac
    normalize_obs: ClassVar[bool] = False
    normalize_reward: ClassVar[bool] = False  # the scale would be the team's
    dropout: ClassVar[float] = 0.0


class Learner(NamedTuple):
    """By group; leaves [P_g, ...] where each player has its own."""

    params: dict[str, Tree]
    target: dict[str, Tree]
    opt_state: dict[str, optax.OptState]
    updates: Array  # [] int32


class TrainState(NamedTuple):
    learner: Learner
    replay: replay.Replay
    epsilon: Array  # [] float: of the newest iteration
    iteration: Array  # [] int32
    key: Key


def optimizer(cfg: Config) -> optax.GradientTransformation:
    rule = build_optimizer(cfg.optimizer, cfg.learning_rate, cfg.max_grad_norm)
    return sharing.own_rule(cfg, rule)


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    found = sharing.teams(cfg, env)
    k_params, k_env, key = jax.random.split(key, 3)
    params = {}
    for group, k_group in zip(found, jax.random.split(k_params, len(found)), strict=True):
        net, example = discrete_q(cfg, group.env, cfg.dueling), group.env.example_obs
        begin = lambda key, net=net, example=example: net.init(key, example)  # noqa: E731
        params[group.name] = sharing.init_each(cfg, group, begin, k_group)
    opt_state = {name: optimizer(cfg).init(x) for name, x in params.items()}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        learner=Learner(params, jax.tree.map(jnp.copy, params), opt_state, zero),
        replay=replay.init(cfg, env, k_env),
        epsilon=jnp.asarray(cfg.epsilon_start, float),
        iteration=zero,
        key=key,
    )


def values(cfg: Config, group: Group, params: Tree, obs: Tree) -> Array:
    """Q(o, .) of the players of a group [B, P_g, actions], on observations [B, ...] of the game."""
    net = discrete_q(cfg, group.env, cfg.dueling)
    return sharing.apply_each(cfg, net.apply, params, group.env.core.observe(obs))


def td_target(cfg: Config, group: Group, params: Tree, target: Tree, b: replay.Batch) -> Array:
    """Targets y of the players of a group, as above. [B, P_g]"""
    q = values(cfg, group, target, b.next_obs)
    best = (values(cfg, group, params, b.next_obs) if cfg.double else q).argmax(-1)
    return sharing.td_target(cfg, sharing.rows_of_batch(group, b), of_action(q, best))


def of_action(q: Array, action: Array) -> Array:
    """Q(o, a) [...] from Q(o, .) [..., actions] and a [...]."""
    return jnp.take_along_axis(q, action[..., None], -1)[..., 0]


def loss(
    params: Tree, cfg: Config, group: Group, target: Tree, b: replay.Batch
) -> tuple[Array, tuple[Array, Metrics]]:
    """Mean squared error of each learner, summed; the errors [B, P_g] and metrics."""
    rows = sharing.rows_of_batch(group, b)
    action = b.action.reshape(len(b.action), -1)[:, group.first : group.first + group.size]
    q = of_action(values(cfg, group, params, b.obs), action)
    error = q - jax.lax.stop_gradient(td_target(cfg, group, params, target, b))
    each = sharing.row_means(cfg, optax.l2_loss(error), rows.alive)
    q = sharing.row_means(cfg, q, rows.alive).mean()
    return each.sum(), (error, {"loss/q": each.mean(), "value/q": q})


def update(
    cfg: Config, env: E.Env, learner: Learner, b: replay.Batch
) -> tuple[Learner, Array, Metrics]:
    """One step of gradient descent of each network, and the copies' if it is due. Returns TD errors
    [B], means over the players of the first group, and metrics."""
    found, opt = sharing.teams(cfg, env), optimizer(cfg)
    (params, target, opt_state, n), info, errors = learner, {}, []
    new, new_opt = {}, {}
    for group in found:
        name = group.name
        grads, (error, said) = jax.grad(loss, has_aux=True)(
            params[name], cfg, group, target[name], b
        )
        change, new_opt[name] = opt.update(grads, opt_state[name], params[name])
        new[name] = optax.apply_updates(params[name], change)
        info |= sharing.named(group, found, said)
        errors.append(error.mean(1))
    n = n + 1
    moved, due = optax.incremental_update(new, target, cfg.tau), n % cfg.target_period == 0
    target = jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, target)
    return Learner(new, target, new_opt, n), errors[0], info


def choose(
    cfg: Config, env: E.Env, params: dict[str, Tree], obs: Tree, key: Key, epsilon: Array | float
) -> Array:
    """The best actions [B, P] of all players, or with probability epsilon, of each by itself, any
    legal one."""
    found, actions = sharing.teams(cfg, env), []
    for group, k_group in zip(found, jax.random.split(key, len(found)), strict=True):
        q = values(cfg, group, params[group.name], obs)
        legal = action_mask(group.env.core.observe(obs))
        actions.append(explore(q, epsilon, k_group, legal))
    return join_actions(env, actions)


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    done = replay.progress(cfg, state.iteration) / jnp.maximum(cfg.exploration_fraction, 1e-9)
    epsilon = cfg.epsilon_start + jnp.clip(done, 0, 1) * (cfg.epsilon_end - cfg.epsilon_start)
    epsilon = jnp.asarray(epsilon, float)  # of its own type, also where all of it is weakly typed
    key, k_step = jax.random.split(state.key)
    params = state.learner.params
    replay_state, learner, metrics = replay.step(
        cfg, env, state.replay, state.learner,
        lambda obs, carry, key: (choose(cfg, env, params, obs, key, epsilon), carry),
        lambda learner, batch, key: update(cfg, env, learner, batch),
        state.iteration, k_step,
    )  # fmt: skip
    state = TrainState(learner, replay_state, epsilon, state.iteration + 1, key)
    return state, metrics | {"policy/epsilon": epsilon}


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Actions [B, ...] of all players on a game's observations [B, ...]."""
    epsilon = 0.0 if greedy else state.epsilon
    return choose(cfg, env, state.learner.params, obs, key, epsilon), carry


iql = Agent("iql", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
