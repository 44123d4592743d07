"""Budget of a tuning: rounds of successive halving that fit into steps, or into minutes.

A round trains fewer points for longer (Jamieson & Talwalkar 2016, arXiv:1502.07943): of n points
each one keeps the best n / keep, for keep times the steps. The last round trains to the end, and so
does the comparison on held-out seeds behind it.
"""

import math
import time
from typing import NamedTuple

from jaxpg.core.checks import require_integer, require_number


class Asked(NamedTuple):
    """Settings of a tuning, see `jaxpg.tune`; tune.json keeps them under these names."""

    total_steps: int
    minutes: float | None = 10.0
    budget_steps: int | None = None
    seeds: int = 2
    held_out: int = 10
    rounds: int = 2
    keep: int = 4
    programs: int = 4
    finalists: int = 3
    episodes: int = 128
    iterations: tuple[int, ...] = (1,)  # environment steps of one, of each program

    def steps(self, i: int) -> int:
        """Steps of a training in round i."""
        return max(1, math.ceil(self.total_steps / self.keep ** (self.rounds - 1 - i)))

    def whole(self, steps: int) -> int:
        """Steps that a training of so many takes, in whole iterations of whatever program."""
        return max(math.ceil(steps / each) * each for each in self.iterations)

    def points(self, i: int, first: int) -> int:
        """Points of round i, of `first` in the first round."""
        return first if i == 0 else max(self.finalists, math.ceil(first / self.keep**i))

    def cost(self, first: int, i: int = 0) -> int:
        """Environment steps of the rounds from i on, and of the comparison behind them."""
        each = [self.whole(self.steps(j)) for j in range(self.rounds)]
        rounds = sum(self.points(j, first) * each[j] for j in range(i, self.rounds))
        return rounds * self.seeds + self.last(self.finalists)

    def last(self, finalists: int) -> int:
        """Environment steps of the comparison on held-out seeds."""
        return (finalists + 1) * self.held_out * self.whole(self.total_steps)

    def behind(self, i: int, finalists: int) -> int:
        """Environment steps behind round i, of so many points a round."""
        rounds = sum(self.whole(self.steps(j)) for j in range(i + 1, self.rounds))
        return finalists * rounds * self.seeds + self.last(finalists)

    def most(self) -> int:
        """Points of the first round that fit into `budget_steps`; 0 if none does."""
        low, high, budget = 0, 1, self.budget_steps or 0
        while self.cost(high) <= budget:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.cost(middle) <= budget else (low, middle)
        return low


MARGIN = 1.1  # of what a plan says that it takes: others use the machine too
MOST = 1_000_000  # of anything, where there is no limit
LEAST = {"seeds": 1, "held_out": 3, "rounds": 1, "keep": 2, "programs": 1, "finalists": 1}


def require_asked(asked: Asked) -> None:
    """Raises ValueError for settings that are not allowed, whatever the programs are. The steps are
    the run's to judge."""
    for name, least in LEAST.items():
        require_integer(name, getattr(asked, name), least, 1000)
    if asked.keep ** (asked.rounds - 1) > asked.total_steps:
        most = 1 + sum(asked.keep**n <= asked.total_steps for n in range(1, asked.rounds))
        raise ValueError(
            f"rounds={asked.rounds}: allowed is an integer >= 1 and <= {most}, for "
            f"total_steps={asked.total_steps} and keep={asked.keep}: the first round trains for "
            f"total_steps / keep ** (rounds - 1), a step at least"
        )
    if asked.budget_steps is not None:
        require_integer("budget_steps", asked.budget_steps, 1)
    elif asked.minutes is None:
        raise ValueError("minutes=None: allowed is a number > 0, or budget_steps")
    if asked.minutes is not None:
        require_number("minutes", asked.minutes)
        if asked.minutes <= 0:
            raise ValueError(f"minutes={asked.minutes!r}: allowed is a number > 0")


def require_budget(asked: Asked) -> None:
    """Raises ValueError for fewer `budget_steps` than the finalists alone take."""
    if asked.budget_steps is None or asked.most() >= asked.finalists:
        return
    each = asked.whole(asked.total_steps)
    points = f"{asked.finalists} point{'s'[: asked.finalists != 1]}"
    raise ValueError(
        f"budget_steps={asked.budget_steps}: allowed is an integer >= "
        f"{asked.cost(asked.finalists)}, for {points} and {asked.held_out} held-out seeds of "
        f"{each} steps, which are whole iterations"
    )


class Clock:
    """Clock of a tuning: what it has taken, and what the rest will take.

    The pace is the best that was seen. What the first training took above it was compiling, of as
    many programs as there are. A later sweep compiles those of its points again, since it has
    another width: two, about.
    """

    def __init__(self, minutes: float | None, spent: float, programs: int = 1):
        self.programs = programs
        self.begun = time.perf_counter() - spent
        self.limit = math.inf if minutes is None else 60 * minutes
        self.seen: list[tuple[float, float, int]] = []  # see `note`

    def spent(self) -> float:
        """Seconds so far, those before the tuning was resumed too."""
        return time.perf_counter() - self.begun

    def left(self) -> float:
        """Seconds that are left."""
        return self.limit - self.spent()

    def note(self, compiling: float, seconds: float, steps: int) -> None:
        """Takes down what some training took: seconds of compiling ahead, seconds and environment
        steps of the training itself, in which some compiling may be too."""
        self.seen.append((compiling, seconds, steps))

    def takes(self, steps: int, sweeps: int = 0, each: int = 2) -> float:
        """Seconds that training takes, with the compiling of some sweeps, `each` programs of every
        one; 0 before any is known."""
        if not self.seen:
            return 0.0
        pace = min(seconds / done for _, seconds, done in self.seen)
        compiling, seconds, done = self.seen[0]
        program = (compiling + seconds - pace * done) / self.programs
        return MARGIN * (pace * steps + sweeps * min(each, self.programs) * program)

    def room(self, each: float, rest: float) -> int:
        """Number of parts of `each` seconds that there is time for, with `rest` seconds left."""
        if not each or math.isinf(self.limit):
            return MOST
        return int((self.left() - rest) / each)
