"""Multi-agent DDPG, Lowe et al. (2017), arXiv:1706.02275: own policies, critics that see all.

Players who learn at the same time are a moving environment to each other. A critic that is told
what all of them do has a world that stands still. Player i has a deterministic policy mu_i on what
it sees itself, and a critic Q_i on the observations x of all, or the game's `global_state`, and
the actions of all. Acting needs the policy alone. From replay (eq. 6 and the one below it),

    y_i = r_i + gamma Q'_i(x', a'_1, .., a'_P),              a'_j = mu'_j(o'_j)
    grad J_i = E[ grad mu_i(o_i) grad_a Q_i(x, a_1, .., a, .., a_P) at a = mu_i(o_i) ],

where all actions but player i's own are those of the buffer, as in the paper and in the authors'
program; or, with `others="policy"`, what the policies of now do, so that no player learns against
what others did long ago. With `critics=2` the target takes the lower of two, and policies move once
in `policy_delay` updates: MATD3, Ackermann et al. (2019), arXiv:1910.01465. Integers are draws, and
the gradient of the Gumbel-softmax flows through them (`loops.central`).

Deviations from the paper: no ensembles of policies and no inference of other players'; a time limit
bootstraps; the draws are one-hot where the authors' are soft.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.games import central_observation
from jaxpg.core.observations import ILLEGAL
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import central, descent, joint, replay, sharing
from jaxpg.loops.central import Groups, Params
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets.networks import MLP


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int = fields.num_steps(4)
    buffer_size: int = fields.buffer_size(100_000)
    learning_starts: int = fields.learning_starts(1024)
    random_warmup: bool = fields.random_warmup(True)
    batch_size: int = fields.batch_size(256)
    updates_per_step: float = fields.updates_per_step(0.0625)
    share_parameters: bool = fields.share_parameters(False)
    player_id: bool = fields.player_id(True)
    others: str = static(
        "buffer",
        choices=("buffer", "policy"),
        help="Actions of the other players in a policy's update.",
    )
    critics: int = static(1, ge=1, le=2, help="Critics of a player; the target takes the lower.")
    policy_delay: int = static(1, ge=1, help="Updates of the critics for one of the policies.")
    learning_rate: float = fields.learning_rate(1e-3, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    max_grad_norm: float = fields.max_grad_norm(0.5)
    gamma: float = fields.gamma(0.95)
    tau: float = fields.tau(0.01)
    noise_std: float = fields.noise_std(0.1, help="Deviation of exploration, actions in [-1, 1].")
    noise_std_schedule: Schedule = schedule()
    gumbel_temperature: float = number(
        1.0, gt=0, help="Divisor of noisy logits in the gradient of a draw."
    )
    output_coef: float = number(
        1e-3, ge=0, help="Weight of the squares of an actor's outputs, before tanh or as logits."
    )
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
    normalize_obs: ClassVar[bool] = False
    normalize_reward: ClassVar[bool] = False  # the scale would be the team's
    batch_norm: ClassVar[bool] = False  # the paper has none
    dropout: ClassVar[float] = 0.0  # the paper has none


class Learner(NamedTuple):
    params: Groups
    target: Groups
    opt_state: Groups  # of each
    updates: Array  # [] int32


class TrainState(NamedTuple):
    learner: Learner
    replay: replay.Replay
    iteration: Array  # [] int32
    key: Key


def optimizers(cfg: Config) -> Params:
    kind, norm = cfg.optimizer, cfg.max_grad_norm
    actor = build_optimizer(kind, cfg.learning_rate, norm)
    critic = build_optimizer(kind, cfg.critic_learning_rate, norm, stacked=True)
    return Params(sharing.own_rule(cfg, actor), sharing.own_rule(cfg, critic))


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    k_params, k_env, key = jax.random.split(key, 3)
    params = central.init_params(cfg, env, k_params)
    opt_state = {name: descent.init(optimizers(cfg), x) for name, x in params.items()}
    zero = jnp.zeros((), jnp.int32)
    learner = Learner(params, jax.tree.map(jnp.copy, params), opt_state, zero)
    return TrainState(learner, replay.init(cfg, env, k_env), zero, key)


def critic_target(
    cfg: Config, env: E.Env, target: Groups, b: replay.Batch, key: Key
) -> list[Array]:
    """Targets y of the critics of each group. [B, P_g]"""
    actions, targets = central.policies(cfg, env, target, b.next_obs, key), []
    for i, group in enumerate(sharing.teams(cfg, env)):
        seen = central_observation(env, b.next_obs, group)
        every = joint.as_seen(actions, i)
        q = central.values(cfg, env, target[group.name].critic, seen, every).min(0)
        targets.append(sharing.td_target(cfg, sharing.rows_of_batch(group, b), q))
    return targets


def critic_loss(
    critic: Tree, cfg: Config, env: E.Env, which: int, b: replay.Batch, taken: list[Array], y: Array
) -> tuple[Array, tuple[Array, Metrics]]:  # fmt: skip
    """Error of the critics of the group `which`, summed over learners; TD errors and metrics."""
    group = sharing.teams(cfg, env)[which]
    seen, alive = central_observation(env, b.obs, group), sharing.rows_of_batch(group, b).alive
    error = central.values(cfg, env, critic, seen, joint.as_seen(taken, which)) - y
    each = sharing.row_means(cfg, 0.5 * jnp.square(error).sum(0), alive)
    info = {"loss/q": each.mean(), "value/q": sharing.row_means(cfg, y, alive).mean()}
    return each.sum(), (error[0], info)


def actor_loss(
    actor: Tree, cfg: Config, env: E.Env, which: int, b: replay.Batch,
    actions: list[Array], critic: Tree, key: Key,
) -> tuple[Array, tuple[tuple[()], Metrics]]:  # fmt: skip
    """Loss of the actors of the group `which`, summed over learners, while the others take
    `actions`; and metrics."""
    group = sharing.teams(cfg, env)[which]
    seen, alive = central_observation(env, b.obs, group), sharing.rows_of_batch(group, b).alive
    out = central.outputs(cfg, group, actor, b.obs)
    own = joint.propose(group, out, key, cfg.gumbel_temperature)
    q = central.values(cfg, env, critic, seen, joint.as_seen(actions, which, own))[0]
    squares = jnp.square(jnp.where(out > ILLEGAL / 2, out, 0)).mean(-1)
    each = sharing.row_means(cfg, cfg.output_coef * squares - q, alive)
    return each.sum(), ((), {"loss/policy": each.mean()})


def update(
    cfg: Config, env: E.Env, learner: Learner, b: replay.Batch, key: Key
) -> tuple[Learner, Array, Metrics]:
    """One update of all critics and, if it is due, of all actors and copies. Returns TD errors [B],
    means over the players of the first group, and metrics."""
    found, rules = sharing.teams(cfg, env), optimizers(cfg)
    k_target, k_others, k_actors = jax.random.split(key, 3)
    n = learner.updates + 1

    # The critics.
    actions = taken = joint.of_buffer(found, b.action)
    y = critic_target(cfg, env, learner.target, b, k_target)
    params, opt_state, errors, info = central.descend_each(
        rules, "critic", lambda critic, i, *_: critic_loss(critic, cfg, env, i, b, taken, y[i]),
        learner.params, learner.opt_state, found,
    )  # fmt: skip
    learner = Learner(params, learner.target, opt_state, n)

    # The actors, each against what the others do; and the copies.
    if cfg.others == "policy":
        actions = jax.lax.stop_gradient(central.policies(cfg, env, params, b.obs, k_others))
    params, opt_state, _, said = central.descend_each(
        rules, "actor",
        lambda actor, i, own, k: actor_loss(actor, cfg, env, i, b, actions, own.critic, k),
        params, opt_state, found, jax.random.split(k_actors, len(found)),
    )  # fmt: skip
    target: Tree = optax.incremental_update(params, learner.target, cfg.tau)
    new, due = Learner(params, target, opt_state, n), n % cfg.policy_delay == 0
    learner = jax.tree.map(lambda x, y: jnp.where(due, x, y), new, learner)
    return learner, errors[0], info | said


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_step = jax.random.split(state.key)
    params = state.learner.params
    replay_state, learner, metrics = replay.step(
        cfg, env, state.replay, state.learner,
        lambda obs, carry, key: (central.play(cfg, env, params, obs, key, greedy=False), carry),
        lambda learner, batch, key: update(cfg, env, learner, batch, key),
        state.iteration, k_step,
    )  # fmt: skip
    return TrainState(learner, replay_state, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Actions [B, ...] of all players on a game's observations [B, ...]."""
    action = central.play(cfg, env, state.learner.params, obs, key, greedy)
    return E.to_space(env, action), carry


maddpg = Agent("maddpg", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
