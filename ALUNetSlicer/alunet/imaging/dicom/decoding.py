"""The voxels of one DICOM file, frame by frame, as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.imaging.dicom.codestream import stated_size
from alunet.imaging.dicom.elements import COPY_AGAIN, guarded, read_whole
from alunet.imaging.dicom.gdcm import by_gdcm, one_frame
from alunet.imaging.dicom.pixels import FORMAT_KEYWORDS, PixelFormat, pixel_format

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.pixels.decoders.base import Decoder

Voxels = npt.NDArray[Any]

_KEYWORDS = (
    *FORMAT_KEYWORDS,
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)
_LITTLE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
_BIG = "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"
# JPEG of 12 bits, lossless JPEG, and JPEG-LS: where a stream is cut off, pyjpegls takes 15 seconds
# to say so.
_BY_GDCM = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (51, 57, 70, 80, 81))
# Bytes of an image for each compressed byte: an empty JPEG 2000 image has 5,000.
_MOST_EXPANSION = 20_000


class PixelReader:
    """Gives the frames of one file as they are stored, without slope and intercept.

    Uncompressed, RLE, JPEG (8 and 12 bits, lossless), JPEG-LS, JPEG 2000 and high-throughput JPEG
    2000.

    Raises:
        InputError: the file is damaged or of an unknown compression.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dataset = read_whole(path, _KEYWORDS)
        with guarded(path):
            self.form: PixelFormat = pixel_format(self._dataset, path)
            self._syntax = _transfer_syntax(self._dataset)
            if self._is_packed and self._syntax not in _BY_GDCM:
                _decoder(self._syntax, path)
            self._keyword = next((key for key in _KEYWORDS[-3:] if key in self._dataset), "")
            if not self._keyword or not self._dataset[self._keyword].value:
                raise InputError(f"{path} holds no voxels: it has no pixel data.", COPY_AGAIN)
            self._content: bytes = self._dataset[self._keyword].value
            self._packed = (
                _packed_frames(self._content, self.form, self._dataset) if self._is_packed else []
            )
            self._check_length()

    @property
    def _is_packed(self) -> bool:
        return self._syntax not in (*_LITTLE, _BIG)

    def _check_length(self) -> None:
        form, path = self.form, self._path
        if self._is_packed:
            if len(self._packed) < form.frames:
                raise InputError(
                    f"{path} holds {len(self._packed)} of {form.frames} frames.", COPY_AGAIN
                )
        elif 8 * len(self._content) < form.frame_bits * form.frames:
            need = (form.frame_bits * form.frames + 7) // 8
            raise InputError(
                f"{path} is cut off: {len(self._content)} of {need} bytes of voxels.", COPY_AGAIN
            )

    def frame(self, index: int) -> Voxels:
        """Return the frame of this number, axes (row, column).

        Raises:
            InputError: it is damaged.
        """
        with guarded(self._path):
            array = self._unpacked(index) if self._is_packed else self._plain(index)
            if array.shape != (self.form.rows, self.form.columns):
                raise InputError(
                    f"{self._path}: frame {index + 1} has the shape {array.shape}.", COPY_AGAIN
                )
            return array if array.dtype.kind == "f" else self._stored_bits(array)

    def _plain(self, index: int) -> Voxels:
        form = self.form
        count = form.rows * form.columns
        if form.allocated == 1:
            first = index * count
            last = first + count
            part = np.frombuffer(self._content[first // 8 : (last + 7) // 8], np.uint8)
            bits = np.unpackbits(part, bitorder="little")[first % 8 : first % 8 + count]
            return bits.reshape(form.rows, form.columns)
        kind = "f" if self._keyword != "PixelData" else "i" if form.signed else "u"
        order = ">" if self._syntax == _BIG else "<"
        if order == ">" and form.allocated == 8:
            raise InputError(
                f"{self._path} stores 8 bits in big-endian words.", "Export it as little-endian."
            )
        size = form.allocated // 8
        part = np.frombuffer(self._content, f"{order}{kind}{size}", count, index * count * size)
        return part.reshape(form.rows, form.columns).astype(part.dtype.newbyteorder("="))

    def _unpacked(self, index: int) -> Voxels:
        stream, form = self._packed[index], self.form
        size = stated_size(stream)
        if size is None and self._syntax != _RLE:
            raise InputError(
                f"{self._path}: frame {index + 1} is no image in its compression.", COPY_AGAIN
            )
        if size not in (
            None,
            (form.columns, form.rows),
        ) or form.frame_bits > 8 * _MOST_EXPANSION * len(stream):
            raise InputError(
                f"{self._path} declares {form.columns} x {form.rows} pixels, "
                f"which frame {index + 1} does not hold.",
                COPY_AGAIN,
            )
        if self._syntax in _BY_GDCM:
            if not stream.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise InputError(f"{self._path}: frame {index + 1} is cut off.", COPY_AGAIN)
            return by_gdcm(stream, self._syntax, form, self._path)
        return _by_pydicom(stream, self._syntax, form, self._path)

    def _stored_bits(self, array: Voxels) -> Voxels:
        """Drop the bits above those that count (overlays), and keep the sign."""
        spare = 8 * array.dtype.itemsize - self.form.stored
        if self.form.allocated == 1 or spare <= 0:
            return array
        if self.form.signed:
            signed = array.astype(f"i{array.dtype.itemsize}", copy=False)
            kept: Voxels = (signed << spare) >> spare
            return kept
        mask = (1 << self.form.stored) - 1
        kept = array & array.dtype.type(mask)
        return kept


def _transfer_syntax(dataset: Dataset) -> str:
    named = str(getattr(dataset.file_meta, "TransferSyntaxUID", "") or "")
    if named:
        return named
    little = dataset.original_encoding[1]
    return _LITTLE[0] if little or little is None else _BIG


def _packed_frames(content: bytes, form: PixelFormat, dataset: Dataset) -> list[bytes]:
    """Return the compressed stream of each frame."""
    from pydicom.encaps import generate_frames

    table = None
    offsets, lengths = (
        dataset.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    )
    if isinstance(offsets, bytes) and isinstance(lengths, bytes):
        table = (offsets, lengths)
    made = []
    for frame in generate_frames(content, number_of_frames=form.frames, extended_offsets=table):
        made.append(frame)
        if len(made) >= form.frames:
            break
    return made


def _decoder(syntax: str, path: Path) -> Decoder:
    """Return the decoder of a compression; raise InputError with its name if there is none."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = UID(syntax).name
    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as error:
        raise InputError(
            f"{path} is compressed in a way that cannot be read ({name}).",
            "Export it without compression.",
        ) from error
    if not decoder.is_available:
        raise InputError(f"{path} needs a decoder for {name}.", "Export it without compression.")
    return decoder


def _by_pydicom(stream: bytes, syntax: str, form: PixelFormat, path: Path) -> Voxels:
    decoder = _decoder(syntax, path)
    known = ("pylibjpeg", "pydicom", "pillow")
    plugin = next((name for name in known if name in decoder.available_plugins), "")
    voxels: Voxels
    voxels, _ = decoder.as_array(
        one_frame(stream, syntax, form), index=0, raw=True, decoding_plugin=plugin
    )
    return voxels
