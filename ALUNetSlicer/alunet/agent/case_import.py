"""A case on its way into a project: its files are sent, then the engine's import is followed to
its end, over as many connections as that takes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from alunet.agent.call_table import RunningCall
from alunet.agent.client import Client
from alunet.agent.contract import WrongVersion
from alunet.agent.http_transport import ServiceError, Unreachable
from alunet.agent.local_commands import LocalCommands, is_taken
from alunet.agent.proxies import Stranger
from alunet.agent.session import ViewerSession
from alunet.errors import AlunetError, Cancelled
from alunet.schema import ENDED, CaseInfo, DicomIdentity, Job, JobState, Operations

LOOK_SECONDS = 0.3
END_SECONDS = 15.0
"""How long a cancelled import is waited for."""
Answer = TypeVar("Answer")


class CaseImport:
    """One case; a lost connection is waited for until the person cancels.

    Args:
        session: with an engine that is within reach now.
        task: hears the progress, and may be cancelled.
        local: the engine on this computer, which reads what a service does not take.

    Raises:
        AlunetError: why the engine is not within reach.
    """

    def __init__(
        self, session: ViewerSession, task: RunningCall, project: str, local: LocalCommands
    ) -> None:
        self._session, self._task, self._project = session, task, project
        self._local = local
        self._line = session.line
        self._line.connection.require()

    def run(
        self,
        name: str,
        images: Sequence[str],
        label: str | None,
        role: str,
        dicom: DicomIdentity | None,
    ) -> CaseInfo:
        """Send the files, one a channel, and have the case imported.

        Args:
            dicom: of an image that was DICOM before it became that file.

        Raises:
            ServiceError: the engine does not take it, with the reason.
            Cancelled: nothing of the case stays in the project.
            InputError: a file cannot be read.
        """
        found = [self._send(Path(image)) for image in images]
        given: dict[str, Any] = {"project": self._project, "name": name, "role": role}
        given |= {"images": [upload for upload, _ in found]}
        given |= {"label": self._upload(Path(label)) if label else None}
        if len(found) == 1:
            given["dicom"] = found[0][1] or dicom
        job = self._steadily(lambda client: client.call(Operations.add_case, **given))
        try:
            job = self._follow(job)
        except Cancelled:
            job = self._call_off(job)
        self._check(job)
        return self._steadily(
            lambda client: client.call(Operations.case, project=self._project, case=name)
        )

    def _send(self, image: Path) -> tuple[str, DicomIdentity | None]:
        """Upload an image; a DICOM file stands for its series, whose UIDs come with the upload."""
        if is_taken(image):
            return self._upload(image), None
        target = self._session.spool.file("image.mha")
        try:
            made = self._local.convert(image, target, self._task.progress, self._task.cancel)
            return self._upload(target), made.dicom
        finally:
            target.unlink(missing_ok=True)

    def _upload(self, file: Path) -> str:
        task = self._task
        return self._steadily(lambda client: client.upload(file, task.progress, task.cancel)).id

    def _follow(self, job: Job) -> Job:
        """The job when it has ended."""
        while job.state not in ENDED:
            self._tell(job)
            self._task.cancel.sleep(LOOK_SECONDS)
            job = self._look(job)
        return job

    def _look(self, job: Job) -> Job:
        return self._steadily(
            lambda client: client.call(Operations.job, project=self._project, job=job.id)
        )

    def _tell(self, job: Job) -> None:
        told = job.progress or {}
        if job.state is JobState.QUEUED or "phase" not in told:
            self._task.progress("wait", 0, 0, waiting=job.waiting)
        else:
            self._task.progress(
                told["phase"], told["done"], told["total"], told.get("seconds_left")
            )

    def _call_off(self, job: Job) -> Job:
        """Cancel the job; it may be done all the same."""
        client = self._line.connection.client
        deadline = time.monotonic() + END_SECONDS
        with contextlib.suppress(AlunetError):
            while client is not None and job.state not in ENDED and time.monotonic() < deadline:
                job = client.call(Operations.cancel_job, project=self._project, job=job.id)
                time.sleep(LOOK_SECONDS)
        return job

    @staticmethod
    def _check(job: Job) -> None:
        """Raise why there is no case."""
        if job.error is not None:
            raise ServiceError(0, job.error)  # no answer has this status: it is a job's end
        if job.state is not JobState.DONE:
            raise Cancelled("The import was cancelled.", "What was sent is kept by the service.")

    def _steadily(self, work: Callable[[Client], Answer]) -> Answer:
        """Work with the client of the moment, once more after each time that the line broke."""
        connection = self._line.connection
        while True:
            if self._session.line is not self._line:
                raise Cancelled("Another engine was chosen.", "Add the case again.")
            if (client := connection.client) is not None:
                try:
                    return work(client)
                except (Unreachable, Stranger):  # also a network that wants a login first
                    connection.doubt()
            elif isinstance(connection.error, WrongVersion):
                raise connection.error
            self._task.cancel.sleep(LOOK_SECONDS)
