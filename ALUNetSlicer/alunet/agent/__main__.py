"""`python -m alunet.agent` is the command `alunet agent`."""

from __future__ import annotations

import sys

from alunet.agent import parent

if __name__ == "__main__":
    parent.end_with(parent.named_in(sys.argv[1:]))  # before anything slow is loaded

    from alunet.agent.command import main

    sys.exit(main(sys.argv[1:]))
