"""PPO for several players: an iteration of IPPO and MAPPO, which differ in what the critic sees.

Each group of players learns by PPO's clipped surrogate, Schulman et al. (2017) eq. 7 and 9, from
its own rows of one joint rollout. Its players share one network, which is told who of them it acts
for, or have one each (`share_parameters`): shared, all their rows are one batch; each its own, the
same function runs under `vmap` over players.

Rows of players that have left count in no mean, see `core.games`. Advantages are standardised for
each player by itself, so that rewards of one do not set the scale of another's.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core.config import label, require_several, validate
from jaxpg.core.games import Rows, join_actions, other_actions, rows_of
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import scheduled
from jaxpg.core.types import Array, Key, Metrics, Tree
from jaxpg.loops import optimizers
from jaxpg.loops.minibatch import epochs
from jaxpg.loops.players import apply, in_sequences, network, observe
from jaxpg.loops.sharing import named, teams
from jaxpg.nets.actor_critic import empty_carry
from jaxpg.nets.heads import ActionHead
from jaxpg.nets.networks import Network
from jaxpg.nets.opponents import log_likelihood, split_out
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import gae, starts


class Learner(NamedTuple):
    """State that a group learns: leaves [P_g, ...] where each player has its own, else for all."""

    params: Tree
    opt_state: optax.OptState
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]


class TrainState(NamedTuple):
    learners: dict[str, Learner]  # by group, as all below
    env: E.EnvState
    carry: dict[str, Tree]  # [num_envs, P_g, ...] what the players remember; or ()
    iteration: Array  # [] int32
    key: Key


class Seen(NamedTuple):
    """Draws and memories of a group at collection: leaves [T, N, P_g, ...]."""

    draw: Array
    log_prob: Array
    carry: Tree  # before the step


class Experience(NamedTuple):
    """Rows of a rollout: leaves [T, N, P_g, ...] of a group, [T, B, ...] of a learner."""

    obs: Tree
    next_obs: Tree
    rows: Rows
    seen: Seen
    others: Any = ()  # [..., P - 1] see `core.games.other_actions`; () without a model of them


class Batch(NamedTuple):
    """Training data of a learner: leaves [T, B, ...]; without memory, [T * B, ...]."""

    obs: Tree
    carry: Tree  # before the step; with memory [1, B, ...], before the first
    start: Array  # whether the step is the first of its episode
    draw: Array
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    alive: Array  # bool: the row counts
    others: Any  # [..., P - 1] see `core.games.other_actions`, for a model of them


def optimizer(cfg: Any) -> optax.GradientTransformation:
    """The optimiser; gradients of a model of the others are clipped apart from the rest, so that
    a model that learns does not slow the policy down."""
    alone = cfg.opponent_model == "none"
    norm = cfg.max_grad_norm
    rule = optimizers.build_optimizer(
        cfg.optimizer, cfg.learning_rate, norm if alone else None, optimizers.ON_POLICY, ravel=True
    )
    if alone:
        return rule
    clip = optax.clip_by_global_norm(norm)
    part = lambda path, _: "inner" if path[1].key == "inner" else "model"  # noqa: E731
    labels = functools.partial(jax.tree.map_with_path, part)
    return optax.chain(optax.multi_transform({"inner": clip, "model": clip}, labels), rule)


def init(cfg: Any, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    batch, what = cfg.num_envs * cfg.num_steps, "num_envs * num_steps"
    if in_sequences(cfg):
        batch, what = cfg.num_envs, "num_envs, the sequences with memory"
    if batch % cfg.minibatches:
        raise ValueError(
            f"{label(type(cfg))} minibatches={cfg.minibatches}: allowed is a divisor of {batch}, "
            f"{what}"
        )
    steps = cfg.num_envs * cfg.num_steps
    require_several(cfg, "normalize_advantage", steps, f"an iteration of {steps} step")
    found = teams(cfg, env)  # judges the game

    k_params, k_env, key = jax.random.split(key, 3)
    env_state = E.reset(env, k_env, cfg.num_envs)
    learners, carry = {}, {}
    for group, k_group in zip(found, jax.random.split(k_params, len(found)), strict=True):
        net, _ = network(cfg, env, group)
        obs = observe(cfg, env, group, env_state.obs)
        example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), obs)
        lanes = cfg.num_envs * (group.size if cfg.share_parameters else 1)

        def begin(key, net=net, example=example, lanes=lanes) -> Learner:
            params = net.init(key, example)
            stats = normalize.init_stats(example, cfg.normalize_obs)
            scale = normalize.init_reward_scale(lanes, cfg.normalize_reward)
            return Learner(params, optimizer(cfg).init(params), stats, scale)

        each = not cfg.share_parameters
        keys = jax.random.split(k_group, group.size) if each else k_group
        learner = jax.vmap(begin)(keys) if each else begin(keys)
        one = jax.tree.map(lambda x: x[0], learner.params) if each else learner.params
        learners[group.name], carry[group.name] = learner, empty_carry(net, one, obs)
    return TrainState(learners, env_state, carry, jnp.zeros((), jnp.int32), key)


def loss(params: Tree, cfg: Any, net: Network, pi: ActionHead, b: Batch, key: Key):
    """Loss of a minibatch: the clipped surrogate, the critic's error and the entropy bonus."""
    out, value, _ = net.apply(params, b.obs, b.carry, b.start)
    out, logits = split_out(pi, out)
    log_ratio = pi.log_prob(out, b.draw) - b.log_prob
    l_policy = losses.ppo_clip(log_ratio, b.advantage, cfg.clip_eps, b.alive)
    if cfg.clip_value:
        l_value = losses.clipped_value(value, b.value, b.target, cfg.clip_eps, b.alive)
    else:
        l_value = losses.value(value, b.target, b.alive)
    entropy = normalize.masked_mean(pi.entropy(out, key), b.alive)
    clipped = (jnp.abs(jnp.expm1(log_ratio)) > cfg.clip_eps).astype(float)
    total = l_policy + cfg.value_coef * l_value - cfg.entropy_coef * entropy
    if cfg.opponent_model != "none":  # it shares no parameter with the rest
        total += cross_entropy(net, logits, b)
    return total, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_ratio, b.alive),
        "policy/clip_fraction": normalize.masked_mean(clipped, b.alive),
    }


def cross_entropy(net: Any, logits: Array, b: Batch) -> Array:
    """Mean of -log q(what another one did) in nats, over all who did something: the cross-entropy
    of their policies and the model of them."""
    said = log_likelihood(net.choices, logits, b.others)
    return -normalize.masked_mean(said, b.alive[..., None] & (b.others >= 0))


def evaluate_rows(
    cfg: Any, net: Network, pi: ActionHead, players: int, learner: Learner, x: Experience
) -> tuple[Batch, normalize.RewardScale | tuple[()], Metrics]:
    """Advantages and targets of the rows [T, B, ...] of one network, which are of so many players
    in turn, as a batch [T, B, ...]; the new scale of rewards; and how good value and model were."""
    rows, seen = x.rows, x.seen
    obs, next_obs = (normalize.whiten(learner.obs_stats, y) for y in (x.obs, x.next_obs))
    ended = rows.terminated | rows.truncated
    scale, reward = normalize.scale_reward(
        learner.reward_scale, rows.reward, ended, cfg.gamma, scan=scan_returns
    )
    out, value, after = net.apply(learner.params, obs, seen.carry)
    _, next_value, _ = net.apply(learner.params, next_obs, after)
    ends = rows.terminated, rows.truncated
    advantage = gae(reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda, scan=scan_returns)
    target = advantage + value
    if cfg.normalize_advantage:
        each = [y.reshape(len(y), -1, players) for y in (advantage, rows.alive)]
        advantage = jax.vmap(normalize.standardize, 2, 2)(*each).reshape(value.shape)
    batch = Batch(
        obs=obs, start=starts(ended), **seen._asdict(),
        value=value, advantage=advantage, target=target, alive=rows.alive, others=x.others,
    )  # fmt: skip
    metrics = {"value/explained_variance": losses.explained_variance(value, target, rows.alive)}
    if cfg.opponent_model != "none":
        metrics["opponents/cross_entropy"] = cross_entropy(net, split_out(pi, out)[1], batch)
    return batch, scale, metrics


def learn(
    cfg: Any, net: Network, pi: ActionHead, players: int, learner: Learner, x: Experience, key: Key
) -> tuple[Learner, Metrics]:
    """PPO on the rows [T, B, ...] of one network, which are of so many players in turn."""
    opt = optimizer(cfg)
    batch, scale, before = evaluate_rows(cfg, net, pi, players, learner, x)
    if in_sequences(cfg):
        batch = batch._replace(carry=jax.tree.map(lambda x: x[:1], batch.carry))
    else:
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def update(carry, minibatch, key):
        params, opt_state = carry
        grads, info = jax.grad(loss, has_aux=True)(params, cfg, net, pi, minibatch, key)
        updates, opt_state = opt.update(grads, opt_state, params)
        return (optimizers.apply_updates(params, updates), opt_state), info

    (params, opt_state), info = epochs(
        update, (learner.params, learner.opt_state), batch, key,
        num_epochs=cfg.num_epochs, minibatches=cfg.minibatches, axis=int(in_sequences(cfg)),
    )  # fmt: skip
    stats = normalize.update_stats(learner.obs_stats, x.obs, cfg.normalize_steps, x.rows.alive)
    return Learner(params, opt_state, stats, scale), info | before


def merge_players(x: Array) -> Array:
    """Rows of all players as one batch: [T, N, P_g, ...] -> [T, N * P_g, ...]."""
    return x.reshape(len(x), -1, *x.shape[3:])


def learn_group(
    cfg: Any, net: Network, pi: ActionHead, size: int, learner: Learner, x: Experience, key: Key
) -> tuple[Learner, Metrics]:
    """PPO on the rows [T, N, P_g, ...] of a group: its players together, or each by itself."""
    if cfg.share_parameters:
        return learn(cfg, net, pi, size, learner, jax.tree.map(merge_players, x), key)

    def one(learner: Learner, x: Experience, key: Key) -> tuple[Learner, Metrics]:
        return learn(cfg, net, pi, 1, learner, x, key)

    learner, info = jax.vmap(one, (0, 2, 0))(learner, x, jax.random.split(key, size))
    alive = x.rows.alive.sum((0, 1), dtype=jnp.int32)
    share = alive / jnp.maximum(alive.sum(), 1)  # who was never there does not count
    return learner, jax.tree.map(lambda m: m @ share, info)


def step(cfg: Any, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_rollout, k_learn = jax.random.split(state.key, 3)
    found = teams(cfg, env)
    nets = [network(cfg, env, group) for group in found]

    # Collect, all together.
    def act(obs, carry, key):
        actions, after, seen = [], {}, {}
        keys = jax.random.split(key, len(found))
        for group, (net, pi), key in zip(found, nets, keys, strict=True):
            own, before = observe(cfg, env, group, obs), carry[group.name]
            out, _, after[group.name] = apply(cfg, net, state.learners[group.name], own, before)
            draw, log_prob = pi.sample(split_out(pi, out)[0], key)
            actions.append(pi.action(draw))
            seen[group.name] = Seen(draw, log_prob, before)
        return join_actions(env, actions), after, seen

    env_state, carry, t, seen, metrics = E.rollout(
        env, act, state.env, state.carry, k_rollout, cfg.num_steps
    )

    # Learn, each for itself.
    learners = {}
    keys = jax.random.split(k_learn, len(found))
    for group, nets_, k_group in zip(found, nets, keys, strict=True):
        obs, next_obs = (observe(cfg, env, group, x) for x in (t.obs, t.next_obs))
        others = () if cfg.opponent_model == "none" else other_actions(env, group, t)
        x = Experience(obs, next_obs, rows_of(group, t), seen[group.name], others)
        learners[group.name], info = learn_group(
            cfg, *nets_, group.size, state.learners[group.name], x, k_group
        )
        metrics |= named(group, found, info)
    return TrainState(learners, env_state, carry, state.iteration + 1, key), metrics


def act(
    cfg: Any, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Actions [B, P, ...] of all players on a game's observations [B, ...]."""
    actions, after, found = [], {}, teams(cfg, env)
    for group, k_group in zip(found, jax.random.split(key, len(found)), strict=True):
        net, pi = network(cfg, env, group)
        own, before = observe(cfg, env, group, obs), carry[group.name] if carry else ()
        out, _, after[group.name] = apply(cfg, net, state.learners[group.name], own, before)
        out, _ = split_out(pi, out)
        actions.append(pi.action(pi.mode(out) if greedy else pi.sample(out, k_group)[0]))
    return join_actions(env, actions), after


def steps_per_iter(cfg: Any) -> int:
    return cfg.num_envs * cfg.num_steps
