"""All tests of the Slicer side inside a real Slicer; it ends with 0 where all passed.

    Slicer --testing --no-main-window --additional-module-paths ALUNetSlicer \
        --python-script ALUNetSlicer/Testing/Python/run_in_slicer.py

ALUNET_TEST_PYTHON names a Python with the engine's libraries, for the agent and the service that
the tests start.
"""

import sys
import traceback
from pathlib import Path

import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ALUNetSlicerLib.shell import module

try:
    module.run_tests()
except Exception:  # noqa: BLE001  whatever it is, Slicer must end, and say so
    traceback.print_exc()
    slicer.util.exit(1)
else:
    slicer.util.exit(0)
