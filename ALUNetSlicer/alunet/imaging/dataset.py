"""Data sets as they lie on disk: the form of the Medical Segmentation Decathlon, nnU-Net's, or a
plain folder.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.imaging.folders import (
    CaseFiles,
    FolderCases,
    LeftOut,
    existing,
    folder_cases,
    nothing_found,
)
from alunet.imaging.label_file import LABEL_FOLDERS, Meaning, Segment, folded
from alunet.imaging.patients import Patients, group_cases
from alunet.imaging.reading import ENDINGS, PICTURE_ENDINGS, ending_of, stem_of
from alunet.schema import NOT_ANNOTATED, Emit, ignore_events
from alunet.schema.names import CASE, compared, composed, is_text, usable_name

_IMAGES = ("imagesTr", "images", "image")


@dataclass(frozen=True)
class DatasetDescription:
    """What a data set holds.

    Attributes:
        name: of the data set.
        labels: structure name to class, consecutive from ``"background": 0``; empty where nothing
            says it.
        channels: channel names as nnU-Net knows them ("MRI", "CT", …).
        cases: (case name, image files in channel order, reference label or None), sorted by name.
        values: what each class 0, 1, … is called in the label files; mostly the same number.
        patients: patient of each case, where ``"groups"`` in ``dataset.json`` says it; else None.
        meaning: what the values of its label files mean; None where nothing says it.
        left_out: files in its folders that are no image and no label of one.
    """

    name: str
    labels: dict[str, int]
    channels: list[str]
    cases: list[CaseFiles]
    values: tuple[int, ...] = ()
    patients: Patients | None = None
    meaning: Meaning | None = None
    left_out: tuple[LeftOut, ...] = ()


def read_dataset_description(
    path: Path, channels: int | None = None, series: str = "", emit: Emit = ignore_events
) -> DatasetDescription:
    """Reads which cases, channels and labels a folder holds.

    Args:
        channels: of a case in a plain folder; None: as the files are named.
        series: which DICOM series of an examination in a plain folder.
        emit: hears how many files of a plain folder were looked at.
        path: a folder with ``dataset.json`` in the form of the Medical Segmentation Decathlon
            ("modality", list "training") or of nnU-Net ("channel_names",
            ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``; the folders may be called
            images and labels too); or a folder of images without it, where every image is a case.
            ``dataset.json`` may say in "groups" which cases are of one patient, see
            `patients.group_cases`.

    Raises:
        InputError: the folder is missing or empty, the description is damaged, names a file that is
            missing, or names a case twice; "groups" does not fit the cases.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.", "Give the folder that holds the data set.")
    file = path / "dataset.json"
    if not file.exists():
        return _plain_folder(path, channels, series, emit)
    content = _read_json(file)
    labels, values = number_labels(_named(content.get("labels"), file)[0], str(file))
    named = _channels(content, file)
    left_out: list[LeftOut] = []
    if "dataset" in content:
        cases = _listed_by_name(content["dataset"], path)
    elif "channel_names" in content or not content.get("training"):
        found = _nnunet_cases(path, len(named))
        cases, left_out = found.cases, found.left_out
    else:
        cases = _decathlon_cases(content["training"], path)
    _check_cases(cases, path)
    name = str(content.get("name") or path.name)
    cases.sort(key=_name)
    groups = content.get("groups")
    patients = (
        None
        if groups is None
        else group_cases([case[0] for case in cases], groups, f'{file}: "groups"')
    )
    return DatasetDescription(
        name, labels, named, cases, values, patients, read_meaning(file), tuple(left_out)
    )


def _name(case: CaseFiles) -> str:
    return case[0]


def _read_json(file: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is there twice")
        return content

    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}.", "It must be a file that you may read."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read: {error}.", "Correct the file: JSON in UTF-8."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{file} holds no JSON object.",
            'Correct the file: {"labels": {…}, "channel_names": {…}}.',
        )
    return content


def read_meaning(file: Path) -> Meaning:
    """Return what a ``dataset.json`` says of the values of label files.

    Labels may be in either direction (name to value, or value to name), with nnU-Net's "ignore".

    Raises:
        InputError: it cannot be read, or its labels are missing, regions, or impossible.
    """
    labels, ignore = _named(_read_json(file).get("labels"), file)
    segments = tuple(Segment(name, value) for name, value in labels.items())
    return Meaning(segments, ignore, str(file))


def _named(content: object, file: Path) -> tuple[dict[str, int], int | None]:
    """Structure name to value, the background among them, and the value of ignored voxels."""
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"{file} has no labels.", 'Add "labels", for instance {"background": 0, "liver": 1}.'
        )
    pairs = [(str(key), value) for key, value in content.items()]
    if all(re.fullmatch("-?[0-9]+", key) for key, _ in pairs):
        pairs = [(str(value), key) for key, value in pairs]
    labels = {name: _whole_number(name, value, file) for name, value in pairs}
    if len(labels) != len(pairs):
        raise InputError(f"{file} names a label twice.", "Give every structure its own name.")
    ignore = labels.pop("ignore", None)
    if "background" not in labels:
        labels = {("background" if value == 0 else name): value for name, value in labels.items()}
    if ignore in labels.values():
        raise InputError(
            f"{file}: the value {ignore} is a structure and ignored.", "Give each its own value."
        )
    return labels, ignore


def _whole_number(name: str, value: object, file: Path) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch("-?[0-9]+", value):
        return int(value)
    hint = (
        "Use one whole number a structure; nnU-Net's regions are not supported, because here each "
        "voxel is of one structure."
    )
    raise InputError(f"{file}: label {name!r} has the value {value!r}.", hint)


def number_labels(
    labels: dict[str, int], where: str = "The project"
) -> tuple[dict[str, int], tuple[int, ...]]:
    """Numbers the structures 0, 1, 2, …, the background first and the others by their values.

    Returns:
        Structure name to class, and the value that each class had.

    Raises:
        InputError: there is no background or no structure, there are more than 254, a value occurs
            twice, or a name is impossible.
    """
    if "background" not in labels:
        raise InputError(
            f'{where}: the labels {labels} lack "background".', 'Add it: {"background": 0, …}.'
        )
    if len(labels) < 2:
        raise InputError(
            f"{where}: there is no label but the background.", 'Add a structure: {"liver": 1, …}.'
        )
    if len(set(labels.values())) < len(labels):
        raise InputError(
            f"{where}: the labels {labels} share a value.", "Give every structure its own value."
        )
    compared = Counter(folded(name) for name in labels)
    for name in labels:
        if compared[folded(name)] > 1:
            raise InputError(
                f"{where}: the label {name!r} is there twice.", "Give every structure its own name."
            )
        if not name.strip() or name == "ignore" or not is_text(name):
            raise InputError(
                f"{where}: {name!r} cannot be the name of a label.", "Choose another name."
            )
    if len(labels) > NOT_ANNOTATED:
        raise InputError(
            f"{where}: there are {len(labels) - 1} structures.", f"Use at most {NOT_ANNOTATED - 1}."
        )
    names = sorted(labels, key=lambda name: (name != "background", labels[name]))
    return {name: index for index, name in enumerate(names)}, tuple(labels[name] for name in names)


def _channels(content: dict[str, Any], file: Path) -> list[str]:
    named = content.get("channel_names") or content.get("modality")
    if (
        not isinstance(named, dict)
        or not named
        or sorted(named, key=str) != sorted(str(i) for i in range(len(named)))
    ):
        hint = 'Add "channel_names", for instance {"0": "MRI"}.'
        raise InputError(f"{file} does not name its channels as 0, 1, ….", hint)
    return [str(named[str(index)]) for index in range(len(named))]


def _file(folder: Path, text: object) -> Path:
    """A file that a description names, relative to its folder; it may be a link, or in another
    folder.
    """
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(
            f"{folder / 'dataset.json'} names {text!r}, which is no file.", "Correct it."
        )
    return existing(folder / Path(text))


def _decathlon_cases(entries: object, folder: Path) -> list[CaseFiles]:
    cases: list[CaseFiles] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or "image" not in entry:
            raise InputError(
                f"{folder / 'dataset.json'}: training entry {entry!r} names no image.",
                "Correct it.",
            )
        image = _file(folder, entry["image"])
        label = _file(folder, entry["label"]) if entry.get("label") else None
        cases.append((composed(stem_of(image)), [image], label))
    return cases


def _listed_by_name(entries: object, folder: Path) -> list[CaseFiles]:
    if not isinstance(entries, dict):
        raise InputError(
            f'{folder / "dataset.json"}: "dataset" is no list of cases by name.',
            'Correct it: {"CASE": {"images": […], "label": …}}.',
        )
    cases: list[CaseFiles] = []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list):
            raise InputError(
                f"{folder / 'dataset.json'}: case {name!r} names no images.", "Correct it."
            )
        images = [_file(folder, _expanded(image)) for image in entry["images"]]
        label = _file(folder, _expanded(entry["label"])) if entry.get("label") else None
        cases.append((composed(name), images, label))
    return cases


def _expanded(text: object) -> object:
    """Return a path with its environment variables replaced, as nnU-Net does."""
    return os.path.expandvars(text) if isinstance(text, str) else text


def listed_labels(folder: Path) -> dict[str, Path] | None:
    """Return the label files that the ``dataset.json`` of a folder lists, by the case's name; None
    where it lists none.

    Raises:
        InputError: it is damaged.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        return None
    content = _read_json(file)
    if "dataset" in content:
        cases = _listed_by_name(content["dataset"], folder)
    elif "channel_names" not in content and content.get("training"):
        cases = _decathlon_cases(content["training"], folder)
    else:
        return None
    return {name: label for name, _, label in cases if label is not None}


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of the folders that is there, or the first name."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])


def _nnunet_cases(folder: Path, channels: int) -> FolderCases:
    images = _subfolder(folder, _IMAGES)
    if not images.is_dir():
        raise InputError(
            f"There is no folder {images}.", "Put the images there, named CASE_0000.nii.gz."
        )
    found = folder_cases(images, _subfolder(folder, LABEL_FOLDERS), channels, described=True)
    for name, files, _ in found.cases:
        colors = len(files) == 1 and ending_of(files[0]) in PICTURE_ENDINGS
        if len(files) != channels and not colors:
            raise InputError(
                f"Case {name} in {images} has {len(files)} image file(s) for {channels} "
                f"channel(s).",
                f"Name the files {name}_0000, {name}_0001, …, one a channel.",
            )
    return found


def _plain_folder(
    folder: Path, channels: int | None, series: str, emit: Emit
) -> DatasetDescription:
    inner = _subfolder(folder, _IMAGES)
    images, labels = inner if inner.is_dir() else folder, _subfolder(folder, LABEL_FOLDERS)
    found = folder_cases(images, labels, channels, series=series, emit=emit)
    if not found.cases:
        raise nothing_found(folder, found.left_out)
    _check_cases(found.cases, folder)
    counts = {len(files) for _, files, _ in found.cases}
    if len(counts) > 1:
        raise InputError(
            f"Cases in {folder} have {sorted(counts)} channels.",
            "Each case needs the same channels.",
        )
    names = ["MRI"] if counts == {1} else [f"channel {index}" for index in range(counts.pop())]
    return DatasetDescription(folder.name, {}, names, found.cases, left_out=tuple(found.left_out))


def _check_cases(cases: list[CaseFiles], folder: Path) -> None:
    """Something is there, every named file exists, and no name occurs twice, on any file system."""
    if not cases:
        raise InputError(f"{folder} holds no image.", f"Images end in {', '.join(ENDINGS)}.")
    seen: dict[str, str] = {}
    for name, images, label in cases:
        usable_name(name, CASE)
        if compared(name) in seen:
            raise InputError(
                f"{folder} holds the case {name!r} twice.", "Give every case its own name."
            )
        seen[compared(name)] = name
        for file in (*images, *([label] if label else [])):
            if not file.is_file():
                raise InputError(
                    f"Case {name}: there is no file {file}.",
                    "Correct dataset.json or add the file.",
                )
