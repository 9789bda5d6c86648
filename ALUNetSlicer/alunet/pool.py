"""The pool: every 2D patch ("sample") that can be suggested, and where it lies in its image.

This is the one place that knows how a tile on nnU-Net's preprocessed grid maps to voxels of the
image file; scoring, oracle and viewer all ask here. Two grids occur:

* the **raw grid** of the image file, axes ``(k, j, i)`` as of `SimpleITK.GetArrayFromImage`;
* the **grid** of nnU-Net's 2D configuration, axes ``(slice, row, column)``: the raw grid after
  ``transpose_forward``, crop to the non-zero region, and resampling of rows and columns alone.

All boxes are half open, ``[lo, hi)``.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError

Column = npt.NDArray[np.int32]
Part = TypeVar("Part")
Range = tuple[int, int]
Box3 = tuple[Range, Range, Range]
Slices3 = tuple[slice, slice, slice]  # named here, since a pool has a column `slice`


def tile_starts(n: int, p: int) -> list[int]:
    """Starts of overlapping tiles along one axis.

    ``k = max(1, ceil((n - p) / (p / 2)) + 1)`` tiles overlap by half a patch or more and are spread
    evenly: ``t_i = round(i (n - p) / (k - 1))``, halves to even. An axis shorter than the patch has
    the one tile ``[0]``.

    Args:
        n: extent of the image in pixels, at least 1.
        p: extent of the patch in pixels, at least 1.

    Raises:
        InputError: an extent is below 1.
    """
    if n < 1 or p < 1:
        raise InputError(f"Tiles need an image and a patch of at least 1 pixel, not {n} and {p}.")
    if n <= p:
        return [0]
    count = min(-(-2 * (n - p) // p) + 1, n - p + 1)  # patches of one pixel would repeat tiles
    return [round(i * (n - p) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class CaseGeometry:
    """How one case's preprocessed grid lies in its image file.

    Attributes:
        case: name of the case.
        raw_shape: shape ``(k, j, i)`` of the image file.
        transpose: nnU-Net's ``transpose_forward``: axis a of the grid is raw axis transpose[a].
        crop: per grid axis the range kept by the crop to non-zero, in voxels of the transposed raw
            grid.
        grid_shape: shape (slices, rows, columns) of the preprocessed image.
    """

    case: str
    raw_shape: tuple[int, int, int]
    transpose: tuple[int, int, int]
    crop: tuple[Range, Range, Range]
    grid_shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        transposed = (
            [self.raw_shape[axis] for axis in self.transpose] if self._is_permutation() else []
        )
        inside = len(self.crop) == 3 and all(
            0 <= low < high <= extent
            for (low, high), extent in zip(self.crop, transposed, strict=False)
        )
        if not transposed or not inside or len(self.grid_shape) != 3 or min(self.grid_shape) < 1:
            raise InputError(
                f"Case {self.case}: impossible geometry {self}.", "Preprocess the case again."
            )
        if self.crop[0][1] - self.crop[0][0] != self.grid_shape[0]:
            raise InputError(
                f"Case {self.case}: {self.grid_shape[0]} preprocessed slices from a crop of "
                f"{self.crop[0]}.",
                "Only nnU-Net's 2d configuration, which never resamples slices, can be used.",
            )

    def _is_permutation(self) -> bool:
        return len(self.raw_shape) == 3 and sorted(self.transpose) == [0, 1, 2]

    @classmethod
    def from_properties(
        cls,
        case: str,
        raw_shape: Sequence[int],
        transpose_forward: Sequence[int],
        properties: Mapping[str, Any],
        grid_shape: Sequence[int],
    ) -> CaseGeometry:
        """Geometry from what nnU-Net's preprocessor reports.

        Args:
            case: name of the case.
            raw_shape: shape ``(k, j, i)`` of the image file.
            transpose_forward: of the plan.
            properties: nnU-Net's properties of the preprocessed case; ``bbox_used_for_cropping``
                and, where present, ``shape_before_cropping`` are read, both in transposed order.
            grid_shape: shape of the preprocessed image without its channel axis.

        Raises:
            InputError: the parts contradict each other.
        """
        transposed = tuple(int(raw_shape[axis]) for axis in transpose_forward)
        before = tuple(
            int(extent) for extent in properties.get("shape_before_cropping", transposed)
        )
        if before != transposed:
            raise InputError(
                f"Case {case}: preprocessed from shape {before}, but the image has {transposed}.",
                "The image changed after preprocessing; preprocess the case again.",
            )
        crop = _triple((int(low), int(high)) for low, high in properties["bbox_used_for_cropping"])
        return cls(
            case=case,
            raw_shape=_triple(int(extent) for extent in raw_shape),
            transpose=_triple(int(axis) for axis in transpose_forward),
            crop=crop,
            grid_shape=_triple(int(extent) for extent in grid_shape),
        )

    def raw_box(self, slice_: int, rows: Range, cols: Range) -> Box3:
        """The voxels of the image file that a box of one preprocessed slice covers.

        In-plane borders scale with the ratio of the shapes, so that the last tile ends exactly at
        the crop's border; where a tile is finer than half a voxel it still gets one voxel.

        Args:
            slice_: index of the slice on the grid.
            rows: range of rows on the grid, inside the image.
            cols: range of columns on the grid, inside the image.

        Returns:
            Ranges along the raw axes ``(k, j, i)``, never empty.

        Raises:
            InputError: the box is empty or leaves the grid.
        """
        asked = ((slice_, slice_ + 1), rows, cols)
        for (low, high), extent in zip(asked, self.grid_shape, strict=True):
            if not 0 <= low < high <= extent:
                raise InputError(
                    f"Case {self.case}: box {asked} leaves the grid {self.grid_shape} or is empty."
                )
        box: list[Range] = [(0, 0)] * 3
        for axis, (grid, extent) in enumerate(zip(asked, self.grid_shape, strict=True)):
            start, end = self.crop[axis]
            low, high = _scale(grid, end - start, extent)
            box[self.transpose[axis]] = (start + low, start + high)
        return box[0], box[1], box[2]

    @property
    def raw_crop(self) -> Slices3:
        """Index of the voxels of the image file that the crop to non-zero keeps."""
        k, j, i = (slice(*self.crop[self.transpose.index(axis)]) for axis in range(3))
        return k, j, i

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> CaseGeometry:
        """Inverse of `to_json`; raises InputError for anything else."""
        try:
            content = json.loads(text)
            shapes = {
                name: tuple(content[name]) for name in ("raw_shape", "transpose", "grid_shape")
            }
            crop = _triple((low, high) for low, high in content["crop"])
            return cls(case=content["case"], crop=crop, **shapes)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"Not the geometry of a case: {text[:80]!r}.") from error


def _triple(values: Iterable[Part]) -> tuple[Part, Part, Part]:
    """Return `values` as a triple; `CaseGeometry` refuses any other number."""
    return cast("tuple[Part, Part, Part]", tuple(values))


def _scale(grid: Range, cropped: int, extent: int) -> Range:
    """A range of an axis of `extent` pixels, in the `cropped` voxels it was resampled from."""
    low, high = (round(edge * cropped / extent) for edge in grid)
    if high > low:
        return low, high
    middle = min((grid[0] + grid[1]) * cropped // (2 * extent), cropped - 1)
    return middle, middle + 1


@dataclass(frozen=True, eq=False)
class Pool:
    """All samples as columns, sorted by (case, slice, tile); a sample's position is its stable id.

    Cases that are added later come after those there are, so that no id ever changes.

    Attributes:
        cases: names of the cases, in the order of their samples.
        patch: (rows, columns) of the plan's patch.
        case: int32 (n,), index into `cases`.
        slice: int32 (n,), slice on the grid.
        slice_raw: int32 (n,), the same slice along the raw axis ``transpose[0]`` of the image file.
        tile: int32 (n,), index of the tile in its slice; row starts outer, column starts inner.
        start: int32 (n, 2), first row and column of the patch on the grid; negative by the padding
            before the image where the image is smaller than the patch.
        box: int32 (n, 4), ``row_lo, row_hi, col_lo, col_hi``: the part of the patch that lies in
            the image; all of the slice where the samples are whole slices.
        raw_box: int32 (n, 3, 2), the same part in the image file, ranges along ``(k, j, i)``.
    """

    cases: tuple[str, ...]
    patch: tuple[int, int]
    case: Column
    slice: Column
    slice_raw: Column
    tile: Column
    start: Column
    box: Column
    raw_box: Column

    COLUMNS = ("case", "slice", "slice_raw", "tile", "start", "box", "raw_box")

    def __post_init__(self) -> None:
        for name, width in zip(self.COLUMNS, ((), (), (), (), (2,), (4,), (3, 2)), strict=True):
            column = np.array(getattr(self, name), dtype=np.int32)
            if column.shape != (len(self.case), *width):
                raise InputError(f"A pool's column {name!r} has the shape {column.shape}.")
            column.setflags(write=False)
            object.__setattr__(self, name, column)

    @classmethod
    def build(
        cls, geometries: Iterable[CaseGeometry], patch: Sequence[int], *, whole_slices: bool = False
    ) -> Pool:
        """Enumerates the tiles of all slices of all cases.

        Args:
            geometries: one a case, in any order.
            patch: (rows, columns) of the plan's patch.
            whole_slices: a sample is all of a slice, however large.

        Raises:
            InputError: there is no case, or one occurs twice.
        """
        ordered = sorted(geometries, key=lambda geometry: geometry.case)
        names = tuple(geometry.case for geometry in ordered)
        if len(set(names)) != len(names):
            raise InputError("A case occurs twice in the pool.")
        size = (int(patch[0]), int(patch[1]))
        parts = [
            _case_columns(index, geometry, _tile_size(geometry, size, whole_slices))
            for index, geometry in enumerate(ordered)
        ]
        if not parts:
            raise InputError("A pool needs at least one case.")
        columns = {name: np.concatenate([part[name] for part in parts]) for name in cls.COLUMNS}
        return cls(cases=names, patch=size, **columns)

    def extended(self, geometries: Iterable[CaseGeometry], *, whole_slices: bool = False) -> Pool:
        """This pool with the samples of further cases behind its own, which keep their ids.

        Raises:
            InputError: a case is in the pool already, or occurs twice.
        """
        new = list(geometries)
        if not new:
            return self
        more = Pool.build(new, self.patch, whole_slices=whole_slices)
        known = set(self.cases) & set(more.cases)
        if known:
            raise InputError(f"Case {min(known)!r} is in the pool already.")
        columns = {
            name: np.concatenate([getattr(self, name), getattr(more, name)])
            for name in self.COLUMNS
        }
        columns["case"][len(self) :] += len(self.cases)
        return Pool(cases=self.cases + more.cases, patch=self.patch, **columns)

    def extends(self, other: Pool) -> bool:
        """Whether this is `other`, or `other` with further cases behind it."""
        return (
            self.patch == other.patch
            and self.cases[: len(other.cases)] == other.cases
            and all(
                np.array_equal(getattr(self, name)[: len(other)], getattr(other, name))
                for name in self.COLUMNS
            )
        )

    def __len__(self) -> int:
        return len(self.case)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pool) and self.sha256() == other.sha256()

    __hash__ = None  # type: ignore[assignment]  # typeshed has a method there, and no way to take it back

    def case_name(self, sample: int) -> str:
        """Name of the case that a sample belongs to."""
        return self.cases[int(self.case[sample])]

    def samples_of(self, case: str) -> npt.NDArray[np.int64]:
        """Ids of a case's samples, int64, ascending; empty for a case that is not in the pool."""
        if case not in self.cases:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.case == self.cases.index(case))

    def raw_slices(self, sample: int) -> Slices3:
        """Index of a sample's voxels in its image file: ``array[pool.raw_slices(sample)]``."""
        (k0, k1), (j0, j1), (i0, i1) = self.raw_box[sample].tolist()
        return slice(k0, k1), slice(j0, j1), slice(i0, i1)

    def sha256(self) -> str:
        """Hash of the whole content, the same on every platform."""
        digest = hashlib.sha256(json.dumps([self.cases, self.patch]).encode("ascii"))
        for name in self.COLUMNS:
            digest.update(np.ascontiguousarray(getattr(self, name), dtype="<i4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Writes a compressed .npz file, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        columns = {name: getattr(self, name) for name in self.COLUMNS}
        names = np.array(self.cases, np.str_)
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, cases=names, patch=np.array(self.patch), **columns)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or not a pool.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as content:
                columns = {name: content[name] for name in cls.COLUMNS}
                cases = tuple(str(name) for name in content["cases"])
                rows, cols = (int(extent) for extent in content["patch"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} is not a pool of samples.", "Prepare the project again."
            ) from error
        return cls(cases=cases, patch=(rows, cols), **columns)


def _tile_size(geometry: CaseGeometry, patch: tuple[int, int], whole: bool) -> tuple[int, int]:
    """Rows and columns of a case's tiles; at least those of its slices where these are whole."""
    _, rows, cols = geometry.grid_shape
    return (max(patch[0], rows), max(patch[1], cols)) if whole else patch


def _case_columns(index: int, geometry: CaseGeometry, patch: tuple[int, int]) -> dict[str, Column]:
    """Columns of one case: its tiles are the same in every slice, mapped once and shifted."""
    slices, rows, cols = geometry.grid_shape
    starts, boxes, raw = [], [], []
    for row in _centred_starts(rows, patch[0]):
        for col in _centred_starts(cols, patch[1]):
            box = (max(row, 0), min(row + patch[0], rows), max(col, 0), min(col + patch[1], cols))
            starts.append((row, col))
            boxes.append(box)
            raw.append(geometry.raw_box(0, box[:2], box[2:]))
    number = np.repeat(np.arange(slices, dtype=np.int32), len(starts))
    raw_box = np.tile(np.array(raw, np.int32), (slices, 1, 1))
    raw_box[:, geometry.transpose[0]] += number[:, None]
    return {
        "case": np.full(len(number), index, np.int32),
        "slice": number,
        "slice_raw": number + np.int32(geometry.crop[0][0]),
        "tile": np.tile(np.arange(len(starts), dtype=np.int32), slices),
        "start": np.tile(np.array(starts, np.int32), (slices, 1)),
        "box": np.tile(np.array(boxes, np.int32), (slices, 1)),
        "raw_box": raw_box,
    }


def _centred_starts(n: int, p: int) -> list[int]:
    """Tile starts; where the image is smaller than the patch it lies in the patch's middle."""
    return tile_starts(n, p) if n >= p else [-((p - n) // 2)]
