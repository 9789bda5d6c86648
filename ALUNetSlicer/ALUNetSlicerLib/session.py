"""The flow of annotating: one slice at a time, shown exactly, handed in safely. It knows no widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ALUNetSlicerLib.agent import Agent, Failure
from ALUNetSlicerLib.desk import Desk
from ALUNetSlicerLib.drafts import Draft, Drafts
from ALUNetSlicerLib.ports import Timer
from ALUNetSlicerLib.signal import Signal
from ALUNetSlicerLib.worklist import Slice, Worklist

LEASE_SECONDS = 300.0
DRAFT_SECONDS = 10.0
"""How often what is painted is kept on disk while somebody works on a slice."""


@dataclass
class _Current:
    """The slice on screen: what it is, what it began with, and since when."""

    item: Slice
    base: int
    start: np.ndarray
    since: float
    spent: float


class Session:
    """One person's work on one project.

    Args:
        agent: started, with an engine chosen.
        timer: of the main thread.
        folder: for drafts and for labels on their way to the agent.
        engine, project: ids.
        labels: structure name -> value.
        author: who annotates.
        slice_node: gives the node of the view to show slices in, or None without views.

    Attributes:
        worklist: the slices.
        proposals: whether a slice begins with the model's proposal.
        locked: whether painting is confined to the slice's box.
        changed: emits nothing; the worklist changed.
        shown: emits the `Slice` that is on screen now.
        failed: emits a `Failure` for a person to read.
    """

    def __init__(
        self, agent: Agent, timer: Timer, folder: Path, engine: str, project: str, labels: dict[str, int],
        author: str, slice_node: Callable[[], Any | None],
    ) -> None:  # fmt: skip
        self.worklist, self.desk = Worklist(), Desk(project, labels)
        self.proposals, self.locked = True, True
        self.changed, self.shown, self.failed = Signal(), Signal(), Signal()
        self._agent, self._timer, self._folder = agent, timer, folder
        self._project, self._author, self._slice_node = project, author, slice_node
        self._drafts = Drafts(folder / "drafts", engine, project)
        self._current: _Current | None = None
        self._wanted: int | None = None
        self._ready: dict[int, tuple[int, np.ndarray]] = {}
        self._stop_drafts: Callable[[], None] = lambda: None
        agent.event.connect(self._hear)

    @property
    def current(self) -> Slice | None:
        """The slice on screen."""
        return None if self._current is None else self.worklist.find(self._current.item.sample)

    def refresh(self, done: Callable[[], None] = lambda: None) -> None:
        """Ask for the worklist."""

        def take(rows: list[dict[str, Any]]) -> None:
            self.worklist.fill([Slice.of_row(row, self._author) for row in rows])
            self.changed.emit()
            done()

        self._agent.ask("worklist", take, self.failed.emit, project=self._project)

    # --- going from slice to slice ----------------------------------------------------------------------------

    def go_to(self, sample: int) -> None:
        """Show a slice: with its draft, else its labels, else the proposal, else empty."""
        item = self.worklist.find(sample)
        if item is None:
            self.failed.emit(Failure("not_found", f"Slice {sample} is not in the worklist.", "Refresh it."))
            return
        self.keep_draft()
        self._wanted = sample
        self._with_volume(item, lambda: self._with_labels(item, lambda base, labels: self._show(item, base, labels)))

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

    def _with_volume(self, item: Slice, then: Callable[[], None]) -> None:
        if self.desk.volume(item.case) is not None:
            then()
            return

        def loaded(result: dict[str, str]) -> None:
            try:
                if self.desk.volume(item.case) is None:
                    self.desk.load(item.case, Path(result["file"]))
            except ValueError as error:
                self.failed.emit(Failure("image", str(error), "Fetch it again."))
                return
            then()

        self._agent.ask(
            "fetch", loaded, self.failed.emit, project=self._project, case=item.case, what="images/0", format="nrrd"
        )

    def _with_labels(self, item: Slice, then: Callable[[int, np.ndarray], None]) -> None:
        """The version and the labels that a slice begins with."""
        draft = self._drafts.find(item.sample)
        if draft is not None and draft.labels.shape == item.box.shape:
            then(draft.base, draft.labels)
        elif item.sample in self._ready:
            then(*self._ready[item.sample])
        elif item.version or self.proposals:
            self._fetch(item, then)
        else:
            then(0, np.zeros(item.box.shape, np.uint8))

    def _fetch(self, item: Slice, then: Callable[[int, np.ndarray], None]) -> None:
        def take(answer: dict[str, Any]) -> None:
            labels = np.fromfile(answer["file"], answer["dtype"]).reshape(answer["shape"])
            self._ready[item.sample] = answer["version"] if item.version else 0, labels
            then(*self._ready[item.sample])

        def nothing(why: Failure) -> None:
            if not item.version and why.code in ("not_found", "unreachable"):
                then(0, np.zeros(item.box.shape, np.uint8))
            else:
                self.failed.emit(why)

        call = "annotation" if item.version else "proposal"
        self._agent.ask(call, take, nothing, project=self._project, sample=item.sample)

    def _show(self, item: Slice, base: int, labels: np.ndarray) -> None:
        if self._wanted != item.sample:
            return  # the person went on meanwhile
        draft = self._drafts.find(item.sample)
        self.desk.canvas(item.case).write(item.box, labels)
        self.desk.show(item.case, item.box, self._slice_node(), self.locked)
        spent = draft.seconds if draft is not None else 0.0
        self._current = _Current(item, base, labels.copy(), self._timer.now(), spent)
        self.shown.emit(item)
        self._lease()
        self._stop_drafts()
        self._stop_drafts = self._timer.later(DRAFT_SECONDS, self._draft_again)
        self._prepare_next()

    def _prepare_next(self) -> None:
        """Have the next slice's volume and labels at hand before they are asked for."""
        item = self.worklist.next_open(self._current.item.rank) if self._current else None
        if item is not None and item.sample != self._current.item.sample and item.sample not in self._ready:
            self._with_volume(item, lambda: self._with_labels(item, lambda base, labels: None))

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
        item, base, labels = self._current.item, self._current.base, self._labels()
        file = self._folder / f"{uuid4().hex}.raw"
        try:
            file.write_bytes(np.ascontiguousarray(labels, labels.dtype.newbyteorder("<")).tobytes())
        except OSError as error:
            self.failed.emit(Failure("disk", f"{self._folder} cannot be written: {error.strerror}.", "Free space."))
            return

        def safe(_: Any) -> None:
            file.unlink(missing_ok=True)
            self._drafts.drop(item.sample)
            if self._current is not None and self._current.item.sample == item.sample:
                self._current.start = labels  # what is painted from now on is a draft again
            if not self.worklist.find(item.sample).sent:  # else the engine has answered already
                self.worklist.change(item.sample, status="done")
            self.changed.emit()
            (then or self.next)()

        def refused(why: Failure) -> None:
            file.unlink(missing_ok=True)
            self._ready.pop(item.sample, None)
            self.worklist.change(item.sample, sent=True)
            self.failed.emit(why)

        seconds = self.seconds()
        self._stop_drafts()
        self._keep(item.sample, Draft(labels, base, seconds))
        self._ready[item.sample] = base, labels  # until the engine has it, here alone
        self.worklist.change(item.sample, sent=False)
        self._agent.ask(
            "submit", safe, refused, project=self._project, sample=item.sample, file=str(file),
            shape=list(labels.shape), dtype=labels.dtype.name, base_version=base, author=self._author,
            seconds=seconds, status="done",
        )  # fmt: skip

    def nothing_here(self) -> None:
        """Hand the slice in without any structure in it."""
        if self._current is not None:
            item = self._current.item
            self.desk.canvas(item.case).write(item.box, np.zeros(item.box.shape, np.uint8))
            self.submit()

    def set_status(self, status: str) -> None:
        """Skip or flag the slice on screen, and show the next one; what was painted is kept as a draft."""
        if self._current is None:
            return
        self.keep_draft()
        sample = self._current.item.sample

        def safe(_: Any) -> None:
            self.worklist.change(sample, status=status, sent=False)
            self.changed.emit()
            self.next()

        self._agent.ask(
            "set_status", safe, self.failed.emit, project=self._project, sample=sample, status=status,
            author=self._author,
        )  # fmt: skip

    def keep_draft(self) -> None:
        """Keep what is painted and not handed in, if anything was."""
        item = self.current
        if item is not None and self.desk.volume(item.case) is not None:  # a scene that was closed has nothing to keep
            labels = self._labels()
            if not np.array_equal(labels, self._current.start):
                self._keep(item.sample, Draft(labels, self._current.base, self.seconds()))

    def close(self) -> None:
        """The person goes: the draft is kept, the lock is taken away."""
        self.keep_draft()
        self._stop_drafts()
        self.desk.unlock_others()
        self._agent.event.disconnect(self._hear)
        if self._current is not None:
            sample, self._current = self._current.item.sample, None
            self._agent.ask("give_back", project=self._project, sample=sample, author=self._author)

    def _keep(self, sample: int, draft: Draft) -> None:
        try:
            self._drafts.keep(sample, draft)
        except OSError as error:
            self.failed.emit(Failure("disk", f"The draft cannot be kept: {error.strerror}.", "Free space there."))

    def _draft_again(self) -> None:
        self.keep_draft()
        self._stop_drafts = self._timer.later(DRAFT_SECONDS, self._draft_again)

    def _labels(self) -> np.ndarray:
        return self.desk.canvas(self._current.item.case).read(self._current.item.box)

    def _lease(self) -> None:
        """Tell the others that somebody works here; without a connection nobody is told, and work goes on."""

        def taken(why: Failure) -> None:
            if why.code == "leased":
                self.worklist.change(sample, owner=(why.details or {}).get("author", "?"))
                self.changed.emit()
                self.failed.emit(why)

        sample = self._current.item.sample
        self._agent.ask(
            "lease", failed=taken, project=self._project, sample=sample, author=self._author, seconds=LEASE_SECONDS
        )

    # --- what comes from elsewhere ----------------------------------------------------------------------------

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "outbox" and event.get("project") == self._project:
            self._sent(event)
        elif event["event"] == "project" and event.get("project") == self._project and event["kind"] == "sample":
            data = event["data"]
            known = self.worklist.find(data["sample"])
            if known is not None and known.sent:
                self.worklist.change(data["sample"], status=data["status"], version=data["version"])
                self._ready.pop(data["sample"], None)
                self.changed.emit()

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
        if sample in self._ready:
            self._ready[sample] = version, self._ready[sample][1]
        if self._current is not None and self._current.item.sample == sample:
            self._current.base = version
        draft = self._drafts.find(sample)
        if draft is not None:
            self._keep(sample, replace(draft, base=version))
