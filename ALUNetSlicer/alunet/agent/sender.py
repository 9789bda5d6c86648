"""Empties the outbox towards one engine, for as long as it takes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

from alunet.agent.client import Client
from alunet.agent.contract import WrongVersion
from alunet.agent.defects import log_defect
from alunet.agent.file_lock import AgentLock
from alunet.agent.http_transport import ServiceError, Unreachable, described, is_code
from alunet.agent.outbox import Entry, Outbox, OutboxError
from alunet.agent.proxies import Stranger
from alunet.schema import Code, Operations, SampleState, Status, to_json

LONGEST_PAUSE = 15.0
ENGINE_WAITS = (
    Code.UNAUTHORIZED,
    Code.TOO_MANY,
    Code.DISK_FULL,
    Code.READ_ONLY,
    Code.NO_DESCRIPTORS,
)
"""With these codes the engine refuses everything for now; all entries wait."""
PROJECT_WAITS = (Code.BUSY, Code.LOCKED, Code.DISK_ERROR, Code.DAMAGED, Code.UNUSABLE)
"""With these codes one project refuses everything for now; entries of others are sent."""
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
                settled = self._take_turn()
                self._tell()
            except OutboxError as error:
                settled = False
                self._wait_for(str(error), None, "")
            except Exception as error:  # noqa: BLE001  a defect must not stop the sending of annotations
                settled = False
                log_defect(error)
            pause = 0.2 if settled else min(pause * 2, LONGEST_PAUSE)
            self._wake.wait(None if settled and not self._watched else pause)
            self._wake.clear()

    def _take_turn(self) -> bool:
        """Send what waits, unless another agent does; whether nothing waits then."""
        lock = AgentLock(self._outbox.folder / f"sending-{_digest(self._engine)}")
        if not lock.take():
            return False
        try:
            return self._send_all()
        finally:
            lock.release()

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
        except Exception as error:  # noqa: BLE001  a defect holds up no other entry
            log_defect(error)
            if isinstance(error, MemoryError) or self._fails_again(entry):
                return self._wait_for(described(error)["message"], entry, "")
            self._outbox.settle(entry.key, "refused", described(error))
        else:
            self._outbox.settle(entry.key, "sent", answer)
        self._reasons.pop("", None)
        self._reasons.pop(entry.project, None)
        return None

    def _may_pass(self, error: ServiceError, entry: Entry) -> bool:
        """Whether the entry keeps its place at the head of the line."""
        if is_code(error, Code.FAILED):
            return self._fails_again(entry)
        return any(is_code(error, code) for code in ENGINE_WAITS)

    def _fails_again(self, entry: Entry) -> bool:
        """Count a failure of an entry; whether it is tried again."""
        self._defects = self._defects + 1 if self._defective == entry.key else 1
        self._defective = entry.key
        return self._defects < DEFECTS

    def _wait_for(self, reason: str, entry: Entry | None, who: str) -> str:
        """Report once why the entries of a project, or of the engine, wait."""
        if reason != self._reasons.get(who) and entry is not None:
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


def _digest(engine: str) -> str:
    return hashlib.sha256(engine.encode("utf-8", "surrogateescape")).hexdigest()[:16]
