"""What is handed in: on its way to the agent's disk, then acknowledged or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from alunet.schema import Status
from ALUNetSlicerLib.annotate.drafts import KEEPING, Draft, Drafts, not_kept
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.worklist import SliceWorklist
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.messages import OutboxNews, OutboxState
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.signal import Signal


class Submissions:
    """The slices that one person hands in. The worklist has the state of each.

    Args:
        agent: with an engine chosen.
        project: id.
        person: whose they are; files on their way are in the person's folder.
        worklist, drafts, initial_labels: of the project.

    Attributes:
        structures: highest number of a structure that the project ever had, as far as known here.
        changed: emits nothing; the worklist changed.
        acknowledged: emits a slice's number and the version that its labels became.
        outdated: emits nothing; another person has labels that are not known here.
        failed: emits a `Failure` for a person to read.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        person: Person,
        worklist: SliceWorklist,
        drafts: Drafts,
        initial_labels: InitialLabels,
    ) -> None:
        self.changed, self.acknowledged, self.failed = Signal(), Signal(), Signal()
        self.outdated = Signal()
        self._agent, self._project, self._person = agent, project, person
        self._worklist, self._drafts, self._initial_labels = worklist, drafts, initial_labels
        self._ask = partial(agent.ask, project=project, author=person.author)
        self.structures: int | None = None
        self._on_their_way: Counter[int] = Counter()
        self._before = set(drafts.samples())
        agent.event.connect(self._hear)

    def hand_in(self, draft: Draft, safe: Callable[[], None]) -> None:
        """Hand labels in as done. What is painted in the slice meanwhile is a draft again.

        Args:
            safe: called when the agent has them on disk; from then on they arrive.
        """
        item, labels, file = draft.item, draft.labels, self._write(draft.labels)
        if file is None:
            return

        def on_disk(_entry: object) -> None:
            file.unlink(missing_ok=True)
            self._end_draft(draft)
            self._on_disk(item.sample, Status.DONE, safe)

        def refused(why: Failure) -> None:
            file.unlink(missing_ok=True)
            self._initial_labels.drop(item.sample)
            self._arrived(item.sample)
            self.failed.emit(why)

        self.keep(draft)
        self._initial_labels.hold(item.sample, draft.base, labels)
        self._depart(item.sample)
        self._ask(
            "submit",
            on_disk,
            refused,
            sample=item.sample,
            file=str(file),
            shape=list(labels.shape),
            dtype=labels.dtype.name,
            base_version=draft.base,
            seconds=draft.seconds,
            status=Status.DONE,
            structures=self.structures,
        )

    def _write(self, labels: np.ndarray) -> Path | None:
        """Write labels for the agent; None, said with the reason, where that is not possible."""
        folder, stored = self._person.folder, labels.dtype.newbyteorder("<")
        file = folder / f"{uuid4().hex}.raw"
        try:
            file.write_bytes(np.ascontiguousarray(labels, stored).tobytes())
        except OSError as error:
            message = _("{folder} cannot be written: {why}.")
            said = message.format(folder=folder, why=error.strerror)
            self.failed.emit(Failure("disk", said, _("Free space."), about="submit"))
            return None
        return file

    def set_status(self, sample: int, status: Status, safe: Callable[[], None]) -> None:
        """Hand in a status without labels; `safe` is called when the agent has it on disk."""

        def on_disk(_entry: object) -> None:
            self._on_disk(sample, status, safe)

        def refused(why: Failure) -> None:
            self._arrived(sample)
            self.failed.emit(why)

        self._depart(sample)
        self._ask("set_status", on_disk, refused, sample=sample, status=status)

    def _depart(self, sample: int) -> None:
        """Something of a slice is on its way."""
        self._on_their_way[sample] += 1
        self._worklist.change(sample, sent=False)

    def _on_disk(self, sample: int, status: Status, safe: Callable[[], None]) -> None:
        """The agent has it; the engine may have answered already."""
        if self._on_their_way[sample]:
            self._worklist.change(sample, status=status)
        self.changed.emit()
        safe()

    def _arrived(self, sample: int, **known: Any) -> None:
        """Note that one submission of a slice has ended.

        Args:
            known: of the slice from now on, where nothing newer of it is on its way.
        """
        self._on_their_way[sample] = max(0, self._on_their_way[sample] - 1)
        if not self._on_their_way[sample]:
            self._worklist.change(sample, sent=True, **known)

    def _end_draft(self, handed_in: Draft) -> None:
        """Drop a slice's draft, but not what was painted after it was handed in."""
        kept = self._drafts.find(handed_in.item.sample)
        newer = kept is not None and kept.at >= handed_in.at
        if not (newer and not np.array_equal(kept.labels, handed_in.labels)):
            self._drafts.drop(handed_in.item.sample)

    def keep(self, draft: Draft) -> None:
        """Keep what is not handed in, or not safe yet, on this computer's disk."""
        try:
            self._drafts.keep(draft.item.sample, draft)
        except OSError as error:
            self.failed.emit(not_kept(error))
        else:
            self._agent.answered.emit(KEEPING)
            self._begun(draft.item.sample)

    def _begun(self, sample: int) -> None:
        """The list says so, also before the engine is asked for it again."""
        known = self._worklist.find(sample)
        if known is not None and known.status == Status.TODO:
            self._worklist.change(sample, status=Status.IN_PROGRESS)
            self.changed.emit()

    def take_up(self, sample: int, labels: np.ndarray, base: int, seconds: float) -> bool:
        """Keep labels that were handed in and not taken as a draft; False, said with the reason,
        where they do not fit or newer paint is there.
        """
        item = self._worklist.find(sample)
        fits = item is not None and item.box.shape == labels.shape
        newer = self._drafts.find(sample) is not None
        if fits and not newer:
            self.keep(Draft(labels, base, seconds, item))
            return True
        lost = _("The slice is no longer in the worklist, or has another shape.")
        message = _("The slice has newer paint, which was kept.") if fits else lost
        hint = _("Hand it in or clear it first.") if fits else ""
        self.failed.emit(Failure("taken", message, hint, about="refused_labels"))
        return False

    def close(self) -> None:
        """Stop listening; what was handed in arrives all the same."""
        self._agent.event.disconnect(self._hear)

    def _hear(self, event: object) -> None:
        if isinstance(event, OutboxNews) and event.project == self._project:
            self._answered(event)

    def _answered(self, news: OutboxNews) -> None:
        """What became of a slice that was handed in."""
        if news.stored is not None:
            status, version = news.stored.status, news.stored.version
            own = self._on_their_way[news.sample] or news.sample in self._before
            self._worklist.change(news.sample, version=version)
            self._arrived(news.sample, status=status)
            if news.annotation and own:
                self._rebase(news.sample, version)
            elif news.annotation:  # of another person here; it goes on from nothing of this one's
                self._initial_labels.drop(news.sample)
        elif news.error is not None:
            self._arrived(news.sample, status=Status.TODO)
            if news.state == OutboxState.CONFLICT:  # the other person's labels are to be shown
                self._initial_labels.drop(news.sample)
                self.outdated.emit()
            if news.state != OutboxState.REFUSED:  # those are told together, see `OutboxRefusals`
                self.failed.emit(self._of_slice(news.sample, news.error))
        self.changed.emit()

    def _of_slice(self, sample: int, why: Failure) -> Failure:
        """It comes when another slice is on screen: say which one it is about."""
        item = self._worklist.find(sample)
        if item is None:
            return why
        words = _("{case}, slice {number}: {why}")
        message = words.format(case=item.case, number=item.box.index + 1, why=why.message)
        return replace(why, message=message)

    def _rebase(self, sample: int, version: int) -> None:
        """What goes on from labels that were handed in goes on from the version they became."""
        self.acknowledged.emit(sample, version)
        try:
            self._initial_labels.rebase(sample, version)
        except OSError as error:
            self.failed.emit(not_kept(error))
