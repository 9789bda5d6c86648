"""Structures that a project gets, renames, recolors and loses after it was made.

A structure keeps its number in the project's label maps for good, and the number of a removed one
is never given again: no stored file, and nothing that is on its way, ever means another thing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from alunet.errors import InputError
from alunet.imaging.dataset import number_labels
from alunet.imaging.label_file import folded
from alunet.imaging.labels import Removed
from alunet.project.cases import Cases
from alunet.project.changes import AnswerNeeded, Asked, Change, checked_color, clean_name
from alunet.project.events import Events
from alunet.project.requests import Requests
from alunet.project.rewriting import Labels, Recode, Rewriting, Staged
from alunet.project.rounds import Rounds
from alunet.project.settings import Settings
from alunet.project.worklist import Worklist
from alunet.schema import NOT_ANNOTATED, StructureInfo
from alunet.schema.names import STRUCTURE, usable_name
from alunet.storage.database import Database

OPEN, ABSENT, BACKGROUND = "open", "absent", "background"
PERSON = Asked()
_NEXT = "The next training goes on from the model's weights; its last layers"


class ProjectStructures:
    """The structures of a project that this process has for itself."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        cases: Cases,
        rounds: Rounds,
        worklist: Worklist,
        events: Events,
        rewriting: Rewriting,
    ) -> None:
        self._db, self._settings, self._cases = database, settings, cases
        self._rounds, self._worklist, self._events = rounds, worklist, events
        self._rewriting, self._requests = rewriting, Requests(database)

    def all(self) -> list[StructureInfo]:
        """Return the structures by number."""
        known, colors = self._cases.structures, self._settings.colors
        counts: dict[int, int] = {}
        for (text,) in self._db.rows("SELECT voxels FROM cases WHERE voxels IS NOT NULL"):
            for number, count in enumerate(json.loads(text)):
                counts[number] = counts.get(number, 0) + count
        rows = zip(known.names, known.numbers, known.values, strict=True)
        return [
            StructureInfo(name, number, value, colors.get(number), counts.get(number, 0))
            for name, number, value in list(rows)[1:]
        ]

    # --- changes ----------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        earlier: str | None = None,
        color: str | None = None,
        asked: Asked = PERSON,
    ) -> Change:
        """Give the project one structure more, under a number that was never used.

        Args:
            earlier: what the background of slices annotated so far says of it: "open", nothing,
                so they come back to be looked at; "absent", it is not there. Needed where anything
                is annotated. Reference labels that were imported so far say nothing of it.
            color: #rrggbb; None: the usual one.

        Raises:
            InputError: the name is taken or impossible, no number is left, `earlier` is missing,
                or the project cannot be changed.
        """
        self._check_changeable()
        name, color = clean_name(name), None if color is None else checked_color(color)
        with self._rewriting.begun():
            number, value = self._next_number()
            self._check_name(self._settings.about["labels"], name, number)
            annotated = self._needs_earlier(name, earlier)
            return self._apply(
                "added",
                number,
                lambda: self._store_added(name, number, value, earlier, color),
                self._notes_of_added(name, number, value, annotated and earlier == ABSENT),
                asked,
                recode=_opened if annotated and earlier == OPEN else None,
                again=f"'{name}' is new",
            )

    def _next_number(self) -> tuple[int, int]:
        """Number and value of the next structure, both never used before."""
        known = self._cases.structures
        gone = known.removed
        number = 1 + max((*known.numbers, *(old.number for old in gone)))
        if number >= NOT_ANNOTATED:
            raise InputError(
                f"All {NOT_ANNOTATED - 1} numbers of structures were used.", "Start a new project."
            )
        used = {*known.values, *(old.value for old in gone), NOT_ANNOTATED}
        return number, next(value for value in range(number, 1 << 16) if value not in used)

    def _needs_earlier(self, name: str, earlier: str | None) -> bool:
        """Whether anything is annotated; raises AnswerNeeded where nothing says what of it."""
        annotated = self._rewriting.annotated()
        if annotated and earlier not in (OPEN, ABSENT):
            raise AnswerNeeded(
                f"What is annotated so far does not say where '{name}' is.",
                "earlier",
                {
                    OPEN: "those slices come back to be looked at",
                    ABSENT: f"'{name}' is in none of them",
                },
            )
        return annotated

    def _notes_of_added(self, name: str, number: int, value: int, absent: bool) -> list[str]:
        notes = [f"'{name}' is number {number}, and {value} in label files that do not name it."]
        notes += self._of_model(
            f"{_NEXT} get an output for '{name}', which no proposal shows before."
        )
        references = self._db.number("SELECT count(*) FROM cases WHERE label IS NOT NULL")
        if references:
            notes.append(
                f"The {references} reference labels say nothing of '{name}': on these cases it is "
                f"not measured."
            )
        if absent:
            notes.append(f"Slices annotated so far stay as they are: none shows '{name}'.")
        return notes

    def _store_added(
        self, name: str, number: int, value: int, earlier: str | None, color: str | None
    ) -> None:
        labels, values = self._settings.about["labels"], self._cases.structures.values
        self._settings.set_labels({**labels, name: number})
        self._settings.label_values = [*values, value]
        added = self._settings.added_structures
        self._settings.added_structures = {**added, number: earlier}
        self._forget_former(name)
        self._set_color(number, color)
        silent = [
            (json.dumps([*case.silent, number]), case.name)
            for case in self._cases.all(removed=True)
            if case.label is not None
        ]
        self._db.many("UPDATE cases SET silent = ? WHERE name = ?", silent)

    def edit(
        self, name: str, new: str | None = None, color: str | None = None, asked: Asked = PERSON
    ) -> Change:
        """Give a structure another name, another color, or both; what is annotated stays.

        Args:
            new: its name from now on; None: as it is.
            color: #rrggbb; "": the usual one; None: as it is.

        Raises:
            InputError: there is no such structure, the name is taken or impossible, the color is
                none, nothing is asked for, or the project cannot be changed.
        """
        self._check_changeable()
        old, number = self._find(name)
        notes = []
        if new is not None:
            new = clean_name(new)
            labels = self._settings.about["labels"]
            self._check_name({own: n for own, n in labels.items() if n != number}, new, number)
            notes.append(f"'{old}' is called '{new}' now; what is annotated stays as it is.")
        if color is not None:
            color = color and checked_color(color)
            notes.append(f"'{new or old}' is shown in {color or 'the usual color'} now.")
        if not notes:
            raise InputError(f"Nothing of '{old}' is to change.", "Give a name or a color.")

        def change() -> None:
            if new is not None:
                self._rename(old, new, number)
            if color is not None:
                self._set_color(number, color or None)

        what = "recolored" if new is None else "renamed"
        return self._apply(what, number, change, notes, asked)

    def _rename(self, old: str, new: str, number: int) -> None:
        labels = self._settings.about["labels"]
        self._settings.set_labels({new if n == number else own: n for own, n in labels.items()})
        self._forget_former(new)
        self._settings.former_names = {**self._settings.former_names, old: number}
        self._rounds.rename_structure(old, new)
        self._rewriting.forget_training()  # it knows the old name

    def remove(self, name: str, voxels: str | None = None, asked: Asked = PERSON) -> Change:
        """Take a structure out of the project; its number is retired.

        Args:
            voxels: what its voxels become: "background", "open" (not annotated: these slices come
                back to be looked at), or the name of another structure. Needed where any are drawn.

        Raises:
            InputError: there is no such structure, it is the only one, `voxels` is missing or
                names nothing, or the project cannot be changed.
        """
        self._check_changeable()
        with self._rewriting.begun():
            own, number = self._find(name)
            if len(self._settings.about["labels"]) == 2:
                raise InputError(
                    f"'{own}' is the only structure of the project.",
                    "Rename it, or add another first.",
                )
            drawn = self._needs_voxels(own, number, voxels)
            became, words = self._became(voxels or BACKGROUND, number)
            notes = [f"'{own}' is removed; its number {number} is never given again."]
            if drawn:
                notes.append(f"Its {drawn:,} voxels are {words} now; earlier versions keep them.")
            notes += self._of_model(
                f"{_NEXT} lose the output for '{own}', which no proposal shows now."
            )

            def recode(old: Labels) -> Labels:
                return np.where(old == number, np.asarray(became, old.dtype), old)

            return self._apply(
                "removed",
                number,
                lambda: self._store_removed(own, number, became),
                notes,
                asked,
                recode=recode if drawn else None,
                references=True,
                again=f"'{own}' was removed" if became == NOT_ANNOTATED else "",
            )

    def _needs_voxels(self, name: str, number: int, voxels: str | None) -> int:
        """How many voxels are drawn; raises AnswerNeeded where nothing says what they become."""
        drawn = self._rewriting.drawn(number)
        if voxels is None and drawn:
            labels = self._settings.about["labels"]
            others = [other for other, n in labels.items() if n not in (0, number)]
            raise AnswerNeeded(
                f"{drawn:,} voxels of '{name}' are drawn, and nothing says what they become.",
                "voxels",
                {
                    BACKGROUND: "nothing is there",
                    OPEN: "not annotated; those slices come back to be looked at",
                    **{other: "another structure" for other in others},
                },
            )
        return drawn

    def _store_removed(self, name: str, number: int, became: int) -> None:
        structures, former = self._cases.structures, self._settings.former_names
        values = dict(zip(structures.numbers, structures.values, strict=True))
        gone = Removed(name, number, values.pop(number), became)
        labels = {own: n for own, n in self._settings.about["labels"].items() if n != number}
        self._settings.set_labels(labels)
        self._settings.label_values = list(values.values())
        self._settings.removed_structures = [
            *self._settings.removed_structures,
            asdict(gone),
        ]
        self._set_color(number, None)
        self._settings.former_names = {own: n for own, n in former.items() if n != number}
        self._rounds.rename_structure(name, f"{name} (removed, {number})")

    # --- parts of a change ------------------------------------------------------------------------

    def _apply(
        self,
        what: str,
        number: int,
        change: Callable[[], None],
        notes: list[str],
        asked: Asked,
        *,
        recode: Recode | None = None,
        references: bool = False,
        again: str = "",
    ) -> Change:
        """Make a change count in one moment; where labels may change, `begun` is around it.

        Args:
            change: of the settings.
            recode: of all stored labels, with `references` of the hidden ones, too.
            again: why slices whose labels change come back into the worklist; empty: they do not.
        """
        staged = Staged((), {}, ())
        if recode is not None:
            staged = self._rewriting.stage(recode, asked.author, references=references)
        if what in ("added", "removed"):
            self._rewriting.forget_training()
        with self._db.transaction():
            change()
            if what in ("added", "removed"):
                self._rewriting.note(staged, asked.author)
                self._settings.structures_changed = time.time()
            shown = staged.changed if again else ()
            if shown:
                self._worklist.look_again(shown, asked.author, f"look again: {again}")
                notes.append(
                    f"{len(shown):,} annotated slices are back in the worklist; until they are "
                    f"done, what is open in them is not learned."
                )
            elif staged.changed:
                notes.append(f"The labels of {len(staged.changed):,} slices got a new version.")
            done = Change(len(shown), tuple(notes))
            self._tell(what, number, notes[0])
            self._requests.keep(asked.key, asked.digest, asdict(done))
        return done

    def _tell(self, what: str, number: int, text: str) -> None:
        data = {"change": what, "number": number, "labels": self._settings.about["labels"]}
        colors = {str(n): color for n, color in self._settings.colors.items()}
        self._events.add("structures", {**data, "colors": colors, "text": text})

    def answered(self, asked: Asked) -> Change | None:
        """Return what was answered to the same request; None where it is new."""
        answer = self._requests.answer(asked.key, asked.digest)
        return None if answer is None else Change(answer["again"], tuple(answer["notes"]))

    def _check_changeable(self) -> None:
        self._db.check_writable()
        if self._settings.annotation is None or self._settings.data is not None:
            raise InputError(
                "The project belongs to a simulation; its structures stay as they are.",
                "Change them in the data set, and simulate again.",
            )

    def _check_name(self, others: dict[str, int], name: str, number: int) -> None:
        """Raise InputError where a name is taken or impossible."""
        usable_name(name, STRUCTURE)
        if folded(name) == OPEN:
            raise InputError(f"A structure cannot be called '{name[:60]}'.", "Choose another name.")
        taken = next((own for own in others if folded(own) == folded(name)), None)
        if taken is not None:
            raise InputError(
                f"The project has a structure '{taken}' already.", "Choose another name."
            )
        number_labels({**others, name: number})

    def _find(self, name: str) -> tuple[str, int]:
        """Name and number of a structure, however its name is written."""
        known = self._cases.structures
        number = known.find(name)
        if not number:
            there = ", ".join(f"'{own}'" for own in known.names[1:])
            raise InputError(f"The project has no structure '{name[:60]}'.", f"It has {there}.")
        return known.names[known.numbers.index(number)], number

    def _became(self, voxels: str, removed: int) -> tuple[int, str]:
        """The number that voxels get, and what that is in words."""
        if folded(voxels) in (BACKGROUND, OPEN):
            return {
                BACKGROUND: (0, "background"),
                OPEN: (NOT_ANNOTATED, "open (not annotated)"),
            }[folded(voxels)]
        own, number = self._find(voxels)
        if number == removed:
            raise InputError(
                f"The voxels of '{own}' cannot become '{own}'.", "Choose another structure."
            )
        return number, f"'{own}'"

    def _of_model(self, text: str) -> list[str]:
        return [text] if self._rounds.finished() else []

    def _set_color(self, number: int, color: str | None) -> None:
        others = {n: known for n, known in self._settings.colors.items() if n != number}
        self._settings.colors = others if color is None else {**others, number: color}

    def _forget_former(self, name: str) -> None:
        """A new structure takes a name that another had: files mean the new one from now on."""
        former = self._settings.former_names
        self._settings.former_names = {
            own: number for own, number in former.items() if folded(own) != folded(name)
        }


def _opened(old: Labels) -> Labels:
    """The same labels with the background left open."""
    return np.where(old == 0, np.asarray(NOT_ANNOTATED, old.dtype), old)
