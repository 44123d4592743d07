"""Games: environments of several players.

matrix.py       one-shot and repeated games in matrix form, and scripted opponents
spread.py       agents that spread over landmarks: simple_spread of MPE
"""
