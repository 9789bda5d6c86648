"""Commands, options, requests and fields that people and programs rely on stay; new ones may
come.
"""

from __future__ import annotations

import copy

import pytest
from recorded import interface

HOW = (
    "Where that is meant, record it in a commit of its own that says why: "
    "python ALUNetSlicer/Testing/recorded/record.py {}"
)


@pytest.fixture(scope="module", params=["help", "openapi"])
def what(request):
    return request.param


def test_nothing_recorded_has_gone_or_changed(what):
    found = interface.differences(what, interface.recorded(what), interface.present(what))
    assert not found, "\n".join([*found, HOW.format(what)])


def changed(what, change):
    """What is said where `change` has been made to the recorded interface."""
    old = interface.recorded(what)
    new = copy.deepcopy(old)
    change(new)
    return interface.differences(what, old, new)


PLACE = "/v1/projects/{project}/worklist"
OPTION = {"required": False}


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("help", lambda new: new.update({"alunet review": {"help": "", "parameters": {}}})),
        ("help", lambda new: new["alunet suggest"]["parameters"].update({"--later": OPTION})),
        ("openapi", lambda new: new["paths"].update({"/v1/later": {}})),
        (
            "openapi",
            lambda new: new["paths"][PLACE]["get"]["parameters"].update({"query author": OPTION}),
        ),
        ("openapi", lambda new: new["components"]["schemas"]["Status"]["enum"].append("reviewed")),
        (
            "openapi",
            lambda new: new["components"]["schemas"]["WorkRow"]["properties"].update(
                {"effort": {}}
            ),
        ),
        (
            "openapi",
            lambda new: new["components"]["schemas"]["WorkRow"]["required"].append("effort"),
        ),
    ],
)
def test_what_is_added_is_no_difference(what, change):
    assert changed(what, change) == []


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("help", lambda new: new.pop("alunet skip"), "alunet skip has gone"),
        (
            "help",
            lambda new: new["alunet suggest"]["parameters"].pop("--budget"),
            "alunet suggest > parameters > --budget has gone",
        ),
        (
            "help",
            lambda new: new["alunet simulate"]["parameters"]["--rounds"].update(default=4),
            "alunet simulate > parameters > --rounds > default was 3, is 4",
        ),
        (
            "help",
            lambda new: new["alunet suggest"]["parameters"].update({"--who": {"required": True}}),
            "alunet suggest > --who is new and required",
        ),
        ("openapi", lambda new: new["paths"].pop(PLACE), f"paths > {PLACE} has gone"),
        (
            "openapi",
            lambda new: new["components"]["schemas"]["WorkRow"]["properties"].pop("gain"),
            "components > schemas > WorkRow > properties > gain has gone",
        ),
        (
            "openapi",
            lambda new: new["components"]["schemas"]["WorkRow"]["required"].remove("gain"),
            "WorkRow > gain may be missing now",
        ),
        (
            "openapi",
            lambda new: new["components"]["schemas"]["Status"]["enum"].remove("flagged"),
            "components > schemas > Status > enum > flagged has gone",
        ),
        (
            "openapi",
            lambda new: new["components"]["schemas"]["JobRequest"]["required"].append("options"),
            "JobRequest > options is required now",
        ),
    ],
)
def test_what_has_gone_or_changed_or_is_demanded_is_named(what, change, said):
    assert said in changed(what, change)
