"""The optimiser of agents that update actor and critic at once."""

from collections.abc import Hashable

import jax
import optax


def actor_critic(cfg) -> optax.GradientTransformation:
    """One transformation an update: the critic's parameters and the rest have their own rates.

    Reads the fields `learning_rate` (also a shared torso's), `critic_learning_rate`, `optimizer`
    ("adam" or "rmsprop") and `max_grad_norm`, the global norm that gradients are clipped to.
    """

    def label(path, _):
        return "critic" if path[1].key.startswith("critic") else "actor"

    def rule(learning_rate):
        if cfg.optimizer == "adam":
            return optax.adam(learning_rate, eps=1e-5)
        return optax.rmsprop(learning_rate, decay=0.99, eps=1e-5)

    rules: dict[Hashable, optax.GradientTransformation] = {
        "actor": rule(cfg.learning_rate),
        "critic": rule(cfg.critic_learning_rate),
    }
    return optax.chain(
        optax.clip_by_global_norm(cfg.max_grad_norm),
        optax.multi_transform(rules, lambda params: jax.tree.map_with_path(label, params)),
    )
