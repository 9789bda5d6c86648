"""Arguments of pip, as far as its version knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ALUNetSlicerLib.install.torch_sources import TorchSource

_SOURCE_ONLY = "acvl-utils"
"""The one package, of nnU-Net's, that is published without a wheel; plain Python, no compiler."""
_FILES = (("requirement", "requirements.txt"), ("constraint", "constraints.txt"))
_RAW_SINCE, _RESUME_SINCE = (24, 1), (25, 1)


@dataclass(frozen=True)
class PipArguments:
    """What pip is asked for.

    Attributes:
        version: of pip.
        resources: folder with requirements.txt and constraints.txt.
        wheels: folder for torch as it is downloaded.
    """

    version: str
    resources: Path
    wheels: Path

    def download(self, source: TorchSource) -> list[str]:
        """To get torch from a source."""
        only = ["--no-cache-dir", "--no-deps", "--only-binary=:all:"]  # kept there, not twice
        place = ["--dest", str(self.wheels)]
        return ["download", *self._options(), *only, *place, *source.arguments]

    def kept(self) -> list[Path]:
        """The wheels that are here already."""
        return sorted(self.wheels.glob("torch*.whl"))

    def install(self, target: Path) -> list[str]:
        """To install all that is required into a folder, with the wheels that are here already."""
        kinds = ["--only-binary=:all:", f"--no-binary={_SOURCE_ONLY}", "--no-compile"]
        files = [f"--{kind}={self.resources / name}" for kind, name in _FILES]
        known = [str(wheel) for wheel in self.kept()]
        return ["install", *self._options(), *kinds, "--target", str(target), *files, *known]

    def _options(self) -> list[str]:
        version = tuple(int(part) for part in re.findall(r"\d+", self.version)[:2])
        raw = ["--progress-bar=raw"] if version >= _RAW_SINCE else []
        return [*raw, *(["--resume-retries=5"] if version >= _RESUME_SINCE else [])]
