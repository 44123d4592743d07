"""Twin delayed deep deterministic policy gradient, Fujimoto et al. (2018), arXiv:1802.09477.

DDPG's critic learns values that are too high, because the policy climbs its errors. Three remedies:
the target takes the lower of two critics (eq. 10); it is an average over actions near the target
policy's, by clipped noise (sec. 5.3); and the policy and the copies move once in `policy_delay`
updates of the critics (sec. 5.2), whose errors are small by then:

    y = r + gamma min_i Q'_i(s', mu'(s') + e),    e ~ clip(N(0, sigma), -c, c)

Deviations from the paper: a time limit bootstraps, since truncation is not termination. With
`policy_delay` d, an update here is d updates of the critics, each on its own sample, and then one
of the policy on the last of them: no step asks whether it is due. `dropout` in the critics is that
of DroQ, Hiraoka et al. (2022), arXiv:2110.02034. With `hindsight` it learns from goals that were
reached (see `replay.hindsight`).
"""

import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, replace, static, validate
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import descent, replay
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets import continuous
from jaxpg.nets.continuous import deterministic as mu
from jaxpg.nets.networks import MLP, dropping
from jaxpg.nets.values import critics
from jaxpg.ops import explore


@config
class Config:
    num_envs: int = fields.num_envs(1)
    num_steps: int = fields.num_steps(2)
    buffer_size: int = fields.buffer_size(100_000)
    learning_starts: int = fields.learning_starts(1000)
    random_warmup: bool = fields.random_warmup(True)
    batch_size: int = fields.batch_size(100)
    updates_per_step: float = fields.updates_per_step(1.0)
    policy_delay: int = static(2, ge=1, help="Updates of the critics for one of the policy.")
    learning_rate: float = fields.learning_rate(1e-3, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    tau: float = fields.tau(0.005, help="How far the copies move with each policy update.")
    noise: str = static(
        "gaussian",
        choices=("gaussian", "ou"),
        help="Noise that explores: independent, or Ornstein-Uhlenbeck.",
    )
    noise_std: float = fields.noise_std(
        0.1, help="Deviation of exploration, actions in [-1, 1]; ou: of increments."
    )
    noise_std_schedule: Schedule = schedule()
    ou_theta: float = fields.ou_theta(0.15)
    target_noise: float = number(0.2, ge=0, help="Deviation of the noise e on the target's action.")
    target_noise_clip: float = number(0.5, ge=0, help="Bound c of that noise.")
    hindsight: str = fields.hindsight("none")
    hindsight_goals: int = fields.hindsight_goals(4)
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
    bonus: ClassVar[str] = "none"  # of ppo, a2c, dqn and sac
    batch_norm: ClassVar[bool] = False  # the paper has none


class Params(NamedTuple):
    actor: Tree
    critic: Tree  # both of them


class Learner(NamedTuple):
    params: Params
    target: Params
    opt_state: Params  # of each


class TrainState(NamedTuple):
    learner: Learner
    replay: replay.Replay
    iteration: Array  # [] int32
    key: Key


def optimizers(cfg: Config) -> Params:
    return Params(
        build_optimizer(cfg.optimizer, cfg.learning_rate),
        build_optimizer(cfg.optimizer, cfg.critic_learning_rate, stacked=True),
    )


def grouped(cfg: Config) -> Config:
    """The config as the replay loop reads it: one sample serves `policy_delay` critic updates."""
    d = cfg.policy_delay
    return replace(cfg, batch_size=d * cfg.batch_size, updates_per_step=cfg.updates_per_step / d)


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    k_actor, k_critic, k_env, key = jax.random.split(key, 4)
    obs, action = env.example_obs, jnp.zeros(continuous.action_size(cfg, env), float)
    params = Params(
        continuous.actor(cfg, env).init(k_actor, obs, method="policy"),
        critics(cfg, env).init(k_critic, obs, action),
    )
    target, opt_state = jax.tree.map(jnp.copy, params), descent.init(optimizers(cfg), params)
    noise = jnp.zeros((cfg.num_envs, *action.shape), float) if cfg.noise == "ou" else ()
    return TrainState(
        learner=Learner(params, target, opt_state),
        replay=replay.init(grouped(cfg), env, k_env, noise),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def critic_target(cfg: Config, env: E.Env, target: Params, b: replay.Batch, key: Key) -> Array:
    """Target of the critics, eq. 10, with the smoothed action of sec. 5.3. [B]"""
    action = mu(cfg, env, target.actor, b.next_obs)
    action = explore.gaussian(key, action, cfg.target_noise, cfg.target_noise_clip)
    rngs = dropping(cfg, key, 0)
    q = critics(cfg, env).apply(target.critic, b.next_obs, action, rngs=rngs).min(0)
    return replay.td_target(b, q)


def update(cfg: Config, env: E.Env, learner: Learner, b: replay.Batch, key: Key):
    """`policy_delay` updates of the critics, then one of the actor and the copies.

    b: leaves [policy_delay * B, ...]. Returns TD errors [policy_delay * B] and metrics.
    """
    params, target, opt_state = learner
    q, descend = critics(cfg, env), functools.partial(descent.descend, optimizers(cfg))
    batches = jax.tree.map(lambda x: x.reshape(cfg.policy_delay, -1, *x.shape[1:]), b)

    def update_critic(carry, x):
        params, opt_state = carry
        b, key = x
        y = critic_target(cfg, env, target, b, key)

        def loss(critic):
            error = q.apply(critic, b.obs, b.action, rngs=dropping(cfg, key, 1)) - y
            return 0.5 * jnp.square(error).mean(-1).sum(), error[0]

        (l_q, error), grads = jax.value_and_grad(loss, has_aux=True)(params.critic)
        return descend("critic", grads, params, opt_state), (l_q, error, y.mean())

    (params, opt_state), (l_q, error, y) = jax.lax.scan(
        update_critic, (params, opt_state), (batches, jax.random.split(key, cfg.policy_delay))
    )
    obs, rngs = jax.tree.map(lambda x: x[-1], batches.obs), dropping(cfg, key, 2)

    def actor_loss(actor):
        return -q.apply(params.critic, obs, mu(cfg, env, actor, obs), rngs=rngs)[0].mean()

    l_policy, grads = jax.value_and_grad(actor_loss)(params.actor)
    params, opt_state = descend("actor", grads, params, opt_state)
    target: Tree = optax.incremental_update(params, target, cfg.tau)
    info = {"loss/policy": l_policy, "loss/q": l_q.mean(), "value/q": y.mean()}
    return Learner(params, target, opt_state), error.reshape(-1), info


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_step = jax.random.split(state.key)
    actor = state.learner.params.actor

    def policy(obs, noise, key):
        action = mu(cfg, env, actor, obs)
        return explore.add_noise(key, action, noise, cfg.noise_std, cfg.ou_theta)

    replay_state, learner, metrics = replay.step(
        grouped(cfg), env, state.replay, state.learner, policy,
        lambda learner, batch, key: update(cfg, env, learner, batch, key),
        state.iteration, k_step,
    )  # fmt: skip
    return TrainState(learner, replay_state, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Deterministic action if `greedy`, else with Gaussian noise of deviation `noise_std`."""
    action = mu(cfg, env, state.learner.params.actor, replay.whiten(state.replay, obs))
    if not greedy:
        action = explore.gaussian(key, action, cfg.noise_std)
    return E.to_space(env, action), carry


td3 = Agent("td3", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
