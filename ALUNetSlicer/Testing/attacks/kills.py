"""Kill the service and its jobs while projects, uploads, cases, labels and results are made.

A second person works in another project all the time. Nothing that was acknowledged may be lost,
whatever got no answer works when it is sent again, and the second person notices nothing but that
the service is away for a moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import planned_project
import SimpleITK as sitk
from insisting import annotate, bring_case, insist, labels_of, upload
from running import Service, kill, tree

from alunet.loop.setup import Setup, create
from alunet.storage.files import written_name

from . import Finding

COUNT = 450
SHARES = {"creation": 100, "upload": 100, "import": 100, "annotation": 100, "job": 50}
"""How often what is killed, of `COUNT`."""
SHAPE = (40, 16, 16)
_LABELS = {"background": 0, "organ": 1, "lesion": 2}
_SECONDS = 300.0
"""An action that takes longer in spite of being sent again needs a person."""


def attack(count: int, seed: int, work: Path) -> list[Finding]:
    """Play kills in all phases; see `attacks`."""
    assault = Assault(seed, work)
    try:
        killed = assault.play(count)
        lost = assault.lost()
        left = assault.leftovers()
    finally:
        assault.close()
    neighbor = assault.neighbor
    return [
        Finding("kills", killed, count, at_least=True),
        Finding("acknowledged and lost", len(lost), 0, detail="; ".join(lost[:5])),
        Finding("actions of the other", neighbor.done, count, at_least=True),
        Finding("others affected", len(neighbor.wrong), 0, detail="; ".join(neighbor.wrong[:5])),
        Finding("manual steps", len(assault.stuck), 0, detail="; ".join(assault.stuck[:5])),
        Finding("leftovers after housekeeping", len(left), 0, detail=", ".join(left[:5])),
    ]


class Assault:
    """One service, and what is done to it.

    Attributes:
        neighbor: the second person.
        stuck: actions that needed more than sending the same again.
    """

    def __init__(self, seed: int, work: Path) -> None:
        self._random, self._labels = random.Random(seed), np.random.default_rng(seed)
        self._work, root = work, work / "root"
        self.project, other = (planned(root / name, work) for name in ("mine", "theirs"))
        self.service = Service(root)
        insist(self.service)
        self.stuck: list[str] = []
        self._usual: dict[str, float] = {}
        self._made: dict[str, str] = {}
        self._uploads: dict[str, bytes] = {}
        self._cases: dict[str, bytes] = {}
        self._annotated: dict[int, bytes] = {}
        self._results: dict[int, str] = {}
        self.neighbor = Neighbor(self.service, other, seed)
        self.neighbor.start()

    def play(self, count: int) -> int:
        """Kill so often, in all phases in turn; how often it was."""
        phases = [phase for phase, share in SHARES.items() for _ in range(share)]
        chosen = [phases[number * len(phases) // count] for number in range(count)]
        self._random.shuffle(chosen)
        actions: dict[str, Callable[[int], None]] = {
            "creation": self._create,
            "upload": self._upload,
            "import": self._import,
            "annotation": self._annotate,
            "job": self._job,
        }
        for number, phase in enumerate([*actions, *chosen]):
            # each is played once in peace first: how long it takes says when to kill
            self._strike(phase, number, actions[phase], number >= len(actions))
        return len(chosen)

    def _strike(self, phase: str, number: int, act: Callable[[int], None], kills: bool) -> None:
        """Play an action, and kill the service or the job's processes in the midst of it."""
        begun, failed = time.monotonic(), list[str]()

        def acting() -> None:
            try:
                act(number)
            except Exception as error:  # noqa: BLE001  told as a step that a person must take
                failed.append(f"{phase} {number}: {type(error).__name__} {error}"[:300])

        thread = threading.Thread(target=acting, daemon=True)
        thread.start()
        if kills:
            time.sleep(self._random.uniform(0, 1.2 * self._usual[phase]))
            self._kill(phase)
        thread.join(_SECONDS)
        if thread.is_alive():
            failed.append(f"{phase} {number} does not end")
        if not kills:
            self._usual[phase] = time.monotonic() - begun
        self.stuck += failed

    def _kill(self, phase: str) -> None:
        both = phase in ("import", "job")
        processes = tree(self.service.root) if both and self._random.random() < 0.5 else []
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                kill(process.pid)
        if not processes or self._random.random() < 0.3:
            self.service.stop(9)
            self.service.start()

    # --- the actions ------------------------------------------------------------------------------

    def _create(self, number: int) -> None:
        name = f"made {number}"
        self._made[self.service.project(name)] = name

    def _upload(self, number: int) -> None:
        file = scan(self._work / f"upload{number}.nii.gz", 10_000 + number)
        self._uploads[upload(self.service, file, part=2_000)] = file.read_bytes()

    def _import(self, number: int) -> None:
        file = scan(self._work / f"case{number}.nii.gz", number)
        bring_case(self.service, "mine", f"case{number}", upload(self.service, file, 1 << 20))
        self._cases[f"case{number}"] = sitk.GetArrayFromImage(sitk.ReadImage(file)).tobytes()

    def _annotate(self, number: int) -> None:
        row = self._random.choice(self.service.ok("GET", "/projects/mine/worklist"))
        labels = drawn(self._labels)
        annotate(self.service, "mine", row, labels)
        self._annotated[row["sample"]] = labels.tobytes()

    def _job(self, number: int) -> None:
        while True:
            headers = {"Idempotency-Key": str(uuid.uuid4())}
            body = {"kind": "export", "options": {"what": "labels", "format": "nrrd"}}
            place, send = "/projects/mine/jobs", self.service.ok
            job = send("POST", place, 202, json=body, headers=headers)["id"]
            ended = self.service.ended("mine", job)
            assert send("POST", place, 202, json=body, headers=headers)["id"] == job
            if ended["state"] == "done":
                break
            assert "died several times" in ended["error"]["message"], ended
        content = self.service.send("GET", f"{place}/{job}/result").content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
        self._results[job] = hashlib.sha256(content).hexdigest()

    # --- what is left -----------------------------------------------------------------------------

    def lost(self) -> list[str]:
        """What was acknowledged and is not there, after one more start."""
        self.neighbor.finish()
        self.service.stop(9)
        self.service.start()
        service, found = self.service, list[str]()
        names = [(row["id"], row["name"]) for row in service.ok("GET", "/projects")]
        found += [f"project {one}" for one in self._made.items() if names.count(one) != 1]
        found += [
            f"project {one} twice" for one in {n for _, n in names} if count_of(one, names) > 1
        ]
        for identity, content in self._uploads.items():
            there = [*(service.root / ".alunet" / "uploads").glob(f"{identity}.nii.gz")]
            if [file.read_bytes() for file in there] != [content]:
                found.append(f"upload {identity}")
        for name, content in self._cases.items():
            if self._voxels(name) != content:
                found.append(name)
        for sample, labels in self._annotated.items():
            if labels_of(service, "mine", sample) != labels:
                found.append(f"labels of sample {sample}")
        for job, digest in self._results.items():
            content = service.send("GET", f"/projects/mine/jobs/{job}/result").content
            if hashlib.sha256(content).hexdigest() != digest:
                found.append(f"result of job {job}")
        return found

    def _voxels(self, case: str) -> bytes:
        """Voxels of a case; none, where its image is not there."""
        answer = self.service.send("GET", f"/projects/mine/cases/{case}/images/0")
        if answer.status_code != 200:
            return b""
        file = self._work / "back.mha"
        file.write_bytes(answer.content)
        return sitk.GetArrayFromImage(sitk.ReadImage(file)).tobytes()

    def leftovers(self, seconds: float = 60.0) -> list[str]:
        """What the kills left in folders, once the service that was started last has tidied up."""
        end = time.monotonic() + seconds
        while (left := left_in(self.service.root)) and time.monotonic() < end:
            time.sleep(0.5)
        return left

    def close(self) -> None:
        """End the service."""
        self.neighbor.finish()
        self.service.stop()


class Neighbor(threading.Thread):
    """The second person, who looks, draws, and reads what was drawn.

    Attributes:
        done: how often.
        wrong: what a person would have noticed.
    """

    def __init__(self, service: Service, project: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._service, self._project = service, project
        self._labels = np.random.default_rng(seed + 1)
        self._last: dict[int, bytes] = {}
        self._end = threading.Event()
        self.done, self.wrong = 0, list[str]()

    def run(self) -> None:
        """Work until `finish`."""
        while not self._end.wait(0.1):
            try:
                self._work()
                self.done += 1
            except Exception as error:  # noqa: BLE001  whatever it is, the person sees it
                self.wrong.append(f"{type(error).__name__} {error}"[:300])

    def finish(self) -> None:
        """Stop working."""
        self._end.set()
        if self.is_alive():
            self.join(_SECONDS)

    def _work(self) -> None:
        service, place = self._service, f"/projects/{self._project}"
        listed = service.ok("GET", "/projects")
        assert [row["problem"] for row in listed if row["id"] == self._project] == [None], listed
        rows: list[dict[str, Any]] = service.ok("GET", f"{place}/worklist")
        assert len(rows) == SHAPE[0], f"{len(rows)} rows"
        row, labels = rows[self.done % len(rows)], drawn(self._labels)
        if row["sample"] in self._last:
            there = labels_of(service, self._project, row["sample"])
            assert there == self._last[row["sample"]], f"labels of sample {row['sample']}"
        annotate(service, self._project, row, labels)
        self._last[row["sample"]] = labels.tobytes()


def count_of(name: str, names: list[tuple[str, str]]) -> int:
    """How many projects have a name."""
    return sum(own == name for _, own in names)


def left_in(root: Path) -> list[str]:
    """Temporary files and folders below a service's root."""
    found = [path for path in root.rglob("tmp*") if path.is_dir() or written_name(path)]
    found += [*(root / ".alunet" / "making").glob("*"), *root.glob("*/*.partial")]
    half = [path for path in root.iterdir() if path.is_dir() and path.name != ".alunet"]
    found += [path for path in half if not (path / "project.db").is_file()]
    return sorted(path.relative_to(root).as_posix() for path in found)


def planned(folder: Path, work: Path) -> str:
    """A project with a case of 40 slices that are all in its worklist; no network is needed."""
    setup = Setup(device="cpu")
    with create(folder, name=folder.name, labels=_LABELS, channels=["MRI"], setup=setup) as made:
        made.cases.import_case("first", [scan(work / "first.nii.gz", 1)])
        planned_project.suggest(planned_project.plan(made), range(SHAPE[0]))
    return folder.name


def drawn(generator: np.random.Generator) -> np.ndarray:
    """Labels of a slice."""
    return generator.integers(0, 3, (1, *SHAPE[1:]), np.uint8)


def scan(file: Path, seed: int) -> Path:
    """A small image file."""
    voxels = np.random.default_rng(seed).normal(100, 10, SHAPE).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(file), True)
    return file
