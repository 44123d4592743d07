"""Trains the policies that act on the page docs/play.md, and writes them as ONNX for the browser:
docs/theme/static/play/policies.js. What they reach is in benchmarks/browser_policies.json.

python benchmarks/browser_policies.py

On CartPole-v1 ten runs of REINFORCE, one episode an iteration, are kept after 10, 100 and 1000
episodes. The page has the run that is in the middle of the ten after 100 episodes. In
GoalRooms-jaxpg three runs of DQN with hindsight learn to walk to every cell; the first is shown.
"""

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from held_out import distances, play_pairs

import jaxpg
from jaxpg.core.random_cpu import use_fast_random

PATH = Path(__file__).with_suffix(".json")
SCRIPT = PATH.parent.parent / "docs" / "theme" / "static" / "play" / "policies.js"
HEAD = "// Policies as ONNX in base64, and their worlds. By benchmarks/browser_policies.py.\n"
NAME = "globalThis.jaxpgPolicies = "
KEPT = (10, 100, 1000)  # episodes
RUNS, EPISODES = 10, 100  # of REINFORCE, and greedy ones that judge a run
WALKERS, STEPS, LIMIT = 3, 400_000, 100  # runs of DQN, environment steps of each, and of an episode


def reinforce_config() -> Any:
    return jaxpg.reinforce.Config(
        num_envs=1, num_steps=500, episodes="first", hidden=(32, 32), critic_learning_rate=3e-3
    )


def dqn_config() -> Any:
    return jaxpg.dqn.Config(
        num_envs=32, num_steps=4, buffer_size=100_000, learning_starts=5000, updates_per_step=0.25,
        batch_size=128, learning_rate_schedule="linear", gamma=0.97, epsilon_end=0.1,
        target_period=1, tau=0.02, hidden=(64, 64, 64), hindsight="future",
    )  # fmt: skip


def make_rooms() -> Any:
    return jaxpg.make("GoalRooms-jaxpg", step_reward=-1.0, goal_reward=0.0)


def to_base64(result: Any, seed: int) -> str:
    """The ONNX model of a run's greedy policy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.onnx")
        jaxpg.Policy.of(result, seed=seed).export_onnx(path)
        return base64.b64encode(path.read_bytes()).decode()


def random_observations() -> np.ndarray:
    """Observations [200, 4] of CartPole, for which the actions are kept."""
    scale = np.array([1.0, 1.0, 0.1, 1.0])
    return (np.random.default_rng(0).normal(size=(200, 4)) * scale).astype(np.float32)


def learn_cart_pole() -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page needs, and what was measured."""
    agent, cfg, env = jaxpg.reinforce, reinforce_config(), jaxpg.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(0), RUNS)
    judge = jax.jit(
        jax.vmap(lambda s: jaxpg.evaluate(agent, cfg, env, s, jax.random.key(1), episodes=EPISODES))
    )
    results = {n: jaxpg.run(agent, cfg, env, keys, total_steps=n * cfg.num_steps) for n in KEPT}
    lengths = {n: np.asarray(judge(result.state)).mean(-1) for n, result in results.items()}
    shown = int(np.argsort(lengths[KEPT[1]])[(RUNS - 1) // 2])
    worlds = {name: float(getattr(env.params, name)) for name in vars(env.params)}
    models = {n: to_base64(result, shown) for n, result in results.items()}
    steps = {n: x.astype(float).round(1).tolist() for n, x in lengths.items()}
    measured = {"shown": shown, "steps": steps, "actions": {}}
    for n, result in results.items():
        actions = jaxpg.Policy.of(result, seed=shown)(random_observations())
        measured["actions"][n] = "".join(map(str, actions))
    return {"params": worlds, "models": models}, measured


def learn_rooms() -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page needs, and what was measured: the share of the pairs of a start and a goal in
    which the goal is reached, and the steps of these over the least that are needed."""
    agent, cfg, env = jaxpg.dqn, dqn_config(), make_rooms()
    keys = jax.random.split(jax.random.key(0), WALKERS)
    result = jaxpg.run(agent, cfg, env, keys, total_steps=STEPS)
    steps = np.asarray(jax.jit(jax.vmap(lambda s: play_pairs(result.cfg, env, s)))(result.state))
    least = distances(env.core.grid.beside)
    there = (steps <= LIMIT) & ~np.eye(len(least), dtype=bool)
    success = there.sum((1, 2)) / (least.size - len(least))
    extra = (steps * there).sum((1, 2)) / (least * there).sum((1, 2))
    grid = ["".join(".#"[not x] for x in row) for row in env.core.grid.free]
    measured = {"shown": 0, "success": success.round(4).tolist(), "steps": extra.round(4).tolist()}
    return {"map": grid, "limit": LIMIT, "model": to_base64(result, 0)}, measured


def read_script() -> dict[str, Any]:
    """What the script gives to the page."""
    return json.loads(SCRIPT.read_text().removeprefix(HEAD + NAME))


def table() -> Iterator[str]:
    """Lines of the page's table: of each number of episodes the greedy steps of the run that is
    shown, and of all ten the least, the mean and the most."""
    found = json.loads(PATH.read_text())["cart_pole"]
    for n, steps in found["steps"].items():
        numbers = steps[found["shown"]], np.min(steps), np.mean(steps), np.max(steps)
        yield f"| {n} | " + " | ".join(f"{x:.0f}" for x in numbers) + " |"


def write_lines(path: Path, head: str, rows: dict[str, Any]) -> None:
    """Writes a JSON object, an entry a line, below a head."""
    lines = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    path.write_text(head + "{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    use_fast_random()
    cart_pole, rooms = learn_cart_pole(), learn_rooms()
    SCRIPT.parent.mkdir(parents=True, exist_ok=True)
    write_lines(SCRIPT, HEAD + NAME, {"cart_pole": cart_pole[0], "rooms": rooms[0]})
    write_lines(PATH, "", {"cart_pole": cart_pole[1], "rooms": rooms[1]})
    print(PATH.read_text(), *table(), f"{SCRIPT.stat().st_size:,} bytes", sep="\n")


if __name__ == "__main__":
    main()
