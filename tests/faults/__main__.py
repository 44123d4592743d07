"""`python -m tests.faults [KIND ...] [--quick]`: tries all, or those kinds, prints the scorecard, and
writes it."""

import sys
import tempfile
from pathlib import Path

from tests.faults.suite import main

if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="jaxpg-faults-"))
    print(folder)
    sys.exit(main(folder, sys.argv[1:]))
