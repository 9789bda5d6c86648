"""What leaves the project: segmentations, uncertainty maps, the model, the labels. All of a
call's files, or none.
"""

from __future__ import annotations

import difflib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.imaging.label_file import check_description, write_description
from alunet.imaging.labels import Structures, outside_values
from alunet.imaging.reading import EXACT_ENDING, ending_of
from alunet.imaging.writing import check_ending, write_like
from alunet.loop.loop import Loop
from alunet.loop.preparation import prepare_again
from alunet.model.interface import TrainedModel, load_framework
from alunet.model.metrics import DICE
from alunet.model.settings import MEASURES, ScoringSettings
from alunet.pool import CaseGeometry
from alunet.project import Case, Project
from alunet.project.importing import counted
from alunet.query import Streams
from alunet.query.weights import class_weights
from alunet.schema import Emit
from alunet.storage.files import passing_folder, sync_folder


def predict(
    loop: Loop, names: Sequence[str], folder: Path, ending: str, *, proposals: bool = False
) -> list[Path]:
    """Segment cases of the project with the newest model, each into ``folder/NAME.ENDING`` on its
    image's grid.

    Voxels hold the values of the project's label files, proposals the project's numbers; a
    ``dataset.json`` beside the files names them.

    Precision and mirroring are the recipe's, as for the test cases of a round: with the preset
    "cpu" no mirroring, and bfloat16, which differs from nnU-Net's own prediction (float32) where
    two classes are nearly as likely.

    Args:
        names: of pool or test cases; none of them: all cases.
        ending: one of `alunet.imaging.writing.WRITTEN_ENDINGS`.
        proposals: whether they are proposals of a round.

    Returns:
        The files, in the order of the names.

    Raises:
        InputError: a case is unknown or not preprocessed, there is no model, or the files cannot be
            written.
    """
    weights = loop.newest_weights()
    cases = preprocessed(loop, names)
    structures = loop.project.cases.structures
    if proposals:  # of the round, whose files may have been described by other structures
        structures = structures.numbered()
        (folder / "dataset.json").unlink(missing_ok=True)
    with all_or_none(_named(cases, folder, ending), structures) as (parts, targets):
        loop.run_child(
            "alunet.loop.outputs:segment_cases",
            weights.with_name("predict.log"),
            cases=[
                {"name": case.name, "image": str(case.images[0]), "file": str(part)}
                for case, part in zip(cases, parts, strict=True)
            ],
            values=list(structures.values),
            numbers=list(structures.numbers),
            weights=str(weights),
            scoring=loop.scoring,
            device=loop.device,
            threads=loop.threads,
        )
    return targets


def uncertainty(loop: Loop, name: str, file: Path, measure: str) -> Path:
    """Write how unsure the newest model is of each voxel of a case, float32, on its image's grid.

    The dropout masks are those with which the next round scores the pool.

    Args:
        name: of a pool or test case.
        file: its ending is one of `alunet.imaging.writing.WRITTEN_ENDINGS`.
        measure: one of `MEASURES`; see `TrainedModel.uncertainty`.

    Raises:
        InputError: as `predict`, or there is no such measure.
    """
    if measure not in MEASURES:
        raise InputError(
            f"There is no measure '{measure}'.", f"Choose one of: {', '.join(MEASURES)}."
        )
    check_ending(ending_of(Path(file)))
    weights = loop.newest_weights()
    case = preprocessed(loop, [name])[0]
    noise = Streams(loop.seed, loop.last() + 1).sequence("mc-dropout").generate_state(4)
    with all_or_none([Path(file)]) as (parts, targets):
        loop.run_child(
            "alunet.loop.outputs:map_case",
            weights.with_name("uncertainty.log"),
            geometry=case.geometry.to_json() if case.geometry else "",
            image=str(case.images[0]),
            file=str(parts[0]),
            measure=measure,
            weights_of_classes=class_weights(loop.project.annotations.class_voxels()).tolist(),
            weights=str(weights),
            scoring=loop.scoring,
            noise=[int(word) for word in noise],
            device=loop.device,
            threads=loop.threads,
        )
    return targets[0]


def export_model(loop: Loop, file: Path) -> Path:
    """Write the newest model as a zip file that ``nnUNetv2_install_pretrained_model_from_zip``
    installs.

    Raises:
        InputError: there is no model, or the file cannot be written.
    """
    file = Path(file)
    if file.suffix.lower() != ".zip":
        raise InputError(
            f"nnU-Net installs models from a zip file, not from {file.name}.",
            "Let the name end in .zip.",
        )
    weights, project, record = loop.newest_weights(), loop.project, loop.rounds()[-1]
    about = {
        "name": project.name,
        "round": record.number,
        "strategy": record.strategy,
        "seed": record.seed,
        "cases": len(project.annotations.cases()),
        "labelled_samples": record.labelled_samples,
        "labelled_voxels": record.labelled_voxels,
        "class_voxels": record.class_voxels,
        "dice": record.metrics[DICE],
        "metrics": record.metrics,
        "recipe": record.recipe,
        "hashes": record.hashes,
        "versions": record.versions,
    }
    endings = Counter(ending_of(case.images[0]) for case in project.cases.all())
    kept = endings.most_common(1)[0][0]
    with all_or_none([file]) as (parts, targets):
        loop.run_child(
            "alunet.loop.outputs:pack_model",
            weights.with_name("export.log"),
            weights=str(weights),
            file=str(parts[0]),
            # cases are kept in a form of ours; what others predict on has nnU-Net's usual one
            ending=".nii.gz" if kept == EXACT_ENDING else kept,
            mirroring=loop.recipe.scoring.mirroring,
            about=about,
        )
    return targets[0]


def export_labels(project: Project, names: Sequence[str], folder: Path, ending: str) -> list[Path]:
    """Write what is annotated, each case into ``folder/NAME.ENDING`` on its image's grid.

    Voxels hold the values that label files of the project have, and one for voxels left open; a
    ``dataset.json`` beside the files names them all.

    Args:
        names: of annotated cases; none of them: all that are annotated.
        ending: one of `alunet.imaging.writing.WRITTEN_ENDINGS`.

    Raises:
        InputError: a case is unknown or not annotated, nothing is annotated, or the files cannot be
            written.
    """
    cases = annotated_cases(project, names)
    structures = project.cases.structures
    values, ignore = outside_values(structures.values, structures.numbers)
    with all_or_none(_named(cases, folder, ending), structures, ignore) as (parts, targets):
        for case, part in zip(cases, parts, strict=True):
            write_like(values[project.annotations.read(case.name)], case.images[0], part)
    return targets


# --- what the calls share -------------------------------------------------------------------------


def cases_of(project: Project, names: Sequence[str]) -> list[Case]:
    """The cases of these names, in their order, each once; all where there are none.

    Raises:
        InputError: there is no such case, or its image is damaged.
    """
    known = {case.name: case for case in project.cases.all()}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = (
                f"Did you mean {' or '.join(near)}?"
                if near
                else f"The project has {len(known)} others."
            )
            raise InputError(f"There is no case '{name}' in the project.", hint)
    found = [known[name] for name in dict.fromkeys(names or known)]
    for case in found:  # labels and maps are written on the grid of the image
        project.cases.files.check_case(case.name, case.images)
    return found


def annotated_cases(project: Project, names: Sequence[str]) -> list[Case]:
    """The annotated cases of these names, all where there are none; InputError where one is not
    annotated.
    """
    annotated = project.annotations.cases()
    if not annotated:
        raise InputError("Nothing is annotated yet.", "Annotate a slice first.")
    cases = cases_of(project, names or list(annotated))
    for case in cases:
        if case.name not in annotated:
            raise InputError(f"Nothing is annotated in case '{case.name}'.", "Leave it out.")
    return cases


def preprocessed(loop: Loop, names: Sequence[str]) -> list[Case]:
    """Return the cases of these names, as `cases_of`, ready for the model.

    Raises:
        InputError: as `cases_of`, or a case is not planned.
    """
    cases = cases_of(loop.project, names)
    for case in cases:
        if case.geometry is None:
            raise InputError(
                f"Case '{case.name}' is not preprocessed yet.", "Plan the project first."
            )
    prepare_again(loop, cases)
    return cases


def _named(cases: Sequence[Case], folder: Path, ending: str) -> list[Path]:
    check_ending(ending)
    return [Path(folder) / f"{case.name}{ending}" for case in cases]


@contextmanager
def all_or_none(
    targets: list[Path], structures: Structures | None = None, ignore: int | None = None
) -> Iterator[tuple[list[Path], list[Path]]]:
    """Gives paths in a passing folder to write to, and the absolute `targets`, all in one folder,
    which they become.

    Args:
        structures: of the label files that are written; they are described beside the files before
            these are there.
        ignore: value of open voxels in them.

    The passing folder's name follows from the targets: where a kill left one, the same command
    removes it.
    """
    targets = [target.absolute() for target in targets]
    folder = targets[0].parent
    for target in targets:
        if target.is_dir():
            raise InputError(f"{target} is a folder.", "Give another name.")
    place = passing_folder(folder, [target.name for target in targets])
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
    try:
        parts = [place / target.name for target in targets]
        if structures is not None:
            check_description(folder, structures.in_files, ignore)
        yield parts, targets
        if structures is not None:
            write_description(folder, structures.in_files, ignore)
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sync_folder(folder)


# --- inside the child -----------------------------------------------------------------------------


def segment_cases(
    framework: str,
    folder: str,
    cases: list[dict[str, str]],
    values: list[int],
    numbers: list[int],
    weights: str,
    scoring: dict[str, Any],
    device: str,
    threads: int,
    emit: Emit,
) -> None:
    """Segment `cases` [{"name", "image", "file"}], each onto the grid of its image and into its
    file.

    Args:
        values: of the structures in the files.
        numbers: of the structures in the project, in the same order.
    """
    table = outside_values(values, numbers)[0]
    model = open_model(framework, folder, weights, scoring, device, threads, emit)
    for case, _ in counted(cases, "predict", emit):
        write_like(table[model.segment(case["name"])], Path(case["image"]), Path(case["file"]))


def map_case(
    framework: str,
    folder: str,
    geometry: str,
    image: str,
    file: str,
    measure: str,
    weights_of_classes: list[float],
    weights: str,
    scoring: dict[str, Any],
    noise: list[int],
    device: str,
    threads: int,
    emit: Emit,
) -> None:
    """Write the uncertainty map of one case onto the grid of its image."""
    model = open_model(framework, folder, weights, scoring, device, threads, emit)
    case, class_weights = CaseGeometry.from_json(geometry), np.array(weights_of_classes)
    values = model.uncertainty(case, measure, class_weights, tuple(noise))
    write_like(values, Path(image), Path(file))


def pack_model(
    framework: str,
    folder: str,
    weights: str,
    file: str,
    ending: str,
    mirroring: bool,
    about: dict[str, Any],
    emit: Emit,
) -> None:
    """Write the model as a zip file."""
    maker = load_framework(framework)
    maker.export(Path(folder), Path(weights), Path(file), ending, mirroring, about)


def open_model(
    framework: str,
    folder: str,
    weights: str,
    scoring: dict[str, Any],
    device: str,
    threads: int,
    emit: Emit,
) -> TrainedModel:
    """Open the model of a child process with its number of threads."""
    maker = load_framework(framework)
    maker.limit_threads(threads)
    return maker.open(Path(folder), Path(weights), device, ScoringSettings(**scoring), emit)
