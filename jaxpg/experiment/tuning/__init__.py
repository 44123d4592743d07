"""Tunings: settings searched by rounds of sweeps and judged on held-out seeds (`jaxpg.tune`).

space.py   fields that are searched, and their values
design.py  programs and points
budget.py  rounds, and what fits into steps or minutes
stages.py  the sweeps: a round each, and the comparison
judge.py   the order of points; whether a finalist is better
tune.py    what puts them together, and the folder
"""

from jaxpg.experiment.tuning.tune import Tuned, resume, tune

__all__ = ["Tuned", "resume", "tune"]
