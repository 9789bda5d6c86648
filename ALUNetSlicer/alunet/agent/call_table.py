"""The calls of an agent: their names, the shapes of their arguments, and the request on its way."""

from __future__ import annotations

import dataclasses
import inspect
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from alunet.agent.http_transport import Cancel
from alunet.agent.session import Push, ViewerSession
from alunet.agent.thread_pools import Throttle
from alunet.errors import InputError
from alunet.schema import from_json
from alunet.schema.operations import fields_of

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """One call: its lane, its function and the shape of its arguments."""

    lane: str
    function: Callable[..., Any]
    arguments: type


@dataclass
class RunningCall:
    """One request on its way: how it tells of its progress, and whether it was cancelled."""

    id: Any
    push: Push
    cancel: Cancel = field(default_factory=Cancel)
    pace: Throttle = field(default_factory=Throttle)
    begun: tuple[str, float, float] = ("", 0.0, 0.0)

    def progress(
        self,
        phase: str,
        done: float,
        total: float,
        seconds_left: float | None = None,
        waiting: str = "",
    ) -> None:
        """Tell how far it is.

        Args:
            seconds_left: of the phase; None: as long as its course so far makes likely.
            waiting: what it waits for, in words.
        """
        if self.begun[0] != phase:
            self.begun = (phase, done, time.monotonic())
        if not self.pace.lets(last=done >= total):
            return
        _, first, start = self.begun
        if seconds_left is None and first < done:
            seconds_left = (time.monotonic() - start) / (done - first) * (total - done)
        about = {"phase": phase, "done": done, "total": total, "seconds_left": seconds_left}
        self.push({"event": "progress", "id": self.id, **about, "waiting": waiting})


CALLS: dict[str, Call] = {}


def call(lane: str) -> Callable[[Function], Function]:
    """Makes a function a call of its name; a parameter that is a dataclass is its fields."""

    def register(function: Function) -> Function:
        hints = typing.get_type_hints(function)
        parts: list[tuple[str, Any, Any]] = []
        groups: dict[str, Any] = {}
        for part in list(inspect.signature(function).parameters.values())[2:]:
            if dataclasses.is_dataclass(hints[part.name]):
                groups[part.name] = hints[part.name]
                parts += fields_of(hints[part.name])
            else:
                default = dataclasses.MISSING if part.default is part.empty else part.default
                parts.append((part.name, hints[part.name], dataclasses.field(default=default)))

        def run(session: ViewerSession, task: RunningCall, **given: Any) -> Any:
            for name, kind in groups.items():
                names = [part.name for part in dataclasses.fields(kind)]
                given[name] = kind(**{name: given.pop(name) for name in names})
            return function(session, task, **given)

        name = function.__name__
        CALLS[name] = Call(lane, run, dataclasses.make_dataclass(name, parts, kw_only=True))
        return function

    return register


def arguments(name: str, given: Any) -> dict[str, Any]:
    """Arguments of a call, checked.

    Raises:
        InputError: no such call, or its arguments are not these.
    """
    if name not in CALLS:
        raise InputError(f"There is no call {name!r}.", f"There are: {', '.join(sorted(CALLS))}.")
    shape = CALLS[name].arguments
    known = [part.name for part in dataclasses.fields(shape)]
    unknown = sorted(set(given) - set(known)) if isinstance(given, dict) else []
    if unknown:
        raise InputError(
            f"{name} knows no argument {unknown[0]!r}.", f"It knows: {', '.join(known)}."
        )
    try:
        read: Any = from_json(shape, given)
    except ValueError as error:
        raise InputError(f"{error}.", "This is a defect of the viewer.") from error
    return {key: getattr(read, key) for key in known}
