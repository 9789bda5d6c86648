"""The process that reads foreign files: one for each file, sandboxed before it opens the file.

`alunet.imaging.foreign` starts it and asks. On Linux it is a server that has everything imported
and forks a process for each file; elsewhere it reads one file after the other. An answer is a
message in JSON, its length before it, and behind it the voxels as they are in memory: nothing that
could run in the process that asked.

The variable `ALUNET_READINGS` names a file to which the server writes what each reading cost.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging import reading, wire
from alunet.imaging.forms import examine
from alunet.imaging.grids import Grid
from alunet.imaging.limits import TooLarge, in_mib, memory_for
from alunet.imaging.sandbox import LINUX, Room, shut_in

LOG = "ALUNET_READINGS"
_NAMES = re.compile(r"Segment(ation)?_?\d*_\w+")  # what a label file says of its values
Array = npt.NDArray[Any]


@dataclass
class Question:
    """What is to be read, and how to answer.

    Attributes:
        path: the file or folder.
        limit: bytes of voxels that it may have.
        about: what else belongs to the question.
        files: how many there are that it may look at.
        largest: bytes of the largest of them.
        room: memory and time of this process.
        tell: says how far the reading is.
        held: owns the memory of the voxels until they are sent.
    """

    path: Path
    limit: int
    about: dict[str, Any]
    files: int
    largest: int
    room: Room
    tell: Callable[[int], None]
    held: list[sitk.Image] = field(default_factory=list)


Answer = tuple[Any, Sequence[Array]]
"""JSON-able data, and arrays."""


def _image(asked: Question) -> Answer:
    """Read an image file, or the series of a DICOM file."""
    series = None
    if reading.ending_of(asked.path):
        image = reading.decode(asked.path, asked.limit, asked.room.allow)
    else:
        from alunet.imaging.dicom.volume import read_series
        from alunet.imaging.dicom_cases import series_of

        asked.room.allow(2 * asked.largest, asked.files)
        found = series_of(asked.path)
        _allow_series(asked, found)
        image, series = read_series(found)
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            f"{asked.path} holds complex numbers.", "Store magnitude and phase as channels."
        )
    keys = [key for key in image.GetMetaDataKeys() if _NAMES.fullmatch(key)]
    about = {
        "components": image.GetNumberOfComponentsPerPixel(),
        "grid": wire.grid_data(Grid.of(image)),
        "entries": {key: image.GetMetaData(key) for key in keys},
        "series": wire.identity_data(series),
    }
    asked.held.append(image)
    return about, [sitk.GetArrayViewFromImage(image)]


def _allow_series(asked: Question, found: Any) -> None:
    voxels = 4 * int(np.prod(found.grid.shape))
    if voxels > asked.limit:
        raise TooLarge(asked.limit)
    asked.room.allow(voxels + 2 * max(file.stat().st_size for file in found.files))


def _grid(asked: Question) -> Answer:
    """Read where the voxels of an image are."""
    examine(asked.path, reading.ending_of(asked.path), asked.limit)
    grid = reading.grid_of(asked.path)
    return wire.grid_data(grid), []


def _sibling(asked: Question) -> Answer:
    """Find the other file of a pair."""
    found = examine(asked.path, reading.ending_of(asked.path), asked.limit)
    return None if found.sibling is None else found.sibling.name, []


def _series(asked: Question) -> Answer:
    """List the DICOM series of a folder."""
    from alunet.imaging.dicom.series import find_series

    asked.room.allow(asked.largest, asked.files)
    return wire.folder_data(find_series(asked.path, asked.tell)), []


def _labels(asked: Question) -> Answer:
    """Read a SEG or RTSTRUCT object."""
    from alunet.imaging.dicom.reading import read_dicom_labels

    grid = wire.grid_from(asked.about["grid"])
    size = int(np.prod(grid.shape))
    asked.room.allow(8 * size + 4 * asked.path.stat().st_size)
    found = read_dicom_labels(asked.path, grid)
    return wire.labels_data(found), found.layers


_READINGS: dict[str, Callable[[Question], Answer]] = {
    "image": _image,
    "grid": _grid,
    "sibling": _sibling,
    "series": _series,
    "labels": _labels,
}


# --- one file -------------------------------------------------------------------------------------


def _read(request: dict[str, Any], room: Room, out: IO[bytes]) -> None:
    """Do what is asked, and answer; whatever a damaged file raises is an answer too."""
    path = Path(request["path"])

    def tell(done: int) -> None:
        _send(out, {"kind": "progress", "done": done})

    limit, files, largest = (int(request[name]) for name in ("limit", "files", "largest"))
    asked = Question(path, limit, request["about"], files, largest, room, tell)
    try:
        with reading.readable(path), _all_imported():
            value, arrays = _READINGS[request["what"]](asked)
    except TooLarge as error:
        _send(out, {"kind": "too large", "message": error.message, "hint": error.hint})
    except InputError as error:
        _send(out, {"kind": "error", "message": error.message, "hint": error.hint})
    except MemoryError:
        message = f"{path} needs more than {in_mib(memory_for(room.size))} of memory."
        hint = f"An image of {in_mib(room.size)} of voxels may take so much. Convert it again."
        _send(out, {"kind": "error", "message": message, "hint": hint})
    except Exception as error:  # noqa: BLE001 - damaged bytes make libraries raise nearly anything
        message = f"{path} is damaged: its content makes no sense ({type(error).__name__})."
        _send(out, {"kind": "error", "message": message, "hint": "Copy the file again."})
    else:
        shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
        _send(out, {"kind": "result", "value": value, "arrays": shapes}, arrays)


@contextlib.contextmanager
def _all_imported() -> Iterator[None]:
    """Report a module that is imported within the sandbox: it is missing in `_import_dicom`."""
    try:
        yield
    except (ImportError, PermissionError) as error:
        name = str(error.filename if isinstance(error, OSError) else error.name)
        if isinstance(error, OSError) and not name.endswith((".py", ".pyc", ".so")):
            raise
        raise InputError(
            f"The reader lacks the module {name}.", "This is a defect; please report it."
        ) from error


def _send(out: IO[bytes], message: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
    content = json.dumps(message).encode()
    out.write(wire.LENGTH.pack(len(content)) + content)
    for array in arrays:
        out.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    out.flush()


_DICOM = (
    "numpy.ma",  # numpy imports it late
    "pydicom.charset",
    "pydicom.pixels.decoders",
    "alunet.imaging.dicom_cases",
    *(f"alunet.imaging.dicom.{name}" for name in ("contours", "gdcm", "reading", "volume")),
)


def _import_dicom() -> None:
    """Import all that reading DICOM needs: nothing can be imported within the sandbox."""
    for name in _DICOM:
        importlib.import_module(name)
    from pydicom.charset import python_encoding
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import AllTransferSyntaxes

    for name in {*python_encoding.values(), "iso2022_jp_2", "euc_kr"}:
        with contextlib.suppress(LookupError):
            codecs.lookup(name)
    for syntax in AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError):
            _ = get_decoder(syntax).is_available


# --- the server, on Linux -------------------------------------------------------------------------


def _receive(control: socket.socket) -> tuple[dict[str, Any], int] | None:
    """Return the next question with the descriptor to answer on; None where there is none."""
    head, descriptors, _, _ = socket.recv_fds(control, wire.LENGTH.size, 1)
    if len(head) < wire.LENGTH.size or len(descriptors) != 1:
        return None
    content = bytearray()
    while len(content) < wire.LENGTH.unpack(head)[0]:
        part = control.recv(wire.LENGTH.unpack(head)[0] - len(content))
        if not part:
            return None
        content += part
    return json.loads(content), descriptors[0]


def _fork(request: dict[str, Any], descriptor: int) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.chdir(request["folder"])
        room = shut_in(map(Path, request["allowed"]), int(request["limit"]), descriptor)
        with os.fdopen(descriptor, "wb") as out:
            _read(request, room, out)
        code = 0
    finally:
        os._exit(code)


def serve(control: socket.socket) -> None:
    """Answer questions, each in a process of its own, until the other side hangs up."""
    ready = False
    gc.freeze()  # so that a fork copies only the memory that it writes to
    while (found := _receive(control)) is not None:
        request, descriptor = found
        if request["dicom"] and not ready:
            _import_dicom()
            ready = True
        process = _fork(request, descriptor)
        os.close(descriptor)
        _, status, usage = os.wait4(process, 0)
        cost = {
            "path": request["path"],
            "what": request["what"],
            "status": status,
            "memory": usage.ru_maxrss << 10,
            "seconds": usage.ru_utime + usage.ru_stime,
        }
        if log := os.environ.get(LOG):
            with Path(log).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(cost) + "\n")
        control.sendall(json.dumps(cost).encode() + b"\n")


def serve_plainly() -> None:
    """Answer the questions that come on standard input, one after the other."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        os.chdir(request["folder"])
        room = Room(int(request["limit"]))
        _read(request, room, out)


def main() -> None:
    """Serve."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if LINUX:
        with socket.socket(fileno=int(sys.argv[1])) as control:
            serve(control)
    else:
        serve_plainly()


if __name__ == "__main__":
    main()
