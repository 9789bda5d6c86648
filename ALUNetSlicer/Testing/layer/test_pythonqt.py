"""The layer over PySide6 behaves as PythonQt does in Slicer, above all where PythonQt is strict."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
pytest.importorskip(
    "slicer", reason="the real core of Slicer: pip install slicer-core", exc_type=ImportError
)
pythonqt = pytest.importorskip(
    "pythonqt", reason="PySide6: pip install PySide6-Essentials", exc_type=ImportError
)
pythonqt.install()

import qt  # noqa: E402
import slicer  # noqa: E402


def test_properties_are_attributes_and_cannot_be_called():
    button = qt.QPushButton("Go")
    button.enabled = False
    assert (button.text, button.enabled) == ("Go", False)
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_what_is_no_property_cannot_be_set():
    with pytest.raises(AttributeError, match="colour"):
        qt.QPushButton("Go").colour = "red"


def test_constructors_take_no_keywords():
    with pytest.raises(TypeError):
        qt.QLabel(text="Go")


def test_a_signal_is_connected_by_its_signature(capfd):
    button, heard = qt.QPushButton("Go"), []
    assert button.connect("clicked(bool)", heard.append) is True
    assert button.connect("clicked(int)", heard.append) is False
    assert "no such signal" in capfd.readouterr().err
    button.click()
    assert heard == [False]


def test_the_same_callable_is_disconnected():
    button, heard = qt.QPushButton("Go"), []

    def hear() -> None:
        heard.append(1)

    button.connect("clicked(bool)", hear)
    button.click()
    assert button.disconnect("clicked(bool)", hear) is True
    button.click()
    assert heard == [1], "and a slot may take fewer values than the signal has"


def test_what_a_slot_raises_is_kept_for_the_test():
    button = qt.QPushButton("Go")
    button.connect("clicked(bool)", lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in pythonqt.errors()[0]
    assert pythonqt.errors() == []


def test_bytes_of_a_process_come_as_a_qbytearray():
    process, heard = qt.QProcess(), []
    process.connect(
        "readyReadStandardOutput()", lambda: heard.append(process.readAllStandardOutput().data())
    )
    process.start(sys.executable, ["-c", "print(42)"])
    assert process.waitForFinished(10000)
    slicer.app.processEvents()
    assert b"".join(heard).strip() == b"42"


def test_a_form_is_read_with_the_widgets_of_ctk_and_slicer():
    path = Path(__file__).parents[2] / "Resources" / "UI" / "ALUNetSlicer.ui"
    form = slicer.util.loadUI(str(path))
    ui = slicer.util.childWidgetVariables(form)
    assert ui.annotateSection.collapsed is True
    ui.annotateSection.collapsed = False
    assert (ui.annotateSection.collapsed, ui.doneButton.text) == (False, "Done, next >")
