"""A whole active-learning run before your eyes: real nnU-Net, two strategies, a few rounds, on a
CPU.

    python3 Scripts/demo.py                        on a small phantom data set that it makes
    python3 Scripts/demo.py --data DIR             on your data (Decathlon or nnU-Net layout)
    python3 Scripts/demo.py --rounds 5 --seed 1    other options go on to `alunet simulate`

The environment `.venv` is made on the first start. Everything is written to demo-out; starting the
demo again goes on where it was stopped. --gpu installs the CUDA build of PyTorch even where no
NVIDIA GPU is found.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from environment import ROOT, SetupError, clean_environment, ensure

OUT = ROOT / "demo-out"
# What the demo adds to `alunet simulate` where the person says nothing; short enough for a laptop.
DEFAULTS = {
    "--strategy": ["random", "usimc"],
    "--rounds": ["3"],
    "--initial": ["20"],
    "--budget": ["20"],
    "--preset": ["quick"],
    "--jobs": [str(min(2, os.cpu_count() or 1))],
}


def main(arguments: list[str]) -> int:
    """Prepare the environment and the data, run the simulation and return its exit code."""
    own, passed_on = parse(arguments)
    try:
        python = ensure(gpu=own.gpu)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    data = own.data or OUT / "phantom"
    if own.data is None and not (data / "dataset.json").exists():
        code = alunet(python, ["phantom", str(data)])
        if code:
            return code
    out = own.out or OUT / (f"run-{own.data.resolve().name}" if own.data else "run-phantom")
    return alunet(python, ["simulate", str(data), *with_defaults(passed_on), "--out", str(out)])


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The demo's own options, and the rest for `alunet simulate`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, help="your data set instead of the phantom")
    parser.add_argument(
        "--out", type=Path, help="where the results go (demo-out/run-... by default)"
    )
    parser.add_argument("--gpu", action="store_true", help="install PyTorch for an NVIDIA GPU")
    return parser.parse_known_args(arguments)


def with_defaults(options: list[str]) -> list[str]:
    """The options with the demo's defaults for what is not among them."""
    given = {option.split("=")[0] for option in options}
    added = [
        (name, value) for name, values in DEFAULTS.items() if name not in given for value in values
    ]
    return [*options, *(word for pair in added for word in pair)]


def alunet(python: Path, arguments: list[str]) -> int:
    """Run the command `alunet` of the environment, shown as a person would type it."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in arguments)
    print(f"$ alunet {shown}", flush=True)
    return subprocess.run(
        [str(python), "-m", "alunet", *arguments], env=clean_environment()
    ).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.")
        sys.exit(130)
