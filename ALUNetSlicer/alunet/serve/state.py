"""What all routes of one service share."""

from __future__ import annotations

import shutil
import time

import psutil

import alunet
from alunet.loop.round_record import versions
from alunet.schema import API, Health
from alunet.serve.checks import Checks
from alunet.serve.device import Device
from alunet.serve.files import Files
from alunet.serve.housekeeping import Housekeeping
from alunet.serve.projects import Projects
from alunet.serve.settings import ServiceSettings
from alunet.serve.supervisor import Supervisor
from alunet.serve.uploads import Uploads


class State:
    """One running service.

    Args:
        settings: of it.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.projects = Projects(settings)
        self.uploads = Uploads(settings)
        self.files = Files(settings)
        self.housekeeping = Housekeeping(settings, self.projects, self.uploads)
        self.supervisor = Supervisor(settings, self.projects)
        self.checks = Checks(self.projects, settings.check_seconds, self.busy)
        self.closing = False
        self.device = Device(settings.device)
        self.started = time.time()

    def health(self) -> Health:
        """How the machine and the service are."""
        return Health(
            api=API,
            version=alunet.__version__,
            device=self.device.name,
            devices=self.device.names,
            memory_free=psutil.virtual_memory().available,
            disk_free=shutil.disk_usage(self.settings.root).free,
            projects=len(self.projects.ids()),
            jobs_running=self.supervisor.running,
            versions=versions(),
            started=self.started,
            stuck=self._stuck(),
        )

    def _stuck(self) -> list[str]:
        """What does not go on, each line once."""
        there = set(self.projects.ids())
        closed = [
            problem.message
            for identifier, problem in sorted(self.projects.known.problems.items())
            if identifier in there
        ]
        threads = self.supervisor, self.housekeeping, self.checks
        lines = [*(line for thread in threads for line in thread.stuck()), *closed]
        return list(dict.fromkeys(lines))

    def busy(self) -> bool:
        """Whether a job is waiting or running."""
        return self.supervisor.busy

    def close(self) -> None:
        """The service ends; jobs go on."""
        self.closing = True
        self.checks.close()
        self.supervisor.close()
        self.housekeeping.close()
