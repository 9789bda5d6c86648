"""An event loop without Qt: the same ports as in Slicer, real processes and real time, pumped by
the test.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from engines import PYTHON


class Pump:
    """Time and processes of one test; everything is called from `until`, on the test's own
    thread.
    """

    def __init__(self) -> None:
        self._ready: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._off: set[int] = set()

    def now(self) -> float:
        return time.monotonic()

    def later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        number = next(self._count)
        heapq.heappush(self._later, (self.now() + seconds, number, action))
        return lambda: self._off.add(number)

    def soon(self, action: Callable[[], None]) -> None:
        """From any thread."""
        self._ready.put(action)

    def until(
        self,
        condition: Callable[[], Any],
        seconds: float = 60.0,
        progress: Callable[[], Any] = lambda: None,
    ) -> Any:
        """Turns the loop until a condition holds, and gives its value; the time begins anew
        whenever `progress` gives something else.
        """
        end, before = self.now() + seconds, progress()
        while not (value := condition()):
            if (now := progress()) != before:
                end, before = self.now() + seconds, now
            if self.now() > end:
                raise AssertionError("waited in vain")
            while self._later and self._later[0][0] <= self.now():
                _, number, action = heapq.heappop(self._later)
                if number not in self._off:
                    action()
            try:
                self._ready.get(timeout=0.01)()
            except queue.Empty:
                continue
        return value


class PipeProcess:
    """A real process with pipes."""

    def __init__(
        self, pump: Pump, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> None:
        self._pump, self._command, self._environment = pump, list(command), environment
        self.process: subprocess.Popen | None = None

    def start(self, heard: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
            )
        except OSError as error:
            self._pump.soon(lambda reason=str(error): ended(reason))
            return
        self.process = process

        def read() -> None:
            while data := process.stdout.read1(65536):
                self._pump.soon(lambda data=data: heard(data))
            words = process.stderr.read().decode("utf-8", "replace").strip()
            process.wait()
            self._pump.soon(lambda: ended(words[-500:]) if self.process is process else None)

        threading.Thread(target=read, daemon=True).start()

    def write(self, data: bytes) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.process.stdin.write(data)
                self.process.stdin.flush()
            except OSError:
                pass  # it died this moment; `ended` tells

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.stdin.close()
            process.wait(30)

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()


def agent_command(home: Any) -> list[str]:
    """The agent with this very Python."""
    return [PYTHON, "-m", "alunet.agent", "--home", str(home)]
