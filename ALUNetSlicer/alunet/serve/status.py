"""How a project stands, from its database and its rounds' manifests."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from alunet.project import Project
from alunet.schema import CurvePoint, RoundInfo


def status(project: Project) -> dict[str, Any]:
    """Counts and the state of the last round, JSON-able."""
    cases, known = project.cases(), project.rounds()
    last = known[-1] if known else None
    return {
        "cases": {role: sum(case.role == role for case in cases) for role in ("pool", "test")},
        "planned": bool(cases) and all(case.geometry is not None for case in cases),
        "samples": project.sample_count(),
        "labelled": asdict(project.costs()),
        "round": None if last is None else {"number": last.number, "strategy": last.strategy, "state": last.state},
    }


def rounds(project: Project) -> list[RoundInfo]:
    """All rounds, by number."""
    return [
        RoundInfo(known.number, known.strategy, known.state, int(known.config.get("budget", 0)), known.record)
        for known in project.rounds()
    ]


def curve(project: Project) -> list[CurvePoint]:
    """One point a finished round."""
    points = []
    for known in project.rounds():
        manifest = project.rounds_dir / f"{known.number:03d}" / "manifest.json"
        if known.state == "finished" and manifest.is_file():
            content = json.loads(manifest.read_text(encoding="utf-8"))
            names = ("strategy", "labelled_samples", "labelled_slices", "fraction", "dice")
            points.append(CurvePoint(known.number, **{name: content[name] for name in names}))
    return points
