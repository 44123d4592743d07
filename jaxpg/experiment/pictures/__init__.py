"""Figures of runs, sweeps and comparisons, and `save`."""

from jaxpg.experiment.pictures.comparisons import efficiency, improvement, profiles
from jaxpg.experiment.pictures.runs import action_distribution, play, training_report
from jaxpg.experiment.pictures.style import save
from jaxpg.experiment.pictures.sweeps import curves, heat_map, parallel_coordinates

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
