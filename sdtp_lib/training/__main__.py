"""`python -m sdtp_lib.training` is `sdtp train`, for launchers that run a module."""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
