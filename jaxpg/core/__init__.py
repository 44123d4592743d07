"""Core: what agents, environments and configs are, and how one is trained on the other.

types.py          Agent, Transition, Array, Key: the types that every file shares
config.py         configs as pytrees; fields.py and choices.py, the fields that agents share
schedules.py      numbers of a config that change over the run
checks.py         what a caller gives, judged: kinds, paths, keys; memory.py, what a run takes of it
names.py          objects by "module:Name": sources.py and calls.py say what a file may have
                  imported and called; callables.py, classes and functions in configs
env.py            environments, vectorised: reset, step, rollout; spaces.py, observations.py and
                  signals.py, what they say; metrics.py, of the episodes that end; sums.py, exactly;
                  resets.py, what follows those; scans.py, loops over time; protocol.py, what they
                  owe to agents
train.py          training as a pure function
plan.py, run.py   training with a host loop: the plan of a run, and the loop with its callbacks;
                  blocks.py, the rows that are kept of its metrics; pieces.py, a chunk that takes
                  long; interrupt.py, signals that end it
episodes.py       whole episodes under a policy that does not learn
parallel          seeds, lanes, devices and processes
machine.py, random_cpu.py, gymnax_import.py   devices, caches, random numbers and slow imports;
                  packing.py, trees in few arrays
"""
