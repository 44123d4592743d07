"""Files that are what was written, or an error.

atomic.py  files that are written whole or not at all, and JSON that carries its own digest
rows.py    tables that grow row by row, and the record of their digests
arrays.py  arrays by name, by Orbax, below a path with any letters
lock.py    folders that one process at a time writes
kinds.py   kinds of folders, by the record that each has
"""

RUN, SWEEP, TUNE = "run.json", "sweep.json", "tune.json"  # in a folder they say whose it is
CHECKPOINTS = "checkpoints"  # the folder of a run's
SUMMARY = "summary.json"  # how a run ended; not there while it goes on
FAILURE = "failure.json"  # why a run ended with an error; not there when it goes on
CURVE = "curve.png"
