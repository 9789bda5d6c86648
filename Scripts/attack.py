"""Attack the engine as broken disks, hostile files and other users would; say what did not hold.

    python Scripts/attack.py --list
    python Scripts/attack.py                       all attacks, as many times as SECURITY.md says
    python Scripts/attack.py files --count 3000    one of them
    python Scripts/attack.py kills --seed 7        other moments and mutants

Run it with the environment of the tests (`Scripts/test.py` makes it). The exit code is 1 where a
bar was not held. Every attack works in a temporary folder that is removed at the end; --work keeps
it.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ALUNetSlicer" / "Testing"))

import attacks


def main() -> int:
    """Play the attacks that were asked for."""
    found = sorted(module.name for module in pkgutil.iter_modules(attacks.__path__))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ATTACK", help=f"of {', '.join(found)}")
    parser.add_argument("--count", type=int, help="how often, instead of the usual number")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--work", type=Path, help="folder to work in, kept afterwards")
    parser.add_argument("--list", action="store_true", help="name the attacks and end")
    options = parser.parse_args()
    if unknown := set(options.names) - set(found):
        parser.error(f"no attack {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    if options.list:
        for name in found:
            print(f"{name:12} {(_module(name).__doc__ or '').splitlines()[0]}")
        return 0
    held = [_play(name, options) for name in options.names or found]
    return 0 if all(held) else 1


def _module(name: str) -> Any:
    return importlib.import_module(f"attacks.{name}")


def _play(name: str, options: argparse.Namespace) -> bool:
    """Play one attack, print its lines, and say whether all bars held."""
    count = options.count or _module(name).COUNT
    print(f"{name}, {count} times, seed {options.seed}, {platform.machine()}", flush=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"alunet-{name}-") as temporary:
        work = Path(temporary) if options.work is None else options.work / name
        work.mkdir(parents=True, exist_ok=True)
        findings = _module(name).attack(count, options.seed, work)
    for finding in findings:
        print(f"  {finding}", flush=True)
    print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    return bool(findings) and all(finding.holds for finding in findings)


if __name__ == "__main__":
    sys.exit(main())
