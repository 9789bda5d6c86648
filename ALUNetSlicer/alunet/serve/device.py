"""What the jobs of this machine can run on; asked once, in a process of its own, because torch
is slow to load.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading

from alunet.model.child import with_source

_QUESTION = """
import json, torch
from alunet.model.interface import load_framework
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({"device": load_framework().resolve_device("DEVICE"), "devices": names}))
"""

log = logging.getLogger("alunet.serve")


class Device:
    """The answer, "unknown" until it is there.

    Args:
        wanted: "auto", "cpu", "cuda" or "mps". For "cpu" nothing needs to be asked.
    """

    def __init__(self, wanted: str) -> None:
        self.name, self.names = "unknown", list[str]()
        if wanted == "cpu":
            self.name = wanted
            return
        threading.Thread(target=self._ask, args=(wanted,), daemon=True).start()

    def _ask(self, wanted: str) -> None:
        command = [sys.executable, "-c", _QUESTION.replace("DEVICE", wanted)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=120,
                env=with_source(),
                check=True,
            )
            answer = json.loads(done.stdout.splitlines()[-1])
            self.name, self.names = answer["device"], answer["devices"]
        except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
            log.warning("the device cannot be told: %s", type(error).__name__)
