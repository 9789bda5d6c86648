"""A child process for several functions: it stays warm, and whatever goes wrong in it is said and
leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from alunet.errors import Cancelled, EngineError, InputError, OutOfMemory
from alunet.model.child import Child
from alunet.schema import Event

VARIABLES = {"OMP_NUM_THREADS": "1"}


# --- functions for a child process ----------------------------------------------------------------


def process(emit: Any) -> int:
    """Say which process this is, also into its log."""
    os.write(1, b"printed\n")
    return os.getpid()


def be_killed(emit: Any) -> None:
    """End as a crash does."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(emit: Any) -> None:
    """Find the input wrong."""
    raise InputError("It is wrong (7).", "Give another one.")


def want_more(emit: Any, first: int) -> int:
    """Have too little memory in the process that ran before, and enough in another one."""
    if os.getpid() == first:
        raise MemoryError
    return os.getpid()


def wait(emit: Any) -> None:
    """Take long."""
    emit(Event("message", {"text": "waiting"}))
    time.sleep(60)


# --- tests ----------------------------------------------------------------------------------------


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Child() as started:
        yield started


def call(child: Child, log: Path, function: Any = process, **arguments: Any) -> Any:
    name = f"test_child:{function.__name__}"
    return child.run(name, arguments, environment=VARIABLES, log=log)


def test_functions_that_follow_each_other_share_a_process(child: Child, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "log", tmp_path / "b" / "log"
    assert call(child, first) == call(child, second)
    assert first.read_text() == second.read_text() == "printed\n", "each has its own log"


def test_other_variables_need_another_process(child: Child, tmp_path: Path) -> None:
    other = child.run("test_child:process", {}, environment={}, log=tmp_path / "log")
    assert call(child, tmp_path / "log") != other
    assert not psutil.pid_exists(other)


def test_the_process_and_its_memory_are_gone_at_the_end(child: Child, tmp_path: Path) -> None:
    found = call(child, tmp_path / "log")
    assert psutil.pid_exists(found)
    child.close()
    assert not psutil.pid_exists(found)


def test_a_crash_is_said_and_the_next_function_has_another_process(
    child: Child, tmp_path: Path
) -> None:
    first = call(child, tmp_path / "log")
    with pytest.raises(EngineError, match=r"ended without a result \(exit code -?\d+\): printed"):
        call(child, tmp_path / "log", be_killed)
    assert call(child, tmp_path / "log") != first


def test_a_process_that_was_killed_between_two_functions_is_replaced(
    child: Child, tmp_path: Path
) -> None:
    first = call(child, tmp_path / "log")
    psutil.Process(first).kill()
    psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], 10)
    assert call(child, tmp_path / "log") != first


def test_wrong_input_is_said_as_that_also_later(child: Child, tmp_path: Path) -> None:
    call(child, tmp_path / "log")
    with pytest.raises(InputError, match=r"It is wrong \(7\)"):
        call(child, tmp_path / "log", refuse)


def test_memory_that_earlier_functions_hold_is_not_missing(child: Child, tmp_path: Path) -> None:
    first = call(child, tmp_path / "log")
    assert call(child, tmp_path / "log", want_more, first=first) != first
    with pytest.raises(OutOfMemory):  # in a process of its own it is missing
        child.close()
        call(child, tmp_path / "log", want_more_always)


def want_more_always(emit: Any) -> None:
    """Have too little memory in any process."""
    raise MemoryError


def test_cancel_ends_a_process_that_was_warm(child: Child, tmp_path: Path) -> None:
    first, cancel = call(child, tmp_path / "log"), threading.Event()
    with pytest.raises(Cancelled):
        child.run(
            "test_child:wait",
            {},
            environment=VARIABLES,
            log=tmp_path / "log",
            emit=lambda _: cancel.set(),
            cancel=cancel,
        )
    assert not psutil.pid_exists(first)
