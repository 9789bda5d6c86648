"""The chosen arithmetic against float32, on this processor as it is and limited to AVX2.

Each processor is measured in a process of its own, because torch reads its limits when it is
loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from timing import Measured

PROCESSORS = {
    "as it is": {},
    "limited to AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
REPEATS = 5


def measure(quick: bool) -> Measured:
    """CPU milliseconds of a training step and a scoring pass, hippocampus size, chosen and in
    float32.
    """
    rows: Measured = []
    for name, limits in PROCESSORS.items():
        command = [sys.executable, __file__, "3" if quick else str(REPEATS)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **limits}
        )
        found = json.loads(done.stdout.splitlines()[-1])
        for what, (chosen, float32) in found["milliseconds"].items():
            rows.append((f"{what}, processor {name}", chosen, float32, f"ms; {found['reason']}"))
    return rows


def compare(repeats: int) -> dict[str, object]:
    """Choose as a project does, then time the choice and float32 in turn: the least of each."""
    from alunet.model import arithmetic, hardware
    from alunet.schema import ignore_events

    chosen = arithmetic.Arithmetic(
        **arithmetic.decide(None, "cpu", hardware.describe_computer("cpu"), ignore_events)
    )
    trial = arithmetic.Trial(None, "cpu")
    table = {}
    for what, work, candidate in (
        ("training step", trial.training, (chosen.training, chosen.training_format)),
        ("scoring pass", trial.scoring, (chosen.scoring, chosen.scoring_format)),
    ):
        pairs = [(work(*candidate), work(*arithmetic.FLOAT32)) for _ in range(repeats)]
        table[what] = [1000 * min(column) for column in zip(*pairs, strict=True)]
    return {"milliseconds": table, "reason": chosen.reason}


if __name__ == "__main__":
    print(json.dumps(compare(int(sys.argv[1]))))
