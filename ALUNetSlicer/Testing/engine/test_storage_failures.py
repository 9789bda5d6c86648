"""Each cause of a disk or a database has its class, and reading goes on where writing cannot."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disks import NoMount, fill, mounted

from alunet.errors import InputError
from alunet.loop.setup import Setup, create
from alunet.model.child import with_source
from alunet.project import Project
from alunet.project.tables import MIGRATIONS
from alunet.storage import database as databases
from alunet.storage import failures, file_systems
from alunet.storage.database import Database
from alunet.storage.disk_space import check_room
from alunet.storage.private_copy import read_copy

linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


def opened(path: Path, **options: bool) -> Database:
    database = Database(path / "project.db", MIGRATIONS, **options)
    if not options and not database.version:
        database.migrate()
    return database


def note(database: Database, key: str) -> None:
    database.execute("INSERT INTO meta (key, value) VALUES (?, '1')", (key,))


def keys(database: Database) -> list[str]:
    return [key for (key,) in database.rows("SELECT key FROM meta ORDER BY key")]


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=with_source(),
        capture_output=True,
        text=True,
        check=False,
    )


OPEN = """
import sys
from pathlib import Path
from alunet.project.tables import MIGRATIONS
from alunet.storage.database import Database
database = Database(Path(sys.argv[1]) / "project.db", MIGRATIONS)
"""


# --- causes ---------------------------------------------------------------------------------------


def windows(number: int) -> OSError:
    error = OSError(errno.EINVAL, "of Windows")
    error.winerror = number
    return error


def of_sqlite(words: str, code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError(words)
    if hasattr(error, "sqlite_errorcode") or sys.version_info >= (3, 11):
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "full", "a"), failures.DiskFull),
        (OSError(errno.EDQUOT, "quota", "a"), failures.DiskFull),
        (windows(112), failures.DiskFull),
        (windows(39), failures.DiskFull),
        (of_sqlite("database or disk is full", 13), failures.DiskFull),
        (OSError(errno.EROFS, "read-only", "a"), failures.ReadOnly),
        (OSError(errno.EACCES, "denied", "a"), failures.ReadOnly),
        (windows(19), failures.ReadOnly),
        (of_sqlite("attempt to write a readonly database", 8), failures.ReadOnly),
        (OSError(errno.EMFILE, "many", "a"), failures.NoDescriptors),
        (OSError(errno.ENFILE, "many", "a"), failures.NoDescriptors),
        (OSError(errno.EIO, "broken", "a"), failures.DiskError),
        (of_sqlite("disk I/O error", 10 | 3 << 8), failures.DiskError),
        (of_sqlite("database is locked", 5), failures.Locked),
        (of_sqlite("database table is locked", 6), failures.Locked),
        (windows(32), failures.Locked),
        (OSError(errno.EISDIR, "a folder", "a"), InputError),
        (RuntimeError("ITK: No space left on device"), failures.DiskFull),
        (RuntimeError("shapes differ"), None),
        (OSError(errno.ENOENT, "none", "a"), None),
    ],
)
def test_each_cause_has_its_class(error: Exception, cause: type[InputError] | None) -> None:
    known = failures.known_failure(error)
    assert type(known) is (type(None) if cause is None else cause)
    if known is not None:
        assert "\n" not in str(known) and known.hint


def test_the_words_of_sqlite_tell_where_python_does_not_know_the_code() -> None:
    for code, words in failures._SQLITE.items():
        assert failures.sqlite_code(sqlite3.OperationalError(words)) == code


def test_room_is_left_for_annotations(tmp_path: Path) -> None:
    check_room(tmp_path, 0, 1)
    with pytest.raises(failures.DiskFull, match="are kept for annotations"):
        check_room(tmp_path, 1 << 62)


# --- the write-ahead log's shared memory ----------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB with blocks of 1 KiB."""
    try:
        with mounted(tmp_path / "disk", 24, "ext4") as folder:
            yield folder
    except NoMount as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("left", [0, 8, 24, 36, 56, 80, 120])
def test_no_level_of_a_full_disk_ends_a_process(disk: Path, left: int) -> None:
    """Without room that is really taken, writing to the mapped file is a SIGBUS."""
    with contextlib.closing(opened(disk)) as database:
        note(database, "first")
    filler = fill(disk, left)
    write = OPEN + "database.execute(\"INSERT INTO meta (key, value) VALUES ('second', '1')\")"
    done = python(write, disk)
    assert done.returncode in (0, 1), done.stderr
    assert done.returncode == 0 or "DiskFull" in done.stderr.splitlines()[-1]
    for options in ({"read_only": True}, {"reading_helps": True}):
        with contextlib.closing(opened(disk, **options)) as database:
            assert keys(database)[0] == "first"
    filler.unlink()
    with contextlib.closing(opened(disk)) as database:
        assert keys(database) == (["first", "second"] if done.returncode == 0 else ["first"])


@linux
def test_an_open_database_goes_on_when_the_disk_gets_full(disk: Path) -> None:
    """A connection that has not written yet finds its shared memory without holes."""
    opened(disk).close()
    wait = "print('open', flush=True); sys.stdin.readline()\n"
    write = "database.execute(\"INSERT INTO meta (key, value) VALUES ('x', '1')\")"
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN + wait + write, str(disk)],
        env=with_source(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    fill(disk, 0)
    said = process.communicate("\n")[1]
    assert process.returncode == 1 and "DiskFull" in said


@linux
def test_closing_one_connection_leaves_the_locks_of_the_others(tmp_path: Path) -> None:
    """A file that is closed takes all locks of its process on it along."""
    first, second = opened(tmp_path), opened(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    note(first, "a")
    second.close()
    other = OPEN + "database.execute(\"INSERT INTO meta (key, value) VALUES ('b', '1')\")"
    assert python(other, tmp_path).returncode == 0
    assert (tmp_path / "project.db-shm").stat().st_blocks * 512 >= 1 << 16
    assert (tmp_path / "project.db-wal").stat().st_size, "the other was not the last to close"
    assert keys(first) == ["a", "b"]
    note(first, "c")
    first.close()
    assert not (tmp_path / "project.db-shm").exists()
    assert len(list(Path("/proc/self/fd").iterdir())) < before
    with contextlib.closing(opened(tmp_path)) as again:
        assert keys(again) == ["a", "b", "c"]


def test_a_copy_knows_what_only_the_log_has(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path)) as database:
        note(database, "in the log")
        with contextlib.closing(read_copy(tmp_path / "project.db")) as copy:
            assert copy.execute("SELECT key FROM meta").fetchall() == [("in the log",)]
    with contextlib.closing(read_copy(tmp_path / "project.db")) as copy:
        assert copy.execute("SELECT key FROM meta").fetchall() == [("in the log",)]
        with pytest.raises(sqlite3.OperationalError):
            copy.execute("DELETE FROM meta")


# --- a disk that is read-only ---------------------------------------------------------------------


def test_a_project_on_a_read_only_disk_is_read(disk: Path) -> None:
    """Also where a process died there and left what only its log has."""
    root = disk / "p"
    labels = {"background": 0, "a": 1}
    create(root, name="p", labels=labels, channels=["CT"], setup=Setup(device="cpu")).close()
    dies = "import os; database.execute(\"INSERT INTO meta (key, value) VALUES ('x', '1')\")"
    python(OPEN + dies + "; os._exit(9)", root)
    before = {path.name for path in root.iterdir()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with Project.open(root, read_only=True) as project:
        assert project.name == "p" and keys(project._db)[-1] == "x"
    with Project.open(root, shared=True) as project:
        assert project.cases.all() == []
        with pytest.raises(failures.ReadOnly, match=f"The disk of {root} is read-only"):
            project.events.add("message", {"text": "x"})
        with pytest.raises(failures.ReadOnly):
            project._db.check_writable()
    with pytest.raises(InputError, match=r"cannot be written: Read-only file system\. Open it for"):
        Project.open(root)
    done = python(
        "import sys; from alunet.cli import main; sys.exit(main())", "status", root, "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in root.iterdir()} == before


# --- locked, damaged, too many files --------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_is_not_called_damaged(tmp_path: Path) -> None:
    opened(tmp_path).close()
    holder = sqlite3.connect(tmp_path / "project.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with contextlib.closing(opened(tmp_path)) as database:
        with pytest.raises(failures.Locked, match="is locked by another process") as told:
            note(database, "x")
        assert "backup" not in str(told.value)
        holder.execute("COMMIT")
        note(database, "x")
        assert keys(database) == ["x"]
    holder.close()


def test_a_backup_is_asked_for_where_sqlite_finds_damage(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path)) as database:
        for number in range(500):
            note(database, f"{number} {'x' * 200}")
    file = tmp_path / "project.db"
    content = file.read_bytes()
    for start, length in ((0, 50), (len(content) // 2, 30_000)):
        spoiled = content[:start] + b"\xff" * length + content[start + length :]
        file.write_bytes(spoiled)
        with pytest.raises(failures.DamagedDatabase, match=r"Restore it from a backup"):
            keys(opened(tmp_path))
        for left in tmp_path.glob("project.db-*"):
            left.unlink()
    file.write_bytes(content)
    with contextlib.closing(opened(tmp_path)) as database:
        assert len(keys(database)) == 500


@linux
def test_a_process_that_may_open_no_more_files_says_so(tmp_path: Path) -> None:
    opened(tmp_path).close()
    code = """
import os, resource, sys
from pathlib import Path
from alunet.project.tables import MIGRATIONS
from alunet.storage.database import Database
from alunet.storage.failures import NoDescriptors
used = len(list(Path("/proc/self/fd").iterdir()))
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for more in range(6):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, most))
    try:
        Database(Path(sys.argv[1]) / "project.db", MIGRATIONS).close()
        print("opened")
    except NoDescriptors as error:
        print("no descriptors")
"""
    done = python(code, tmp_path)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert said[0] == "no descriptors" and said[-1] == "opened" and len(said) == 6


# --- network file systems -------------------------------------------------------------------------

MOUNTS = r"""sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
filer:/export /home nfs4 rw,vers=4.2 0 0
tmpfs /home/me/scratch tmpfs rw 0 0
//filer/scans /mnt/scans\040of\0402024 cifs rw 0 0
me@gpu:/data /mnt/far fuse.sshfs rw 0 0
broken line
/dev/sdb1 /mnt/far/disk xfs rw 0 0
overlay /mnt/twice overlay rw 0 0
filer:/twice /mnt/twice nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/data/projects", "ext4"),
        ("/home/me/projects", "nfs4"),
        ("/homework", "ext4"),
        ("/home/me/scratch/p", "tmpfs"),
        ("/mnt/scans of 2024/p", "cifs"),
        ("/mnt/far/p", "fuse.sshfs"),
        ("/mnt/far/disk/p", "xfs"),
        ("/mnt/twice/p", "nfs"),
    ],
)
def test_the_table_of_mounts_tells_the_file_system(folder: str, kind: str) -> None:
    assert file_systems.kind_in(MOUNTS, Path(folder)) == kind


@linux
def test_the_kind_of_a_real_folder_is_known(disk: Path) -> None:
    assert file_systems.kind_of(disk) == "ext4"
    assert not file_systems.is_network(disk)


COUNT = (
    """
from alunet.storage import database as databases
databases.is_network = lambda path: True
"""
    + OPEN
    + """
for number in range(20):
    key = f"{sys.argv[2]} {number:02}"
    database.execute("INSERT INTO meta (key, value) VALUES (?, '1')", (key,))
"""
)


def test_two_processes_write_on_a_network_file_system_without_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that was made on a disk of one computer is brought over."""
    with contextlib.closing(opened(tmp_path)) as database:
        note(database, "made elsewhere")
    monkeypatch.setattr(databases, "is_network", lambda path: True)
    with contextlib.closing(opened(tmp_path)) as database:
        assert database.value("PRAGMA journal_mode") == "delete"
        assert not list(tmp_path.glob("project.db-*"))
        with contextlib.closing(opened(tmp_path, read_only=True)) as reader:
            note(database, "beside a reader")
            assert keys(reader) == ["beside a reader", "made elsewhere"]
    words = [sys.executable, "-c", COUNT, str(tmp_path)]
    writers = [subprocess.Popen([*words, str(author)], env=with_source()) for author in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    with contextlib.closing(opened(tmp_path, read_only=True)) as reader:
        assert len(keys(reader)) == 42


def test_a_project_with_a_log_is_read_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(opened(tmp_path)) as database:
        note(database, "made elsewhere")
    monkeypatch.setattr(databases, "is_network", lambda path: True)
    with contextlib.closing(opened(tmp_path, read_only=True)) as reader:
        assert keys(reader) == ["made elsewhere"]
    assert not (tmp_path / "project.db-shm").exists()
