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
from alunet.schema.processes import module_command

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
        command = module_command(sys.executable, "alunet.serve.device", wanted)
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


def _tell(wanted: str) -> None:
    """Print the answer, in the process that was asked."""
    import torch

    from alunet.model.interface import load_framework

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [torch.cuda.get_device_name(number) for number in range(count)]
    device = load_framework().resolve_device(wanted)
    sys.stdout.write(json.dumps({"device": device, "devices": names}) + "\n")


if __name__ == "__main__":
    _tell(sys.argv[1])
