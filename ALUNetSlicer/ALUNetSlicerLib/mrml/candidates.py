"""Volumes of the scene that may become cases: which plausibly belong to a project, and why the
others do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from ALUNetSlicerLib.mrml.case_nodes import owner_of
from ALUNetSlicerLib.ports.i18n import tr as _

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


@dataclass(frozen=True)
class Candidate:
    """A volume of the scene that is no case of the project yet.

    Attributes:
        node: its volume node.
        doubt: why it may not belong; empty where it plausibly does.
        usable: whether a person may take it all the same.
        owner: id of the other project that has it as a case; empty for none.
    """

    node: Any
    doubt: str = ""
    usable: bool = True
    owner: str = ""

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
    image, owner = node.GetImageData(), owner_of(node)[0]
    if image is None or image.GetNumberOfPoints() == 0:
        return Candidate(node, _("has no voxels"), usable=False)
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return Candidate(node, _("a label map"), usable=False)
    if image.GetNumberOfScalarComponents() > 1:
        return Candidate(node, _("colors or vectors"), usable=False)
    if owner:
        return Candidate(node, _("a case of another project"), owner=owner)
    sequence = next(_sequences_of(node), None)
    if sequence is not None:
        return Candidate(node, _("a frame of {sequence}").format(sequence=sequence))
    if node.GetStorageNode() is None and _is_derived(node):
        return Candidate(node, _("a result"))
    if min(image.GetDimensions()[:2]) < 2:
        return Candidate(node, _("not a volume"))
    return Candidate(node, _("holds labels, it seems") if _holds_labels(image) else "")


def _sequences_of(node: Any) -> Iterator[str]:
    """Names of the sequences that show a frame in a node."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.IsProxyNodeID(node.GetID()):
            sequence = browser.GetSequenceNode(node)
            yield str((sequence or browser).GetName())


def _is_derived(node: Any) -> bool:
    """Whether a module made it of other volumes: its name says so, as Slicer's modules name what
    they make.
    """
    return bool(_MADE.search(node.GetName() or ""))


def _holds_labels(image: Any) -> bool:
    """Whether voxels are a few small whole numbers."""
    low, high = image.GetScalarRange()
    if low < 0 or high > 65535:
        return False
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    different = np.unique(values[:: max(1, len(values) // _LOOKED_AT)])
    return len(different) <= _FEW and bool((different == np.round(different)).all())
