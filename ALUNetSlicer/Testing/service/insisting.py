"""What a person's client does while a service is killed and started again: what got no answer is
sent again, as it was.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import requests
from running import Service

_TRIES = 1200


def insist(service: Service) -> None:
    """Let a service's clients send again what got no answer."""
    send = service.send

    def insisting(*words: Any, **options: Any) -> requests.Response:
        for _ in range(_TRIES):
            try:
                return send(*words, **options)
            except requests.RequestException:
                time.sleep(0.1)
        raise AssertionError("the service does not come back")

    service.send = insisting


def upload(service: Service, file: Path, part: int) -> str:
    """Send a file in parts, each as often as needed; its id."""
    while True:
        try:
            return service.upload(file, part)
        except AssertionError as error:  # a part arrived, but not its answer
            if "wrong_offset" not in str(error):
                raise


def bring_case(service: Service, project: str, name: str, uploaded: str) -> dict[str, Any]:
    """Ask for a case until it is there; the job that made it."""
    body = {"name": name, "role": "pool", "images": [uploaded], "label": None}
    while True:
        answer = service.send("POST", f"/projects/{project}/cases", json=body)
        assert answer.status_code in (200, 202), answer.text
        job = service.ended(project, answer.json()["id"])
        if job["state"] == "done":
            return job
        assert "died several times" in job["error"]["message"], job


def annotate(service: Service, project: str, row: dict[str, Any], labels: np.ndarray) -> None:
    """Submit labels of a row of the worklist, once."""
    headers = {
        "Idempotency-Key": str(uuid.uuid4()),
        "X-Shape": ",".join(map(str, labels.shape)),
        "X-Dtype": labels.dtype.name,
    }
    query = f"base_version={row['version']}&author=ann&seconds=3"
    place = f"/projects/{project}/samples/{row['sample']}/annotation?{query}"
    answer = service.ok("PUT", place, data=labels.tobytes(), headers=headers)
    assert answer["version"] == row["version"] + 1, "sent again, but done once"


def labels_of(service: Service, project: str, sample: int) -> bytes:
    """The labels that a service has of a sample."""
    answer = service.send("GET", f"/projects/{project}/samples/{sample}/annotation")
    return np.frombuffer(answer.content, np.uint8).tobytes() if answer.ok else b""
