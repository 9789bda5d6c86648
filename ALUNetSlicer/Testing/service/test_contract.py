"""Requests drawn from the service's own description, possible and impossible ones: it never
stumbles.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from alunet.schema import API

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")
pytestmark = pytest.mark.slow

EXAMPLES = 25
"""Requests for each address and method, of each kind."""


def test_no_request_makes_the_service_stumble(service, scan, record_property):
    project = service.project()
    service.add_case(project, "a", scan("a.nii.gz"))
    service.ok("POST", f"/projects/{project}/jobs", 202, json={"kind": "plan", "options": {}})
    there = {"project": project, "case": "a", "sample": 0, "job": 1, "channel": 0}
    description = schemathesis.openapi.from_dict(service.ok("GET", "/openapi.json"))
    answers: Counter[int] = Counter()
    for found in description.get_all_operations():
        for mode in schemathesis.GenerationMode:
            answers += ask(service, found.ok(), mode, there)
    record_property("answers", str(dict(answers)))
    assert answers[200] and answers[404] and answers[422] + answers[400]
    assert service.ok("GET", "/health")["api"] == API
    service.ok("GET", f"/projects/{project}")


def ask(service: Any, operation: Any, mode: Any, there: dict[str, Any]) -> Counter[int]:
    """Sends drawn requests of one kind to one address, every other one to what is there; counts
    the statuses.
    """
    answers: Counter[int] = Counter()

    @seed(2026)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def check(case: Any, real: bool) -> None:
        if real and case.path_parameters:
            case.path_parameters.update(
                {name: value for name, value in there.items() if name in case.path_parameters}
            )
        headers = {"Authorization": f"Bearer {service.token}"}
        answer = case.call(base_url=service.announced["address"], headers=headers, timeout=20)
        answers[answer.status_code] += 1
        assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.text}"
        assert b"Traceback" not in answer.content

    wrong = mode is schemathesis.GenerationMode.NEGATIVE
    with suppress(Unsatisfiable) if wrong else nullcontext():
        # an address without parameters cannot be asked wrongly
        check()
    return answers
