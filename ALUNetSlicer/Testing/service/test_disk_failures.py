"""A service whose disk is full, read-only or out of files: refused with the right code, read on,
and on again without a restart.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import small_disks
from attacks import assert_holds, disk
from running import Service
from test_work import labels, pooled, put

linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


@pytest.fixture(scope="module")
def _mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where no small file system can be mounted."""
    for kind in small_disks.KINDS:
        try:
            with small_disks.mounted(tmp_path_factory.mktemp("mounts") / kind, 8, kind):
                pass
        except small_disks.NoMount as reason:
            pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.usefixtures("_mounts")
def test_levels_of_a_full_disk(tmp_path: Path) -> None:
    assert_holds(disk.attack(3, 0, tmp_path))


@pytest.fixture
def failing(tmp_path: Path, _mounts: None) -> Iterator[Path]:
    """A disk that becomes read-only at its first error, as most do."""
    with small_disks.mounted(tmp_path / "disk", 700, "ext4", "errors=remount-ro") as folder:
        yield folder


@linux
def test_a_disk_that_becomes_read_only_is_read_on(failing: Path, scan) -> None:
    service = Service(failing / "root")
    try:
        pooled(service, scan)
        assert put(service, 0, labels(1), key="a").status_code == 200
        device = _device(failing)
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("broken", encoding="ascii")
        for sample in (0, 1):
            answer = put(service, sample, labels(2), base=1 - sample, key=f"b{sample}")
            assert (answer.status_code, answer.json()["code"]) == (503, "read_only"), answer.text
            assert answer.headers["Retry-After"] == "5"
            assert str(failing) not in answer.text and "Reading goes on" in answer.text
        rows = {row["sample"]: row for row in service.ok("GET", "/projects/work/worklist")}
        assert rows[0]["version"] == 1 and rows[1]["version"] == 0
        for path in ("", "/work", "/work/cases", "/work/cases/a/images/0", "/work/events"):
            assert service.send("GET", f"/projects{path}").status_code == 200, path
        service.refused("POST", "/projects/work/jobs", 503, "read_only", json={"kind": "plan"})
    finally:
        service.stop(9)


def _device(folder: Path) -> str:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        device, point = line.split()[:2]
        if point == str(folder):
            return Path(device).name
    raise AssertionError(f"{folder} is not mounted")


@linux
def test_a_service_without_descriptors_answers_again_when_it_has_some(
    service: Service, scan
) -> None:
    pooled(service, scan)
    process = service.process.pid
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    codes = []
    for more in range(1, 9):
        used = len(list(Path(f"/proc/{process}/fd").iterdir()))
        resource.prlimit(process, resource.RLIMIT_NOFILE, (used + more, before[1]))
        try:
            answer = put(service, 0, labels(1), key="a")
        except requests.RequestException:  # not even the connection has one
            continue
        finally:
            resource.prlimit(process, resource.RLIMIT_NOFILE, before)
        assert answer.status_code in (200, 503), answer.text
        codes.append(answer.json().get("code"))
    assert "no_descriptors" in codes and service.process.poll() is None
    answer = put(service, 0, labels(1), key="a")
    assert answer.json() == {"sample": 0, "status": "done", "version": 1}
