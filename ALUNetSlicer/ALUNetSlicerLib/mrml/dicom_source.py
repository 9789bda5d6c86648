"""Where a volume of the scene comes from, as Slicer's DICOM database knows it. Of DICOM it gives
UIDs and a folder, and nothing else.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import slicer

from alunet.schema import DicomIdentity

_INSTANCES = "DICOM.instanceUIDs"
"""Attribute of volume nodes that Slicer's DICOM module loaded."""
_SERIES, _FRAME_OF_REFERENCE = "0020,000E", "0020,0052"
_UID = re.compile(r"[0-9][0-9.]{0,63}")


def identity_of(volume: Any) -> DicomIdentity | None:
    """Return the UIDs of the series that a volume node was loaded from; None for no DICOM."""
    uids = _instances(volume)
    if not uids:
        return None
    series, frame = (_value(uids[0], tag) for tag in (_SERIES, _FRAME_OF_REFERENCE))
    return DicomIdentity(series, uids, frame)


def source_folder(volume: Any | None) -> Path | None:
    """Return the folder that holds the DICOM files of a volume node; None where that is not
    known.
    """
    database = _database()
    uids = [] if volume is None else _instances(volume)
    if database is None or not uids:
        return None
    files = [str(database.fileForInstance(uid) or "") for uid in uids]
    if not all(file and Path(file).is_file() for file in files):
        return None
    return Path(os.path.commonpath([str(Path(file).parent) for file in files]))


def _instances(volume: Any) -> list[str]:
    found = (volume.GetAttribute(_INSTANCES) or "").split()
    return list(dict.fromkeys(uid for uid in found if _UID.fullmatch(uid)))


def _value(instance: str, tag: str) -> str:
    database = _database()
    text = "" if database is None else str(database.instanceValue(instance, tag) or "").strip()
    return text if _UID.fullmatch(text) else ""


def _database() -> Any | None:
    """Slicer's; None where it has none or none is open."""
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None
