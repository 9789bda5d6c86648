"""Cases from uploads: asked for in a moment, imported by a job, which uses the uploads up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alunet.errors import Cancelled, InputError
from alunet.imaging.dicom.series import SeriesIdentity, check_identity
from alunet.imaging.reading import ending_of
from alunet.project import Project
from alunet.project.case_table import check_role
from alunet.project.training_labels import HIDDEN
from alunet.schema import (
    CaseRequest,
    Code,
    DicomIdentity,
    Emit,
    Event,
    Job,
    JobKind,
    JobState,
    from_json,
    to_json,
)
from alunet.schema.names import CASE, compared, composed, usable_name
from alunet.serve.catalog import used_uploads
from alunet.serve.job_context import JobContext
from alunet.serve.problems import Refused
from alunet.serve.projects import Projects
from alunet.serve.settings import ServiceSettings
from alunet.serve.uploads import Uploads


def begin(
    projects: Projects, uploads: Uploads, project: str, request: CaseRequest, limit: int
) -> tuple[Job, bool]:
    """Give the job that makes a case of finished uploads, and whether it is new.

    Args:
        limit: how many may wait in a project.

    Raises:
        Refused: another case has the name, an upload is not there or not finished, or too many
            cases wait.
        InputError: the name or the role cannot be.
    """
    check_role(request.role)
    options = to_json(request)
    _identity(options["dicom"], request.images)
    with projects.open(project) as opened:
        if (job := _known(opened, options)) is not None:
            return job, False
        usable_name(request.name, CASE)
        for upload in used_uploads(options):
            uploads.file(upload)
        with uploads.held(), opened.together():
            if (job := _known(opened, options)) is not None:
                return job, False
            for upload in used_uploads(options):
                uploads.file(upload)
            if len(_waiting(opened)) >= limit:
                raise Refused(
                    Code.TOO_MANY,
                    f"{limit} cases of the project wait to be imported.",
                    "Wait for them, or cancel some.",
                )
            return opened.jobs.get(opened.jobs.add(JobKind.IMPORT, options)), True


def run(
    task: JobContext,
    name: str,
    images: Sequence[str],
    role: str = "pool",
    label: str | None = None,
    label_use: str = HIDDEN,
    dicom: dict[str, Any] | None = None,
) -> None:
    """Import the case, unless an attempt that was interrupted has; then use the uploads up.

    Raises:
        AlunetError: an upload is gone, or its image cannot be used; the uploads stay.
        Cancelled: nothing of the case stays but the uploads.
    """
    settings = ServiceSettings(task.root, token="")
    uploads = Uploads(settings)
    used = [*images, *([label] if label else [])]
    if not _is_there(task.project, task.job.options):
        files = [uploads.file(upload) for upload in used]
        words = _Words(name, files, files[len(images) :])
        emit = words.spoken(task)
        try:
            # Before the import: a crash between the two is repaired by the next attempt.
            task.project.settings.keep_request(name, _origin(task.job.options))
            reference = files[-1] if label else None
            task.project.cases.import_case(
                name,
                files[: len(images)],
                reference,
                role=role,
                beside=False,
                label_use=label_use,
                dicom=_identity(dicom, images),
                most_bytes=settings.limits.image,
                emit=emit,
            )
        except InputError as error:
            raise words.of(error) from error
    projects, own = Projects(settings), (task.project.root.name, task.job.id)
    needed(projects, own)  # so that it is quick while others wait for the lock
    with uploads.held():
        others = needed(projects, own)
        for upload in set(used) - others if others is not None else ():
            uploads.drop(upload)


def _identity(given: dict[str, Any] | None, images: Sequence[str]) -> SeriesIdentity | None:
    """The UIDs that a client gives; raises InputError for anything else."""
    if given is None:
        return None
    about = from_json(DicomIdentity, given)
    found = SeriesIdentity(
        about.series_uid, tuple(about.instance_uids), about.frame_of_reference_uid
    )
    check_identity(found)
    if len(images) > 1:
        raise InputError(
            f"UIDs of one series for {len(images)} images.", "Give them for one image."
        )
    return found


def clean_up(project: Project, job: Job) -> None:
    """Remove what is left of an import whose process was killed and that will not go on."""
    if job.kind is JobKind.IMPORT:
        project.cases.remove_unregistered(str(job.options["name"]))


def _known(project: Project, options: Mapping[str, Any]) -> Job | None:
    """The job of the same request that is on its way or has made the case; None for none.

    Raises:
        Refused: the name is another case's, or will be.
    """
    if _is_there(project, options):
        for job in reversed(project.jobs.all()):
            if job.options == options and job.state is JobState.DONE:
                return job
        number = project.jobs.add(JobKind.IMPORT, dict(options))  # made before there were jobs
        project.jobs.end(number, JobState.DONE)
        return project.jobs.get(number)
    for job in _waiting(project):
        if job.options == options:
            return job
        if compared(job.options["name"]) == compared(options["name"]):
            raise _taken(options["name"], "is being imported")
    return None


def _needs_uploads(project: Project, job: Job) -> bool:
    """Whether a waiting or running import has still to read its uploads. Two that share one and
    end at the same time would else both leave it to the other.
    """
    return job.state is not JobState.RUNNING or not _is_there(project, job.options)


def _is_there(project: Project, options: Mapping[str, Any]) -> bool:
    """Whether the project has the case that was asked for; raises Refused where it has another."""
    name = options["name"]
    known = {compared(case.name): case.name for case in project.cases.all()}
    if compared(name) not in known:
        return False
    stored = known[compared(name)]
    if composed(stored) != name or project.settings.request_of(stored) != _origin(options):
        raise _taken(name, "is in the project")
    return True


def _taken(name: str, why: str) -> Refused:
    return Refused(Code.EXISTS, f"Another case '{name}' {why}.", "Choose another name.")


def _origin(options: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one request for a case of that name from another."""
    usual = {"label_use": HIDDEN, "dicom": None}
    others = {key: options[key] for key in usual if options.get(key, usual[key]) != usual[key]}
    return {**{key: options[key] for key in ("images", "label", "role")}, **others}


def _waiting(project: Project) -> list[Job]:
    """The imports of a project that wait or run, without those that are to end."""
    return [
        job
        for job in project.jobs.all(unfinished=True)
        if job.kind is JobKind.IMPORT and project.jobs.cancelled_since(job.id) is None
    ]


def needed(projects: Projects, but: tuple[str, int] | None = None) -> set[str] | None:
    """The uploads that imports wait for: the same file may become several cases. None where any
    may be needed, because a program holds a project for the moment.

    Args:
        but: project and number of an import that does not count.
    """
    found: set[str] = set()
    for identifier in projects.ids():
        is_own = but is not None and identifier == but[0]
        if not is_own and (known := projects.catalog.find(identifier)) is not None:
            found |= known.uploads
            continue
        try:
            with projects.open(identifier) as project:
                others = [job for job in _waiting(project) if (identifier, job.id) != but]
                reading = [job for job in others if _needs_uploads(project, job)]
        except Refused as error:  # one that cannot be opened keeps no other from its end
            if error.problem.code is Code.LOCKED:
                return None
            continue
        found.update(upload for job in reading for upload in used_uploads(job.options))
    return found


class _Words:
    """What is said of an import names the case's files as the project would, not the uploads'."""

    def __init__(self, name: str, files: Sequence[Path], labels: Sequence[Path]) -> None:
        self._names: dict[str, str] = {}
        for number, file in enumerate(files):
            part = "label" if file in labels else f"{number:04d}"
            self._names |= dict.fromkeys((str(file), file.name), f"{name}_{part}{ending_of(file)}")

    def spoken(self, task: JobContext) -> Emit:
        """A listener that passes events on, and ends the import where it is cancelled."""

        def emit(event: Event) -> None:
            if task.is_cancelled():
                raise Cancelled("The import was cancelled.", "Its uploads are kept for a week.")
            text = event.data.get("text")
            data = event.data if text is None else {**event.data, "text": self._named(str(text))}
            task.emit(Event(event.kind, data))

        return emit

    def of(self, error: InputError) -> InputError:
        """The same error in these words; one of another kind says itself what it is about."""
        if type(error) is not InputError:
            return error
        return InputError(self._named(error.message), self._named(error.hint))

    def _named(self, text: str) -> str:
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text
