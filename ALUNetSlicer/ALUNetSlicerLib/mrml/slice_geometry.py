"""Where a slice of the pool lies in a volume, and how a view shows exactly it.

The engine counts array axes (k, j, i); VTK counts voxel indices (i, j, k). They meet here and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import vtk

_PRESETS = ("Sagittal", "Coronal", "Axial")


@dataclass(frozen=True)
class Box:
    """The voxels of one sample: one slice, or the part of it that is asked for.

    Args:
        axis: of the array (k, j, i) that is sliced: 0, 1 or 2.
        bounds: [low, high) along k, j and i; of one voxel along `axis`.

    Raises:
        ValueError: the bounds are none of a slice across that axis.
    """

    axis: int
    bounds: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.bounds) != 3 or any(low < 0 or high <= low for low, high in self.bounds):
            raise ValueError(f"{self.bounds} are no bounds of voxels.")
        if self.axis not in (0, 1, 2) or self.bounds[self.axis][1] - self.bounds[self.axis][0] != 1:
            raise ValueError(f"{self.bounds} are not one slice across axis {self.axis}.")

    @classmethod
    def of(cls, axis: int, bounds: Sequence[Sequence[int]]) -> Box:
        """The box of bounds that were read from JSON."""
        return cls(axis, tuple((int(low), int(high)) for low, high in bounds))

    @property
    def index(self) -> int:
        """Number of the slice across its axis."""
        return self.bounds[self.axis][0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (k, j, i)."""
        k, j, i = (high - low for low, high in self.bounds)
        return k, j, i

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index of the volume's array."""
        return tuple(slice(low, high) for low, high in self.bounds)

    @property
    def extent(self) -> tuple[int, ...]:
        """VTK's extent: first and last voxel along i, j and k."""
        return tuple(bound for low, high in reversed(self.bounds) for bound in (low, high - 1))

    def fits(self, dimensions: Sequence[int]) -> bool:
        """Whether it lies inside a volume of these dimensions (i, j, k)."""
        return all(
            high <= size
            for (_, high), size in zip(self.bounds, reversed(list(dimensions)), strict=True)
        )


def ijk_to_world(volume: object) -> vtk.vtkMatrix4x4:
    """Voxel index (i, j, k) of a volume node to world coordinates, mm, RAS; with its transforms.

    Raises:
        ValueError: a transform is not linear.
    """
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    transform = volume.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise ValueError(
                f"{volume.GetName()} is under a transform that is not linear: harden it first."
            )
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        vtk.vtkMatrix4x4.Multiply4x4(to_world, matrix, matrix)
    return matrix


def show_slice(slice_node: object, volume: object, axis: int, index: int) -> None:
    """Align a slice view with a volume and show exactly one voxel slice, whatever the volume's
    orientation.

    Args:
        slice_node: of the view.
        volume: node of the case.
        axis: of the array (k, j, i).
        index: of the slice across it.

    Raises:
        ValueError: a transform of the volume is not linear.
    """
    matrix, column = ijk_to_world(volume), 2 - axis
    steps = [abs(matrix.GetElement(row, column)) for row in range(3)]
    # The axes in the plane follow what the view showed before: begin with the same each time.
    slice_node.SetOrientation(_PRESETS[steps.index(max(steps))])
    slice_node.RotateToAxes(matrix, column)
    voxel = [0.0, 0.0, 0.0, 1.0]
    voxel[column] = float(index)
    world = matrix.MultiplyPoint(voxel)
    to_ras = slice_node.GetSliceToRAS()
    slice_node.SetSliceOffset(sum(to_ras.GetElement(row, 2) * world[row] for row in range(3)))


def center(volume: object, box: Box) -> tuple[float, float, float]:
    """The middle of a box of a volume in world coordinates, mm, RAS.

    Raises:
        ValueError: a transform of the volume is not linear.
    """
    middle = [(low + high - 1) / 2 for low, high in reversed(box.bounds)]
    r, a, s, _ = ijk_to_world(volume).MultiplyPoint([*middle, 1.0])
    return r, a, s


def slice_shown(slice_node: object, volume: object) -> tuple[int, int]:
    """The voxel slice of a volume that a view shows, or the one nearest to it.

    Returns:
        Axis of the array (k, j, i) that is across the view, and the index of the slice, inside the
        volume.

    Raises:
        ValueError: a transform of the volume is not linear.
    """
    to_voxel = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(ijk_to_world(volume), to_voxel)
    vtk.vtkMatrix4x4.Multiply4x4(to_voxel, slice_node.GetSliceToRAS(), to_voxel)
    across = [
        abs(to_voxel.GetElement(row, 2)) * size for row, size in enumerate(volume.GetSpacing())
    ]
    column = across.index(max(across))
    most = volume.GetImageData().GetDimensions()[column] - 1
    return 2 - column, min(max(round(to_voxel.GetElement(column, 3)), 0), most)
