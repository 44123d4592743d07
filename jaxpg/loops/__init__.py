"""Loops: parts of an iteration that several agents share, as functions that they call.

minibatch.py, descent.py, optimizers.py   gradient steps
fit_value.py, natural.py                  a critic fitted to returns; the iteration of NPG and TRPO
options.py                                acting by call and return, and returns of options
policies.py, lag.py                       acting; parameters of some updates ago
replay.py, updates.py                     the off-policy iteration: collect, store, sample, update
replay_fields.py                          checks of its config
intrinsic.py, bonuses                     learning from a bonus for what is new; the bonuses
levels.py                                 which level of an environment is played next
archive.py                                cells that were reached, and the best way to each
backward.py                               starts along an episode, from its end to its beginning
population.py                             fitness of the candidates of a policy search
tabular.py                                steps of a table
players.py, multi_agent.py                players of a game and their networks; PPO for them
league.py                                 snapshots of a policy that play against it
sharing.py, joint.py                      parameters that players share or have each; what all do
independent.py                            one agent for each player of a game
"""
