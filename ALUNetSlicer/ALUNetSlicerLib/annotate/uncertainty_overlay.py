"""The model's uncertainty laid over the slice on screen, where somebody wants to see it."""

from __future__ import annotations

from collections.abc import Callable

from alunet.schema import Code
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.engine.messages import FetchedVoxels
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_view import SliceView
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.signal import Signal


class UncertaintyOverlay:
    """Shown or not; asked for one slice at a time.

    Args:
        agent: with an engine chosen.
        project: id.
        case_nodes: of the project.
        view: gives the view, or None without views.

    Attributes:
        wanted: whether somebody wants to see it.
        lacking: whether it is wanted, and has not been computed yet.
        missing: emits nothing; the uncertainty of the slice has not been computed.
        failed: emits a `Failure`.
    """

    def __init__(
        self,
        agent: AgentProcess,
        project: str,
        case_nodes: CaseNodes,
        view: Callable[[], SliceView | None],
    ) -> None:
        self.wanted = self.lacking = False
        self.missing, self.failed = Signal(), Signal()
        self._agent, self._project, self._case_nodes, self._view = agent, project, case_nodes, view
        self._item: Slice | None = None

    def forget(self) -> None:
        """No slice is on screen: what is on its way is not shown; the view stays as it is."""
        self._item, self.lacking = None, False

    def _lay(self, view: SliceView, item: Slice, answer: FetchedVoxels) -> None:
        try:
            values = answer.read()
        except (OSError, ValueError) as error:
            message = _("The uncertainty of {case} cannot be read: {why}.")
            said = message.format(case=item.case, why=error)
            self.failed.emit(Failure("spool", said, about="uncertainty"))
            return
        self.lacking = False
        view.overlay(self._case_nodes.overlay(item.case, item.box, values))

    def show(self, item: Slice | None) -> None:
        """Lay it over a slice that is on screen, where it is wanted; over none, take it away."""
        view, again = self._view(), self._item is not None and item == self._item
        self._item, self.lacking = item, self.lacking and again and self.wanted
        if view is None:
            return
        view.overlay(None)
        if not self.wanted or item is None:
            return

        def take(answer: FetchedVoxels) -> None:
            if self.wanted and self._item is item:
                self._lay(view, item, answer)

        def nothing(why: Failure) -> None:
            if why.code not in (Code.NOT_FOUND, Code.NOT_READY):
                self.failed.emit(why)
            elif self._item is item:
                self.lacking = self.wanted
                self.missing.emit()

        self._agent.ask("uncertainty", take, nothing, project=self._project, sample=item.sample)
