"""Which job of a project comes first: what a person waits for before what is looked at beside."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from alunet.project import Project
from alunet.schema import Job, JobKind
from alunet.storage.files import write_json

_NAMES = {
    JobKind.PLAN: "the planning",
    JobKind.ROUND: "the next round",
    JobKind.PREDICT: "the segmentation",
    JobKind.UNCERTAINTY: "the uncertainty",
    JobKind.EXPORT: "the export",
    JobKind.SIMULATE: "the simulation",
    JobKind.IMPORT: "the import of a case",
}


def gives_way(job: Job) -> bool:
    """Whether all others pass before a job: it computes single slices, on demand."""
    return job.kind is JobKind.UNCERTAINTY and bool(job.options.get("samples"))


def named(job: Job) -> str:
    """Return a job in words."""
    case = job.options.get("name") if job.kind is JobKind.IMPORT else None
    return f"the import of '{case}'" if case else _NAMES[job.kind]


def comes_before(project: Project, job: Job) -> Job | None:
    """Return the first unfinished job of a project that comes before another one; None where it is
    that one's turn.
    """
    others = [other for other in project.jobs.all(unfinished=True) if other.id != job.id]
    if gives_way(job):
        before = [other for other in others if not gives_way(other) or other.id < job.id]
    else:
        before = [other for other in others if not gives_way(other) and other.id < job.id]
    return before[0] if before else None


def waits_for(job: Job) -> str:
    """Why a job waits for another one of its project."""
    return f"Waits for {named(job)} (job {job.id})."


def note_holder(file: Path, project: Project, job: Job) -> None:
    """Keep whose job has the device, for those that wait for it."""
    about = {"project": project.name, "job": job.id, "what": named(job)}
    with contextlib.suppress(OSError):  # a full disk must not keep a job from its work
        write_json(file, about)


def waits_for_device(file: Path) -> str:
    """Why a job waits for the device."""
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        return f"Waits for {about['what']} of the project '{about['project']}'."
    except (OSError, ValueError, KeyError, TypeError):
        return "Waits for another project's job, which uses the device."
