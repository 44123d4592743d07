"""Games of zero sum: settings cannot be ranked by the mean of the players' returns."""

from typing import Any

import jax
import pytest

import jaxpg
from jaxpg.core.games import require_score

KEY = jax.random.key(0)
PENNIES = {"game": "matching_pennies"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Kuhn-jaxpg", {}), ("TicTacToe-jaxpg", {}), ("MatrixGame-jaxpg", PENNIES)],
)
def test_a_game_of_zero_sum_is_refused_and_so_is_one_in_a_wrapper(name, arguments):
    env = jaxpg.make(name, **arguments)
    for each in (env, jaxpg.time_limit(env, 3)):
        with pytest.raises(ValueError, match="is a game of zero sum"):
            require_score(each)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CartPole-v1", {}),
        ("Spread-jaxpg", {}),
        ("MatrixGame-jaxpg", {"game": "prisoners"}),
        ("MatrixGame-jaxpg", {"game": "penalty"}),
        ("MatrixGame-jaxpg", PENNIES | {"opponent": [[0.5, 0.5]]}),  # one learns: it has a score
    ],
)
def test_what_has_a_score_is_not(name, arguments):
    require_score(jaxpg.make(name, **arguments))


def test_sweeps_tunings_and_comparisons_refuse_it_before_anything_compiles():
    env = jaxpg.make("MatrixGame-jaxpg", **PENNIES)
    cfg = jaxpg.ippo.Config(num_envs=2, num_steps=2, minibatches=1)
    steps: dict[str, Any] = {"total_steps": 4, "seeds": 1}
    points = jaxpg.sweep.grid(learning_rate=[1e-3, 1e-2])
    with pytest.raises(ValueError, match="is a game of zero sum"):
        jaxpg.sweep.run(jaxpg.ippo, cfg, env, KEY, points, **steps)
    with pytest.raises(ValueError, match="is a game of zero sum"):
        jaxpg.tune(jaxpg.ippo, cfg, env, KEY, total_steps=4)
    with pytest.raises(ValueError, match="is a game of zero sum"):
        jaxpg.compare(["ippo"], [env], KEY, **steps)
