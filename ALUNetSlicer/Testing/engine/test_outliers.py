"""What a network gets of images with voxels far beyond all others: finite, and never flat."""

from __future__ import annotations

from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
from small import RECIPE

from alunet.errors import InputError
from alunet.imaging.outliers import KEPT, usual_values, without_outliers
from alunet.loop import Loop
from alunet.model.environment import Folders
from alunet.project import Project

SHAPE = (6, 40, 48)


def scan() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)


def with_voxel(value: float) -> np.ndarray:
    array = scan()
    array[3, 2, 1] = value
    return array


def with_border(value: float) -> np.ndarray:
    array = scan()
    array[:, :4] = value
    return array


def with_slice(value: float) -> np.ndarray:
    array = scan()
    array[2] = value
    return array


TAKEN = {
    "high": with_voxel(1e7),
    "low": with_voxel(-1e7),
    "highest": with_voxel(9.9e7),
    "no data around": with_border(-1e6),
    "a flat slice": with_slice(7),
    "a slice of no data": with_slice(1e7),
    "few values": (scan() > 110).astype(np.float32),
    "ordinary": scan(),
}


def save(array: np.ndarray, path: Path) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("channel", ["MRI", "CT"])
def test_what_is_taken_is_finite_and_not_flat_after_preprocessing(tmp_path, channel):
    labels = {"background": 0, "a": 1}
    with Project.create(tmp_path / "p", name="p", labels=labels, channels=[channel]) as project:
        taken = dict(TAKEN)
        if channel == "CT":
            del taken["few values"]  # 0 and 1 are no Hounsfield units beside all others
        for name, array in taken.items():
            project.cases.import_case(name, [save(array, tmp_path / f"{name}.nrrd")])
        Loop(project, RECIPE, seed=0, threads=1).prepare()
        for name, array in taken.items():
            file = Folders(project.nnunet_dir).images / f"{name}.b2nd"
            prepared = blosc2.open(str(file), mode="r")[0]
            assert np.isfinite(prepared).all(), name
            rest = prepared[np.abs(array - 100) < 60] if name != "few values" else prepared
            assert rest.std() > 0.05, name


@pytest.mark.parametrize("array", [with_voxel(3e38), with_voxel(-3e38), scan() * 0 + 7])
def test_what_no_network_can_learn_from_is_refused(tmp_path, array):
    labels = {"background": 0, "a": 1}
    with Project.create(tmp_path / "p", name="p", labels=labels, channels=["MRI"]) as project:
        with pytest.raises(InputError, match=r"has the voxel|everywhere"):
            project.cases.import_case("c", [save(array, tmp_path / "c.nrrd")])
        assert project.cases.all() == []


def test_an_outlier_stays_the_largest_and_the_rest_as_it_is():
    array = with_voxel(-1e7)
    usual = usual_values(array)
    assert usual is not None
    near = without_outliers(array)
    assert near[3, 2, 1] == pytest.approx(-KEPT * usual.largest)
    array[3, 2, 1] = near[3, 2, 1]
    assert np.array_equal(near, array)


def test_bright_spots_that_many_images_have_are_no_outliers():
    array = scan()
    array[3, 2, 1:5] = 50_000
    assert without_outliers(array) is array
