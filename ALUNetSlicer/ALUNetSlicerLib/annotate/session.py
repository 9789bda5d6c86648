"""The flow of annotating: one slice at a time, shown exactly, handed in safely. It knows no
widget.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from alunet.schema import Code, ProposalSource, Status
from ALUNetSlicerLib.annotate.current_slice import CurrentSlice
from ALUNetSlicerLib.annotate.display import SliceDisplay, lost_failure
from ALUNetSlicerLib.annotate.drafts import Autosave, Draft
from ALUNetSlicerLib.annotate.initial_labels import Origin
from ALUNetSlicerLib.annotate.lease import SliceLease
from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.saved_paint import newer_paint
from ALUNetSlicerLib.annotate.session_parts import put_together
from ALUNetSlicerLib.annotate.work_clock import WorkClock
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.canvas import Lost
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Editor, Timer
from ALUNetSlicerLib.ports.signal import Signal


class AnnotationSession:
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
        volumes: of the cases, fetched when they are needed.
        loader: has at hand what a slice is shown with.
        overlay: the uncertainty over the slice on screen.
        taking_back: of labels that were handed in.
        clock: counts the time spent on the slice on screen.
        other_slices: what is painted while painting is not confined to the slice.
        interrupted: the slice on screen until a node that it needs went; None where none did.
        changed: emits nothing; the worklist changed.
        shown: emits the `Slice` that is on screen now.
        failed: emits a `Failure` for a person to read.
    """

    def __init__(
        self,
        agent: AgentProcess,
        timer: Timer,
        person: Person,
        engine: str,
        project: str,
        labels: dict[str, int],
        view: Callable[[], SliceView | None],
        editor: Editor,
    ) -> None:
        self.changed, self.shown, self.failed = Signal(), Signal(), Signal()
        parts = put_together(agent, person, engine, project, labels, view, self.failed.emit)
        self.worklist, self.case_nodes = parts.worklist, parts.case_nodes
        self.loader, self.overlay, self.volumes = parts.loader, parts.overlay, parts.volumes
        self.taking_back, self.other_slices = parts.taking_back, parts.other_slices
        self._drafts, self._initial_labels = parts.drafts, parts.initial_labels
        self._submissions, self._updates = parts.submissions, parts.updates
        self._seen = partial(agent.answered.emit, "show")
        for part in (self._submissions, self._updates, self.taking_back):
            part.changed.connect(self.changed.emit)
        self.clock, self._display = WorkClock(timer), SliceDisplay(self.case_nodes, view, editor)
        self._display.replaced = self._replaced
        self.interrupted: Slice | None = None
        self.case_nodes.canvas.painted = self._painted
        self.case_nodes.canvas.lost = self._lost
        self._updates.erased.connect(self._erased)
        self._submissions.outdated.connect(self._updates.refresh)
        self._submissions.acknowledged.connect(self._acknowledged)
        self._lease = SliceLease(agent, timer, project, person.author, self._leased)
        self._current: CurrentSlice | None = None
        self._autosave = Autosave(timer, self.keep_draft)

    @property
    def current(self) -> Slice | None:
        """The slice on screen, even where it is of a round before."""
        known = self._current
        return None if known is None else self.worklist.find(known.item.sample) or known.item

    def refresh(self, done: Callable[[], None] = lambda: None) -> None:
        """Ask for the worklist."""
        self._updates.refresh(done)

    def use_structures(
        self, labels: dict[str, int], colors: dict[str, str], replaced: dict[str, int]
    ) -> None:
        """Take the project's structures as they are now; what is painted stays, and voxels of a
        removed structure become what the project made of them.

        Args:
            labels: structure name -> value.
            colors: #rrggbb by name.
            replaced: value of a removed structure -> what its voxels are now.
        """
        known = self._current
        painted = self.labels() if known is not None else None
        self.keep_draft()
        self._initial_labels.forget()
        self.case_nodes.canvas.pause()
        self.know_structures(labels, colors, replaced)
        if known is not None and painted is not None:
            known.start = self._initial_labels.current(known.start)
            self._display.open(self._initial_labels.current(painted))
            self._watch(known.item)
        self.refresh()

    def know_structures(
        self, labels: dict[str, int], colors: dict[str, str], replaced: dict[str, int]
    ) -> None:
        """Know the project's structures; see `use_structures`."""
        self._initial_labels.replaced = replaced
        self._submissions.structures = max([*labels.values(), *map(int, replaced)])
        self.case_nodes.use(labels, colors)

    def new_proposals(self) -> None:
        """The model was asked about whole cases: what it said of their slices before is not the
        newest.
        """
        self._initial_labels.drop_proposals()

    def pick_up(self) -> None:
        """Show what was begun last and not handed in, where nothing is on screen."""
        begun = list(filter(self.worklist.find, self._drafts.samples()))
        if begun and self.loader.wanted is None:
            self.go_to(begun[-1])

    # --- going from slice to slice ----------------------------------------------------------------

    def go_to(self, sample: int) -> None:
        """Show a slice: with its draft, else its labels, else the proposal, else empty."""
        item = self.worklist.find(sample)
        if item is None:
            message = _("Slice {number} is not in the worklist.").format(number=sample)
            self.failed.emit(Failure(Code.NOT_FOUND.value, message, _("Refresh it."), about="show"))
            return
        self.keep_draft()
        self.loader.wanted, show = sample, partial(self._show, item)
        self.other_slices.after(sample, partial(self.loader.load, item, show))

    def resume(self, sample: int) -> None:
        """Show a slice that a scene was saved with; of scene and draft the newer counts, for each
        slice that was begun, where nothing was handed in since.
        """
        for draft in newer_paint(self.case_nodes, self.worklist, self._drafts):
            self._submissions.keep(draft)
        if self.worklist.find(sample) is not None:
            self.go_to(sample)

    def take_up(self, sample: int, labels: np.ndarray, base: int, seconds: float) -> bool:
        """Show a slice with labels that were handed in and not taken, as a draft that goes on from
        them; False where newer paint of the slice stays.
        """
        self.keep_draft()
        taken = self._submissions.take_up(sample, labels, base, seconds)
        if taken:
            self.go_to(sample)
        return taken

    def go_on(self) -> None:
        """Show the slice again that was on screen until a node went."""
        if self.interrupted is not None:
            self.go_to(self.interrupted.sample)

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

    def _show(self, item: Slice, base: int, labels: np.ndarray) -> None:
        if self.case_nodes.volume(item.case) is None:
            self.go_to(item.sample)  # it was removed while the labels came
            return
        self.keep_draft()  # painted while this one came, in another slice or in this one
        base, labels = self._initial_labels.drafted(item) or (base, labels)
        draft = self._drafts.find(item.sample)
        try:
            self._display.show(item, labels)
        except ValueError as error:
            self.failed.emit(
                Failure("view", str(error), _("See the module Transforms."), about="show")
            )
            return
        self.clock.begin(draft.seconds if draft is not None else 0.0)
        at = draft.at if draft is not None else 0.0
        self._current = CurrentSlice(item, base, self._display.labels(), at)
        self.interrupted = None
        self._watch(item)
        self.shown.emit(item)
        self._lease.take(item.sample)
        self._autosave.start()
        self.overlay.show(item)
        self.loader.load_after(item)

    # --- how the slice is worked on ---------------------------------------------------------------

    @property
    def locked(self) -> bool:
        """Whether painting is confined to the slice and its box."""
        return self._display.locked

    @locked.setter
    def locked(self, locked: bool) -> None:
        self.keep_draft()
        self._display.locked = locked
        if self._current is not None:
            self._watch(self._current.item)

    def _watch(self, item: Slice) -> None:
        """See what is painted in other slices, where that is possible."""
        self.other_slices.stop()
        if not self._display.confined:
            self.other_slices.watch(item)

    def set_overlay(self, wanted: bool) -> None:
        """Lay the model's uncertainty over the slice, or not."""
        self.overlay.wanted = wanted
        self.overlay.show(self.current)

    def begin_again(self, proposal: bool, source: ProposalSource | None = None) -> None:
        """Put a proposal into the slice on screen, or nothing; it can be undone.

        Args:
            source: of the proposal; None for the best.
        """
        if self._current is None:
            return
        item = self._current.item

        def put(labels: np.ndarray) -> None:
            if self._is_current(item.sample):
                self.paint(labels)
                self.changed.emit()

        if proposal:
            self._initial_labels.proposal(item, put, self.failed.emit, source)
        else:
            put(np.zeros(item.box.shape, np.uint8))

    @property
    def origin(self) -> Origin | None:
        """Where the proposal of the slice on screen comes from; None where it has none."""
        if self._current is None:
            return None
        return self._initial_labels.origin(self._current.item.sample)

    def labels(self) -> np.ndarray:
        """What is painted in the slice on screen: its box, (k, j, i)."""
        return self._display.labels()

    def paint(self, labels: np.ndarray) -> None:
        """Replace what is painted in the slice on screen; it can be undone.

        Raises:
            ValueError: not of the box's shape.
        """
        self._display.paint(labels)

    # --- handing in -------------------------------------------------------------------------------

    def seconds(self) -> float:
        """Time spent on the slice on screen, by whoever paints here."""
        return 0.0 if self._current is None else self.clock.seconds

    def submit(self, then: Callable[[], None] | None = None) -> None:
        """Hand the slice on screen in as done; when the agent has it on disk the next one is shown.

        Args:
            then: instead of showing the next one.
        """
        if self._current is None:
            return
        self.other_slices.collect()
        known = self._current
        draft = Draft(self.labels(), known.base, self.seconds(), known.item, known.painted)

        def safe() -> None:
            if self._drafts.find(draft.item.sample) is None:  # nothing was painted since
                self.case_nodes.end(draft.item.case, draft.item.sample)
            if self._is_current(draft.item.sample):
                self._current.start = draft.labels  # what is painted from now on is a draft again
            self._go_on_from(draft.item.sample, then)

        self._submissions.hand_in(draft, safe)

    def _go_on_from(self, sample: int, then: Callable[[], None] | None = None) -> None:
        """Show the next slice, where the person did not go elsewhere meanwhile."""
        if self.loader.wanted == sample:
            (then or self.next)()

    def nothing_here(self) -> None:
        """Hand the slice in without any structure in it."""
        if self._current is not None:
            self.paint(np.zeros(self._current.item.box.shape, np.uint8))
            self.submit()

    def set_status(self, status: Status) -> None:
        """Skip or flag the slice on screen, and show the next one; what was painted is kept as a
        draft.
        """
        if self._current is not None:
            self.keep_draft(status)
            sample = self._current.item.sample
            go_on = partial(self._go_on_from, sample)
            self._submissions.set_status(sample, status, go_on)

    def take_back(self) -> None:
        """Take the labels of the slice on screen back, or undo that; what was painted and not
        handed in stays a draft.
        """
        item = self.current
        if item is None:
            return

        def again(version: int) -> None:
            if self._is_current(item.sample):
                self._current.base = version
                self.go_to(item.sample)

        self.taking_back.change(item, again)

    def keep_draft(self, status: Status = Status.IN_PROGRESS) -> None:
        """Keep what is painted and not handed in, if anything was."""
        item, known = self.current, self._current
        if item is None or known is None:
            return
        labels = self.labels()
        if not np.array_equal(labels, known.start):
            begun = replace(item, status=status)
            draft = Draft(labels, known.base, self.seconds(), begun, known.painted)
            self.other_slices.keep(draft)
        if self.other_slices.collect():
            self.changed.emit()

    def leave(self) -> None:
        """The person does something else for now: the draft is kept, view and painting are as
        they were before. What is painted in the case's labels elsewhere counts as paint.
        """
        self.keep_draft()
        self.loader.leave()
        self.overlay.forget()
        self._display.leave()
        if self._current is not None:
            self._watch(self._current.item)

    def enter(self) -> None:
        """Go on with the slice that was on screen, or asked for."""
        sample = self.loader.come_back()
        if sample is not None:
            self.go_to(sample)

    def scene_closing(self) -> None:
        """Let go of every node; what was painted is a draft."""
        self.keep_draft()
        self.overlay.show(None)
        self._display.forget()
        self._end_slice()
        self.case_nodes.forget()

    def close(self) -> None:
        """The person goes: as `leave`, the slice is given back, and nothing is shown any more."""
        self.keep_draft()
        self._display.restore()
        self._end_slice()
        self.case_nodes.hide()
        self._submissions.close()
        self._updates.close()

    def _end_slice(self) -> None:
        self._autosave.stop()
        self.other_slices.stop()
        self._lease.give_back()
        self.overlay.forget()
        self.loader.forget()
        self._current = None

    # --- what comes from elsewhere ----------------------------------------------------------------

    def _leased(self, sample: int, why: Failure) -> None:
        """Somebody else works on it."""
        self.worklist.change(sample, owner=why.author)
        self.changed.emit()
        self.failed.emit(why)

    def _painted(self) -> None:
        """Let the scene say when: it may be saved, and it must be known which is newer then."""
        known = self._current
        if known is not None:
            known.painted = time.time()
            self.case_nodes.begin(known.item.case, known.item.sample, known.base, known.painted)

    def _replaced(self, name: str) -> None:
        """The view shows another volume, or that of the slice again."""
        item = self.current
        if item is None:
            return  # its volume went: Slicer shows another one, and what was said of it stays
        if not name:
            self._seen()
            return
        message = _("The view shows “{name}”, but you paint in {case}.")
        words = message.format(name=name, case=item.case)
        self.failed.emit(Failure("view", words, _("Click the slice in the list."), about="show"))

    def _lost(self, why: Lost, name: str) -> None:
        """A node goes that the slice needs, or went: what is painted is known all the same."""
        item = self.current
        if item is None:
            return
        self.keep_draft()
        self._display.rest()
        self._end_slice()
        self.interrupted = item
        self.failed.emit(lost_failure(why, name))
        self.changed.emit()

    def _erased(self, samples: list[int]) -> None:
        """The slice on screen must not become a draft again."""
        if self.loader.wanted in samples:
            self.loader.wanted = None  # its answer must not be shown
        if self._current is not None and self._current.item.sample in samples:
            self.overlay.show(None)
            self._end_slice()
            self._display.restore()

    def _acknowledged(self, sample: int, version: int) -> None:
        if self._is_current(sample):
            self._current.base = version

    def _is_current(self, sample: int) -> bool:
        """Whether it is the slice on screen."""
        return self._current is not None and self._current.item.sample == sample
