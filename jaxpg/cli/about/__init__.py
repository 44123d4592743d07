"""Usage and completion of the command, and tables of runs that are there.

usage.py       the text of `jaxpg train --help` without an agent; what is wrong with words
completion.py  scripts by which shells complete the command
table.py       `jaxpg runs`, and what it removes
one.py         `jaxpg show` and `jaxpg status`
"""
