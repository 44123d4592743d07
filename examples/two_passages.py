"""Two ways past an obstacle, equally good: which policies keep both?

python examples/two_passages.py [--steps 5000] [--out two_passages.png]

One step, one number in [-1, 1]. The reward is 1 at -0.5 and at 0.7, and -1 between them and at
the walls. SAC at a fixed temperature alpha aims at the policy that is proportional to
exp(reward / alpha), which has two modes alike. A single Gaussian squashed by tanh cannot have
them and settles in one; a mixture and a flow can. Draws their densities over the reward, and
prints how much of each lies within 0.3 of either passage.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.agents import sac
from jaxpg.core.env import Env
from jaxpg.experiment.figures.style import COLOURS

PASSAGES, REACH = (-0.5, 0.7), 0.3
HEADS = {
    "tanh_gaussian_state_std": "tanh-Gaussian",
    "tanh_mixture": "mixture of 3",
    "flow": "flow",
}


def reward(action):
    """[...] -> [...]: two bumps of deviation 0.15 on a floor of -1."""
    return 2 * sum(jnp.exp(-0.5 * ((action - x) / 0.15) ** 2) for x in PASSAGES) - 1


@struct.dataclass
class Params:
    max_steps_in_episode: int = 1


@struct.dataclass
class State:
    time: jax.Array


class TwoPassages(environment.Environment):
    """Episodes of one step; there is nothing to see."""

    name = "TwoPassages"
    default_params = Params()

    def reset_env(self, key, params):
        return jnp.zeros(1), State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        state = State(state.time + 1)
        return jnp.zeros(1), state, reward(action[0]), jnp.ones((), bool), {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))

    def observation_space(self, params):
        return spaces.Box(0, 1, (1,))


def make() -> Env:
    return Env(TwoPassages.default_params, TwoPassages())


def learnt_density(head: str, steps: int, key, alpha: float = 0.2, **fields):
    """SAC with a head: actions [1999], and the density of its policy there after `steps` steps."""
    cfg = sac.Config(
        head=head, learn_alpha=False, alpha=alpha, num_steps=8, batch_size=128, hidden=(32, 32),
        learning_rate=1e-3, buffer_size=10_000, learning_starts=500, **fields,
    )  # fmt: skip
    env, actions = make(), np.linspace(-1, 1, 2001)[1:-1]

    @jax.jit
    def density(cfg, key):
        state, _ = jaxpg.train(jaxpg.sac, cfg, env, key, steps)
        net, pi = sac.policy(cfg, env)
        out = net.apply(state.learner.params.actor, jnp.zeros(1), method="policy")
        draws = jnp.arctanh(jnp.asarray(actions, float))[:, None]
        return jnp.exp(jax.vmap(pi.log_prob, (None, 0))(out, draws))

    return actions, np.asarray(density(cfg, key))


def mass(actions, density):
    """The probability of either passage: within `REACH` of it."""
    width = actions[1] - actions[0]
    return [float(density[np.abs(actions - x) < REACH].sum() * width) for x in PASSAGES]


def draw(curves: dict, path: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for (head, (x, y)), colour, style in zip(
        curves.items(), COLOURS, ("-", "--", "-."), strict=False
    ):
        above.plot(x, y, style, color=colour, linewidth=2, label=HEADS[head])
    above.set(ylabel="density of the policy", ylim=(0, None), xlim=(-1, 1))
    x = np.linspace(-1, 1, 801)
    below.fill_between(x, -1, reward(x), color="#666666", alpha=0.3, linewidth=0)
    below.plot(x, reward(x), color="#444444", linewidth=1.5)
    below.set(xlabel="action", ylabel="reward", ylim=(-1.1, 1.2))
    for axes in (above, below):
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="two_passages.png")
    args = parser.parse_args()
    curves = {}
    for head, name in HEADS.items():
        curves[head] = learnt_density(head, args.steps, jax.random.key(args.seed))
        left, right = mass(*curves[head])
        print(f"{name:14}  left {left:.2f}  right {right:.2f}", flush=True)
    draw(curves, args.out)
    print(f"drawn into {args.out}")


if __name__ == "__main__":
    main()
