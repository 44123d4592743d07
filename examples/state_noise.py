"""Noise that explores, over one episode: drawn at every step, or a function of the state.

python examples/state_noise.py [--every 50] [--seed 0] [--out state_noise.png]

An untrained policy of PPO on Pendulum, once with the head `gaussian` and once with `gsde`, at the
same deviation on average. Draws the noise of the two over the steps of an episode, and prints how
far it moves in a step, in units of its deviation: two draws that know nothing of each other are
1.13 apart in the mean.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core import env as E
from jaxpg.experiment.figures import style
from jaxpg.nets import noise
from jaxpg.nets.actor_critic import actor_critic, empty_carry

HEADS = {"gaussian": "gaussian: drawn at every step", "gsde": "gsde: held over {every} steps"}
STEPS = 200


def noise_of_an_episode(head: str, every: int, key) -> np.ndarray:
    """The noise [STEPS] of an episode, in units of its deviation."""
    env = jaxpg.make("Pendulum-v1")
    cfg = jaxpg.ppo.Config(head=head, noise_every=every, noise_log_std=-1.0)
    net, pi = actor_critic(cfg, env)
    k_params, k_reset, k_rollout = jax.random.split(key, 3)
    params = net.init(k_params, env.example_obs)
    state = E.reset(env, k_reset, 1)

    def policy(obs, carry, key):
        out, _, after = net.apply(params, obs, carry, rngs=noise.exploring(cfg, key))
        draw, _ = pi.sample(out, key)
        return pi.action(draw), after, draw - pi.mode(out)

    carry = empty_carry(net, params, state.obs)
    *_, found, _ = E.rollout(env, policy, state, carry, k_rollout, STEPS)
    return np.asarray(found[:, 0, 0] / jnp.sqrt(jnp.square(found).mean()))


def draw(curves: dict, every: int, path: str) -> None:
    figure = style.new_figure(style.WIDE, 3.6)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, (head, x), colour in zip(panels, curves.items(), style.COLOURS, strict=False):
        style.tidy(axes)
        axes.plot(x, color=colour, linewidth=1.2)
        axes.set_title(HEADS[head].format(every=every), fontsize=9, loc="left")
        axes.set(ylabel="noise / deviation", xlim=(0, STEPS))
    panels[-1].set_xlabel("step of the episode")
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="state_noise.png")
    args = parser.parse_args()
    curves = {}
    for head in HEADS:
        curves[head] = noise_of_an_episode(head, args.every, jax.random.key(args.seed))
        print(f"{head:9} moves by {np.abs(np.diff(curves[head])).mean():.2f} in a step")
    draw(curves, args.every, args.out)
    print(f"drawn into {args.out}")


if __name__ == "__main__":
    main()
