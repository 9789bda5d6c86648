"""The flow of annotating: one slice at a time, shown exactly, handed in safely. It knows no widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ALUNetSlicerLib.annotate.current_slice import CurrentSlice
from ALUNetSlicerLib.annotate.drafts import Draft, Drafts
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.lease import Lease
from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.uncertainty_overlay import UncertaintyOverlay
from ALUNetSlicerLib.annotate.worklist import Slice, Worklist
from ALUNetSlicerLib.engine.agent_process import Agent
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.protocols import Editor, Timer
from ALUNetSlicerLib.ports.signal import Signal

DRAFT_SECONDS = 10.0
"""How often what is painted is kept on disk while somebody works on a slice."""


class Session:
    """One person's work on one project.

    Args:
        agent: started, with an engine chosen.
        timer: of the main thread.
        person: who annotates, and where drafts are kept.
        engine, project: ids.
        labels: structure name -> value.
        view: gives the view to show slices in, or None without views.
        editor: what is painted with.

    Attributes:
        worklist: the slices.
        case_nodes: their nodes in the scene.
        overlay: the uncertainty over the slice on screen.
        proposals: whether a slice begins with the model's proposal.
        changed: emits nothing; the worklist changed.
        shown: emits the `Slice` that is on screen now.
        failed: emits a `Failure` for a person to read.
    """

    def __init__(
        self, agent: Agent, timer: Timer, person: Person, engine: str, project: str, labels: dict[str, int],
        view: Callable[[], SliceView | None], editor: Editor,
    ) -> None:  # fmt: skip
        self.worklist, self.case_nodes = Worklist(), CaseNodes(project, labels)
        self.proposals = True
        self.changed, self.shown, self.failed = Signal(), Signal(), Signal()
        self.overlay = UncertaintyOverlay(agent, project, self.case_nodes, view)
        self.overlay.failed.connect(self.failed.emit)
        self._locked = True
        self._agent, self._timer, self._folder, self._author = agent, timer, person.folder, person.author
        self._ask = partial(agent.ask, project=project)
        self._project, self._view, self._editor = project, view, editor
        self._drafts = Drafts(person.folder / "drafts", engine, project)
        self._initial_labels = InitialLabels(agent, self._drafts, project)
        self._lease = Lease(agent, timer, project, person.author, self._leased)
        self._current: CurrentSlice | None = None
        self._wanted: int | None = None
        self._stop_drafts: Callable[[], None] = lambda: None
        agent.event.connect(self._hear)

    @property
    def current(self) -> Slice | None:
        """The slice on screen, even where it is of a round before."""
        known = self._current
        return None if known is None else self.worklist.find(known.item.sample) or known.item

    def refresh(self, done: Callable[[], None] = lambda: None) -> None:
        """Ask for the worklist."""

        def take(rows: list[dict[str, Any]]) -> None:
            before = self.worklist.round
            self.worklist.fill(self._drafts.mark([Slice.of_row(row, self._author) for row in rows]))
            if self.worklist.round != before:
                self._initial_labels.drop_proposals()
            self.changed.emit()
            done()

        self._ask("worklist", take, self.failed.emit)

    def new_proposals(self) -> None:
        """The model was asked about whole cases: what it said of their slices before is not the newest."""
        self._initial_labels.drop_proposals()

    def pick_up(self) -> None:
        """Show what was begun last and not handed in, where nothing is on screen."""
        begun = list(filter(self.worklist.find, self._drafts.samples()))
        if begun and self._wanted is None:
            self.go_to(begun[-1])

    # --- going from slice to slice ----------------------------------------------------------------------------

    def go_to(self, sample: int) -> None:
        """Show a slice: with its draft, else its labels, else the proposal, else empty."""
        item = self.worklist.find(sample)
        if item is None:
            self.failed.emit(Failure("not_found", f"Slice {sample} is not in the worklist.", "Refresh it."))
            return
        self.keep_draft()
        self._wanted, show = sample, partial(self._show, item)
        self.load(item.case, lambda _: self._initial_labels.find(item, self.proposals, show, self.failed.emit))

    def resume(self, sample: int, base: int) -> None:
        """Show a slice that a scene was saved with, and what was painted in it then, where no newer draft is here."""
        item = self.worklist.find(sample)
        if item is not None and self._drafts.find(sample) is None and self.case_nodes.has_labels(item.case):
            self._keep(sample, Draft(self.case_nodes.segmentation(item.case).read(item.box), base, 0.0, item))
        if item is not None:
            self.go_to(sample)

    @property
    def base(self) -> int:
        """Version of the labels that the slice on screen began with."""
        return 0 if self._current is None else self._current.base

    def next(self) -> None:
        """Show the next slice that is to be done."""
        item = self.worklist.next_open(None if self.current is None else self.current.rank)
        if item is not None:
            self.go_to(item.sample)

    def step(self, by: int) -> None:
        """Show the slice so many places further, done or not."""
        beside = None if self.current is None else self.worklist.beside(self.current.sample, by)
        if beside is not None:
            self.go_to(beside.sample)

    def load(self, case: str, then: Callable[[Any], None]) -> None:
        """Give the volume node of a case; it is fetched where the scene has none."""
        if self.case_nodes.volume(case) is not None:
            then(self.case_nodes.volume(case))
            return

        def loaded(result: dict[str, str]) -> None:
            try:
                if self.case_nodes.volume(case) is None:
                    self.case_nodes.load(case, Path(result["file"]))
            except ValueError as error:
                self.failed.emit(Failure("image", str(error), "Fetch it again."))
                return
            then(self.case_nodes.volume(case))

        self._ask("fetch", loaded, self.failed.emit, case=case, what="images/0", format="nrrd")

    def _show(self, item: Slice, base: int, labels: np.ndarray) -> None:
        if self._wanted != item.sample:
            return  # the person went on meanwhile
        draft = self._drafts.find(item.sample)
        self.case_nodes.segmentation(item.case).write(item.box, labels)
        try:
            self._put_on_screen(item)
        except ValueError as error:
            self.failed.emit(Failure("view", str(error), "See the module Transforms."))
            return
        spent = draft.seconds if draft is not None else 0.0
        self._current = CurrentSlice(item, base, labels.copy(), self._timer.now(), spent)
        self.shown.emit(item)
        self._lease.take(item.sample)
        self._stop_drafts()
        self._stop_drafts = self._timer.later(DRAFT_SECONDS, self._draft_again)
        self.overlay.show(item)
        self._prepare_next()

    def _put_on_screen(self, item: Slice) -> None:
        """The slice in the view, the case in the editor, painting confined; raises ValueError."""
        view, segmentation = self._view(), self.case_nodes.segmentation(item.case)
        if view is not None:
            view.show(segmentation.volume, item.box)
        self.case_nodes.confine(item.case, item.box, self._locked)
        self._editor.show(self.case_nodes.editor_node(), segmentation.node, segmentation.volume)
        self._editor.forget()  # an undo would bring back the lock of the slice before

    def _prepare_next(self) -> None:
        """Have the next slice's volume and labels at hand before they are asked for."""
        item = self.worklist.next_open(self._current.item.rank) if self._current else None
        if item is None or item.sample == self._current.item.sample or self._initial_labels.knows(item.sample):
            return
        self.load(item.case, lambda _: self._initial_labels.find(item, self.proposals, lambda *_: None, lambda _: None))

    # --- how the slice is worked on ---------------------------------------------------------------------------

    @property
    def locked(self) -> bool:
        """Whether painting is confined to the slice and its box."""
        return self._locked

    @locked.setter
    def locked(self, locked: bool) -> None:
        self._locked = locked
        self.case_nodes.mask(locked)

    def set_overlay(self, wanted: bool) -> None:
        """Lay the model's uncertainty over the slice, or not."""
        self.overlay.wanted = wanted
        self.overlay.show(self.current)

    def begin_again(self, proposal: bool) -> None:
        """Put the model's proposal into the slice on screen, or nothing; it can be undone."""
        if self._current is None:
            return
        item = self._current.item

        def put(labels: np.ndarray) -> None:
            if self._current is not None and self._current.item.sample == item.sample:
                self.paint(labels)

        if proposal:
            self._initial_labels.proposal(item, put, self.failed.emit)
        else:
            put(np.zeros(item.box.shape, np.uint8))

    def labels(self) -> np.ndarray:
        """What is painted in the slice on screen: its box, (k, j, i)."""
        return self.case_nodes.segmentation(self._current.item.case).read(self._current.item.box)

    def paint(self, labels: np.ndarray) -> None:
        """Replace what is painted in the slice on screen; it can be undone.

        Raises:
            ValueError: not of the box's shape.
        """
        self._editor.remember()
        self.case_nodes.segmentation(self._current.item.case).write(self._current.item.box, labels)

    # --- handing in -------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """Time spent on the slice on screen, by whoever paints here."""
        return 0.0 if self._current is None else self._current.spent + self._timer.now() - self._current.since

    def submit(self, then: Callable[[], None] | None = None) -> None:
        """Hand the slice on screen in as done; when the agent has it on disk the next one is shown.

        Args:
            then: instead of showing the next one.
        """
        if self._current is None:
            return
        item, base, labels = self._current.item, self._current.base, self.labels()
        file, stored = self._folder / f"{uuid4().hex}.raw", labels.dtype.newbyteorder("<")
        try:
            file.write_bytes(np.ascontiguousarray(labels, stored).tobytes())
        except OSError as error:
            self.failed.emit(Failure("disk", f"{self._folder} cannot be written: {error.strerror}.", "Free space."))
            return

        def safe(_: Any) -> None:
            file.unlink(missing_ok=True)
            self._drafts.drop(item.sample)
            if self._current is not None and self._current.item.sample == item.sample:
                self._current.start = labels  # what is painted from now on is a draft again
            known = self.worklist.find(item.sample)
            if known is not None and not known.sent:  # else the engine has answered already
                self.worklist.change(item.sample, status="done")
            self.changed.emit()
            (then or self.next)()

        def refused(why: Failure) -> None:
            file.unlink(missing_ok=True)
            self._initial_labels.drop(item.sample)
            self.worklist.change(item.sample, sent=True)
            self.failed.emit(why)

        seconds = self.seconds()
        self._stop_drafts()
        self._keep(item.sample, Draft(labels, base, seconds, item))
        self._initial_labels.hold(item.sample, base, labels)
        self.worklist.change(item.sample, sent=False)
        self._ask(
            "submit", safe, refused, sample=item.sample, file=str(file), shape=list(labels.shape),
            dtype=labels.dtype.name, base_version=base, author=self._author, seconds=seconds, status="done",
        )  # fmt: skip

    def nothing_here(self) -> None:
        """Hand the slice in without any structure in it."""
        if self._current is not None:
            self.paint(np.zeros(self._current.item.box.shape, np.uint8))
            self.submit()

    def set_status(self, status: str) -> None:
        """Skip or flag the slice on screen, and show the next one; what was painted is kept as a draft."""
        if self._current is None:
            return
        self.keep_draft(status)
        sample = self._current.item.sample

        def safe(_: Any) -> None:
            self.worklist.change(sample, status=status, sent=False)
            self.changed.emit()
            self.next()

        self._ask("set_status", safe, self.failed.emit, sample=sample, status=status, author=self._author)

    def keep_draft(self, status: str = "in_progress") -> None:
        """Keep what is painted and not handed in, if anything was."""
        item = self.current
        if item is not None and self.case_nodes.volume(item.case) is not None:  # else the scene was closed
            labels = self.labels()
            if not np.array_equal(labels, self._current.start):
                self._keep(item.sample, Draft(labels, self._current.base, self.seconds(), replace(item, status=status)))

    def leave(self) -> None:
        """The person does something else for now: the draft is kept, view and painting are as they were before."""
        self.keep_draft()
        self._stop_drafts()
        self._editor.rest()
        self.case_nodes.unlock_others()
        if (view := self._view()) is not None:
            view.restore()

    def enter(self) -> None:
        """Go on with the slice that was on screen."""
        if self._current is not None:
            self.go_to(self._current.item.sample)

    def scene_closing(self) -> None:
        """Let go of every node; what was painted is a draft."""
        self.keep_draft()
        self._editor.rest()
        self.overlay.show(None)
        if (view := self._view()) is not None:
            view.forget()
        self._end_slice()
        self.case_nodes.forget()

    def close(self) -> None:
        """The person goes: as `leave`, and the slice is given back."""
        self.leave()
        self._end_slice()
        self._agent.event.disconnect(self._hear)

    def _end_slice(self) -> None:
        self._stop_drafts()
        self._lease.give_back()
        self._current = self._wanted = None

    def _keep(self, sample: int, draft: Draft) -> None:
        try:
            self._drafts.keep(sample, draft)
        except OSError as error:
            self.failed.emit(Failure("disk", f"The draft cannot be kept: {error.strerror}.", "Free space there."))

    def _draft_again(self) -> None:
        self.keep_draft()
        self._stop_drafts = self._timer.later(DRAFT_SECONDS, self._draft_again)

    def _leased(self, sample: int, why: Failure) -> None:
        """Somebody else works on it."""
        self.worklist.change(sample, owner=(why.details or {}).get("author", "?"))
        self.changed.emit()
        self.failed.emit(why)

    # --- what comes from elsewhere ----------------------------------------------------------------------------

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "outbox" and event.get("project") == self._project:
            self._sent(event)
        elif event["event"] == "project" and event.get("project") == self._project and event["kind"] == "sample":
            data = event["data"]
            known = self.worklist.find(data["sample"])
            if known is not None and known.sent:
                self.worklist.change(data["sample"], status=data["status"], version=data["version"])
                self._initial_labels.drop(data["sample"])
                self.changed.emit()
        elif event["event"] == "project" and event.get("project") == self._project and event["kind"] == "worklist":
            self.refresh()  # somebody chose a slice

    def _sent(self, event: dict[str, Any]) -> None:
        """What became of a slice that was handed in."""
        if event["state"] == "sent":
            sample, answer = event["sample"], event["answer"]
            self.worklist.change(sample, sent=True, status=answer["status"], version=answer["version"])
            if event["annotation"]:
                self._rebase(sample, answer["version"])
        elif event["state"] in ("conflict", "refused"):
            self.worklist.change(event["sample"], sent=True, status="todo")
            self.failed.emit(Failure(**event["answer"]))
        self.changed.emit()

    def _rebase(self, sample: int, version: int) -> None:
        """What goes on from labels that were handed in goes on from the version they became."""
        if self._current is not None and self._current.item.sample == sample:
            self._current.base = version
        try:
            self._initial_labels.rebase(sample, version)
        except OSError as error:
            self.failed.emit(Failure("disk", f"The draft cannot be kept: {error.strerror}.", "Free space there."))
