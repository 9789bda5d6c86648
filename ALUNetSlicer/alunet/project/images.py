"""Image files: read and checked once, then kept without loss as nnU-Net's SimpleITK reader takes them."""

from __future__ import annotations

import re
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.project.files import atomic_path

KEPT_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")
"""Files with these endings are copied byte by byte where they hold one 3D scalar image."""

ENDINGS = (*KEPT_ENDINGS, ".nii", ".nhdr", ".mhd", ".gipl.gz", ".hdr", ".img", ".img.gz")
"""Endings of image files that can be imported."""

EXACT_ENDING = ".mha"
"""What is written here: MetaImage keeps spacing and direction to the last bit, where NRRD mixes the two."""

TOLERANCE = 1e-3
"""Geometries agree up to this part of a voxel."""

_GIPL_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie, in SimpleITK's order (x, y, z) and its coordinates (LPS, mm)."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array, (k, j, i)."""
        return self.size[2], self.size[1], self.size[0]

    def difference(self, other: Grid) -> str:
        """In what two grids disagree, in words with both values; empty where they agree."""
        if self.size != other.size:
            return f"size {_text(other.size)} instead of {_text(self.size)}"
        step = np.array(self.spacing)
        if np.any(np.abs(np.array(other.spacing) - step) > TOLERANCE * step):
            return f"spacing {_text(other.spacing)} instead of {_text(self.spacing)} mm"
        if np.any(np.abs(np.array(other.origin) - self.origin) > TOLERANCE * step.max()):
            return f"origin {_text(other.origin)} instead of {_text(self.origin)} mm"
        if np.any(np.abs(np.array(other.direction) - self.direction) > TOLERANCE):
            return f"direction {_text(other.direction)} instead of {_text(self.direction)}"
        return ""


def _text(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)


def ending_of(path: Path) -> str:
    """The ending of an image file, lower case, or an empty string where it is none of `ENDINGS`."""
    name = path.name.lower()
    return max((ending for ending in ENDINGS if name.endswith(ending)), key=len, default="")


def stem_of(path: Path) -> str:
    """The file name without its image ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def read_image(path: Path) -> sitk.Image:
    """Reads an image file, voxels included.

    Raises:
        InputError: the file is missing, empty, of an unknown form, damaged, or cut off.
    """
    if not path.is_file():
        raise InputError(f"There is no image file {path}.", "Check the path.")
    ending = ending_of(path)
    if not ending:
        raise InputError(f"{path} is no image file that can be read.", f"Use one of {', '.join(ENDINGS)}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes).", "Copy the file again.")
    _check_complete(path, ending)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = _last_words(str(error))
        raise InputError(f"{path} cannot be read: {reason}.", "Copy or convert the file again.") from error


def _last_words(text: str) -> str:
    """What SimpleITK's long messages mean."""
    if "Unable to determine ImageIO" in text:
        return "its content is no image of that form"
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    if not lines or lines[-1].startswith("Reason:"):  # MetaImage gives the system's last error, whatever that was
        return "its voxels are missing or cut off"
    return re.sub(r"^.*(ITK ERROR|sitk::ERROR|\[nrrd\]):?\s*(\w+(\(0x[0-9a-f]+\))?:\s*)?", "", lines[-1])


def _check_complete(path: Path, ending: str) -> None:
    """ITK reads a cut-off NIfTI or GIPL file without a word, so its bytes are counted here."""
    if ending not in (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".gipl", ".gipl.gz"):
        return
    if ending == ".hdr":
        path = next((path.with_suffix(end) for end in (".img", ".img.gz") if path.with_suffix(end).is_file()), path)
    head, length = _measure(path)
    if ending in (".hdr", ".img", ".img.gz"):
        header = path.parent / (stem_of(path) + ".hdr")
        head = header.read_bytes()[:352] if header.is_file() else b""
    need = _gipl_length(head) if "gipl" in ending else _nifti_length(head)
    if length < need:
        raise InputError(f"{path} is cut off: {length} of {need} bytes.", "Copy the file again.")


def _measure(path: Path) -> tuple[bytes, int]:
    """First 352 bytes and length of the content, after decompression (by content, not by name)."""
    head, length = b"", 0
    for block in _content(path):
        head = head if len(head) >= 352 else head + block[:352]
        length += len(block)
    return head[:352], length


def _content(path: Path) -> Iterator[bytes]:
    """The content of a file in blocks, decompressed where it is gzip; damaged parts end it."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        machine = zlib.decompressobj(31)
        while block := stream.read(1 << 20):
            if not packed:
                yield block
                continue
            try:
                while block:
                    yield machine.decompress(block)
                    block = machine.unused_data
                    if machine.eof:
                        machine = zlib.decompressobj(31)
            except zlib.error:
                return


def _nifti_length(head: bytes) -> int:
    """Bytes that a NIfTI or Analyze file with this header must have; 0 where the header is none."""
    if len(head) < 348:
        return 348
    order = "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"
    if struct.unpack(f"{order}i", head[:4])[0] != 348:
        return 0
    dims = struct.unpack(f"{order}8h", head[40:56])
    bits = struct.unpack(f"{order}h", head[72:74])[0]
    offset = struct.unpack(f"{order}f", head[108:112])[0]
    single = head[344:347] == b"n+1"
    voxels = int(np.prod([max(1, extent) for extent in dims[1 : 1 + min(max(dims[0], 0), 7)]], dtype=np.int64))
    return (int(offset) if single else 0) + voxels * bits // 8


def _gipl_length(head: bytes) -> int:
    """Bytes that a GIPL file with this header must have."""
    if len(head) < 256:
        return 256
    *dims, kind = struct.unpack(">5H", head[:10])
    return 256 + int(np.prod([max(1, extent) for extent in dims], dtype=np.int64)) * _GIPL_BYTES.get(kind, 1)


def split_channels(image: sitk.Image, channels: int, path: Path) -> list[sitk.Image]:
    """The 3D scalar images in a file: itself, its components, or its fourth axis where that counts the channels.

    Raises:
        InputError: the file is no 3D image, or its parts are not as many as the project's channels.
    """
    components, dimension, size = image.GetNumberOfComponentsPerPixel(), image.GetDimension(), image.GetSize()
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path} holds complex numbers.", "Store magnitude and phase as channels.")
    if dimension == 4 and components == 1 and size[3] in (1, channels):
        return [image[:, :, :, index] for index in range(size[3])]
    if dimension == 4:
        raise InputError(
            f"{path} is 4D ({_text(size)}), but the project has {channels} channel(s).",
            "Store each time point as a case, or each channel as a file, of its own.",
        )
    if dimension != 3:
        raise InputError(f"{path} is {dimension}D ({_text(size)}).", "Only 3D images can be imported.")
    if components == 1:
        return [image]
    if components != channels:
        raise InputError(f"{path} has {components} components, but the project has {channels} channel(s).")
    return [sitk.VectorIndexSelectionCast(image, index) for index in range(components)]


def check_voxels(image: sitk.Image, path: Path) -> bool:
    """Whether an image holds anything but zeros.

    Raises:
        InputError: voxels are NaN or infinite.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(f"{path} has {bad} voxels that are NaN or infinite.", "Replace them by numbers.")
    return bool(array.any())


def read_label(path: Path, grid: Grid, classes: int) -> tuple[sitk.Image, bool]:
    """Reads the reference segmentation of an image.

    Args:
        path: the file.
        grid: of the image that it belongs to.
        classes: number of classes including the background; values are ``0 … classes - 1``.

    Returns:
        The label map, of an integer type, and whether the file itself is that already.

    Raises:
        InputError: it cannot be read, lies on another grid, or holds other values.
    """
    whole = read_image(path)
    image = split_channels(whole, 1, path)[0]
    difference = grid.difference(Grid.of(image))
    if difference:
        raise InputError(f"Label {path} does not fit its image: {difference}.", "Resample it to the image.")
    values = np.unique(sitk.GetArrayViewFromImage(image))
    real = values.dtype.kind == "f"
    broken = values[~(np.isfinite(values) & (values == np.round(values)))] if real else values[:0]
    if broken.size:
        raise InputError(f"Label {path} holds the value {broken[0]:g}, which is no whole number.")
    if values[0] < 0 or values[-1] >= classes:
        strange = values[0] if values[0] < 0 else values[-1]
        raise InputError(
            f"Label {path} holds the value {strange:g}, but the labels are 0 to {classes - 1}.",
            "Correct the file, or name the structure among the labels.",
        )
    if real:
        image = sitk.Cast(image, sitk.sitkUInt8 if classes <= 256 else sitk.sitkUInt16)
    return image, not real and whole.GetDimension() == 3


def is_kept(path: Path) -> bool:
    """Whether a file is copied byte by byte: one file, of an ending that nnU-Net's reader knows."""
    ending = ending_of(path)
    if ending not in KEPT_ENDINGS:
        return False
    if ending not in (".nrrd", ".mha"):
        return True
    with path.open("rb") as stream:
        header = stream.read(1 << 16).split(b"\n\n")[0].lower()
    if ending == ".nrrd":
        return not re.search(rb"^data ?file:", header, re.MULTILINE)
    return re.search(rb"elementdatafile\s*=\s*local", header) is not None


def write_image(image: sitk.Image, path: Path, *, sync: bool = True) -> None:
    """Writes an image, compressed, whole or not at all; for `sync` see `atomic_path`."""
    with atomic_path(path, sync=sync) as temporary:
        sitk.WriteImage(image, str(temporary), True)


def copy_file(source: Path, target: Path, *, sync: bool = True) -> None:
    """Copies the bytes of a file, whole or not at all; for `sync` see `atomic_path`."""
    with atomic_path(target, sync=sync) as temporary:
        shutil.copyfile(source, temporary)


def read_labels(path: Path) -> np.ndarray:
    """Voxels of a stored label map, axes (k, j, i), uint8 or uint16.

    Raises:
        InputError: the file is missing or damaged.
    """
    array = sitk.GetArrayFromImage(read_image(Path(path)))
    return array.astype(np.uint8 if array.max(initial=0) <= 255 else np.uint16, copy=False)


def write_array(array: np.ndarray, like: Path, path: Path) -> None:
    """Writes an array (k, j, i) with the geometry of the image file `like`."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(like))
    reader.ReadImageInformation()
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(reader.GetSpacing())
    image.SetOrigin(reader.GetOrigin())
    image.SetDirection(reader.GetDirection())
    write_image(image, path)
