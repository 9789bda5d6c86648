"""`python -m alunet` is the command `alunet`."""

from __future__ import annotations

import sys

from alunet.cli import main

if __name__ == "__main__":
    sys.exit(main())
