"""What waited in the outbox of an older agent reaches the project of an older engine, by this
version of both.
"""

from __future__ import annotations

import json
import queue
import shutil
import zipfile
from pathlib import Path

import pytest
from recorded import facts
from running import Service

from alunet.agent.client import Client
from alunet.agent.outbox import Outbox
from alunet.agent.sender import Sender

RECORDED = Path(facts.__file__).parent
SECONDS = 120


@pytest.fixture(params=sorted(RECORDED.glob("project-*.zip")), ids=lambda file: file.stem)
def archive(request, tmp_path):
    """The recorded folders, and what was in them."""
    with zipfile.ZipFile(request.param) as content:
        content.extractall(tmp_path)
    return json.loads(request.param.with_suffix(".json").read_text(encoding="utf-8"))


def test_what_waited_arrives_with_the_voxels_that_were_drawn(archive, tmp_path):
    waiting = [entry for entry in archive["outbox"] if entry["state"] == "waiting"]
    root = tmp_path / "root"
    project = root / waiting[0]["project"]
    root.mkdir()
    shutil.move(tmp_path / "annotating", project)
    service = Service(root)
    outbox = Outbox(tmp_path / "outbox")
    try:
        client = Client(service.announced["address"], service.token)
        told: queue.Queue = queue.Queue()
        sender = Sender(
            outbox, waiting[0]["engine"], lambda: client, lambda *words: told.put(words)
        )
        sender.start()
        states = [told.get(timeout=SECONDS)[0] for _ in waiting]
        sender.stop()
    finally:
        outbox.close()
        service.stop()
    assert states == ["sent"] * len(waiting)
    check(waiting, facts.of_project(project))


def check(waiting, found) -> None:
    """The newest version of each sample is what was drawn last, and each status is the one that
    was set.
    """
    drawn = {str(entry["sample"]): entry["voxels"] for entry in waiting if entry["voxels"]}
    assert drawn
    for sample, voxels in drawn.items():
        entry = found["versions"][sample]
        assert {version["number"]: version["voxels"] for version in entry["all"]}[
            entry["newest"]
        ] == voxels
    rows = {row["sample"]: row["status"] for row in found["worklists"][-1]}
    assert all(rows[entry["sample"]] == entry["content"]["status"] for entry in waiting)
