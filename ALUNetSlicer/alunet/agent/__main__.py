"""`python -m alunet.agent` is the command `alunet agent`."""

from __future__ import annotations

import sys

from alunet.agent.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
