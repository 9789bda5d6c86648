"""The section "Annotate": the worklist, and the slice on screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from alunet.schema import ProposalSource, Status
from ALUNetSlicerLib.annotate.initial_labels import Origin
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.mrml.slice_place import size_across
from ALUNetSlicerLib.panel.binding import Section, allow, entitle, fill, head
from ALUNetSlicerLib.panel.slice_words import part_words, slice_words
from ALUNetSlicerLib.panel.units import clock
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Activity, Desktop, Timer
from ALUNetSlicerLib.shell.workspace import Workspace

_COLUMNS = ("#", _("Case"), _("Slice"), _("Unsure"), _("Status"), _("Why"))
_UNSURE = 3
"""The column of bars."""
_BARS = 5
_SHORT = 24
"""So many letters say why a slice was chosen; its tooltip says the rest."""


def short(reason: str) -> str:
    """The first words of why a slice was chosen."""
    first = re.split(r"[,;:.(]( |$)|[;(]", reason, maxsplit=1)[0].strip()
    if len(first) <= _SHORT:
        return first
    return first[:_SHORT].rsplit(" ", 1)[0] + "…"


_SOURCES = [
    (_("best proposal"), ""),
    (_("model"), ProposalSource.MODEL.value),
    (_("neighbors"), ProposalSource.NEIGHBORS.value),
    (_("empty"), ProposalSource.EMPTY.value),
]
"""Titles of the sources of *Use proposal*, and their values; empty: the best one."""


class AnnotateSection(Section):
    """See `Panel`."""

    def __init__(
        self,
        ui: Any,
        workspace: Workspace,
        desktop: Desktop,
        timer: Timer,
        activity: Activity,
    ) -> None:
        super().__init__()
        self._ui, self._workspace, self._desktop, self._timer = ui, workspace, desktop, timer
        self._activity, self._used = activity, activity.mark()
        self._rows: list[Slice] = []
        self._said: list[list[tuple[str, str]]] = []
        self._stop: Callable[[], None] = lambda: None
        table = ui.worklistTable
        head(table, _COLUMNS)
        table.connect("cellClicked(int,int)", self._clicked)
        for widget, action in (
            (ui.previousButton, self.previous),
            (ui.doneButton, self.done),
            (ui.skipButton, self.skip),
            (ui.flagButton, self.flag),
            (ui.nothingButton, self.nothing_here),
            (ui.emptyButton, self.empty),
            (ui.takeBackButton, self.take_back),
            (ui.goOnButton, self.go_on),
            (ui.proposalButton, self.proposal),
            (ui.addSliceButton, self.add_slice),
        ):
            widget.connect("clicked(bool)", lambda *_values, action=action: action())
        fill(ui.sourceCombo, _SOURCES)
        for widget, action in (
            (ui.lockCheck, self._lock),
            (ui.overlayCheck, self._overlay),
            (ui.proposalsCheck, self._proposals),
        ):
            widget.connect("toggled(bool)", action)
        self.hear(workspace.opened, self._opened)
        self.hear(workspace.project_changed, self._show)
        self.hear(workspace.refused.changed, self._show)
        self._opened()

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """Key -> action."""
        return {
            "Ctrl+Return": self.done,
            "Ctrl+Shift+Return": self.previous,
            "Ctrl+K": self.skip,
            "Ctrl+E": self.nothing_here,
            "Ctrl+G": self.flag,
            "Ctrl+U": lambda: self._ui.overlayCheck.click(),
        }

    def enter(self) -> None:
        """The module was opened: go on with the slice that was on screen."""
        if self._workspace.session is not None:
            self._workspace.session.enter()
        self._tick()

    def leave(self) -> None:
        """Another module is opened."""
        self._stop()
        if self._workspace.session is not None:
            self._workspace.session.leave()

    # --- what the person does ---------------------------------------------------------------------

    def done(self) -> None:
        """Hand in, and show the next; where slices in no list were painted, ask about them."""
        self._with_slice(self._hand_in)

    def _hand_in(self, session: Any) -> None:
        session.keep_draft()
        sample, further = session.current.sample, session.other_slices.take_further()
        question = _("Also hand in further slices that you painted ({count})?")
        if further and self._desktop.confirm(question.format(count=len(further))):
            self._workspace.own_slices.hand_in(further)
        if session.current is not None and session.current.sample == sample:
            session.submit()  # else another one came while the question was on screen

    def previous(self) -> None:
        """Show the slice before."""
        self._with_slice(lambda session: session.step(-1))

    def skip(self) -> None:
        """Leave it out."""
        self._with_slice(lambda session: session.set_status(Status.SKIPPED))

    def flag(self) -> None:
        """Mark it."""
        self._with_slice(lambda session: session.set_status(Status.FLAGGED))

    def nothing_here(self) -> None:
        """Hand it in empty."""
        self._with_slice(lambda session: session.nothing_here())

    def empty(self) -> None:
        """Empty it."""
        self._with_slice(lambda session: session.begin_again(proposal=False))

    def proposal(self) -> None:
        """Put the proposal of the chosen source into it."""
        chosen = self._ui.sourceCombo.currentData
        source = ProposalSource(chosen) if chosen else None
        self._with_slice(lambda session: session.begin_again(proposal=True, source=source))

    def take_back(self) -> None:
        """Take its labels back, or undo that."""
        self._with_slice(lambda session: session.take_back())

    def go_on(self) -> None:
        """Show the slice again that a node was removed under."""
        if self._workspace.session is not None:
            self._workspace.session.go_on()

    def add_slice(self) -> None:
        """Put the slice of the view into the worklist."""
        self._workspace.own_slices.add_shown()

    def _with_slice(self, action: Callable[[Any], None]) -> None:
        session = self._workspace.session
        if session is not None and session.current is not None:
            session.clock.touch()
            action(session)

    def _clicked(self, row: int, _column: int = 0) -> None:
        self._workspace.session.go_to(self._rows[row].sample)

    def _lock(self, locked: bool) -> None:
        if self._workspace.session is not None:
            self._workspace.session.locked = bool(locked)

    def _overlay(self, wanted: bool) -> None:
        if self._workspace.session is not None:
            self._workspace.session.set_overlay(bool(wanted))

    def _proposals(self, wanted: bool) -> None:
        if self._workspace.session is not None:
            self._workspace.session.loader.proposals = bool(wanted)

    # --- what is shown ----------------------------------------------------------------------------

    def _opened(self) -> None:
        session, ui = self._workspace.session, self._ui
        self._rows, self._said = [], []
        ui.worklistTable.setRowCount(0)
        if session is not None:
            session.changed.connect(self._show)
            session.taking_back.said.connect(self._desktop.status)
            session.shown.connect(self._shown)
            self._workspace.case_list.listed.connect(self._list_again)
            self._workspace.jobs.changed.connect(self._show_slice)
            session.loader.proposals = bool(ui.proposalsCheck.checked)
            session.locked = bool(ui.lockCheck.checked)
            session.overlay.wanted = bool(ui.overlayCheck.checked)
        self._show()

    def _shown(self, _item: Slice) -> None:
        self._show()
        self._tick()

    def _show(self, *_values: Any) -> None:
        ui, session = self._ui, self._workspace.session
        self._fill([] if session is None else list(session.worklist))
        current = None if session is None else session.current
        missing = _("Open a project first.") if session is None else ""
        nothing = missing or (
            "" if self._rows else _("No slices are suggested yet: see Next round.")
        )
        unseen = nothing or ("" if current else _("Click a slice in the list first."))
        self._allow_work(unseen)
        self._show_taking_back(unseen)
        ui.goOnButton.visible = session is not None and session.interrupted is not None
        allow(
            ui.addSliceButton,
            _("Add the slice shown in the Red view to the worklist."),
            missing,
        )
        overlay = _("Overlay the model's uncertainty: brighter is less certain. Ctrl+U")
        unlearned = missing or (
            "" if session.worklist.round else _("There is no model yet: finish a round.")
        )
        allow(ui.overlayCheck, overlay, unlearned)
        ui.editor.visible = current is not None
        self._show_slice()
        ui.progressLabel.text = self._progress()
        entitle(ui.annotateSection, _("Annotate"), self._short())
        for row, item in enumerate(self._rows):
            if current is not None and item.sample == current.sample:
                ui.worklistTable.selectRow(row)

    def _allow_work(self, unseen: str) -> None:
        """Enable what works on the slice on screen, where there is one."""
        ui = self._ui
        for widget, tip in (
            (ui.doneButton, _("Hand this slice in and show the next one. Ctrl+Return")),
            (ui.previousButton, _("The slice before, done or not. Ctrl+Shift+Return")),
            (ui.skipButton, _("Leave this slice out of this round; it can come back. Ctrl+K")),
            (
                ui.nothingButton,
                _("This slice shows none of the structures: hand it in empty. Ctrl+E"),
            ),
            (ui.flagButton, _("Mark this slice for a second opinion. Ctrl+G")),
            (ui.emptyButton, _("Empty this slice; undo brings it back.")),
            (
                ui.proposalButton,
                _("Put the proposal into this slice; undo brings yours back."),
            ),
        ):
            allow(widget, tip, unseen)

    def _show_taking_back(self, unseen: str) -> None:
        ui, session = self._ui, self._workspace.session
        current = None if session is None else session.current
        undo = current is not None and session.taking_back.can_undo(current)
        ui.takeBackButton.text = _("Undo take back") if undo else _("Take back")
        back = _("Take the labels back; the slice is open again.")
        again = _("Bring back the labels that you took back.")
        missing = unseen or ("" if current is None else session.taking_back.missing(current))
        allow(ui.takeBackButton, again if undo else back, missing)

    def _fill(self, items: list[Slice]) -> None:
        """Bring the table up to date; rows that are as they were stay."""
        table = self._ui.worklistTable
        known = self._said if len(items) == len(self._rows) else []
        if not known:
            table.setRowCount(len(items))
        said = [self._cells(item) for item in items]
        for row, cells in enumerate(said):
            if not known or cells != known[row]:
                for column, (text, tip) in enumerate(cells):
                    make = self._desktop.bar if column == _UNSURE else self._desktop.cell
                    table.setItem(row, column, make(text, tip))
        changed, self._rows, self._said = said != known, items, said
        # room for the reasons while no model was asked
        table.setColumnHidden(_UNSURE, all(item.uncertainty is None for item in items))
        for column in range(len(_COLUMNS) - 1) if changed else ():
            table.resizeColumnToContents(column)  # not the last one: it takes what is left

    def _cells(self, item: Slice) -> list[tuple[str, str]]:
        unsure = "" if item.uncertainty is None else "█" * max(1, round(_BARS * item.uncertainty))
        percent = (
            ""
            if item.uncertainty is None
            else _("{percent:.0f} %").format(percent=100 * item.uncertainty)
        )
        ahead = _("beyond the batch, to go on with while the model is trained")
        rank = f"{item.rank + 1}" + ("+" if item.ahead else "")
        return [
            (rank, ahead if item.ahead else rank),
            (item.case, item.case),
            (self._place(item), f"{self._place(item)} {self._part(item)}".strip()),
            (unsure, percent),
            (self._status(item), ""),
            (short(item.reason), item.reason),
        ]

    def _place(self, item: Slice) -> str:
        """Where a slice is: its number from 1 on, and the offset that the view shows."""
        volume = self._workspace.session.case_nodes.volume(item.case)
        size = 0 if volume is None else size_across(volume, item.box)
        if size:
            return slice_words(item.box, size, volume)
        cases = self._workspace.case_list.cases
        shapes = (case.shape[item.box.axis] for case in cases if case.name == item.case)
        return slice_words(item.box, next(shapes, 0), None)

    def _part(self, item: Slice) -> str:
        """Which part of the slice is asked for; empty for all of it."""
        volume = self._workspace.session.case_nodes.volume(item.case)
        there = volume is not None and size_across(volume, item.box)
        return part_words(item.box, volume) if there else ""

    def _list_again(self) -> None:
        """How many slices a case has is known now."""
        self._fill(list(self._rows))

    def _show_slice(self, *_values: Any) -> None:
        """Say what is on screen: the case, the slice, and the part that is asked for."""
        session, words = self._workspace.session, ""
        current = None if session is None else session.current
        if current is not None:
            place = _("{case}: slice {place}").format(case=current.case, place=self._place(current))
            computes = session.overlay.lacking and self._workspace.jobs.background is not None
            waits = _("uncertainty is being computed") if computes else ""
            begins = "" if current.status is Status.DONE else _origin_words(session.origin)
            words = " · ".join(filter(None, [place, self._part(current), begins, waits]))
        self._ui.sliceLabel.text, self._ui.sliceLabel.visible = words, bool(words)

    def _status(self, item: Slice) -> str:
        words = {
            Status.TODO: _("○ to do"),
            Status.IN_PROGRESS: _("◐ begun"),
            Status.DONE: _("● done"),
            Status.SKIPPED: _("– skipped"),
            Status.FLAGGED: _("⚑ flagged"),
        }
        refused = self._workspace.refused.of(self._workspace.project.id)
        if item.sample in [entry.sample for entry in refused]:
            return _("⚠ not taken")
        if item.owner:
            return _("with {name}").format(name=item.owner)
        return words[item.status] + ("" if item.sent else _(", on its way"))

    def _progress(self) -> str:
        session = self._workspace.session
        if session is None or not len(session.worklist):
            return _("No slices are suggested yet.")
        counts = session.worklist.counts()
        words = _("Round {round} · {done} of {all} done · {time} min").format(
            round=session.worklist.round,
            done=counts.done,
            all=counts.all,
            time=clock(60 * self._workspace.status.minutes),
        )
        waiting = (
            _(" · {count} on their way to the engine").format(count=counts.unsent)
            if counts.unsent
            else ""
        )
        return words + waiting

    def _short(self) -> str:
        """What the head of the section says while it is folded."""
        session = self._workspace.session
        if session is None or not len(session.worklist):
            return ""
        counts = session.worklist.counts()
        return f"{counts.done} / {counts.all}"

    def _tick(self) -> None:
        """Tell the time spent on the slice, each second."""
        self._stop()
        session = self._workspace.session
        if session is not None and session.current is not None:
            before, self._used = self._used, self._activity.mark()
            if self._used != before:
                session.clock.touch()
            self._ui.timeLabel.text = clock(session.seconds())
            self._stop = self._timer.later(1.0, self._tick)


def _origin_words(origin: Origin | None) -> str:
    """Where the proposal of the slice on screen comes from."""
    if origin is None or origin.source is ProposalSource.EMPTY:
        return ""
    source = {
        ProposalSource.MODEL: _("begins from the model"),
        ProposalSource.NEIGHBORS: _("begins from its neighbors"),
    }[origin.source]
    if origin.quality is None:
        return source
    return _("{source}, Dice about {dice:.2f}").format(source=source, dice=origin.quality)
