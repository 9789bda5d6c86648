"""Base classes of scripted modules and the parameter node wrapper, as far as an extension sees
them.
"""

from __future__ import annotations

import sys
import types
import typing
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtWidgets

from pythonqt.proxy import Proxy


class ScriptedLoadableModule:
    """The module."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """Its widget; the resources lie beside the class's file."""

    def __init__(self, parent: Any = None) -> None:
        self.widget = QtWidgets.QWidget()
        self.layout, self.parent = Proxy(QtWidgets.QVBoxLayout(self.widget)), Proxy(self.widget)

    def resourcePath(self, name: str) -> str:
        file = sys.modules[type(self).__module__].__file__
        return str(Path(file).parent / "Resources" / name)

    def setup(self) -> None: ...


class ScriptedLoadableModuleLogic:
    """Its logic, with one parameter node in the scene."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        tag = self.moduleName
        node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(tag)
            node.SetModuleName(tag)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Its test."""


def parameterNodeWrapper(kind: type) -> type:
    """The annotated attributes of a class are parameters, kept as text in a parameter node."""
    defaults = {
        name: getattr(kind, name, hint()) for name, hint in typing.get_type_hints(kind).items()
    }

    class Wrapped:
        def __init__(self, node: Any) -> None:
            object.__setattr__(self, "parameterNode", node)

        def __getattr__(self, name: str) -> Any:
            if name not in defaults:
                raise AttributeError(name)
            text = self.parameterNode.GetParameter(name)
            return type(defaults[name])(text) if text else defaults[name]

        def __setattr__(self, name: str, value: Any) -> None:
            if not isinstance(value, type(defaults[name])):
                raise TypeError(f"{name} is no {type(value).__name__}")
            self.parameterNode.SetParameter(name, str(value))

    return Wrapped


def install() -> None:
    """Make them importable as Slicer's."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    parts = ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest
    for part in (ScriptedLoadableModule, *parts):
        setattr(base, part.__name__, part)
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper = parameterNodeWrapper
    sys.modules[base.__name__], sys.modules[wrapper.__name__] = base, wrapper
    slicer.modules.plots = SimpleNamespace(
        logic=lambda: SimpleNamespace(ShowChartInLayout=lambda chart: True)
    )
