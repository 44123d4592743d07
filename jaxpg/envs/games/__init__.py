"""Games: environments of several players.

spread.py   agents that spread over landmarks: simple_spread of MPE
"""
