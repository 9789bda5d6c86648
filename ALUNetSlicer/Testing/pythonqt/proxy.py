"""Qt objects behind proxies that behave as those of PythonQt."""

from __future__ import annotations

import inspect
import sys
import traceback
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

_MODULES = (QtWidgets, QtGui, QtCore)
_slots: dict[tuple[int, str, Any], Any] = {}
_raised: list[str] = []


def errors() -> list[str]:
    """What slots raised since the last call: PythonQt prints it and goes on, a test must not."""
    found = list(_raised)
    _raised.clear()
    return found


def remember(kind: type, error: BaseException, trace: Any) -> None:
    """Keep what was raised where nobody catches it."""
    _raised.append("".join(traceback.format_exception(kind, error, trace)))


def plain(value: Any) -> Any:
    """What is behind a proxy."""
    if isinstance(value, Proxy):
        return object.__getattribute__(value, "_object")
    if isinstance(value, (list, tuple)):
        return type(value)(plain(part) for part in value)
    return value


def wrap(value: Any) -> Any:
    """A value as PythonQt gives it."""
    if isinstance(
        value,
        (QtCore.QObject, QtWidgets.QTableWidgetItem, QtWidgets.QListWidgetItem, QtCore.QByteArray),
    ):
        return Proxy(value)
    if isinstance(value, QtCore.QProcessEnvironment):
        return Proxy(value)
    if isinstance(value, list):
        return tuple(wrap(part) for part in value)
    return value


def slot(function: Any) -> Any:
    """A callable for a signal: with as many of its values as it takes; what it raises is kept
    for the test.
    """
    try:
        most = 0
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                most = 99
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                most += 1
    except (TypeError, ValueError):
        most = 99

    def call(*values: Any) -> None:
        try:
            function(*[wrap(value) for value in values[:most]])
        except Exception:  # noqa: BLE001  whatever it is, the test is told
            _raised.append(traceback.format_exc())

    return call


class BoundSignal:
    """A signal as an attribute: `connect`, `disconnect`, and emitted by a call."""

    def __init__(self, signal: Any, key: tuple[int, str]) -> None:
        self._signal, self._key = signal, key

    def connect(self, function: Any) -> bool:
        made = _slots[(*self._key, function)] = slot(function)
        self._signal.connect(made)
        return True

    def disconnect(self, function: Any) -> bool:
        made = _slots.pop((*self._key, function), None)
        if made is not None:
            self._signal.disconnect(made)
        return made is not None

    def emit(self, *values: Any) -> None:
        self._signal.emit(*values)

    __call__ = emit


class Proxy:
    """A Qt object, with its properties as attributes."""

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_object", target)

    def __getattr__(self, name: str) -> Any:
        target = plain(self)
        if _has_property(target, name):
            return wrap(
                getattr(type(target), f"get_{name}")(target)
                if hasattr(type(target), f"get_{name}")
                else target.property(name)
            )
        found = getattr(target, name)
        if isinstance(found, QtCore.SignalInstance):
            return BoundSignal(found, (id(target), name))
        if callable(found):
            return lambda *values: wrap(found(*[plain(value) for value in values]))
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        target = plain(self)
        if not _has_property(target, name):
            raise AttributeError(f"{type(target).__name__} has no property {name!r}")
        target.setProperty(name, plain(value))

    def __eq__(self, other: object) -> bool:
        return plain(self) is plain(other)

    def __hash__(self) -> int:
        return hash(plain(self))

    def connect(self, signature: str, function: Any) -> bool:
        """Connect a signal by its signature; False, and a line, where there is no such signal."""
        target = plain(self)
        if target.metaObject().indexOfSignal(signature) < 0:
            sys.stderr.write(
                f"QObject::connect: no such signal {type(target).__name__}::{signature}\n"
            )
            return False
        return BoundSignal(_signal(target, signature), (id(target), signature)).connect(function)

    def disconnect(self, signature: str, function: Any) -> bool:
        """Disconnect the same callable."""
        return BoundSignal(
            _signal(plain(self), signature), (id(plain(self)), signature)
        ).disconnect(function)


def _has_property(target: Any, name: str) -> bool:
    return isinstance(target, QtCore.QObject) and target.metaObject().indexOfProperty(name) >= 0


def _signal(target: Any, signature: str) -> Any:
    name, _, kinds = signature.rstrip(")").partition("(")
    found = getattr(target, name)
    # `clicked` has a default: by itself it says nothing
    return found[kinds] if kinds == "bool" else found


class QtModule(types.ModuleType):
    """The module `qt`: each class of Qt, made without keywords, and its static functions and
    enums.
    """

    def __getattr__(self, name: str) -> Any:
        for module in _MODULES:
            if hasattr(module, name):
                found = getattr(module, name)
                return _QtClass(found) if inspect.isclass(found) else found
        raise AttributeError(f"qt has no {name!r}")


class _QtClass:
    """A class of Qt."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __call__(self, *values: Any) -> Any:
        made = self._kind(*[plain(value) for value in values])
        return Proxy(made)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._kind, name)
        if callable(found) and not inspect.isclass(found):
            return lambda *values: wrap(
                found(
                    *[
                        slot(v) if inspect.ismethod(v) or inspect.isfunction(v) else plain(v)
                        for v in values
                    ]
                )
            )
        return found
