"""Numbers from results.

statistics.py  interquartile means, performance profiles, probabilities of improvement
bootstrap.py   the intervals of all of them
scores.py      one number per config and seed of a sweep
series.py      moving means over episodes
phases.py      parts of a learning curve: rise and plateau
thresholds.py  returns at which an environment counts as solved
risk.py        value at risk, expected shortfall, drawdown
"""
