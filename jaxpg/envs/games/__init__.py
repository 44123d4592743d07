"""Games: environments of several players.

pursuit.py  hunters and prey, of different observations, where prey leave
spread.py   agents that spread over landmarks: simple_spread of MPE
"""
