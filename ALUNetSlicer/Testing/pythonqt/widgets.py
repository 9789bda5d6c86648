"""Stand-ins for the widgets of CTK and Slicer that the panel's form names."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

HEADER = 26


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A section with a header to open and close it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, HEADER, 0, 0)

    contentsCollapsed = QtCore.Signal(bool)

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            if collapsed and not child.isHidden():
                child.setProperty("folded", True)
                child.hide()
            elif not collapsed and child.property("folded"):
                child.setProperty("folded", False)
                child.show()
        self.setMaximumHeight(HEADER if collapsed else 16777215)
        self.contentsCollapsed.emit(collapsed)
        self.update()

    collapsedHeight = QtCore.Property(int, lambda self: 0, lambda self, height: None)
    text = QtCore.Property(str, lambda self: self._text, _set_text)
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)

    def showEvent(self, event: Any) -> None:
        self._set_collapsed(self._collapsed)
        super().showEvent(event)

    def mousePressEvent(self, event: Any) -> None:
        if event.position().y() < HEADER:
            self._set_collapsed(not self._collapsed)

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(0, 0, self.width(), HEADER - 3, QtGui.QColor("#dcdcdc"))
        font = painter.font()
        font.setBold(True)
        painter.setFont(font)
        painter.drawText(8, HEADER - 9, ("▸ " if self._collapsed else "▾ ") + self._text)


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        for child in self.findChildren(qMRMLSegmentEditorWidget):
            child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)


def _flag(name: str) -> Any:
    def change(self: Any, on: bool) -> None:
        self.flags[name] = on

    return QtCore.Property(bool, lambda self: self.flags.get(name, True), change)


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """The list of the nodes that may be edited."""

    showHidden = QtCore.Property(bool, lambda self: True, lambda self, on: None)
    noneEnabled = QtCore.Property(bool, lambda self: True, lambda self, on: None)

    def addAttribute(self, kind: str, name: str, value: str) -> None:
        self.attribute = name


class qMRMLSegmentEditorWidget(QtWidgets.QFrame):
    """The Segment Editor: its nodes are real, its brushes are not."""

    unorderedEffectsVisible = _flag("unorderedEffectsVisible")
    autoShowSourceVolumeNode = _flag("autoShowSourceVolumeNode")
    segmentationNodeSelectorVisible = _flag("segmentationNodeSelectorVisible")
    sourceVolumeNodeSelectorVisible = _flag("sourceVolumeNodeSelectorVisible")
    switchToSegmentationsButtonVisible = _flag("switchToSegmentationsButtonVisible")
    specifyGeometryButtonVisible = _flag("specifyGeometryButtonVisible")
    maskingSectionVisible = _flag("maskingSectionVisible")
    addRemoveSegmentButtonsVisible = _flag("addRemoveSegmentButtonsVisible")
    show3DButtonVisible = _flag("show3DButtonVisible")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.flags: dict[str, bool] = {}
        self.told: list[str] = []
        self._node = self._segmentation = self._volume = None
        self.setFrameShape(QtWidgets.QFrame.StyledPanel)
        self.setMinimumHeight(120)
        self._row = QtWidgets.QHBoxLayout(self)
        nodes = qMRMLNodeComboBox(self)
        nodes.setObjectName("SegmentationNodeComboBox")
        nodes.hide()

    def setEffectNameOrder(self, names: Any) -> None:
        for name in names[: 5 - self._row.count()]:
            self._row.addWidget(QtWidgets.QToolButton(self, text=name))

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if node is not None and not node.IsA("vtkMRMLSegmentEditorNode"):
            raise TypeError("no segment editor node")
        self._node = node

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setSegmentationNode(self, node: Any) -> None:
        self._segmentation = node

    def segmentationNode(self) -> Any:
        return self._segmentation

    def setSourceVolumeNode(self, node: Any) -> None:
        self._volume = node

    def activeEffect(self) -> Any:
        return None

    def effectByName(self, name: str) -> Any:
        return None

    def setActiveEffect(self, effect: Any) -> None:
        self.told.append("no effect")

    def _tell(self, words: str) -> None:
        self.told.append(words)

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self._tell(f"undo {count}")

    def saveStateForUndo(self) -> None:
        self._tell("remember")

    def installKeyboardShortcuts(self) -> None:
        self._tell("keys")

    def uninstallKeyboardShortcuts(self) -> None:
        self._tell("no keys")

    def setupViewObservations(self) -> None:
        self._tell("views")

    def removeViewObservations(self) -> None:
        self._tell("no views")

    def updateWidgetFromMRML(self) -> None:
        self._tell("update")


class Loader(QtUiTools.QUiLoader):
    """Reads a form; classes that Qt does not have are those above."""

    def createWidget(self, name: str, parent: Any = None, label: str = "") -> Any:
        kinds = {
            kind.__name__: kind
            for kind in (ctkCollapsibleButton, qMRMLWidget, qMRMLSegmentEditorWidget)
        }
        if name not in kinds:
            return super().createWidget(name, parent, label)
        made = kinds[name](parent)
        made.setObjectName(label)
        return made


def load(path: str) -> Any:
    """The widget of a form."""
    file = QtCore.QFile(path)
    if not file.open(QtCore.QFile.ReadOnly):
        raise OSError(f"{path} cannot be read")
    made = Loader().load(file)
    file.close()
    return made


def slice_view(name: str) -> Any:
    """The logic of a slice view, with real nodes in the scene."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    give_node(logic, name)
    return logic


def give_node(logic: Any, name: str) -> None:
    """Give a view the slice node of its name: the scene has one of each, and keeps it when it is
    closed.
    """
    known = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
    if known is None:
        logic.AddSliceNode(name)
    else:
        logic.SetSliceNode(known)
