"""Agents with options: acting by call and return, and returns of options.

The option in force is the policy's carry, [N] int32: its number plus 1, and 0 where there is none
yet, as at the start of an episode. At each step it may end by its termination in this state; then,
or if there was none, the policy over options picks one; its own policy draws the action.

All functions read the fields `options, option_policy, option_epsilon, option_temperature,
deliberation_cost, gamma, gae_lambda` of a config. Where the policy over options is learnt that is
`option_policy: ClassVar[str] = "learnt"`.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.metrics import no_data
from jaxpg.core.scans import scan_returns
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.nets.networks import Network
from jaxpg.nets.options import Outputs, option_network
from jaxpg.ops import normalize
from jaxpg.ops import options as ops
from jaxpg.ops.returns import lambda_return


class Running(NamedTuple):
    """Options in force [N], between rollouts."""

    option: Array  # int32 number plus 1; 0: none yet
    age: Array  # int32 steps that it has been in force, for the metrics


class Seen(NamedTuple):
    """Outputs of the policy at collection: leaves [T, N, ...]."""

    option: Array  # int32, in force
    chosen: Array  # bool: it was picked at this step, by the policy over options
    draw: Array
    log_prob: Array  # of the draw, under the option


class Arrival(NamedTuple):
    """Successors of steps, under the options that led to them: leaves [T, N]."""

    beta: Array  # probability that the option ends there
    advantage: Array  # of going on with it over ending it
    value: Array  # eq. 3 without the cost


def network(cfg, env: E.Env):
    """The network and the policy head: see `nets.options`."""
    return option_network(cfg, env, learnt_choice=cfg.option_policy == "learnt")


def over_options(cfg, o: Outputs) -> Array:
    """The policy over options: [..., O] probabilities."""
    if cfg.option_policy == "learnt":
        return jax.nn.softmax(o.choice)
    return ops.over_options(o.q, cfg.option_policy, cfg.option_epsilon, cfg.option_temperature)


def begin(num_envs: int) -> Running:
    """No option is in force anywhere."""
    return Running(*jnp.zeros((2, num_envs), jnp.int32))


def collect(
    cfg, env: E.Env, params: Tree, obs_stats, state: E.EnvState, running: Running, key: Key
) -> tuple[E.EnvState, Running, Transition, Seen, Metrics]:
    """Rolls out `num_steps` steps of every environment, as `E.rollout`; with metrics of options."""
    net, pi = network(cfg, env)

    def policy(obs, carry, key):
        k_option, k_action = jax.random.split(key)
        o = net.apply(params, normalize.whiten(obs_stats, obs))
        option, chosen = ops.choose(over_options(cfg, o), o.beta, carry, k_option)
        draw, log_prob = pi.sample(ops.of_option(o.out, option), k_action)
        return pi.action(draw), option + 1, Seen(option, chosen, draw, log_prob)

    state, carry, t, seen, metrics = E.rollout(
        env, policy, state, running.option, key, cfg.num_steps
    )
    ended = t.terminated | t.truncated
    of_options, age = option_metrics(seen.option, seen.chosen, ended, running.age, cfg.options)
    return state, Running(carry, age), t, seen, metrics | of_options


def arrive(cfg, o: Outputs, option: Array) -> Arrival:
    """Judges states by the outputs o of the network there, reached under options [T, N]."""
    policy, beta = over_options(cfg, o), ops.of_option(o.beta, option)
    advantage = ops.termination_advantage(o.q, policy, option, cfg.deliberation_cost)
    return Arrival(beta, advantage, ops.upon_arrival(o.q, policy, beta, option, 0.0))


def returns(cfg, reward: Array, t: Transition, after: Arrival) -> Array:
    """Targets of Q(s, omega) [T, N]: TD(lambda) returns, less the cost of ending options.

    At lambda 0 the target of one step, reward + gamma U(omega, next_obs), arXiv:1609.05140 eq. 2.
    """
    paid = cfg.gamma * cfg.deliberation_cost * jnp.where(t.terminated, 0, after.beta)
    return lambda_return(
        reward - paid, after.value, t.terminated, t.truncated, cfg.gamma, cfg.gae_lambda,
        scan=scan_returns,
    )  # fmt: skip


def act(
    cfg, env: E.Env, params: Tree, obs_stats, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Array]:
    """Actions [N, *action] on observations [N, *obs], and the options in force, plus 1 [N].

    greedy: everything that is drawn takes its likelier value: an option ends where its termination
    is above 1/2, and is followed by the best one.
    """
    net, pi = network(cfg, env)
    k_option, k_action = jax.random.split(key)
    o = net.apply(params, normalize.whiten(obs_stats, obs))
    before = jnp.zeros(o.q.shape[:-1], jnp.int32) if isinstance(carry, tuple) else carry
    policy = over_options(cfg, o)
    if greedy:
        option, _ = ops.choose_greedy(policy, o.beta, before)
    else:
        option, _ = ops.choose(policy, o.beta, before, k_option)
    out = ops.of_option(o.out, option)
    return pi.action(pi.mode(out) if greedy else pi.sample(out, k_action)[0]), option + 1


class View(NamedTuple):
    """Options of an agent in observations [B, *obs]."""

    choice: Array  # [B, O] the policy over options
    termination: Array  # [B, O]
    actions: Array  # [B, O, A] probabilities of discrete actions; of others the head's inputs


def look(cfg, env: E.Env, params: Tree, obs: Tree, obs_stats=()) -> View:
    """Options in observations [B, *obs]: the policy over them, their ends, and their actions.

    >>> env = jaxpg.make("FourRooms-jaxpg")
    >>> cfg = jaxpg.option_critic.Config(options=3)
    >>> state = jaxpg.option_critic.init(cfg, env, jax.random.key(0))
    >>> look(cfg, env, state.params, jax.numpy.eye(104)).actions.shape
    (104, 3, 4)
    """
    net: Network = network(cfg, env)[0]
    o = net.apply(params, normalize.whiten(obs_stats, obs))
    actions = jax.nn.softmax(o.out / cfg.temperature) if env.discrete else o.out
    return View(over_options(cfg, o), o.beta, actions)


def option_metrics(
    option: Array, chosen: Array, ended: Array, age: Array, count: int
) -> tuple[dict[str, Array], Array]:
    """Metrics of `count` options over steps [T, N], all scalars, and the ages [N] after them.

    Arguments are those of `ops.options.option_ages`, and the options in force [T, N].
    `options/length`: steps of those that ended, by themselves or with the episode; NaN, "no data",
    if none did. `options/chosen`: the share of steps at which one was picked. `options/use_0` and
    so on: the share of steps of each.
    `options/entropy`: of these shares, in nats: 0 where one option does everything, log(count)
    where all do as much.
    """
    chex.assert_equal_shape([option, chosen, ended])
    before, now = ops.option_ages(chosen, ended, age)
    over = chosen & (before > 0)
    many = over.sum(dtype=float) + ended.sum(dtype=float)
    total = jnp.where(over, before, 0).sum(dtype=float) + jnp.where(ended, now, 0).sum(dtype=float)
    use = (option[..., None] == jnp.arange(count)).reshape(-1, count).mean(0, dtype=float)
    return {
        "options/length": jnp.where(many > 0, total / jnp.maximum(many, 1), no_data(total.dtype)),
        "options/chosen": chosen.mean(dtype=float),
        "options/entropy": -(use * jnp.log(jnp.where(use > 0, use, 1))).sum(),
        **{f"options/use_{i}": use[i] for i in range(count)},
    }, jnp.where(ended[-1], 0, now[-1])
