"""Self-play: PPO in one seat of a game, against its own past in the others.

Fictitious play (Brown 1951; with networks Heinrich & Silver 2016, arXiv:1603.01121) answers the
average of what was played before, and in two-player zero-sum games it is that average which comes
near an equilibrium; what answers only the newest opponent may go in circles for ever. Here the past
is a league, a ring of snapshots of the policy. For each episode a seat is drawn, and for every
other seat an opponent:

    latest       the newest snapshot: naive self-play, or regularised, by an entropy bonus
    uniform      any of them: fictitious play
    prioritized  one that is hard to beat, with weight (1 - win rate)^2, Vinyals et al. (2019)

The learner's own rows are a batch of PPO (`loops.multi_agent`), those of opponents are not learnt
from. Each seat has a copy of its member's weights, so that networks should be small.

Deviations: the best response is a few steps of PPO, not one that was trained out; the average is
over snapshots that are equally far apart, the last `league_size` of them. Who has won is read from
the last reward of an episode.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, static
from jaxpg.core.games import Group, join_actions, rows_of
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import multi_agent, players
from jaxpg.loops.league import (
    League,
    answer,
    begin_league,
    count_wins,
    draw_members,
    take_in,
    weigh_opponents,
)
from jaxpg.loops.multi_agent import Experience, Learner, Seen
from jaxpg.loops.sharing import teams
from jaxpg.nets.networks import MLP
from jaxpg.ops import normalize


@config
class Config:
    num_envs: int = fields.num_envs(64)
    num_steps: int = fields.num_steps(32)
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Per epoch; divides num_envs * num_steps.")
    opponents: str = static(
        "uniform",
        choices=("latest", "uniform", "prioritized"),
        help="Who of the league plays: the newest, any, or who is hard to beat.",
    )
    league_size: int = static(32, ge=1, help="Snapshots of the policy that are kept.")
    snapshot_every: int = static(10, ge=1, help="Iterations between snapshots.")
    play: str = static(
        "newest",
        choices=("newest", "average"),
        help="Who acts when it is evaluated: the learner, or a member drawn for each episode.",
    )
    player_id: bool = fields.player_id(True)
    learning_rate: float = fields.learning_rate(5e-4)
    learning_rate_schedule: Schedule = schedule("linear")
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(1.0)
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
    normalize_reward: bool = fields.normalize_reward(False)
    max_grad_norm: float = fields.max_grad_norm(0.5)
    head: str = fields.head("auto")
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("tanh")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    memory: str = fields.memory(
        "none", help="Memory of the network; minibatches are then of sequences."
    )
    memory_size: int = fields.memory_size(64)
    memory_length: int = fields.memory_length(32)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    share_parameters: ClassVar[bool] = True  # whoever sits where, the policy is one
    central_critic: ClassVar[bool] = False
    opponent_model: ClassVar[str] = "none"
    shared: ClassVar[bool] = False
    batch_norm: ClassVar[bool] = False


class Table(NamedTuple):
    """Seats and opponents of the games: leaves [N, ...]; zeros where an episode begins."""

    seat: Array  # int32: the learner's, from 1
    opponent: Array  # [N, P] int32: the member in each seat
    memory: Tree  # what the learner remembers
    memories: Tree  # [N, P, ...] what opponents do


class TrainState(NamedTuple):
    learner: Learner
    league: League
    env: E.EnvState
    table: Table
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    begun = multi_agent.init(cfg, env, key)
    group = _require_one_kind(cfg, env)
    [learner], [memories] = begun.learners.values(), begun.carry.values()
    # The learner has one row a game, and a scale of rewards for each.
    learner = learner._replace(
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward)
    )
    seat = jnp.zeros(cfg.num_envs, jnp.int32)
    opponent = jnp.zeros((cfg.num_envs, group.size), jnp.int32)
    table = Table(seat, opponent, jax.tree.map(lambda x: x[:, 0], memories), memories)
    league = begin_league(learner, cfg.league_size)
    return TrainState(learner, league, begun.env, table, begun.iteration, begun.key)


def _require_one_kind(cfg: Config, env: E.Env) -> Group:
    found = teams(cfg, env)
    if len(found) > 1:
        names = ", ".join(group.name for group in found)
        raise ValueError(
            f"self_play on {env.name}, whose players are of kinds {names}: allowed are games of "
            "one kind, in which a policy can take any seat"
        )
    return found[0]


def take_seat(rows: Tree, seat: Array) -> Tree:
    """Rows of one player in each game, [*lead, ...], by its seat [*lead], of those of all players
    [*lead, P, ...]."""

    def one(x: Array) -> Array:
        index = seat.reshape(*seat.shape, *[1] * (x.ndim - seat.ndim))
        return jnp.take_along_axis(x, index, seat.ndim).squeeze(seat.ndim)

    return jax.tree.map(one, rows)


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    group, league = _require_one_kind(cfg, env), state.league
    (net, pi), lanes = players.network(cfg, env, group), jnp.arange(cfg.num_envs)
    key, k_rollout, k_learn = jax.random.split(state.key, 3)
    weights = weigh_opponents(cfg.opponents, league)

    # Collect: the learner in its seat, members of the league in the others.
    def policy(obs, table, key):
        k_seat, k_opponent, k_own, k_others = jax.random.split(key, 4)
        rows, begins = players.observe(cfg, env, group, obs), table.seat == 0
        seats = jax.random.randint(k_seat, begins.shape, 0, group.size, jnp.int32)
        seat = jnp.where(begins, seats, table.seat - 1)
        drawn = draw_members(k_opponent, weights, table.opponent.shape)
        opponent = jnp.where(begins[:, None], drawn, table.opponent)

        own = take_seat(rows, seat)
        out, _, memory = players.apply(cfg, net, state.learner, own, table.memory)
        draw, log_prob = pi.sample(out, k_own)
        others, memories = answer(cfg, net, league, opponent, rows, table.memories)
        actions = pi.action(pi.sample(others, k_others)[0]).at[lanes, seat].set(pi.action(draw))
        after = Table(seat + 1, opponent, memory, memories)
        seen = Seen(draw, log_prob, table.memory), seat, opponent
        return join_actions(env, [actions]), after, seen

    env_state, table, t, (seen, seat, opponent), metrics = E.rollout(
        env, policy, state.env, state.table, k_rollout, cfg.num_steps
    )

    # Learn from the learner's rows.
    obs, next_obs = (players.observe(cfg, env, group, x) for x in (t.obs, t.next_obs))
    obs, next_obs, rows = (take_seat(x, seat) for x in (obs, next_obs, rows_of(group, t)))
    x = Experience(obs, next_obs, rows, seen)
    learner, info = multi_agent.learn(cfg, net, pi, 1, state.learner, x, k_learn)
    league, score = count_wins(league, t, rows.reward, seat, opponent)
    iteration = state.iteration + 1
    league = take_in(league, learner, iteration % cfg.snapshot_every == 0)
    size = jnp.minimum(league.count, cfg.league_size)
    metrics = metrics | info | {"league/score": score, "league/size": size}
    return TrainState(learner, league, env_state, table, iteration, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """The newest policy in all seats, or in each a member that is drawn as an episode begins."""
    group = _require_one_kind(cfg, env)
    net, pi = players.network(cfg, env, group)
    rows = players.observe(cfg, env, group, obs)
    number, memory = carry or ((), ())
    if cfg.play == "newest":
        out, _, memory = players.apply(cfg, net, state.learner, rows, memory)
    else:
        key, k_member = jax.random.split(key)
        shape = (*jax.tree.leaves(obs)[0].shape[:1], group.size)
        drawn = 1 + draw_members(k_member, weigh_opponents("uniform", state.league), shape)
        number = jnp.where(carry[0] == 0, drawn, carry[0]) if carry else drawn
        out, memory = answer(cfg, net, state.league, number - 1, rows, memory)
    action = pi.action(pi.mode(out) if greedy else pi.sample(out, key)[0])
    return join_actions(env, [action]), (number, memory)


self_play = Agent("self_play", Config, init, step, act, multi_agent.steps_per_iter)
