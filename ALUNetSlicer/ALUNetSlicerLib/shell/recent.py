"""Projects that were opened on this computer, and what is kept of each there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from alunet.schema import from_json
from ALUNetSlicerLib.ports.protocols import UserSettings

MOST = 8
"""So many projects are remembered."""
_NAME = "recent"


@dataclass(frozen=True)
class RecentProject:
    """A project that was opened before.

    Attributes:
        to: its engine, see `EnginePlace`.
        numbers: what is kept of it, by name.
    """

    to: str
    id: str
    name: str
    numbers: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is kept: its numbers beside its names."""
        return {**self.numbers, "to": self.to, "id": self.id, "name": self.name}


class RecentProjects:
    """What the person's settings hold of them.

    Args:
        settings: of the person.
    """

    def __init__(self, settings: UserSettings) -> None:
        self._settings = settings

    def all(self) -> list[RecentProject]:
        """The projects, the last opened first; entries that cannot be read are left out."""
        try:
            rows = json.loads(self._settings.get(_NAME, "[]"))
        except ValueError:
            return []
        return [known for known in map(_read, rows) if known is not None]

    def opened(self, to: str, project: str, name: str) -> None:
        """A project is opened now; what was kept of it stays."""
        known = self.find(to, project) or RecentProject(to, project, name)
        others = [other for other in self.all() if (other.to, other.id) != (to, project)]
        self._write([replace(known, name=name), *others][:MOST])

    def find(self, to: str, project: str) -> RecentProject | None:
        """The project of that engine and id."""
        return next((known for known in self.all() if (known.to, known.id) == (to, project)), None)

    def keep(self, to: str, project: str, name: str, value: float) -> None:
        """Keep a number of a project that was opened; of another one nothing is."""
        found = self.find(to, project)
        if found is not None:
            changed = replace(found, numbers={**found.numbers, name: value})
            self._write([changed if known == found else known for known in self.all()])

    def _write(self, projects: list[RecentProject]) -> None:
        self._settings.set(_NAME, json.dumps([known.to_json() for known in projects]))


def _read(row: Any) -> RecentProject | None:
    try:
        known = from_json(RecentProject, row)
    except ValueError:
        return None
    return replace(known, numbers={key: value for key, value in row.items() if _is_number(value)})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
