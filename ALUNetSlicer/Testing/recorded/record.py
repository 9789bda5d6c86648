"""Record what the program does now, for the tests that say when that changes.

    python ALUNetSlicer/Testing/recorded/record.py batches     the batch of each strategy
    python ALUNetSlicer/Testing/recorded/record.py help        the commands of `alunet`
    python ALUNetSlicer/Testing/recorded/record.py openapi     the description of the service

Only for a change that is meant, in a commit of its own whose body says why. See `make_projects.py`
for the projects.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent)]


def main() -> None:
    """Record one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("batches", "help", "openapi"))
    what = parser.parse_args().what
    if what == "batches":
        from recorded import batches

        batches.record()
    else:
        from recorded import interface

        interface.record(what)


if __name__ == "__main__":
    main()
