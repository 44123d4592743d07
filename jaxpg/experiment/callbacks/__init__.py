"""Callbacks: host code between the chunks of a run, see `jaxpg.Callback`.

metrics.py      metrics in files
evaluation.py   returns of whole episodes, greedy and sampled
guards.py       ends of a run: a NaN, a target that is reached
progress.py     a bar on stderr
tensorboard.py  TensorBoard files
"""
