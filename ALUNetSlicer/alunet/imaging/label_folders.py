"""The label files of a folder, each with the case that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dataset import listed_labels, read_meaning
from alunet.imaging.folders import LeftOut, is_broken_link, labels_by_name, named_like
from alunet.imaging.label_file import LABEL_FOLDERS, Meaning
from alunet.schema.names import compared


@dataclass(frozen=True)
class FolderLabels:
    """The label files of a folder.

    Attributes:
        files: case -> its label file, in the order of the cases.
        left_out: files that are of none of the cases.
        meaning: what the values of the files mean, where a list in ``dataset.json`` names the
            files; None: what is said beside each file.
    """

    files: dict[str, Path]
    left_out: tuple[LeftOut, ...] = ()
    meaning: Meaning | None = None


def label_files(folder: Path, names: Sequence[str]) -> FolderLabels:
    """Return the label file of each case: the one that ``dataset.json`` lists, else that of its
    name.

    Args:
        folder: of label files, or of a data set that has them in ``labelsTr``, ``labels`` or the
            like.
        names: of the cases.

    Raises:
        InputError: there is no folder, it holds no label file, a case has two, or a link to one is
            broken.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Give the folder that holds the labels.")
    listed = listed_labels(folder)
    if listed is not None:
        return _of_list(listed, names, read_meaning(folder / "dataset.json"))
    inner = (folder / name for name in LABEL_FOLDERS if (folder / name).is_dir())
    place = next(inner, folder)
    found, others = labels_by_name(names, place)
    if not found and not others:
        raise InputError(f"{place} holds no label file.", "Give the folder that holds the labels.")
    broken = [file for file in found.values() if is_broken_link(file)]
    if broken:
        raise InputError(
            f"{broken[0]} is a link to a file that is missing.", "Fetch it, or remove the link."
        )
    return FolderLabels(found, tuple(_unused(file, found) for file in others))


def _unused(file: Path, found: dict[str, Path]) -> LeftOut:
    taken = found.get(named_like(file, list(found)) or "")
    return _without_case(file) if taken is None else LeftOut(file, f"{taken.name} is the label")


def _of_list(listed: dict[str, Path], names: Sequence[str], meaning: Meaning) -> FolderLabels:
    known = {compared(name): file for name, file in listed.items()}
    found = {name: known.pop(compared(name)) for name in names if compared(name) in known}
    return FolderLabels(found, tuple(_without_case(file) for file in known.values()), meaning)


def _without_case(file: Path) -> LeftOut:
    return LeftOut(file, "no case of the project is called so")
