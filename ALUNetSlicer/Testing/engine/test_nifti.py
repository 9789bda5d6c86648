"""NIfTI headers in all their forms: read as SimpleITK reads them, which is how nnU-Net and 3D
Slicer do.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.project import Project

VOXELS = np.random.default_rng(0).integers(-5, 100, (4, 5, 6)).astype("<i2")
STRAIGHT = [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]]
TURNED = [[0, -2, 0, 5], [1, 0, 0, 6], [0, 0, 3, 7]]
SHEARED = [[1, 0.5, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7]]
NAN, INFINITE = float("nan"), float("inf")


def nifti(
    path: Path,
    spacing: tuple = (1, 2, 3),
    qform: int = 1,
    sform: int = 1,
    quaternion: tuple = (0, 0, 0),
    offset: tuple = (0, 0, 0),
    matrix: list = STRAIGHT,
    slope: float = 1.0,
    intercept: float = 0.0,
    dims: tuple = (3, 6, 5, 4, 1, 1, 1, 1),
    order: str = "<",
) -> Path:
    """A file with this header (fields of nifti1.h) and VOXELS."""
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, *dims)
    struct.pack_into(f"{order}2h", head, 70, 4, 16)
    struct.pack_into(f"{order}8f", head, 76, 1.0, *spacing, 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", head, 108, 352.0, slope, intercept)
    head[123] = 2  # mm
    struct.pack_into(f"{order}2h", head, 252, qform, sform)
    struct.pack_into(f"{order}6f", head, 256, *quaternion, *offset)
    for row, values in enumerate(matrix):
        struct.pack_into(f"{order}4f", head, 280 + 16 * row, *values)
    head[344:348] = b"n+1\0"
    path.write_bytes(bytes(head) + VOXELS.astype(f"{order}i2").tobytes())
    return path


@pytest.fixture
def project(tmp_path: Path):
    with Project.create(
        tmp_path / "p", name="p", labels={"background": 0, "a": 1}, channels=["MRI"]
    ) as made:
        yield made


@pytest.mark.parametrize(
    ("header", "origin", "direction"),
    [
        ({}, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ({"order": ">"}, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ({"sform": 0, "offset": (10, 0, 0)}, (-10, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ({"qform": 0, "matrix": TURNED}, (-5, -6, 7), (0, 1, 0, -1, 0, 0, 0, 0, 1)),
        ({"qform": 0, "sform": 0}, (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
        # The two disagree: SimpleITK decides, so that image, label, model and viewer stay in one
        # place.
        ({"offset": (10, 0, 0)}, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ({"sform": 2, "matrix": TURNED}, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ({"matrix": SHEARED}, (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    ],
)
def test_orientations(
    project: Project, tmp_path: Path, header: dict, origin: tuple, direction: tuple
) -> None:
    project.cases.import_case("case", [nifti(tmp_path / "x.nii", **header)])
    image = sitk.ReadImage(str(project.cases.all()[0].images[0]))
    assert image.GetSpacing() == (1, 2, 3)
    assert image.GetOrigin() == pytest.approx(origin)
    assert image.GetDirection() == pytest.approx(direction)
    assert np.array_equal(sitk.GetArrayFromImage(image), VOXELS)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (2.0, 5.0, VOXELS * 2.0 + 5),
        (0.5, 0.0, VOXELS * 0.5),
        (0.0, 0.0, VOXELS),  # the standard: no scaling
        (NAN, 0.0, VOXELS),
        (INFINITE, 0.0, VOXELS),
        (1.0, NAN, VOXELS),
    ],
)
def test_scaled_voxels(
    project: Project, tmp_path: Path, slope: float, intercept: float, expected: np.ndarray
) -> None:
    project.cases.import_case("case", [nifti(tmp_path / "x.nii", slope=slope, intercept=intercept)])
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(project.cases.all()[0].images[0])))
    assert np.isfinite(stored).all()
    assert np.array_equal(stored, expected)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"qform": 0, "matrix": SHEARED}, "axes are not at right angles"),
        (
            {"qform": 0, "matrix": [[0] * 4] * 3},
            "axes are not at right angles, or its orientation is missing",
        ),
        ({"spacing": (NAN, 2, 3), "matrix": [[NAN, 0, 0, 0], *STRAIGHT[1:]]}, "direction nan"),
        ({"dims": (3, -6, 5, 4, 1, 1, 1, 1)}, "cannot be read"),
        ({"dims": (9, 6, 5, 4, 1, 1, 1, 1)}, "cannot be read"),
        ({"dims": (3, 6, 5, 40, 1, 1, 1, 1)}, "is cut off: 592 of 2752 bytes"),
    ],
)
def test_headers_that_cannot_be_used(
    project: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str], header: dict, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        project.cases.import_case("case", [nifti(tmp_path / "x.nii", **header)])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert project.cases.all() == []


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("code", "kind"), [(16, "f4"), (64, "f8")])
def test_voxels_that_are_no_numbers_although_itk_reads_zeros(
    project: Project, tmp_path: Path, order: str, code: int, kind: str
) -> None:
    head = bytearray(nifti(tmp_path / "x.nii", order=order).read_bytes()[:352])
    struct.pack_into(f"{order}2h", head, 70, code, 8 * int(kind[1]))
    voxels = VOXELS.astype(order + kind)
    good = tmp_path / "good.nii"
    good.write_bytes(bytes(head) + voxels.tobytes())
    voxels[1, 2, 3], voxels[3, 4, 5] = NAN, INFINITE
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(gzip.compress(bytes(head) + voxels.tobytes()))
    assert np.isfinite(sitk.GetArrayFromImage(sitk.ReadImage(str(bad)))).all()
    with pytest.raises(InputError, match="has 2 voxels that are NaN or infinite"):
        project.cases.import_case("bad", [bad])
    project.cases.import_case("good", [good])


@pytest.mark.parametrize("off", [0.005, 0.03, 0.08, 0.5])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_axes_not_quite_at_right_angles_are_read_below_a_twentieth_of_a_voxel(
    tmp_path, off, ending
):
    array = np.random.default_rng(0).integers(1, 1000, (6, 21, 31)).astype(np.int16)
    affine = np.diag([-0.8, -0.8, 3.0, 1.0])
    affine[0, 1] = off * 0.8 / 20
    file = tmp_path / f"s{ending}"
    image = nibabel.Nifti1Image(array.T, affine)
    image.set_sform(affine, 1)
    image.header["qform_code"] = 0
    nibabel.save(image, file)
    with Project.create(
        tmp_path / "p", name="p", labels={"background": 0, "a": 1}, channels=["CT"]
    ) as project:
        if off >= 0.05:
            with pytest.raises(
                InputError, match="so that voxels are up to .* voxels off.*Resample"
            ):
                project.cases.import_case("s", [file])
            return
        project.cases.import_case("s", [file])
        (kept,) = project.cases.all()[0].images
        assert kept.name == "s_0000.mha"
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(kept))), array)
