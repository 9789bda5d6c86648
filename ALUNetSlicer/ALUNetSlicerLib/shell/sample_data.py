"""A small made-up data set for Slicer's module Sample Data: organs with lesions, made on the
spot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

CATEGORY, NAME = "ALUNet", "ALUNet phantom"
CASES = 4
SHAPE, SPACING = (20, 64, 64), (1.0, 1.0, 3.0)
"""Voxels (k, j, i), and mm along i, j and k."""


def phantom(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A case: a body with an organ, and in all but each third case a small lesion in it.

    Args:
        number: of the case; the same number gives the same voxels.

    Returns:
        Intensities, int16, and labels, uint8 (1 organ, 2 lesion), both of `SHAPE`.
    """
    random = np.random.default_rng(number)
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in SHAPE], indexing="ij")
    shift = random.uniform(-0.12, 0.12, 3)
    organ = ((k - shift[0]) / 0.8) ** 2 + ((j - shift[1]) / 0.5) ** 2 + (
        (i - shift[2]) / 0.4
    ) ** 2 < 1
    center = shift + random.uniform(-0.12, 0.12, 3)
    lesion = (k - center[0]) ** 2 * 3 + (j - center[1]) ** 2 + (i - center[2]) ** 2 < 0.025 * (
        number % 3 > 0
    )
    body = (j / 0.92) ** 2 + (i / 0.85) ** 2 < 1
    voxels = (
        550.0 * body + 250 * organ - 320 * (organ & lesion) + 60 * i + random.normal(0, 50, SHAPE)
    )
    return voxels.astype(np.int16), np.where(organ & lesion, 2, organ).astype(np.uint8)


def load(_source: Any = None) -> list[Any]:
    """Put the cases into the scene; gives their volume nodes."""
    nodes = []
    for number in range(CASES):
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", f"Phantom {number + 1}"
        )
        node.SetSpacing(*SPACING)
        slicer.util.updateVolumeFromArray(node, phantom(number)[0])
        node.CreateDefaultDisplayNodes()
        nodes.append(node)
    return nodes


def register(icon: str) -> None:
    """Offer it in the module Sample Data."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=icon,
        customDownloader=load,
        uris=[None],
        fileNames=[None],
        nodeNames=[NAME],
        loadFiles=[False],
    )
