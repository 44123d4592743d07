"""Figures of games: in matrix form, and of leagues.

fields.py      what is drawn and is exact: velocities, equilibria, basins
portraits.py   phase portraits: learning paths over the exact field
payoffs.py     payoffs over the time of learning
league.py      who beats whom in a league
"""
