"""Maps are unpacked once: a slice of one costs no more than the reading of that slice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.serve import files
from alunet.serve.files import Files
from alunet.serve.settings import ServiceSettings


@pytest.fixture
def given(tmp_path: Path) -> Files:
    return Files(ServiceSettings(tmp_path / "root", "token"))


def image(
    folder: Path, seed: int, shape: tuple[int, int, int] = (4, 5, 6)
) -> tuple[Path, np.ndarray]:
    voxels = np.random.default_rng(seed).random(shape).astype(np.float32)
    file = folder / f"{seed}.mha"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file), True)
    return file, voxels


def whole(shape: tuple[int, int, int] = (4, 5, 6)) -> tuple[slice, slice, slice]:
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def packed(file: Path) -> np.ndarray:
    raise AssertionError(f"{file} was unpacked again")


def test_the_second_look_reads_what_the_first_unpacked(
    given: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, voxels = image(tmp_path, 1)
    assert np.array_equal(given.voxels(file, whole()), voxels)
    monkeypatch.setattr(files, "read_image", packed)
    assert np.array_equal(given.voxels(file, whole()), voxels)
    part = slice(1, 3), slice(2, 5), slice(0, 4)
    assert np.array_equal(given.voxels(file, part), voxels[part])


def test_a_copy_that_was_cut_short_is_made_again(given: Files, tmp_path: Path) -> None:
    """Mapped, it would end the process."""
    file, voxels = image(tmp_path, 1)
    given.voxels(file, whole())
    (copy,) = (tmp_path / "root").rglob("*.npy")
    for size in (copy.stat().st_size - 4, 100, 3, 0):
        os.truncate(copy, size)
        assert np.array_equal(given.voxels(file, whole()), voxels)
        assert copy.stat().st_size > 400


def test_only_the_last_used_are_kept(
    given: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_KEPT_UNPACKED", 2)
    made = [image(tmp_path, seed) for seed in range(4)]
    for file, voxels in made:
        assert np.array_equal(given.voxels(file, whole()), voxels)
        given.voxels(made[0][0], whole())  # a person goes on with this one
    assert len(list((tmp_path / "root").rglob("*.npy"))) == 2
    monkeypatch.setattr(files, "read_image", packed)
    given.voxels(made[0][0], whole())
    with pytest.raises(AssertionError, match="unpacked again"):
        given.voxels(made[1][0], whole())


def test_a_full_disk_keeps_nobody_from_looking(
    small_disk: Path, fill: Callable[[int], Path], tmp_path: Path
) -> None:
    given, shape = Files(ServiceSettings(small_disk / "root", "token")), (40, 100, 100)
    file, voxels = image(tmp_path, 1, shape)
    fill(256)
    for _ in range(2):
        assert np.array_equal(given.voxels(file, whole(shape)), voxels)
    assert not list(small_disk.rglob("*.npy"))


def test_each_of_several_forms_is_made_that_are_asked_for_at_once(
    given: Files, tmp_path: Path
) -> None:
    file, voxels = image(tmp_path, 1)

    async def asked() -> list[Path]:
        forms = ("nrrd", "nii.gz", "nrrd")
        return await asyncio.gather(*(given._in_form(file, form) for form in forms))

    first, second, again = asyncio.run(asked())
    assert first == again and first != second
    for made in (first, second):
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(made))), voxels)
