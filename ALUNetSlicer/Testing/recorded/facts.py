"""What a person would miss if it were gone from a project or an outbox: read with the code that is
imported.

Facts are written in words that outlive the code: an unannotated voxel counts as 255, whatever the
label map holds there, and the state of a sample or a round is a yes or no. Where an interface
changes, this file follows it; the recorded facts stay.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from alunet.agent.outbox import Entry, Outbox
from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.loop.annotation_loop import AnnotationLoop
from alunet.loop.status import status
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED
from alunet.serve.cases import newest_output
from alunet.serve.status import curve, rounds
from alunet.storage.files import sha256_file

STRUCTURES = 2
"""Of the recorded projects; one more was an unannotated voxel, also in an outbox, when they were
made.
"""
STATES = ("waiting", "sent", "conflict", "refused")


def of_project(root: Path) -> dict[str, Any]:
    """Return the facts of a project; it is opened for writing, as every older one has to be
    once.
    """
    with Project.open(root) as project:
        return {
            "about": _about(project),
            "cases": {case.name: _case(project, case) for case in project.cases.all()},
            "samples": _samples(project),
            "rounds": _rounds(project),
            "worklists": [
                _worklist(project, number) for number in range(len(project.rounds.all()))
            ],
            "curve": [_point(point) for point in curve(project)],
            "status": _status(project),
            "labels that come now belong to round": project.rounds.of_new_labels(),
            "label maps": {
                case: _voxels(project.annotations.read(case))
                for case in project.annotations.cases()
            },
            "versions": _versions(project),
            "proposals": _proposals(project),
            "jobs": [_job(job) for job in project.jobs.all()],
            "events": dict(
                sorted(Counter(event.kind for _, event in project.events.after()).items())
            ),
        }


def _about(project: Project) -> dict[str, Any]:
    setup = AnnotationLoop(project).setup
    chosen = {
        name: getattr(setup, name) for name in ("preset", "epochs", "iterations", "seed", "device")
    }
    return {
        "name": project.name,
        "labels": project.labels,
        "channels": project.channels,
        "setup": chosen,
    }


def _case(project: Project, case: Any) -> dict[str, Any]:
    return {
        "role": case.role,
        "shape": list(case.shape),
        "spacing": list(case.spacing),
        "images": [sha256_file(image) for image in case.images],
        "reference": None if case.label is None else sha256_file(case.label),
        "planned": case.geometry is not None,
    }


def _samples(project: Project) -> list[dict[str, Any]]:
    pool, annotated, skipped = project.pool, project.samples.labelled(), project.samples.skipped()
    first = project.samples.labelled_rounds()
    return [
        {
            "case": pool.case_name(sample),
            "slice": int(pool.slice_raw[sample]),
            "box": pool.raw_box[sample].tolist(),
            "annotated": bool(annotated[sample]),
            "skipped": bool(skipped[sample]),
            "first annotated in round": int(first[sample]),
        }
        for sample in range(len(pool))
    ]


def _rounds(project: Project) -> list[dict[str, Any]]:
    return [
        {
            "number": known.number,
            "strategy": known.strategy,
            "finished": known.state == "finished",
            "suggested": [
                _suggestion(entry) for entry in project.worklist.suggestions(known.number)
            ],
        }
        for known in rounds(project)
    ]


def _suggestion(entry: Any) -> dict[str, Any]:
    return {
        "sample": entry.sample,
        "gain": entry.gain,
        "reason": entry.reason,
        "uncertainty": entry.uncertainty,
        "chosen by": entry.author,
        "in the pool again": entry.state == "unlabelled",
    }


def _worklist(project: Project, number: int) -> list[dict[str, Any]]:
    """The rows of a round as a viewer gets them, without leases, which end by themselves."""
    names = (
        "sample",
        "rank",
        "case",
        "slice",
        "axis",
        "box",
        "reason",
        "gain",
        "uncertainty",
        "ahead",
        "version",
    )
    return [
        {**{name: getattr(row, name) for name in names}, "status": row.status.value}
        for row in project.worklist.rows(number)
    ]


def _point(point: Any) -> dict[str, Any]:
    return {
        "round": point.round,
        "strategy": point.strategy,
        "samples": point.labelled_samples,
        "slices": point.labelled_slices,
        "fraction": point.fraction,
        "dice": point.dice,
        "training dice": point.training,
    }


def _status(project: Project) -> dict[str, Any]:
    found = status(AnnotationLoop(project))
    names = (
        "pool",
        "labelled",
        "slices",
        "voxels",
        "open",
        "skipped",
        "minutes",
        "step",
        "case",
        "unplanned",
    )
    lines = ("number", "strategy", "suggested", "labelled", "dice", "dice_on")
    table = [{name: getattr(line, name) for name in lines} for line in found.rounds]
    return {**{name: getattr(found, name) for name in names}, "rounds": table}


def _versions(project: Project) -> dict[str, Any]:
    """Sample -> its newest version that counts, and every version with who made it."""
    database = sqlite3.connect(project.root / "project.db")
    rows = database.execute(
        "SELECT sample_id, number, base, conflict, author, seconds, status FROM versions ORDER BY "
        "sample_id, number"
    ).fetchall()
    database.close()
    found: dict[str, Any] = {}
    for sample, number, base, conflict, author, seconds, state in rows:
        entry = found.setdefault(str(sample), {"newest": _newest(project, sample), "all": []})
        voxels = _voxels(project.annotations.version(sample, number)[1])
        about = {"number": number, "corrects": base, "conflict": bool(conflict), "author": author}
        entry["all"].append({**about, "seconds": seconds, "status": state, "voxels": voxels})
    return found


def _newest(project: Project, sample: int) -> int | None:
    try:
        return project.annotations.version(sample)[0]
    except InputError:
        return None


def _voxels(labels: np.ndarray) -> dict[str, Any]:
    return _plain(labels, NOT_ANNOTATED)


def _plain(labels: np.ndarray, ignore: int) -> dict[str, Any]:
    """Shape and hash of labels, whatever an unannotated voxel holds in the file."""
    plain = np.where(labels == ignore, NOT_ANNOTATED, labels).astype(np.uint8)
    values, counts = np.unique(plain, return_counts=True)
    return {
        "shape": list(plain.shape),
        "sha256": hashlib.sha256(np.ascontiguousarray(plain).tobytes()).hexdigest(),
        "counts": {str(value): int(count) for value, count in zip(values, counts, strict=True)},
    }


def _proposals(project: Project) -> dict[str, Any]:
    """Case -> round of the model that made its newest proposal, and the proposal's voxels."""
    found = {}
    for case in project.cases.all():
        newest = newest_output(project, case.name, "proposals")
        if newest is not None:
            found[case.name] = {"round": newest[0], "voxels": _voxels(read_labels(newest[1]))}
    return found


def _job(job: Any) -> dict[str, Any]:
    return {
        "number": job.id,
        "kind": job.kind.value,
        "state": job.state.value,
        "options": job.options,
        "attempts": job.attempts,
        "result": job.result,
    }


def of_outbox(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of an outbox in the order they were made; the outbox is emptied by
    that.
    """
    with sqlite3.connect(folder / "outbox.db") as database:
        engines = [
            name
            for (name,) in database.execute("SELECT DISTINCT engine FROM entries ORDER BY engine")
        ]
    database.close()
    outbox = Outbox(folder)
    try:
        entries = [entry for engine in engines for entry in outbox.entries(engine, STATES)]
        bodies = _bodies(outbox, engines)
        return [_entry(entry, bodies.get(entry.key)) for entry in entries]
    finally:
        outbox.close()


def _bodies(outbox: Outbox, engines: list[str]) -> dict[str, dict[str, Any]]:
    """Key -> voxels of what waits or was refused, taken as the sender takes them."""
    found = {}
    for engine in engines:
        for entry in outbox.entries(engine, ("refused",)):
            outbox.retry(entry.key)
        while (entry := outbox.next_waiting(engine)) is not None:
            if entry.body is not None:
                voxels = np.frombuffer(
                    zlib.decompress(entry.body, wbits=31), entry.content["dtype"]
                )
                found[entry.key] = _plain(voxels.reshape(entry.content["shape"]), STRUCTURES + 1)
            outbox.settle(entry.key, "conflict", {})
    return found


def _entry(entry: Entry, voxels: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "key": entry.key,
        "engine": entry.engine,
        "project": entry.project,
        "sample": entry.sample,
        "state": entry.state,
        "content": entry.content,
        "follows": entry.follows,
        "answer": entry.answer,
        "voxels": voxels,
    }


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """What is not as it was; facts that were not written down then are none."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        parts = [(f"{path}/{name}", value, found.get(name)) for name, value in wanted.items()]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        parts = [
            (f"{path}/{number}", *pair)
            for number, pair in enumerate(zip(wanted, found, strict=True))
        ]
    else:
        return [] if wanted == found else [f"{path} was {wanted!r}, is {found!r}"]
    return [line for where, old, new in parts for line in differences(old, new, where)]
