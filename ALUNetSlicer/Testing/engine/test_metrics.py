"""Every metric of the registry keeps its contract, and gives what counting by hand gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from alunet.loop import RoundRecord
from alunet.loop.round_record import measured
from alunet.model.metrics import (
    DICE,
    MEAN,
    known,
    mean_over_cases,
    measure,
    metrics,
    register,
    with_mean,
)

SPACING = (5.0, 1.5, 0.7)
SHAPE = (5, 9, 8)


def of(
    name: str, predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...] = SPACING
) -> float | None:
    """The value of one metric of one structure."""
    found = measure(predicted.astype(np.uint8), reference.astype(np.uint8), spacing, {"organ": 1})
    return found[name]["organ"]


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two random masks that overlap in part, and touch the border of the image now and then."""
    rng = np.random.default_rng(seed)
    reference = np.zeros(SHAPE, bool)
    low = [int(rng.integers(0, size - 3)) for size in SHAPE]
    reference[tuple(slice(start, start + int(rng.integers(2, 5))) for start in low)] = True
    predicted = np.roll(reference, rng.integers(-1, 2, 3), (0, 1, 2)) ^ (rng.random(SHAPE) < 0.02)
    return predicted, reference


def dice_twin(predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> float:
    """As evaluation computed it before there was a registry; the values are equal to the last
    bit.
    """
    both, total = (predicted & reference).sum(), predicted.sum() + reference.sum()
    return float(np.divide(2.0 * both, total))


def outline(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of a mask with a neighbor across a face that is none of it, one by one."""
    inside = {tuple(int(i) for i in voxel) for voxel in np.argwhere(mask)}
    steps = [sign * step for step in np.eye(mask.ndim, dtype=int) for sign in (-1, 1)]
    return [
        voxel
        for voxel in inside
        if any(tuple((voxel + step).tolist()) not in inside for step in steps)
    ]


def nearest(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    """From each surface voxel of one mask, the mm to the nearest of the other; all pairs are
    tried.
    """
    here, there = (
        [np.multiply(voxel, spacing) for voxel in outline(mask)] for mask in (one, other)
    )
    return [min(math.dist(point, end) for end in there) for point in here]


def surface_dice_twin(
    predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]
) -> float:
    found = nearest(predicted, reference, spacing) + nearest(reference, predicted, spacing)
    return sum(distance < 2 + 1e-9 for distance in found) / len(found)


def hausdorff_twin(
    predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]
) -> float:
    return max(
        percentile_95(nearest(*pair, spacing))
        for pair in ((predicted, reference), (reference, predicted))
    )


def percentile_95(values: list[float]) -> float:
    """Between the two values around 95 % of the way through the sorted ones."""
    place, ranked = 0.95 * (len(values) - 1), sorted(values)
    low = math.floor(place)
    return ranked[low] + (place - low) * (ranked[min(low + 1, len(values) - 1)] - ranked[low])


def volume_twin(predicted: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> float:
    volumes = [mask.sum() * math.prod(spacing) for mask in (predicted, reference)]
    return float(abs(volumes[0] - volumes[1]) / np.mean(volumes))


TWINS: dict[str, Callable[[np.ndarray, np.ndarray, tuple[float, ...]], float]] = {
    DICE: dice_twin,
    "surface_dice_2mm": surface_dice_twin,
    "hausdorff_95": hausdorff_twin,
    "volume_difference": volume_twin,
}
"""Metric -> the same computed the long way."""

DIAGONAL = math.hypot(5 * 5.0, 9 * 1.5, 8 * 0.7)
MISSED: dict[str, float] = {
    DICE: 0.0,
    "surface_dice_2mm": 0.0,
    "hausdorff_95": DIAGONAL,
    "volume_difference": 2.0,
}
"""Metric -> its value where one of the masks is empty, in an image of `SHAPE` and `SPACING`."""

every = pytest.mark.parametrize("name", metrics())


# --- the contract ---------------------------------------------------------------------------------


def test_every_metric_has_a_twin_and_a_definition_for_an_empty_mask():
    assert set(TWINS) == set(MISSED) == set(metrics())


def test_dice_comes_first():
    assert next(iter(metrics())) == DICE


@every
def test_a_name_is_a_column_of_a_table(name):
    assert name == metrics()[name].name and name.replace("_", "").isalnum() and name == name.lower()


@every
def test_identical_masks_give_the_best_value(name):
    for seed in range(3):
        _, mask = blobs(seed)
        assert of(name, mask, mask) == metrics()[name].best


@every
def test_no_masks_are_better_than_identical_ones(name):
    metric = metrics()[name]
    for seed in range(20):
        value = of(name, *blobs(seed))
        assert value <= metric.best if metric.larger_is_better else value >= metric.best


@every
def test_reference_and_prediction_can_be_exchanged(name):
    for seed in range(10):
        predicted, reference = blobs(seed)
        assert of(name, predicted, reference) == pytest.approx(
            of(name, reference, predicted), abs=1e-12
        )


@every
def test_two_empty_masks_are_not_measured(name):
    empty = np.zeros(SHAPE, bool)
    assert of(name, empty, empty) is None


@every
def test_one_empty_mask_gives_the_worst_value(name):
    empty, (_, mask) = np.zeros(SHAPE, bool), blobs(0)
    for pair in ((empty, mask), (mask, empty)):
        assert of(name, *pair) == pytest.approx(MISSED[name])


@every
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING, (0.4, 3.0, 0.8)])
def test_it_is_what_counting_by_hand_gives(name, spacing):
    for seed in range(12):
        predicted, reference = blobs(seed)
        wanted = TWINS[name](predicted, reference, spacing)
        assert of(name, predicted, reference, spacing) == (
            wanted if name == DICE else pytest.approx(wanted, abs=1e-9)
        )


@every
def test_an_image_of_one_slice_is_flat(name):
    """Its structures have an outline; a surface above and below them would be all of it."""
    predicted, reference = (mask[2:3] for mask in blobs(1))
    wanted = TWINS[name](predicted[0], reference[0], SPACING[1:])
    assert of(name, predicted, reference) == pytest.approx(wanted, abs=1e-9)


def boxes(shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Two equal boxes, one `shift` voxels behind the other along the last axis."""
    reference = np.zeros((12, 12, 30), bool)
    reference[2:10, 2:10, 5:12] = True
    return np.roll(reference, shift, 2), reference


@pytest.mark.parametrize(("spacing", "within"), [(0.1, True), (1.0, True), (1.001, False)])
def test_a_surface_that_is_off_by_the_tolerance_is_within_it(spacing, within):
    value = of("surface_dice_2mm", *boxes(round(2 / spacing)), spacing=(50.0, 50.0, spacing))
    assert (value == 1.0) == within


@pytest.mark.parametrize(("shift", "spacing"), [(3, 1.0), (3, 2.5), (6, 0.7)])
def test_the_distance_of_two_boxes_is_in_mm_not_in_voxels(shift, spacing):
    assert of("hausdorff_95", *boxes(shift), spacing=(50.0, 50.0, spacing)) == pytest.approx(
        shift * spacing
    )


def test_a_distance_scales_with_the_spacing():
    for seed in range(5):
        once, twice = (
            of("hausdorff_95", *blobs(seed), tuple(n * mm for mm in SPACING)) for n in (1, 2)
        )
        assert twice == pytest.approx(2 * once)


# --- from cases to a record -----------------------------------------------------------------------


def test_each_structure_is_measured_by_itself_wherever_it_lies():
    reference, predicted = np.zeros((2, *SHAPE), np.uint8)
    reference[0, :3, :3], predicted[0, :3, :3] = 1, 1
    reference[4, 5:, 5:], predicted[4, 5:, 6:] = 2, 2
    found = measure(predicted, reference, SPACING, {"left": 1, "right": 2, "nowhere": 3})
    assert found[DICE] == {"left": 1.0, "right": 2 * 8 / (8 + 12), "nowhere": None}


def test_the_mean_over_cases_leaves_out_those_that_a_structure_is_not_in():
    cases = [
        {"a": {"x": 0.5, "y": None}},
        {"a": {"x": 1.0, "y": None}},
        {"a": {"x": None, "y": None}},
    ]
    assert mean_over_cases(cases) == {"a": {"x": 0.75, "y": None}}
    assert mean_over_cases([]) == {}


def test_the_mean_over_structures_is_over_those_that_were_measured():
    assert with_mean({"x": 0.5, "y": None, "z": 1.0}) == {"x": 0.5, "y": None, "z": 1.0, MEAN: 0.75}
    assert with_mean({"x": None}) == {"x": None, MEAN: None}


def test_a_metric_of_a_later_version_is_shown_by_its_name():
    names = [metric.name for metric in known(["later", DICE])]
    assert names == [DICE, "later"] and known(["later"])[0].title == "later"


def test_two_metrics_cannot_have_one_name():
    with pytest.raises(ValueError, match="two metrics are named 'dice'"):
        register(DICE, title="Dice", larger_is_better=True, best=1.0)(lambda pair: 0.0)


LABELS = {"background": 0, "x": 1, "y": 2}


def test_what_an_earlier_version_evaluated_is_recorded_the_same():
    new = {"metrics": {DICE: {"x": 0.5, "y": None}}}
    wanted = {DICE: {"x": 0.5, "y": None, MEAN: 0.5}}
    assert measured(LABELS, new) == measured(LABELS, {"cases": {}, "dice": [0.5, None]}) == wanted


@pytest.mark.parametrize("evaluation", [{"cases": {}, "metrics": {}}, {"cases": {}, "dice": []}])
def test_without_test_cases_nothing_was_measured(evaluation):
    assert measured(LABELS, evaluation) == {DICE: {"x": None, "y": None, MEAN: None}}


REST = {
    "number": 0,
    "strategy": "random",
    "seed": 0,
    "budget": 1,
    "labelled_samples": 1,
    "labelled_slices": 1,
    "labelled_voxels": 1,
    "fraction": 0.1,
    "pool_samples": 10,
    "class_voxels": [],
    "selected": {},
    "diagnostics": {},
    "seconds": {},
    "peak_memory_mb": {},
    "recipe": {},
    "training": {"dice": 0.25, "class_dice": [0.25, None]},
    "hashes": {},
}


def test_a_record_of_an_earlier_version_is_read_as_one_of_this():
    dice = {"x": 0.5, "y": None, MEAN: 0.5}
    old, new = (
        RoundRecord.from_json({**REST, "dice": dice}),
        RoundRecord.from_json({**REST, "metrics": {DICE: dice}}),
    )
    assert old == new and old.metrics == {DICE: dice} and old.mean() == 0.5
    assert old.mean("of a later version") is None
    assert old.training_metrics == {DICE: {"x": 0.25, "y": None, MEAN: 0.25}}
