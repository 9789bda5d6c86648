"""Annotations as a .seg.nrrd: names, colors, and no voxel looks like a structure that is none."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from planned_project import plan

from alunet.errors import InputError
from alunet.imaging.grids import Grid
from alunet.imaging.label_file import read_label_file
from alunet.imaging.reading import grid_of
from alunet.loop.segmentation_export import export_segmentations
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.schema import NOT_ANNOTATED

SHAPE = (4, 9, 7)
LABELS = {"background": 0, "Milz, linke": 1, "Gefäß": 2, "lesion": 3}


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "p", name="p", labels=LABELS, channels=["CT"]) as made:
        for name, ending in (("a", "nii.gz"), ("b", "nrrd")):
            image = sitk.GetImageFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
            image.SetSpacing((0.7, 0.8, 3))
            image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
            image.SetOrigin((10, -20.5, 7))
            file = tmp_path / f"{name}.{ending}"
            sitk.WriteImage(image, str(file))
            made.cases.import_case(name, [file])
        plan(made)
        labels = np.arange(63, dtype=np.uint8).reshape(1, 9, 7) % 4
        for sample in (1, 5):  # one slice of each case
            made.annotations.submit(sample, Submission(labels, 0, "Ann"))
        yield made


def test_each_structure_has_its_name_and_color_and_open_voxels_are_of_none(project, tmp_path):
    colors = {"lesion": "#ff8000"}
    files = export_segmentations(project, [], tmp_path / "out", colors)
    assert [file.name for file in files] == ["a.seg.nrrd", "b.seg.nrrd"]
    for file, case in zip(files, project.cases.all(), strict=True):
        image = sitk.ReadImage(str(file))
        assert Grid.of(image) == grid_of(case.images[0])
        found = sitk.GetArrayFromImage(image)
        expected = project.annotations.read(case.name)
        assert np.array_equal(found, np.where(expected == NOT_ANNOTATED, 0, expected))
        named = read_label_file(file, grid_of(case.images[0])).meaning
        assert named is not None
        assert {each.name: each.value for each in named.segments} == {
            name: value for name, value in LABELS.items() if value
        }
        shown = [image.GetMetaData(f"Segment{number}_Color") for number in range(3)]
        assert shown[2] == "1 0.501961 0"
        assert len(set(shown)) == 3


def test_what_is_not_there_is_no_file(project, tmp_path):
    with pytest.raises(InputError, match="There is no case 'c'"):
        export_segmentations(project, ["c"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
