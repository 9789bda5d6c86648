"""How long a person waits for the service: real `alunet serve`, real agent's client, real disk,
over loopback.

Part of Scripts/bench.py: `python3 Scripts/bench.py service`. Wall-clock medians, not CPU seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from timing import Measured, median

SLICES, SIDE = 100, 512


def measure(quick: bool) -> Measured:
    """All figures of the service, in a folder of their own that is removed."""
    from alunet.schema import Operations

    repeats = 10 if quick else 40
    with tempfile.TemporaryDirectory() as name, running_service(Path(name) / "projects") as client:
        folder = Path(name)
        about = {"name": "bench", "labels": ["organ"], "channels": ["CT"]}
        project = client.call(Operations.create_project, **about).id
        figures = _upload(client, project, folder)
        _make_pool(folder / "projects" / project)
        health = median(lambda: client.call(Operations.health), repeats)
        figures.append(("health", health, health, "ms"))
        given = (client, project, folder, repeats)
        return figures + _annotations(*given) + _proposal(*given)


@contextmanager
def running_service(root: Path) -> Iterator[Any]:
    """A service of its own, and the agent's client for it."""
    from alunet.agent.client import Client

    command = [sys.executable, "-m", "alunet", "serve", "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            line = json.loads(process.stdout.readline())
            yield Client(line["address"], line["token"])
        finally:
            process.terminate()


def _upload(client: Any, project: str, folder: Path) -> Measured:
    """A case of 512 x 512 x 100, uploaded and entered, against a copy of its file that is on
    disk as surely.
    """
    import numpy as np
    import SimpleITK as sitk

    from alunet.schema import ENDED, Operations

    file = folder / "scan.mha"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (SLICES, SIDE, SIDE), np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    sent: list[Any] = []
    ours = median(lambda: sent.append(client.upload(file)), 1)

    def copy() -> None:
        with (folder / "copy.mha").open("wb") as stream:
            shutil.copyfileobj(file.open("rb"), stream)
            os.fsync(stream.fileno())

    naive, mebibytes = median(copy, 3), file.stat().st_size / 2**20
    given = {"project": project, "name": "scan", "images": [sent[0].id]}
    job = client.call(Operations.add_case, **given)
    while job.state not in ENDED:
        time.sleep(0.1)
        job = client.call(Operations.job, project=project, job=job.id)
    rate = (
        f"ms for {mebibytes:.0f} MiB: {1000 * mebibytes / ours:.0f} MiB/s; against a copy with "
        f"fsync"
    )
    return [("upload, checked", ours, naive, rate)]


def _make_pool(root: Path) -> None:
    """Every slice a sample, all of them suggested; nothing is trained for these figures."""
    from alunet.pool import CaseGeometry, Pool
    from alunet.project import Project

    shape = (SLICES, SIDE, SIDE)
    geometry = CaseGeometry("scan", shape, (0, 1, 2), tuple((0, extent) for extent in shape), shape)
    with Project.open(root) as project:
        project.cases.set_geometry("scan", geometry)
        project.samples.set_pool(Pool.build([geometry], (SIDE, SIDE)))
        project.rounds.begin("spread", SLICES)
        project.worklist.suggest(0, list(range(SLICES)), [0.0] * SLICES, [""] * SLICES)


def _annotations(client: Any, project: str, folder: Path, repeats: int) -> Measured:
    """One slice's labels until they are acknowledged, by one person and by eight; and fetching
    them again.
    """
    import gzip

    import numpy as np

    from alunet.schema import Operations

    labels = np.zeros((1, SIDE, SIDE), np.uint8)
    labels[:, 100:300, 150:350] = 1
    packed = gzip.compress(labels.tobytes(), 1)
    about = {
        "author": "bench",
        "seconds": 1.0,
        "status": "done",
        "shape": list(labels.shape),
        "dtype": "uint8",
    }

    def put(sample: int, base: int = 0) -> None:
        client.put_annotation(
            project, sample, {**about, "base_version": base}, packed, str(uuid4())
        )

    def write() -> None:
        with (folder / "labels.gz").open("wb") as stream:
            stream.write(packed)
            os.fsync(stream.fileno())

    samples = iter(range(SLICES))
    one, naive = median(lambda: put(next(samples)), repeats), median(write, repeats)
    sample = {"project": project, "sample": 0}
    target = folder / "fetched"
    fetched = median(lambda: client.fetch_voxels(Operations.annotation, target, **sample), repeats)
    rest = list(samples)[:40]
    with ThreadPoolExecutor(8) as people:
        eight = median(lambda: list(people.map(put, rest)), 1) / len(rest)
    return [
        (
            "annotation of 512 x 512, on disk",
            one,
            naive,
            "ms; against writing its bytes with fsync",
        ),
        ("annotation, eight clients at once", eight, one, "ms each; against one after the other"),
        ("fetching a slice's annotation", fetched, fetched, "ms"),
    ]


def _proposal(client: Any, project: str, folder: Path, repeats: int) -> Measured:
    """The proposal of a slice, and that of a case."""
    import numpy as np
    import SimpleITK as sitk

    from alunet.schema import Operations

    source = folder / "projects" / project / "rounds" / "000" / "proposals" / "scan.mha"
    source.parent.mkdir(parents=True)
    voxels = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    voxels[20:80, 100:300, 150:350] = 1
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(source), True)
    naive = median(lambda: shutil.copyfile(source, folder / "read.mha"), repeats)
    case, sample = {"project": project, "case": "scan"}, {"project": project, "sample": 50}
    target = folder / "fetched"
    whole = median(lambda: client.fetch(Operations.case_proposal, target, **case), repeats)
    one = median(lambda: client.fetch_voxels(Operations.proposal, target, **sample), repeats)
    return [
        (
            "proposal of a slice of 512 x 512",
            one,
            whole,
            "ms; against that of its case, 512 x 512 x 100",
        ),
        ("proposal of a case of 512 x 512 x 100", whole, naive, "ms; against copying its file"),
    ]
