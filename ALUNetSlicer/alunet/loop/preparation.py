"""From imported images to a pool of samples: plan, preprocess, enumerate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alunet.errors import InputError
from alunet.imaging.labels import Labels
from alunet.loop import children, labelling
from alunet.loop.oracle import read_reference
from alunet.loop.planning_notes import planning_notes, say
from alunet.pool import CaseGeometry, Pool
from alunet.project import Case, Project
from alunet.project.importing import counted
from alunet.schema import SLICE, Emit

if TYPE_CHECKING:
    from alunet.loop.loop import Loop


def prepare(loop: Loop) -> None:
    """Plan and preprocess what is not yet, and enumerate the pool.

    Raises:
        InputError: there is no case to learn from, or one cannot be used.
    """
    project = loop.project
    cases = project.cases.all()
    if not any(case.role == "pool" for case in cases):
        raise InputError("The project has no images to learn from yet.", "Add some: alunet add")
    unseen = [case for case in cases if case.geometry is None]
    lost = _lost(loop, [case for case in cases if case.geometry is not None])
    planned = (
        loop.framework.plan_file(project.nnunet_dir).is_file()
        and project.settings.patch is not None
    )
    if unseen or lost or not planned:
        new = {*lost, *(case.name for case in unseen)} if planned else {case.name for case in cases}
        changed = [case for case in cases if case.name in new]
        for case in changed:
            project.cases.files.check_case(case.name, case.images)
        _preprocess(loop, changed, planned)
    _note_plan(loop)
    children.arithmetic(loop)
    enumerate_samples(project)
    if unseen or not planned:
        _note(loop, {case.name for case in (unseen if planned else cases)})
    take_training_labels(project, loop.emit)


def _lost(loop: Loop, cases: Sequence[Case]) -> list[str]:
    """Names of planned cases whose preprocessed images are of an earlier version, or were found
    damaged; what another project prepared is not ours to write.
    """
    project = loop.project
    if project.data != project.root or project.read_only:
        return []
    return loop.framework.unprepared(project.nnunet_dir, [case.name for case in cases])


def prepare_again(loop: Loop, cases: Sequence[Case]) -> None:
    """Preprocess those of some planned cases that an earlier version preprocessed, or that were
    found damaged.

    Raises:
        InputError: an image is not what was stored.
    """
    names = _lost(loop, cases)
    lost = [case for case in cases if case.name in names]
    for case in lost:
        loop.project.cases.files.check_case(case.name, case.images)
    if lost:
        _preprocess(loop, lost, planned=True)


def _note_plan(loop: Loop) -> None:
    """Note the hash of the plan, once; one that was made before is compared with what the last
    round trained by.

    Raises:
        NotAsStored: it is another one.
    """
    files, file = loop.project.cases.files, loop.framework.plan_file(loop.project.nnunet_dir)
    if files.hash_of(file) is None:
        records = loop.rounds()
        files.note(file, None, records[-1].hashes.get("plans") if records else None)
    files.check([file], "Restore the plan from a backup.")


def _preprocess(loop: Loop, cases: Sequence[Case], planned: bool) -> None:
    project = loop.project
    entries = [
        {"name": case.name, "images": [str(image) for image in case.images]} for case in cases
    ]
    pool_names = {case.name for case in project.cases.all("pool")}
    found = loop.run_child(
        "alunet.loop.steps:prepare",
        project.root / "prepare.log",
        plan_cases=[] if planned else [entry for entry in entries if entry["name"] in pool_names],
        cases=entries,
        labels=project.labels,
        channels=list(project.channels),
        dropout=loop.recipe.dropout,
        width=loop.recipe.width,
    )
    for text in found["geometries"]:
        geometry = CaseGeometry.from_json(text)
        project.cases.set_geometry(geometry.case, geometry)
    project.settings.patch = found["patch"]
    project.settings.preparation = found["costs"]


def _note(loop: Loop, new: set[str]) -> None:
    """Keep what is unusual about the cases, and say it of the new ones."""
    project = loop.project
    notes = planning_notes(project.cases.all(), project.pool.patch)
    project.cases.keep_planning_notes(notes)
    say({name: own for name, own in notes.items() if name in new}, loop.emit)


def take_training_labels(project: Project, emit: Emit) -> None:
    """Make annotations of the labels that cases were added with to learn from, each once.

    Every slice counts. What is annotated already stays as it is, so that a call that was stopped
    can be repeated.
    """
    cases = {case.name: case for case in project.cases.all("pool")}
    left = [name for name in project.cases.to_learn() if name in project.pool.cases]
    for name, _ in counted(left, "annotate", emit):
        case, labelled = cases[name], project.samples.labelled()
        if case.label is not None:
            project.cases.files.check_case(name, [case.label])
            asked = [int(i) for i in project.pool.samples_of(name) if not labelled[i]]
            k, j, i = case.shape
            labels = Labels(read_reference(case), ((0, k), (0, j), (0, i)))
            found = labelling.compare(project, case, labels, asked)
            labelling.store(
                project,
                found,
                all_slices=True,
                round=project.rounds.of_new_labels(),
                author=labelling.IMPORTED,
            )
        project.cases.note_learnt(name)


def enumerate_samples(project: Project) -> None:
    """Make the pool of the cases whose role is "pool", or add those that are not in it yet."""
    known = project.samples.known_pool()
    geometries = [case.geometry for case in project.cases.all("pool") if case.geometry is not None]
    patch = project.settings.patch
    if patch is None:
        raise InputError("The project is not planned yet.", "Plan it first.")
    whole = project.settings.unit == SLICE
    if known is not None and known.patch == patch:
        project.samples.set_pool(
            known.extended(
                [new for new in geometries if new.case not in known.cases], whole_slices=whole
            )
        )
    else:
        project.samples.set_pool(Pool.build(geometries, patch, whole_slices=whole))
