"""Put right what is not as it was stored, where something else still holds it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from alunet.errors import InputError
from alunet.imaging.reading import copy_file
from alunet.project.checking import (
    COPY,
    DATABASE,
    IMAGE,
    MAP,
    OTHER,
    ROW,
    VERSION,
    Damage,
    check,
    source_of,
    version_of,
)
from alunet.project.kept_files import KeptFile
from alunet.project.project import Project
from alunet.project.repairs import keep_apart
from alunet.schema import Emit

_ORDER = (DATABASE, OTHER, ROW, IMAGE, MAP, VERSION, COPY)
"""What comes first is needed to put right what comes later."""


@dataclass(frozen=True)
class Repaired:
    """What became of damages.

    Attributes:
        done: those that were put right.
        left: those that were not, with what a person can do.
    """

    done: tuple[Damage, ...]
    left: tuple[Damage, ...]


def repair(project: Project, emit: Emit) -> Repaired:
    """Put right what can be, and compare all again.

    Only what is proven is done: what was stored has a hash, and what is put there has it, too. A
    damaged label map or image is kept in the project's folder ``damaged``.

    Args:
        emit: hears progress events.
    """
    found = check(project, emit).damages
    for damage in sorted(found, key=lambda damage: _ORDER.index(damage.kind)):
        if damage.remedy:
            with contextlib.suppress(InputError):  # what was not done is found again
                _repair(project, damage)
    for case in {damage.case for damage in found if damage.kind == VERSION and damage.case}:
        # a label map is not to be rebuilt with a version that is lost
        with contextlib.suppress(InputError):
            project.annotations.maps.renew_copy(case)
    left = check(project, emit).damages if found else ()
    names = {damage.name for damage in left}
    return Repaired(tuple(damage for damage in found if damage.name not in names), left)


def _repair(project: Project, damage: Damage) -> None:
    maps = project.annotations.maps
    if damage.kind == ROW:
        project.seals.heal()
    elif damage.kind == IMAGE:
        _copy_again(project, damage)
    elif damage.case is None:
        return
    elif damage.kind == MAP:
        maps.read(damage.case)
    elif damage.kind == COPY:
        maps.renew_copy(damage.case)
    elif damage.kind == VERSION:
        maps.version(*version_of(KeptFile(damage.name, "", damage.case)))


def _copy_again(project: Project, damage: Damage) -> None:
    files = project.cases.files
    target = files.path(damage.name)
    source = source_of(project, KeptFile(damage.name, files.hash_of(target) or "", damage.case))
    if source is None:
        return
    if target.is_file():
        keep_apart(project.root, target)
    copy_file(source, target)
