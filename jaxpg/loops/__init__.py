"""Loops: parts of an iteration that several agents share, as functions that they call.

minibatch.py, descent.py, optimizers.py   gradient steps
fit_value.py, natural.py                  a critic fitted to returns; the iteration of NPG and TRPO
policies.py, lag.py                       acting; parameters of some updates ago
replay.py, updates.py                     the off-policy iteration: collect, store, sample, update
population.py                             fitness of the candidates of a policy search
tabular.py                                steps of a table
players.py, multi_agent.py                networks of several players; their PPO
league.py                                 snapshots that play against it
independent.py                            one agent for each player of a game
"""
