"""Kill -9 at random moments: nothing acknowledged is lost, and the same commands end with the same
batches.

A whole session by hand, from `alunet init` to `alunet export`, is played with the real nnU-Net:
once undisturbed, and then with every command and all its children killed at a random moment and
given again. A command that was killed is killed again with the probability AGAIN, so that what
resumes is disturbed, too. After each kill the project is opened, and all that any command has
acknowledged so far is compared. Disturbed sessions are played until there were ALUNET_KILLS kills;
one session has about 20, so a larger number is for long runs by hand.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from alunet.imaging.reading import read_labels
from alunet.project import Project
from alunet.storage.files import sha256_file

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("ALUNET_KILLS", "12"))
SEED = int(os.environ.get("ALUNET_KILLS_SEED", "0"))
AGAIN = 0.3
POOL, TEST = ("001", "003"), ("007",)
Truth = Callable[[Project], None]


def data_set(source: Path, folder: Path, numbers: tuple[str, ...]) -> Path:
    """A few cases of the hippocampus set as a data set of their own."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for name in (f"hippocampus_{number}.nii.gz" for number in numbers):
            shutil.copyfile(source / part / name, folder / part / name)
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


FLOAT32 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Each session plans a project of its own; where bfloat16 is about as quick as float32, two plans
may choose differently.
"""


@dataclass
class Player:
    """Gives the commands of a session, undisturbed or with kills.

    Attributes:
        lengths: seconds that each command takes when nobody disturbs it; None: disturb nothing.
        taken: seconds that each command took at its last try.
        truths: what was acknowledged, each a check of the opened project.
        killed: command and moment of each kill.
    """

    root: Path
    random: random.Random
    lengths: list[float] | None = None
    taken: list[float] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)
    killed: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, command: str, *words: object) -> None:
        """Give one command on the project, kill it and give it again, until it ends by itself."""
        line = [sys.executable, "-m", "alunet", command, str(self.root), *map(str, words)]
        length = math.inf if self.lengths is None else self.lengths[len(self.taken)]
        for attempt in itertools.count():
            disturbed = attempt == 0 or self.random.random() < AGAIN
            moment = length * self.random.uniform(0.05, 1.0) if disturbed else math.inf
            start = time.monotonic()
            if self._ends(line, moment):
                break
            self.check()
        self.taken.append(time.monotonic() - start)
        self.check()

    def _ends(self, line: list[str], moment: float) -> bool:
        """Whether the command ends by itself before that moment; if not, it is killed then."""
        process = subprocess.Popen(
            line,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **FLOAT32},
        )
        try:
            _, errors = process.communicate(timeout=None if math.isinf(moment) else moment)
        except subprocess.TimeoutExpired:
            kill_family(process)
            self.killed.append((line[3], moment))
            return False
        assert process.returncode == 0, f"{' '.join(line[3:])}: {errors}"
        return True

    def check(self) -> None:
        """The project opens, and what was acknowledged is there; before the first
        acknowledgement nothing needs to.
        """
        if self.truths:
            with Project.open(self.root) as project:
                for truth in self.truths:
                    truth(project)

    def batch(self) -> list[int]:
        """The open batch, acknowledged from now on."""
        with Project.open(self.root) as project:
            number = project.rounds.current()
            ids = [entry.sample for entry in project.worklist.suggestions(number)]
        self.truths.append(
            lambda project: _same(
                [entry.sample for entry in project.worklist.suggestions(number)], ids
            )
        )
        return ids

    def annotate(self, source: Path, ids: list[int]) -> None:
        """Annotate the open batch case by case, with the labels of the data set."""
        with Project.open(self.root) as project:
            cases = list(dict.fromkeys(project.pool.case_name(sample) for sample in ids))
        for case in cases:
            file = source / "labelsTr" / f"{case}.nii.gz"
            self("annotate", file, "--case", case, "--seconds", 3)
            self.truths.append(_annotated(case, ids, read_labels(file)))


def _same(found: object, wanted: object) -> None:
    assert found == wanted


def _cases(role: str, names: list[str]) -> Truth:
    return lambda project: _same([case.name for case in project.cases.all(role)], names)


def _annotated(case: str, ids: list[int], drawn: np.ndarray) -> Truth:
    """The samples of a case are labelled, with the voxels that were drawn, and their history
    says so.
    """

    def check(project: Project) -> None:
        stored, labelled, rounds = (
            project.annotations.read(case),
            project.samples.labelled(),
            project.samples.labelled_rounds(),
        )
        for sample in (sample for sample in ids if project.pool.case_name(sample) == case):
            voxels = project.pool.raw_slices(sample)
            assert labelled[sample] and rounds[sample] >= 0
            np.testing.assert_array_equal(stored[voxels], drawn[voxels])

    return check


def kill_family(process: subprocess.Popen[str]) -> None:
    """Kill -9 for the process and all its children."""
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate()
    psutil.wait_procs(family, timeout=30)


def play(alunet: Player, pool: Path, test: Path, out: Path) -> dict[str, object]:
    """The session; returns what must be the same however often it was disturbed."""
    short = ("--epochs", 2, "--iterations", 3)
    alunet("init", "--like", pool, "--name", "session", *short, "--seed", 5, "--device", "cpu")
    alunet.truths.append(
        lambda project: _same(list(project.labels), ["background", "Anterior", "Posterior"])
    )
    for folder, role, numbers in ((pool, "pool", POOL), (test, "test", TEST)):
        alunet("add", folder, *(["--test"] if role == "test" else []))
        names = [f"hippocampus_{number}" for number in numbers]
        alunet.truths.append(_cases(role, names))
    alunet("plan")
    with Project.open(alunet.root) as project:
        planned = project.pool.sha256()
    alunet.truths.append(lambda project: _same(project.pool.sha256(), planned))
    alunet("suggest", "--strategy", "spread", "--budget", 8)
    batches = [alunet.batch()]
    alunet.annotate(pool, batches[0])
    for strategy in ("usimf", "usimc"):
        alunet("next-round", "--strategy", strategy, "--budget", 4)
        batches.append(alunet.batch())
        alunet.annotate(pool, batches[-1])
    outside = next(i for i in range(10_000) if all(i not in batch for batch in batches))
    with Project.open(alunet.root) as project:
        name, number = project.pool.case_name(outside), int(project.pool.slice_raw[outside])
    alunet("skip", "--case", name, "--slice", number)
    alunet.truths.append(
        lambda project: _same(np.flatnonzero(project.samples.skipped()).tolist(), [outside])
    )
    alunet("predict", "hippocampus_001", "--out", out / "predictions")
    alunet("uncertainty", "hippocampus_001", "--out", out / "map.nrrd", "--measure", "entropy")
    alunet("export", "model", "--out", out / "model.zip")
    alunet("export", "labels", "--out", out / "labels", "--format", "nrrd")
    return {"batches": batches, "files": files_of(out), "project": names_of(alunet.root)}


def files_of(folder: Path) -> dict[str, str]:
    """Every file below a folder, and every member of a zip file, with the hash of its bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in found
        if path.suffix != ".zip"
    }
    for path in (path for path in found if path.suffix == ".zip"):
        with zipfile.ZipFile(path) as content:
            for name in content.namelist():
                hashes[f"{path.name}/{name}"] = hashlib.sha256(content.read(name)).hexdigest()
    return hashes


def names_of(root: Path) -> list[str]:
    """The files of a project; a kill must leave none behind that an undisturbed session doesn't
    have.
    """
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.endswith((".log", "-wal", "-shm")))


def test_killed_at_random_moments_a_session_ends_like_an_undisturbed_one(
    real_data, tmp_path, record_property
):
    source = real_data / "Task04_Hippocampus"
    pool, test = (
        data_set(source, tmp_path / "pool", POOL),
        data_set(source, tmp_path / "test", TEST),
    )
    calm = Player(tmp_path / "calm", random.Random(SEED))
    wanted = play(calm, pool, test, tmp_path / "calm_out")
    killed: list[tuple[str, float]] = []
    for number in itertools.count():
        wild = Player(tmp_path / f"wild{number}", random.Random(SEED + number), calm.taken)
        assert play(wild, pool, test, tmp_path / f"wild{number}_out") == wanted
        assert wild.killed, "no command was caught in time"
        killed += wild.killed
        if len(killed) >= KILLS:
            break
    record_property("kills", str(killed))
