"""Empties the outbox towards one engine, for as long as it takes."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from alunet.agent.client import Client
from alunet.agent.contract import WrongVersion
from alunet.agent.http_transport import ServiceError, Unreachable, described, is_code
from alunet.agent.outbox import Entry, Outbox, OutboxError
from alunet.agent.proxies import Stranger
from alunet.schema import Code, Operations, SampleState, Status, to_json

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LONGEST_PAUSE = 15.0
ENGINE_WAITS = (
    Code.UNAUTHORIZED,
    Code.TOO_MANY,
    Code.DISK_FULL,
    Code.READ_ONLY,
    Code.NO_DESCRIPTORS,
)
"""With these the engine takes nothing until a person, or the time, has changed something."""
PROJECT_WAITS = (Code.BUSY, Code.LOCKED, Code.DISK_ERROR, Code.DAMAGED, Code.UNUSABLE)
"""With these it is the same for one project; the entries of others go on."""
DEFECTS = 5
"""So often an entry is tried that the service fails on; it then steps aside for those behind it."""


class Sender:
    """A thread that sends what waits in the outbox, in order, until it is told to stop.

    Two agents on one outbox take turns by a lock of the operating system, so that the order stays.

    Args:
        outbox: shared with whoever puts entries in.
        engine: name of the engine, see `outbox.Entry`.
        client: gives the client of the moment, or None while there is no connection.
        report: gets ``sent``, ``conflict`` or ``refused`` with an entry, once each; and ``waiting``
            with the reason.
    """

    def __init__(
        self,
        outbox: Outbox,
        engine: str,
        client: Callable[[], Client | None],
        report: Callable[[str, Entry, dict[str, Any]], None],
    ) -> None:
        self._outbox, self._engine, self._client, self._report = outbox, engine, client, report
        self._wake, self._stop = threading.Event(), threading.Event()
        self._watched = {entry.key for entry in outbox.entries(engine, ("waiting",))}
        self._reasons: dict[str, str] = {}  # told last, of a project, or "" of the engine
        self._defective, self._defects = "", 0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, entry: Entry) -> Entry:
        """Store an entry, on disk when this returns, and send it as soon as possible."""
        stored = self._outbox.put(entry)
        self._watched.add(stored.key)
        self.wake()
        return stored

    def retry(self, key: str) -> None:
        """Send a refused entry again, at its old place."""
        self._outbox.retry(key)
        self._watched.add(key)
        self.wake()

    def wake(self) -> None:
        """Try now: there is something new, or the connection is back."""
        self._wake.set()

    def stop(self) -> None:
        """Send nothing more; an attempt on its way may still arrive, and is then repeated by the
        next agent.
        """
        self._stop.set()
        self._wake.set()

    def _run(self) -> None:
        pause = 0.2
        while not self._stop.is_set():
            try:
                with _turn(self._outbox.folder, self._engine) as mine:
                    settled = mine and self._send_all()
                self._tell()
            except OutboxError as error:
                settled = False
                self._reasons[""] = str(error)
            pause = 0.2 if settled else min(pause * 2, LONGEST_PAUSE)
            self._wake.wait(None if settled and not self._watched else pause)
            self._wake.clear()

    def _send_all(self) -> bool:
        """Send until nothing waits; False where the rest must wait for better times."""
        held: set[str] = set()  # projects that take nothing for now
        while not self._stop.is_set():
            entry = self._outbox.next_waiting(self._engine, held)
            if entry is None:
                return not held
            client = self._client()
            waits = None if client is None else self._send(client, entry)
            if client is None or waits == "":
                return False
            if waits is not None:
                held.add(waits)
            self._tell()
        return False

    def _send(self, client: Client, entry: Entry) -> str | None:
        """One attempt; None where there is a definite answer, else the project that has to wait, or
        "" where the engine has.
        """
        try:
            answer = to_json(_send(client, entry))
        except (Unreachable, Stranger, WrongVersion) as error:
            return self._wait_for(str(error), entry, "")
        except ServiceError as error:
            if any(is_code(error, code) for code in PROJECT_WAITS):
                return self._wait_for(str(error), entry, entry.project)
            if self._may_pass(error, entry):
                return self._wait_for(str(error), entry, "")
            state = "conflict" if is_code(error, Code.STALE_ANNOTATION) else "refused"
            self._outbox.settle(entry.key, state, described(error))
        else:
            self._outbox.settle(entry.key, "sent", answer)
        self._reasons.pop("", None)
        self._reasons.pop(entry.project, None)
        return None

    def _may_pass(self, error: ServiceError, entry: Entry) -> bool:
        """Whether the entry keeps its place at the head of the line."""
        if is_code(error, Code.FAILED):
            self._defects = self._defects + 1 if self._defective == entry.key else 1
            self._defective = entry.key
            return self._defects < DEFECTS
        return any(is_code(error, code) for code in ENGINE_WAITS)

    def _wait_for(self, reason: str, entry: Entry, who: str) -> str:
        """Tell once why the entries of a project, or of the engine, wait."""
        if reason != self._reasons.get(who):
            self._report("waiting", entry, {"message": reason})
        self._reasons[who] = reason
        return who

    def _tell(self) -> None:
        """Report what has a definite answer by now, also where another agent sent it."""
        for key in sorted(self._watched):
            entry = self._outbox.get(key)
            if entry is None or entry.state != "waiting":
                self._watched.discard(key)
                if entry is not None:
                    self._report(entry.state, entry, entry.answer or {})


def _send(client: Client, entry: Entry) -> SampleState:
    if entry.is_annotation:
        return client.put_annotation(
            entry.project, entry.sample, entry.content, entry.body or b"", entry.key
        )
    status, author = Status(entry.content["status"]), entry.content["author"]
    given = {"project": entry.project, "sample": entry.sample, "status": status, "author": author}
    return client.call(Operations.set_status, entry.key, **given)


class _turn(contextlib.AbstractContextManager[bool]):
    """A lock file for one engine; gives whether it is ours now. It ends with the process,
    however that ends.
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self._path = folder / f"sending-{hashlib.sha256(engine.encode('utf-8')).hexdigest()[:16]}"
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> bool:
        try:
            self._stream = self._path.open("a+b")
            if sys.platform == "win32":
                self._stream.seek(0)
                msvcrt.locking(self._stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(self, *exception: object) -> None:
        if self._stream is not None:
            self._stream.close()
