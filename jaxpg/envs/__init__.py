"""Environments: by name, and jaxpg's own.

registry.py     environments by name: `jaxpg.make`; recipes.py, their arguments as JSON
corrections.py  what gymnax has otherwise than gymnasium
tabular.py      small discrete ones whose model is known exactly
partial.py      environments of which an agent sees a part only
maze.py         generated mazes with one goal
noisy_tv.py     a corridor with a screen of noise
wrappers        functions on an environment: frames, actions, time limits, rewards, drawn parameters
games           several players: matrix games, poker, tic-tac-toe; worlds in the plane
finance         portfolios, and the liquidation of a position
suites          adapters of other suites, in JAX (Brax, ...) and on the host (gymnasium, envpool)
"""

from jaxpg.core import gymnax_import  # noqa: F401  before any other import of gymnax
