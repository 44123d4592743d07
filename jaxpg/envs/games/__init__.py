"""Games: environments of several players, small enough that the right answer is known.

matrix.py       one-shot and repeated games in matrix form, and scripted opponents
"""
