"""Volumes of the scene that may become cases: which plausibly belong to a project, and why the
others do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from ALUNetSlicerLib.mrml.case_nodes import owner_of

_LOOKED_AT = 100_000
"""So many voxels are looked at, spread over the volume."""
_FEW = 12
"""So many different whole numbers, or fewer, are labels."""
_AIR, _BONE = -200, 300
"""What a CT has less than and more than, Hounsfield units."""
_MADE = re.compile(r"\b(output|uncertainty|prediction|segmented|result)\b", re.IGNORECASE)
_SEQUENCES = {
    "t1c": "T1c", "t1ce": "T1c", "t1gd": "T1c", "t1": "T1", "t1w": "T1", "t1n": "T1",
    "t2": "T2", "t2w": "T2", "flair": "FLAIR", "t2f": "FLAIR", "pd": "PD", "adc": "ADC",
    "dwi": "DWI", "swi": "SWI", "ct": "CT", "pet": "PET", "us": "US",
}  # fmt: skip
"""Words in the names of volumes, and the channel that they stand for."""


class Doubt(Enum):
    """Why a volume may not belong to a project."""

    EMPTY = "has no voxels"
    LABEL_MAP = "a label map"
    COLORS = "colors or vectors"
    OTHERS = "a case of another project"
    FRAME = "a frame of a sequence"
    RESULT = "made by a module"
    FLAT = "one line of voxels"
    LABELS = "holds labels, it seems"


_NEVER = (Doubt.EMPTY, Doubt.LABEL_MAP, Doubt.COLORS)
"""With these a volume cannot be a case."""


@dataclass(frozen=True)
class Candidate:
    """A volume of the scene that is no case of the project yet.

    Attributes:
        node: its volume node.
        doubt: why it may not belong; None where it plausibly does.
        owner: id of the other project that has it as a case; empty for none.
        sequence: name of the sequence that it is a frame of; empty for none.
    """

    node: Any
    doubt: Doubt | None = None
    owner: str = ""
    sequence: str = ""

    @property
    def usable(self) -> bool:
        """Whether a person may take it all the same."""
        return self.doubt not in _NEVER

    @property
    def name(self) -> str:
        """As a person knows it."""
        return str(self.node.GetName() or "")


def candidates(project: str) -> list[Candidate]:
    """The volumes of the scene that people see and that are no cases of a project.

    Args:
        project: id; empty for one that is still to be made.
    """
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    shown = [node for node in nodes if not node.GetHideFromEditors()]
    return [_look_at(node) for node in shown if not project or owner_of(node)[0] != project]


def guess_channels(volumes: Sequence[Any]) -> list[str]:
    """Name the channels of a case by the names of volume nodes and their values; none for no
    volumes.
    """
    if not volumes:
        return []
    found = [_sequence(volume) for volume in volumes]
    names = [name for name in dict.fromkeys(found) if name]
    if names and all(found.count(name) * len(names) == len(volumes) for name in names):
        return names  # each case has one of each
    if len(names) == 1:
        return names
    low, high = volumes[0].GetImageData().GetScalarRange()
    return ["CT"] if low < _AIR and high > _BONE else ["MR"]


def _sequence(volume: Any) -> str:
    words = re.split(r"[^a-z0-9]+", (volume.GetName() or "").lower())
    return next((_SEQUENCES[word] for word in words if word in _SEQUENCES), "")


def _look_at(node: Any) -> Candidate:
    owner, sequence = owner_of(node)[0], next(_sequences_of(node), "")
    return Candidate(node, _doubt(node, owner, sequence), owner, sequence)


def _doubt(node: Any, owner: str, sequence: str) -> Doubt | None:
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return Doubt.EMPTY
    made = node.GetStorageNode() is None and bool(_MADE.search(node.GetName() or ""))
    reasons = {
        Doubt.LABEL_MAP: node.IsA("vtkMRMLLabelMapVolumeNode"),
        Doubt.COLORS: image.GetNumberOfScalarComponents() > 1,
        Doubt.OTHERS: bool(owner),
        Doubt.FRAME: bool(sequence),
        Doubt.RESULT: made,
        Doubt.FLAT: min(image.GetDimensions()[:2]) < 2,
    }
    found = next((doubt for doubt, is_so in reasons.items() if is_so), None)
    return found or (Doubt.LABELS if _holds_labels(image) else None)


def _sequences_of(node: Any) -> Iterator[str]:
    """Names of the sequences that show a frame in a node."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.IsProxyNodeID(node.GetID()):
            sequence = browser.GetSequenceNode(node)
            yield str((sequence or browser).GetName())


def _holds_labels(image: Any) -> bool:
    """Whether voxels are a few small whole numbers."""
    low, high = image.GetScalarRange()
    if low < 0 or high > 65535:
        return False
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    different = np.unique(values[:: max(1, len(values) // _LOOKED_AT)])
    return len(different) <= _FEW and bool((different == np.round(different)).all())
