"""One agent's state: the outbox, the connection to one engine, the projects that are followed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alunet.agent.client import Client
from alunet.agent.connection import Connection
from alunet.agent.connections import Access, link_to
from alunet.agent.connections.target import Target
from alunet.agent.contract import WrongVersion
from alunet.agent.defects import log_defect
from alunet.agent.http_transport import ServiceError, Unreachable, described
from alunet.agent.outbox import Entry, Outbox
from alunet.agent.proxies import Stranger
from alunet.agent.sender import Sender
from alunet.agent.spool import Spool
from alunet.errors import AlunetError, InputError
from alunet.schema import Code, Health, Operations, to_json
from alunet.schema.private import private_folder

Push = Callable[[dict[str, Any]], None]


def default_home() -> Path:
    """Where an agent keeps its outbox and its spool folder, by the system's custom."""
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
            / "ALUNet"
            / "agent"
        )
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "ALUNet" / "agent"
    return (
        Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        / "alunet"
        / "agent"
    )


class ViewerSession:
    """What the calls of one viewer work on.

    Args:
        home: folder of the outbox and the spool folder, made where missing; only its owner may read
            it.
        push: gets events for the viewer.
    """

    def __init__(self, home: Path, push: Push) -> None:
        for folder in (home, home / "outbox"):
            private_folder(folder)
        self.push = push
        self.outbox = Outbox(home / "outbox")
        self.spool = Spool(home / "spool")
        self._choosing = threading.RLock()
        self._line: _Line | None = None

    def choose(self, target: Target, access: Access) -> None:
        """Belong to this engine from now on; it is reached, again and again, in the background."""
        link = link_to(target, access)
        with self._choosing:
            # a line pushes events at once, and what they lead to must find it, whole
            self.disconnect()
            self._line = _Line(self.outbox, target, self.push)
            self._line.open(link)

    def connect(self, target: Target, access: Access, seconds: float) -> Health:
        """Belong to this engine from now on, and wait for it, at most so long; raises why it
        cannot be reached.
        """
        self.choose(target, access)
        return self.line.connection.require(seconds).call(Operations.health)

    def disconnect(self) -> None:
        """Belong to no engine; what waits in the outbox stays there."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    @property
    def line(self) -> _Line:
        """The way to the engine; raises InputError before the first `connect`."""
        with self._choosing:
            if self._line is None:
                raise InputError("No engine was chosen yet.", "Connect first.")
            return self._line

    @property
    def client(self) -> Client:
        """The client of the moment; raises why there is none."""
        return self.line.connection.require()

    def close(self) -> None:
        """The viewer is gone; what waits in the outbox is for the next agent."""
        self.disconnect()
        self.outbox.close()
        self.spool.close()


class _Line:
    """All that belongs to one engine: the connection, the sender, and who follows what."""

    def __init__(self, outbox: Outbox, target: Target, push: Push) -> None:
        self.engine = target.name
        self._push = push
        self._followed: dict[str, threading.Event] = {}
        self.sender = Sender(outbox, target.name, self._client, self._sent)
        self.connection: Connection

    def open(self, link: Any) -> None:
        """Begin to connect, and to send."""
        self.connection = Connection(link, self._changed)
        self.sender.start()

    def close(self) -> None:
        """End everything that runs."""
        for stop in self._followed.values():
            stop.set()
        self.sender.stop()
        self.connection.close()

    def follow(self, project: str, after: int) -> None:
        """Push the events of a project with numbers above `after`, from now on."""
        self.unfollow(project)
        stop = self._followed[project] = threading.Event()
        threading.Thread(
            target=self._follow, args=(project, after, stop), name="follow", daemon=True
        ).start()

    def unfollow(self, project: str) -> None:
        """Push no more events of this project."""
        if project in self._followed:
            self._followed.pop(project).set()

    def _client(self) -> Client | None:
        return self.connection.client

    def _changed(self, state: str, news: Health | AlunetError) -> None:
        about = (
            {"error": described(news)}
            if isinstance(news, AlunetError)
            else {"health": to_json(news)}
        )
        self._push({"event": "connection", "engine": self.engine, "state": state, **about})
        if state == "online":
            self.sender.wake()

    def _sent(self, state: str, entry: Entry, answer: dict[str, Any]) -> None:
        if state == "waiting":
            self.connection.doubt()
        self._push({"event": "outbox", **about(entry), "state": state, "answer": answer})

    def _follow(self, project: str, after: int, stop: threading.Event) -> None:
        pause = 0.2
        while not stop.wait(pause):
            client = self._client()
            pause = min(pause * 2, 5.0)
            if client is None:
                continue
            try:
                for event in client.follow(project, after):
                    pause = 0.2
                    if stop.is_set():
                        return
                    if event is not None:
                        after = event.number
                        self._push({"event": "project", "project": project, **to_json(event)})
            except (Unreachable, Stranger, WrongVersion):
                self.connection.doubt()
            except ServiceError as error:
                if error.code == Code.NOT_FOUND.value:
                    self._push(
                        {"event": "unfollowed", "project": project, "error": described(error)}
                    )
                    return
            except Exception as error:  # noqa: BLE001  a defect must not end the news
                log_defect(error)


def about(entry: Entry) -> dict[str, Any]:
    """An entry of the outbox, without its voxels."""
    return {
        "key": entry.key,
        "project": entry.project,
        "sample": entry.sample,
        "state": entry.state,
        "status": entry.content.get("status"),
        "annotation": entry.is_annotation,
        "time": entry.time,
        "answer": entry.answer,
    }
