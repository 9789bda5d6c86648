"""A real service in a process of its own, and small real projects in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from running import Service

SHAPE = (4, 40, 48)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path / "root")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of a file that leave it as it was."""
    running = Service(tmp_path_factory.mktemp("common") / "root")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a small scan with a bright disc, and gives its file."""
    folder = tmp_path_factory.mktemp("scans")

    def write(name: str, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Path:
        generator = np.random.default_rng(seed)
        rows, cols = np.mgrid[: shape[1], : shape[2]]
        disc = (rows - shape[1] / 2) ** 2 + (cols - shape[2] / 2) ** 2 < 80
        voxels = generator.normal(100, 10, shape) + 200 * disc
        image = sitk.GetImageFromArray(voxels.astype(np.int16))
        image.SetSpacing((0.8, 0.8, 3.0))
        file = folder / name
        sitk.WriteImage(image, str(file), True)
        return file

    return write
