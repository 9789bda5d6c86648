"""The rule that no file of tests leaves a process behind (see `Testing/conftest.py`) finds such
a process.
"""

from __future__ import annotations

import subprocess
import sys

import processes
import psutil


def test_a_process_that_detached_itself_is_found_and_ended(tmp_path):
    start = (
        "import sys; from subprocess import DEVNULL, Popen\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print(Popen(command, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True).pid)"
    )
    number = int(subprocess.check_output([sys.executable, "-c", start]))
    assert psutil.pid_exists(number)
    (said,) = processes.end(tmp_path, grace=0)
    assert said.startswith(f"{number}: ") and "is_found_and_ended" in said
    assert not psutil.pid_exists(number)
