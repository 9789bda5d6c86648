"""Every text of every request is text: half of a surrogate pair is refused in one line, wherever
it stands, and two Unicode forms are one name.
"""

from __future__ import annotations

import dataclasses
import json
import typing
import unicodedata
from typing import Any

import pytest
import requests

from alunet.errors import InputError
from alunet.schema import OPERATIONS, Operation
from alunet.schema.names import CASE, PERSON, PROJECT, STRUCTURE, usable_name
from alunet.schema.operations import PLACES

HALF = "a\ud800b"
AS_BYTES = "a%ED%A0%80b"
"""The same, as an address could spell it."""
USUAL = {str: "x", int: 1, float: 1.0, bool: True}


def value_of(kind: Any, text: str) -> Any:
    """A value of a declared type in which every string is `text`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is str or kind is Any:
        return text
    if dataclasses.is_dataclass(kind):
        return body_of(kind, text)
    if origin is list:
        return [value_of(inner[0], text)]
    if origin is dict:
        return {text: value_of(inner[1], text)}
    if inner:  # a union
        return value_of(inner[0], text)
    return USUAL.get(kind) or next(iter(kind)).value


def body_of(kind: Any, text: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {part.name: value_of(hints[part.name], text) for part in dataclasses.fields(kind)}


def with_half(operation: Operation[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Requests of an operation, each with half of a pair at one place: what, address, options."""
    places = {name: "x" if kind is str else 1 for name, kind in PLACES.items()}
    path, found = operation.path.format(**places), []
    for name in operation.places:
        found.append((f"path {name}", operation.path.format(**{**places, name: AS_BYTES}), {}))
    for part in operation.query:
        found.append((f"query {part.name}", f"{path}?{part.name}={AS_BYTES}", {}))
    found.append(("query", f"{path}?{AS_BYTES}=1", {}))
    headers = {"Idempotency-Key": "a\ud800b".encode("utf-8", "surrogatepass")}
    found.append(("header", path, {"headers": headers}))
    if dataclasses.is_dataclass(operation.body):
        hints, whole = typing.get_type_hints(operation.body), body_of(operation.body, "x")
        for part in dataclasses.fields(operation.body):
            body = {**whole, part.name: value_of(hints[part.name], HALF)}
            if body != whole:
                found.append((f"body {part.name}", path, {"json": body}))
                raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
                for encoded in (raw, json.dumps(body).encode("utf-16")):
                    options = {"data": encoded, "headers": {"Content-Type": "application/json"}}
                    found.append((f"body {part.name}, raw", path, options))
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_half_of_a_surrogate_pair_is_refused_in_every_place(common, name):
    operation = OPERATIONS[name]
    for what, path, options in with_half(operation):
        options.setdefault("headers", {})["Authorization"] = f"Bearer {common.token}"
        session = requests.Session()
        request = requests.Request(operation.method, common.url + path, **options).prepare()
        request.url = common.url + path  # requests would mend it
        answer = session.send(request, timeout=20)
        assert answer.status_code in (400, 422), f"{what}: {answer.status_code} {answer.text}"
        problem = answer.json()
        assert problem["message"] and "\n" not in problem["message"] + problem["hint"], what
    assert common.ok("GET", "/health")["stuck"] == []


def test_two_unicode_forms_are_one_name_over_http(common, scan):
    apart, one = (unicodedata.normalize(form, "Müller é") for form in ("NFD", "NFC"))
    project = common.project(apart)
    assert common.project(one) == project
    assert common.ok("GET", f"/projects/{project}")["name"] == one
    body = {"name": apart, "role": "pool", "images": [common.upload(scan("a.nii.gz"))]}
    made = common.imported(project, body)
    assert made["state"] == "done" and made["options"]["name"] == one
    assert common.ok("GET", f"/projects/{project}/cases/{apart}")["name"] == one
    same = common.ok("POST", f"/projects/{project}/cases", 200, json={**body, "name": one})
    assert same["id"] == made["id"]


IN_FILES = ["CON", "nul.nii", "COM1", "com¹.a", "aux .v2", "lpt9", "tmp-1", "TMP-x", ".hidden"]
IN_FILES += ["end.", "end ", " begin", "images", "Annotations", "project.db", "rounds"]
NO_TEXT = ["", " ", HALF, "a\0b", "a\nb", "\x7f", "x" * 200]


@pytest.mark.parametrize("name", [*IN_FILES, *NO_TEXT])
def test_what_no_project_and_no_case_can_be_called(name):
    for kind in (PROJECT, CASE):
        with pytest.raises(InputError, match="cannot be the name of") as refused:
            usable_name(name, kind)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", NO_TEXT)
def test_what_no_structure_and_no_person_can_be_called(name):
    for kind in (STRUCTURE, PERSON):
        with pytest.raises(InputError, match="cannot be the name of"):
            usable_name(name, kind)


@pytest.mark.parametrize("name", ["Con O'Neill", "tmp", "CONtrol", "Löwe 1", "肝臓", "v1.2"])
def test_names_that_are_only_like_those(name):
    for kind in (PROJECT, CASE, STRUCTURE, PERSON):
        assert usable_name(unicodedata.normalize("NFD", name), kind) == name


def test_a_project_is_called_by_the_rule_whatever_way_it_comes(common):
    request = {"labels": ["liver"], "channels": ["CT"]}
    for name in IN_FILES:
        common.refused("POST", "/projects", 400, "bad_request", json={**request, "name": name})
    bad = {**request, "name": "ok", "labels": ["a\nb"]}
    common.refused("POST", "/projects", 400, "bad_request", json=bad)
