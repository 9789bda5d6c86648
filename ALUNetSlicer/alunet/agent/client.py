"""The typed client of a service, usable from Python on its own: one method for all `Operations`.

client = Client("http://127.0.0.1:8000", token)
client.call(Operations.health).device
client.call(Operations.worklist, project="liver")[0].case
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests

from alunet.agent.http_transport import Cancel, HttpTransport, request_for
from alunet.agent.proven import Tunnel
from alunet.agent.transfer import Progress, download, no_progress, upload
from alunet.schema import (
    EVENT_STREAM,
    File,
    Header,
    NumberedEvent,
    Operation,
    Operations,
    SampleState,
    Upload,
    Voxels,
    from_json,
)

SILENCE_SECONDS = 45.0
"""An event stream that says nothing for so long, not even a heartbeat, is taken for dead."""
Answer = TypeVar("Answer")


class Client:
    """All requests to one service; may be used from several threads.

    Every method raises `Unreachable`, `Stranger`, `ServiceError` or `WrongVersion`; what is safe to
    repeat was repeated before.

    Args:
        base, token, ca, allow_plain, place, direct, tunnel: see `HttpTransport`.
    """

    def __init__(
        self,
        base: str,
        token: str,
        ca: str | None = None,
        allow_plain: bool = False,
        place: str = "",
        direct: bool = False,
        tunnel: Tunnel | None = None,
    ) -> None:
        self.wire = HttpTransport(base, token, ca, allow_plain, place, direct, tunnel)

    def call(self, operation: Operation[Answer], key: str = "", **given: Any) -> Answer:
        """Ask for an operation that is one request with JSON.

        Args:
            key: of an operation that takes one; the same key does it once.
            given: names in the path, parameters of the query, fields of the body.
        """
        return self._call(operation, given, key)

    def _call(
        self, operation: Operation[Answer], given: Mapping[str, Any], key: str, **more: Any
    ) -> Answer:
        headers = dict(more.pop("headers", {}))
        if operation.keyed:
            headers[Header.KEY] = key or str(uuid.uuid4())
        request = request_for(operation, given, data=more.pop("data", None), headers=headers)
        return from_json(operation.answer, self.wire.call(request, **more))

    def upload(
        self, file: Path, progress: Progress = no_progress, cancel: Cancel | None = None
    ) -> Upload:
        """Send a file from where an earlier attempt ended; raises InputError if it isn't
        readable.
        """
        return upload(self.wire, file, progress, cancel or Cancel())

    def fetch(
        self,
        operation: Operation[File],
        target: Path,
        progress: Progress = no_progress,
        cancel: Cancel | None = None,
        **given: Any,
    ) -> Path:
        """Fetch a file.

        Args:
            target: replaced when everything is there and its checksum fits.
            given: see `call`.
        """
        request = request_for(operation, given)
        return download(self.wire, request, target, progress, cancel or Cancel())

    def fetch_voxels(
        self, operation: Operation[Voxels], target: Path, **given: Any
    ) -> dict[str, Any]:
        """Fetch voxels of a sample as a file without header.

        Returns:
            ``shape`` (k, j, i), ``dtype`` and ``version``: of the annotation, or the model's round;
            of a proposal also ``source`` and ``quality``, its expected Dice, else None.
        """
        with self.wire.send(request_for(operation, given)) as answer:
            try:
                target.write_bytes(answer.content)
            except requests.RequestException as error:
                raise self.wire.lost(error) from error
            quality = answer.headers.get(Header.QUALITY)
            return {
                "shape": [int(n) for n in answer.headers[Header.SHAPE].split(",")],
                "dtype": answer.headers[Header.DTYPE],
                "version": int(answer.headers[Header.VERSION]),
                "source": answer.headers.get(Header.SOURCE),
                "quality": None if quality is None else float(quality),
            }

    def put_annotation(
        self, project: str, sample: int, content: dict[str, Any], packed: bytes, key: str
    ) -> SampleState:
        """Send an annotation, once; it is on the engine's disk when this returns.

        Args:
            content: author, seconds, status, base_version, shape, dtype, not_annotated, structures;
                see `outbox.Entry`. An entry of version 1 of the contract has no value for voxels
                that are not annotated.
            packed: gzip of the voxels.
            key: the same for each attempt.
        """
        headers = {
            Header.SHAPE: ",".join(str(n) for n in content["shape"]),
            Header.DTYPE: content["dtype"],
            "Content-Encoding": "gzip",
        }
        if "not_annotated" in content:
            headers[Header.NOT_ANNOTATED] = str(content["not_annotated"])
        if "structures" in content:
            headers[Header.STRUCTURES] = str(content["structures"])
        operation = Operations.put_annotation
        named = {part.name: content[part.name] for part in operation.query if part.name in content}
        given = {"project": project, "sample": sample, **named}
        return self._call(operation, given, key, data=packed, headers=headers, repeat=False)

    def follow(self, project: str, after: int = 0) -> Iterator[NumberedEvent | None]:
        """Events as they happen, one connection long; None now and then, so that one can stop.

        Raises:
            Unreachable: the connection ended; go on with the last number seen.
        """
        given = {"project": project, "after": after}
        request = request_for(Operations.events, given, headers={"Accept": EVENT_STREAM})
        with self.wire.send(request, SILENCE_SECONDS) as answer:
            try:
                for line in _lines(answer):
                    if line.startswith(b"data:"):
                        yield from_json(NumberedEvent, json.loads(line[5:]))
                    else:
                        yield None
            except requests.RequestException as error:
                raise self.wire.lost(error) from error
        raise self.wire.lost(requests.ConnectionError())


def _lines(answer: requests.Response) -> Iterator[bytes]:
    """Lines as they come in; a pause in mid-line keeps none back that is whole."""
    rest = b""
    for block in answer.iter_content(chunk_size=None):
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
