"""A network of one's own: random Fourier features before the layers of a policy and its critic.

python examples/own_network.py [--total-steps 60000] [--seeds 4]

Tancik et al. (2020), arXiv:2006.10739: what changes fast is easier to fit with sines and cosines of
many frequencies beside the observation itself. A torso is a flax module that takes (hidden,
activation, kernel_init) and makes features [B, F] of observations [B, *obs]; heads are put on top.
From the command it has a name too: --config.net own_network:Fourier, in this file's folder.
"""

import argparse
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

import jaxpg
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import MLP, activate


class Fourier(nn.Module):
    """Fully connected layers on an observation, and on `waves` sines and cosines of it."""

    hidden: tuple[int, ...]
    activation: str | Callable
    kernel_init: str | Callable
    waves: int = 32  # a field of its own: functools.partial(Fourier, waves=64) has others

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        normal = nn.initializers.normal(0.3)
        frequency = self.param("frequency", normal, (x.shape[-1], self.waves))
        phase = x @ jax.lax.stop_gradient(frequency)  # they stay as they were drawn
        x = jnp.concatenate([x, jnp.sin(phase), jnp.cos(phase)], -1)
        for size in self.hidden:
            x = nn.Dense(size, kernel_init=initializer(self.kernel_init, math.sqrt(2)))(x)
            x = activate(self.activation, x)
        return x


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--total-steps", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    # Fields over the preset, by the labels that the table shall have.
    agents = {net.__name__: ("ppo", {"net": net}) for net in (MLP, Fourier)}
    found = jaxpg.compare(
        agents, ["Acrobot-v1"], jax.random.key(0),
        total_steps=args.total_steps, seeds=args.seeds, evaluations=1,
    )  # fmt: skip
    print(found.scores.groupby("agent", sort=False)["score"].agg(["mean", "min", "max"]).round(1))


if __name__ == "__main__":
    main()
