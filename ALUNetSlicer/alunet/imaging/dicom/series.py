"""The series in a folder with DICOM files: what each holds, and what is wrong with it."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dicom.elements import has_preamble, is_dicom, is_uid
from alunet.imaging.dicom.frames import Frame, Instance, read_instance
from alunet.imaging.dicom.geometry import stack
from alunet.imaging.dicom.pixels import MOST_VOXELS
from alunet.imaging.dicom.splitting import split
from alunet.imaging.grids import Grid


@dataclass(frozen=True)
class SeriesIdentity:
    """What a project keeps of a DICOM series: these UIDs and no other attribute.

    Attributes:
        series_uid: of the series; empty where only its images are known.
        instance_uids: of its images, each once, in the order of the slices.
        frame_of_reference_uid: of the coordinates; may be empty.
    """

    series_uid: str
    instance_uids: tuple[str, ...]
    frame_of_reference_uid: str


def check_identity(identity: SeriesIdentity) -> None:
    """Raise InputError where what another program gives as UIDs is anything else.

    Raises:
        InputError: a text is no UID, or there is no image, or one is there twice.
    """
    uids = identity.instance_uids
    for text in (*uids, *filter(None, (identity.series_uid, identity.frame_of_reference_uid))):
        if not is_uid(text):
            raise InputError(f"'{text:.70}' is no DICOM UID.", "Give digits and points.")
    if not uids or len(set(uids)) < len(uids):
        raise InputError(
            f"A series of {len(set(uids))} images has {len(uids)} UIDs.", "Give each once."
        )


@dataclass(frozen=True)
class DicomSeries:
    """One volume that a folder holds: a series, or a part where several images lie at each place.

    No attribute of a patient, a study, an institution or a person is kept, and no description.

    Attributes:
        uid: series instance UID.
        modality: "MR", "CT", ….
        number: of the series in its study, or None.
        part: what tells this part from the others of the series ("b-value 800"); empty for a whole
            series.
        frames: its images; sorted along the slices where `grid` is there.
        frame_of_reference_uid: of the coordinates; may be empty.
        grid: where its voxels lie; None where it is no volume.
        problem: why it is no volume, in words for a person; None where it can be read.
    """

    uid: str
    modality: str
    number: int | None
    part: str
    frames: tuple[Frame, ...]
    frame_of_reference_uid: str
    grid: Grid | None
    problem: InputError | None

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, each once, in the order of `frames`."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    @property
    def instances(self) -> int:
        """How many files it has."""
        return len(self.files)

    @property
    def instance_uids(self) -> tuple[str, ...]:
        """SOP instance UIDs, each once, in the order of `frames`."""
        return tuple(dict.fromkeys(frame.instance_uid for frame in self.frames))

    @property
    def identity(self) -> SeriesIdentity:
        """What a project keeps of it."""
        return SeriesIdentity(self.uid, self.instance_uids, self.frame_of_reference_uid)

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Shape of its array (k, j, i); None where it is no volume."""
        return None if self.grid is None else self.grid.shape

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """mm between voxels along x, y and z; None where it is no volume."""
        return None if self.grid is None else self.grid.spacing

    @property
    def label(self) -> str:
        """A name for a person, from modality, number and matrix: "MR, series 4, 384 x 384 x 19"."""
        words = [self.modality]
        if self.number is not None:
            words.append(f"series {self.number}")
        if self.part:
            words.append(self.part)
        if self.grid is not None:
            words.append(" x ".join(map(str, self.grid.size)))
        else:
            words.append(f"{len(self.frames)} image(s)")
        return ", ".join(words)


@dataclass(frozen=True)
class LabelObject:
    """A DICOM file that holds labels.

    Attributes:
        path: the file.
        kind: "SEG" or "RTSTRUCT".
        referenced_series_uid: the series that it belongs to; empty where it names none.
    """

    path: Path
    kind: str
    referenced_series_uid: str


class DamagedFile(InputError):
    """A DICOM file, or a folder, that cannot be read at all.

    Args:
        file: its path.
        error: why.
    """

    def __init__(self, file: Path, error: InputError) -> None:
        super().__init__(error.message, error.hint)
        self.file = file

    @property
    def reason(self) -> str:
        """What is wrong with it, to go on after "it is"."""
        text = self.message.removeprefix(f"{self.file} ").removesuffix(".")
        if text.startswith("is damaged"):
            return text.removeprefix("is ")
        return f"a DICOM file that {text}" if text.startswith("cannot") else f"damaged: it {text}"


@dataclass(frozen=True)
class DicomFolder:
    """What a folder holds.

    Attributes:
        path: the folder or file.
        series: usable or not, by number.
        labels: SEG and RTSTRUCT objects.
        damaged: what is wrong with each DICOM file that cannot be read at all.
        passed_over: how many files are no DICOM files; hidden files and DICOMDIR do not count.
    """

    path: Path
    series: tuple[DicomSeries, ...]
    labels: tuple[LabelObject, ...]
    damaged: tuple[DamagedFile, ...]
    passed_over: int

    @property
    def usable(self) -> tuple[DicomSeries, ...]:
        """The series that can be read as volumes."""
        return tuple(series for series in self.series if series.problem is None)


def find_series(path: Path, looked: Callable[[int], None] | None = None) -> DicomFolder:
    """List the DICOM series in a folder of any depth, or in one file; voxels are not read.

    Files need no ending; links to files and folders are followed. DICOMDIR and hidden files
    (``.name``, ``._name``) are ignored, files that are no DICOM files passed over and counted. A
    file that is there twice (same UID, same bytes) counts once.

    Args:
        looked: gets now and then how many files were looked at.

    Raises:
        InputError: there is no such file or folder, or it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.", "Check the path.")
    instances: list[Instance] = []
    damaged: list[DamagedFile] = []
    passed_over = 0
    for number, file in enumerate(_files(path, damaged)):
        if looked is not None and number % 20 == 0:
            looked(number)
        try:
            if not is_dicom(file):
                passed_over += 1
                continue
            instance = read_instance(file)
        except OSError as error:
            why = InputError(
                f"{file} cannot be read: {error.strerror}.", "Give a file that you may read."
            )
            damaged.append(DamagedFile(file, why))
        except InputError as error:
            if has_preamble(file):
                damaged.append(DamagedFile(file, error))
            else:
                passed_over += 1
        else:
            instances.append(instance)
    labels = [
        LabelObject(instance.path, instance.modality, instance.referenced)
        for instance in instances
        if instance.modality in ("SEG", "RTSTRUCT")
    ]
    return DicomFolder(
        path, tuple(_all_series(instances)), tuple(labels), tuple(damaged), passed_over
    )


def pick_series(found: DicomFolder, wanted: str = "") -> DicomSeries:
    """Find the one series that a person means.

    Args:
        found: the folder.
        wanted: UID, number, or label of a series; empty where the only usable one is meant.

    Raises:
        InputError: there is none, there are several, or it cannot be used; the message lists what
            there is.
    """
    named = (
        [s for s in found.series if wanted in (s.uid, str(s.number), s.label)]
        if wanted
        else list(found.series)
    )
    usable = [series for series in named if series.problem is None]
    if len(usable) == 1 and (not wanted or len(named) == 1):
        return usable[0]
    if not usable and named and named[0].problem is not None:
        raise named[0].problem
    if not named and not wanted:
        damage = f" {found.damaged[0].message}" if found.damaged else ""
        raise InputError(
            f"{found.path} holds no DICOM image.{damage}", "Give the folder with the series."
        )
    what = f"no series '{wanted}'" if not named else f"{len(usable)} series"
    listed = "; ".join(series.label for series in (usable if named else found.usable)[:8])
    raise InputError(
        f"{found.path} holds {what}: {listed}.", "Name one of them by its label or UID."
    )


def _files(path: Path, damaged: list[DamagedFile]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return

    def closed(error: OSError) -> None:
        what = f"{error.filename} cannot be read: {error.strerror}."
        why = InputError(what, "Give a folder that you may read.")
        damaged.append(DamagedFile(Path(error.filename), why))

    seen = {path.resolve()}
    for parent, folders, names in os.walk(path, onerror=closed, followlinks=True):
        inner = sorted(name for name in folders if not name.startswith("."))
        places = {name: Path(parent, name).resolve() for name in inner}
        folders[:] = [name for name in inner if places[name] not in seen]  # no link is a circle
        seen.update(places.values())
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and name.upper() != "DICOMDIR" and file.is_file():
                yield file


def _all_series(instances: Sequence[Instance]) -> list[DicomSeries]:
    groups: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if instance.modality not in ("SEG", "RTSTRUCT"):
            groups[instance.series_uid].append(instance)
    found = [series for group in groups.values() for series in _series(group)]
    return sorted(
        found,
        key=lambda series: (series.number is None, series.number or 0, series.uid),
    )


def _series(instances: list[Instance]) -> Iterator[DicomSeries]:
    """Yield the volumes of one series: one, or one for each part."""
    first = instances[0]
    name = first.modality + ("" if first.number is None else f", series {first.number}")
    problem = None
    try:
        instances = _without_copies(instances)
    except InputError as error:
        problem = error
    frames = tuple(frame for instance in instances for frame in instance.frames)
    problem = problem or _first_problem(instances, name)
    references = {instance.frame_of_reference_uid for instance in instances} - {""}
    if len(references) > 1:
        problem = problem or InputError(
            f"{name} holds images of {len(references)} frames of reference: "
            "they do not share coordinates.",
            "Move the files of one into a folder of their own.",
        )
    parts = [("", list(frames))] if problem is not None or not frames else split(frames)
    for part, chosen in parts:
        yield _volume(
            instances[0], f"{name}, {part}" if part else name, part, tuple(chosen), problem
        )


def _volume(
    first: Instance, name: str, part: str, frames: tuple[Frame, ...], problem: InputError | None
) -> DicomSeries:
    grid = None
    frames = tuple(replace(frame, separating=()) for frame in frames)  # told apart, not kept
    if problem is None:
        try:
            frames, grid = stack(frames, name)
            _check_memory(grid, name)
        except InputError as error:
            grid, problem = None, error
    return DicomSeries(
        first.series_uid,
        first.modality,
        first.number,
        part,
        frames,
        first.frame_of_reference_uid,
        grid,
        problem,
    )


def _check_memory(grid: Grid, name: str) -> None:
    voxels = grid.size[0] * grid.size[1] * grid.size[2]
    if voxels > MOST_VOXELS:
        raise InputError(
            f"{name} has {voxels} voxels, more than {MOST_VOXELS}.", "Crop or resample it."
        )


def _without_copies(instances: list[Instance]) -> list[Instance]:
    kept: dict[str, Instance] = {}
    for instance in instances:
        other = kept.setdefault(instance.uid, instance)
        if other is not instance and not filecmp.cmp(other.path, instance.path, shallow=False):
            raise InputError(
                f"{other.path.name} and {instance.path.name} differ but have one identity "
                "(SOP instance UID).",
                "Remove the one that does not belong to the series.",
            )
    return list(kept.values())


def _first_problem(instances: Sequence[Instance], name: str) -> InputError | None:
    bad = [instance for instance in instances if instance.problem is not None]
    if not bad or bad[0].problem is None:
        return None
    problem = bad[0].problem
    if len(bad) == len(instances):
        return problem
    return InputError(
        f"{name}: {len(bad)} of {len(instances)} files cannot be part of a volume. "
        f"{problem.message}",
        f"{problem.hint} Or move these files out of the folder.",
    )
