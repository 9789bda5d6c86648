"""Files that were made to read another file, to end the reader, or to take its memory or time.

Each is a file, or a folder, that a person or a program gives as an image. The other file is the
canary: its bytes are known, and must not be in anything that comes back.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SECRET = b"canary: no one may read this. "
PERSON = "SECRET^PATIENT"
"""A patient's name, for files that carry one."""

# A volume of ITK in HDF5 (16 x 16 x 4) whose voxels are in the file "/canarycanary...".
_HDF5 = (
    r"c-rgqaB<`1lHy|G;9!7(|4^Wz3E>++#Si`a_SWCSC5TBuKb|)m8CNg~A!~#IE+z&>1_m}!1|Y@d8R8w5T2!2wpLZ"
    r"B)9#jJ80;t4&MyP}^NP+{X!!tKAJ@q#eR0BT)I{3t)Zw+>mBD#|p7#T$v7?>D=0IC*7Gm9`VN&-0o3=j+v=U`w3x"
    r"|W%V1LzZGpyd#?0x*j<Fbp{`zsTYNEy6}XV(5pBZR$aFa*{F+C`cF$`k0~Scu>ztOE)}!PKJ{NfYDIO4lyDHHDkG"
    r"C7NsVa0P|I`Eh|()2qeKCT#%TYnU@~P1{D<niE_GR=BDO>vf&J91T!$@O1vbLf?y%RjFf@|73`rI$brFxo5AEiP!"
    r"gPixF9J=0cwH75Kci~)>clz88#}wuwlXyHe`gAg#=nkTQK;;X5otc475l$4Z|SaELMBf=<n>|%_a!SbZq`bndzB%"
    r"iYzEOF)Y6#H7BI9Aa#o*N`>f~T9W9JSd#cg8dEt){DKrTiKM-fB+@ycf<b@-Q3<#^`};5=mF|p4>OjC$&qU7xR5U"
    r">OGO&Ws#m!V9Co`!iv8Ym^3{st2DH!S*8tEA#M>EWvP-hRvAS8E8;Aa>GqhJ(_f>AIEM!_f;1*2dTjDk@x3Pu5)f"
    r"DF=j024vgAMB|kk4cj}e8j`R2pY104Id#78_iIFsDTd~?HIc8Gf(L}6D<byH$cN^C=cp$UJ75z$iN2iA0sRbEFd&"
    r"9L;yO_2KOh7#wE@SWHF+J8wjuhX%L@@i3u#s&Y%J2Log%53=IY()d&C^yyt+XMrKBs2;2!!;6T-|(Op}!gpAn*h6"
    r"vh4SJv*zkD~?dC>RB!00ZDEpONP)Ky`mbTylcMO>nu(NDO;4WJkd$7zLwX6pVtw3p`vM13+{ET3>dD2C6#!<ixzh"
    r"qDtD4P<sHy6+z("
)
_HDF5_PLACE = b"/" + b"canary" * 16
_META = [
    "ObjectType = Image",
    "NDims = 3",
    "BinaryData = True",
    "BinaryDataByteOrderMSB = False",
    "CompressedData = False",
    "TransformMatrix = 1 0 0 0 1 0 0 0 1",
    "Offset = 0 0 0",
    "ElementSpacing = 1 1 1",
    "DimSize = 16 16 4",
    "ElementType = MET_UCHAR",
]
_NRRD = [
    "NRRD0004",
    "type: uint8",
    "dimension: 3",
    "sizes: 16 16 4",
    "encoding: raw",
    "space: left-posterior-superior",
    "space directions: (1,0,0) (0,1,0) (0,0,1)",
    "space origin: (0,0,0)",
]
_VOXELS = bytes(range(256)) * 4


def make_canary(folder: Path) -> Path:
    """Write the file that must not be read."""
    canary = folder / "elsewhere" / "canary.raw"
    canary.parent.mkdir(parents=True)
    canary.write_bytes(SECRET * 200)
    return canary


def holds_secret(folder: Path, secret: bytes = SECRET[:16]) -> bool:
    """Return whether a file below a folder holds a text, as it is, unpacked, or as voxels.

    Images are read where a project keeps them; what was uploaded would be read by its header here.
    """
    import SimpleITK as sitk

    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        parts = [file.read_bytes()]
        if file.name.endswith(".gz"):
            with contextlib.suppress(OSError, EOFError, zlib.error):
                parts.append(gzip.decompress(parts[0]))
        elif file.suffix == ".mha" and file.parent.name == "images":
            with contextlib.suppress(RuntimeError):
                parts.append(sitk.GetArrayFromImage(sitk.ReadImage(str(file))).tobytes())
        if any(secret in part or secret in part[::2] for part in parts):
            return True
    return False


def hostile_files(folder: Path, canary: Path) -> list[Path]:
    """Write every hostile file, each in a folder of its own; return what is given as an image."""
    made = []
    pairs = [*_meta(canary), *_nrrd(canary), *_hdf5(canary), *_nifti(), *_greedy(), *_pictures()]
    for number, (name, content) in enumerate(pairs):
        file = folder / f"{number:02d}" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        made.append(file)
    return [*made, *_linked(folder / "linked", canary)]


def _lines(lines: list[str], end: str = "\n") -> bytes:
    return (end.join(lines) + end).encode("latin-1")


def _meta(canary: Path) -> Iterator[tuple[str, bytes]]:
    last = f"ElementDataFile = {canary}"
    for trick in (
        ["Comment = elementdatafile = local", last],
        ["Comment = x", "Name = ElementDataFile = LOCAL", last],
        ["ElementDataFile = LOCAL", last],
        [last, "ElementDataFile = LOCAL"],
        ["ElementDataFile = LIST", str(canary)],
        ["ElementDataFile = LIST 2D", *[str(canary)] * 4],
        [f"elementdatafile = {canary}"],
        [f"ElementDataFile={canary}"],
        [f"ElementDataFile : {canary}"],
        [f"  ElementDataFile\t=\t{canary}"],
        [f"ElementDataFile = {canary.parent}/canary%01d.raw 1 4 1"],
        ["HeaderSize = -1", last],
        ["HeaderSize = 4", "ElementDataFile = LOCAL"],
        [f"ElementDataFile = ../elsewhere/{canary.name}"],
    ):
        yield "c.mha", _lines(_META + trick) + _VOXELS
        yield "c.mhd", _lines(_META + trick) + _VOXELS
    yield "c.mha", _lines([*_META, f"Comment = x\r{last}", "ElementDataFile = LOCAL"]) + _VOXELS
    yield "c.mha", _lines([*_META, last], "\r") + _VOXELS
    packed = ["CompressedData = True" if "Compressed" in line else line for line in _META]
    yield "c.mha", _lines([*packed, "ElementDataFile = LOCAL"])
    yield "c.mha", _lines([*packed, "ElementDataFile = LOCAL"]) + zlib.compress(_VOXELS)[:60]
    wrong = bytearray(zlib.compress(_VOXELS))
    wrong[-1] ^= 1
    yield "c.mha", _lines([*packed, "ElementDataFile = LOCAL"]) + wrong


def _nrrd(canary: Path) -> Iterator[tuple[str, bytes]]:
    named = f"data file: {canary}"
    filled = ["#" + "x" * 1000] * 70
    for trick in (
        [named],
        [f"datafile: {canary}"],
        [f"DATA FILE: {canary}"],
        [f" data file: {canary}"],
        [f"data file:{canary}"],
        ["data file: LIST", str(canary)],
        [f"data file: {canary.parent}/canary%d.raw 1 4 1"],
        [f"data file: SKIPLIST 2\n{canary}"],
        [*filled, named],
        ["key:=value", named],
        [f"content: x\r{named}"],
        [f"key:=x\r{named}"],
        [f"data file: ../elsewhere/{canary.name}"],
    ):
        for ending in (".nrrd", ".seg.nrrd", ".nhdr"):
            yield f"c{ending}", _lines([*_NRRD, *trick, ""]) + _VOXELS
    yield "c.nrrd", _lines([*_NRRD, named, ""], "\r") + _VOXELS
    for field in ("content", "space units", "space directions", "kinds", "labels", "old min"):
        yield "c.nrrd", _lines([*_NRRD, f"{field}: " + '"x" ' * 300, ""]) + _VOXELS
    yield "c.nrrd", _lines([*_NRRD, "units: " + "y" * 100_000, ""]) + _VOXELS


def _hdf5(canary: Path) -> Iterator[tuple[str, bytes]]:
    content = zlib.decompress(base64.b85decode(_HDF5))
    content = content.replace(_HDF5_PLACE, str(canary).encode().ljust(len(_HDF5_PLACE), b"\0"))
    for ending in (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl", ".png", ".tif", ".bmp", ".hdr"):
        yield f"c{ending}", content


def nifti(size: tuple[int, ...], magic: bytes = b"n+1\0") -> bytearray:
    """Return the header of bytes of a size."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(size), *size, *[1] * (7 - len(size)))
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = magic
    return header


def _nifti() -> Iterator[tuple[str, bytes]]:
    size = (16, 16, 4)
    yield "c.nii", bytes(nifti(size, b"ni1\0")) + _VOXELS
    yield "c.nii", bytes(nifti(size, b"\0\0\0\0")) + _VOXELS
    yield "c.hdr", bytes(nifti(size)) + _VOXELS
    wrong = bytearray(gzip.compress(bytes(nifti(size)) + _VOXELS))
    wrong[-6] ^= 1
    yield "c.nii.gz", bytes(wrong)
    later = nifti(size)
    struct.pack_into("<f", later, 108, 1e9)
    yield "c.nii", bytes(later) + _VOXELS


def _greedy() -> Iterator[tuple[str, bytes]]:
    """Small files that declare, or unpack to, very much."""
    large = [line.replace("16 16 4", "2000 2000 1600") for line in _NRRD]
    yield "c.nrrd", _lines([*large, ""]) + _VOXELS
    yield "c.nrrd", _lines([*(line.replace(": raw", ": gzip") for line in large), ""])
    far = [line.replace("16 16 4", "999999999 999999999 999999999") for line in _NRRD]
    yield "c.nrrd", _lines([*far, ""]) + _VOXELS
    meta = [line.replace("16 16 4", "65000 65000 65000") for line in _META]
    yield "c.mha", _lines([*meta, "ElementDataFile = LOCAL"]) + _VOXELS
    yield "c.nii.gz", gzip.compress(bytes(nifti((16384, 16384, 16384))))
    bomb = gzip.compress(bytes(nifti((16, 16, 4))) + bytes(300 << 20), 9)
    yield "c.nii.gz", bomb
    gipl = struct.pack(">5H", 65535, 65535, 65535, 1, 8).ljust(252, b"\0") + b"\xef\xff\xe9\xb0"
    yield "c.gipl", gipl
    yield "c.gipl.gz", gzip.compress(gipl + bytes(1 << 20))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, packed: bytes) -> bytes:
    """Return a gray PNG with packed rows."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [_chunk(b"IHDR", head), _chunk(b"IDAT", packed), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _pictures() -> Iterator[tuple[str, bytes]]:
    yield "c.png", png(65000, 65000, zlib.compress(bytes(100)))
    yield "c.png", png(16, 16, zlib.compress(bytes(100 << 20), 9))
    rows = bytearray(zlib.compress(bytes(17 * 16)))
    rows[-1] ^= 1
    yield "c.png", png(16, 16, bytes(rows))
    for width, height, bits in (
        (1 << 30, 1 << 30, 8),
        (-5, 16, 8),
        (16, -(1 << 31), 24),
        (9, 9, 7),
    ):
        head = struct.pack(
            "<2sIIIIiiHHIIiiII", b"BM", 2000, 0, 54, 40, width, height, 1, bits, *[0] * 6
        )
        yield "c.bmp", head + bytes(2000)
    yield "c.tif", _tiff([(256, 65000), (257, 65000), (258, 8), (259, 1), (273, 8), (279, 100)])
    yield "c.tif", _tiff([(256, 60000), (257, 60000), (258, 8), (259, 8), (273, 8), (279, 100)])
    yield "c.tif", _tiff([(256, 16), (257, 16), (258, 8), (259, 7), (273, 8), (279, 100)])
    circle = bytearray(_tiff([(256, 4), (257, 4), (258, 8), (259, 1), (273, 8), (279, 16)]))
    circle[-4:] = struct.pack("<I", struct.unpack_from("<I", circle, 4)[0])
    yield "c.tif", bytes(circle)


def _tiff(entries: list[tuple[int, int]]) -> bytes:
    data = bytes(120)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    written = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return head + data + struct.pack("<H", len(entries)) + written + bytes(4)


def _linked(folder: Path, canary: Path) -> list[Path]:
    """Pairs whose second file is a link to the canary."""
    folder.mkdir()
    pairs = {
        "a.mhd": ("a.raw", _lines([*_META, "ElementDataFile = a.raw"])),
        "b.nhdr": ("b.raw", _lines([*_NRRD, "data file: b.raw", ""])),
        "d.hdr": ("d.img", bytes(nifti((16, 16, 4), b"ni1\0")[:348])),
    }
    for name, (other, content) in pairs.items():
        (folder / name).write_bytes(content)
        try:
            (folder / other).symlink_to(canary)
        except OSError:  # Windows, without the right to make links
            (folder / name).unlink()
    return [folder / name for name in pairs if (folder / name).exists()]


# --- files that carry a patient's name ------------------------------------------------------------


def named_files(folder: Path) -> list[Path]:
    """Write images that carry a patient's name in every place where their form has one."""
    import SimpleITK as sitk

    folder.mkdir(parents=True)
    voxels = np.random.default_rng(0).integers(0, 255, (4, 16, 16)).astype(np.uint8)
    header = nifti((16, 16, 4))
    name = PERSON.encode()
    for place in (14, 148, 228, 328):  # db_name, descrip, aux_file, intent_name
        header[place : place + len(name)] = name
    header[348:352] = b"\1\0\0\0"  # an extension follows
    extension = struct.pack("<2i", 64, 6) + name.ljust(56, b"\0")
    struct.pack_into("<f", header, 108, 352.0 + 64)
    nii = bytes(header) + extension + voxels.tobytes()
    meta = [*_META, f"Comment = {PERSON}", f"Name = {PERSON}", "ElementDataFile = LOCAL"]
    nrrd = [*_NRRD, f"# {PERSON}", f"content: {PERSON}", f"Patient:={PERSON}", ""]
    made = {
        "a.nii": nii,
        "b.nii.gz": gzip.compress(nii),
        "c.mha": _lines(meta) + voxels.tobytes(),
        "d.nrrd": _lines(nrrd) + voxels.tobytes(),
        "e.png": png(
            16, 16, zlib.compress(b"".join(b"\0" + bytes(row) for row in voxels[0]))
        ).replace(_chunk(b"IEND", b""), _chunk(b"tEXt", b"Author\0" + name) + _chunk(b"IEND", b"")),
    }
    for number, (file, content) in enumerate(made.items()):
        (folder / file).write_bytes(
            content[:-1] + bytes([number]) if number < 4 and number != 1 else content
        )
    image = sitk.GetImageFromArray(voxels[0][::-1])
    sitk.WriteImage(image, str(folder / "f.tif"))
    content = (folder / "f.tif").read_bytes()
    (folder / "f.tif").write_bytes(content + name)
    return [*(folder / file for file in made), folder / "f.tif"]
