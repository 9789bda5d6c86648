"""How a project stands, from its database and its rounds' manifests."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from alunet import query
from alunet.loop import RoundRecord
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.choice import FIRST_STRATEGY, LATER_STRATEGY
from alunet.loop.round_record import notes_on
from alunet.loop.status import status as overview_of
from alunet.model.metrics import DICE
from alunet.project import Project
from alunet.schema import CurvePoint, RoundInfo, StrategyInfo


def strategies() -> list[StrategyInfo]:
    """Return what the registry knows: what is usual with a model and without one first, the others
    by name.
    """
    usual = [LATER_STRATEGY, FIRST_STRATEGY]
    infos = sorted(query.infos(), key=lambda info: info.name)
    infos.sort(key=lambda info: usual.index(info.name) if info.name in usual else len(usual))
    return [
        StrategyInfo(
            name=info.name,
            title=info.title,
            summary=info.summary,
            first=not info.needs,
            simulation=info.takes_all or query.Need.TRUTH in info.needs,
        )
        for info in infos
    ]


def status(project: Project) -> dict[str, Any]:
    """What `alunet status --json` says, but for the next command to type; and ``checked``, what
    the service's last check found.
    """
    return {**asdict(overview_of(AnnotationLoop(project))), "checked": project.settings.checked}


def rounds(project: Project) -> list[RoundInfo]:
    """All rounds, by number."""
    records = {record.number: record for record in AnnotationLoop(project).loop.rounds()}
    return [
        RoundInfo(
            known.number,
            known.strategy,
            known.state.value,
            known.budget,
            _measured(records.get(known.number)),
            records[known.number].train_seconds if known.number in records else None,
            records[known.number].steps if known.number in records else None,
        )
        for known in project.rounds.all()
    ]


def _measured(record: RoundRecord | None) -> dict[str, Any] | None:
    return None if record is None else {"dice": record.metrics[DICE], "metrics": record.metrics}


def curve(project: Project) -> list[CurvePoint]:
    """One point a finished round."""
    records = AnnotationLoop(project).loop.rounds()
    return [
        CurvePoint(
            round=record.number,
            strategy=record.strategy,
            labelled_samples=record.labelled_samples,
            labelled_slices=record.labelled_slices,
            fraction=record.fraction,
            dice=record.metrics[DICE],
            training=record.training_metrics[DICE],
            metrics=record.metrics,
            training_metrics=record.training_metrics,
            note=note,
        )
        for record, note in zip(records, notes_on(records), strict=True)
    ]
