"""`python -m jaxpg.cli` is `jaxpg`."""

import sys

from jaxpg.cli import main

if __name__ == "__main__":
    sys.exit(main())
