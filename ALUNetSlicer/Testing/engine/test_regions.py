"""nnU-Net's regions (whole tumor = 1 + 2 + 3) are refused with the reason, in every way in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan
from typer.testing import CliRunner

from alunet import cli
from alunet.errors import InputError
from alunet.loop.setup import Setup, create

PLAIN = {"background": 0, "edema": 1, "core": 2, "enhancing": 3}
REGIONS = {
    "nnU-Net's example of BraTS": {
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        "regions_class_order": [1, 2, 3],
    },
    "a region beside structures": {
        "labels": {"background": 0, "edema": 1, "core": [2, 3], "enhancing": 3},
        "regions_class_order": [1, 2, 3],
    },
    "regions with voxels to ignore": {
        "labels": {"background": 0, "whole tumor": [1, 2], "core": [2], "ignore": 3},
        "regions_class_order": [1, 2],
    },
}
SHAPE = (4, 24, 24)


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    """A data set in nnU-Net's form; each test describes its labels."""
    array = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    save(array, tmp_path / "set/imagesTr/b_0000.nii.gz")
    drawn = np.random.default_rng(2).integers(0, 4, SHAPE).astype(np.uint8)
    save(drawn, tmp_path / "set/labelsTr/b.nii.gz")
    return tmp_path / "set"


@pytest.fixture
def root(brats: Path, tmp_path: Path) -> Path:
    """A planned project with the image."""
    with create(tmp_path / "p", name="p", labels=PLAIN, channels=["MRI"], setup=Setup()) as made:
        made.cases.import_case("b", [brats / "imagesTr/b_0000.nii.gz"])
        plan(made, (32, 32))
    return tmp_path / "p"


WAYS = {
    "init": "init {new} --like {set}",
    "add": "add {root} {set}",
    "a label beside it": "add {root} {set}/imagesTr/b_0000.nii.gz --name c "
    "--label-file {set}/labelsTr/b.nii.gz",
    "annotate a file": "annotate {root} {set}/labelsTr/b.nii.gz --case b --all-slices",
    "annotate a folder": "annotate {root} {set} --all-slices",
    "described by": "annotate {root} {other} --case b --all-slices "
    "--described-by {set}/dataset.json",
    "simulate": "simulate {set} --strategy random --out {new}",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", REGIONS)
def test_regions_are_refused_with_the_reason_and_nothing_changes(
    brats: Path, root: Path, tmp_path: Path, form: str, way: str
) -> None:
    about = {"channel_names": {"0": "MRI"}, "file_ending": ".nii.gz", **REGIONS[form]}
    (brats / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    other = save(np.zeros(SHAPE, np.uint8), tmp_path / "other/b.nii.gz")
    places = {"root": root, "set": brats, "new": tmp_path / "new", "other": other}
    words = [word.format(**places) for word in WAYS[way].split()]
    before = {path: path.read_bytes() for path in root.rglob("*.mha")}
    done = CliRunner().invoke(cli.app, words)
    assert isinstance(done.exception, InputError)
    assert "nnU-Net's regions are not supported, because here each voxel is of one structure" in (
        str(done.exception)
    )
    assert "'core' has the value [2, 3]" in str(done.exception) or "'whole tumor'" in str(
        done.exception
    )
    assert not (tmp_path / "new").exists()
    assert {path: path.read_bytes() for path in root.rglob("*.mha")} == before


def test_the_structures_that_regions_are_made_of_are_taken(brats: Path, root: Path) -> None:
    """What to do instead: one number for each structure, as the voxels have it."""
    about = {"channel_names": {"0": "MRI"}, "labels": PLAIN}
    (brats / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    done = CliRunner().invoke(cli.app, ["annotate", str(root), str(brats), "--all-slices"])
    assert done.exception is None
