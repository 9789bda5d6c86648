"""What was read of foreign files, as JSON: from the process that reads to the one that asked.

The reader may have been taken over by a file. So every value is made what it should be, and no file
is named but those below the folder that was asked for.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from alunet.errors import InputError
from alunet.imaging.dicom.frames import Frame
from alunet.imaging.dicom.labels import DicomLabels, DicomSegment
from alunet.imaging.dicom.series import (
    DamagedFile,
    DicomFolder,
    DicomSeries,
    LabelObject,
    SeriesIdentity,
)
from alunet.imaging.grids import Grid

Data = dict[str, Any]
LENGTH = struct.Struct("<Q")
"""Comes before each message: how many bytes it has."""


def grid_data(grid: Grid) -> Data:
    """Return a grid as JSON-able data."""
    return {
        "size": list(grid.size),
        "spacing": list(grid.spacing),
        "origin": list(grid.origin),
        "direction": list(grid.direction),
    }


def grid_from(data: Data) -> Grid:
    """Return the grid of `grid_data`."""
    size, numbers = (
        _numbers(int, data["size"]),
        {key: _numbers(float, data[key]) for key in ("spacing", "origin", "direction")},
    )
    return Grid(size, numbers["spacing"], numbers["origin"], numbers["direction"])


def identity_data(identity: SeriesIdentity | None) -> Data | None:
    """Return UIDs as JSON-able data."""
    if identity is None:
        return None
    uids = identity.series_uid, list(identity.instance_uids), identity.frame_of_reference_uid
    return dict(zip(("series", "instances", "frame"), uids, strict=True))


def identity_from(data: Data | None) -> SeriesIdentity | None:
    """Return the UIDs of `identity_data`."""
    if data is None:
        return None
    return SeriesIdentity(str(data["series"]), _words(data["instances"]), str(data["frame"]))


def labels_data(labels: DicomLabels) -> Data:
    """Return what labels are, without their layers, as JSON-able data."""
    return {
        "grid": grid_data(labels.grid),
        "segments": [[each.name, each.value, each.layer] for each in labels.segments],
        "notes": list(labels.notes),
    }


def labels_from(data: Data, layers: tuple[Any, ...]) -> DicomLabels:
    """Return the labels of `labels_data`: names, values and layers of segments, and notes."""
    segments = tuple(
        DicomSegment(str(name), None, int(layer), int(value))
        for name, value, layer in data["segments"]
    )
    return DicomLabels(
        grid_from(data["grid"]), segments, layers, "", (), notes=_words(data["notes"])
    )


def folder_data(folder: DicomFolder) -> Data:
    """Return what a folder holds as JSON-able data."""
    return {
        "series": [_series_data(series) for series in folder.series],
        "labels": [[str(o.path), o.kind, o.referenced_series_uid] for o in folder.labels],
        "damaged": [[str(d.file), d.message, d.hint] for d in folder.damaged],
        "passed_over": folder.passed_over,
    }


def folder_from(path: Path, data: Data) -> DicomFolder:
    """Return the folder of `folder_data`.

    Raises:
        ValueError: it names a file that is not below `path`.
    """
    return DicomFolder(
        path,
        tuple(_series_from(path, series) for series in data["series"]),
        tuple(LabelObject(_below(path, f), str(kind), str(uid)) for f, kind, uid in data["labels"]),
        tuple(
            DamagedFile(_below(path, file), InputError(str(message), str(hint)))
            for file, message, hint in data["damaged"]
        ),
        int(data["passed_over"]),
    )


def _series_data(series: DicomSeries) -> Data:
    problem = series.problem
    return {
        "uid": series.uid,
        "modality": series.modality,
        "number": series.number,
        "part": series.part,
        "frames": [_frame_data(frame) for frame in series.frames],
        "frame_of_reference_uid": series.frame_of_reference_uid,
        "grid": None if series.grid is None else grid_data(series.grid),
        "problem": None if problem is None else [problem.message, problem.hint],
    }


def _series_from(path: Path, data: Data) -> DicomSeries:
    problem = data["problem"]
    return DicomSeries(
        str(data["uid"]),
        str(data["modality"]),
        None if data["number"] is None else int(data["number"]),
        str(data["part"]),
        tuple(_frame_from(path, frame) for frame in data["frames"]),
        str(data["frame_of_reference_uid"]),
        None if data["grid"] is None else grid_from(data["grid"]),
        None if problem is None else InputError(str(problem[0]), str(problem[1])),
    )


def _frame_data(frame: Frame) -> list[Any]:
    return [
        str(frame.file),
        frame.index,
        frame.instance_uid,
        list(frame.position),
        list(frame.orientation),
        list(frame.spacing),
        list(frame.size),
        frame.thickness,
        list(frame.scale),
        [list(pair) for pair in frame.separating],
    ]


def _frame_from(path: Path, data: list[Any]) -> Frame:
    file, index, uid, position, orientation, spacing, size, thickness, scale, separating = data
    return Frame(
        _below(path, file),
        int(index),
        str(uid),
        _numbers(float, position),
        _numbers(float, orientation),
        _numbers(float, spacing),
        _numbers(int, size),
        float(thickness),
        _numbers(float, scale),
        tuple((str(name), str(value)) for name, value in separating),
    )


def _below(path: Path, text: object) -> Path:
    file = Path(str(text))
    if ".." in file.relative_to(path).parts:
        raise ValueError(f"{file} is not in {path}")
    return file


def _numbers(kind: type[int] | type[float], values: list[Any]) -> Any:
    return tuple(kind(value) for value in values)


def _words(values: list[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
