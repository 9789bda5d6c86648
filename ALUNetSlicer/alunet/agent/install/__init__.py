"""What a viewer runs in processes of their own to install the engine on this computer, or to look
at an existing one.

Each is started on the `leash`, tells what it found as one line, and needs the standard library
alone.
"""

from __future__ import annotations

import json
import sys
from typing import Any

ANSWER = "alunet-answer"


def answer(content: dict[str, Any]) -> None:
    """Tell the viewer: one line of JSON, in ASCII, whatever the encoding of the pipe."""
    sys.stdout.write(f"\n{ANSWER} {json.dumps(content)}\n")
    sys.stdout.flush()
