"""`python -m pixloc_core` is `pixloc`."""

import sys

from pixloc_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
