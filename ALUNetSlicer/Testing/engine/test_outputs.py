"""Images written on the grid of a real image, exactly, in every format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from alunet.errors import InputError
from alunet.imaging.grids import Grid, displacement
from alunet.imaging.reading import ending_of, grid_of, read_image
from alunet.imaging.writing import WRITTEN_ENDINGS, write_like


def random_map(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.random.default_rng(5).random(shape) * 7).astype(dtype)


def written(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def real_images(folder: Path) -> list[Path]:
    """All readable scalar 3D files of the collection of odd geometries, and one of each data
    set.
    """
    chosen = [*sorted((folder / "geometry_cases").rglob("*"))]
    for name in ("Task04_Hippocampus", "ACDC_cardiac_MR", "ProstateX_one", "DICOM_ct3slice_seg"):
        files = (
            file
            for file in sorted((folder / name).rglob("*"))
            if ending_of(file) in WRITTEN_ENDINGS
        )
        chosen.append(next(files))
    found = []
    for file in chosen:
        try:
            image = read_image(file)
        except InputError:
            continue
        if image.GetDimension() == 3 and image.GetNumberOfComponentsPerPixel() == 1:
            found.append(file)
    return found


@pytest.mark.slow
def test_real_images_of_every_geometry(real_data, tmp_path):
    """To the last bit, but where NRRD multiplies spacing and direction, or NIfTI rounds what was
    none.
    """
    files = real_images(real_data)
    assert len(files) >= 12
    for file in files:
        grid = grid_of(file)
        for ending, dtype in zip(WRITTEN_ENDINGS, ("uint8", "uint16", "float32"), strict=True):
            array = random_map(grid.shape, dtype)
            write_like(array, file, tmp_path / f"map{ending}")
            back = written(tmp_path / f"map{ending}")
            values = sitk.GetArrayFromImage(back)
            assert values.dtype == array.dtype and np.array_equal(values, array), (file, ending)
            off = displacement(grid, Grid.of(back))
            if ending in (".mha", ending_of(file)):
                assert Grid.of(back) == grid, (file, ending)
            else:
                assert off < (1e-4 if ending == ".nii.gz" else 1e-12), (file, ending, off)


FIELDS_OF_PLACE = [(40, 56), (76, 108), (123, 124), (252, 328)]
"""dim; pixdim with its handedness; units; qform and sform with their codes."""


def test_nifti_from_nifti_keeps_the_bytes_of_the_geometry(real_data, tmp_path):
    """Any program reads the same place from both, however it weighs qform against sform."""
    for file in real_images(real_data):
        if ending_of(file) != ".nii.gz":
            continue
        write_like(random_map(grid_of(file).shape, "uint8"), file, tmp_path / "map.nii.gz")
        old, new = (
            gzip.decompress(path.read_bytes())[:352] for path in (file, tmp_path / "map.nii.gz")
        )
        assert all(old[low:high] == new[low:high] for low, high in FIELDS_OF_PLACE), file


@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_with_two_different_transforms_scaling_and_extension(tmp_path, order):
    """A file that SimpleITK would not write: its own byte order, qform unlike sform, scaled
    voxels, an extension.
    """
    header = bytearray(348)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", header, 70, 4, 16)
    struct.pack_into(f"{order}8f", header, 76, -1, 0.7, 1.3, 2.9, 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", header, 108, 368, 2.5, -4)
    struct.pack_into("B", header, 123, 2)
    struct.pack_into(f"{order}2h", header, 252, 1, 2)
    struct.pack_into(f"{order}6f", header, 256, 0.1, 0.2, 0.3, -50, 20, 7)
    struct.pack_into(f"{order}12f", header, 280, 0.7, 0, 0, -5, 0, 1.3, 0, 6, 0, 0, 2.9, 8)
    header[344:348] = b"n+1\0"
    extension = b"\1\0\0\0" + struct.pack(f"{order}2i", 16, 6) + b"comment\0"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(header) + extension + bytes(48)))
    array = random_map((2, 3, 4), "uint16")
    write_like(array, tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    new = gzip.decompress((tmp_path / "b.nii.gz").read_bytes())
    assert all(header[low:high] == new[low:high] for low, high in FIELDS_OF_PLACE)
    assert np.array_equal(np.frombuffer(new[352:], order + "u2").reshape(array.shape), array)
    back = written(tmp_path / "b.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(back), array)
    assert Grid.of(back) == grid_of(tmp_path / "a.nii.gz")


def test_nrrd_from_nrrd_keeps_its_own_coordinates(tmp_path):
    lines = [
        "NRRD0005",
        "type: short",
        "dimension: 3",
        "space: right-anterior-superior",
        "sizes: 4 3 2",
        "space directions: (0.1,0.2,0.30000000000000004) (0,1.1,0) (0.123456789,0,3.3)",
        "endian: little",
        "kinds: space space space",
        "encoding: raw",
        "space origin: (1e-3,-7.77,3.3333333333333335)",
    ]
    (tmp_path / "a.nrrd").write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n" + bytes(48))
    write_like(random_map((2, 3, 4), "float32"), tmp_path / "a.nrrd", tmp_path / "b.nrrd")
    header = (tmp_path / "b.nrrd").read_bytes().split(b"\n\n")[0].decode().splitlines()
    assert {line for line in lines if line.startswith(("space", "kinds"))} <= set(header)
    assert grid_of(tmp_path / "b.nrrd") == grid_of(tmp_path / "a.nrrd")


numbers = st.floats(-500, 500)


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(numbers, numbers, numbers),
    spacing=st.tuples(*[st.floats(0.05, 9)] * 3),
    origin=st.tuples(numbers, numbers, numbers),
    flip=st.booleans(),
)
def test_any_oblique_geometry(tmp_path_factory, angles, spacing, origin, flip):
    """MetaImage: the same bits. NRRD: below 1e-12 of a voxel (asked: 1e-6). NIfTI: single
    precision, by its form.
    """
    folder = tmp_path_factory.mktemp("oblique")
    image = sitk.GetImageFromArray(np.zeros((30, 40, 50), np.uint8))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    direction = Rotation.from_euler("xyz", angles).as_matrix() * [1, 1, -1 if flip else 1]
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(folder / "a.mha"))
    grid = grid_of(folder / "a.mha")
    off = {}
    for ending in WRITTEN_ENDINGS:
        write_like(np.zeros((30, 40, 50), np.uint8), folder / "a.mha", folder / f"b{ending}")
        off[ending] = displacement(grid, grid_of(folder / f"b{ending}"))
    assert grid_of(folder / "b.mha") == grid
    assert off[".nrrd"] < 1e-12 * (1 + max(map(abs, origin)) / min(spacing))
    assert off[".nii.gz"] < 1e-3


def test_a_geometry_that_nifti_cannot_hold_is_refused(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
    image.SetOrigin((1e7 + 0.25, 0, 0))
    sitk.WriteImage(image, str(tmp_path / "far.mha"))
    sheared = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
    sheared.SetDirection([1, 0.3, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(sheared, str(tmp_path / "sheared.mha"))
    array = np.zeros((2, 3, 4), np.uint8)
    for name in ("far", "sheared"):
        write_like(array, tmp_path / f"{name}.mha", tmp_path / f"{name}.nrrd")
        assert (
            displacement(grid_of(tmp_path / f"{name}.mha"), grid_of(tmp_path / f"{name}.nrrd"))
            < 1e-9
        )
        with pytest.raises(InputError, match=r"Write .nrrd or .mha"):
            write_like(array, tmp_path / f"{name}.mha", tmp_path / f"{name}.nii.gz")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "far.mha",
        "far.nrrd",
        "sheared.mha",
        "sheared.nrrd",
    ]


def test_files_are_the_same_bytes_each_time(tmp_path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(tmp_path / "a.nii.gz")
    )
    for ending in WRITTEN_ENDINGS:
        for name in "bc":
            write_like(
                random_map((2, 3, 4), "uint8"), tmp_path / "a.nii.gz", tmp_path / f"{name}{ending}"
            )
        assert (tmp_path / f"b{ending}").read_bytes() == (tmp_path / f"c{ending}").read_bytes()
