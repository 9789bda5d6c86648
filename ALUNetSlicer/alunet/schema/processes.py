"""How a Python is started with a module of ours, so that no file of the current folder runs."""

from __future__ import annotations

import os
import sys

_RUN = (
    "import sys; sys.path[:] = filter(None, sys.path); del sys.argv[0]; import runpy; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
"""As ``-P -m``, for every Python; before it `sys` alone is loaded, which is part of Python."""


def module_command(python: str, module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module as a program.

    Args:
        python: the interpreter, of any version.
    """
    if python == sys.executable and sys.version_info >= (3, 11):
        return [python, "-P", "-m", module, *arguments]
    return [python, "-c", _RUN, module, *arguments]


def search_path(*folders: str) -> dict[str, str]:
    """Return the variables with which a Python, and all that it starts, finds modules in these
    folders, and none in the one where it is started.
    """
    known = os.pathsep.join(folders).split(os.pathsep)
    return {"PYTHONPATH": os.pathsep.join(filter(None, known)), "PYTHONSAFEPATH": "1"}
