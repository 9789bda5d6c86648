"""Heavy work in a process of its own: functions, their arguments as JSON, events back as JSON
lines.

The parent calls `run`, or `Child.run` for several functions one after the other; the child is this
module started with ``python -m alunet.model.child``. nnU-Net keeps global state (environment
variables, thread pools, matplotlib): it lives and dies with the child. The child ends at once when
it is cancelled, and also when its parent is gone: it watches its standard input, which closes with
the parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from alunet.errors import AlunetError, Cancelled, EngineError, InputError, OutOfMemory
from alunet.model import out_of_memory
from alunet.model.hardware import kills_for_memory
from alunet.schema import Emit, Event, ignore_events
from alunet.schema.processes import module_command, search_path
from alunet.storage.failures import known_failure

_KILL_AFTER_SECONDS = 3.0


def run(
    function: str,
    arguments: dict[str, Any],
    *,
    environment: dict[str, str],
    log: Path,
    emit: Emit = ignore_events,
    cancel: threading.Event | None = None,
) -> Any:
    """Call `function` ("package.module:name") in a child process and return its JSON-able result.

    Args:
        arguments: keyword arguments, JSON-able; the function gets `emit` besides.
        environment: variables set for the child only.
        log: file that receives everything the child and its libraries print.
        emit: called with each event, in the calling thread.
        cancel: set it from another thread to end the child and its children.

    Raises:
        InputError: the child says that its input cannot be used.
        OutOfMemory: it needed more memory than there is.
        EngineError: the child failed or was killed from outside.
        Cancelled: `cancel` was set.
    """
    with Child() as child:
        return child.run(
            function, arguments, environment=environment, log=log, emit=emit, cancel=cancel
        )


class Child:
    """A process that runs one function after the other; a context manager, at whose end it is gone.

    Torch and nnU-Net are imported once for all of them, which costs more than a short round
    computes. The process is another one after any error, and for other variables.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and whatever it started; the next function gets another one."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)

    def run(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        environment: dict[str, str],
        log: Path,
        emit: Emit = ignore_events,
        cancel: threading.Event | None = None,
    ) -> Any:
        """Call a function in the process; as the function `run` of this module."""
        task = {"function": function, "arguments": arguments, "log": str(log.absolute())}
        log.parent.mkdir(parents=True, exist_ok=True)
        process = self._process
        if process is not None and process.poll() is None and environment == self._environment:
            with contextlib.suppress(OutOfMemory):  # the functions before may have left too little
                return self._run(process, task, emit, log, cancel)
        self.close()
        with log.open("ab") as output:
            self._process, self._environment = _start(environment, output), environment
        return self._run(self._process, task, emit, log, cancel)

    def _run(
        self,
        process: subprocess.Popen[bytes],
        task: dict[str, Any],
        emit: Emit,
        log: Path,
        cancel: threading.Event | None,
    ) -> Any:
        kills, watcher = kills_for_memory(), _Watcher(process, cancel)
        try:
            return _converse(process, task, emit, log, cancel)
        except BaseException as error:
            code = process.poll()
            self.close()
            if isinstance(error, EngineError) and out_of_memory.ended(code, error.message, kills):
                raise OutOfMemory(out_of_memory.TEXT, f"Its output is in {log}.") from error
            raise
        finally:
            watcher.stop()


def _start(environment: dict[str, str], output: Any) -> subprocess.Popen[bytes]:
    flags: dict[str, Any] = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    return subprocess.Popen(
        module_command(sys.executable, "alunet.model.child"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        env={**with_source(), "PYTHONIOENCODING": "utf-8", **environment},
        **flags,
    )


def with_source() -> dict[str, str]:
    """This process's environment variables, with which a Python process imports the same alunet."""
    source = str(Path(__file__).resolve().parents[2])
    return {**os.environ, **search_path(source, os.environ.get("PYTHONPATH", ""))}


def _converse(
    process: subprocess.Popen[bytes],
    task: dict[str, Any],
    emit: Emit,
    log: Path,
    cancel: threading.Event | None,
) -> Any:
    if process.stdin is None or process.stdout is None:
        raise EngineError(
            "A background process has no pipes.", "This is a defect; please report it."
        )
    with contextlib.suppress(BrokenPipeError, ValueError):
        # a child that died at once tells its story through its exit code; the pipe of one that was
        # cancelled before it began is closed
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
    for line in process.stdout:
        if not line.endswith(b"\n"):
            break  # killed in the middle of a line
        event = Event.from_json(line.decode("utf-8"))
        if event.kind == "result":
            return event.data["value"]
        if event.kind == "error":
            _raise(event.data)
        emit(event)
    if cancel is not None and cancel.is_set():
        raise Cancelled(
            "Cancelled.", "Finished steps are kept; the same command goes on from there."
        )
    code = process.wait()
    raise EngineError(
        f"A background process ended without a result (exit code {code}): {_last_words(log)}",
        f"Its output is in {log}.",
    )


def _raise(error: dict[str, Any]) -> None:
    kind = InputError if error.get("input") else EngineError
    kind = OutOfMemory if error.get("memory") else kind
    raise kind(error["message"], error.get("hint", ""))


def _last_words(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        words = [line.strip() for line in deque(lines, maxlen=20) if line.strip()]
    return words[-1] if words else "it printed nothing"


class _Watcher:
    """Kills the child when `cancel` is set, so that a blocking read in the parent returns."""

    def __init__(self, process: subprocess.Popen[bytes], cancel: threading.Event | None) -> None:
        self._done = threading.Event()
        if cancel is not None:
            threading.Thread(target=self._watch, args=(process, cancel), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes], cancel: threading.Event) -> None:
        while not self._done.is_set():
            if cancel.wait(0.2):
                _kill(process)
                return

    def stop(self) -> None:
        self._done.set()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started; returns when it is gone."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    if process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1 if os.name == "nt" else 0.5)
    if os.name == "nt":
        subprocess.run(
            ["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False
        )
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(_KILL_AFTER_SECONDS * 10)


# --- inside the child -----------------------------------------------------------------------------


class _MemoryPeak:
    """Samples the resident memory of this process, MiB; the peak between `__enter__` and
    `__exit__`.
    """

    def __enter__(self) -> _MemoryPeak:
        import psutil

        self._process = psutil.Process()
        self.mebibytes = self._sample()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> float:
        return self._process.memory_info().rss / 2**20

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.mebibytes = max(self.mebibytes, self._sample())

    def __exit__(self, *details: object) -> None:
        self._done.set()
        self._thread.join()
        self.mebibytes = max(self.mebibytes, self._sample())


@contextlib.contextmanager
def step(name: str, emit: Emit, costs: dict[str, dict[str, float]]) -> Iterator[None]:
    """Time a step and watch its memory: emits ``step`` events, writes ``costs[name] = {seconds,
    peak_memory_mb}``.
    """
    emit(Event("step", {"name": name, "state": "started"}))
    start = time.perf_counter()
    with _MemoryPeak() as peak:
        yield
    costs[name] = {
        "seconds": round(time.perf_counter() - start, 3),
        "peak_memory_mb": round(peak.mebibytes, 1),
    }
    emit(Event("step", {"name": name, "state": "finished", **costs[name]}))


def _main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever the libraries print goes to the log, nothing but events to the parent
    sys.stdout = sys.stderr
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            channel.write(event.to_json() + "\n")

    parent, tasks = os.dup(0), SimpleQueue[bytes]()
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=_hear_parent, args=(parent, tasks), daemon=True).start()
    _do(json.loads(tasks.get()), emit)
    while True:
        task = json.loads(tasks.get())
        _give_memory_back()
        _print_to(Path(task["log"]))
        _do(task, emit)


def _do(task: dict[str, Any], emit: Emit) -> None:
    """Call the function of a task; its result, or what went wrong, is the last event."""
    try:
        emit(Event("result", {"value": _resolve(task["function"])(**task["arguments"], emit=emit)}))
    except AlunetError as error:
        _report(emit, error)
    except Exception as error:  # noqa: BLE001  the process boundary: whatever it was, the parent must hear of it
        with contextlib.suppress(OSError):  # the disk of the log may be full
            traceback.print_exc()
        short = OutOfMemory(out_of_memory.TEXT) if out_of_memory.is_cause(error) else None
        known = (
            short
            or known_failure(error)
            or EngineError(
                f"{type(error).__name__}: {error}", "The full story is in the log of the round."
            )
        )
        _report(emit, known)


def _print_to(log: Path) -> None:
    """Append what this process and its libraries print to another file from now on."""
    sys.stderr.flush()
    with log.open("ab") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)


def _give_memory_back() -> None:
    """Free what the last function left, so that the next one has room and its peak is its own."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _report(emit: Emit, error: AlunetError) -> None:
    blame = isinstance(error, InputError)
    about = {"input": blame, "memory": isinstance(error, OutOfMemory)}
    emit(Event("error", {"message": error.message, "hint": error.hint, **about}))


def _resolve(function: str) -> Callable[..., Any]:
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)


def _hear_parent(pipe: int, tasks: SimpleQueue[bytes]) -> None:
    """Hand on the tasks that come through `pipe`, one a line; end this process and its helpers when
    it closes.

    The pipe is read past Python's own standard input: a thread that waits inside `sys.stdin` holds
    its lock for ever, and a forked helper process, which closes `sys.stdin` first, would wait for
    that lock for ever too.
    """
    import psutil

    heard = b""
    while found := os.read(pipe, 1 << 16):
        *lines, heard = (heard + found).split(b"\n")
        for line in lines:
            tasks.put(line)
    for helper in psutil.Process().children(recursive=True):  # processes that augment training data
        with contextlib.suppress(psutil.NoSuchProcess):
            helper.kill()
    os._exit(1)


if __name__ == "__main__":
    _main()
