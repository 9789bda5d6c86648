"""Tiles, boxes and the pool (docs/method.md, 1.3)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alunet.errors import InputError
from alunet.pool import CaseGeometry, Pool, tile_starts


@st.composite
def geometries(draw, resampled: bool = True) -> CaseGeometry:
    """Any orientation, anisotropy and crop, leading empty slices included; images from 1 pixel
    on.
    """
    transpose = draw(st.permutations((0, 1, 2)))
    raw_shape = tuple(draw(st.integers(1, 30)) for _ in range(3))
    crop = []
    for axis in transpose:
        low = draw(st.integers(0, raw_shape[axis] - 1))
        crop.append((low, draw(st.integers(low + 1, raw_shape[axis]))))
    extents = [high - low for low, high in crop]
    if resampled:
        ratios = [draw(st.floats(0.2, 4.0)) for _ in range(2)]
        extents[1:] = [
            max(1, round(extent * ratio)) for extent, ratio in zip(extents[1:], ratios, strict=True)
        ]
    return CaseGeometry("case", raw_shape, tuple(transpose), tuple(crop), tuple(extents))


patches = st.tuples(st.integers(1, 40), st.integers(1, 40))


# --- tiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "p", "starts"),
    [
        (512, 512, [0]),
        (513, 512, [0, 1]),
        (627, 512, [0, 115]),
        (768, 512, [0, 256]),
        (769, 512, [0, 128, 257]),
        (1024, 512, [0, 256, 512]),
        (110, 64, [0, 23, 46]),
        (51, 56, [0]),
        (20, 56, [0]),  # an image below half a patch has a tile too
        (1, 512, [0]),
    ],
)
def test_tile_starts_of_the_specification(n: int, p: int, starts: list[int]) -> None:
    assert tile_starts(n, p) == starts


@given(n=st.integers(1, 3000), p=st.integers(1, 600))
def test_tiles_cover_the_axis_and_overlap_by_half(n: int, p: int) -> None:
    starts = tile_starts(n, p)
    assert starts[0] == 0
    assert starts[-1] == max(0, n - p)
    steps = np.diff(starts)
    assert np.all(steps > 0)
    assert np.all(steps <= max(1, (p + 1) // 2))


@pytest.mark.parametrize(("n", "p"), [(0, 5), (5, 0), (-1, 5)])
def test_extents_below_one_are_refused(n: int, p: int) -> None:
    with pytest.raises(InputError, match="at least 1 pixel"):
        tile_starts(n, p)


@given(geometry=geometries(), patch=patches)
@settings(deadline=None)
def test_raw_boxes_of_a_slice_cover_exactly_the_crop(
    geometry: CaseGeometry, patch: tuple[int, int]
) -> None:
    pool = Pool.build([geometry], patch)
    axis, (first, _) = geometry.transpose[0], geometry.crop[0]
    expected = np.zeros(geometry.raw_shape, bool)
    inverse = np.argsort(geometry.transpose)
    crop = [slice(*geometry.crop[a]) for a in inverse]
    expected[tuple(crop)] = True
    covered = np.zeros_like(expected)
    for sample in range(len(pool)):
        covered[pool.raw_slices(sample)] = True
        assert np.all(pool.raw_box[sample, :, 1] > pool.raw_box[sample, :, 0])
        assert pool.raw_box[sample, axis].tolist() == [
            pool.slice_raw[sample],
            pool.slice_raw[sample] + 1,
        ]
        assert pool.slice_raw[sample] == pool.slice[sample] + first
    assert np.array_equal(covered, expected)


@given(geometry=geometries(), patch=patches)
@settings(deadline=None)
def test_valid_boxes_cover_the_grid_and_padding_completes_the_patch(
    geometry: CaseGeometry, patch: tuple[int, int]
) -> None:
    pool = Pool.build([geometry], patch)
    covered = np.zeros(geometry.grid_shape, bool)
    for sample in range(len(pool)):
        row_lo, row_hi, col_lo, col_hi = pool.box[sample]
        covered[pool.slice[sample], row_lo:row_hi, col_lo:col_hi] = True
        for axis in range(2):
            low, high = pool.box[sample, 2 * axis : 2 * axis + 2]
            # centred, as nnU-Net's predictor pads
            assert low - pool.start[sample, axis] == (patch[axis] - (high - low)) // 2
    assert covered.all()


@given(geometry=geometries(resampled=False), patch=patches)
@settings(deadline=None)
def test_without_resampling_raw_box_and_tile_are_the_same_voxels(
    geometry: CaseGeometry, patch: tuple[int, int]
) -> None:
    raw = np.arange(np.prod(geometry.raw_shape)).reshape(geometry.raw_shape)
    grid = raw.transpose(geometry.transpose)[tuple(slice(*edges) for edges in geometry.crop)]
    pool = Pool.build([geometry], patch)
    for sample in range(len(pool)):
        row_lo, row_hi, col_lo, col_hi = pool.box[sample]
        tile = grid[pool.slice[sample], row_lo:row_hi, col_lo:col_hi]
        revealed = raw[pool.raw_slices(sample)].transpose(geometry.transpose)[0]
        assert np.array_equal(revealed, tile)


def test_the_last_tile_ends_at_the_border_of_the_crop() -> None:
    """The ratio of the shapes decides, not the ratio of the spacings, which may be off by a
    rounded pixel.
    """
    geometry = CaseGeometry(
        "case", (10, 101, 60), (0, 1, 2), ((3, 9), (1, 100), (0, 60)), (6, 70, 77)
    )
    assert geometry.raw_box(2, (6, 70), (13, 77)) == (
        (5, 6),
        (1 + round(6 * 99 / 70), 100),
        (round(13 * 60 / 77), 60),
    )


def test_a_tile_finer_than_a_voxel_gets_that_voxel() -> None:
    geometry = CaseGeometry("case", (2, 3, 3), (0, 1, 2), ((0, 2), (0, 3), (0, 3)), (2, 30, 30))
    assert geometry.raw_box(0, (13, 14), (28, 29)) == ((0, 1), (1, 2), (2, 3))


@pytest.mark.parametrize(
    "box", [(5, (0, 2), (0, 2)), (0, (0, 0), (0, 2)), (0, (0, 2), (1, 9)), (-1, (0, 2), (0, 2))]
)
def test_boxes_off_the_grid_are_refused(box: tuple) -> None:
    geometry = CaseGeometry("case", (5, 8, 8), (0, 1, 2), ((0, 5), (0, 8), (0, 8)), (5, 8, 8))
    with pytest.raises(InputError, match="case"):
        geometry.raw_box(*box)


@pytest.mark.parametrize(
    "change",
    [
        {"transpose": (0, 1, 1)},
        {"crop": ((0, 5), (0, 9), (0, 8))},
        {"crop": ((0, 5), (4, 4), (0, 8))},
        {"grid_shape": (4, 8, 8)},
        {"grid_shape": (5, 0, 8)},
    ],
)
def test_impossible_geometries_are_refused(change: dict) -> None:
    good = {
        "case": "liver_7",
        "raw_shape": (5, 8, 8),
        "transpose": (0, 1, 2),
        "crop": ((0, 5), (0, 8), (0, 8)),
        "grid_shape": (5, 8, 8),
    }
    CaseGeometry(**good)
    with pytest.raises(InputError, match="liver_7"):
        CaseGeometry(**{**good, **change})


# --- the pool as a table --------------------------------------------------------------------------


def two_cases() -> list[CaseGeometry]:
    return [
        CaseGeometry("b ö", (4, 20, 30), (0, 1, 2), ((1, 4), (0, 20), (0, 30)), (3, 20, 30)),
        CaseGeometry("a", (30, 5, 16), (1, 2, 0), ((0, 5), (0, 16), (4, 30)), (5, 32, 26)),
    ]


def test_samples_are_sorted_and_their_ids_do_not_depend_on_the_order_of_the_cases() -> None:
    pool = Pool.build(two_cases(), (16, 16))
    assert pool == Pool.build(reversed(two_cases()), (16, 16))
    keys = list(zip(pool.case.tolist(), pool.slice.tolist(), pool.tile.tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == len(pool)
    assert pool.cases == ("a", "b ö")
    assert [pool.case_name(int(i)) for i in pool.samples_of("b ö")] == ["b ö"] * len(
        pool.samples_of("b ö")
    )
    first = [tuple(start) for start in pool.start[pool.slice[: len(pool)] == 0][:6].tolist()]
    assert first == sorted(first)  # row start outer, column start inner


def test_the_pool_is_immutable() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Pool.build(two_cases(), (16, 16)).box[0] = 0


@given(geometry=geometries(), patch=patches)
def test_round_trip_of_geometry(geometry: CaseGeometry, patch: tuple[int, int]) -> None:
    assert CaseGeometry.from_json(geometry.to_json()) == geometry


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"case": "a", "raw_shape": 3}'])
def test_what_is_no_geometry_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        CaseGeometry.from_json(text)


def test_round_trip_of_pool(tmp_path: Path) -> None:
    pool = Pool.build(two_cases(), (16, 16))
    file = tmp_path / "pöol file.npz"
    pool.save(file)
    assert Pool.load(file) == pool
    assert list(tmp_path.iterdir()) == [file]
    assert pool.sha256() != Pool.build(two_cases(), (16, 17)).sha256()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="not a pool"):
        Pool.load(file)
    with pytest.raises(InputError, match="not a pool"):
        Pool.load(tmp_path / "missing.npz")


def test_a_pool_needs_distinct_cases() -> None:
    with pytest.raises(InputError, match="twice"):
        Pool.build([two_cases()[0], two_cases()[0]], (16, 16))
    with pytest.raises(InputError, match="at least one case"):
        Pool.build([], (16, 16))


# --- against nnU-Net's own preprocessing ----------------------------------------------------------

IGNORE = 3


class Preprocessing:
    """nnU-Net's real DefaultPreprocessor with a plan made by hand."""

    def __init__(self, transpose: tuple[int, ...], target: tuple[float, float]) -> None:
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        resampling = {
            f"resampling_fn_{what}_kwargs": {
                "is_seg": what == "seg",
                "order": order,
                "order_z": 0,
                "force_separate_z": None,
            }
            for what, order in (("data", 3), ("seg", 1))
        }
        configuration = {
            "spacing": list(target),
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "architecture": {},
            **resampling,
        }
        plans = {
            "plans_name": "hand-made",
            "transpose_forward": list(transpose),
            "transpose_backward": np.argsort(transpose).tolist(),
            "foreground_intensity_properties_per_channel": {"0": {}},
            "label_manager": "LabelManager",
            "configurations": {"2d": configuration},
        }
        self.transpose = transpose
        self.plans = PlansManager(plans)
        self.preprocessor = DefaultPreprocessor(verbose=False)
        self.dataset = {
            "labels": {"background": 0, "a": 1, "b": 2, "ignore": IGNORE},
            "file_ending": ".nrrd",
        }

    def run(
        self, image: np.ndarray, label: np.ndarray, spacing: tuple[float, ...]
    ) -> tuple[np.ndarray, CaseGeometry]:
        """The preprocessed label and the geometry that nnU-Net's properties tell."""
        properties = {"spacing": list(spacing)}
        data, seg, properties = self.preprocessor.run_case_npy(
            image[None],
            label[None],
            properties,
            self.plans,
            self.plans.get_configuration("2d"),
            self.dataset,
        )
        geometry = CaseGeometry.from_properties(
            "case", image.shape, self.transpose, properties, data.shape[1:]
        )
        assert seg.shape == data.shape
        return seg[0], geometry


def check_round_trip(
    image: np.ndarray,
    label: np.ndarray,
    spacing: tuple[float, ...],
    transpose: tuple[int, ...],
    target: tuple[float, float],
    patch: tuple[int, int],
    margin: int,
) -> None:
    """Reveals single tiles on the raw grid, preprocesses, and compares inside of the tile."""
    preprocessing = Preprocessing(transpose, target)
    truth, geometry = preprocessing.run(image, label, spacing)
    pool = Pool.build([geometry], patch)
    _, rows, cols = geometry.grid_shape
    rng = np.random.default_rng(0)
    for sample in rng.choice(len(pool), min(8, len(pool)), replace=False):
        store = np.full_like(label, IGNORE)
        store[pool.raw_slices(sample)] = label[pool.raw_slices(sample)]
        seen, _ = preprocessing.run(image, store, spacing)
        row_lo, row_hi, col_lo, col_hi = pool.box[sample].tolist()
        # Only where the tile ends inside of the image can rounding to voxels show.
        inner = (
            slice(row_lo + margin * (row_lo > 0), row_hi - margin * (row_hi < rows)),
            slice(col_lo + margin * (col_lo > 0), col_hi - margin * (col_hi < cols)),
        )
        number = pool.slice[sample]
        assert np.array_equal(seen[number][inner], truth[number][inner])
        others = np.delete(seen, number, axis=0)
        assert np.all((others == IGNORE) | (others == -1))


def blobs(shape: tuple[int, ...], empty: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with `empty` leading empty slices and a zero border, and a label map of two
    structures.
    """
    rng = np.random.default_rng(1)
    image = rng.normal(100, 10, shape).astype(np.float32)
    image[:empty] = 0
    image[:, :2] = 0
    image[:, :, -3:] = 0
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, extent) for extent in shape], indexing="ij"))
    label = ((grid**2).sum(0) < 0.8).astype(np.int16) + ((grid - 0.2) ** 2).sum(0).__lt__(0.3)
    return image, label.astype(np.int16)


@pytest.mark.parametrize("transpose", list(itertools.permutations(range(3))))
def test_round_trip_without_resampling_is_exact(transpose: tuple[int, ...]) -> None:
    image, label = blobs((14, 22, 27), empty=3)
    spacing = (3.0, 0.7, 0.9)
    target = tuple(spacing[axis] for axis in transpose[1:])
    check_round_trip(image, label, spacing, transpose, target, (12, 12), margin=0)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("ratio", [(0.6, 0.8), (1.6, 0.7), (1.3, 1.9)])
def test_round_trip_with_resampling_is_off_by_one_pixel_at_most(
    transpose: tuple[int, ...], ratio: tuple[float, float]
) -> None:
    image, label = blobs((15, 40, 31), empty=2)
    spacing = (4.0, 0.8, 1.1)
    target = tuple(
        spacing[axis] * factor for axis, factor in zip(transpose[1:], ratio, strict=True)
    )
    check_round_trip(image, label, spacing, transpose, target, (12, 14), margin=1)


def test_image_below_half_a_patch() -> None:
    image, label = blobs((6, 20, 18), empty=1)
    check_round_trip(image, label, (5.0, 1.0, 1.0), (0, 1, 2), (1.0, 1.0), (64, 64), margin=0)


@pytest.mark.parametrize(
    ("file", "transpose"),
    [
        ("itksnap/t2_chunk.nii.gz", (2, 1, 0)),  # oblique
        ("itksnap/t1_chunk.nii.gz", (0, 1, 2)),  # flipped
        ("niivue-images/fmri_pitch.nii.gz", (1, 0, 2)),  # rotated
        ("nibabel/someones_anatomy.nii.gz", (2, 0, 1)),  # flipped
    ],
)
def test_on_oblique_and_flipped_files(
    real_data: Path, file: str, transpose: tuple[int, ...]
) -> None:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    data, properties = SimpleITKIO().read_images([str(real_data / "geometry_cases" / file)])
    image, spacing = data[0], tuple(float(step) for step in properties["spacing"])
    label = (image > np.median(image)).astype(np.int16) + (image > np.quantile(image, 0.9))
    same = tuple(spacing[axis] for axis in transpose[1:])
    check_round_trip(image, label, spacing, transpose, same, (24, 24), margin=0)
    # A label map of noise has no regions that resampling could keep; a smooth one has.
    _, smooth = blobs(image.shape, empty=0)
    finer = tuple(step * 0.75 for step in same)
    check_round_trip(image, smooth, spacing, transpose, finer, (24, 24), margin=1)


def test_properties_of_another_image_are_refused() -> None:
    properties = {
        "shape_before_cropping": (5, 6, 7),
        "bbox_used_for_cropping": [[0, 5], [0, 6], [0, 7]],
    }
    CaseGeometry.from_properties("case", (7, 5, 6), (1, 2, 0), properties, (5, 6, 7))
    with pytest.raises(InputError, match="preprocess"):
        CaseGeometry.from_properties("case", (7, 6, 5), (1, 2, 0), properties, (5, 6, 7))
