"""The outbox: an annotation that was acknowledged to the viewer is on this disk, in order, and
stays until sent.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alunet.agent.outbox import Entry, Outbox, OutboxError, pack
from alunet.errors import InputError

PACKAGE = Path(__file__).resolve().parents[2]


def annotation(
    sample=1, base=0, voxels=bytes(12), key="", author="ada", engine="local", project="p"
):
    content = {
        "base_version": base,
        "author": author,
        "seconds": 9.5,
        "status": "done",
        "dtype": "uint8",
    }
    return Entry(
        engine,
        project,
        sample,
        content | {"shape": [1, 3, 4]},
        pack(voxels, (1, 3, 4), "uint8"),
        key,
    )


@pytest.fixture
def outbox(tmp_path):
    box = Outbox(tmp_path / "outbox")
    yield box
    box.close()


def test_what_was_put_is_found_by_the_next_process(outbox):
    put = outbox.put(annotation(voxels=bytes(range(12))))
    again = Outbox(outbox.folder)
    found = again.next_waiting("local")
    assert found.key == put.key
    assert gzip.decompress(found.body) == bytes(range(12))
    assert found.content["seconds"] == 9.5
    again.close()


def test_entries_leave_in_the_order_they_came(outbox):
    keys = [outbox.put(annotation(sample)).key for sample in (5, 3, 9)]
    left = []
    while entry := outbox.next_waiting("local"):
        left.append(entry.key)
        outbox.settle(entry.key, "sent", {"version": 1})
    assert left == keys
    assert outbox.entries("local") == []


def test_the_same_key_is_stored_once_also_after_it_was_sent(outbox):
    first = outbox.put(annotation(key="k"))
    assert outbox.put(annotation(key="k", voxels=bytes([1] * 12))).number == first.number
    outbox.settle("k", "sent", {"version": 3})
    known = outbox.put(annotation(key="k"))
    assert (known.state, known.answer) == ("sent", {"version": 3})
    assert outbox.next_waiting("local") is None


def test_a_correction_of_what_is_still_on_its_way_gets_its_version_as_base(outbox):
    outbox.put(annotation(key="first"))
    outbox.put(annotation(sample=2, key="other"))
    assert outbox.put(annotation(key="second")).follows == "first"
    outbox.settle("first", "sent", {"version": 4})
    assert outbox.get("second").content["base_version"] == 4
    assert outbox.get("other").content["base_version"] == 0


def test_a_correction_of_what_was_just_acknowledged_gets_its_version_as_base(outbox):
    outbox.put(annotation(base=2, key="first"))
    outbox.settle("first", "sent", {"version": 3})
    assert outbox.put(annotation(base=2, key="second")).content["base_version"] == 3
    outbox.settle("second", "sent", {"version": 7})
    assert outbox.put(annotation(base=2)).content["base_version"] == 7
    assert outbox.put(annotation(base=2, author="bob")).content["base_version"] == 2
    assert outbox.put(annotation(base=9)).content["base_version"] == 9


def test_what_the_engine_refused_stays_until_a_person_decides(outbox):
    outbox.put(annotation(key="bad"))
    outbox.put(annotation(key="good"))
    outbox.settle("bad", "refused", {"code": "not_found", "message": "No such sample."})
    assert outbox.next_waiting("local").key == "good"
    outbox.discard("good")
    outbox.retry("bad")
    assert outbox.next_waiting("local").key == "bad"
    assert outbox.next_waiting("local").body is not None
    outbox.settle("bad", "refused", {})
    outbox.discard("bad")
    assert [entry.key for entry in outbox.entries("local")] == ["good"]


def test_entries_of_a_project_that_waits_hold_no_other_up(outbox):
    """As where the engine cannot open that project for the moment."""
    first, second = outbox.put(annotation(project="ill")), outbox.put(annotation(project="well"))
    engine = first.engine
    assert outbox.next_waiting(engine, ["ill"]).key == second.key
    assert outbox.next_waiting(engine, ["ill", "well"]) is None
    assert outbox.next_waiting(engine).key == first.key


def test_each_engine_has_its_own_line(outbox):
    outbox.put(annotation(engine="ssh://a"))
    assert outbox.next_waiting("ssh://b") is None
    assert outbox.entries("ssh://b") == []


@pytest.mark.parametrize(
    ("count", "shape", "dtype", "words"),
    [
        (12, (3, 4), "uint8", "no shape"),
        (12, (1, 3, 5), "uint8", "15 bytes"),
        (12, (1, 3, 4), "uint16", "24 bytes"),
        (12, (1, 3, 4), "float32", "float32"),
        (0, (0, 3, 4), "uint8", "no shape"),
    ],
)
def test_voxels_that_do_not_fit_are_refused_before_they_are_stored(count, shape, dtype, words):
    with pytest.raises(InputError, match=words):
        pack(bytes(count), shape, dtype)


@given(st.binary(min_size=24, max_size=24))
def test_voxels_come_out_as_they_went_in(voxels):
    assert gzip.decompress(pack(voxels, (2, 3, 2), "uint16")) == voxels


def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutboxError, match="cannot be used"):
        Outbox(tmp_path / "file")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "outbox.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(OutboxError, match="not a database"):
        Outbox(tmp_path / "broken")
    assert (tmp_path / "broken" / "outbox.db").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a way to limit file sizes")
def test_a_full_disk_acknowledges_nothing_and_loses_nothing(tmp_path):
    """A limit on the size of files stands for a full disk: the system refuses the write in the
    same place.
    """
    code = (
        "import resource, signal, sys, os; from pathlib import Path; "
        "from alunet.agent.outbox import Entry, Outbox, OutboxError, pack\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, "
        "(300000, 300000))\n"
        "box = Outbox(Path(sys.argv[1])); kept = 0\n"
        "try:\n"
        "    while kept < 100:\n"
        "        content = {'base_version': 0, 'author': 'a', 'shape': [1, 100, 200], 'dtype': "
        "'uint8'}\n"
        "        box.put(Entry('e', 'p', kept, content, pack(os.urandom(20000), (1, 100, 200), "
        "'uint8')))\n"
        "        kept += 1\n"
        "except OutboxError as error:\n"
        "    print(kept, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=PACKAGE
    )
    kept, _, words = done.stdout.partition(" ")
    assert 0 < int(kept) < 100, done.stderr
    assert "Free space" in words
    box = Outbox(tmp_path)
    assert [entry.sample for entry in box.entries("e")] == list(range(int(kept)))
    box.put(annotation())
    box.close()


WRITER = """
import json, sys
from pathlib import Path
from alunet.agent.outbox import Entry, Outbox, pack
box = Outbox(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    voxels = bytes([number % 251]) * 2000
    content = {"base_version": 0, "author": "ada", "shape": [1, 40, 50], "dtype": "uint8"}
    entry = box.put(Entry("local", "p", number, content, pack(voxels, (1, 40, 50), "uint8")))
    print(json.dumps([number, entry.key]), flush=True)
    if number % 3 == 0:
        first = box.next_waiting("local")
        box.settle(first.key, "sent", {"version": 1})
        print(json.dumps([-first.sample, first.key]), flush=True)
"""


def killed_writer(folder: Path, start: int, after: float) -> list[list]:
    """What a writer acknowledged before kill -9, `after` seconds from its first word."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(start)],
        stdout=subprocess.PIPE,
        cwd=PACKAGE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        time.sleep(after)
        os.kill(process.pid, signal.SIGKILL)
        lines = [first, *process.stdout]
    return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a thing of POSIX")
def test_nothing_acknowledged_is_lost_when_the_process_is_killed_50_times(tmp_path):
    moments = random.Random(4)
    put: dict[int, str] = {}
    sent: set[str] = set()
    kills = 0
    while kills < 50 or (len(put) <= 100 and kills < 1000):
        # a busy machine starts so slowly that little is written
        kills += 1
        for number, key in killed_writer(
            tmp_path, max(put, default=0) + 100, moments.uniform(0, 0.05)
        ):
            if number > 0:
                put[number] = key
            else:
                sent.add(key)
    box = Outbox(tmp_path)
    states = {entry.key: entry.state for entry in box.entries("local", ("waiting", "sent"))}
    assert len(put) > 100
    assert set(put.values()) <= set(states)
    assert all(states[key] == "sent" for key in sent)
    waiting = box.entries("local")
    assert [entry.sample for entry in waiting] == sorted(entry.sample for entry in waiting)
    while entry := box.next_waiting("local"):
        assert gzip.decompress(entry.body) == bytes([entry.sample % 251]) * 2000
        box.settle(entry.key, "sent", {"version": 1})
    box.close()
