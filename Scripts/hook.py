"""Run a tool of the environment `.venv`, for pre-commit.

    python3 Scripts/hook.py ruff check ALUNetSlicer Scripts

The environment is made on the first start. The exit code is that of the tool.
"""

from __future__ import annotations

import subprocess
import sys

from environment import ROOT, SetupError, clean_environment, ensure, venv_executable


def main(arguments: list[str]) -> int:
    """Run the tool and return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    try:
        ensure()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    tool = str(venv_executable(arguments[0]))
    return subprocess.run([tool, *arguments[1:]], cwd=ROOT, env=clean_environment()).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
