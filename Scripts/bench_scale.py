"""Large services for Scripts/bench_service.py: many projects, and one with many cases and rounds.

Nothing is imported or trained for them: rows are written as the engine writes them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

CASES, ROUNDS, SLICES, SIDE, BUDGET = 1000, 60, 40, 256, 100
LABELS = {"background": 0, "organ": 1, "lesion": 2}


def make_projects(root: Path, count: int) -> None:
    """Fill a service's folder up to `count` projects, copies of one with other names."""
    from alunet.loop.setup import Setup, create

    first = root / "copy-00000000"
    if not first.exists():
        create(first, name="copy", labels=LABELS, channels=["CT"], setup=Setup()).close()
    for number in range(len(list(root.glob("*/project.db"))), count):
        folder = root / f"copy-{number:08x}"
        shutil.copytree(first, folder)
        database = sqlite3.connect(folder / "project.db")
        with database:
            text = database.execute("SELECT value FROM meta WHERE key = 'project'").fetchone()[0]
            about = {**json.loads(text), "name": f"copy {number}"}
            database.execute(
                "UPDATE meta SET value = ? WHERE key = 'project'", (json.dumps(about),)
            )
        database.close()


def make_long_project(root: Path, cases: int = CASES, rounds: int = ROUNDS) -> None:
    """A project of many cases that has gone through many rounds; of its last batch half is done."""
    from alunet.loop.setup import Setup, create
    from alunet.pool import CaseGeometry, Pool
    from alunet.project import Project

    shape = (SLICES, SIDE, SIDE)
    create(root, name="long", labels=LABELS, channels=["CT"], setup=Setup()).close()
    names = [f"case_{number:04d}" for number in range(cases)]
    geometry = [
        CaseGeometry(name, shape, (0, 1, 2), tuple((0, extent) for extent in shape), shape)
        for name in names
    ]
    with Project.open(root) as project, project.together():
        project._db.many(
            "INSERT INTO cases (name, role, images, shape, spacing, geometry, voxels, notes)"
            " VALUES (?, 'pool', ?, ?, '[3.0, 0.8, 0.8]', ?, '[50000, 9000, 400]', '[]')",
            [
                (
                    own.case,
                    json.dumps([f"{own.case}_0000.nii.gz"]),
                    json.dumps(shape),
                    own.to_json(),
                )
                for own in geometry
            ],
        )
        project.samples.set_pool(Pool.build(geometry, (SIDE, SIDE)))
        for number in range(rounds + 1):
            _play_round(project, number, number < rounds)


def _play_round(project: Any, number: int, finished: bool) -> None:
    """A round whose batch is annotated, the whole of it or half; every second slice twice."""
    ids = list(range(number * BUDGET, (number + 1) * BUDGET))
    done = ids if finished else ids[: BUDGET // 2]
    project.rounds.begin("usimf", BUDGET)
    gains, reasons = (
        [0.123456789] * BUDGET,
        ["the tumor is unsure here, and like 12 others"] * BUDGET,
    )
    project.worklist.suggest(number, ids, gains, reasons)
    project.rounds.keep_query(number, {"diagnostics": {"elbow": 7}, "costs": {}})
    project._db.many(
        "INSERT INTO annotations (sample_id, case_name, round, author, seconds, time)"
        " VALUES (?, ?, ?, 'Ana', 12.5, 0)",
        [(i, f"case_{i // SLICES:04d}", number) for i in [*done, *done[::2]]],
    )
    project._db.many("UPDATE samples SET state = 'labelled' WHERE id = ?", [(i,) for i in done])
    project._db.many(
        "INSERT INTO versions (sample_id, number, base, conflict, author, status, time)"
        " VALUES (?, 1, 0, 0, 'Ana', 'done', 0)",
        [(i,) for i in done],
    )
    if not finished:
        return
    project._db.many("INSERT INTO learned VALUES (?)", [(i,) for i in ids])
    means = {"organ": 0.91, "lesion": 0.64, "mean": 0.775}
    record = {
        "number": number, "strategy": "usimf", "seed": 0, "budget": BUDGET,
        "labelled_samples": (number + 1) * BUDGET, "labelled_slices": (number + 1) * BUDGET,
        "labelled_voxels": 10**7, "fraction": 0.1, "pool_samples": CASES * SLICES,
        "class_voxels": [10**7, 10**6, 10**5],
        "metrics": {"dice": means, "hd95": means, "nsd": means},
        "selected": {"ids": ids, "gains": gains, "reasons": reasons},
        "diagnostics": {"query_size": 900, "weights": [0.5, 0.5], "similarity": [0.5] * 200},
        "seconds": {"train": 300.0}, "peak_memory_mb": {"train": 900.0},
        "recipe": {"training": {"epochs": 10, "rate": 0.004}},
        "training": {"dice": 0.9, "class_dice": [0.95, 0.8], "epochs": 10, "iterations": 250,
                     "loss": [0.5] * 50},
        "hashes": {"weights": "0" * 64}, "device": "cpu", "threads": 1, "arithmetic": {},
        "versions": {"alunet": "1"}, "tests": [], "anew": False,
    }  # fmt: skip
    project.rounds.finish(number, record)
