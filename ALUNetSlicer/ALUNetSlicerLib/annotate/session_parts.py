"""The parts of one person's work on one project, put together; the session has them work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ALUNetSlicerLib.annotate.case_volumes import CaseVolumes
from ALUNetSlicerLib.annotate.drafts import Drafts
from ALUNetSlicerLib.annotate.initial_labels import InitialLabels
from ALUNetSlicerLib.annotate.other_slices import OtherSlices
from ALUNetSlicerLib.annotate.person import Person
from ALUNetSlicerLib.annotate.slice_loader import SliceLoader
from ALUNetSlicerLib.annotate.submissions import Submissions
from ALUNetSlicerLib.annotate.taking_back import TakeBack
from ALUNetSlicerLib.annotate.uncertainty_overlay import UncertaintyOverlay
from ALUNetSlicerLib.annotate.updates import Updates
from ALUNetSlicerLib.annotate.worklist import SliceWorklist
from ALUNetSlicerLib.engine.agent_process import AgentProcess
from ALUNetSlicerLib.engine.failure import Failed
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes
from ALUNetSlicerLib.mrml.slice_view import SliceView


@dataclass(frozen=True)
class SessionParts:
    """What knows nothing of which slice is on screen.

    Attributes:
        worklist: the slices.
        case_nodes: their nodes in the scene.
        volumes: of the cases, fetched when they are needed.
        drafts: on this computer.
        initial_labels: what slices begin with.
        loader: has both at hand.
        overlay: the uncertainty over the slice on screen.
        submissions: what is handed in.
        updates: what others do.
        taking_back: of labels that were handed in.
        other_slices: what is painted while painting is not confined to the slice.
    """

    worklist: SliceWorklist
    case_nodes: CaseNodes
    volumes: CaseVolumes
    drafts: Drafts
    initial_labels: InitialLabels
    loader: SliceLoader
    overlay: UncertaintyOverlay
    submissions: Submissions
    updates: Updates
    taking_back: TakeBack
    other_slices: OtherSlices


def put_together(
    agent: AgentProcess,
    person: Person,
    engine: str,
    project: str,
    labels: dict[str, int],
    view: Callable[[], SliceView | None],
    failed: Failed,
) -> SessionParts:
    """Make the parts; see `AnnotationSession`.

    Args:
        failed: gets what went wrong with any of them.
    """
    worklist, nodes = SliceWorklist(), CaseNodes(project, labels)
    volumes = CaseVolumes(agent, project, nodes, failed)
    drafts = Drafts(person.folder / "drafts", engine, project)
    initial_labels = InitialLabels(agent, drafts, project)
    known = worklist, drafts, initial_labels
    submissions = Submissions(agent, project, person, *known)
    parts = SessionParts(
        worklist,
        nodes,
        volumes,
        drafts,
        initial_labels,
        SliceLoader(volumes, initial_labels, worklist, failed),
        UncertaintyOverlay(agent, project, nodes, view),
        submissions,
        Updates(agent, project, person.author, *known),
        TakeBack(agent, project, person.author, worklist, initial_labels),
        OtherSlices(nodes, worklist, initial_labels, submissions),
    )
    for part in (parts.overlay, submissions, parts.updates, parts.taking_back):
        part.failed.connect(failed)
    return parts
