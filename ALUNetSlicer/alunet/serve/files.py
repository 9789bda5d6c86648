"""Files on their way out: named by their content, in parts where asked, in the form that is
wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import threading
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request, Response
from fastapi.responses import FileResponse

from alunet.errors import InputError
from alunet.imaging.reading import ending_of, read_image, write_image
from alunet.schema import FILE_FORMATS, Code
from alunet.serve.problems import Refused
from alunet.serve.settings import ServiceSettings
from alunet.serve.unpacked import Place, read_part
from alunet.storage.failures import StorageFailure
from alunet.storage.files import atomic_path, sha256_file

_KNOWN_FILES = 4096
_READ_AT_ONCE, _MADE_AT_ONCE = 4, 2
"""How many large files are read for their checksum, and brought into another form, at once."""
_LARGE_BYTES = 4 << 20
_KEPT_UNPACKED = 8
"""Images of which the voxels lie unpacked; a person works on few at a time."""
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


class Files:
    """Gives out files of projects.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._converted = settings.own / "converted"
        self._converted.mkdir(parents=True, exist_ok=True)
        self._digests: OrderedDict[tuple[str, int, int], str] = OrderedDict()
        self._lock = threading.Lock()
        # Threads for large files, so that they take none from quick requests.
        self._reading = {True: CapacityLimiter(_READ_AT_ONCE)}
        self._making = {True: CapacityLimiter(_MADE_AT_ONCE)}
        self._unpacking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._made_now: dict[str, asyncio.Task[None]] = {}

    async def answer(
        self, request: Request, file: Path, name: str, form: str | None = None
    ) -> Response:
        """The bytes of a file, those asked for.

        Args:
            request: its headers ``Range``, ``If-Range`` and ``If-None-Match`` count.
            file: it exists.
            name: for the client, without ending.
            form: one of `FILE_FORMATS`, None: as it is stored.

        Raises:
            InputError: there is no such form.
            Refused: the range lies outside the file.
        """
        if form is not None:
            file = await self._in_form(file, form)
        tag = f'"{await self.digest(file)}"'
        if tag in [word.strip() for word in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers={"ETag": tag})
        _check_range(request.headers.get("range"), file.stat().st_size)
        ending = ending_of(file) or "".join(file.suffixes[-1:])
        return FileResponse(
            file, 200, {"ETag": tag}, "application/octet-stream", filename=name + ending
        )

    async def digest(self, file: Path) -> str:
        """SHA-256 of a file; read again only when it changed."""
        about = file.stat()
        key = (str(file), about.st_mtime_ns, about.st_size)
        with self._lock:
            if key in self._digests:
                self._digests.move_to_end(key)
                return self._digests[key]
        digest = await run_sync(sha256_file, file, limiter=self._reading.get(_is_large(file)))
        with self._lock:
            self._digests[key] = digest
            if len(self._digests) > _KNOWN_FILES:
                self._digests.popitem(last=False)
        return digest

    def voxels(self, file: Path, place: Place) -> np.ndarray:
        """Voxels at a place of an image file, axes (k, j, i).

        They are unpacked once and read in part after that: a float map compresses badly, and
        unpacking it whole for every slice costs several times what a label map costs.

        Raises:
            InputError: the file is missing or damaged.
        """
        about = file.stat()
        name = hashlib.sha256(f"{file} {about.st_mtime_ns} {about.st_size}".encode()).hexdigest()[
            :32
        ]
        target = self._converted / f"{name}.npy"
        with self._unpacking[name]:  # of this file: others are not waited for
            if target.is_file():
                _note_used(target)
                with contextlib.suppress(InputError):  # a damaged copy is made again
                    return read_part(target, place)
            voxels = sitk.GetArrayFromImage(read_image(file))
            with contextlib.suppress(
                OSError, StorageFailure
            ):  # then it is unpacked again next time
                with atomic_path(target) as temporary:
                    np.save(temporary, voxels)
                self._forget_unpacked()
            return voxels[place]

    def _forget_unpacked(self) -> None:
        """Removes the copies that nobody asked for the longest."""
        copies = sorted(
            self._converted.glob("[0-9a-f]*.npy"),
            key=lambda copy: copy.stat().st_mtime,
            reverse=True,
        )
        for copy in copies[_KEPT_UNPACKED:]:
            with contextlib.suppress(OSError):  # Windows keeps what is being read
                copy.unlink()

    async def _in_form(self, file: Path, form: str) -> Path:
        if form not in FILE_FORMATS:
            raise InputError(
                f"There is no format '{form[:20]}'.", f"Ask for one of {', '.join(FILE_FORMATS)}."
            )
        if ending_of(file) == f".{form}":
            return file
        name = hashlib.sha256(f"{await self.digest(file)} {file.name}".encode()).hexdigest()[:32]
        target = self._converted / f"{name}.{form}"
        _note_used(target)
        if not target.is_file():
            # who asks for the same form meanwhile waits for the same task
            task = self._made_now.get(target.name)
            if task is None:
                threads = self._making.get(_is_large(file))
                task = asyncio.create_task(run_sync(_convert, file, target, limiter=threads))
                self._made_now[target.name] = task
                task.add_done_callback(lambda _: self._made_now.pop(target.name, None))
            await asyncio.shield(task)
        return target


def _note_used(copy: Path) -> None:
    """Keep housekeeping from removing a copy that is being used; where it is gone, make none."""
    with contextlib.suppress(OSError):  # it is gone, or the disk is read-only for now
        os.utime(copy)


def _is_large(file: Path) -> bool:
    return file.stat().st_size > _LARGE_BYTES


def _convert(file: Path, target: Path) -> None:
    """Write an image in the form that the ending of `target` says."""
    image = read_image(file)
    clean = sitk.GetImageFromArray(sitk.GetArrayViewFromImage(image))
    clean.CopyInformation(image)
    write_image(clean, target)


def _check_range(text: str | None, size: int) -> None:
    """Raises Refused for ranges that cannot be served; the framework would answer them in words
    of its own.
    """
    if text is None:
        return
    found = _RANGE.fullmatch(text.replace(" ", ""))
    low, high, last = found.groups() if found else (None, None, None)
    inside = (last is not None and int(last) > 0) or (
        low is not None and int(low) < size and (not high or int(low) <= int(high))
    )
    if not inside:
        raise Refused(
            Code.BAD_RANGE, f"The file has {size} bytes.", "Ask for one range inside it.", size=size
        )
