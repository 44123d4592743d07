"""Option-critic, Bacon, Harb & Precup (2017), arXiv:1609.05140.

Options are learnt from the reward alone: their policies, where they end, and what they are worth.
At each step of a rollout, of an option omega in state s that led to s',

    target     r + gamma U(omega, s'),  U = (1 - beta) Q(s', omega) + beta V(s')     eq. 2 and 3
    critic     Q(s, omega) moves to the target
    policies   grad log pi_omega(a | s) (target - Q(s, omega))                       theorem 1
    endings    -grad beta_omega(s') (Q(s', omega) - V(s') + cost)                    theorem 2

No gradient flows through Q in the last two. The policy over options is epsilon-greedy or a softmax
over Q, and has no parameters of its own. Above zero, `deliberation_cost` (Harb et al. 2018,
arXiv:1709.04571) is paid whenever an option ends: it is taken from the returns, and is the margin
in the last line; without it options shrink to single steps.

On a Discrete observation `hidden=()` is a table, all zeros at the start, and with the optimiser
"sgd" and rates of their own critic, policies and endings are updated as in the paper's algorithm 1.
Where the episode was cut by a time limit, s' is its own last state, and its value counts.

Deviations from the paper: the critic is Q of options, and not of options and actions, so that a
policy follows the TD error, with Q(s, omega) as its baseline; V is the mean under the policy over
options that acts (expected SARSA), not the maximum; with `gae_lambda` above 0 the target looks
further ahead, as TD(lambda), along the options that followed; networks learn on rollouts of many
environments, not from a replay buffer, with policies and endings on one torso and Q on another; the
softmax of a policy has `temperature` 1, so that a rate of 0.25 at temperature 0.01 in the paper,
whose gradients leave the temperature out, is a `learning_rate` of 25 here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, require_several, static, validate
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Transition, Tree
from jaxpg.loops import optimizers, options
from jaxpg.nets.networks import MLP
from jaxpg.ops import losses, normalize
from jaxpg.ops.options import of_option, termination_loss


@config
class Config:
    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(16)
    options: int = static(4, ge=1, help="Options that are learnt.")
    option_policy: str = static(
        "epsilon_greedy",
        choices=("epsilon_greedy", "softmax"),
        help="Policy over options, by their values.",
    )
    option_epsilon: float = number(0.05, ge=0, le=1, help="Fraction of random options.")
    option_temperature: float = number(0.1, gt=0, help="Of the softmax over options' values.")
    deliberation_cost: float = number(
        0.0, ge=0, help="Reward that is paid whenever an option ends."
    )
    gae_lambda: float = fields.gae_lambda(0.95)
    gamma: float = fields.gamma(0.99)
    learning_rate: float = fields.learning_rate(1e-3, of="options' policies")
    learning_rate_schedule: Schedule = schedule()
    termination_learning_rate: float = fields.learning_rate(1e-3, of="terminations")
    termination_learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    entropy_coef: float = fields.entropy_coef(0.01)
    entropy_coef_schedule: Schedule = schedule()
    normalize_advantage: bool = fields.normalize_advantage(False)
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


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    env: E.EnvState
    running: options.Running  # [num_envs] the options in force
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    require_several(
        cfg, "normalize_advantage", cfg.num_envs * cfg.num_steps, "num_envs * num_steps = 1 step"
    )
    k_params, k_env, key = jax.random.split(key, 3)
    net, _ = options.network(cfg, env)
    params = net.init(k_params, env.example_obs)
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


def loss(
    params: Tree, cfg: Config, env: E.Env, t: Transition, seen: options.Seen, key: Key
) -> tuple[Array, Metrics]:
    """Loss of critic, policies and terminations on a rollout [T, N]."""
    net, pi = options.network(cfg, env)
    now = net.apply(params, t.obs)
    after = options.arrive(cfg, net.apply(params, t.next_obs), seen.option)
    out, q = of_option(now.out, seen.option), of_option(now.q, seen.option)
    target = jax.lax.stop_gradient(options.returns(cfg, t.reward, t, after))
    advantage = target - jax.lax.stop_gradient(q)
    if cfg.normalize_advantage:
        advantage = normalize.standardize(advantage)

    l_policy = losses.policy_gradient(pi.log_prob(out, seen.draw), advantage)
    l_value = losses.value(q, target)
    l_termination = termination_loss(after.beta, after.advantage, ~t.terminated)
    entropy = pi.entropy(out, key).mean()
    return l_policy + l_value + l_termination - cfg.entropy_coef * entropy, {
        "loss/policy": l_policy,
        "loss/value": l_value,
        "loss/termination": l_termination,
        "policy/entropy": entropy,
        "options/termination": after.beta.mean(),
        "value/explained_variance": losses.explained_variance(q, target),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_rollout, k_loss = jax.random.split(state.key, 3)

    # Collect.
    env_state, running, t, seen, metrics = options.collect(
        cfg, env, state.params, state.obs_stats, state.env, state.running, k_rollout
    )
    stats = normalize.update_stats(
        state.obs_stats, t.obs, cfg.normalize_steps
    )  # for the next rollout
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, t.terminated | t.truncated, cfg.gamma, scan=scan_returns
    )
    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    t = t._replace(obs=obs, next_obs=next_obs, reward=reward)

    # Learn: one update of all on the whole rollout.
    grads, info = jax.grad(loss, has_aux=True)(state.params, cfg, env, t, seen, k_loss)
    updates, opt_state = optimizers.actor_critic(cfg).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = TrainState(
        params, opt_state, env_state, running, stats, scale, state.iteration + 1, key
    )
    return state, metrics | info


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Array]:
    return options.act(cfg, env, state.params, state.obs_stats, obs, carry, key, greedy)


option_critic = Agent(
    "option_critic", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps
)
