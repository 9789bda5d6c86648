"""A volume of the scene as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer


def write_volume(volume: Any, file: Path) -> None:
    """Write the voxels of a volume node on its own grid, without the transforms above it.

    Raises:
        OSError: the file cannot be written.
    """
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(file))
    storage.SetUseCompression(False)  # the agent packs what it sends
    if not storage.WriteData(volume):
        raise OSError(f"{volume.GetName()} cannot be written to {file.parent}.")
