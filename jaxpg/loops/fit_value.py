"""Fitting a critic of its own parameters to the returns of a rollout."""

from collections.abc import Callable

import jax
import optax

from jaxpg.core.config import label
from jaxpg.core.types import Array, Key, Tree
from jaxpg.loops.minibatch import epochs
from jaxpg.loops.optimizers import apply_updates, build_optimizer
from jaxpg.ops import losses


def check(cfg) -> None:
    """Raises ValueError if a batch, `num_envs * num_steps`, cannot be cut into the minibatches."""
    batch = cfg.num_envs * cfg.num_steps
    if batch % cfg.critic_minibatches:
        raise ValueError(
            f"{label(type(cfg))} critic_minibatches={cfg.critic_minibatches}: allowed is a divisor "
            f"of the batch, num_envs * num_steps = {cfg.num_envs} * {cfg.num_steps} = {batch}"
        )


def optimizer(cfg) -> optax.GradientTransformation:
    """Optimiser of the critic, by the fields `optimizer` and `critic_learning_rate`."""
    return build_optimizer(cfg.optimizer, cfg.critic_learning_rate)


def fit(
    value: Callable, critic: Tree, opt_state: Tree, obs: Tree, target: Array, key: Key, cfg
) -> tuple[Tree, Tree, Array]:
    """Regresses value(critic, obs) on the targets, over epochs of shuffled minibatches.

    obs: [B, *obs]; target: [B]. Reads the fields `optimizer, critic_learning_rate, critic_epochs,
    critic_minibatches`. Returns the critic, its optimiser's state and the mean loss.
    """
    rule = optimizer(cfg)

    def update(carry, minibatch, _):
        critic, opt_state = carry
        obs, target = minibatch
        loss, grads = jax.value_and_grad(lambda c: losses.value(value(c, obs), target))(critic)
        updates, opt_state = rule.update(grads, opt_state, critic)
        return (apply_updates(critic, updates), opt_state), {"loss/value": loss}

    (critic, opt_state), info = epochs(
        update, (critic, opt_state), (obs, target), key,
        num_epochs=cfg.critic_epochs, minibatches=cfg.critic_minibatches,
    )  # fmt: skip
    return critic, opt_state, info["loss/value"]
