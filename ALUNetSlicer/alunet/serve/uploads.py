"""Uploads: files that arrive in parts, go on after a cut, and count only when their checksum
fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from alunet.errors import InputError
from alunet.imaging.dicom.elements import has_preamble
from alunet.imaging.reading import ENDINGS, PAIRS, ending_of
from alunet.schema import PART_BYTES, SEGMENTATION_ENDING, Code, Upload, UploadRequest, to_json
from alunet.serve.problems import Refused
from alunet.serve.settings import ServiceSettings
from alunet.storage.files import sha256_file, write_json
from alunet.storage.locks import FileLock

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ACCEPTED = (*(ending for ending in ENDINGS if ending not in PAIRS), SEGMENTATION_ENDING)


class Uploads:
    """All uploads of a service, each a file named by its content, with its description beside it.

    The number of bytes that are there is the size of the file: a part that a crash cut short is
    sent again from there.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings, self._folder = settings, settings.own / "uploads"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._sizes: dict[str, int] = {}

    def begin(self, request: UploadRequest) -> tuple[Upload, bool]:
        """The upload of these bytes, and whether it is new.

        Raises:
            InputError: the description is impossible, or the form of the file is not accepted.
            Refused: it is too large, there are too many, or there is no space for it.
        """
        limits, sha256 = self._settings.limits, request.sha256.lower()
        ending = ending_of(Path("x" + request.filename[-20:]))
        if ending not in _ACCEPTED:
            raise InputError(
                "A file of this form is not accepted.", f"Send one of {', '.join(_ACCEPTED)}."
            )
        if not _SHA256.fullmatch(sha256) or request.size < 1:
            raise InputError(
                "An upload needs its size and its SHA-256.", "Send both of the whole file."
            )
        if request.size > limits.upload:
            hint = f"Files of up to {limits.upload} bytes can be sent."
            raise Refused(Code.TOO_LARGE, f"The file has {request.size} bytes.", hint)
        identity = hashlib.sha256(f"{sha256} {request.size} {ending}".encode()).hexdigest()[:32]
        with self._locks[identity]:
            fresh = not self._is_begun(identity)
            if fresh:
                self._check_space(request.size)
                upload = Upload(identity, 0, request.size, sha256)
                write_json(self._note(identity), {**to_json(upload), "ending": ending})
            return self._whole_or_part(identity), fresh

    def get(self, identity: str) -> Upload:
        """How far an upload is; raises Refused where there is none."""
        self._content(identity)  # what was never begun needs no lock
        with self._locks[identity]:
            return self._whole_or_part(identity)

    def _whole_or_part(self, identity: str) -> Upload:
        """How far an upload is. One whose last part came before a crash is checked now: nobody is
        told that bytes are there which were not.
        """
        upload = self._read(identity)
        if upload.offset == upload.size and not self._whole(identity).is_file():
            self._finish(upload)
        return upload

    def append(self, identity: str, offset: int, content: bytes) -> Upload:
        """Adds a part and gives the new state; when this returns the part is on disk.

        Raises:
            InputError: the whole is DICOM (then the upload is dropped).
            Refused: the offset is another one, the part is too large or reaches beyond the end, or
                the checksum of the whole does not fit (then the upload is dropped).
        """
        if len(content) > PART_BYTES:
            raise Refused(
                Code.TOO_LARGE,
                f"A part of {len(content)} bytes.",
                f"Send at most {PART_BYTES} at a time.",
            )
        with self._locks[identity]:
            upload = self._read(identity)
            if offset != upload.offset:
                hint = f"Go on from byte {upload.offset}."
                raise Refused(
                    Code.WRONG_OFFSET, f"Byte {offset} is not next.", hint, offset=upload.offset
                )
            if offset + len(content) > upload.size:
                raise Refused(
                    Code.TOO_LARGE, f"The upload has {upload.size} bytes.", "Send what is missing."
                )
            with self._part(identity).open("ab") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            upload = self._read(identity)
            if upload.offset == upload.size:
                self._finish(upload)
            return upload

    def _finish(self, upload: Upload) -> None:
        part = self._part(upload.id)
        if sha256_file(part) != upload.sha256:
            self.drop(upload.id)
            raise Refused(
                Code.BAD_CHECKSUM, "The bytes do not fit the checksum.", "Send the file again."
            )
        if has_preamble(part):  # whatever it is called, it may hold a patient's name
            self.drop(upload.id)
            raise InputError("The file is DICOM.", "Convert it on your computer, and send that.")
        part.replace(self._whole(upload.id))

    def file(self, identity: str) -> Path:
        """The file of a finished upload; raises Refused where it is not finished or not there."""
        upload, whole = self.get(identity), self._whole(identity)
        if not whole.is_file():
            hint = f"Send the bytes from {upload.offset} on."
            raise Refused(
                Code.INCOMPLETE, f"Of {upload.size} bytes {upload.offset} are there.", hint
            )
        return whole

    def drop(self, identity: str) -> None:
        """Forgets an upload."""
        self._sizes.pop(identity, None)
        for path in self._folder.glob(f"{identity}*"):
            path.unlink(missing_ok=True)

    def _note(self, identity: str) -> Path:
        return self._folder / f"{identity}.json"

    def _part(self, identity: str) -> Path:
        return self._folder / f"{identity}.part"

    def _whole(self, identity: str) -> Path:
        return self._folder / f"{identity}{self._content(identity)['ending']}"

    def _content(self, identity: str) -> dict:
        if _ID.fullmatch(identity):
            # one that is missing or damaged was never begun
            odd = (FileNotFoundError, IsADirectoryError, ValueError, TypeError, LookupError)
            with contextlib.suppress(*odd):
                content = json.loads(self._note(identity).read_text(encoding="utf-8"))
                words = {name: str(content[name]) for name in ("sha256", "ending")}
                return {**words, "size": int(content["size"])}
        raise Refused(
            Code.NOT_FOUND,
            "There is no such upload.",
            "Begin it; unused ones are removed after a week.",
        )

    def _read(self, identity: str) -> Upload:
        content = self._content(identity)
        part = self._part(identity)
        if (self._folder / f"{identity}{content['ending']}").is_file():
            offset = content["size"]
        else:
            offset = part.stat().st_size if part.is_file() else 0
        return Upload(identity, offset, content["size"], content["sha256"])

    def _is_begun(self, identity: str) -> bool:
        with contextlib.suppress(Refused):
            return bool(self._content(identity))
        return False

    def _check_space(self, size: int) -> None:
        limits = self._settings.limits
        there = self._files()
        if len(there) >= limits.uploads:
            raise Refused(
                Code.TOO_MANY,
                f"{len(there)} uploads wait to be used.",
                "Make cases of them first.",
            )
        self._sizes = {one: size for one, size in list(self._sizes.items()) if one in there}
        waiting = sum(self._missing(identity, files) for identity, files in there.items())
        if shutil.disk_usage(self._folder).free - waiting - size < limits.disk_reserve:
            raise Refused(
                Code.DISK_FULL,
                f"There is no space for {size} bytes.",
                "Free some on the engine's disk.",
            )

    def held(self) -> FileLock:
        """A lock of all processes: whoever holds it decides whether uploads are needed still."""
        return FileLock(self._folder / "lock")

    def count(self) -> int:
        """How many uploads were begun and not used up."""
        return len(self._files())

    def unused(self, seconds: float) -> list[str]:
        """Ids of the uploads that were not touched for so long."""
        now = time.time()
        return [
            identity
            for identity, files in self._files().items()
            if now - max(_written(file) for file in files) > seconds
        ]

    def _files(self) -> dict[str, list[os.DirEntry[str]]]:
        """The files of each upload; one may begin meanwhile, and a job may use one up. What a kill
        left beside them is none.
        """
        found: dict[str, list[os.DirEntry[str]]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                identity = entry.name.partition(".")[0]
                if _ID.fullmatch(identity) and entry.is_file():
                    found.setdefault(identity, []).append(entry)
        return found

    def _missing(self, identity: str, files: Iterable[os.DirEntry[str]]) -> int:
        """Bytes of an upload that are still to come."""
        parts = {file.name.partition(".")[2]: file for file in files}
        if "json" not in parts or parts.keys() - {"json", "part"}:
            return 0
        try:
            if identity not in self._sizes:  # of 10,000 uploads not every note is read each time
                self._sizes[identity] = self._content(identity)["size"]
            there = parts["part"].stat().st_size if "part" in parts else 0
        except (Refused, OSError):
            return 0
        return self._sizes[identity] - there


def _written(file: os.DirEntry[str]) -> float:
    """When a file was written last; now, where it is being removed."""
    try:
        return file.stat().st_mtime
    except OSError:
        return time.time()
