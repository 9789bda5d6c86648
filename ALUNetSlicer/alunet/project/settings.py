"""What is chosen or found once for a project: the only place that knows the names it is stored
under.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alunet.errors import InputError
from alunet.schema import TILE, UNITS
from alunet.storage.database import Database


def check_unit(unit: str) -> str:
    """Return what people are asked for; raises InputError for anything that is not in `UNITS`."""
    if unit not in UNITS:
        raise InputError(f"There is no unit '{unit}'.", f"Use one of {', '.join(UNITS)}.")
    return unit


class Settings:
    """The table of settings, JSON by name; each has its own typed access here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @property
    def about(self) -> dict[str, Any]:
        """``name``, ``labels`` (structure -> class), ``channels`` and ``created`` (seconds since
        1970).
        """
        found: dict[str, Any] = self._get("project", {})
        return found

    @property
    def data(self) -> str | None:
        """Path of the project whose images this one shares, relative to its own folder; None: it
        has its own.
        """
        found: str | None = self._get("data")
        return found

    @data.setter
    def data(self, path: str) -> None:
        self._set("data", path)

    @property
    def label_values(self) -> list[int] | None:
        """Value of each class 0, 1, … in the label files that the first cases came with; None:
        the classes.
        """
        found: list[int] | None = self._get("label values")
        return found

    @label_values.setter
    def label_values(self, values: list[int]) -> None:
        self._set("label values", values)

    @property
    def removed_structures(self) -> list[dict[str, Any]]:
        """What `alunet.imaging.labels.Removed` holds of each structure that the project had."""
        found: list[dict[str, Any]] = self._get("removed structures", [])
        return found

    @removed_structures.setter
    def removed_structures(self, removed: list[dict[str, Any]]) -> None:
        self._set("removed structures", removed)

    @property
    def added_structures(self) -> dict[int, str | None]:
        """Numbers of the structures that the project got after it was made, with what was said of
        slices annotated before: "open", "absent", or None where there were none.
        """
        return {int(number): said for number, said in self._get("added structures", {}).items()}

    @added_structures.setter
    def added_structures(self, added: Mapping[int, str | None]) -> None:
        self._set("added structures", {str(number): said for number, said in added.items()})

    @property
    def former_names(self) -> dict[str, int]:
        """Numbers of structures by the names that they had."""
        found: dict[str, int] = self._get("former names", {})
        return found

    @former_names.setter
    def former_names(self, names: Mapping[str, int]) -> None:
        self._set("former names", dict(names))

    @property
    def colors(self) -> dict[int, str]:
        """Color of structures, #rrggbb by number; those that are not there have the usual one."""
        return {int(number): color for number, color in self._get("colors", {}).items()}

    @colors.setter
    def colors(self, colors: Mapping[int, str]) -> None:
        self._set("colors", {str(number): color for number, color in colors.items()})

    @property
    def change(self) -> dict[str, Any] | None:
        """The change of stored labels that is under way, see `alunet.project.rewriting`."""
        found: dict[str, Any] | None = self._get("change")
        return found

    @change.setter
    def change(self, change: dict[str, Any] | None) -> None:
        self._set("change", change)

    def set_labels(self, labels: Mapping[str, int]) -> None:
        """Give the project other structures, name to number."""
        ordered = dict(sorted(labels.items(), key=lambda item: item[1]))
        self._set("project", {**self.about, "labels": ordered})

    @property
    def patch(self) -> tuple[int, int] | None:
        """Rows and columns of a sample; None before the project is planned."""
        found = self._get("patch")
        return None if found is None else (found[0], found[1])

    @patch.setter
    def patch(self, size: tuple[int, int] | list[int]) -> None:
        self._set("patch", list(size))

    @property
    def unit(self) -> str:
        """What a sample is: a "tile" of the plan's patch, or a whole "slice"."""
        found: str = self._get("unit", TILE)
        return found

    @unit.setter
    def unit(self, unit: str) -> None:
        self._set("unit", check_unit(unit))

    @property
    def annotation(self) -> dict[str, Any] | None:
        """What `alunet.loop.annotation_loop.Setup` holds; None for a run of a simulation."""
        found: dict[str, Any] | None = self._get("loop")
        return found

    @annotation.setter
    def annotation(self, setup: dict[str, Any]) -> None:
        self._set("loop", setup)

    @property
    def arithmetic(self) -> dict[str, Any] | None:
        """What `alunet.model.arithmetic` chose for the computer that the project was used on
        last.
        """
        found: dict[str, Any] | None = self._get("arithmetic")
        return found

    @arithmetic.setter
    def arithmetic(self, chosen: dict[str, Any]) -> None:
        self._set("arithmetic", chosen)

    @property
    def memory_shares(self) -> dict[str, Any] | None:
        """What `alunet.loop.memory.MemoryShares` holds; None where all batches fitted."""
        found: dict[str, Any] | None = self._get("memory shares")
        return found

    @memory_shares.setter
    def memory_shares(self, shares: dict[str, Any]) -> None:
        self._set("memory shares", shares)

    @property
    def preparation(self) -> dict[str, Any] | None:
        """Seconds and memory of planning and preprocessing, for people who look into the
        database.
        """
        found: dict[str, Any] | None = self._get("prepare")
        return found

    @preparation.setter
    def preparation(self, costs: dict[str, Any]) -> None:
        self._set("prepare", costs)

    @property
    def structures_changed(self) -> float:
        """When a structure was added or removed last, seconds since 1970; 0: never."""
        return float(self._get("structures changed", 0.0))

    @structures_changed.setter
    def structures_changed(self, moment: float) -> None:
        self._set("structures changed", moment)

    @property
    def checked(self) -> dict[str, Any] | None:
        """What the last check by a service found, see `alunet.serve.checks`; None: there was
        none.
        """
        found: dict[str, Any] | None = self._get("checked")
        return found

    @checked.setter
    def checked(self, found: dict[str, Any]) -> None:
        self._set("checked", found)

    def request_of(self, case: str) -> Any:
        """What a case was asked for with over the service; None where it was not."""
        return self._get(f"case {case}")

    def keep_request(self, case: str, request: Any) -> None:
        """Note what a case was asked for with."""
        self._set(f"case {case}", request)

    def create(self, about: Mapping[str, Any], **others: Any) -> None:
        """Write the settings of a new project, within the transaction that makes its tables.

        Args:
            about: see `about`.
            others: names of properties here, with their values; None: not known.
        """
        self._set("project", dict(about))
        for name, value in others.items():
            if value is not None:
                setattr(self, name, value)

    def _get(self, key: str, default: Any = None) -> Any:
        text = self._db.value("SELECT value FROM meta WHERE key = ?", (key,))
        return default if text is None else json.loads(str(text))

    def _set(self, key: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False)
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, text))


class SettingsRead(Settings):
    """The settings as they were when this was made, read at one go."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._read = dict(
            database.rows(
                "SELECT key, value FROM meta WHERE key != 'pool' AND key NOT LIKE 'case %'"
            )
        )

    def _get(self, key: str, default: Any = None) -> Any:
        return json.loads(self._read[key]) if key in self._read else default
