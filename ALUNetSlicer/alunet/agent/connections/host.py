"""What an agent runs on the engine's computer over ssh: `python -m alunet.agent.connections.host
[ROOT]`.

Prints one line of JSON about the service of that folder, which was found or started: an
`Announcement`, or an object with ``message`` and ``hint``. Needs the standard library alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from alunet.agent.connections.starting import find_or_start
from alunet.agent.connections.target import ROOT
from alunet.errors import AlunetError
from alunet.schema import to_json


def main(arguments: list[str]) -> int:
    """Find or start the service and tell where it is."""
    root = Path(arguments[0] if arguments else ROOT).expanduser().absolute()
    try:
        said = to_json(find_or_start(sys.executable, root))
    except (AlunetError, OSError) as error:
        said = {
            "message": getattr(error, "message", str(error)),
            "hint": getattr(error, "hint", ""),
        }
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
