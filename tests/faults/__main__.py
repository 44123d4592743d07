"""Tries all faults, or those of the kinds that are given, prints the scorecard and writes it:
`python -m tests.faults [KIND ...] [--quick]`."""

import sys
import tempfile
from pathlib import Path

from tests.faults.suite import main

if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="jaxpg-faults-"))
    print(folder)
    sys.exit(main(folder, sys.argv[1:]))
