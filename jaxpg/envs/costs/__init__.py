"""Costs: continuous tasks in which a reward is to be had where a cost is, too.

hazards.py    a point among hazards: to reach goals, to run in a circle, to run ahead
cart_pole.py  a cart and pole with a part of the track that is forbidden

Tables with costs, whose optima are exact, are in `envs.tabular`.
"""
