"""Figures of runs, sweeps and comparisons, and `save`."""

from jaxpg.experiment.pictures.actions import action_distribution, play
from jaxpg.experiment.pictures.comparisons import efficiency, improvement, profiles
from jaxpg.experiment.pictures.parallel import parallel_coordinates
from jaxpg.experiment.pictures.runs import training_report
from jaxpg.experiment.pictures.sweeps import curves, heat_map
from jaxpg.experiment.style import save

__all__ = [
    "action_distribution",
    "curves",
    "efficiency",
    "heat_map",
    "improvement",
    "parallel_coordinates",
    "play",
    "profiles",
    "save",
    "training_report",
]
