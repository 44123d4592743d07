"""Games: environments of several players, small enough that the right answer is known.

matrix.py       one-shot and repeated games in matrix form, and scripted opponents
kuhn.py         Kuhn poker, and its exact answers: value, best responses, NashConv
tictactoe.py    tic-tac-toe, and its exact answers for tables of all its positions
"""
