"""Maps are unpacked once: a slice of one costs no more than the reading of that slice."""

from __future__ import annotations

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


def test_the_second_look_maps_what_the_first_unpacked(given: Files, tmp_path: Path) -> None:
    file, voxels = image(tmp_path, 1)
    assert np.array_equal(given.voxels(file), voxels)
    again = given.voxels(file)
    assert isinstance(again, np.memmap) and np.array_equal(again, voxels)


def test_only_the_last_used_are_kept(
    given: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_KEPT_UNPACKED", 2)
    made = [image(tmp_path, seed) for seed in range(4)]
    for file, voxels in made:
        assert np.array_equal(given.voxels(file), voxels)
        given.voxels(made[0][0])  # a person goes on with this one
    assert len(list((tmp_path / "root").rglob("*.npy"))) == 2
    assert isinstance(given.voxels(made[0][0]), np.memmap)
    assert not isinstance(given.voxels(made[1][0]), np.memmap)


def test_a_full_disk_keeps_nobody_from_looking(
    small_disk: Path, fill: Callable[[int], Path], tmp_path: Path
) -> None:
    given = Files(ServiceSettings(small_disk / "root", "token"))
    file, voxels = image(tmp_path, 1, (40, 100, 100))
    fill(256)
    for _ in range(2):
        assert np.array_equal(given.voxels(file), voxels)
    assert not list(small_disk.rglob("*.npy"))
