"""What a scene was saved with: paint that may be newer than the draft on this computer."""

from __future__ import annotations

from collections.abc import Iterator

from ALUNetSlicerLib.annotate.drafts import Draft, Drafts
from ALUNetSlicerLib.annotate.worklist import SliceWorklist
from ALUNetSlicerLib.mrml.case_nodes import CaseNodes


def newer_paint(case_nodes: CaseNodes, worklist: SliceWorklist, drafts: Drafts) -> Iterator[Draft]:
    """Find what the scene holds that was begun and painted after the draft of its slice.

    Where labels of the slice were handed in since, they count.
    """
    for sample, base, at, read in case_nodes.begun():
        item, draft = worklist.find(sample), drafts.find(sample)
        newer = draft is None or draft.at < at
        if item is not None and newer and item.version == base:
            seconds = 0.0 if draft is None else draft.seconds
            yield Draft(read(item.box), base, seconds, item, at)
