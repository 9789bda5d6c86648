"""What a service is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from alunet.storage.disk_space import RESERVE


@dataclass(frozen=True)
class Limits:
    """How much a client may ask for; all in bytes unless they say otherwise.

    Attributes:
        json_body: of a request that carries JSON.
        upload: of one uploaded file.
        uploads: how many uploads may wait to be used.
        image: of an image's voxels after decompression.
        disk_reserve: what uploads leave free on the disk; jobs leave `RESERVE`.
        projects: how many projects.
        jobs: how many jobs of a project may wait or run, imports apart.
        imports: how many cases of a project may wait to be imported.
    """

    json_body: int = 500_000
    upload: int = 8 << 30
    uploads: int = 10_000
    image: int = 8 << 30
    disk_reserve: int = RESERVE
    projects: int = 1_000
    jobs: int = 20
    imports: int = 1_000


@dataclass(frozen=True)
class ServiceSettings:
    """How a service runs.

    Attributes:
        root: folder of all projects; the service keeps its own things in ``.alunet`` below it.
        token: what every request must carry.
        device: "auto", "cpu", "cuda" or "mps", for the jobs.
        threads: of a job; None: all cores.
        check_seconds: time between two comparisons of a project with what was stored; None: never.
        idle_seconds: end after so long without a request and without a job; None: never.
    """

    root: Path
    token: str
    device: str = "auto"
    threads: int | None = None
    idle_seconds: float | None = None
    check_seconds: float | None = 7 * 24 * 3600.0
    limits: Limits = field(default_factory=Limits)

    @property
    def own(self) -> Path:
        """Folder of the service's own files."""
        return self.root / ".alunet"
