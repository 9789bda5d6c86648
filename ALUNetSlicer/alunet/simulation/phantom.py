"""A small made-up data set, so that the whole loop can be seen and tested without anybody's images.

Each case is a body of 20 slices with a large organ, easy to find and in most slices, and, in two of
three cases, a small lesion in it, in a few slices. Cysts in the organ and nodules outside have the
intensities of the two but carry no label. Bias field, noise, gain, shape and orientation differ
from case to case. A strategy that finds the rare, doubtful slices has something to win here; one
that spreads its budget evenly sees few lesions.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import distance_transform_edt, gaussian_filter

from alunet.errors import InputError

SHAPE = (20, 64, 64)
"""Voxels of a case in numpy order: slices, rows, columns."""
SPACING = (3.0, 1.0, 1.0)
"""Millimetres between voxel centres, in the same order."""
LABELS = {"background": 0, "organ": 1, "lesion": 2}

# Mean intensities before gain, bias and noise. Lesion and cyst are alike but for size.
_BODY, _ORGAN, _LESION, _CYST, _VESSEL = 0.55, 0.80, 0.48, 0.42, 0.95
_NOISE = 0.05


def make_phantom(folder: str | Path, cases: int = 14, seed: int = 0) -> Path:
    """Write a labelled phantom data set in the layout of the Medical Segmentation Decathlon.

    Args:
        folder: where to; it must not exist yet, or be empty.
        cases: how many, at least 2. All but the first, fourth, seventh ... have a lesion.
        seed: the same seed and number of cases give the same voxels.

    Returns:
        The folder, with `dataset.json`, `imagesTr` (int16) and `labelsTr` (uint8): 3D volumes in
        NIfTI, 20 slices of 3 mm with 64 x 64 voxels of 1 mm, some flipped or oblique. It appears
        whole or not at all.

    Raises:
        InputError: the number of cases or the seed cannot be used, or the folder holds something
            already.
    """
    folder = Path(folder)
    _check(folder, cases, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_dataset(scratch, cases, seed)
        if folder.exists():
            folder.rmdir()
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    folder.chmod(0o755)  # mkdtemp keeps others out
    return folder


def _check(folder: Path, cases: int, seed: int) -> None:
    """Raise InputError for what `make_phantom` cannot use."""
    if cases < 2:
        raise InputError(f"A phantom data set of {cases} cases is too small.", "Ask for 2 or more.")
    if seed < 0:
        raise InputError(f"{seed} is no seed.", "Take a whole number from 0 on.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} exists and is not empty.", "Name a new folder for the phantom data set."
        )


def _write_dataset(folder: Path, cases: int, seed: int) -> None:
    """All cases and the description."""
    names = [f"phantom_{number:03d}" for number in range(1, cases + 1)]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index, name in enumerate(names):
        image, label = make_case(np.random.default_rng([seed, index]), with_lesion=index % 3 > 0)
        sitk.WriteImage(image, str(folder / "imagesTr" / f"{name}.nii.gz"))
        sitk.WriteImage(label, str(folder / "labelsTr" / f"{name}.nii.gz"))
    description = {
        "name": "Phantom",
        "description": f"made-up volumes of ALUNet, seed {seed}, with a large organ and a small "
        f"lesion",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {str(value): label for label, value in LABELS.items()},
        "numTraining": cases,
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names
        ],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=2), encoding="utf-8")


def make_case(rng: np.random.Generator, with_lesion: bool) -> tuple[sitk.Image, sitk.Image]:
    """One case: image (int16, arbitrary units, 0 outside the body) and label (uint8) on the same
    grid.
    """
    anatomy = _Anatomy.draw(rng)
    label = anatomy.organ.astype(np.uint8) * LABELS["organ"]
    lesion = anatomy.lesion(rng) if with_lesion else np.zeros(SHAPE, dtype=bool)
    label[lesion] = LABELS["lesion"]
    intensity = anatomy.intensity(rng)
    intensity[lesion] = _LESION
    return _place(_acquire(intensity, anatomy.body, rng), label, rng)


def _grid() -> np.ndarray:
    """Voxel centres in mm from the centre of the volume, float64 (3, slices, rows, columns)."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(SHAPE, SPACING, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _smooth_noise(rng: np.random.Generator, millimetres: float) -> np.ndarray:
    """Random field of unit variance, correlated over so many mm in each direction."""
    noise = gaussian_filter(rng.standard_normal(SHAPE), [millimetres / step for step in SPACING])
    return noise / noise.std()


def _blob(centre: np.ndarray, radii: np.ndarray, bumps: np.ndarray | float = 0.0) -> np.ndarray:
    """Voxels of an ellipsoid given in mm; `bumps` moves its surface, relative to the radius."""
    offset = (_grid() - centre[:, None, None, None]) / radii[:, None, None, None]
    return np.sqrt((offset**2).sum(axis=0)) < 1 + bumps


def _random_point(rng: np.random.Generator, inside: np.ndarray) -> np.ndarray:
    """Centre, in mm, of a random voxel of the mask."""
    voxel = rng.choice(np.flatnonzero(inside))
    return _grid().reshape(3, -1)[:, voxel]


@dataclass(frozen=True)
class _Anatomy:
    """Body and organ of a case, boolean masks of SHAPE."""

    body: np.ndarray
    organ: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Anatomy:
        """A body that leaves the outer slices and columns empty, and a bumpy organ in one half
        of it.
        """
        body = _blob(rng.uniform(-1, 1, 3), np.array([29, 29, 27]) * rng.uniform(0.92, 1.05, 3))
        centre = np.array([0, -1, -5]) + rng.uniform(-3, 3, 3)
        radii = np.array([19, 15, 13]) * rng.uniform(0.8, 1.15, 3)
        organ = _blob(centre, radii, 0.12 * _smooth_noise(rng, 8))
        return cls(body, organ & body)

    def rim(self, depth: float) -> np.ndarray:
        """The organ's voxels within about `depth` mm of its surface."""
        return self.organ & (distance_transform_edt(self.organ, SPACING) <= depth)

    def lesion(self, rng: np.random.Generator) -> np.ndarray:
        """One small lesion of uneven shape within the organ."""
        radii = np.array([5.5, 5.0, 5.0]) * rng.uniform(0.8, 1.3, 3)
        bumps = 0.2 * _smooth_noise(rng, 3)
        deep = self.organ & ~self.rim(4)
        return _blob(_random_point(rng, deep), radii, bumps) & self.organ

    def intensity(self, rng: np.random.Generator) -> np.ndarray:
        """Mean intensities with texture, float64 SHAPE, and the look-alikes that carry no label."""
        image = np.where(self.organ, _ORGAN, _BODY) + 0.03 * _smooth_noise(rng, 2)
        outside = self.body & (distance_transform_edt(~self.organ, SPACING) > 6)
        for value, where, radius, count in (
            (_ORGAN, outside, 5.0, 3),  # nodules as bright as the organ
            (_LESION, outside, 4.5, 2),  # nodules as bright as a lesion
            (_CYST, self.organ & ~self.rim(3), 2.2, 2),  # smaller than a lesion
            (_VESSEL, self.organ, 2.0, 3),
        ):
            for _ in range(count):
                blob = _blob(_random_point(rng, where), radius * rng.uniform(0.8, 1.2, 3))
                image[blob & self._home(where)] = value
        return image

    def _home(self, where: np.ndarray) -> np.ndarray:
        """The side of the organ's surface on which the mask lies: look-alikes do not cross it."""
        return self.organ if (where & self.organ).any() else ~self.organ


def _acquire(intensity: np.ndarray, body: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a scanner makes of it: blur, bias field, noise and gain, int16; voxels outside the
    body are 0.
    """
    blurred = gaussian_filter(intensity, [0.2, 0.6, 0.6])
    z, y, x = _grid() / 30
    slope = rng.uniform(-0.25, 0.25, 4)
    bias = np.exp(slope[0] * x + slope[1] * y + slope[2] * z + slope[3] * x * y)
    noisy = blurred * bias + _NOISE * rng.standard_normal(SHAPE)
    return np.where(body, np.clip(noisy * rng.uniform(350, 700), 1, 32000), 0).astype(np.int16)


def _place(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> tuple[sitk.Image, sitk.Image]:
    """Put the voxels into the patient's space: a quarter straight, the others flipped, oblique,
    or both.
    """
    direction = np.eye(3)
    if rng.random() < 0.5:
        axis = int(rng.integers(1, 3))  # rows or columns run the other way
        image, label = np.flip(image, axis), np.flip(label, axis)
        direction[:, 2 - axis] *= -1
    if rng.random() < 0.5:
        direction = (
            _rotation(rng.uniform(-0.4, 0.4), 0) @ _rotation(rng.uniform(-0.3, 0.3), 2) @ direction
        )
    spacing = np.array(SPACING[::-1])
    origin = rng.uniform(-50, 50, 3) - direction @ (spacing * (np.array(SHAPE[::-1]) - 1) / 2)
    return _volume(image, origin, direction), _volume(label, origin, direction)


def _rotation(angle: float, axis: int) -> np.ndarray:
    """Rotation by so many radians about a patient axis, (3, 3)."""
    first, second = (index for index in range(3) if index != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def _volume(voxels: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> sitk.Image:
    """The array as an image with its geometry (ITK's: x, y, z; LPS)."""
    volume = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    volume.SetSpacing(SPACING[::-1])
    volume.SetOrigin(origin.tolist())
    volume.SetDirection(direction.ravel().tolist())
    return volume
