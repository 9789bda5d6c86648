"""The agent's main loop: JSON lines on standard input and output.

A request is ``{"id": 7, "call": "worklist", "args": {"project": "liver"}}``; its answer ``{"id": 7,
"result": …}`` or ``{"id": 7, "error": {"code": …, "message": …, "hint": …}}``, in the order they
are ready. Events come between them:

==============  ====================================================================================
event           with
==============  ====================================================================================
``connection``  ``engine``, ``state`` ("online" with ``health``, "offline" with ``error``)
``outbox``      ``key``, ``sample``, ``state`` (see `outbox`; "waiting" with the reason), ``answer``
``project``     ``project``, and the `schema.NumberedEvent`, of projects that are followed
``unfollowed``  ``project``, ``error``
``progress``    ``id`` of a transfer, ``phase``, ``done``, ``total`` (bytes; of an import's phases,
                files or cases), ``seconds_left`` (null where that is not known), ``waiting`` (what
                it waits for, in words)
==============  ====================================================================================

``{"id": 8, "call": "cancel", "args": {"id": 7}}`` stops a transfer. The agent ends when its
standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from alunet.agent.call_table import RunningCall, arguments
from alunet.agent.calls import CALLS
from alunet.agent.defects import log_defect
from alunet.agent.http_transport import described
from alunet.agent.session import ViewerSession
from alunet.agent.thread_pools import ThreadPools
from alunet.errors import AlunetError, InputError

LONGEST_LINE = 2**20
LAST_SECONDS = 5.0


class Agent:
    """One agent, for one viewer.

    Args:
        home: see `ViewerSession`.
        requests, answers: binary streams of JSON lines.
    """

    def __init__(self, home: Path, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._writing = threading.Lock()
        self._tasks: dict[Any, RunningCall] = {}
        self._lanes = ThreadPools()
        self._session = ViewerSession(home, self.say)

    def run(self) -> None:
        """Serve until the requests end; what was asked of the outbox before is done."""
        while line := self._requests.readline(LONGEST_LINE):
            if line.strip():
                self._take(line)
        self._lanes.drain("local", LAST_SECONDS)
        self._session.close()

    def say(self, content: dict[str, Any]) -> None:
        """One line to the viewer; where it is gone, so are we."""
        self._write(_line(content))

    def _write(self, line: bytes) -> None:
        try:
            with self._writing:
                self._answers.write(line)
                self._answers.flush()
        except (OSError, ValueError):
            os._exit(0)

    def _take(self, line: bytes) -> None:
        number: Any = None
        try:
            request = _read(line)
            number, name = _number(request), request.get("call")
            if not isinstance(name, str):
                hint = 'Write it like {"id": 1, "call": "health", "args": {}}.'
                raise InputError("A request names no call.", hint)
            if name == "cancel":
                self._cancel(number, request.get("args") or {})
                return
            given = arguments(name, request.get("args") or {})
        except AlunetError as error:
            self.say({"id": number, "error": described(error)})
            return
        except Exception as error:  # noqa: BLE001  one request that fails must not end the agent
            log_defect(error)
            self.say({"id": number, "error": described(error)})
            return
        task = RunningCall(number, self.say)
        self._tasks[_key(number)] = task
        self._lanes.add(CALLS[name].lane, partial(self._do, task, name, given))

    def _do(self, task: RunningCall, name: str, given: dict[str, Any]) -> None:
        try:
            task.cancel.check()
            result = CALLS[name].function(self._session, task, **given)
            line = _line({"id": task.id, "result": result})
        except BaseException as error:  # noqa: BLE001  whatever it was, the viewer waits for an answer
            if not isinstance(error, AlunetError):
                log_defect(error)
            line = _line({"id": task.id, "error": described(error)})
        self._tasks.pop(_key(task.id), None)
        self._write(line)

    def _cancel(self, number: Any, given: dict[str, Any]) -> None:
        task = self._tasks.get(_key(given.get("id")))
        if task is not None:
            task.cancel.event.set()
        self.say({"id": number, "result": task is not None})


def run(home: Path) -> None:
    """Be the agent of the process that started this one."""
    os.umask(0o077)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print of a library must not look like an answer
    try:
        agent = Agent(home, requests, answers)
    except AlunetError as error:
        answers.write(
            json.dumps({"event": "failed", "error": described(error)}).encode("utf-8") + b"\n"
        )
        answers.flush()
        os._exit(error.exit_code)
    try:
        agent.run()
    except KeyboardInterrupt:
        pass
    finally:
        os._exit(0)  # threads may hang in a network call; nothing that matters depends on them


def _read(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n") and len(line) >= LONGEST_LINE:
        raise InputError("A request is too long.", "Hand large things over as files.")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "A request is no line of JSON.", "This is a defect of the viewer."
        ) from error
    if not isinstance(request, dict):
        raise InputError("A request is no JSON object.", "This is a defect of the viewer.")
    return request


def _line(content: dict[str, Any]) -> bytes:
    """JSON in ASCII: a name that is not UTF-8 comes through as it is."""
    return json.dumps(content).encode("ascii") + b"\n"


def _number(request: dict[str, Any]) -> Any:
    number = request.get("id")
    if number is not None and not isinstance(number, int | float | str):
        raise InputError("The id of a request is no number.", "This is a defect of the viewer.")
    return number


def _key(number: Any) -> str:
    return json.dumps(number)
