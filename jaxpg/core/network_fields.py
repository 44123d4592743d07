"""Fields of a config that say what its networks are; `core.fields` has them all.

Each is a function of the agent's own default.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

from jaxpg.core.choices import ACTIVATION, ACTIVATIONS, INITIALIZER, INITS, MEMORIES
from jaxpg.core.config import static
from jaxpg.core.names import TORSO
from jaxpg.core.types import Array

__all__ = [
    "Activation", "Initializer", "Net", "activation", "batch_norm", "critic_activation",
    "critic_gradient", "critic_hidden", "critic_net", "dropout", "hidden", "kernel_init",
    "layer_norm", "memory", "memory_length", "memory_size", "net", "shared",
]  # fmt: skip

Net: TypeAlias = type | functools.partial
Activation: TypeAlias = str | Callable[[Array], Array]
Initializer: TypeAlias = str | Callable


def net(default: Net) -> Net:
    """Torso of the networks: a flax module class, net(hidden, activation, kernel_init)."""
    return static(default, kind=TORSO, help=net.__doc__)


def critic_net(default: Net | None) -> Net | None:
    """Torso of the critic; None is that of the actor."""
    return static(default, kind=TORSO, help=critic_net.__doc__)


def hidden(default: tuple[int, ...]) -> tuple[int, ...]:
    """Units of each hidden layer; () is a linear network."""
    return static(default, ge=1, help=hidden.__doc__)


def critic_hidden(default: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Units of each hidden layer of the critic; None are those of the actor."""
    return static(default, ge=1, help=critic_hidden.__doc__)


def activation(default: Activation) -> Activation:
    """Nonlinearity after each hidden layer, by name or as a function of one array."""
    return static(default, choices=ACTIVATIONS, kind=ACTIVATION, help=activation.__doc__)


def critic_activation(default: Activation | None) -> Activation | None:
    """Nonlinearity after each hidden layer of the critic; None is that of the actor."""
    text = critic_activation.__doc__
    return static(default, choices=(*ACTIVATIONS, None), kind=ACTIVATION, help=text)


def kernel_init(default: Initializer) -> Initializer:
    """Distribution of the first weights, by name or as an initialiser of flax."""
    return static(default, choices=INITS, kind=INITIALIZER, help=kernel_init.__doc__)


def layer_norm(default: bool) -> bool:
    """Layer norm before each activation."""
    return static(default, help=layer_norm.__doc__)


def batch_norm(default: bool, help: str) -> bool:
    """Batch norm before each activation."""
    return static(default, help=help)


def dropout(default: float, of: str = "critics") -> float:
    """Fraction of hidden units that an update sets to zero; `of` says of which networks."""
    text = f"Fraction of the {of}' hidden units that an update sets to zero."
    return static(default, ge=0, le=0.9, help=text)


def shared(default: bool) -> bool:
    """One torso for actor and critic."""
    return static(default, help=shared.__doc__)


def critic_gradient(default: bool) -> bool:
    """A shared torso learns from the critic too."""
    return static(default, help=critic_gradient.__doc__)


def memory(default: str, help: str | None = None) -> str:
    """Memory between torso and heads."""
    return static(default, choices=MEMORIES, help=help or memory.__doc__)


def memory_size(default: int) -> int:
    """Units of the memory."""
    return static(default, ge=1, help=memory_size.__doc__)


def memory_length(default: int) -> int:
    """Steps that an attention memory looks back."""
    return static(default, ge=1, help=memory_length.__doc__)
