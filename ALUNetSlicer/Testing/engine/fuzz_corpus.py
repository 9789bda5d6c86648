"""The corpus of the fuzz: a file of every form that is read, and a project with one case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_GRID = {"spacing": (0.5, 0.75, 2.0), "origin": (-10.0, -20.0, 30.0)}


@dataclass(frozen=True)
class Entry:
    """Something to read.

    Attributes:
        name: of its folder in the corpus.
        given: what is given to the command: a file of the folder, or "." for itself.
        spoiled: the files of which one is changed.
        label: whether it is given as labels of the case that the project has, not as a new case.
    """

    name: str
    given: str
    spoiled: tuple[str, ...]
    label: bool = False


_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl", ".gipl.gz")
_PICTURES = (".png", ".tif", ".bmp")
ENTRIES: tuple[Entry, ...] = (
    *(Entry(f"image{end}", f"c{end}", (f"c{end}",)) for end in (*_ENDINGS, *_PICTURES)),
    Entry("float.nii", "c.nii", ("c.nii",)),
    Entry("pair", "c.hdr", ("c.hdr", "c.img")),
    Entry("detached nrrd", "c.nhdr", ("c.nhdr", "c.raw.gz")),
    Entry("detached meta", "c.mhd", ("c.mhd", "c.zraw")),
    Entry("series", ".", ("0.dcm", "1.dcm", "2.dcm")),
    Entry("enhanced", "0.dcm", ("0.dcm",)),
    Entry("data set", ".", ("dataset.json", "imagesTr/d_0000.nii.gz", "labelsTr/d.nii.gz")),
    *(Entry(f"labels{end}", f"l{end}", (f"l{end}",), True) for end in (".nii.gz", ".nrrd", ".mha")),
    Entry("segments", "l.seg.nrrd", ("l.seg.nrrd",), True),
    Entry("dicom seg", "0.dcm", ("0.dcm",), True),
    Entry("contours", "0.dcm", ("0.dcm",), True),
    Entry("described", "l.nii.gz", ("dataset.json",), True),
    Entry("itk-snap", "l.nii.gz", ("l.label",), True),
)


def make_corpus(folder: Path) -> Path:
    """Write every entry, each readable as it is, and a project with one case."""
    for entry in ENTRIES:
        (folder / entry.name).mkdir(parents=True)
    _write_images(folder)
    _write_dicom(folder)
    _write_labels(folder)
    _make_project(folder)
    return folder


def _voxels() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 20, (3, 5, 7))
    return (100 + 10 * np.arange(105).reshape(3, 5, 7) + noise).astype(np.int16)


def _label() -> np.ndarray:
    label = np.zeros((3, 5, 7), np.uint8)
    label[1, 1:4, 1:4], label[2, 2:4, 3:6] = 1, 2
    return label


def _save(array: np.ndarray, path: Path, compress: bool = True, **header: str) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    if array.ndim == 3:
        image.SetSpacing(_GRID["spacing"])
        image.SetOrigin(_GRID["origin"])
    for key, value in header.items():
        image.SetMetaData(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), compress)


def _write_images(folder: Path) -> None:
    for end in _ENDINGS:
        _save(_voxels(), folder / f"image{end}" / f"c{end}")
    for end in _PICTURES:
        picture = np.random.default_rng(0).integers(0, 255, (9, 12)).astype(np.uint8)
        _save(picture, folder / f"image{end}" / f"c{end}")
    _save(_voxels().astype(np.float32), folder / "float.nii" / "c.nii")
    _save(_voxels(), folder / "pair" / "c.hdr", compress=False)
    _save(_voxels(), folder / "detached nrrd" / "c.nhdr")
    _save(_voxels(), folder / "detached meta" / "c.mhd")
    dataset = folder / "data set"
    _save(_voxels(), dataset / "imagesTr" / "d_0000.nii.gz")
    _save(_label(), dataset / "labelsTr" / "d.nii.gz")
    _describe(dataset)


def _describe(folder: Path) -> None:
    about = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def _write_dicom(folder: Path) -> None:
    import dicom_files as files
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import RLELossless

    plain = files.slices(_voxels())
    files.write(folder / "series", plain)
    for number, file in enumerate(sorted((folder / "series").iterdir())):
        file.rename(folder / "series" / f"{number}.dcm")
    enhanced = files.enhanced(_voxels(), scale=(1.0, 2.0))
    enhanced.compress(RLELossless, generate_instance_uid=False)
    described = hd.seg.SegmentDescription(1, "a", codes.SCT.Organ, codes.SCT.Liver, "MANUAL")
    masks, uids = (_label() == 1).astype(np.uint8), (hd.UID(), hd.UID())
    segmentation = hd.seg.Segmentation(
        plain, masks, "BINARY", [described], uids[0], 9, uids[1], 1, *"mn10"
    )
    square = np.array([(-9, -19, 32), (-8, -19, 32), (-8, -18, 32)], float)
    contours = files.structures(plain, {"a": [("CLOSED_PLANAR", square)]})
    made = {"enhanced": enhanced, "dicom seg": segmentation, "contours": contours}
    for name, dataset in made.items():
        files.save(dataset, folder / name / "0.dcm")


def _write_labels(folder: Path) -> None:
    for end in (".nii.gz", ".nrrd", ".mha"):
        _save(_label(), folder / f"labels{end}" / f"l{end}")
    segments = {
        f"Segment{number}_{key}": value
        for number, name in enumerate("ab")
        for key, value in {
            "ID": name,
            "Name": name,
            "LabelValue": str(number + 1),
            "Layer": "0",
            "Extent": "0 6 0 4 0 2",
        }.items()
    }
    _save(_label(), folder / "segments" / "l.seg.nrrd", **segments)
    for name in ("described", "itk-snap"):
        _save(_label(), folder / name / "l.nii.gz")
    _describe(folder / "described")
    lines = ['0 0 0 0 0 0 0 "Clear Label"', '1 255 0 0 1 1 1 "a"', '2 0 255 0 1 1 1 "b"']
    text = "# ITK-SnAP Label Description File\n" + "\n".join(lines) + "\n"
    (folder / "itk-snap" / "l.label").write_text(text, encoding="utf-8")


def _make_project(folder: Path) -> None:
    from planned_project import plan

    from alunet.loop.setup import Setup, create

    labels = {"background": 0, "a": 1, "b": 2}
    _save(_voxels()[::-1], folder / "base.mha")
    with create(
        folder / "project", name="p", labels=labels, channels=["MRI"], setup=Setup()
    ) as project:
        project.cases.import_case("base", [folder / "base.mha"])
        plan(project)
