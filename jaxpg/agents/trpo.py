"""Trust Region Policy Optimization, Schulman et al. (2015), arXiv:1502.05477.

Each iteration maximises the surrogate, the advantage weighted by the probability ratio, subject
to a bound on the mean KL divergence from the policy that collected the batch (eq. 14):

    max  mean of  r A  subject to  mean of KL(pi_old || pi) <= max_kl,   r = pi(a|s) / pi_old(a|s)

The step follows the natural gradient F^-1 g to the edge of the trust region (appendix C), and is
then shortened until the exact mean KL is within it and the surrogate has improved; if that fails
the policy stays as it was. The critic is a network of its own, fitted to the returns.

Deviations from the paper: advantages are GAE (arXiv:1506.02438, as in its experiments) and
standardised; the Fisher matrix is taken over the whole batch, with damping; the surrogate may hold
an entropy bonus.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static
from jaxpg.core.schedules import schedule
from jaxpg.core.types import Agent, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import natural
from jaxpg.loops.natural import Batch, TrainState
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import trust_region


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int = fields.num_steps(128)
    max_kl: float = fields.max_kl(0.01, help="Radius of the trust region (nats).")
    max_kl_schedule: Schedule = schedule()
    cg_iterations: int = fields.cg_iterations(10)
    damping: float = fields.damping(0.1)
    backtracks: int = static(10, ge=0, help="Steps of the line search, at most.")
    backtrack_ratio: float = number(0.8, gt=0, le=1, help="Factor of the step at each of them.")
    gamma: float = fields.gamma(0.99)
    gae_lambda: float = fields.gae_lambda(0.95)
    normalize_advantage: bool = fields.normalize_advantage(True)
    normalize_obs: bool = fields.normalize_obs(False)
    normalize_steps: float | None = fields.normalize_steps(None)
    normalize_reward: bool = fields.normalize_reward(False)
    entropy_coef: float = fields.entropy_coef(0.0)
    entropy_coef_schedule: Schedule = schedule()
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critic")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="critic")
    critic_epochs: int = fields.critic_epochs(10)
    critic_minibatches: int = fields.critic_minibatches(8)
    cost_limit: float | tuple[float, ...] | None = fields.cost_limit(None)
    cost_unit: str = fields.cost_unit("episode")
    cost_gamma: float = fields.cost_gamma(0.99)
    cost_gae_lambda: float = fields.cost_gae_lambda(0.95)
    multiplier_p: float = fields.multiplier_gain(0.05, "a violation")
    multiplier_i: float = fields.multiplier_gain(0.005, "the sum of violations")
    multiplier_d: float = fields.multiplier_gain(0.05, "a rise of the cost")
    head: str = fields.head("auto", gsde=True)
    noise_every: int | None = fields.noise_every(None)
    noise_log_std: float = fields.noise_log_std(0.0)
    noise_gradient: bool = fields.noise_gradient(False)
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

    shared: ClassVar[bool] = False  # actor and critic learn by different losses at different times
    memory: ClassVar[str] = "none"  # updates are of single steps
    batch_norm: ClassVar[bool] = False  # a KL would compare two normalisations


def improve(actor: Tree, cfg: Config, env: E.Env, b: Batch, key: Key) -> tuple[Tree, Metrics]:
    """Solves eq. 14 approximately: a natural step, then a line search on the exact problem.

    Heads without closed forms estimate entropy and KL divergence, at the same points throughout.
    """
    net, pi = actor_critic(cfg, env)
    old = net.apply(actor, b.obs, method="policy")
    old_log_prob = pi.log_prob(old, b.draw)
    k_entropy, k_kl = jax.random.split(key)

    def surrogate_and_kl(actor):
        out = net.apply(actor, b.obs, method="policy")
        ratio = jnp.exp(pi.log_prob(out, b.draw) - old_log_prob)
        entropy = pi.entropy(out, k_entropy).mean()
        surrogate = (ratio * b.advantage).mean() + cfg.entropy_coef * entropy
        return surrogate, pi.kl(old, out, k_kl).mean()

    def improves(actor):
        surrogate, kl = surrogate_and_kl(actor)
        return (surrogate > before) & (kl <= cfg.max_kl)

    (before, _), gradient = jax.value_and_grad(surrogate_and_kl, has_aux=True)(actor)
    fisher = trust_region.fisher_vector_product(
        lambda a: surrogate_and_kl(a)[1], actor, cfg.damping
    )
    full_step = trust_region.natural_step(fisher, gradient, cfg.max_kl, cfg.cg_iterations)
    actor, fraction = trust_region.line_search(
        improves, actor, full_step, cfg.backtrack_ratio, cfg.backtracks
    )
    after, kl = surrogate_and_kl(actor)
    return actor, {
        "loss/policy": -after,
        "policy/improvement": after - before,
        "policy/kl": kl,
        "policy/step_fraction": fraction,  # of the natural step; 0: the line search failed
        "policy/entropy": pi.entropy(old, k_entropy).mean(),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    return natural.step(improve, cfg, env, state)


trpo = Agent("trpo", Config, natural.init, step, natural.act, natural.steps_per_iter)
