"""Labels that exist already, of many cases at once: all files are checked before any is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.folders import LeftOut
from alunet.imaging.label_file import Meaning
from alunet.imaging.label_folders import label_files
from alunet.imaging.labels import LabelSource
from alunet.loop import labelling
from alunet.loop.labelling import IMPORTED, Compared, Taken
from alunet.loop.slices import has_tiles, pool_case, slice_axis, slices_of
from alunet.project import Case, Project
from alunet.project.importing import counted
from alunet.schema import Emit, Event


@dataclass(frozen=True)
class Which:
    """Which slices of the label files count; by default what is suggested.

    Attributes:
        all_slices: every slice, also where nothing is drawn.
        drawn_slices: slices in which a structure is drawn.
        replace: take the files' labels also where a slice has other ones; else those stay.
        suggested: the samples that are suggested now.
    """

    all_slices: bool = False
    drawn_slices: bool = False
    replace: bool = False
    suggested: Sequence[int] = ()


@dataclass(frozen=True)
class FileTaken:
    """What became of a label file.

    Attributes:
        kept: slices with other labels, which stay as they are.
    """

    file: Path
    taken: Taken
    kept: tuple[int, ...] = ()


@dataclass(frozen=True)
class FolderTaken:
    """What became of a folder of label files.

    Attributes:
        files: those of a case, by the case's name.
        left_out: other files, and why.
        without: cases of the pool that have no file.
    """

    files: list[FileTaken]
    left_out: list[LeftOut] = field(default_factory=list)
    without: list[str] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """How many samples were taken."""
        return sum(len(each.taken.samples) for each in self.files)

    @property
    def unchanged(self) -> int:
        """How many slices have these very labels already."""
        return sum(len(each.taken.unchanged) for each in self.files)

    @property
    def kept(self) -> int:
        """How many slices keep other labels."""
        return sum(len(each.kept) for each in self.files)


def annotate_folder(
    project: Project,
    folder: Path,
    which: Which,
    *,
    round: int,
    author: str = IMPORTED,
    ignore: int | None = None,
    meaning: Meaning | None = None,
    emit: Emit,
) -> FolderTaken:
    """Store the labels of a folder, each file's with the case of its name.

    All files are checked first; where one cannot be used, nothing is stored. What is stored of a
    case is on disk; a call that was stopped goes on where it was, because what a case has already
    is not stored again.

    Args:
        folder: see `alunet.imaging.label_folders.label_files`.
        round: number of the round that the labels belong to.
        author: who drew them.
        ignore: value in the files that marks voxels left open.
        meaning: what the values of the files mean, where they do not say so themselves.

    Raises:
        InputError: no file is of a case of the pool, or one cannot be used; the message names it.
    """
    roles = {case.name: case for case in project.cases.all()}
    found = label_files(folder, list(roles))
    left_out = list(found.left_out)
    for name, file in found.files.items():
        if roles[name].role != "pool":
            left_out.append(LeftOut(file, f"'{name}' is a case to evaluate on"))
    files = {name: file for name, file in found.files.items() if roles[name].role == "pool"}
    if not files:
        some = ", ".join(each.file.name for each in left_out[:3])
        raise InputError(
            f"No file of {folder} is called like a case to learn from ({some}).",
            "Name each label file like its case; the status names the cases.",
        )
    for name in files:
        pool_case(project, name)  # refuses what is not planned yet
    labels_of = LabelSource(project.cases.structures, meaning or found.meaning, ignore)
    reader = _Reader(project, labels_of, which)
    done = reader.check(files, emit)
    for each, _ in counted([each for each in done if each.taken.samples], "annotate", emit):
        compared, _ = reader.compared(roles[each.taken.case], each.file)
        labelling.store(project, compared, round=round, author=author)
    without = [name for name, case in roles.items() if case.role == "pool" and name not in files]
    return FolderTaken(done, left_out, without)


@dataclass(frozen=True)
class _Reader:
    """Reads label files and compares them with what is annotated."""

    project: Project
    labels: LabelSource
    which: Which

    def check(self, files: dict[str, Path], emit: Emit) -> list[FileTaken]:
        """Return what becomes of all files; nothing is stored.

        Raises:
            InputError: at least one cannot be used; where there are several, each is said.
        """
        cases = {case.name: case for case in self.project.cases.all()}
        done, wrong = [], []
        for name, _ in counted(list(files), "check", emit):
            try:
                done.append(self._file(cases[name], files[name]))
            except InputError as error:
                wrong.append(error)
        if len(wrong) == 1:
            raise wrong[0]
        if wrong:
            for text in dict.fromkeys(map(str, wrong)):
                emit(Event("message", {"text": text}))
            raise InputError(
                f"{len(wrong)} of {len(files)} label files cannot be used, so nothing was taken. "
                f"The first: {wrong[0].message}",
                wrong[0].hint,
            )
        return done

    def _file(self, case: Case, file: Path) -> FileTaken:
        compared, kept = self.compared(case, file)
        found = labelling.taken(self.project, compared)
        return FileTaken(file, replace(found, in_parts=self._in_parts(case)), kept)

    def _in_parts(self, case: Case) -> bool:
        whole = self.which.all_slices or self.which.drawn_slices
        return not whole and has_tiles(self.project, case.name)

    def compared(self, case: Case, file: Path) -> tuple[Compared, tuple[int, ...]]:
        """Return what a file brings, and the slices that keep other labels."""
        read = labelling.read_for_case(self.project, case, file, (), self.labels)
        if self.which.all_slices:
            asked = self.project.pool.samples_of(case.name).tolist()
        elif self.which.drawn_slices:
            asked = labelling.samples_drawn(self.project, case, read)
        else:
            own = labelling.open_samples(self.project, case.name, self.which.suggested)
            low, high = read.box[slice_axis(case)]
            asked = [sample for sample in own if low <= self.project.pool.slice_raw[sample] < high]
        found = labelling.compare(self.project, case, read, asked)
        if self.which.replace or not found.again:
            return found, ()
        return found.without_again(), slices_of(self.project, found.again)
