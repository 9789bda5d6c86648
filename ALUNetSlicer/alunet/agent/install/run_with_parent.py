"""Runs a module so that it, and all that it started, ends when our standard input does: `leash
MODULE [ARGUMENT…]`.

A viewer that cancels closes the pipe, and one that dies lets go of it; either way nothing is left
running. Killing from outside would miss what pip has started, and hits a launcher instead of Python
where the viewer's Python has one. Standard error joins standard output, and the last line is
``alunet-exit`` with the exit status.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading

EXIT = "alunet-exit"


def main(arguments: list[str]) -> int:
    """Run a module as a program; returns its exit status."""
    _tie()
    module, sys.argv[1:] = arguments[0], arguments[1:]
    status: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        status = 130
    if isinstance(status, str):
        sys.stdout.write(f"{status}\n")
    code = status if isinstance(status, int) else int(status is not None)
    sys.stdout.write(f"\n{EXIT} {code}\n")
    sys.stdout.flush()
    return code


def _tie() -> None:
    """Lead a group of processes, and watch the pipe; the module itself gets an empty standard
    input.
    """
    os.dup2(1, 2)
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if os.name == "posix":
        with contextlib.suppress(PermissionError):  # it leads one already
            os.setsid()
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()


def _watch(pipe: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(pipe, 4096):
            pass
    _end_all()


def _end_all() -> None:
    """End this process and everything below it at once."""
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(os.getpid())]
        with contextlib.suppress(OSError):
            subprocess.run(
                command, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False
            )
    elif os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
