"""What a structure looks like and is called in DICOM: found in Slicer's terminology by its name."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache

import slicer

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_GOLDEN = 0.618034


@dataclass(frozen=True)
class Look:
    """Colour of a structure, (r, g, b) from 0 to 1, and its terminology entry; the entry is empty where none fits."""

    color: tuple[float, float, float]
    entry: str = ""


def look(name: str, value: int, context: str = _CONTEXT) -> Look:
    """The recommended colour and the entry of a structure.

    Args:
        name: of the structure; case, ``_`` and ``-`` do not matter.
        value: its number; a structure that the terminology does not know gets a colour by it, no two alike.
        context: name of the terminology.
    """
    if hasattr(slicer.modules, "terminologies"):
        known = _entries(context).get(_plain(name))
        if known is not None:
            return known
    return Look(colorsys.hsv_to_rgb(0.05 + value * _GOLDEN % 1, 0.75, 0.95))


@cache
def _entries(context: str) -> dict[str, Look]:
    logic, found = slicer.modules.terminologies.logic(), {}
    for number in range(logic.GetNumberOfCategoriesInTerminology(context)):
        category = slicer.vtkSlicerTerminologyCategory()
        logic.GetNthCategoryInTerminology(context, number, category)
        for place in range(logic.GetNumberOfTypesInTerminologyCategory(context, category)):
            kind = slicer.vtkSlicerTerminologyType()
            logic.GetNthTypeInTerminologyCategory(context, category, place, kind)
            entry = slicer.vtkSlicerTerminologyEntry()
            entry.SetTerminologyContextName(context)
            entry.GetCategoryObject().Copy(category)
            entry.GetTypeObject().Copy(kind)
            color = tuple(part / 255 for part in kind.GetRecommendedDisplayRGBValue())
            found.setdefault(_plain(kind.GetCodeMeaning()), Look(color, logic.SerializeTerminologyEntry(entry)))
    return found


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())
