"""Natural policy gradient, Kakade (2001), with steps of a given length in KL divergence.

The gradient g says which small change of the *parameters* gains the most; the natural gradient
F^-1 g says which small change of the *policy* does, F = E[grad log pi grad log pi'] being the
Fisher matrix. It does not depend on how the policy is parametrised. The step along it is

    theta + sqrt(2 max_kl / (g' F^-1 g)) F^-1 g,

which changes the policy by a mean KL divergence of `max_kl`, to second order (Rajeswaran et al.
2017, arXiv:1703.02660 eq. 5). Nothing checks what it does beyond that: see `trpo`.

Deviations from Kakade: F^-1 g by conjugate gradients with damping on the batch's Fisher matrix; a
normalised step instead of a learning rate; advantages are GAE, standardised, from a critic that is
a network of its own, fitted to the returns.
"""

from typing import ClassVar

import jax
import optax

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config
from jaxpg.core.schedules import schedule
from jaxpg.core.types import Agent, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import natural
from jaxpg.loops.natural import Batch, TrainState
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP
from jaxpg.ops import losses, trust_region


@config
class Config:
    num_envs: int = fields.num_envs(8)
    num_steps: int = fields.num_steps(128)
    max_kl: float = fields.max_kl(0.01, help="Length of a step (nats).")
    max_kl_schedule: Schedule = schedule()
    cg_iterations: int = fields.cg_iterations(10)
    damping: float = fields.damping(0.1)
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

    cost_limit: ClassVar[None] = None
    shared: ClassVar[bool] = False  # actor and critic learn by different losses at different times
    memory: ClassVar[str] = "none"  # updates are of single steps
    batch_norm: ClassVar[bool] = False  # a KL would compare two normalisations


def improve(actor: Tree, cfg: Config, env: E.Env, b: Batch, key: Key) -> tuple[Tree, Metrics]:
    """One step along the natural gradient."""
    net, pi = actor_critic(cfg, env)
    old = net.apply(actor, b.obs, method="policy")
    k_entropy, k_kl = jax.random.split(key)

    def gain(actor):
        out = net.apply(actor, b.obs, method="policy")
        entropy = pi.entropy(out, k_entropy).mean()
        l_policy = losses.policy_gradient(pi.log_prob(out, b.draw), b.advantage)
        return cfg.entropy_coef * entropy - l_policy, {
            "loss/policy": l_policy,
            "policy/entropy": entropy,
        }

    def kl(actor):
        return pi.kl(old, net.apply(actor, b.obs, method="policy"), k_kl).mean()

    gradient, info = jax.grad(gain, has_aux=True)(actor)
    fisher = trust_region.fisher_vector_product(kl, actor, cfg.damping)
    change = trust_region.natural_step(fisher, gradient, cfg.max_kl, cfg.cg_iterations)
    actor = optax.apply_updates(actor, change)
    return actor, info | {"policy/kl": kl(actor), "update/norm": optax.tree.norm(change)}


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    return natural.step(improve, cfg, env, state)


npg = Agent("npg", Config, natural.init, step, natural.act, natural.steps_per_iter)
