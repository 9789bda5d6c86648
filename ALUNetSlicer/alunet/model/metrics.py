"""What is measured on the test cases: the one registry of metrics.

A metric is a function of a `Pair`, which holds the reference mask and the predicted mask of one
structure in one case; `register` gives it a name. Records, tables, plots, the service and the
terminal take all metrics from here. Where both masks are empty nothing is measured (None); a
function says what it gives where one of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DICE = "dice"
"""The metric by which models are compared where there is room for one alone."""

MEAN = "mean"
"""The name under which the mean over the structures is kept, beside theirs."""

Values = dict[str, float | None]
"""Structure -> value; None where it was not measured."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One structure in one case, cropped to the box that holds both masks.

    Attributes:
        reference, predicted: boolean masks of one shape, 3D; of an image of one slice 2D. At least
            one holds a voxel.
        spacing: mm for each axis.
        diagonal: of the whole image, mm: no two of its points are farther apart.
    """

    reference: np.ndarray
    predicted: np.ndarray
    spacing: tuple[float, ...]
    diagonal: float

    @cached_property
    def surface_distances(self) -> tuple[np.ndarray, np.ndarray] | None:
        """From each surface voxel of the reference to the nearest one of the prediction, and back,
        in mm.

        A surface voxel has a neighbor, across a face, outside the mask or outside the image. None
        where a mask is empty.
        """
        if not (self.reference.any() and self.predicted.any()):
            return None
        from scipy import spatial  # slow to load, and not needed to show metrics

        one, other = (_surface(mask) * self.spacing for mask in (self.reference, self.predicted))
        return spatial.KDTree(other).query(one)[0], spatial.KDTree(one).query(other)[0]


def _surface(mask: np.ndarray) -> np.ndarray:
    """Indices of the surface voxels, a row each."""
    from scipy import ndimage

    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


@dataclass(frozen=True)
class Metric:
    """A metric that is registered.

    Attributes:
        name: in records and columns; lower-case letters, digits and underscores.
        title: for people.
        unit: "" for a plain number.
        larger_is_better: whether a good model has a large value.
        best: value of identical masks.
        function: gives the value of a pair.
    """

    name: str
    title: str
    unit: str
    larger_is_better: bool
    best: float
    function: Callable[[Pair], float]

    @property
    def heading(self) -> str:
        """Title and unit, for a column or an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def words(self, value: float) -> str:
        """Title and value, as a sentence says them."""
        return f"{self.title} {value:.3f}{self.unit and ' ' + self.unit}"


_REGISTRY: dict[str, Metric] = {}


def register(
    name: str, *, title: str, unit: str = "", larger_is_better: bool, best: float
) -> Callable[[Callable[[Pair], float]], Callable[[Pair], float]]:
    """Function decorator: make a function of a `Pair` known as a metric; see `Metric`."""

    def enter(function: Callable[[Pair], float]) -> Callable[[Pair], float]:
        if name in _REGISTRY:
            raise ValueError(f"two metrics are named {name!r}")
        _REGISTRY[name] = Metric(name, title, unit, larger_is_better, best, function)
        return function

    return enter


def metrics() -> dict[str, Metric]:
    """All metrics by name, Dice first."""
    return dict(_REGISTRY)


def known(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names in the order of the registry, then those that this version does
    not know.
    """
    wanted = dict.fromkeys(names)
    foreign = [
        Metric(name, name, "", True, 1.0, _unknown) for name in wanted if name not in _REGISTRY
    ]
    return [metric for name, metric in _REGISTRY.items() if name in wanted] + foreign


def _unknown(pair: Pair) -> float:
    raise ValueError("a metric of another version cannot be measured")


# --- measuring ------------------------------------------------------------------------------------


def measure(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    structures: Mapping[str, int],
) -> dict[str, Values]:
    """Measure all metrics of one case: metric -> structure -> value.

    Args:
        predicted, reference: label maps of one shape.
        spacing: mm for each axis.
        structures: name -> value in the label maps.
    """
    pairs = _pairs(*_flat(predicted, reference, spacing), structures)
    return {
        metric.name: {
            name: None if pair is None else float(metric.function(pair))
            for name, pair in pairs.items()
        }
        for metric in _REGISTRY.values()
    }


def mean_over_cases(tables: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """Of each metric and structure the mean over the cases in which it was measured."""
    if not tables:
        return {}
    return {
        name: {
            structure: _mean([table[name][structure] for table in tables]) for structure in values
        }
        for name, values in tables[0].items()
    }


def with_mean(values: Values) -> Values:
    """The values of the structures, and their mean over those in which it was measured, as
    `MEAN`.
    """
    return {**values, MEAN: _mean(list(values.values()))}


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def _flat(
    predicted: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out the axis of an image of one slice: it has an outline, but no surface above and
    below.
    """
    axes = [axis for axis, size in enumerate(predicted.shape) if size == 1]
    if predicted.ndim != 3 or len(axes) != 1:
        return predicted, reference, np.asarray(spacing, float)
    return (
        predicted.squeeze(axes[0]),
        reference.squeeze(axes[0]),
        np.delete(np.asarray(spacing, float), axes[0]),
    )


def _pairs(
    predicted: np.ndarray, reference: np.ndarray, spacing: np.ndarray, structures: Mapping[str, int]
) -> dict[str, Pair | None]:
    """Structure -> its masks, or None where both are empty."""
    from scipy import ndimage

    highest = max(structures.values(), default=0)
    places = [ndimage.find_objects(labels, highest) for labels in (predicted, reference)]
    diagonal = float(np.linalg.norm(spacing * predicted.shape))
    found: dict[str, Pair | None] = {}
    for name, value in structures.items():
        boxes = [place[value - 1] for place in places if place[value - 1] is not None]
        box = tuple(
            slice(min(s.start for s in part), max(s.stop for s in part))
            for part in zip(*boxes, strict=True)
        )
        found[name] = (
            Pair(
                reference[box] == value, predicted[box] == value, tuple(spacing.tolist()), diagonal
            )
            if boxes
            else None
        )
    return found


# --- the metrics ----------------------------------------------------------------------------------


@register(DICE, title="Dice", larger_is_better=True, best=1.0)
def _dice(pair: Pair) -> float:
    """2TP/(2TP+FP+FN) of the voxels; 0 where one mask is empty."""
    total = int(pair.reference.sum()) + int(pair.predicted.sum())
    return 2.0 * int((pair.reference & pair.predicted).sum()) / total


_TOLERANCE_MM = 2.0  # a name of its own for another one, so that a column never holds both


@register("surface_dice_2mm", title="Surface Dice at 2 mm", larger_is_better=True, best=1.0)
def _surface_dice(pair: Pair) -> float:
    """Share of both surfaces, counted in voxels, that lies within 2 mm of the other; 0 where one
    mask is empty.
    """
    if pair.surface_distances is None:
        return 0.0
    distances = np.concatenate(pair.surface_distances)
    return float(np.mean(distances <= _TOLERANCE_MM + 1e-9))  # as 20 steps of 0.1 mm are


@register(
    "hausdorff_95", title="95 % Hausdorff distance", unit="mm", larger_is_better=False, best=0.0
)
def _hausdorff_95(pair: Pair) -> float:
    """The larger of the 95th percentiles of the surface distances in both directions.

    Where one mask is empty the diagonal of the image, so that a structure that was missed is not
    left out of the mean.
    """
    if pair.surface_distances is None:
        return pair.diagonal
    return float(max(np.percentile(distances, 95) for distances in pair.surface_distances))


@register("volume_difference", title="Volume difference", larger_is_better=False, best=0.0)
def _volume_difference(pair: Pair) -> float:
    """Absolute difference of both volumes as a part of their mean: 0 to 2, and 2 where one mask
    is empty.
    """
    import SimpleITK as sitk

    images = [
        sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (pair.reference, pair.predicted)
    ]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    return float(abs(overlap.GetVolumeSimilarity()))
