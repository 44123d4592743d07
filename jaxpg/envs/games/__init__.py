"""Games: environments of several players.

matrix.py       one-shot and repeated games in matrix form, and scripted opponents
kuhn.py         Kuhn poker, and its exact answers: value, best responses, NashConv
tictactoe.py    tic-tac-toe, and its exact answers for tables of all its positions
pursuit.py      hunters and prey, of different observations, where prey leave
spread.py       agents that spread over landmarks: simple_spread of MPE
"""
