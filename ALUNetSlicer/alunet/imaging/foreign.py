"""Foreign files, read in a process that can do nothing else.

Whatever comes from elsewhere (uploads, images and labels to add, DICOM, data sets) is read through
this module: no decoder looks at it in this process. One helper serves many files; each file has a
short-lived process of its own, which may read that file alone, no other, and has no network
(`alunet.imaging.sandbox`). A file that ends its process is damaged, and hurts nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging import reading, wire
from alunet.imaging.dicom.labels import DicomLabels
from alunet.imaging.dicom.series import DicomFolder, SeriesIdentity
from alunet.imaging.grids import Grid
from alunet.imaging.limits import (
    MIB,
    MOST_BYTES,
    TooLarge,
    in_mib,
    memory_for,
    patience_for,
    seconds_for,
)
from alunet.imaging.sandbox import LINUX
from alunet.imaging.stderr import scratch_file

Array = npt.NDArray[Any]
_MODULE = "alunet.imaging.reader_process"
_MOST_WORDS = 256 * MIB  # bytes of an answer beside its voxels
_KINDS = "iuf"  # of numbers that voxels may be
_PASSED_ON = (
    *("PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH"),
    *("VIRTUAL_ENV", "ALUNET_READINGS", "ALUNET_TEST_RUN"),
)


@dataclass(frozen=True)
class ForeignImage:
    """An image that was read.

    Attributes:
        image: voxels and geometry; of the header only what names the segments of a label file.
        series: the UIDs of the DICOM series that it is, if it is one.
    """

    image: sitk.Image
    series: SeriesIdentity | None


def read_foreign(path: Path, limit: int = MOST_BYTES) -> ForeignImage:
    """Read an image file, voxels included; a DICOM file stands for its series.

    Args:
        limit: bytes of voxels that it may have.

    Raises:
        TooLarge: it has more.
        InputError: the file is missing, empty, of an unknown form, damaged, or cut off; or reading
            it takes more memory or time than an image of its size may.
    """
    reading.check_file(path)
    value, arrays = _ask("image", path, limit, _readable(path))
    image = sitk.GetImageFromArray(arrays[0], isVector=int(value["components"]) > 1)
    grid = wire.grid_from(value["grid"])
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    for key, entry in value["entries"].items():
        image.SetMetaData(str(key), str(entry))
    return ForeignImage(image, wire.identity_from(value["series"]))


def read_foreign_grid(path: Path) -> Grid:
    """Return the grid of a 3D image file, from its header alone.

    Raises:
        InputError: the header cannot be read.
    """
    reading.check_file(path)
    value, _ = _ask("grid", path, MOST_BYTES, _readable(path))
    return wire.grid_from(value)


def list_series(path: Path, looked: Callable[[int], None] | None = None) -> DicomFolder:
    """List the DICOM series in a folder of any depth, or in one file.

    Args, Raises: see `alunet.imaging.dicom.series.find_series`.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.", "Check the path.")
    places, size = _places(path)
    value, _ = _ask("series", path, MOST_BYTES, places, {"size": size}, looked)
    return wire.folder_from(path, value)


def read_foreign_labels(path: Path, grid: Grid) -> DicomLabels:
    """Read a SEG or RTSTRUCT object on the grid of the image that it belongs to.

    Returns:
        Names, values and layers of its segments, and notes; no UID and no code comes along.

    Raises:
        InputError: it is neither, damaged, or does not fit the grid.
    """
    value, arrays = _ask("labels", path, MOST_BYTES, [path], {"grid": wire.grid_data(grid)})
    return wire.labels_from(value, tuple(arrays))


def _readable(path: Path) -> list[Path]:
    """Return the files that reading one may open: itself, the other one of a pair, or a series."""
    ending = reading.ending_of(path)
    if not ending:
        return _places(path.parent)[0]
    if ending not in reading.PAIRS:
        return [path]
    name, _ = _ask("sibling", path, MOST_BYTES, [path, *_halves(path)])
    return [path] if name is None else [path, path.with_name(Path(str(name)).name)]


def _halves(path: Path) -> list[Path]:
    """Return the other half of a NIfTI or Analyze pair, whose name follows from the first."""
    stem = path.name[: len(path.name) - len(reading.ending_of(path))]
    halves = [path.with_name(stem + ending) for ending in (".hdr", ".img", ".img.gz")]
    return [half for half in halves if half != path and half.is_file() and not half.is_symlink()]


def _places(path: Path) -> tuple[list[Path], int]:
    """Return the folder with all that links in it lead to, and the bytes of its largest file."""
    if path.is_file():
        return [path], path.stat().st_size
    found, largest, seen = [path], 0, {path.resolve()}
    for parent, folders, names in os.walk(path, followlinks=True):
        folders[:] = [name for name in folders if Path(parent, name).resolve() not in seen]
        seen.update(Path(parent, name).resolve() for name in folders)
        for name in (*folders, *names):
            file = Path(parent, name)
            with contextlib.suppress(OSError):
                largest = max(largest, file.stat().st_size)
                found += [file] if file.is_symlink() else []
    return found, largest


# --- asking ---------------------------------------------------------------------------------------


def _ask(
    what: str,
    path: Path,
    limit: int,
    allowed: Sequence[Path],
    about: dict[str, Any] | None = None,
    hear: Callable[[int], None] | None = None,
) -> tuple[Any, list[Array]]:
    """Ask the helper, and return what it answers; it is started where it does not run."""
    request = {
        "what": what,
        "path": str(path),
        "limit": limit,
        "about": about or {},
        "allowed": [str(place.absolute()) for place in allowed],
        "folder": str(Path.cwd()),
        "dicom": not reading.ending_of(path),
    }
    size = sum(place.stat().st_size for place in allowed if place.is_file())
    with _one_at_a_time:
        helper = _running()
        try:
            return helper.ask(request, patience_for(max(size, MIB)), hear or (lambda done: None))
        except _Ended as ended:
            raise _in_words(path, ended, size) from None
        except InputError:
            raise
        except BaseException:
            helper.end()  # what it still says would be taken for the next answer
            raise


_one_at_a_time = threading.RLock()
_helper: _Helper | None = None


def _running() -> _Helper:
    """Return the helper of this process; a forked process starts its own."""
    global _helper
    if _helper is None or _helper.owner != os.getpid() or not _helper.alive:
        _helper = _ForkServer() if LINUX else _PlainHelper()
    return _helper


def stop() -> None:
    """End the helper of this process; the next question starts another one."""
    with _one_at_a_time:
        if _helper is not None and _helper.owner == os.getpid():
            _helper.end()


atexit.register(stop)


class _Ended(Exception):
    """The process of a file ended without an answer.

    Attributes:
        signal: that ended it, 0 for none.
        late: whether it was ended because it took too long.
    """

    def __init__(self, number: int = 0, *, late: bool = False) -> None:
        super().__init__(number)
        self.signal, self.late = number, late


def _in_words(path: Path, ended: _Ended, size: int) -> InputError:
    if ended.late or ended.signal == getattr(signal, "SIGXCPU", -1):
        most = patience_for(size) if ended.late else seconds_for(size)
        return InputError(
            f"{path} takes more than {most:.0f} s to read, the most for {in_mib(size)}.",
            "Convert the file again.",
        )
    if ended.signal == getattr(signal, "SIGKILL", -1):
        return InputError(
            f"{path} needs more memory than is free.", "Close other programs, or crop it."
        )
    return InputError(
        f"{path} is damaged: its content ends the program that reads it.", "Copy the file again."
    )


@dataclass
class _Helper:
    """A process that reads foreign files, and how it is asked."""

    process: subprocess.Popen[bytes]
    owner: int = field(default_factory=os.getpid)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """End it, and whatever it is doing."""
        self.process.kill()
        self.process.wait()

    def ask(
        self, request: dict[str, Any], patience: float, hear: Callable[[int], None]
    ) -> tuple[Any, list[Array]]:
        """Return the answer.

        Raises:
            _Ended: there is none.
            InputError: the file cannot be used.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.end()

        timer = threading.Timer(patience, give_up)
        timer.daemon = True
        timer.start()
        try:
            return self._answer(request, hear)
        except _Ended as ended:
            raise _Ended(ended.signal, late=late.is_set()) from None
        finally:
            timer.cancel()

    def _answer(
        self, request: dict[str, Any], hear: Callable[[int], None]
    ) -> tuple[Any, list[Array]]:
        raise NotImplementedError


class _ForkServer(_Helper):
    """On Linux: each answer comes through a pipe of its own."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            super().__init__(
                _start([str(theirs.fileno())], pass_fds=(theirs.fileno(),), start_new_session=True)
            )
        self._words = self._control.makefile("rb")

    def end(self) -> None:
        super().end()
        self._words.close()
        self._control.close()

    def _answer(
        self, request: dict[str, Any], hear: Callable[[int], None]
    ) -> tuple[Any, list[Array]]:
        ours, theirs = os.pipe()
        with os.fdopen(ours, "rb") as stream:
            try:
                _widen(ours)
                content = json.dumps(request).encode()
                socket.send_fds(self._control, [wire.LENGTH.pack(len(content))], [theirs])
                self._control.sendall(content)
            except OSError:
                raise _Ended from None
            finally:
                os.close(theirs)
            answer: Any = None
            problem: Exception | None = None
            try:
                answer = _answer_in(stream, request, hear)
            except (EOFError, InputError) as error:
                problem = error
            stream.close()
        status = self._status()
        if isinstance(problem, InputError):
            raise problem
        if problem is not None or status:
            raise _Ended(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
        return answer

    def _status(self) -> int:
        """Return how the process of the file ended."""
        try:
            line = self._words.readline()
        except (OSError, ValueError):
            line = b""
        if not line:
            raise _Ended
        return int(json.loads(line)["status"])


class _PlainHelper(_Helper):
    """Elsewhere: one process reads one file after the other; a file that ends it ends it alone."""

    def __init__(self) -> None:
        super().__init__(_start([], stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def _answer(
        self, request: dict[str, Any], hear: Callable[[int], None]
    ) -> tuple[Any, list[Array]]:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise _Ended
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            return _answer_in(stdout, request, hear)
        except (OSError, EOFError, ValueError):
            self.end()
            raise _Ended from None


def _start(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start the helper without this process's secrets, where only the engine is imported from."""
    source = Path(__file__).resolve().parents[2]
    environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    search = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH", ""))))
    environment |= {
        "PYTHONPATH": search,
        "PYTHONSAFEPATH": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with scratch_file() as said:
        return subprocess.Popen(
            [sys.executable, "-m", _MODULE, *words],
            **{"stdin": subprocess.DEVNULL, "stdout": said, **options},
            stderr=said,
            cwd=source,
            env=environment,
        )


def _widen(descriptor: int) -> None:
    """Let a pipe hold more, so that voxels come through faster."""
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, MIB)


def _answer_in(
    stream: IO[bytes], request: dict[str, Any], hear: Callable[[int], None]
) -> tuple[Any, list[Array]]:
    """Return the answer in a stream.

    Raises:
        EOFError: there is none, or it makes no sense: a file may have taken the reader over.
        InputError: the file cannot be used.
    """
    for message in _messages(stream):
        kind = message["kind"]
        if kind == "progress":
            hear(int(message["done"]))
        elif kind == "too large":
            raise TooLarge(int(request["limit"]))
        elif kind == "error":
            raise InputError(str(message["message"]), str(message["hint"]))
        else:
            most = memory_for(int(request["limit"]))
            arrays = [_array(stream, *about, most) for about in message["arrays"]]
            return message["value"], arrays
    raise EOFError


def _messages(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    while head := stream.read(wire.LENGTH.size):
        length = wire.LENGTH.unpack(head)[0] if len(head) == wire.LENGTH.size else _MOST_WORDS + 1
        if length > _MOST_WORDS:
            raise EOFError
        try:
            message = json.loads(stream.read(length))
        except ValueError:
            raise EOFError from None
        if not isinstance(message, dict) or "kind" not in message:
            raise EOFError
        yield message


def _array(stream: IO[bytes], kind: str, shape: Sequence[int], most: int) -> Array:
    dtype = np.dtype(kind)
    size = dtype.itemsize * math.prod(shape)
    if dtype.kind not in _KINDS or not 0 < size <= most:
        raise EOFError
    array = np.empty(tuple(shape), dtype)
    place = memoryview(array.reshape(-1).view(np.uint8))
    done = 0
    while done < size:
        part = stream.readinto(place[done:])  # type: ignore[attr-defined]
        if not part:
            raise EOFError
        done += part
    return array
