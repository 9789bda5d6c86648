"""The one process that Slicer talks to: requests and answers as JSON lines, events between them.

What is asked is never lost with the process: an agent that died is started again, connected again,
and asked again. All its calls may come twice: those that change something carry a key. Nothing is
asked before the agent has answered a greeting that names this side's version of the contract: it
may come from another installation of ALUNet.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from alunet.schema import API, from_json
from ALUNetSlicerLib.engine.failure import Done, Failed, Failure
from ALUNetSlicerLib.engine.messages import ProjectNews, misfit, read_answer, read_event
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Process, Timer
from ALUNetSlicerLib.ports.signal import Signal

_KEYED = ("submit", "set_status", "start", "erase_case", "take_back")
_RETRY_SECONDS = (0.0, 1.0, 3.0)
"""How long to wait before the agent is started again, by the number of deaths in a row."""
TRIES = len(_RETRY_SECONDS) + 1
"""So often the agent is started before it is given up."""
_CALM_SECONDS = 60.0
"""An agent that lived so long did not die of what was asked."""
_MOST_WORDS = 200
_GREETING = 0
"""Number of the first request to each process."""
NO_AGENT = "agent"
"""Code of a `Failure`: the agent does not start, and nobody tries again by themselves."""
WRONG_VERSION = "wrong_version"
"""Code of a `Failure`: agent, engine or this side has another version of the contract."""


@dataclass(frozen=True)
class _Request:
    call: str
    args: dict[str, Any]
    done: Done
    failed: Failed

    @property
    def about(self) -> str:
        """What is tried: the call, and of a job its kind."""
        return about_job(self.args["kind"]) if self.call == "start" else self.call

    def line(self, number: int) -> bytes:
        content = {"id": number, "call": self.call, "args": self.args}
        return json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def about_job(kind: str) -> str:
    """What is tried where a job of that kind is started; see `Failure.about`."""
    return f"start {getattr(kind, 'value', kind)}"


def last_words(text: str) -> str:
    """The line of a program's last words that says why it ended: the last, of a traceback, too."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_MOST_WORDS] if lines else _("it gave no reason")


def _nothing(_answer: Any) -> None:
    """An answer that nobody waits for."""


class AgentProcess:
    """An agent process, asked from the main thread; every answer comes there too, later.

    Args:
        process: of the agent.
        timer: of the main thread.

    Attributes:
        event: emits each event of the agent that is read here, as one of the types of `messages`.
        answered: emits what was tried with success, see `Failure.about`.
        failed: emits a `Failure` where an event cannot be understood.
        state: emits "running" and "ended" with the last words of the process; it is started again
            after that.
    """

    def __init__(self, process: Process, timer: Timer) -> None:
        self._process, self._timer = process, timer
        self.event, self.failed, self.state = Signal(), Signal(), Signal()
        self.answered = Signal()
        self._waiting: dict[int, _Request] = {}
        self._engine: dict[str, Any] | None = None
        self._follows: dict[str, int] = {}
        self._number, self._deaths, self._born = 0, 0, 0.0
        self._rest, self._lines = b"", deque[bytes]()
        self._running, self._closed, self._greeted = False, True, False
        self._refused: Failure | None = None
        self._call_off: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start the process, where none runs that understands this side."""
        self._closed = False
        if self._refused is not None:
            self._process.close()
            self._running, self._refused = False, None
        if not self._running:
            self._rest, self._running, self._born = b"", True, self._timer.now()
            self._greeted = False
            self._process.start(self._hear, self._end)
            if self._running:
                self.state.emit("running", "")
                greeting = _Request("hello", {"api": API}, _nothing, _nothing)
                self._process.write(greeting.line(_GREETING))

    def close(self) -> None:
        """Let the process end; what is in its outbox is sent by the next one. Nothing more is
        answered.
        """
        self._call_off()
        self._closed, self._running, self._greeted = True, False, False
        self._waiting.clear()
        self._lines.clear()
        self._process.close()

    def ask(self, call: str, done: Done = _nothing, failed: Failed = _nothing, **args: Any) -> int:
        """Ask something; either `done` or `failed` is called once, later.

        `done` gets what `messages.ANSWERS` names; an answer that is of another type is a failure.

        Returns:
            Number of the request, for `cancel`.
        """
        if call in _KEYED and not args.get("key"):
            args["key"] = str(uuid.uuid4())
        self._remember(call, args)
        self._number += 1
        request = _Request(call, args, done, failed)
        if self._refused is not None:
            self._timer.later(0.0, lambda why=self._refused: failed(why))
            return self._number
        self._waiting[self._number] = request
        if self._greeted:
            self._process.write(request.line(self._number))
        return self._number

    def cancel(self, number: int) -> None:
        """Stop a transfer."""
        if number in self._waiting:
            self.ask("cancel", id=number)

    def _remember(self, call: str, args: dict[str, Any]) -> None:
        """What the next process must be told first, should this one die."""
        if call == "choose":
            self._engine = args
        elif call == "disconnect":
            self._engine = None
            self._follows.clear()
        elif call == "follow":
            self._follows[args["project"]] = args.get("after", 0)
        elif call == "unfollow":
            self._follows.pop(args["project"], None)

    def _ask_again(self) -> None:
        """To a new process: the engine, what is followed, then what was not answered, in the
        order it was asked.
        """
        pending = dict(self._waiting)
        asked = {(request.call, request.args.get("project")) for request in pending.values()}
        if self._engine is not None and ("choose", None) not in asked:
            self.ask("choose", **self._engine)
        for project, after in list(self._follows.items()):
            if ("follow", project) not in asked:
                self.ask("follow", project=project, after=after)
        for number, request in pending.items():
            self._process.write(request.line(number))

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(filter(bytes.strip, lines))
        self._take_all()

    def _take_all(self) -> None:
        """Take what was heard, in its order: also from within a dialog, and where one fails."""
        while self._lines:
            try:
                self._take(self._lines.popleft())
            except BaseException:
                self._timer.later(0.0, self._take_all)
                raise

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # half a line of a process that died
        if "event" in message:
            self._tell(message)
        elif message.get("id") == _GREETING:
            self._take_greeting(message)
        elif (request := self._waiting.pop(message.get("id"), None)) is not None:
            self._answer(request, message)

    def _take_greeting(self, message: dict[str, Any]) -> None:
        if "error" not in message:
            self._greeted = True
            self._ask_again()
            return
        try:
            why = from_json(Failure, message["error"])
        except ValueError as error:
            why = misfit("hello", error)
        if why.code != WRONG_VERSION:  # it knows no greeting with a version
            text = _("The connection helper is of another version of ALUNet than this module.")
            hint = _("Install the same version of module and engine on this computer.")
            why = Failure(WRONG_VERSION, text, hint)
        self._refused = why
        self._fail_all(why)

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            event = read_event(message)
        except ValueError as error:
            self.failed.emit(misfit(str(message["event"]), error))
            return
        if isinstance(event, ProjectNews):
            self._follows[event.project] = max(self._follows.get(event.project, 0), event.number)
        if event is not None:
            self.event.emit(event)

    def _answer(self, request: _Request, message: dict[str, Any]) -> None:
        try:
            why = from_json(Failure, message["error"]) if "error" in message else None
            answer = None if why is not None else read_answer(request.call, message.get("result"))
        except ValueError as error:
            why = misfit(request.call, error)
        if why is not None:
            request.failed(replace(why, about=request.about))
        else:
            self.answered.emit(request.about)
            request.done(answer)

    def _end(self, words: str) -> None:
        """The process has ended although nobody let it."""
        self._running = self._greeted = False
        if self._closed or self._refused is not None:
            return
        calm = self._timer.now() - self._born > _CALM_SECONDS
        self._deaths = 1 if calm else self._deaths + 1
        self.state.emit("ended", words)
        if self._deaths > len(_RETRY_SECONDS):
            self._give_up(words)
            return
        self._call_off = self._timer.later(_RETRY_SECONDS[self._deaths - 1], self.start)

    def _give_up(self, words: str) -> None:
        """It does not live: everybody who waits is told; the next `start` tries again."""
        self._deaths, self._closed = 0, True
        message = _("The connection helper does not start ({count} attempts): {words}.")
        said = message.format(count=TRIES, words=last_words(words).rstrip("."))
        hint = _("It is not retried automatically: click Connect.")
        self._fail_all(Failure(NO_AGENT, said, hint, about="choose"))

    def _fail_all(self, why: Failure) -> None:
        pending, self._waiting = self._waiting, {}
        for request in pending.values():
            request.failed(why)
