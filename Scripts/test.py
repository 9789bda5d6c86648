"""Run all checks: style, the import contract of the house, types, and the tests.

    python3 Scripts/test.py             everything
    python3 Scripts/test.py --quick     without the long tests, under 3 minutes
    python3 Scripts/test.py -k pool     other options go on to pytest
    python3 Scripts/test.py -n 0        in one process

The environment `.venv` is made on the first start. The tests run in one process for each core, and
in one process where a file or a few tests are chosen. The exit code is that of pytest, or of the
first check that failed.
"""

from __future__ import annotations

import subprocess
import sys

from environment import ROOT, SetupError, clean_environment, ensure, usable_cores, venv_executable

MOST_PROCESSES = 8
"""A file of tests stays in one process: more processes would wait for the longest file."""
FILES_STAY_TOGETHER = ["--dist", "loadfile", "--no-loadscope-reorder"]
ONE_PROCESS = (
    "-h",
    "-s",
    "--pdb",
    "--trace",
    "--lf",
    "--last-failed",
    "--sw",
    "--stepwise",
    "--co",
    "--collect-only",
)


def main(arguments: list[str]) -> int:
    """Prepare the environment, run the checks and return the exit code."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    selection = ["-m", "not slow"] if "--quick" in arguments else []
    options = [argument for argument in arguments if argument not in ("--quick", "--gpu")]
    try:
        python = str(ensure(gpu="--gpu" in arguments))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    checks = {
        "ruff": [python, "-m", "ruff", "check", "ALUNetSlicer", "Scripts"],
        "format": [python, "-m", "ruff", "format", "--check", "ALUNetSlicer", "Scripts"],
        "import contract": [str(venv_executable("lint-imports")), "--no-cache", "--no-logo"],
        "types": [python, "Scripts/check_types.py"],
        "pytest": [python, "-m", "pytest", *selection, *processes(options), *options],
    }
    codes = {name: run(name, command) for name, command in checks.items()}
    failed = [name for name, code in codes.items() if code]
    if failed and failed != ["pytest"]:
        print("Failed: " + ", ".join(failed))
    return codes["pytest"] or next((code for code in codes.values() if code), 0)


def processes(options: list[str]) -> list[str]:
    """Return pytest's options for one process a core, without it where `options` choose few
    tests, or a number.
    """
    number = min(usable_cores(), MOST_PROCESSES)
    alone = number == 1 or any(_wants_one_process(option) for option in options)
    return FILES_STAY_TOGETHER if alone else [*FILES_STAY_TOGETHER, "-n", str(number)]


def _wants_one_process(option: str) -> bool:
    chosen = option in ONE_PROCESS or option.startswith(("-k", "-n", "--numprocesses"))
    return chosen or (ROOT / option.split("::")[0]).is_file()


def run(name: str, command: list[str]) -> int:
    """Run one check in the repository's root."""
    print(f"--- {name}", flush=True)
    return subprocess.run(command, cwd=ROOT, env=clean_environment()).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
