"""Figures of sweeps and comparisons.

maps.py         the final score over one or two fields
curves.py       learning curves by config or field
parallel.py     all configs as lines through their values
comparisons.py  profiles, probabilities of improvement, sample efficiency
scales.py       the scale on which a field's values stand
"""
