"""Foreign files are read by a process that can do nothing else, and of them nothing but voxels and
geometry is kept.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import fuzzing
import hostile
import numpy as np
import pytest
import SimpleITK as sitk
from attacks import assert_holds
from attacks import files as attack_on_files

from alunet.errors import InputError
from alunet.imaging import asking, foreign, reader_process, sandbox
from alunet.imaging.foreign import read_foreign
from alunet.imaging.forms import examine
from alunet.imaging.limits import MOST_BYTES, TooLarge
from alunet.imaging.reading import ending_of, read_image

linux = pytest.mark.skipif(not sandbox.LINUX, reason="only Linux can shut a process in")


def save(path: Path, shape: tuple[int, int, int] = (4, 16, 20), kind: type = np.int16) -> Path:
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(0, 999, shape).astype(kind))
    image.SetSpacing((0.5, 0.7, 3.1))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)
    return path


def refusal(path: Path, limit: int = MOST_BYTES) -> str:
    with pytest.raises(InputError) as caught:
        read_foreign(path, limit)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


# --- what the process can do ----------------------------------------------------------------------

PROBE = """
import os, socket, subprocess, sys, ctypes, signal
from pathlib import Path
from alunet.imaging.sandbox import shut_in
allowed, other, unix = map(Path, sys.argv[1:4])
parent = os.getppid()
out = os.dup(1)
shut_in([allowed], 1 << 20, out)
def tried(name, what):
    try:
        what()
        said = "done"
    except OSError as error:
        said = type(error).__name__
    os.write(out, f"{name} {said}\\n".encode())
tried("allowed", allowed.read_bytes)
tried("other", other.read_bytes)
tried("passwd", Path("/etc/passwd").read_bytes)
tried("write", lambda: allowed.write_bytes(b"x"))
tried("create", lambda: (allowed.parent / "new").write_bytes(b"x"))
tried("list", lambda: os.listdir("/"))
tried("tcp", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[4]))))
tried("unix", lambda: socket.socket(socket.AF_UNIX).connect(str(unix)))
tried("execute", lambda: os.execv("/bin/true", ["true"]))
tried("fork", os.fork)
tried("kill", lambda: os.kill(parent, 0))
libc = ctypes.CDLL(None, use_errno=True)
def trace():
    if libc.ptrace(16, parent, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")
tried("trace", trace)
"""


@linux
def test_the_reader_can_open_its_file_and_nothing_else(tmp_path: Path) -> None:
    if sandbox.landlock_version() < 4 or not sandbox.has_seccomp():
        pytest.skip("THIS SYSTEM HAS NO LANDLOCK OR NO SECCOMP: the reader is not shut in here")
    import socket

    (tmp_path / "own").mkdir()
    for name in ("own/allowed", "other"):
        (tmp_path / name).write_bytes(b"content")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(str(tmp_path / "unix"))
        unix.listen()
        words = [tmp_path / "own/allowed", tmp_path / "other", tmp_path / "unix"]
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *map(str, words), str(tcp.getsockname()[1])],
            capture_output=True,
            text=True,
            timeout=60,
        )
    found = dict(line.split() for line in done.stdout.splitlines())
    denied = (
        "other",
        "passwd",
        "write",
        "create",
        "list",
        "tcp",
        "unix",
        "execute",
        "fork",
        "kill",
    )
    assert found == {"allowed": "done", **dict.fromkeys((*denied, "trace"), "PermissionError")}
    assert (tmp_path / "own/allowed").read_bytes() == b"content"


@linux
def test_a_file_that_ends_the_reader_is_damaged_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of one file is ended as a decoder's defect would end it."""
    ending, good = save(tmp_path / "x" / "ends.mha"), save(tmp_path / "good.mha")
    script = tmp_path / "ending.py"
    script.write_text(
        "import os, sys\n"
        "from alunet.imaging import reader_process as own\n"
        "whole = own._READINGS['image']\n"
        "def image(asked):\n"
        "    if 'ends' in asked.path.name: os.abort()\n"
        "    if 'hangs' in asked.path.name:\n"
        "        while True: pass\n"
        "    if 'eats' in asked.path.name: return bytearray(1 << 40)\n"
        "    return whole(asked)\n"
        "own._READINGS['image'] = image\n"
        "own.main()\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(asking, "_MODULE", "ending")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asking.stop()
    try:
        assert "is damaged: its content ends the program that reads it" in refusal(ending)
        helper = asking._helper
        assert read_foreign(good).image.GetSize() == (20, 16, 4)
        assert asking._helper is helper
        words = refusal(good.rename(tmp_path / "eats.mha"))
        assert re.search(r"needs more than 256 MiB of memory\. An image of 0 MiB", words)
        monkeypatch.setattr(asking, "patience_for", lambda *_: 1.0)
        words = refusal((tmp_path / "eats.mha").rename(tmp_path / "hangs.mha"))
        assert "takes more than 1 s to read" in words
    finally:
        asking.stop()


@linux
def test_a_folder_of_many_files_gets_time_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of DICOM may hold tens of thousands of small files, some of them behind links."""
    (tmp_path / "own.py").write_text(
        "import resource\n"
        "from alunet.imaging import reader_process as own\n"
        "whole = own._READINGS['series']\n"
        "def series(asked):\n"
        "    whole(asked)\n"
        "    return resource.getrlimit(resource.RLIMIT_CPU)[0], []\n"
        "own._READINGS['series'] = series\n"
        "own.main()\n",
        encoding="utf-8",
    )
    for count in (10, 2000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / str(number)).write_bytes(b"no DICOM")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "all").symlink_to(tmp_path / "2000")
    monkeypatch.setattr(asking, "_MODULE", "own")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asking.stop()
    try:
        few, many, linked = (
            asking.ask("series", folder, MOST_BYTES, foreign._folder(folder))[0]
            for folder in (tmp_path / "10", tmp_path / "2000", tmp_path / "links")
        )
    finally:
        asking.stop()
    assert many == linked > few + 2000 * 0.015  # s; a slow computer takes 5 ms for a file
    folder = foreign._folder(tmp_path / "2000")
    assert (folder.files, folder.size, folder.largest) == (2001, 16000, 8)


@linux
def test_a_killed_server_is_started_again(tmp_path: Path) -> None:
    file = save(tmp_path / "a.mha")
    read_foreign(file)
    assert asking._helper is not None
    asking._helper.process.kill()
    asking._helper.process.wait()
    assert read_foreign(file).image.GetSize() == (20, 16, 4)


def test_without_a_fork_a_plain_helper_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows and macOS."""
    file, bad = save(tmp_path / "a.nii.gz"), save(tmp_path / "bad.mha")
    bad.write_bytes(bad.read_bytes()[:-20])
    wanted = sitk.GetArrayFromImage(read_foreign(file).image)
    monkeypatch.setattr(asking, "LINUX", False)
    monkeypatch.setattr(asking, "_MODULE", "plain")
    (tmp_path / "plain.py").write_text(
        "from alunet.imaging import reader_process, sandbox\n"
        "reader_process.LINUX = sandbox.LINUX = False\n"
        "reader_process.main()\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    asking.stop()
    try:
        for _ in range(2):
            assert np.array_equal(sitk.GetArrayFromImage(read_foreign(file).image), wanted)
            assert "cut off" in refusal(bad)
    finally:
        asking.stop()


def test_threads_read_one_after_the_other(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{n}.nrrd", (2, 8, 8 + n)) for n in range(6)]
    sizes: dict[int, tuple[int, ...]] = {}

    def read(number: int) -> None:
        sizes[number] = read_foreign(files[number]).image.GetSize()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == {number: (8 + number, 8, 2) for number in range(6)}


def test_relative_paths_are_read_and_named_as_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "sub" / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert read_foreign(Path("sub/a.nii.gz")).image.GetSize() == (20, 16, 4)
    (tmp_path / "sub/a.nii.gz").write_bytes(b"\x1f\x8b" + bytes(40))
    assert refusal(Path("sub/a.nii.gz")).startswith("sub/a.nii.gz ")


def test_no_secret_of_this_process_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALUNET_TOKEN", "secret")
    assert "ALUNET_TOKEN" not in asking._PASSED_ON


# --- what headers may say -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    folder = tmp_path_factory.mktemp("hostile")
    canary = hostile.make_canary(folder)
    return hostile.hostile_files(folder / "files", canary), canary


def test_no_hostile_file_brings_bytes_of_another_one(listed: tuple[list[Path], Path]) -> None:
    files, _ = listed
    read = []
    for file in files:
        try:
            voxels = sitk.GetArrayFromImage(read_foreign(file).image).tobytes()
        except InputError as error:
            assert "\n" not in str(error)
            assert hostile.SECRET.decode()[:12] not in str(error)
        else:
            read.append(file)
            assert hostile.SECRET[:12] not in voxels
    assert len(read) <= 1 and len(files) > 100  # one says LOCAL, and goes on behind its voxels


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nhdr", ".hdr", ".nii.gz"])
def test_headers_are_refused_before_a_decoder_sees_them(
    listed: tuple[list[Path], Path], ending: str
) -> None:
    """Where no system shuts the reader in, this check alone keeps a header from other files."""
    files, canary = listed
    named = [file for file in files if ending_of(file) == ending]
    told = 0
    for file in named:
        if str(canary.parent).encode() in file.read_bytes() and b"LOCAL\n" not in file.read_bytes():
            told += 1
            with pytest.raises(InputError):
                examine(file, ending, MOST_BYTES)
    assert named and (told or ending in (".hdr", ".nii.gz"))


def test_the_ending_decides_the_form_and_not_the_content(tmp_path: Path) -> None:
    for number, ending in enumerate((".nrrd", ".mha", ".nii", ".gipl", ".png", ".tif", ".bmp")):
        other = (".mha", ".nrrd")[ending == ".mha"]
        file = save(tmp_path / f"{number}{other}")
        assert "its content is no image of that form" in refusal(
            file.rename(tmp_path / f"{number}{ending}")
        )


def test_segmentations_with_long_headers_are_read(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((2, 4, 4), np.uint8))
    for number in range(400):
        image.SetMetaData(f"Segment{number}_Name", f"structure {number}")
        image.SetMetaData(f"Segment{number}_Tags", "x" * 300)
    sitk.WriteImage(image, str(tmp_path / "l.seg.nrrd"), True)
    assert (tmp_path / "l.seg.nrrd").stat().st_size > 1 << 17
    found = read_foreign(tmp_path / "l.seg.nrrd").image
    assert found.GetMetaData("Segment399_Name") == "structure 399"


def test_a_segment_whose_name_is_no_utf_8_is_no_defect(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((2, 4, 4), np.uint8))
    image.SetMetaData("Segment0_Name", "liver")
    sitk.WriteImage(image, str(tmp_path / "l.seg.nrrd"))
    content = (tmp_path / "l.seg.nrrd").read_bytes()
    (tmp_path / "l.seg.nrrd").write_bytes(content.replace(b"liver", b"li\xffer"))
    assert read_foreign(tmp_path / "l.seg.nrrd").image.GetMetaData("Segment0_Name") == "li?er"


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd", ".png", ".gipl.gz"])
def test_a_checksum_that_does_not_fit_is_noticed(tmp_path: Path, ending: str) -> None:
    if ending == ".png":
        file = tmp_path / "a.png"
        rows = bytearray(zlib.compress(bytes(17 * 16)))
        rows[-1] ^= 1
        file.write_bytes(hostile.png(16, 16, bytes(rows)))
    else:
        file = save(tmp_path / f"a{ending}")
        content = bytearray(file.read_bytes())
        place = len(content) - 8 if ending != ".mha" else len(content) - 2  # CRC; Adler
        content[place] ^= 0x10
        file.write_bytes(content)
    assert "damaged" in refusal(file)


def test_the_limit_of_voxels_is_a_part_of_reading(tmp_path: Path) -> None:
    file = save(tmp_path / "a.mha")
    with pytest.raises(TooLarge, match=r"more than 1000 bytes of voxels\. Crop or split it"):
        read_foreign(file, 1000)
    header = hostile.nifti((16384, 16384, 16384))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(TooLarge):
        read_foreign(tmp_path / "b.nii.gz", 8 << 30)


# --- what is kept ---------------------------------------------------------------------------------


def test_of_a_header_only_geometry_and_segments_survive(tmp_path: Path) -> None:
    for file in hostile.named_files(tmp_path / "named"):
        image = read_foreign(file).image
        assert image.GetMetaDataKeys() == ()


def test_the_parent_opens_no_foreign_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole import with labels, in which this process's own readers see project files alone."""
    from alunet.loop.setup import Setup, create

    image = save(tmp_path / "foreign" / "a.nii.gz", (4, 40, 48))
    label = sitk.GetImageFromArray(np.ones((4, 40, 48), np.uint8))
    label.CopyInformation(sitk.ReadImage(str(image)))
    sitk.WriteImage(label, str(tmp_path / "foreign" / "l.nii.gz"))
    opened: list[str] = []
    whole = sitk.ImageFileReader.SetFileName
    monkeypatch.setattr(
        sitk.ImageFileReader,
        "SetFileName",
        lambda self, name: (opened.append(name), whole(self, name))[1],
    )
    labels = {"background": 0, "a": 1}
    with create(
        tmp_path / "p", name="p", labels=labels, channels=["MRI"], setup=Setup()
    ) as project:
        project.cases.import_case("c", [image], tmp_path / "foreign" / "l.nii.gz")
        assert [case.images[0].name for case in project.cases.all()] == ["c_0000.mha"]
        read_image(project.cases.all()[0].images[0])
    assert opened and not [name for name in opened if "foreign" in name]


# --- the attack, short ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [12, pytest.param(500, marks=pytest.mark.slow, id="long")])
def test_the_attack_with_files(tmp_path: Path, count: int) -> None:
    assert_holds(attack_on_files.attack(count, 0, tmp_path))


def test_the_readings_are_logged_for_the_attack(tmp_path: Path, monkeypatch) -> None:
    if not sandbox.LINUX:
        pytest.skip("only the server of Linux knows what a reading took")
    monkeypatch.setenv(reader_process.LOG, str(tmp_path / "log"))
    asking.stop()
    read_foreign(save(tmp_path / "a.mha"))
    asking.stop()
    assert '"what": "image"' in (tmp_path / "log").read_text("utf-8")
    assert os.environ[reader_process.LOG] and fuzzing.SLOW == 20
