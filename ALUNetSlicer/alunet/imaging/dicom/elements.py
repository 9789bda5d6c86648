"""Attributes of DICOM files, read one by one and checked: whatever is wrong is one InputError."""

from __future__ import annotations

import contextlib
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alunet.errors import AlunetError, InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

COPY_AGAIN = "Copy or export the file again."
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # single and double precision, integers
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MOST_INFLATED = 1 << 31  # bytes of a deflated file, unpacked
_LONG_HEADERS = ("OB", "OW", "OF", "OD", "UN")


@dataclass(frozen=True)
class DicomHeader:
    """What of a file comes before its voxels.

    Attributes:
        path: the file.
        dataset: the attributes that were asked for, no others.
        pixel_bytes: length of the voxels as declared; None without voxels, -1 where they are
            compressed.
        room: bytes that the file has for them.
    """

    path: Path
    dataset: Dataset
    pixel_bytes: int | None
    room: int


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn whatever pydicom, highdicom or a codec raises into one InputError; keep them quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except AlunetError:
        raise
    except OSError as error:
        reason = error.strerror or "it ends too early"
        raise InputError(
            f"{path} cannot be read: {reason}.", "Give a file that you may read."
        ) from error
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory.", "Use a machine with more.") from error
    except Exception as error:  # damaged bytes make these libraries raise nearly anything
        kind = type(error).__name__
        raise InputError(
            f"{path} is damaged: its content makes no sense ({kind}).", COPY_AGAIN
        ) from error


def is_dicom(path: Path) -> bool:
    """Return whether a file says that it is DICOM, with or without the preamble of 128 bytes."""
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[128:] == b"DICM":
        return True
    # Without preamble a file starts with group 2 or 8; the first elements are short.
    return len(head) > 16 and head[:2] in (b"\x02\0", b"\x08\0") and head[3] == 0 and head[2] < 0x20


def has_preamble(path: Path) -> bool:
    """Return whether a file surely means to be DICOM: "DICM" after 128 bytes, or unreadable."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return True


def read_header(path: Path, keywords: Sequence[str]) -> DicomHeader:
    """Read the named attributes of a file up to its voxels.

    Raises:
        InputError: the file is no DICOM file, damaged, or may not be read.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_partial

    found: list[tuple[str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            found.append((vr, length))
        return tag in _PIXELS

    tags: list[Any] = [tag_for_keyword(keyword) for keyword in keywords]
    with guarded(path), path.open("rb") as stream:
        _check_deflated(path)
        dataset = read_partial(stream, at_pixels, force=True, specific_tags=tags)
        size = path.stat().st_size
        if not found:
            return DicomHeader(path, dataset, None, 0)
        vr, length = found[-1]
        if stream.tell() >= size:  # unpacked by pydicom: nothing of the file is left to compare
            return DicomHeader(path, dataset, length, length)
        room = size - stream.tell() - (12 if vr in _LONG_HEADERS else 8)
        return DicomHeader(path, dataset, -1 if length == 0xFFFFFFFF else length, room)


def read_whole(path: Path, keywords: Sequence[str]) -> Dataset:
    """Read the named attributes of a file, its voxels too where they are named.

    Raises:
        InputError: as `read_header`.
    """
    from pydicom import dcmread

    with guarded(path):
        _check_deflated(path)
        return dcmread(path, force=True, specific_tags=list(keywords))


def _check_deflated(path: Path) -> None:
    """Raise InputError where a small deflated file would fill the memory."""
    with path.open("rb") as stream:
        head = stream.read(4096)
        if _DEFLATED not in head or head[132:136] != b"\x02\0\0\0":
            return
        stream.seek(144 + int.from_bytes(head[140:144], "little"))
        machine, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
        packed = stream.read(1 << 16)
        while packed and not machine.eof:
            length += len(machine.decompress(packed, 1 << 22))
            if length > _MOST_INFLATED:
                most = f"{_MOST_INFLATED >> 20} MiB"
                raise InputError(
                    f"{path} unpacks to more than {most}.", "Store it without deflation."
                )
            packed = machine.unconsumed_tail or stream.read(1 << 16)


def word(dataset: Dataset, keyword: str) -> str:
    """Return a text, several values joined by a backslash; empty where it is missing."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, (str, bytes, int, float)):
        return plain(value)
    return "\\".join(plain(part) for part in value)


def plain(value: object) -> str:
    """Return the printable characters of a value: a damaged one breaks no line of a message."""
    return "".join(character for character in str(value) if character.isprintable()).strip()


def is_uid(text: str) -> bool:
    """Return whether a text is made as a UID is: up to 64 digits and points."""
    return re.fullmatch(r"[0-9][0-9.]{0,63}", text) is not None


def uid(dataset: Dataset, keyword: str, where: Path) -> str:
    """Return a UID.

    Raises:
        InputError: it is missing or no UID.
    """
    text = word(dataset, keyword)
    if not is_uid(text):
        what = f"'{text:.70}' is none" if text else "it is missing"
        raise InputError(f"{where} has no usable {keyword}: {what}.", COPY_AGAIN)
    return text


def any_uid(dataset: Dataset, keyword: str) -> str:
    """Return a UID, or an empty string where there is no usable one."""
    text = word(dataset, keyword)
    return text if is_uid(text) else ""


def numbers(
    dataset: Dataset | None, keyword: str, count: int, where: Path
) -> tuple[float, ...] | None:
    """Return so many finite numbers, or None where the attribute is missing or empty.

    Raises:
        InputError: there are more or fewer, or they are no finite numbers.
    """
    value = None if dataset is None else dataset.get(keyword)
    if value is None or value == "":
        return None
    parts = list(value) if not isinstance(value, (str, int, float)) else [value]
    if not parts:
        return None
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if len(found) != count or not np.isfinite(found).all() or max(map(abs, found)) > 1e12:
        text = "\\".join(map(plain, parts))
        raise InputError(
            f"{where} has the {keyword} '{text:.70}': {count} numbers are needed.", COPY_AGAIN
        )
    return found


def number(dataset: Dataset | None, keyword: str, default: float, where: Path) -> float:
    """Return one finite number, or the default where the attribute is missing.

    Raises:
        InputError: it is no finite number.
    """
    found = numbers(dataset, keyword, 1, where)
    return default if found is None else found[0]


def whole(dataset: Dataset, keyword: str, default: int, where: Path) -> int:
    """Return one whole number from 0 on, or the default where the attribute is missing.

    Raises:
        InputError: it is another number.
    """
    found = number(dataset, keyword, default, where)
    if found < 0 or found != int(found):
        raise InputError(
            f"{where} has the {keyword} {found:g}: a whole number is needed.", COPY_AGAIN
        )
    return int(found)


def items(dataset: Dataset | None, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none where it is missing or no sequence."""
    value = None if dataset is None else dataset.get(keyword)
    if value is None or isinstance(value, (str, bytes, int, float)):
        return []
    return [entry for entry in value if _is_item(entry)]


def _is_item(value: object) -> bool:
    from pydicom.dataset import Dataset

    return isinstance(value, Dataset)


def item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """Return the first item of a sequence, or None."""
    found = items(dataset, keyword)
    return found[0] if found else None
