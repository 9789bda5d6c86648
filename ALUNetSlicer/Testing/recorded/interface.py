"""What others rely on: the commands of `alunet` and the requests of its service, as data, and how
two of them differ.

What was added since a recording is no difference; what has gone or changed is. New entries of the
lists below that a caller has to give (a required option, parameter or field of a request) count as
a change, too.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILES = {"help": HERE / "help.json", "openapi": HERE / "openapi.json"}
SETS = ("enum", "type")
"""Lists in an OpenAPI document whose order means nothing; more entries than recorded are an
addition.
"""
LIBRARYS_OWN = re.compile(r"HTTPValidationError|ValidationError")
MISSING = object()


def recorded(what: str) -> dict[str, Any]:
    """What was recorded, of "help" or "openapi"."""
    return json.loads(FILES[what].read_text(encoding="utf-8"))


def present(what: str) -> dict[str, Any]:
    """The same of the program that is imported."""
    return commands() if what == "help" else requests()


def record(what: str) -> None:
    """Write what the program has now."""
    text = json.dumps(present(what), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    FILES[what].write_text(text, encoding="utf-8", newline="\n")


# --- commands -------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Command -> its help, section, arguments in order, and parameters; "alunet" is what comes
    before any command.
    """
    import typer

    from alunet.cli import app

    root = typer.main.get_command(app)
    found = {"alunet": _command(root, None), **_subcommands(root, "alunet")}
    found["alunet agent"]["parameters"] |= _agents_options()
    return found


def _subcommands(group: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        section = getattr(command, "rich_help_panel", None)
        found[f"{path} {name}"] = _command(command, section if isinstance(section, str) else None)
        if hasattr(command, "commands"):
            found |= _subcommands(command, f"{path} {name}")
    return found


def _command(command: Any, section: str | None) -> dict[str, Any]:
    types = typing.get_type_hints(command.callback) if command.callback else {}
    return {
        "help": command.help,
        "section": section,
        "arguments": [_shown(part) for part in command.params if not part.opts[0].startswith("-")],
        "parameters": {
            _shown(part): _parameter(part, types.get(part.name)) for part in command.params
        },
    }


def _shown(part: Any) -> str:
    """How a person writes it: the options, or the placeholder of an argument."""
    return (
        ", ".join(part.opts)
        if part.opts[0].startswith("-")
        else (part.metavar or part.name.upper())
    )


def _parameter(part: Any, kind: Any) -> dict[str, Any]:
    limits = [
        limit
        for limit in (getattr(part, "min", None), getattr(part, "max", None))
        if limit is not None
    ]
    return {
        "options": [*part.opts, *part.secondary_opts],
        "type": _words(kind),
        "limits": limits,
        "required": part.required,
        "default": _plain(part.default),
        "repeated": part.multiple or part.nargs != 1,
        "flag": bool(getattr(part, "is_flag", False)),
        "placeholder": part.metavar,
        "help": part.help,
    }


def _words(kind: Any) -> str:
    """A type as it is written in the source."""
    if isinstance(kind, type) and not typing.get_args(kind):
        return kind.__name__
    return re.sub(r"\b(pathlib\.|typing\.)", "", str(kind)).replace("_local.", "")


def _plain(value: Any) -> Any:
    """A default as JSON holds it; whatever a library puts where there is none, is none."""
    if isinstance(value, Path):
        return value.as_posix()
    return value if isinstance(value, (str, int, float, bool, list)) else None


def _agents_options() -> dict[str, Any]:
    """Options of `alunet agent`, which reads its command line itself."""
    from alunet.agent import command

    found = {}
    for action in command._parser()._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        found[", ".join(action.option_strings)] = {
            "options": list(action.option_strings),
            "type": getattr(action.type, "__name__", "str"),
            "required": action.required,
            "default": None if action.default is argparse.SUPPRESS else _plain(action.default),
            "placeholder": action.metavar,
            "help": action.help,
        }
    return found


# --- requests -------------------------------------------------------------------------------------


def requests() -> dict[str, Any]:
    """The OpenAPI document of a service on an empty folder, without what its library adds and
    the program's version.
    """
    from alunet.serve.app import build
    from alunet.serve.settings import ServiceSettings
    from alunet.serve.state import State

    with tempfile.TemporaryDirectory() as folder:
        state = State(ServiceSettings(Path(folder), "token", "cpu"))
        try:
            document = build(state).openapi()
        finally:
            state.close()
    schemas = document["components"]["schemas"]
    document["components"]["schemas"] = {
        name: about for name, about in schemas.items() if not LIBRARYS_OWN.fullmatch(name)
    }
    return {"paths": _by_name(document["paths"]), "components": document["components"]}


def _by_name(paths: dict[str, Any]) -> dict[str, Any]:
    """Parameters as a table instead of a list, so that one more does not move the others."""
    for methods in paths.values():
        for about in methods.values():
            about["parameters"] = {
                f"{part['in']} {part['name']}": part for part in about.get("parameters", [])
            }
    return paths


# --- differences ----------------------------------------------------------------------------------


def differences(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What has gone, what has changed, and what a caller has to give that was not needed before."""
    found = [*_gone_or_changed(old, new, ())]
    return found + (
        [*_demanded_options(old, new)] if what == "help" else [*_demanded_fields(old, new)]
    )


def _gone_or_changed(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[str]:
    where = " > ".join(path)
    if new is MISSING:
        yield f"{where} has gone"
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name, value in old.items():
            yield from _gone_or_changed(value, new.get(name, MISSING), (*path, name))
    elif path and path[-1] == "required" and isinstance(old, list):
        return  # see `_demanded_fields`
    elif path and path[-1] in SETS and isinstance(old, list) and isinstance(new, list):
        yield from (f"{where} > {value} has gone" for value in old if value not in new)
    elif _flat(old) != _flat(new):
        yield f"{where} was {old!r}, is {new!r}"


def _flat(value: Any) -> Any:
    """A text without its line breaks, which follow the width of the source."""
    return " ".join(value.split()) if isinstance(value, str) else value


def _demanded_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for command, about in old.items():
        parameters = new.get(command, {}).get("parameters", {})
        for name, part in parameters.items():
            if part["required"] and name not in about["parameters"]:
                yield f"{command} > {name} is new and required"


def _demanded_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method, about in methods.items():
            parameters = new["paths"].get(path, {}).get(method, {}).get("parameters", {})
            for name, part in parameters.items():
                if part.get("required") and name not in about["parameters"]:
                    yield f"{path} > {method} > {name} is new and required"
    before, now = old["components"]["schemas"], new["components"]["schemas"]
    for name in sorted(_sent(old) & set(now) & set(before)):
        for field in set(now[name].get("required", [])) - set(before[name].get("required", [])):
            yield f"{name} > {field} is required now"
    for name in sorted(set(before) & set(now) - _sent(old)):
        for field in set(before[name].get("required", [])) - set(now[name].get("required", [])):
            yield f"{name} > {field} may be missing now"


def _sent(document: Mapping[str, Any]) -> set[str]:
    """Names of the schemas that a caller sends."""
    schemas = document["components"]["schemas"]
    waiting = _named(
        [
            about.get("requestBody")
            for methods in document["paths"].values()
            for about in methods.values()
        ]
    )
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found and name in schemas:
            found.add(name)
            waiting |= _named(schemas[name])
    return found


def _named(part: Any) -> set[str]:
    """Names of the schemas that a part of the document refers to."""
    if isinstance(part, Mapping):
        own = {part["$ref"].rsplit("/", 1)[1]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(_named(value) for value in part.values()))
    return set().union(*(_named(value) for value in part)) if isinstance(part, list) else set()
