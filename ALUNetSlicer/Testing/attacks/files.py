"""Broken and hostile files, as images and as labels: each hurts itself alone.

Mutants of every form are given to `alunet add` and `alunet annotate`, and so is a list of files
that were made to read another file, to end the reader, or to take its memory; the list is uploaded
to a real service too.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fuzzing
import hostile
from fuzz_corpus import make_corpus
from running import Service

from alunet.imaging.limits import MIB, memory_for
from alunet.imaging.reader_process import LOG
from attacks import Finding

COUNT = 3000
_SLOW = 20.0  # seconds of a processor for one reading
_OWN = 160 * MIB  # what the reader's libraries take
_LARGEST = 64 * MIB  # no file of the corpus or the list may be read as more


def attack(count: int, seed: int, work: Path) -> list[Finding]:
    """Try `count` mutants, and the hostile list over both ways in."""
    corpus = make_corpus(work / "corpus")
    number = fuzzing.make_hostile(corpus)
    log = work / "readings.jsonl"
    with _logged(log):
        seeds = range(seed * COUNT, seed * COUNT + count)
        outcomes = list(fuzzing.run_many(corpus, work / "mutants", seeds))
        outcomes += fuzzing.run_many(corpus, work / "list", range(number), "hostile")
        service = over_service(corpus / "hostile", work / "root")
    return [
        *_of_outcomes(outcomes),
        *_of_readings([json.loads(line) for line in log.read_text("utf-8").splitlines()]),
        *service,
    ]


@contextmanager
def _logged(log: Path) -> Iterator[None]:
    before = os.environ.get(LOG)
    os.environ[LOG] = str(log)
    try:
        yield
    finally:
        os.environ.pop(LOG)
        if before is not None:
            os.environ[LOG] = before


def _of_outcomes(outcomes: Sequence[fuzzing.Outcome]) -> list[Finding]:
    kinds = Counter(outcome.kind for outcome in outcomes)
    names = {
        "crash": "deaths of the process that asked",
        "hang": "files over 20 s, or without an answer",
        "defect": "tracebacks",
        "changed": "refused, but the project changed",
        "bad": "taken, but not as it must be",
        "foreign": "bytes of another file",
    }
    bad = {kind: [o for o in outcomes if o.kind == kind] for kind in names}
    taken = f"{kinds['taken']} taken, {kinds['refused']} refused"
    return [
        Finding("files tried", len(outcomes), len(outcomes), detail=taken),
        Finding("taken", kinds["taken"], len(outcomes)),
        *(
            Finding(name, kinds[kind], 0, detail=", ".join(map(str, bad[kind][:3])))
            for kind, name in names.items()
        ),
    ]


def _of_readings(costs: Sequence[dict[str, Any]]) -> list[Finding]:
    """Judge what the readers took, as their server saw it."""
    slowest = max(costs, key=lambda cost: cost["seconds"])
    largest = max(costs, key=lambda cost: cost["memory"])
    most = (_OWN + memory_for(_LARGEST)) / MIB
    ended = sum(cost["status"] != 0 for cost in costs)
    return [
        Finding("readings", len(costs), len(costs)),
        Finding("readers that a file ended", ended, len(costs)),
        Finding("slowest reading", slowest["seconds"], _SLOW, "s", detail=str(slowest)),
        Finding("most memory", largest["memory"] / MIB, most, "MiB", detail=str(largest)),
    ]


def over_service(place: Path, root: Path, files: Sequence[str] | None = None) -> list[Finding]:
    """Upload the hostile files, and files with a patient's name, and make cases of them.

    Args:
        place: of the hostile files, see `fuzzing.make_hostile`.
        root: of the service, new.
        files: of the list; None: all.
    """
    listed = files or json.loads((place / "files.json").read_text("utf-8"))
    service = Service(root)
    states: Counter[str] = Counter()
    untold = []
    try:
        project = service.project("attacked")
        asked = {
            name: _asked(service, project, f"c{n}", place / name) for n, name in enumerate(listed)
        }
        named = hostile.named_files(root.parent / "named")
        patients = [_asked(service, project, f"n{n}", file) for n, file in enumerate(named)]
        for name, job in asked.items():
            ended = service.ended(project, job) if job else {"state": "not accepted"}
            states[ended["state"]] += 1
            if ended["state"] not in ("done", "failed", "not accepted"):
                untold.append(f"{name}: {ended}")
        for name, job in zip(named, patients, strict=True):
            ended = service.ended(project, job or 0)
            untold += [f"{name}: {ended}"] if ended["state"] != "done" else []
        lives = service.process.poll() is None
    finally:
        service.stop()
    person = hostile.holds_secret(root, hostile.PERSON.encode())
    return [
        Finding("deaths of the service", int(not lives), 0),
        Finding("imports without a proper end", len(untold), 0, detail="; ".join(untold[:3])),
        Finding("imported hostile files", states["done"], len(listed)),
        Finding("bytes of another file in the service", int(hostile.holds_secret(root)), 0),
        Finding("a patient's name in the service", int(person), 0),
    ]


def _asked(service: Service, project: str, name: str, file: Path) -> int | None:
    """Upload a file and ask for a case of it; return the job, None where it is not accepted."""
    about = {"filename": file.name, "size": 1, "sha256": "0" * 64}
    if service.send("POST", "/uploads", json=about).status_code >= 400:
        return None
    body = {"name": name, "role": "pool", "images": [service.upload(file)], "label": None}
    answer = service.send("POST", f"/projects/{project}/cases", json=body)
    return int(answer.json()["id"])
