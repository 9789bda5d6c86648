"""Qt as Slicer's Python sees it (PythonQt), over PySide6 and without a screen, so that the panel is
clicked in CI too.

It is as strict as PythonQt where that matters: a property is an attribute and cannot be called, an
unknown attribute cannot be set, a constructor takes no keywords, a signature that no signal has
connects nothing.
"""

from pythonqt.application import install
from pythonqt.proxy import errors, plain

__all__ = ["errors", "install", "plain"]
