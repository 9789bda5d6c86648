"""Images below a network's smallest size, volumes of one slice, and more than a hundred structures:
whole rounds, in child processes as ever.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.loop import outputs
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.setup import Setup, create
from alunet.project import Project

pytestmark = pytest.mark.slow

SETUP = Setup(epochs=1, iterations=2, device="cpu")
MANY = 120


def save(array: np.ndarray, path: Path, spacing: tuple[float, ...] = (1.0, 1.0, 3.0)) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path), True)
    return path


def scan(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image, brighter in its structure, and the label map."""
    label = np.zeros(shape, np.uint8)
    label.reshape(-1)[: max(1, label.size // 3)] = 1
    noise = np.random.default_rng(seed).integers(0, 30, shape)
    return (100 + 80 * label + noise).astype(np.uint8), label


def a_round(project: Project, label: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """Plan, annotate the first case whole, learn, ask the model for more, segment and export."""
    annotation = AnnotationLoop(project)
    annotation.plan()
    first, *_ = project.pool.cases
    annotation.annotate(first, label, all_slices=True)
    done = annotation.next_round(budget=1)
    assert done.record is not None
    assert done.worklist is not None
    assert done.worklist.strategy == "usimf"
    files = outputs.predict(annotation.loop, [], tmp_path / "out", ".nii.gz")
    outputs.uncertainty(annotation.loop, first, tmp_path / "map.nii.gz", "entropy")
    outputs.export_model(annotation.loop, tmp_path / "model.zip")
    outputs.export_labels(project, [], tmp_path / "labels", ".nrrd")
    return {
        file.name.split(".")[0]: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files
    }


@pytest.mark.parametrize(
    ("shape", "ending"),
    [
        ((6, 1, 1), ".nrrd"),
        ((4, 3, 5), ".nii.gz"),
        ((5, 7), ".png"),
    ],
    ids=str,
)
def test_a_round_works_on_the_smallest_images(tmp_path, shape, ending):
    labels = {"background": 0, "a": 1}
    with create(tmp_path / "p", name="p", labels=labels, channels=["MRI"], setup=SETUP) as project:
        for number in range(3):
            image, label = scan(shape, number)
            project.cases.import_case(f"c{number}", [save(image, tmp_path / f"c{number}{ending}")])
            save(label, tmp_path / f"l{number}{ending}")
        found = a_round(project, tmp_path / f"l0{ending}", tmp_path)
        whole = shape if len(shape) == 3 else (1, *shape)
        assert {name: array.shape for name, array in found.items()} == dict.fromkeys(
            ("c0", "c1", "c2"), whole
        )


def test_a_round_works_with_more_than_a_hundred_structures(tmp_path):
    labels = {"background": 0} | {f"organ {number}": number for number in range(1, MANY + 1)}
    k, j, i = np.indices((2, 64, 64))
    label = ((k * 64 + j // 8 * 8 + i // 8) % (MANY + 1)).astype(np.uint8)
    noise = np.random.default_rng(0)
    with create(tmp_path / "p", name="p", labels=labels, channels=["CT"], setup=SETUP) as project:
        for number in range(2):
            image = (label * 8.0 + noise.normal(0, 5, label.shape)).astype(np.int16)
            project.cases.import_case(f"c{number}", [save(image, tmp_path / f"c{number}.nrrd")])
        found = a_round(project, save(label, tmp_path / "l.nrrd"), tmp_path)
        assert sum(count > 0 for count in project.annotations.class_voxels()) == MANY + 1
        assert found["c1"].shape == label.shape
        exported = sitk.ReadImage(str(tmp_path / "labels" / "c0.nrrd"))
        assert np.array_equal(sitk.GetArrayFromImage(exported), label)
