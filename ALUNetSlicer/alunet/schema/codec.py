"""Dataclasses to JSON data and back."""

from __future__ import annotations

import types
import typing
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def to_json(message: Any) -> dict[str, Any]:
    """A dataclass of the schema as JSON-able data."""
    return {key: _plain(value) for key, value in asdict(message).items()}


def to_data(value: Any) -> Any:
    """Anything that an operation takes or gives as JSON-able data."""
    if isinstance(value, (list, tuple)):
        return [to_data(item) for item in value]
    return to_json(value) if is_dataclass(value) else _plain(value)


def from_json(kind: type[Kind], content: Any) -> Kind:
    """A dataclass of the schema from JSON data; entries it does not know are left out.

    Raises:
        ValueError: an entry is missing or of another type.
    """
    message: Kind = _read(kind, content, kind.__name__)
    return message


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read(kind: Any, value: Any, place: str) -> Any:
    """`value` as a `kind`, which is a plain type, an Enum, a dataclass, or a list, dict or union
    of such.
    """
    if kind is Any:
        return value
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        parts = typing.get_args(kind)
        if value is None and type(None) in parts:
            return None
        return _read(next(part for part in parts if part is not type(None)), value, place)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _read_word(kind, value, place)
    return _read_plain(kind, value, place)


def _read_word(kind: type[Enum], value: Any, place: str) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(
            f"{place} is {value!r:.80}, not one of {[item.value for item in kind]}"
        ) from error


def _read_plain(kind: Any, value: Any, place: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin or kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{place} is {value!r:.80}, not {getattr(kind, '__name__', kind)}")
    if origin is list:
        return [_read(inner[0], item, place) for item in value]
    if origin is dict:
        return {key: _read(inner[1], item, f"{place}.{key}") for key, item in value.items()}
    return value


def _read_dataclass(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {value!r:.80}, not an object")
    hints = typing.get_type_hints(kind)
    given = {part.name for part in fields(kind)} & value.keys()
    try:
        return kind(**{name: _read(hints[name], value[name], f"{place}.{name}") for name in given})
    except TypeError as error:
        raise ValueError(f"{place}: {error}") from error
