"""Constrained policy optimisation, Achiam et al. (2017), arXiv:1705.10528.

Each iteration solves, to first order in the return and the cost and to second in the divergence,

    max  mean of r A   subject to   J_C + mean of s (r - 1) A_C <= cost_limit
                                    mean of KL(pi_old || pi) <= max_kl,    r = pi(a|s) / pi_old(a|s)

(eq. 10): `ops.constraints.solve_cpo` has the solution in closed form. Where no policy within the
trust region keeps the limit, the step is that to the least cost (eq. 14); with `recovery` below 1,
the best one for the return that takes this part of the fall. The step is then shortened until the
measured divergence and the measured cost are allowed and, unless the limit is broken, the measured
surrogate has improved (section 6.2).

s scales the mean over a batch to the change of an episode's cost: the mean length of an episode,
and with `cost_unit="discounted"` the discounts since its start. The multiplier of the cost, a
metric, is that of the solved step.

Deviations: advantages are GAE with a critic each, the reward's standardised; the Fisher matrix is
damped, over the whole batch; the surrogate may hold an entropy bonus; J_C is the mean of the
episodes that ended in the last rollout, and before the first has ended nothing is limited.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static
from jaxpg.core.schedules import schedule
from jaxpg.core.types import Agent, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import natural
from jaxpg.loops.costs import Limit, require_limit
from jaxpg.loops.natural import Batch, TrainState
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import constraints, trust_region


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int = fields.num_steps(128)
    max_kl: float = fields.max_kl(0.01, help="Radius of the trust region (nats).")
    max_kl_schedule: Schedule = schedule()
    cost_limit: float | None = fields.cost_limit(None)
    cost_unit: str = fields.cost_unit("episode")
    cost_gamma: float = fields.cost_gamma(0.99)
    cost_gae_lambda: float = fields.cost_gae_lambda(0.95)
    recovery: float = number(
        1.0, gt=0, le=1, help="Part of the greatest fall of the cost that a recovery step takes."
    )
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
    critic_learning_rate: float = fields.learning_rate(1e-3, of="critics")
    critic_learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="critics")
    critic_epochs: int = fields.critic_epochs(10)
    critic_minibatches: int = fields.critic_minibatches(8)
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

    multiplier_p: ClassVar[float] = 0.0  # the multiplier is solved for at each step
    multiplier_i: ClassVar[float] = 0.0
    multiplier_d: ClassVar[float] = 0.0
    shared: ClassVar[bool] = False  # actor and critics learn by different losses
    memory: ClassVar[str] = "none"  # updates are of single steps
    batch_norm: ClassVar[bool] = False  # a KL would compare two normalisations


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    require_limit(cfg, env)
    return natural.init(cfg, env, key)


def improve(actor: Tree, cfg: Config, env: E.Env, b: Batch, key: Key) -> tuple[Tree, Metrics]:
    """Solves eq. 10 approximately: the step in closed form, then a line search on what it does.

    Heads without closed forms estimate KL divergences, at the same points throughout.
    """
    net, pi = actor_critic(cfg, env)
    old = net.apply(actor, b.obs, method="policy")
    old_log_prob = pi.log_prob(old, b.draw)
    k_entropy, k_kl = jax.random.split(key)
    nothing = jnp.zeros_like(b.advantage)
    limit = b.limit or Limit(nothing, nothing, jnp.full((), -jnp.inf))
    violation = limit.violation

    def measure(actor):
        """The surrogate, the change of an episode's cost, and the mean divergence."""
        out = net.apply(actor, b.obs, method="policy")
        ratio = jnp.exp(pi.log_prob(out, b.draw) - old_log_prob)
        cost = (limit.scale * (ratio - 1) * limit.advantage).mean()
        entropy = pi.entropy(out, k_entropy).mean()
        surrogate = (ratio * b.advantage).mean() + cfg.entropy_coef * entropy
        return surrogate, cost, pi.kl(old, out, k_kl).mean()

    g, b_cost = (jax.grad(lambda a, i=i: measure(a)[i])(actor) for i in (0, 1))
    fisher = trust_region.fisher_vector_product(lambda a: measure(a)[2], actor, cfg.damping)
    along_g, along_b = (
        trust_region.conjugate_gradient(fisher, x, cfg.cg_iterations) for x in (g, b_cost)
    )
    pairs = (g, along_g), (g, along_b), (b_cost, along_b)
    products = constraints.Products(*(jnp.asarray(optax.tree.vdot(*x)) for x in pairs))
    by_g, by_b, case = constraints.solve_cpo(products, violation, cfg.max_kl, cfg.recovery)
    full_step = jax.tree.map(lambda x, y: by_g * x + by_b * y, along_g, along_b)
    before, _, _ = measure(actor)

    def allowed(actor):
        surrogate, cost, kl = measure(actor)
        better = (surrogate > before) | (violation > 0)
        return (kl <= cfg.max_kl) & (cost <= jnp.maximum(-violation, 0)) & better

    actor, fraction = trust_region.line_search(
        allowed, actor, full_step, cfg.backtrack_ratio, cfg.backtracks
    )
    after, cost, kl = measure(actor)
    return actor, {
        "loss/policy": -after,
        "policy/improvement": after - before,
        "policy/kl": kl,
        "policy/step_fraction": fraction,  # of the solved step; 0: the line search failed
        "policy/entropy": pi.entropy(old, k_entropy).mean(),
        "cost/change": cost,  # of an episode, as the surrogate has it
        "cost/multiplier": jnp.where(by_g > 0, -by_b / jnp.where(by_g > 0, by_g, 1), 0),
        "cost/recovery": (case == constraints.RECOVER).astype(float),
    }


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    return natural.step(improve, cfg, env, state)


cpo = Agent("cpo", Config, init, step, natural.act, natural.steps_per_iter)
