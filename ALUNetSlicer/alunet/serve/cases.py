"""Cases of a project: made of uploads, described, and what jobs made of them."""

from __future__ import annotations

from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dicom.series import SeriesIdentity, check_identity
from alunet.imaging.reading import EXACT_ENDING
from alunet.project import Case, Project
from alunet.schema import CaseInfo, CaseRequest, Code, to_json
from alunet.serve.problems import Refused
from alunet.serve.projects import Projects
from alunet.serve.settings import Limits
from alunet.serve.upload_limits import check_image
from alunet.serve.uploads import Uploads


def create(
    projects: Projects, uploads: Uploads, project: str, request: CaseRequest, limits: Limits
) -> bool:
    """Make a case of finished uploads, which are used up by that; whether it is new.

    Raises:
        Refused: another case has the name, an upload is not there or not finished, an image is too
            large, or a job has the project.
        InputError: the files or the name cannot be used; the message names what.
    """
    origin: dict[str, object] = {
        "images": request.images,
        "label": request.label,
        "role": request.role,
    }
    if request.dicom is not None:
        origin["dicom"] = to_json(request.dicom)
    dicom = _identity(request)
    with projects.open(project) as opened:
        if _there(opened, request.name, origin):
            return False
    used = [*request.images, *([request.label] if request.label else [])]
    files = [uploads.file(upload) for upload in used]
    for file in files:
        check_image(file, limits.image)
    images, label = files[: len(request.images)], files[len(request.images) :]
    with projects.own(project) as opened:
        if _there(opened, request.name, origin):
            return False
        # Before the import: a crash between the two is repaired by asking again.
        opened.settings.keep_request(request.name, origin)
        reference = label[0] if label else None
        opened.cases.import_case(
            request.name, images, reference, role=request.role, beside=False, dicom=dicom
        )
    for upload in used:
        uploads.drop(upload)
    return True


def _identity(request: CaseRequest) -> SeriesIdentity | None:
    """The UIDs that a client gives; raises InputError for anything else."""
    given = request.dicom
    if given is None:
        return None
    found = SeriesIdentity(
        given.series_uid, tuple(given.instance_uids), given.frame_of_reference_uid
    )
    check_identity(found)
    if len(request.images) > 1:
        raise InputError(
            f"UIDs of one series for {len(request.images)} images.", "Give them for one image."
        )
    return found


def _there(project: Project, name: str, origin: dict[str, object]) -> bool:
    if name not in {case.name for case in project.cases.all()}:
        return False
    if project.settings.request_of(name) != origin:
        raise Refused(Code.EXISTS, f"There is another case '{name}'.", "Choose another name.")
    return True


def find(project: Project, name: str) -> Case:
    """The case of that name; raises Refused where there is none."""
    for case in project.cases.all():
        if case.name == name:
            return case
    raise Refused(Code.NOT_FOUND, f"There is no case '{name[:150]}'.", "See the list of cases.")


def describe_case(project: Project, name: str) -> CaseInfo:
    """One case as clients see it."""
    return _describe(project, find(project, name), project.annotations.cases())


def describe_cases(project: Project) -> list[CaseInfo]:
    """All cases, by name."""
    annotated = project.annotations.cases()
    return [_describe(project, case, annotated) for case in project.cases.all()]


def _describe(project: Project, case: Case, annotated: dict[str, int]) -> CaseInfo:
    proposal = newest_output(project, case.name, "proposals")
    return CaseInfo(
        name=case.name,
        role=case.role,
        channels=len(case.images),
        shape=list(case.shape),
        spacing=list(case.spacing),
        has_label=case.label is not None,
        annotated=annotated.get(case.name, 0),
        proposal=None if proposal is None else proposal[0],
    )


def newest_output(project: Project, case: str, what: str) -> tuple[int, Path] | None:
    """The newest file of a case that jobs made, and the round of the model that made it.

    Args:
        what: folder below that of the round: "proposals", or "uncertainty/MEASURE".
    """
    for folder in sorted(project.rounds_dir.glob("[0-9][0-9][0-9]*"), reverse=True):
        file = folder / what / f"{case}{EXACT_ENDING}"
        if file.is_file():
            return int(folder.name) - 1, file
    return None
