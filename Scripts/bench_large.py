"""A service with large files and many projects: what people wait for beside them.

Part of Scripts/bench.py: `python3 Scripts/bench.py service-large`, `service-scale`. Wall-clock
milliseconds: the 99th percentile of saving a slice, the best of five of the others.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench_scale import make_long_project, make_projects
from bench_service import running_service

Limited = list[tuple[str, float, float, str]]
"""What, milliseconds, the bar in milliseconds, and a note."""
_SIDE, _SAVE_BAR = 512, 1000.0


def measure_large(quick: bool) -> Limited:
    """Saving slices while a CT of 512 x 512 x 600 is added, fetched in another form, exported."""
    slices = 150 if quick else 600
    with (
        tempfile.TemporaryDirectory() as name,
        running_service(Path(name) / "projects") as client,
    ):
        folder = Path(name)
        people = _Saving(client, folder, "people", 40)
        rows = [people.row("alone", lambda: time.sleep(3))]
        large = _project(client, "large")
        file = _scan(folder / "large.mha", slices)
        what = f"a CT of 512 x 512 x {slices} is"
        rows.append(people.row(f"while {what} added", lambda: _add(client, large, file)))
        pool = _Saving(client, folder, "large", slices, large)
        rows.append(people.row(f"while {what} annotated", lambda: pool.save_some(5)))
        rows.append(pool.row(f"while nothing else happens, but {what} the case", None))
        fetch = {"project": large, "case": "scan", "channel": 0}
        call = _operation("case_image")
        target = folder / "fetched"
        rows.append(
            people.row(f"while {what} fetched", lambda: client.fetch(call, target, **fetch))
        )
        rows.append(
            people.row(
                f"while {what} fetched in another form",
                lambda: client.fetch(call, target, **fetch, format="nii.gz"),
            )
        )
        rows.append(people.row(f"while {what} exported", lambda: _export(client, large)))
        return rows


def measure_scale(quick: bool) -> Limited:
    """1,000 projects in a list, and one of 1,000 cases and 60 rounds."""
    count = 100 if quick else 990
    with (
        tempfile.TemporaryDirectory() as name,
        running_service(Path(name) / "projects") as client,
    ):
        root, rows = Path(name) / "projects", []
        few = _best(lambda: _project(client, f"few {uuid4()}"))
        make_projects(root, count)
        first = time.perf_counter()
        listed = client.call(_operation("projects"))
        first = 1000 * (time.perf_counter() - first)
        again = _best(lambda: client.call(_operation("projects")))
        note = f"first look at them: {first:.0f}"
        rows.append((f"list of {len(listed)} projects", again, 500.0, note))
        many = _best(lambda: _project(client, f"many {uuid4()}"))
        note = f"with {count} projects; with 10: {few:.0f}"
        rows.append(("making a project", many, 1.5 * few, note))
        make_long_project(root / "long-00000000")
        status = _best(lambda: client.call(_operation("project"), project="long-00000000"))
        rows.append(("status of 1,000 cases x 60 rounds", status, 150.0, "40,000 slices"))
        return rows


def _operation(name: str) -> Any:
    from alunet.schema import Operations

    return getattr(Operations, name)


def _best(action: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - begun))
    return min(times)


def _project(client: Any, name: str) -> str:
    about = {"name": name, "labels": ["organ"], "channels": ["CT"]}
    return str(client.call(_operation("create_project"), **about).id)


def _scan(file: Path, slices: int) -> Path:
    """A scan with the noise of a CT, which packs as badly."""
    import numpy as np
    import SimpleITK as sitk

    generator = np.random.default_rng(0)
    voxels = generator.normal(40, 20, (slices, _SIDE, _SIDE)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file))
    return file


def _add(client: Any, project: str, file: Path) -> None:
    given = {"project": project, "name": "scan", "images": [client.upload(file).id]}
    _wait(client, project, client.call(_operation("add_case"), **given))


def _export(client: Any, project: str) -> None:
    options = {"what": "labels", "format": "nii.gz"}
    job = client.call(
        _operation("start"), project=project, kind="export", options=options, key=str(uuid4())
    )
    _wait(client, project, job)


def _wait(client: Any, project: str, job: Any) -> None:
    from alunet.schema import ENDED, JobState

    while job.state not in ENDED:
        time.sleep(0.1)
        job = client.call(_operation("job"), project=project, job=job.id)
    if job.state is not JobState.DONE:
        raise RuntimeError(job.error)


class _Saving:
    """A person who saves one slice after the other in a project, which gets its case here."""

    def __init__(
        self, client: Any, folder: Path, name: str, slices: int, project: str = ""
    ) -> None:
        import numpy as np

        self._client, self._slices = client, slices
        self._project = project or _project(client, name)
        if not project:
            _add(client, self._project, _scan(folder / f"{name}.mha", slices))
        _make_pool(folder / "projects" / self._project, slices)
        labels = np.zeros((1, _SIDE, _SIDE), np.uint8)
        labels[:, 100:300, 150:350] = 1
        self._packed, self._versions = gzip.compress(labels.tobytes(), 1), [0] * slices
        self._next = 0

    def row(self, when: str, beside: Callable[[], Any] | None) -> tuple[str, float, float, str]:
        """Save slices for as long as `beside` takes, or twenty."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(1) as other:
            work, times = other.submit(beside or (lambda: None)), []
            while not work.done() or len(times) < 20:
                times.append(self.save())
            work.result()
        spent, times = time.perf_counter() - begun, sorted(times)
        late = times[min(len(times) - 1, int(0.99 * len(times)))]
        middle = statistics.median(times)
        note = f"99th percentile of {len(times)} in {spent:.0f} s; median {middle:.0f}"
        return f"saving a slice {when}", late, _SAVE_BAR, note

    def save_some(self, count: int) -> None:
        """Save slices."""
        for _ in range(count):
            self.save()

    def save(self) -> float:
        """Save the next slice; milliseconds."""
        sample, self._next = self._next, (self._next + 1) % self._slices
        about = {
            "author": "bench", "seconds": 1.0, "status": "done", "shape": [1, _SIDE, _SIDE],
            "dtype": "uint8", "base_version": self._versions[sample],
        }  # fmt: skip
        begun = time.perf_counter()
        state = self._client.put_annotation(
            self._project, sample, about, self._packed, str(uuid4())
        )
        spent = 1000 * (time.perf_counter() - begun)
        self._versions[sample] = state.version
        return spent


def _make_pool(root: Path, slices: int) -> None:
    """Every slice a sample; nothing is trained for these figures."""
    from alunet.pool import CaseGeometry, Pool
    from alunet.project import Project

    shape = (slices, _SIDE, _SIDE)
    geometry = CaseGeometry("scan", shape, (0, 1, 2), tuple((0, extent) for extent in shape), shape)
    with Project.open(root) as project:
        project.cases.set_geometry("scan", geometry)
        project.samples.set_pool(Pool.build([geometry], (_SIDE, _SIDE)))
        project.rounds.begin("spread", slices)
        ids = list(range(slices))
        project.worklist.suggest(0, ids, [0.0] * slices, [""] * slices)
