"""An operation of the service is declared once: routes, client and agent follow from the
declaration.
"""

from __future__ import annotations

import dataclasses
import typing
from collections import Counter

import pytest
from fastapi import APIRouter
from recorded import interface

from alunet.agent.calls import CALLS
from alunet.schema import OPERATIONS, PREFIX, File, Header, Operations, Voxels
from alunet.serve.routes import cases, changes, jobs, service, structures, work

IN_WORDS = {str: "string", int: "integer", float: "number"}


@pytest.fixture(scope="module")
def served():
    """Method and path -> what the service's own description says."""
    document = interface.present("openapi")["paths"]
    return {
        (method.upper(), path.removeprefix(PREFIX)): about
        for path, methods in document.items()
        for method, about in methods.items()
    }


def test_every_declared_operation_has_one_handler_and_no_route_is_without_a_declaration():
    rooms = (cases, changes, jobs, service, structures, work)
    routers: list[APIRouter] = [room.router(None) for room in rooms]
    found = Counter(
        (method, route.path)
        for router in routers
        for route in router.routes
        for method in route.methods
    )
    assert found == Counter((known.method, known.path) for known in OPERATIONS.values())


def test_the_service_serves_nothing_else(served):
    assert set(served) == {(known.method, known.path) for known in OPERATIONS.values()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_handler_takes_and_gives_what_is_declared(name, served):
    known = OPERATIONS[name]
    about = served[known.method, known.path]
    assert about["description"] == known.summary
    statuses = [int(status) for status in about["responses"] if status.startswith("2")]
    assert statuses[0] == known.statuses[0]
    assert set(statuses) <= {*known.statuses, *({206} if known.answer is File else ())}
    parameters = about["parameters"]
    taken = {
        name.split()[1]: part for name, part in parameters.items() if name.startswith("query ")
    }
    assert set(taken) == {part.name for part in known.query}
    for part in known.query:
        assert taken[part.name]["required"] is (part.default is ...)
        default = getattr(part.default, "value", part.default)
        assert part.default is ... or taken[part.name]["schema"].get("default") == default
        assert types_of(part.kind) <= types_in(taken[part.name]["schema"])
    places = {
        name.split()[1]: part for name, part in parameters.items() if name.startswith("path ")
    }
    assert list(places) == known.places
    assert (f"header {Header.KEY}" in parameters) is known.keyed
    sent = about.get("requestBody", {}).get("content", {})
    assert bodies(sent) == [named(known.body)] if known.body else not sent
    given = bodies(about["responses"][str(known.statuses[0])].get("content", {}))
    assert named(known.answer) in given if known.answer is not type(None) else not given


def named(kind) -> str:
    """A body in the words of `bodies`."""
    if typing.get_origin(kind) is list:
        return f"list of {typing.get_args(kind)[0].__name__}"
    return "bytes" if kind in (bytes, File, Voxels) else kind.__name__


def bodies(content) -> list[str]:
    found = []
    for about in content.values():
        shape = about["schema"]
        name = shape.get("items", shape).get("$ref", "").rsplit("/", 1)[-1]
        if shape.get("format") == "binary":
            name = "bytes"
        found.append(f"list of {name}" if shape.get("type") == "array" else name)
    return found


def types_of(kind) -> set[str]:
    return {IN_WORDS[part] for part in (typing.get_args(kind) or (kind,)) if part in IN_WORDS}


def types_in(schema) -> set[str]:
    return {part.get("type") for part in (schema, *schema.get("anyOf", ()))}


def test_an_operation_that_is_one_request_is_a_call_of_the_agent_without_further_code():
    plain = {name for name, known in OPERATIONS.items() if known.plain}
    assert plain <= set(CALLS)
    for name in plain - {"add_case", "set_status"}:  # of these the agent does more
        kinds = [
            [(part.name, part.type, part.default) for part in dataclasses.fields(shape)]
            for shape in (CALLS[name].arguments, OPERATIONS[name].arguments())
        ]
        assert kinds[0] == kinds[1]


def test_an_argument_that_is_missing_or_unknown_is_named():
    with pytest.raises(TypeError, match="rounds needs the argument 'project'"):
        Operations.rounds.split({})
    with pytest.raises(TypeError, match="rounds knows no argument 'color'"):
        Operations.rounds.split({"project": "p", "color": 1})
    with pytest.raises(TypeError, match="author"):
        Operations.lease.split({"project": "p", "sample": 1})


def test_a_name_in_a_path_leads_nowhere_else():
    assert Operations.project.split({"project": "../x y"})[0] == "/projects/..%2Fx%20y"
