"""Make projects and an outbox with the code of one commit, and write down what is in them.

    git worktree add --detach ../older COMMIT
    PYTHONPATH=../older/ALUNetSlicer python ALUNetSlicer/Testing/recorded/make_projects.py COMMIT

writes ``project-COMMIT.zip`` and ``project-COMMIT.json`` beside this file, in about ten minutes on
two cores. It plays what people do, through the service, the agent and the terminal of that commit.
It was run with d61bfe5 and a4f7862; for a commit whose interfaces differ, take this file and
`facts.py` as they were there.

The archive holds three folders:

* ``annotating``: three rounds learned; the batch of round 3 half done;
* ``training``: the same project, killed while round 3 was learned and a colleague annotated;
* ``outbox``: of the agent, with entries in every state, three of them waiting.

Left out, because nothing that shows a project needs it: weights and checkpoints, nnU-Net's
preprocessed images, logs, the question that each strategy was asked, and the name of the operating
system. These projects open, but no training goes on from them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import facts  # noqa: E402
from actors import Agent, Annotator, Service, wait  # noqa: E402

from alunet.agent.outbox import pack  # noqa: E402
from alunet.schema import Operations, Status, WorkRow  # noqa: E402
from alunet.simulation.phantom import make_phantom  # noqa: E402

NAME, SEED = "recorded", 7
CUT = (slice(5, 15), slice(14, 50), slice(12, 52))
POOL, TEST = ("phantom_001", "phantom_002", "phantom_003"), "phantom_005"
DROPPED = (
    ".pth",
    ".log",
    ".lock",
    ".pkl",
    ".b2nd",
    "question.npz",
    "pool.npz",
    "/lock",
    "project.db-shm",
)
DROPPED_FOLDERS = ("training/", "cache/", "locks/", "nnunet/labels/")
"""Below a project; `training` also below each round."""


# --- the images -----------------------------------------------------------------------------------


def images(folder: Path) -> dict[str, np.ndarray]:
    """Write a few small phantom scans with references in nnU-Net's layout; return the
    references.
    """
    whole = make_phantom(folder.with_name("phantom"), cases=5, seed=SEED)
    truth = {}
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for name in (*POOL, TEST):
            image = sitk.ReadImage(str(whole / part / f"{name}.nii.gz"))
            small = image[tuple(reversed(CUT))]
            sitk.WriteImage(small, str(folder / part / f"{name}.nii.gz"), True)
            truth[name] = sitk.GetArrayFromImage(small)
    return truth


# --- what is played -------------------------------------------------------------------------------


def create(service: Service, folder: Path) -> None:
    """Make the project and bring its images, through the service."""
    client = service.client
    service.project = client.call(
        Operations.create_project,
        name=NAME,
        labels=["organ", "lesion"],
        channels=["MRI"],
        epochs=1,
        iterations=3,
        seed=SEED,
    ).id
    for name in (*POOL, TEST):
        image, label = (
            client.upload(folder / part / f"{name}.nii.gz").id for part in ("imagesTr", "labelsTr")
        )
        more = {"role": "test", "label": label} if name == TEST else {}
        given = {"project": service.project, "name": name, "images": [image], **more}
        service.finish(client.call(Operations.add_case, **given).id)


def first_round(service: Service, person: Annotator) -> None:
    """Round 0, in the viewer: every status, a corrected slice, and one that belongs to the round
    after.
    """
    service.finish(service.start(strategy="spread", budget=4, ahead=3))
    rows = service.worklist()
    for row in rows[:4]:
        person.annotate(row, "Ada")
    person.annotate(rows[1], "Ben", base=1, unsure=True)
    person.annotate(rows[4], "Ada", careless=True, status=Status.FLAGGED)
    person.mark(rows[5], "Ada", Status.SKIPPED)
    job = service.start(strategy="entropy", budget=3, ahead=1)
    wait(lambda: service.trains(job))
    person.annotate(rows[6], "Ben")
    service.finish(job)


def second_round(root: Path, folder: Path) -> None:
    """Round 1, in the terminal: whole label maps, a slice beyond the batch, one skipped, one
    open.
    """
    work = json.loads((root / "rounds" / "001" / "worklist.json").read_text(encoding="utf-8"))
    cases = list(dict.fromkeys(item["case"] for item in work["items"]))
    for case in cases[:-1] or cases:
        alunet(
            "annotate",
            root,
            folder / "labelsTr" / f"{case}.nii.gz",
            "--case",
            case,
            "--seconds",
            30,
        )
    first = folder / "labelsTr" / f"{POOL[0]}.nii.gz"
    alunet("annotate", root, first, "--case", POOL[0], "--slice", 1, "--author", "Ada")
    alunet("skip", root, "--case", POOL[1], "--slice", 5)
    alunet("next-round", root, "--strategy", "usimf", "--budget", 3)


def alunet(*words: object) -> None:
    """Give a command."""
    subprocess.run(
        [sys.executable, "-m", "alunet", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )


def third_round(service: Service, person: Annotator) -> None:
    """Round 2, in the viewer again: what the strategy chose, and a slice of one's own choice."""
    rows = service.worklist()
    for row in rows[:2]:
        person.annotate(row, "Ada")
    chosen = own_choice(service, "Ben")
    person.annotate(chosen, "Ben")
    service.finish(service.start(strategy="random", budget=4, ahead=3))


def own_choice(service: Service, author: str) -> WorkRow:
    """Put the first slice that is in no worklist and has no labels yet into the newest one."""
    shown = {(row.case, row.slice) for row in service.worklist()}
    for case in POOL:
        for number in range(CUT[0].stop - CUT[0].start):
            if (case, number) not in shown:
                try:
                    given = {"case": case, "axis": 0, "slice": number, "author": author}
                    return service.client.call(
                        Operations.add_slice, project=service.project, **given
                    )[0]
                except Exception:  # noqa: BLE001  it has labels, or nothing is in it: the next one
                    continue
    raise SystemExit("No slice is left to choose.")


def half_of_the_fourth(service: Service, person: Annotator) -> list[WorkRow]:
    """Round 3, half done: a correction, a conflict, a refusal, every status; returns what is
    still open.
    """
    rows = service.worklist()
    person.annotate(rows[0], "Ada")
    person.annotate(rows[1], "Ada", careless=True)
    first = rows[1].version + 1
    person.annotate(rows[1], "Ben", base=first)
    person.annotate(rows[1], "Cyd", base=first, unsure=True, state="conflict")
    person.annotate(rows[2], "Ada", unsure=True, status=Status.IN_PROGRESS)
    wrong = person.submit(rows[3], "Ada", np.zeros((1, 2, 2), np.uint8))
    person.agent.settle(wrong, "refused")
    person.mark(rows[4], "Ada", Status.SKIPPED)
    person.mark(rows[5], "Ben", Status.FLAGGED)
    own_choice(service, "Cyd")
    given = {"project": service.project, "sample": rows[3].sample}
    service.client.call(Operations.lease, author="Ada", seconds=60.0, **given)
    return [rows[3], rows[6]]


def fill_outbox(person: Annotator, rows: list[WorkRow]) -> None:
    """What is done while the engine is away: a slice with open voxels, its correction, and a
    status.
    """
    person.submit(rows[0], "Ada", person.drawn(rows[0], unsure=True))
    person.submit(rows[0], "Ada", person.drawn(rows[0]))
    person.agent.ask(
        "set_status", project=person.project, sample=rows[1].sample, status="flagged", author="Ada"
    )


def play(folder: Path, kept: Path) -> None:
    """Play everything in a folder, and keep the three states."""
    truth, root = images(folder / "images"), folder / "projects"
    agent = Agent(folder / "agent")
    person = Annotator(agent, truth, folder)
    try:
        with running(root, person) as service:
            create(service, folder / "images")
            person.project = service.project
            first_round(service, person)
        second_round(service.folder, folder / "images")
        with running(root, person) as service:
            third_round(service, person)
            rows = half_of_the_fourth(service, person)
        fill_outbox(person, rows)
    finally:
        agent.kill()
    shutil.copytree(folder / "agent" / "outbox", kept / "outbox")
    shutil.copytree(service.folder, kept / "annotating")
    service = Service(root)
    try:
        die_in_training(service, person)
    finally:
        service.kill()
    shutil.copytree(service.folder, kept / "training")


@contextlib.contextmanager
def running(root: Path, person: Annotator) -> Iterator[Service]:
    """A service to which the person's agent is connected."""
    service = Service(root)
    try:
        person.agent.connect(service)
        yield service
    finally:
        service.stop()


def die_in_training(service: Service, person: Annotator) -> None:
    """Learn round 3, annotate one more slice meanwhile, and lose the power."""
    row = next(row for row in service.worklist() if row.status is Status.TODO)
    job = service.start(strategy="entropy", budget=3, ahead=2, train_for=60)
    wait(lambda: service.trains(job))
    voxels = person.drawn(row)
    content = {
        "author": "Ben",
        "seconds": 8.0,
        "status": "done",
        "base_version": row.version,
        "dtype": "uint8",
    }
    packed = pack(voxels.astype(np.uint8).tobytes(), voxels.shape, "uint8")
    service.client.put_annotation(
        service.project, row.sample, {**content, "shape": list(voxels.shape)}, packed, "late"
    )
    if (service.folder / "rounds" / "003" / "learned.json").exists():
        raise SystemExit("The training was over too soon.")


# --- what is kept ---------------------------------------------------------------------------------


def bulky(path: str) -> bool:
    """Whether nothing that shows a project needs the file; the path begins with the state's
    folder.
    """
    inside = "/" + path.partition("/")[2]
    return path.endswith(DROPPED) or any(f"/{folder}" in inside for folder in DROPPED_FOLDERS)


def pack_up(kept: Path, target: Path) -> None:
    """Write the archive, the same bytes for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(path for path in kept.rglob("*") if path.is_file()):
            name = file.relative_to(kept).as_posix()
            if not bulky(name):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(
                    entry,
                    without_system(file) if file.name == "manifest.json" else file.read_bytes(),
                )


def without_system(manifest: Path) -> bytes:
    """The bytes of a manifest, without the name of the computer's operating system."""
    return re.sub(rb'("system": )"[^"]*"', rb'\1"Linux"', manifest.read_bytes())


def read_facts(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack the archive and read what is in it, with the code of this commit."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    projects = {name: facts.of_project(folder / name) for name in ("annotating", "training")}
    return {"projects": projects, "outbox": facts.of_outbox(folder / "outbox")}


def main() -> None:
    """Make the archive of the imported code's commit, and its facts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the commit whose code is imported; names the files")
    commit = parser.parse_args().commit
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="recorded-"))
    archive = HERE / f"project-{commit}.zip"
    play(folder, folder / "kept")
    pack_up(folder / "kept", archive)
    found = {"commit": commit, **read_facts(archive, folder / "unpacked")}
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    archive.with_suffix(".json").write_text(text, encoding="utf-8", newline="\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
