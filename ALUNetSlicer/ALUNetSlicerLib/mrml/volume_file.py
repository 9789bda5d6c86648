"""A volume of the scene as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk


def write_volume(volume: Any, file: Path) -> None:
    """Write the voxels of a volume node on its own grid, without the transforms above it.

    Name and attributes of the node, which may come from DICOM, are not written.

    Raises:
        OSError: the file cannot be written.
        ValueError: the node has no voxels, or several values in each.
    """
    image = volume.GetImageData() if volume.IsA("vtkMRMLVolumeNode") else None
    if image is None or image.GetNumberOfPoints() == 0:
        raise ValueError(f"'{volume.GetName()}' has no voxels.")
    if image.GetNumberOfScalarComponents() != 1:
        raise ValueError(f"'{volume.GetName()}' holds colors or vectors, not one value a voxel.")
    bare, matrix = slicer.vtkMRMLScalarVolumeNode(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    bare.SetIJKToRASMatrix(matrix)
    bare.SetAndObserveImageData(image)
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(file))
    storage.SetUseCompression(False)  # the agent packs what it sends
    if not storage.WriteData(bare):
        raise OSError(f"{volume.GetName()} cannot be written to {file.parent}.")
