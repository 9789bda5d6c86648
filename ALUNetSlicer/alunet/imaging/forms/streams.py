"""Packed voxels, unpacked block by block to count them and to verify their checksum."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from alunet.errors import InputError

BLOCK = 1 << 20
_WRONG = "its packed voxels do not fit their checksum"
Hear = Callable[[bytes], None]
"""Gets the unpacked voxels, block by block."""
COPY_AGAIN = "Copy the file again."


def cut_off(path: Path, found: int, need: int) -> InputError:
    """Return the error for a file that holds fewer bytes than its header declares."""
    return InputError(f"{path} is cut off: {found} of {need} bytes.", COPY_AGAIN)


def damaged(path: Path, why: str) -> InputError:
    """Return the error for a file whose content contradicts itself."""
    return InputError(f"{path} is damaged: {why}.", COPY_AGAIN)


def odd(path: Path, why: str) -> InputError:
    """Return the error for a header that no program writes, or that names another file."""
    return InputError(f"{path} cannot be read: {why}.", "Convert the file again.")


@dataclass
class Count:
    """What was found in a packed stream.

    Attributes:
        length: bytes after unpacking.
        whole: whether it ended where a stream ends, with the right checksum.
        beyond: whether it holds more than was asked for; it was not read further then.
        wrong: whether it does not fit its checksum.
    """

    length: int = 0
    whole: bool = True
    beyond: bool = False
    wrong: bool = False


def is_gzip(path: Path) -> bool:
    """Return whether a file begins as gzip data do, whatever it is called."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def unpacked(stream: IO[bytes], wbits: int, most: int, count: Count) -> Iterator[bytes]:
    """Yield what gzip (31) or zlib (15) data hold, at most a block at a time, never beyond `most`.

    A damaged part ends it; `count` says what was found.
    """
    machine = zlib.decompressobj(wbits)
    count.whole = False
    first = True
    while block := stream.read(BLOCK):
        while block:
            try:
                content = machine.decompress(block, BLOCK)
            except zlib.error as error:
                count.wrong = "data check" in str(error)
                # what follows a whole gzip file and is none is passed over, as gzip does
                count.whole = count.whole and not first
                return
            first = False
            count.length += len(content)
            count.whole = machine.eof
            if count.length > most:
                count.beyond = True
                return
            yield content
            block = machine.unconsumed_tail or machine.unused_data
            if machine.eof:
                if wbits < 16 or not block:
                    break
                machine, first = zlib.decompressobj(wbits), True  # gzip files may be put together
        if machine.eof:
            if wbits < 16:
                return
            machine, first = zlib.decompressobj(wbits), True


def first_bytes(path: Path, length: int) -> bytes:
    """Return the first bytes of a file, unpacked; fewer where it has fewer.

    Raises:
        InputError: it is packed, and does not fit its checksum.
    """
    with path.open("rb") as stream:
        if not is_gzip(path):
            return stream.read(length)
        head, count = b"", Count()
        for block in unpacked(stream, 31, 2 * BLOCK, count):
            head += block
            if len(head) >= length:
                break
    if count.wrong:
        raise damaged(path, _WRONG)
    return head[:length]


def _bunzipped(stream: IO[bytes], most: int, count: Count) -> Iterator[bytes]:
    machine = bz2.BZ2Decompressor()
    count.whole = False
    while not machine.eof:
        block = stream.read(BLOCK) if machine.needs_input else b""
        if machine.needs_input and not block:
            return
        try:
            content = machine.decompress(block, BLOCK)
        except (OSError, ValueError):
            return
        count.length += len(content)
        if count.length > most:
            count.beyond = True
            return
        yield content
    count.whole = True


def verify(
    path: Path, stream: IO[bytes], kind: int | str, need: int, most: int, hear: Hear | None = None
) -> None:
    """Read packed voxels to their end without keeping them.

    Args:
        path: for the words.
        stream: positioned at their first byte.
        kind: "bz2", or zlib's number of the form (15: zlib, 31: gzip).
        need: bytes that must be there; `most`: bytes that may be there.
        hear: gets each block.

    Raises:
        InputError: they are too few or too many, or do not fit their checksum.
    """
    count = Count()
    blocks = (
        _bunzipped(stream, most, count)
        if isinstance(kind, str)
        else unpacked(stream, kind, most, count)
    )
    for block in blocks:
        if hear is not None:
            hear(block)
    if count.beyond:
        raise damaged(path, f"it unpacks to more than the {need} bytes that its header declares")
    if count.length < need and not count.wrong:
        raise cut_off(path, count.length, need)
    if not count.whole:
        raise damaged(path, _WRONG)
