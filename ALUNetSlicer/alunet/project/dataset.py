"""Data sets as they lie on disk: the form of the Medical Segmentation Decathlon, nnU-Net's, or a plain folder."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.project.images import ENDINGS, ending_of, stem_of

CaseFiles = tuple[str, list[Path], Path | None]


@dataclass(frozen=True)
class DatasetDescription:
    """What a data set holds.

    Attributes:
        name: of the data set.
        labels: structure name to value, consecutive from ``"background": 0``; empty where nothing says it.
        channels: channel names as nnU-Net knows them ("MRI", "CT", …).
        cases: (case name, image files in channel order, reference label or None), sorted by name.
    """

    name: str
    labels: dict[str, int]
    channels: list[str]
    cases: list[CaseFiles]


def read_dataset_description(path: Path) -> DatasetDescription:
    """Reads which cases, channels and labels a folder holds; no image is opened.

    Args:
        path: a folder with ``dataset.json`` in the form of the Medical Segmentation Decathlon ("modality", list
            "training") or of nnU-Net ("channel_names", ``imagesTr/CASE_0000.nii.gz``, ``labelsTr/CASE.nii.gz``); or
            a folder of images without it, where every image is a case.

    Raises:
        InputError: the folder is missing or empty, the description is damaged, names a file that is missing, has
            labels that are not consecutive, or names a case twice.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.", "Give the folder that holds the data set.")
    file = path / "dataset.json"
    if not file.is_file():
        return _plain_folder(path)
    content = _read_json(file)
    labels = read_labels(content.get("labels"), file)
    channels = _channels(content, file)
    if "dataset" in content:
        cases = _listed_by_name(content["dataset"], path)
    elif "channel_names" in content or not content.get("training"):
        cases = _nnunet_cases(path, len(channels))
    else:
        cases = _decathlon_cases(content["training"], path)
    _check_cases(cases, path)
    return DatasetDescription(str(content.get("name") or path.name), labels, channels, sorted(cases, key=_name))


def _name(case: CaseFiles) -> str:
    return case[0]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}.", "Correct the file.") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no JSON object.", "Correct the file.")
    return content


def read_labels(content: object, file: Path) -> dict[str, int]:
    """Labels of a ``dataset.json``, in either direction (name to value, or value to name).

    Raises:
        InputError: they are missing, regions, or break the rules of `check_labels`.
    """
    if not isinstance(content, dict) or not content:
        raise InputError(f"{file} has no labels.", 'Add "labels", for instance {"background": 0, "liver": 1}.')
    pairs = [(str(key), value) for key, value in content.items()]
    if all(key.isdigit() for key, _ in pairs):
        pairs = [(str(value), key) for key, value in pairs]
    labels = {}
    for name, value in pairs:
        try:
            labels[name] = int(value)
        except (TypeError, ValueError) as error:
            hint = "Use one whole number a structure; nnU-Net's regions are not supported."
            raise InputError(f"{file}: label {name!r} has the value {value!r}.", hint) from error
    if len(labels) != len(pairs):
        raise InputError(f"{file} names a label twice.", "Give every structure its own name.")
    labels.pop("ignore", None)
    zero = [name for name, value in labels.items() if value == 0]
    if len(zero) == 1:
        labels = {("background" if value == 0 else name): value for name, value in labels.items()}
    check_labels(labels, str(file))
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def check_labels(labels: dict[str, int], where: str = "The project") -> None:
    """Raises InputError unless labels are ``"background": 0`` and structures with the values 1, 2, 3, …"""
    values = sorted(labels.values())
    if labels.get("background") != 0:
        raise InputError(f'{where}: the labels {labels} lack "background": 0.', "Add it.")
    if values != list(range(len(values))) or len(values) < 2:
        raise InputError(f"{where}: label values are {values}.", "They must be 0, 1, 2, … without a gap.")
    for name in labels:
        if not name.strip() or name == "ignore":
            raise InputError(f"{where}: {name!r} cannot be the name of a label.", "Choose another name.")


def _channels(content: dict[str, Any], file: Path) -> list[str]:
    named = content.get("channel_names") or content.get("modality")
    if not isinstance(named, dict) or not named or sorted(named, key=str) != sorted(str(i) for i in range(len(named))):
        hint = 'Add "channel_names", for instance {"0": "MRI"}.'
        raise InputError(f"{file} does not name its channels as 0, 1, ….", hint)
    return [str(named[str(index)]) for index in range(len(named))]


def _inside(folder: Path, text: object) -> Path:
    """A file that a description names, relative to its folder; never one outside of it."""
    if not isinstance(text, str) or not (folder / text).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / 'dataset.json'} names {text!r}, which lies outside of the folder.")
    return folder / Path(text)


def _decathlon_cases(entries: object, folder: Path) -> list[CaseFiles]:
    cases: list[CaseFiles] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or "image" not in entry:
            raise InputError(f"{folder / 'dataset.json'}: training entry {entry!r} names no image.", "Correct it.")
        image = _inside(folder, entry["image"])
        label = _inside(folder, entry["label"]) if entry.get("label") else None
        cases.append((stem_of(image), [image], label))
    return cases


def _listed_by_name(entries: object, folder: Path) -> list[CaseFiles]:
    cases: list[CaseFiles] = []
    for name, entry in (entries if isinstance(entries, dict) else {}).items():
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list):
            raise InputError(f"{folder / 'dataset.json'}: case {name!r} names no images.", "Correct it.")
        images = [_inside(folder, image) for image in entry["images"]]
        cases.append((name, images, _inside(folder, entry["label"]) if entry.get("label") else None))
    return cases


def _nnunet_cases(folder: Path, channels: int) -> list[CaseFiles]:
    images = folder / "imagesTr"
    if not images.is_dir():
        raise InputError(f"There is no folder {images}.", "Put the images there, named CASE_0000.nii.gz.")
    cases = _grouped(images, folder / "labelsTr")
    for name, files, _ in cases:
        if len(files) != channels:
            raise InputError(
                f"Case {name} in {images} has {len(files)} image file(s) for {channels} channel(s).",
                f"Name the files {name}_0000, {name}_0001, …, one a channel.",
            )
    return cases


def _plain_folder(folder: Path) -> DatasetDescription:
    inner = folder / "imagesTr"
    cases = _grouped(inner if inner.is_dir() else folder, folder / "labelsTr")
    _check_cases(cases, folder)
    counts = {len(files) for _, files, _ in cases}
    if len(counts) > 1:
        raise InputError(f"Cases in {folder} have {sorted(counts)} channels.", "Each case needs the same channels.")
    channels = ["MRI"] if counts == {1} else [f"channel {index}" for index in range(counts.pop())]
    return DatasetDescription(folder.name, {}, channels, sorted(cases, key=_name))


def _grouped(images: Path, labels: Path) -> list[CaseFiles]:
    """Cases from file names: ``NAME_0000``, ``NAME_0001`` are channels where every file is named so."""
    files = [path for path in sorted(images.iterdir()) if ending_of(path) and path.is_file()]
    # An .img is the other half of an .hdr, no case of its own.
    files = [path for path in files if not _second_half(path, files)]
    matches = [re.fullmatch(r"(.+)_(\d{4})", stem_of(path)) for path in files]
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, match in zip(files, matches, strict=True):
        groups[match.group(1) if match and all(matches) else stem_of(path)].append(path)
    return [(name, paths, _label_of(name, labels)) for name, paths in groups.items()]


def _second_half(path: Path, files: list[Path]) -> bool:
    return ending_of(path) in (".img", ".img.gz") and path.with_name(stem_of(path) + ".hdr") in files


def _label_of(name: str, folder: Path) -> Path | None:
    return next((folder / (name + end) for end in ENDINGS if (folder / (name + end)).is_file()), None)


def _check_cases(cases: list[CaseFiles], folder: Path) -> None:
    """Something is there, every named file exists, and no name occurs twice, on any file system."""
    if not cases:
        raise InputError(f"{folder} holds no image.", f"Images end in {', '.join(ENDINGS)}.")
    seen: dict[str, str] = {}
    for name, images, label in cases:
        check_case_name(name)
        if name.casefold() in seen:
            raise InputError(f"{folder} holds the case {name!r} twice.", "Give every case its own name.")
        seen[name.casefold()] = name
        for file in (*images, *([label] if label else [])):
            if not file.is_file():
                raise InputError(f"Case {name}: there is no file {file}.", "Correct dataset.json or add the file.")


def check_case_name(name: str) -> None:
    """Raises InputError for a name that some file system cannot hold."""
    if not name or re.search(r'[\x00-\x1f<>:"/\\|?*]', name) or name != name.strip(" .") or len(name.encode()) > 150:
        raise InputError(
            f"{name!r} cannot be the name of a case.",
            'Use letters, digits, blanks, "-" and "_"; not / \\ : * ? " < > | and no dot or blank at an end.',
        )
