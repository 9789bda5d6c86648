"""DICOM SEG and RTSTRUCT objects as labels: names, codes, and every voxel where it belongs."""

from __future__ import annotations

from pathlib import Path

import dicom_files as files
import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless

from alunet.errors import InputError
from alunet.imaging.dicom.contours import fill_polygons, read_contours
from alunet.imaging.dicom.labels import DicomLabels, place_on
from alunet.imaging.dicom.reading import read_dicom_labels
from alunet.imaging.dicom.segmentation import read_segmentation
from alunet.imaging.dicom.series import DicomSeries, find_series
from alunet.imaging.grids import Grid

SHAPE = (6, 12, 10)


@pytest.fixture
def source(tmp_path) -> list[pydicom.Dataset]:
    voxels = np.zeros(SHAPE, np.int16)
    made = files.slices(voxels)
    files.write(tmp_path / "series", made)
    return made


@pytest.fixture
def series(source, tmp_path) -> DicomSeries:
    return find_series(tmp_path / "series").series[0]


def masks(count: int = 2, seed: int = 0) -> np.ndarray:
    """Random masks that overlap, with slices that are empty; axes (k, j, i, segment)."""
    made = np.random.default_rng(seed).random((*SHAPE, count)) < 0.4
    made[2:4] = False
    return made


def segmentation(
    path: Path, source: list, pixels: np.ndarray, kind: str, **options: object
) -> Path:
    """Write a SEG object with highdicom alone."""
    names = options.pop("names", None) or [f"part {n}" for n in range(1, 3)]
    described = [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.Organ,
            codes.SCT.Liver,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(names, start=1)
    ]
    made = hd.seg.Segmentation(
        source, pixels, kind, described, hd.UID(), 9, hd.UID(), 1, "m", "n", "1", "0", **options
    )
    made.save_as(path)
    return path


def read_masks(labels: DicomLabels) -> np.ndarray:
    return np.stack([labels.mask(segment) for segment in labels.segments], axis=-1)


# --- SEG: real files --------------------------------------------------------------------------


def test_a_real_seg_equals_its_nrrd_file(real_data):
    folder = real_data / "DICOM_ct3slice_seg"
    series = find_series(folder).usable[0]
    labels = read_dicom_labels(folder / "liver.dcm", series.grid, series.identity)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "liver_seg.nrrd"))) > 0
    assert [(s.name, s.code) for s in labels.segments] == [("Liver", ("SRT", "T-62000"))]
    assert np.array_equal(labels.mask(labels.segments[0]), expected)
    assert labels.grid == series.grid
    assert labels.referenced_series_uid == series.uid
    assert set(labels.referenced_instance_uids) == set(series.instance_uids)


def test_real_segments_that_overlap_are_kept_apart(real_data):
    folder = real_data / "DICOM_ct3slice_seg"
    series = find_series(folder).usable[0]
    labels = read_dicom_labels(folder / "partial_overlaps.dcm", series.grid)
    with_highdicom = hd.seg.segread(folder / "partial_overlaps.dcm")
    expected = with_highdicom.get_pixels_by_source_instance(
        list(series.instance_uids), ignore_spatial_locations=True
    )
    assert labels.overlapping
    assert len(labels.layers) == 3
    assert np.array_equal(read_masks(labels), expected > 0)


# --- SEG: made with highdicom -----------------------------------------------------------------


def test_a_binary_seg_with_overlaps_and_left_out_frames(tmp_path, source, series):
    path = segmentation(tmp_path / "s.dcm", source, masks().astype(np.uint8), "BINARY")
    assert pydicom.dcmread(path).NumberOfFrames == 8
    labels = read_dicom_labels(path, series.grid, series.identity)
    assert np.array_equal(read_masks(labels), masks())
    assert labels.segments[0].code == ("SCT", "10200004")


def test_a_seg_says_its_own_grid_where_frames_are_left_out(tmp_path, source, series):
    pixels = masks().astype(np.uint8)
    pixels[0] = 0
    path = segmentation(tmp_path / "s.dcm", source, pixels, "BINARY")
    labels = read_segmentation(path)
    assert labels.grid.shape == (5, 12, 10)
    assert labels.grid.origin == pytest.approx((-10, -20, 32))
    assert np.array_equal(read_masks(labels), pixels[1:] > 0)
    assert np.array_equal(read_masks(place_on(labels, series.grid)), pixels > 0)


def test_the_image_says_how_far_slices_are_apart_where_the_seg_has_every_other(
    tmp_path, source, series
):
    pixels = masks().astype(np.uint8)
    pixels[[1, 2, 3, 5]] = 0
    path = segmentation(tmp_path / "s.dcm", source, pixels, "BINARY")
    changed = pydicom.dcmread(path)
    del changed.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    changed.save_as(path)
    labels = read_dicom_labels(path, series.grid)
    assert np.array_equal(read_masks(labels), pixels > 0)


def test_a_label_map_seg_is_read_by_its_numbers(tmp_path, source, series):
    pixels = np.where(masks()[..., 0], 1, np.where(masks()[..., 1], 2, 0)).astype(np.uint8)
    for dtype in (np.uint8, np.uint16):
        path = segmentation(tmp_path / "s.dcm", source, pixels.astype(dtype), "LABELMAP")
        labels = read_dicom_labels(path, series.grid)
        assert [segment.name for segment in labels.segments][-2:] == ["part 1", "part 2"]
        assert np.array_equal(
            read_masks(labels)[..., -2:], np.stack([pixels == 1, pixels == 2], -1)
        )


def test_compressed_label_maps_are_read(tmp_path, source, series):
    pixels = masks()[..., 0].astype(np.uint8)
    path = segmentation(
        tmp_path / "s.dcm", source, pixels, "LABELMAP", names=["a"], transfer_syntax_uid=RLELossless
    )
    labels = read_dicom_labels(path, series.grid)
    assert np.array_equal(labels.mask(labels.segments[-1]), pixels > 0)


def test_a_fractional_seg_is_refused_without_a_threshold(tmp_path, source, series):
    pixels = np.random.default_rng(0).random((*SHAPE, 1)).astype(np.float32)
    path = segmentation(
        tmp_path / "s.dcm", source, pixels, "FRACTIONAL", names=["a"], max_fractional_value=100
    )
    with pytest.raises(InputError, match="'a' is fractional: it holds values between 0 and 100"):
        read_dicom_labels(path, series.grid)
    labels = read_dicom_labels(path, series.grid, threshold=0.5)
    assert np.array_equal(labels.mask(labels.segments[0]), np.around(pixels[..., 0] * 100) >= 50)
    with pytest.raises(InputError, match="threshold is 1.5"):
        read_dicom_labels(path, series.grid, threshold=1.5)


def test_a_fractional_seg_of_0_and_the_maximum_is_taken_as_binary(tmp_path, source, series):
    pixels = masks().astype(np.uint8)
    path = segmentation(tmp_path / "s.dcm", source, pixels, "FRACTIONAL")
    assert np.array_equal(read_masks(read_dicom_labels(path, series.grid)), pixels > 0)


def test_a_seg_of_other_coordinates_is_refused(tmp_path, source, series):
    path = segmentation(tmp_path / "s.dcm", source, masks().astype(np.uint8), "BINARY")
    changed = pydicom.dcmread(path)
    changed.FrameOfReferenceUID = "1.2.3"
    changed.save_as(path)
    with pytest.raises(InputError, match="other coordinates"):
        read_dicom_labels(path, series.grid, series.identity)


def test_a_seg_off_the_voxels_of_the_image_is_refused_with_the_distance(tmp_path, source, series):
    path = segmentation(tmp_path / "s.dcm", source, masks().astype(np.uint8), "BINARY")
    grid = series.grid
    moved = Grid(grid.size, grid.spacing, (-9.8, -20.0, 30.0), grid.direction)
    with pytest.raises(InputError, match="up to 0.4 voxels apart"):
        read_dicom_labels(path, moved)
    near = Grid(grid.size, grid.spacing, (-9.98, -20.0, 30.0), grid.direction)
    assert read_dicom_labels(path, near).grid == near
    with pytest.raises(InputError, match="outside of its image"):
        smaller = Grid((10, 12, 3), grid.spacing, grid.origin, grid.direction)
        read_dicom_labels(path, smaller)


def test_a_ct_slice_is_no_label_file(tmp_path, source, series):
    with pytest.raises(InputError, match="no DICOM SEG object"):
        read_dicom_labels(tmp_path / "series" / "IM0000", series.grid)
    (tmp_path / "x.dcm").write_bytes(b"abc")
    with pytest.raises(InputError, match="no DICOM file"):
        read_dicom_labels(tmp_path / "x.dcm", series.grid)


# --- placing ----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    axes=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
    seed=st.integers(0, 1000),
)
def test_labels_of_a_turned_and_cropped_grid_land_on_their_voxels(axes, flips, seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 4, rng.integers(2, 6, 3)).astype(np.uint8)
    image = sitk.GetImageFromArray(array)
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    image.SetDirection(direction.ravel())
    image.SetSpacing(rng.uniform(0.2, 4, 3))
    image.SetOrigin(rng.uniform(-90, 90, 3))
    low = [int(rng.integers(0, n)) for n in image.GetSize()]
    crop = image[tuple(slice(a, n) for a, n in zip(low, image.GetSize(), strict=True))]
    turned = sitk.PermuteAxes(crop, [int(a) for a in axes])
    turned = sitk.Flip(turned, list(flips), False)
    layer = sitk.GetArrayFromImage(turned)
    placed = place_on(DicomLabels(Grid.of(turned), (), (layer,), "", ()), Grid.of(image))
    expected = np.zeros_like(array)
    inside = tuple(slice(a, None) for a in low[::-1])
    expected[inside] = array[inside]
    assert np.array_equal(placed.layers[0], expected)


# --- RTSTRUCT ---------------------------------------------------------------------------------


def box(low: tuple[float, float], high: tuple[float, float], k: float) -> np.ndarray:
    """Corners of a box in the slice k, from indices (i, j) to mm."""
    corners = [low, (high[0], low[1]), high, (low[0], high[1])]
    return to_mm(np.array([(*corner, k) for corner in corners], float))


def to_mm(points: np.ndarray) -> np.ndarray:
    return points * (0.5, 0.75, 2.0) + (-10.0, -20.0, 30.0)


def write_structures(tmp_path: Path, source: list, **contours: object) -> Path:
    return files.save(files.structures(source, contours), tmp_path / "rt.dcm")


CLOSED = "CLOSED_PLANAR"


def test_contours_become_voxels_with_holes(tmp_path, source, series):
    ring = [(CLOSED, box((1.5, 1.5), (8.5, 9.5), 2)), (CLOSED, box((3.5, 3.5), (5.5, 6.5), 2))]
    islands = [
        (CLOSED, box((-0.5, -0.5), (1.5, 1.5), 0)),
        (CLOSED, box((7.5, 9.5), (9.5, 11.5), 0)),
    ]
    path = write_structures(tmp_path, source, ring=ring, islands=islands, nothing=[])
    labels = read_dicom_labels(path, series.grid, series.identity)
    expected = np.zeros((*SHAPE, 3), bool)
    expected[2, 2:10, 2:9, 0] = True
    expected[2, 4:7, 4:6, 0] = False
    expected[0, :2, :2, 1] = expected[0, 10:12, 8:10, 1] = True
    assert [segment.name for segment in labels.segments] == ["ring", "islands", "nothing"]
    assert np.array_equal(read_masks(labels), expected)
    assert labels.referenced_series_uid == series.uid
    assert labels.notes == ()


def test_a_keyhole_is_a_hole(tmp_path, source, series):
    outer = [(1.5, 1.5), (8.5, 1.5), (8.5, 9.5), (1.5, 9.5), (1.5, 4)]
    inner = [(3.5, 4), (3.5, 6.5), (5.5, 6.5), (5.5, 3.5), (3.5, 3.5), (3.5, 4), (1.5, 4)]
    points = to_mm(np.array([(*point, 1) for point in outer + inner], float))
    path = write_structures(tmp_path, source, key=[(CLOSED, points)])
    labels = read_contours(path, series.grid)
    expected = np.zeros(SHAPE, bool)
    expected[1, 2:10, 2:9] = True
    expected[1, 4:7, 4:6] = False
    assert np.array_equal(labels.mask(labels.segments[0]), expected)


def test_structures_that_overlap_are_in_layers_of_their_own(tmp_path, source, series):
    one, two = [(CLOSED, box((0, 0), (5, 5), 1))], [(CLOSED, box((2, 2), (7, 7), 1))]
    labels = read_contours(write_structures(tmp_path, source, a=one, b=two), series.grid)
    assert len(labels.layers) == 2
    assert [labels.mask(segment).sum() for segment in labels.segments] == [25, 25]


def test_contours_belong_to_the_nearest_slice_and_the_closest_plane_counts(
    tmp_path, source, series
):
    near, far = box((0, 0), (3, 3), 2.1), box((0, 0), (9, 9), 2.4)
    labels = read_contours(
        write_structures(tmp_path, source, a=[(CLOSED, far), (CLOSED, near)]), series.grid
    )
    mask = labels.mask(labels.segments[0])
    assert mask.sum() == mask[2].sum() == 9
    assert labels.notes == ("'a': 1 contour(s) between slices passed over at slice 2.",)


@pytest.mark.parametrize("k", [-0.6, 5.6])
def test_a_contour_outside_of_the_volume_is_refused(tmp_path, source, series, k):
    path = write_structures(tmp_path, source, a=[(CLOSED, box((0, 0), (3, 3), k))])
    with pytest.raises(InputError, match=rf"is at slice {k:.2f}, the image has the slices 0 to 5"):
        read_contours(path, series.grid)


def test_a_contour_across_slices_is_refused(tmp_path, source, series):
    points = box((0, 0), (3, 3), 2)
    points[0, 2] += 2
    path = write_structures(tmp_path, source, a=[(CLOSED, points)])
    with pytest.raises(InputError, match="not parallel to the slices"):
        read_contours(path, series.grid)


def test_points_and_open_contours_are_passed_over_and_named(tmp_path, source, series):
    point, line = box((1, 1), (2, 2), 1)[:1], box((0, 0), (3, 3), 2)
    parts = [("POINT", point), ("OPEN_PLANAR", line), (CLOSED, line), (CLOSED, line[:2])]
    labels = read_contours(write_structures(tmp_path, source, a=parts), series.grid)
    assert labels.mask(labels.segments[0]).sum() == 9
    assert labels.notes == (
        "'a': 1 contour(s) of the kind POINT passed over.",
        "'a': 1 contour(s) of the kind OPEN_PLANAR passed over.",
        "'a': 1 contour(s) of the kind CLOSED_PLANAR with fewer than 3 points passed over.",
    )


def test_structures_of_another_series_are_refused(tmp_path, source, series):
    dataset = files.structures(files.slices(np.zeros((1, 2, 2), np.int16)), {"a": []})
    path = files.save(dataset, tmp_path / "rt.dcm")
    with pytest.raises(InputError, match="drawn on another series"):
        read_contours(path, series.grid, series.identity)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(3, 40))
def test_filling_equals_the_even_odd_rule_point_by_point(seed, count):
    points = np.random.default_rng(seed).uniform(-3, 18, (count, 2))
    filled = fill_polygons([points], (14, 16))
    ends = np.roll(points, -1, axis=0)
    for j, i in np.ndindex(14, 16):
        crossings = 0
        for (x0, y0), (x1, y1) in zip(points, ends, strict=True):
            if (y0 <= j) != (y1 <= j) and x0 + (x1 - x0) * (j - y0) / (y1 - y0) <= i:
                crossings += 1
        assert filled[j, i] == (crossings % 2 == 1)


def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none():
    left = np.array([(0, 0), (4, 0), (4, 6), (0, 6)], float)
    right = np.array([(4, 0), (8, 0), (8, 6), (4, 6)], float)
    one, two = fill_polygons([left], (8, 10)), fill_polygons([right], (8, 10))
    assert not (one & two).any()
    assert np.array_equal(one | two, fill_polygons([left, right], (8, 10)))
    assert (one | two).sum() == 48
