"""Unpacks bodies of requests, and no more of them than they may hold."""

from __future__ import annotations

import zlib

from alunet.errors import InputError


def gunzip(content: bytes, size: int) -> bytes:
    """The content of gzip data that must be `size` bytes long; raises InputError for anything
    else.
    """
    machine = zlib.decompressobj(31)
    try:
        plain = machine.decompress(content, size + 1)
    except zlib.error as error:
        raise InputError("The body is no gzip data.", "Send it again.") from error
    if len(plain) != size or not machine.eof:
        raise InputError(
            f"The body does not hold {size} bytes.", "Send the voxels of the sample's box."
        )
    return plain
