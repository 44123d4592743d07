"""What a limit allows in the worlds of costs.py that have no table: the best return, by geometry.

Goal and circle: the best of a discretised program. The point moves between the places of a lattice,
by the actions that lead from one to another; goals are places, too. Backward induction over the
steps of an episode, with the rewards and costs of the world itself, gives for a multiplier m

    V(m) = max over policies of J - m J_C,  and so  max of J under J_C <= d  is  min_m V(m) + m d

(undiscounted, from the world's start). A learner has more actions than the lattice has, and can be
better by a little.

Run: a step at the allowed speed earns that speed at no cost, one at full speed earns 1 at a cost
of 1. Cart: a controller by hand, which balances on the allowed side; its return and cost are those
of episodes that it controlled.
"""

import costs_settings as settings
import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core.env import Env
from jaxpg.core.types import Array
from jaxpg.envs.costs.hazards import depth

MULTIPLIERS = np.concatenate([[0.0], np.geomspace(0.05, 50, 25)])
LIMITS = {
    "goal": np.concatenate([np.linspace(0, 2, 9), np.arange(3.0, 13)]),
    "circle": np.arange(0.0, 51, 2.5),
    "run": np.linspace(0, 100, 21),
}
SLACK = 1e-5  # places of the lattice are rounded


def bound_returns(task: str) -> dict[str, list[float]]:
    """The best return under some limits on the cost of an episode, as the module says."""
    env_name, params, *_ = settings.POINTS[task]
    env = jaxpg.make(env_name, **params)
    steps, limits = env.params.max_steps_in_episode, LIMITS.get(task, np.zeros(0))
    if task == "cart":
        earned, paid = follow_controller(env)
        limits, best = np.array([paid.mean()]), np.array([earned.mean()])
    elif task == "run":
        best = np.minimum(steps * env.params.speed + (1 - env.params.speed) * limits, steps)
    else:
        solve = {"goal": solve_goal, "circle": solve_circle}[task]
        run = jax.jit(lambda multiplier: solve(env.core, env.params, multiplier))
        values = np.array([float(run(m)) for m in MULTIPLIERS])
        best = (values[:, None] + MULTIPLIERS[:, None] * limits).min(0)
    return {"limits": limits.astype(float).round(3).tolist(), "returns": best.round(2).tolist()}


def solve_goal(core, params, multiplier) -> Array:
    """V(multiplier) [] of the task goal, on 41 x 41 places, where a step leads 2 places far."""
    n, reach = 41, 2
    x = jnp.linspace(-1, 1, n)
    places = jnp.stack(jnp.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2)
    cost = jax.vmap(lambda place: depth(place, core.hazards))(places)
    free = (cost == 0) / (cost == 0).sum()
    apart = jnp.linalg.norm(places[:, None] - places, axis=-1)  # [place, goal]
    reached = apart <= params.tolerance + SLACK

    def back(value, _):  # value: [place, goal]
        after = jnp.where(reached, 1 + (value @ free)[:, None], value)
        after = (after - 10 * apart - multiplier * cost[:, None]).reshape(n, n, -1)
        for axis in (0, 1):  # the best of all places that a step reaches, an axis at a time
            window = [1, 1, 1]
            window[axis] = 2 * reach + 1
            after = jax.lax.reduce_window(after, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")
        return 10 * apart + after.reshape(apart.shape), None

    value, _ = jax.lax.scan(back, jnp.zeros_like(apart), None, params.max_steps_in_episode)
    return free @ value @ free


def solve_circle(core, params, multiplier) -> Array:
    """V(multiplier) [] of the task circle, on 97 x 97 places, where a step leads 4 places far."""
    n, reach = 97, 4
    x = jnp.linspace(-1.2, 1.2, n)
    places = jnp.stack(jnp.meshgrid(x, x, indexing="ij"), -1)
    moves = jnp.stack(jnp.meshgrid(*[jnp.arange(-reach, reach + 1)] * 2), -1).reshape(-1, 2)
    off = jnp.abs(jnp.linalg.norm(places, axis=-1) - params.radius) / params.step_size
    cost = jnp.abs(places[..., 0]) > params.width + SLACK
    start = (jnp.abs(places) <= 0.1 + SLACK).all(-1)

    def back(value, _):
        def arrive(move):  # worth of each place, if it is left by this move
            v = move / reach
            reward = (places[..., 0] * v[1] - places[..., 1] * v[0]) / (1 + off)
            after = jnp.pad(reward - multiplier * cost + value, reach, constant_values=-jnp.inf)
            return jax.lax.dynamic_slice(after, reach + move, (n, n))

        return jax.lax.map(arrive, moves).max(0), None

    value, _ = jax.lax.scan(back, jnp.zeros((n, n)), None, params.max_steps_in_episode)
    return (value * start).sum() / start.sum()


def follow_controller(env: Env, episodes: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Returns and costs [episodes] of the cart under a linear controller that goes 0.5 m to the
    left."""
    gains = jnp.array([1.0, 1.0, 10.0, 1.0])

    def play(key):
        obs, state = env.core.reset_env(key, env.params)

        def step(carry, _):
            obs, state, alive = carry
            push = ((obs + jnp.array([0.5, 0, 0, 0])) @ gains > 0).astype(int)
            obs, state, reward, ended, info = env.core.step_env(key, state, push, env.params)
            return (obs, state, alive & ~ended), (reward * alive, info["cost"] * alive)

        steps = env.params.max_steps_in_episode
        sums = jax.lax.scan(step, (obs, state, jnp.array(True)), None, steps)[1]
        return jax.tree.map(lambda x: x.sum(), sums)

    keys = jax.random.split(jax.random.key(0), episodes)
    return tuple(np.asarray(x) for x in jax.jit(jax.vmap(play))(keys))  # type: ignore[return-value]
