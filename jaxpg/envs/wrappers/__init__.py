"""Wrappers: functions on an `Env` that give another one.

functions.py     the public ones
recipe.py        wrappers by name: `jaxpg.make(..., wrappers=...)`, and what a folder has of them
named.py         functions that a user gives to a wrapper, by the names that files have of them
params.py        parameters of a wrapper, over those of the environment in it
layer.py         the core of a wrapped environment, with its resets and ends
observations.py  rules of observations: frames, vectors, the time, images
steps.py         rules of steps: repeated and sticky actions, time limits, rewards
actions.py       rules of actions that a user's function changes
noise.py         rules of noise on observations and on actions
randomized.py    rule of parameters that are drawn anew for each episode
levels.py        rule of levels, of which one is drawn for each episode
"""
