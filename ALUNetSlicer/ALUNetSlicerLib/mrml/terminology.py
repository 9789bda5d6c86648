"""The color of a structure and its name in DICOM: found in Slicer's terminology by its name."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import slicer

from ALUNetSlicerLib.mrml.distinct_colors import apart_from

_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_GOLDEN = 0.618034


@dataclass(frozen=True)
class Appearance:
    """Color of a structure, (r, g, b) from 0 to 1, and its terminology entry; the entry is empty
    where none fits.
    """

    color: tuple[float, float, float]
    entry: str = ""


def appearance_of(name: str, value: int, context: str = _CONTEXT, color: str = "") -> Appearance:
    """Return the recommended color and the terminology entry of a structure.

    Args:
        name: of the structure; case, ``_`` and ``-`` and the order of its words do not matter.
        value: its number; a structure that the terminology does not know gets a color by it, no two
            alike.
        context: name of the terminology.
        color: #rrggbb that the structure has in the project; empty: none of its own.
    """
    known = _known(name, value, context)
    return replace(known, color=_parts(color)) if color else known


def appearances_of(
    labels: Mapping[str, int], colors: Mapping[str, str], context: str = _CONTEXT
) -> dict[str, Appearance]:
    """Return the appearance of each structure of a project; no two colors are alike.

    A color that a person chose stays. Of the others the one with the lower number keeps what the
    terminology recommends, so that a structure that is added changes none.

    Args:
        labels: structure name -> value, with the background's 0.
        colors: #rrggbb of structures that have a color of their own, by name.
    """
    found = {
        name: appearance_of(name, value, context, colors.get(name, ""))
        for name, value in labels.items()
        if value
    }
    given = [found[name].color for name in found if colors.get(name)]
    for name in sorted(found, key=lambda name: labels[name]):
        if not colors.get(name):
            color = apart_from(found[name].color, given, labels[name])
            found[name] = replace(found[name], color=color)
            given.append(color)
    return found


def hex_colors(labels: Mapping[str, int], colors: Mapping[str, str]) -> dict[str, str]:
    """Return the color of each structure of a project, #rrggbb; see `appearances_of`."""
    return {
        name: "#" + "".join(f"{round(255 * part):02x}" for part in appearance.color)
        for name, appearance in appearances_of(labels, colors).items()
    }


def _parts(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _known(name: str, value: int, context: str) -> Appearance:
    if hasattr(slicer.modules, "terminologies"):
        known = _entries(context).get(_plain(name))
        if known is not None:
            return known
    return Appearance(colorsys.hsv_to_rgb(0.05 + value * _GOLDEN % 1, 0.75, 0.95))


@cache
def _entries(context: str) -> dict[str, Appearance]:
    found: dict[str, Appearance] = {}
    for name, appearance in _all(context):
        found.setdefault(_plain(name), appearance)
    return found


def _all(context: str) -> Iterator[tuple[str, Appearance]]:
    """Name and appearance of each type of the terminology, and of each with a modifier, as in
    "kidney left".
    """
    logic = slicer.modules.terminologies.logic()
    for number in range(logic.GetNumberOfCategoriesInTerminology(context)):
        category = slicer.vtkSlicerTerminologyCategory()
        logic.GetNthCategoryInTerminology(context, number, category)
        for place in range(logic.GetNumberOfTypesInTerminologyCategory(context, category)):
            kind = slicer.vtkSlicerTerminologyType()
            logic.GetNthTypeInTerminologyCategory(context, category, place, kind)
            yield kind.GetCodeMeaning(), _appearance(logic, context, category, kind, None)
            if not kind.GetHasModifiers():
                continue  # Slicer's log would complain of the question
            for which in range(
                logic.GetNumberOfTypeModifiersInTerminologyType(context, category, kind)
            ):
                modifier = slicer.vtkSlicerTerminologyType()
                logic.GetNthTypeModifierInTerminologyType(context, category, kind, which, modifier)
                name = f"{kind.GetCodeMeaning()} {modifier.GetCodeMeaning()}"
                yield name, _appearance(logic, context, category, kind, modifier)


def _appearance(
    logic: Any, context: str, category: Any, kind: Any, modifier: Any | None
) -> Appearance:
    entry = slicer.vtkSlicerTerminologyEntry()
    entry.SetTerminologyContextName(context)
    entry.GetCategoryObject().Copy(category)
    entry.GetTypeObject().Copy(kind)
    if modifier is not None:
        entry.GetTypeModifierObject().Copy(modifier)
    shown = (modifier or kind).GetRecommendedDisplayRGBValue()
    return Appearance(tuple(part / 255 for part in shown), logic.SerializeTerminologyEntry(entry))


def _plain(name: str) -> str:
    """A name by which it is found, whatever the order of its words."""
    return " ".join(sorted(name.replace("_", " ").replace("-", " ").lower().split()))
