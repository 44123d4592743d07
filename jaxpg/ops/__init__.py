"""Equations: pure functions of arrays, each with its source.

returns.py              returns and advantages
losses.py               losses of policies and critics
importance.py           off-policy corrections and estimates
options.py              options: their values, ends and choice
trust_region.py         natural gradients, conjugate gradients, line search
explore.py              noise on actions and parameters
novelty.py              counts, codes, neighbours and disagreement as bonuses
level_replay.py         which level of an environment is worth another episode
relax.py                draws of integers that a gradient flows through
normalize.py            standardising, and running statistics
dynamic_programming.py  exact values of finite MDPs
games.py                exact payoffs, gradients and best responses of games in matrix form
"""
