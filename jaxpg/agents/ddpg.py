"""Deep deterministic policy gradient, Lillicrap et al. (2016), arXiv:1509.02971.

The policy a = mu(s) has no randomness of its own, so its gradient is the critic's slope in the
action, followed through the policy (eq. 6, Silver et al. 2014):

    grad J = E[ grad_a Q(s, a) at a = mu(s)  grad_theta mu(s) ]

The critic regresses on y = r + gamma Q'(s', mu'(s')) (eq. 5) with slowly moving copies Q', mu', on
transitions from replay. Exploration is added from outside: Ornstein-Uhlenbeck noise as in the
paper, Gaussian noise, or a perturbation of the policy's parameters whose scale adapts to how far
it moves the actions (Plappert et al. 2018, arXiv:1706.01905). With `hindsight` it learns from goals
that were reached (see `replay.hindsight`).

Deviations from the paper: no weight decay, unless `optimizer` has one; the action enters the critic
at its first layer; a time limit bootstraps, since truncation is not termination. Parameter noise
acts on whatever network is given, with or without layer normalisation.

Batch normalisation (sec. 3, `batch_norm`) stands before every hidden activation of the actor. The
paper has it also in the critic's layers before the action enters; here the action and the
observation enter side by side at the first one, so there are none. The observation itself is left
alone (`normalize_obs`). Updates use the mean and variance of the batch; acting and the copy use
running ones. The copy's follow the online ones as its parameters do.
"""

import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, require_several, static, validate
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import descent, replay
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.nets import continuous
from jaxpg.nets.continuous import deterministic as mu
from jaxpg.nets.networks import MLP, dropping, learning, running
from jaxpg.nets.values import critics
from jaxpg.ops import explore
from jaxpg.replay import uniform


@config
class Config:
    num_envs: int = fields.num_envs(1)
    num_steps: int = fields.num_steps(1)
    buffer_size: int = fields.buffer_size(100_000)
    learning_starts: int = fields.learning_starts(1000)
    random_warmup: bool = fields.random_warmup(True)
    batch_size: int = fields.batch_size(128)
    updates_per_step: float = fields.updates_per_step(1.0)
    learning_rate: float = fields.learning_rate(1e-3, of="actor")
    learning_rate_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam")
    gamma: float = fields.gamma(0.99)
    target_update: str = static(
        "soft",
        choices=("soft", "hard"),
        help="Copies follow a little with each update, or are made anew now and then.",
    )
    tau: float = fields.tau(0.005, help="How far the copies move in a soft update.")
    target_period: int = static(200, ge=1, help="Updates between two copies, of hard updates.")
    noise: str = static(
        "gaussian",
        choices=("gaussian", "ou", "parameter"),
        help="Noise that explores: independent, Ornstein-Uhlenbeck, or of parameters.",
    )
    noise_std: float = fields.noise_std(
        0.1, help="Deviation, actions in [-1, 1]; ou: of increments."
    )
    noise_std_schedule: Schedule = schedule()
    ou_theta: float = fields.ou_theta(0.15)
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
    batch_norm: bool = fields.batch_norm(False, help="Batch norm of the actor.")
    dropout: float = fields.dropout(0.0)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    n_step: ClassVar[int] = 1  # one-step targets
    prioritized: ClassVar[bool] = False  # uniform sampling
    memory: ClassVar[str] = "none"  # updates are of single steps
    bonus: ClassVar[str] = "none"  # of ppo, a2c, dqn and sac


class Params(NamedTuple):
    actor: Tree
    critic: Tree


class Learner(NamedTuple):
    params: Params
    target: Params
    opt_state: Params  # of each
    updates: Array  # [] int32


class TrainState(NamedTuple):
    learner: Learner
    noise_scale: Array  # [] of parameter noise
    replay: replay.Replay
    iteration: Array  # [] int32
    key: Key


def optimizers(cfg: Config) -> Params:
    return Params(
        build_optimizer(cfg.optimizer, cfg.learning_rate),
        build_optimizer(cfg.optimizer, cfg.critic_learning_rate, stacked=True),
    )


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    require_several(cfg, "batch_norm", cfg.batch_size, "batch_size = 1 transition")
    k_actor, k_critic, k_env, key = jax.random.split(key, 4)
    obs, action = env.example_obs, jnp.zeros(continuous.action_size(cfg, env), float)
    params = Params(
        continuous.actor(cfg, env).init(k_actor, obs, method="policy"),
        critics(cfg, env, 1).init(k_critic, obs, action),
    )
    target, opt_state = jax.tree.map(jnp.copy, params), descent.init(optimizers(cfg), params)
    zero = jnp.zeros((), jnp.int32)
    noise = {
        "gaussian": lambda: (),
        "ou": lambda: jnp.zeros((cfg.num_envs, *action.shape), float),
        "parameter": lambda: explore.init_perturbation(params.actor["params"], cfg.num_envs),
    }[cfg.noise]()
    return TrainState(
        learner=Learner(params, target, opt_state, zero),
        noise_scale=jnp.full((), 0.1, float),
        replay=replay.init(cfg, env, k_env, noise),
        iteration=zero,
        key=key,
    )


def act_noisily(cfg: Config, env: E.Env, actor: Tree, scale: Array, obs: Array, noise, key: Key):
    """An action [N, D] in [-1, 1] for each environment, and the noise to remember."""
    if cfg.noise == "parameter":
        noise = explore.begin_episodes(key, noise)
        own = lambda direction, obs: mu(cfg, env, perturbed(actor, direction, scale), obs)  # noqa: E731
        return jax.vmap(own)(noise.direction, obs), noise
    return explore.add_noise(key, mu(cfg, env, actor, obs), noise, cfg.noise_std, cfg.ou_theta)


def perturbed(actor: Tree, direction: Tree, scale: Array) -> Tree:
    """The actor with its parameters moved; what batch norm remembers stays."""
    return actor | {"params": explore.perturb(actor["params"], direction, scale)}


def critic_target(
    cfg: Config, env: E.Env, target: Params, b: replay.Batch, key: Key | None = None
) -> Array:
    """Target of the critic, eq. 5: y = r + gamma Q'(s', mu'(s')). [B] The key is for dropout."""
    action, rngs = mu(cfg, env, target.actor, b.next_obs), dropping(cfg, key, 0)
    q = critics(cfg, env, 1).apply(target.critic, b.next_obs, action, rngs=rngs)[0]
    return replay.td_target(b, q)


def update(
    cfg: Config, env: E.Env, learner: Learner, b: replay.Batch, key: Key | None = None
) -> tuple[Learner, Array, Metrics]:
    """One update of the critic, the actor and their copies. Returns TD errors [B] and metrics.

    The key is for dropout.
    """
    params, target, opt_state, updates = learner
    pi, q = continuous.actor(cfg, env), critics(cfg, env, 1)
    descend, rngs = functools.partial(descent.descend, optimizers(cfg)), dropping(cfg, key, 1)
    y = critic_target(cfg, env, target, b, key)

    def critic_loss(critic):
        error = q.apply(critic, b.obs, b.action, rngs=rngs)[0] - y
        return 0.5 * jnp.square(error).mean(), error

    def actor_loss(actor):
        action = jnp.tanh(learning(pi, actor, b.obs, method="policy"))
        return -q.apply(params.critic, b.obs, action, rngs=dropping(cfg, key, 2))[0].mean()

    (l_q, error), grads = jax.value_and_grad(critic_loss, has_aux=True)(params.critic)
    params, opt_state = descend("critic", grads, params, opt_state)
    l_policy, grads = jax.value_and_grad(actor_loss)(params.actor)
    params = params._replace(actor=running(pi, params.actor, b.obs, method="policy"))
    params, opt_state = descend("actor", grads, params, opt_state)

    updates = updates + 1
    if cfg.target_update == "soft":
        target: Tree = optax.incremental_update(params, target, cfg.tau)
    else:
        due = updates % cfg.target_period == 0
        target = jax.tree.map(lambda p, t: jnp.where(due, p, t), params, target)
    info = {"loss/policy": l_policy, "loss/q": l_q, "value/q": y.mean()}
    return Learner(params, target, opt_state, updates), error, info


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    key, k_step, k_sample, k_noise = jax.random.split(state.key, 4)
    actor, scale = state.learner.params.actor, state.noise_scale

    replay_state, learner, metrics = replay.step(
        cfg, env, state.replay, state.learner,
        lambda obs, noise, key: act_noisily(cfg, env, actor, scale, obs, noise, key),
        lambda learner, batch, key: update(cfg, env, learner, batch, key),
        state.iteration, k_step,
    )  # fmt: skip

    if cfg.noise == "parameter":
        obs = uniform.sample(replay_state.buffer, k_sample, cfg.batch_size).obs
        obs = replay.whiten(replay_state, obs)
        moved = perturbed(actor, explore.standard_normal(k_noise, actor["params"]), scale)
        distance = explore.action_distance(mu(cfg, env, actor, obs), mu(cfg, env, moved, obs))
        scale = explore.adapt_scale(scale, distance, cfg.noise_std)
        metrics |= {"noise/scale": scale, "noise/distance": distance}
    return TrainState(learner, scale, replay_state, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    """Deterministic action if `greedy`, else with Gaussian noise of the training's deviation."""
    action = mu(cfg, env, state.learner.params.actor, replay.whiten(state.replay, obs))
    if not greedy:
        action = explore.gaussian(key, action, cfg.noise_std)
    return E.to_space(env, action), carry


ddpg = Agent("ddpg", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
