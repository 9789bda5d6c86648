"""The folder of all projects: closed to others, or refused; and the note of a service is believed
where the service proves itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import Service

from alunet.errors import InputError
from alunet.model.child import with_source
from alunet.schema import API
from alunet.serve import running
from alunet.serve.root_folder import prepare_root

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")


@pytest.fixture(autouse=True)
def usual_mask():
    """What a process makes is open to others at first, and this one is as it was afterwards."""
    old = os.umask(0o022)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_new_root_is_closed(tmp_path):
    assert prepare_root(tmp_path / "new" / "root") == []
    assert mode(tmp_path / "new" / "root") == mode(tmp_path / "new" / "root" / ".alunet") == 0o700


def test_an_open_root_is_closed_where_it_must_be_and_says_what(tmp_path):
    root = tmp_path / "root"
    for folder in (root, root / ".alunet", root / "p-1", root / "of somebody"):
        folder.mkdir()
        folder.chmod(0o775)
    (root / "p-1" / "project.db").write_bytes(b"")
    said = prepare_root(root)
    assert [str(root), str(root / ".alunet"), "p-1"] == [
        next(word for word in (str(root / ".alunet"), str(root), "p-1") if word in line)
        for line in said
    ]
    assert mode(root) == 0o755  # what is no project's is left as it was
    assert mode(root / ".alunet") == mode(root / "p-1") == 0o700
    assert mode(root / "of somebody") == 0o775
    assert prepare_root(root) == []


@pytest.mark.parametrize("where", ["root", "above"])
def test_a_root_that_everybody_can_replace_is_refused(tmp_path, where):
    root = tmp_path / "above" / "root"
    root.mkdir(parents=True)
    (root if where == "root" else root.parent).chmod(0o1777 if where == "root" else 0o777)
    command = [sys.executable, "-m", "alunet", "serve", "--root", str(root)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=with_source(), timeout=60, check=False
    )
    assert done.returncode == 2 and not done.stdout
    assert str(root) in done.stderr and "Choose" in done.stderr and "Traceback" not in done.stderr
    assert not (root / ".alunet").exists()


def test_a_folder_of_another_user_is_not_used_for_the_token(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / ".alunet").symlink_to(tmp_path)
    with pytest.raises(InputError, match="belongs to another user"):
        prepare_root(root)
    if os.geteuid() == 0:
        (root / ".alunet").unlink()
        (root / ".alunet").mkdir()
        os.chown(root / ".alunet", 65534, 65534)
        with pytest.raises(InputError, match="belongs to another user"):
            prepare_root(root)


def note(service: Service) -> Path:
    return service.root / ".alunet" / running.NOTE


def test_a_note_is_believed_where_its_service_lives_and_proves_itself(service, monkeypatch):
    monkeypatch.setattr(running, "_PATIENCE_SECONDS", 1.0)
    true = json.loads(note(service).read_text(encoding="utf-8"))
    assert running.running_service(service.root / ".alunet").pid == true["pid"]
    for change in (
        {"pid": 2**22 + 5},
        {"token": "of-another-service"},
        {"address": "http://127.0.0.1:9"},
    ):
        note(service).write_text(json.dumps(true | change), encoding="utf-8")
        with pytest.raises(InputError, match="no service proves that it runs there"):
            running.running_service(service.root / ".alunet")


def test_a_number_that_another_process_has_by_now_is_not_believed(service, monkeypatch):
    monkeypatch.setattr(running, "_PATIENCE_SECONDS", 1.0)
    long_ago = time.time() - 3600
    os.utime(note(service), (long_ago, long_ago))
    with pytest.raises(InputError, match="no service proves"):
        running.running_service(service.root / ".alunet")


def test_a_note_that_a_killed_service_left_is_gone_before_the_next_one_listens(service):
    service.stop(9)
    assert note(service).is_file()
    service.start()
    found = json.loads(note(service).read_text(encoding="utf-8"))
    assert found == service.announced and found["api"] == API
