"""Options that were learnt in four rooms: which begins where, and where each of them ends.

python examples/options.py [--total-steps 30000] [--seed 0] [--out options.png]

Trains option-critic in tables with a price on ending an option, prints how long options last and
how much each is used, and draws them on the map.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.loops import options


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--total-steps", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="options.png")
    args = parser.parse_args()

    env = jaxpg.make("FourRooms-jaxpg")
    cfg = jaxpg.preset("option_critic", "FourRooms-jaxpg")
    train = jax.jit(lambda key: jaxpg.train(jaxpg.option_critic, cfg, env, key, args.total_steps))
    state, metrics = train(jax.random.key(args.seed))
    late = {name: np.asarray(x)[-len(x) // 4 :] for name, x in metrics.items()}
    steps, lasts = np.nanmean(late["episode/length"]), np.nanmean(late["options/length"])
    print(f"{steps:.1f} steps an episode; an option lasts {lasts:.1f}")
    for i in range(cfg.options):
        print(f"option {i}: {late[f'options/use_{i}'].mean():5.1%} of steps")

    everywhere = jnp.eye(env.example_obs.size)
    seen = options.look(cfg, env, state.params, everywhere)
    figure = jaxpg.pictures.option_maps(
        env.core.grid.free, seen.choice, seen.termination, seen.actions, int(env.params.goal)
    )
    jaxpg.pictures.save(figure, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
