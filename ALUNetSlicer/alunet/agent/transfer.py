"""Whole files, up and down: in parts, resumed where the line broke, checked by SHA-256 at the end.

Memory stays below a few parts whatever the file's size. A transfer gives up after a minute without
any progress; what was sent is kept by the service, so that the next attempt goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from alunet.agent.http_transport import (
    Cancel,
    HttpTransport,
    Request,
    ServiceError,
    Unreachable,
    is_code,
    patiently,
    request_for,
)
from alunet.errors import AlunetError, InputError
from alunet.schema import PART_BYTES, Code, Header, Operations, Upload, from_json

Progress = Callable[[str, int, int], None]
"""Gets the phase ("checksum", "upload", "download"), bytes done and bytes in all."""
BLOCK = 2**20
SMALLEST_PART = 2**18


class Damaged(AlunetError):
    """What arrived is not what was sent."""

    code = "bad_checksum"


def no_progress(phase: str, done: int, total: int) -> None:
    """Told to nobody."""


def upload(wire: HttpTransport, file: Path, progress: Progress, cancel: Cancel) -> Upload:
    """Send a file; see `client.Client.upload`."""
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest = _digest(stream, size, progress, cancel)
            about = {"filename": f"image{_ending(file)}", "size": size, "sha256": digest}
            begin = request_for(Operations.begin_upload, about)
            state = from_json(Upload, wire.call(begin, cancel=cancel))
            return _Parts(wire, stream, state, progress, cancel).send()
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror or error}.", "Check the file."
        ) from error


def _ending(file: Path) -> str:
    """The format alone: the rest of a file's name may be a patient's and stays here."""
    return "".join(file.suffixes[-2:] if file.suffix == ".gz" else file.suffixes[-1:])


def _digest(stream: Any, size: int, progress: Progress, cancel: Cancel) -> str:
    digest, done = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        cancel.check()
        digest.update(block)
        done += len(block)
        progress("checksum", done, size)
    return digest.hexdigest()


class _Parts:
    """Sends what is missing of one upload, in parts that take about a second each."""

    def __init__(
        self, wire: HttpTransport, stream: Any, state: Upload, progress: Progress, cancel: Cancel
    ) -> None:
        self._wire, self._stream, self._state = wire, stream, state
        self._progress, self._cancel = progress, cancel
        self._ask = request_for(Operations.upload, {"upload": state.id})
        self._part = 2**20
        self._sure = True

    def send(self) -> Upload:
        """All parts; returns when the service has checked the whole."""
        self._progress("upload", self._state.offset, self._state.size)
        if self._state.offset < self._state.size:
            patiently(self._send_one, lambda: self._state.offset, self._cancel)
        return self._state

    def _send_one(self) -> bool:
        """One part; after a failure the service is asked first how far it got."""
        if not self._sure:
            self._state = from_json(Upload, self._wire.call(self._ask, repeat=False))
            self._sure = True
        else:
            self._sure = False
            self._append()
            self._sure = True
        self._progress("upload", self._state.offset, self._state.size)
        return self._state.offset >= self._state.size

    def _append(self) -> None:
        offset = self._state.offset
        self._stream.seek(offset)
        part = self._stream.read(min(self._part, self._state.size - offset))
        started = time.monotonic()
        try:
            headers = {Header.OFFSET: str(offset)}
            given = {"upload": self._state.id}
            request = request_for(Operations.append, given, data=part, headers=headers)
            answer = self._wire.call(request, repeat=False)
        except ServiceError as error:
            if not is_code(error, Code.WRONG_OFFSET):
                raise
            answer = self._wire.call(self._ask, repeat=False)
        self._state = from_json(Upload, answer)
        seconds = time.monotonic() - started
        if seconds < 1:
            self._part = min(self._part * 2, PART_BYTES)
        elif seconds > 3:
            self._part = max(self._part // 2, SMALLEST_PART)


def download(
    wire: HttpTransport, request: Request, target: Path, progress: Progress, cancel: Cancel
) -> Path:
    """Fetch a file; see `client.Client.fetch`.

    Raises:
        Damaged: the checksum does not fit; nothing is left of it.
    """
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("wb") as stream:
            receiver = _Receiver(wire, request, stream, progress, cancel)
            patiently(receiver.receive, lambda: receiver.done, cancel)
            receiver.check()
        partial.replace(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror or error}.", "Free space there."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return target


class _Receiver:
    """Takes one file in, over as many connections as it needs."""

    def __init__(
        self, wire: HttpTransport, request: Request, stream: Any, progress: Progress, cancel: Cancel
    ) -> None:
        self._wire, self._request, self._stream = wire, request, stream
        self._progress, self._cancel = progress, cancel
        self._etag = ""
        self._start_over()

    def _start_over(self) -> None:
        self._stream.seek(0)
        self._stream.truncate()
        self._digest, self.done = hashlib.sha256(), 0

    def receive(self) -> bool:
        """Everything that one connection gives; returns True, or raises Unreachable where it
        broke.
        """
        request = self._request
        if self.done and self._etag:
            rest = {"Range": f"bytes={self.done}-", "If-Range": self._etag}
            request = replace(request, headers=rest)
        with self._wire.send(request) as answer:
            if answer.status_code != 206 or answer.headers.get("ETag", "") != self._etag:
                self._start_over()
            self._etag = answer.headers.get("ETag", "")
            total = self.done + int(answer.headers.get("Content-Length") or 0)
            try:
                for block in answer.iter_content(BLOCK):
                    self._cancel.check()
                    self._stream.write(block)
                    self._digest.update(block)
                    self.done += len(block)
                    self._progress("download", self.done, total)
            except requests.RequestException as error:
                raise self._wire.lost(error) from error
        if self.done < total:
            raise Unreachable(f"{self._wire.base}: the connection ended early.", "Try again.")
        return True

    def check(self) -> None:
        """Raise `Damaged` where the bytes are not those the service announced."""
        if self._etag.strip('"') != self._digest.hexdigest():
            raise Damaged("The file that arrived is not the one that was sent.", "Fetch it again.")
