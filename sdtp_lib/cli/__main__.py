"""`python -m sdtp_lib.cli` is `sdtp`, for launchers that run a module."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
