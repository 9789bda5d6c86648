"""Start the process that reads foreign files, send it requests, limit their time, and end it."""

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

from alunet.errors import InputError
from alunet.imaging import wire
from alunet.imaging.limits import (
    MIB,
    TooLarge,
    in_mib,
    memory_for,
    patience_for,
    seconds_for,
)
from alunet.imaging.reading import ending_of
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
class Allowed:
    """What a reading may open, and how much that is.

    Attributes:
        places: files, and folders with all that is below them.
        files: how many these are.
        size: bytes of all of them.
        largest: bytes of the largest.
    """

    places: Sequence[Path]
    files: int
    size: int
    largest: int


def allowed_files(*files: Path) -> Allowed:
    """Return what a reading may open, for files alone."""
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return Allowed(files, len(files), sum(sizes), max(sizes, default=0))


def ask(
    what: str,
    path: Path,
    limit: int,
    allowed: Allowed,
    about: dict[str, Any] | None = None,
    hear: Callable[[int], None] | None = None,
) -> tuple[Any, list[Array]]:
    """Ask the helper, and return what it answers; it is started where it does not run."""
    request = {
        "what": what,
        "path": str(path),
        "limit": limit,
        "about": about or {},
        "allowed": [str(place.absolute()) for place in allowed.places],
        "files": allowed.files,
        "largest": allowed.largest,
        "folder": str(Path.cwd()),
        "dicom": not ending_of(path),
    }
    patience = patience_for(max(allowed.size, MIB), allowed.files)
    with _one_at_a_time:
        helper = _running()
        try:
            return helper.ask(request, patience, hear or (lambda done: None))
        except _Ended as ended:
            raise _in_words(path, ended, allowed) from None
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


def _in_words(path: Path, ended: _Ended, allowed: Allowed) -> InputError:
    if ended.late or ended.signal == getattr(signal, "SIGXCPU", -1):
        seconds = patience_for if ended.late else seconds_for
        most = seconds(allowed.size, allowed.files)
        return InputError(
            f"{path} takes more than {most:.0f} s to read, the most for {in_mib(allowed.size)}.",
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
        """End the process, also in the middle of a file."""
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
            answer: tuple[Any, list[Array]] = (None, [])
            problem: Exception | None = None
            try:
                answer = _answer_in(stream, request, hear)
            except (EOFError, InputError, ValueError, LookupError, TypeError) as error:
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
    """On other systems: one process reads one file after the other; a file can end it alone."""

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
        except (OSError, EOFError, ValueError, LookupError, TypeError):
            self.end()
            raise _Ended from None


def _start(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start the helper without this process's variables; it imports modules of the engine alone."""
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
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows alone has it
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
            arrays = [_array(stream, str(kind), shape, most) for kind, shape in message["arrays"]]
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
    place = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < size:
        part = stream.readinto(place[done:])  # type: ignore[attr-defined]
        if not part:
            raise EOFError
        done += part
    return array
