"""Pictures of runs, sweeps and comparisons: `jaxpg.pictures`.

measured.py        metrics and evaluations as they stand, of a result or a folder
runs.py            the four-panel report of one run
actions.py         what a policy does over whole episodes
learning_curve.py  learning curves, which a run folder draws by itself
options.py         options on a map: which begins where, and where they end
risk.py            how gains are spread, and their measures
robustness.py      returns over one or two parameters of the environment
sweeps             figures of sweeps and comparisons
games              learning paths in games in matrix form, over their exact fields
style.py           fonts, colours and files of all of them
"""

from jaxpg.experiment.figures.actions import action_distribution, play
from jaxpg.experiment.figures.games.league import league_heat_map
from jaxpg.experiment.figures.games.payoffs import PayoffPaths, payoffs_over_time
from jaxpg.experiment.figures.games.portraits import Portrait, phase_portraits
from jaxpg.experiment.figures.options import option_maps
from jaxpg.experiment.figures.robustness import robustness_figure
from jaxpg.experiment.figures.runs import training_report
from jaxpg.experiment.figures.style import save
from jaxpg.experiment.figures.sweeps.comparisons import efficiency, improvement, profiles
from jaxpg.experiment.figures.sweeps.curves import curves
from jaxpg.experiment.figures.sweeps.maps import heat_map
from jaxpg.experiment.figures.sweeps.parallel import parallel_coordinates

__all__ = [
    "PayoffPaths",
    "Portrait",
    "action_distribution",
    "curves",
    "efficiency",
    "heat_map",
    "improvement",
    "league_heat_map",
    "option_maps",
    "parallel_coordinates",
    "payoffs_over_time",
    "phase_portraits",
    "play",
    "profiles",
    "robustness_figure",
    "save",
    "training_report",
]
