"""Plan once, preprocess images once: what never depends on anybody's annotation (docs/method.md,
1.6).

nnU-Net's own fingerprint counts the ignore label as foreground and so lets annotation change the
normalisation; ours is made from the images alone and is frozen with the plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.imaging.outliers import without_outliers
from alunet.model.classes import describe
from alunet.model.environment import CONFIGURATION, Folders
from alunet.model.interface import CaseFiles
from alunet.model.prepared import is_prepared, read_properties, write_case
from alunet.pool import CaseGeometry
from alunet.schema import Emit, Event
from alunet.storage.files import remove_leftovers, write_json

_LARGE_PATCH = 128 * 128  # pixels
_SMALLEST_PATCH = 12  # pixels along a side
_FLAT = 999.0  # spacing of an axis with a single voxel, in the largest of the others
_NETWORK = re.compile(r"dynamic_network_architectures\.architectures\.[a-z_]+\.[A-Z]\w+")
_LAYER = re.compile(r"torch\.nn(\.modules\.[a-z]+)?\.[A-Z]\w+")
_SAMPLES_PER_CASE = 20_000  # voxels drawn of each case for the intensity statistics


def read_image(files: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
    """Image (C, k, j, i) float32 and nnU-Net's properties, by nnU-Net's own reader.

    Voxels far beyond all others are brought near them, see `alunet.imaging.outliers`.

    An axis with a single voxel gets a huge spacing, as nnU-Net's readers do it for 2D images
    (`SimpleITKIO` and `NaturalImage2DIO` of nnU-Net: times 999), so that the planner slices across
    it and never along.
    """
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    image, properties = SimpleITKIO().read_images([str(file) for file in files])
    image = np.stack([without_outliers(channel) for channel in image])
    spacing = np.array(properties["spacing"], float)
    flat = np.array(image.shape[1:]) == 1
    properties["spacing"] = np.where(flat, spacing.max() * _FLAT, spacing).tolist()
    return image, properties


def plan(
    nnunet: Path,
    cases: Sequence[CaseFiles],
    labels: dict[str, int],
    channels: Sequence[str],
    dropout: float,
    emit: Emit,
    width: float = 1.0,
) -> None:
    """Write nnU-Net's dataset.json, our fingerprint and nnU-Net's plan with a dropout entry and
    another width.

    Args:
        labels: names to numbers of the project, background 0, without the ignore label, which is
            added as the highest class.
        channels: nnU-Net's channel names; "CT" selects its CT normalisation.
        dropout: rate of the element-wise dropout after each convolution while training
            (docs/method.md, 2.1).
        width: features of each stage, as a share of nnU-Net's; see `features`.
    """
    folders = Folders(nnunet)
    for folder in (folders.raw, folders.preprocessed):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folders.raw / "dataset.json", _dataset_json(cases, labels, channels))
    write_json(folders.fingerprint, dataset_fingerprint(cases, len(channels), emit))
    _plan_experiment(folders.raw.name)
    plans = json.loads(folders.plans.read_text(encoding="utf-8"))
    for configuration in plans["configurations"].values():
        if "architecture" in configuration:
            network = configuration["architecture"]["arch_kwargs"]
            network["dropout_op"] = "torch.nn.Dropout"
            network["dropout_op_kwargs"] = {"p": dropout}
            planned, patch = network["features_per_stage"], configuration["patch_size"]
            network["features_per_stage"] = features(planned, width, patch)
    write_json(folders.plans, plans)


def _plan_experiment(dataset: str) -> None:
    """Run nnU-Net's planner, with images of `_SMALLEST_PATCH` pixels a side at least.

    In smaller ones its 2D network halves nothing, so that it has one stage and no decoder. They are
    in the middle of a patch of that size.
    """
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    planner = ExperimentPlanner(dataset)
    usual = planner.get_plans_for_configuration

    def larger(spacing: Sequence[float], shape: Sequence[float], *others: Any) -> Any:
        return usual(
            spacing, np.maximum(shape, _SMALLEST_PATCH if len(spacing) == 2 else 1), *others
        )

    planner.get_plans_for_configuration = larger
    planner.plan_experiment()


def features(planned: Sequence[int], width: float, patch: Sequence[int]) -> list[int]:
    """Return the features of each stage: `width` times the planned ones, and half of that where
    patches are large.

    Half the features are a quarter of the multiplications. A training of minutes needs many steps
    more than it needs features: some hundred steps on patches beyond 128 x 128 take a processor too
    long (docs/performance.md).
    """
    if width < 1 and np.prod(patch) > _LARGE_PATCH:
        width = width / 2
    return [max(1, round(width * count)) for count in planned]


def _dataset_json(
    cases: Sequence[CaseFiles], labels: dict[str, int], channels: Sequence[str]
) -> dict[str, Any]:
    return {
        "name": "ALUNet",
        "channel_names": {str(index): name for index, name in enumerate(channels)},
        **describe(labels),
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {
            c.name: {"images": [str(i) for i in c.images], "label": str(c.images[0])} for c in cases
        },
    }


def dataset_fingerprint(cases: Sequence[CaseFiles], channels: int, emit: Emit) -> dict[str, Any]:
    """nnU-Net's dataset fingerprint, with intensity statistics of the images' bodies instead of
    labelled voxels.

    The body of an image are the voxels above its Otsu threshold: without labels, the nearest thing
    to nnU-Net's foreground that leaves out the air of a CT. Only CT normalisation reads these
    statistics.
    """
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

    spacings, shapes, kept, intensities = [], [], [], [[] for _ in range(channels)]
    for index, case in enumerate(cases):
        image, properties = read_image(case.images)
        if not image.any():
            raise InputError(f"Case '{case.name}' has no voxel other than 0.", "Leave it out.")
        cropped, _, _ = crop_to_nonzero(image)
        spacings.append([float(s) for s in properties["spacing"]])
        shapes.append([int(n) for n in cropped.shape[1:]])
        kept.append(cropped[0].size / image[0].size)
        generator = np.random.default_rng(index)
        for channel in range(channels):
            intensities[channel].append(_body_sample(cropped[channel], generator))
        emit(
            Event(
                "progress",
                {"phase": "read images", "done": index + 1, "total": len(cases), "unit": "cases"},
            )
        )
    return {
        "spacings": spacings,
        "shapes_after_crop": shapes,
        "median_relative_size_after_cropping": float(np.median(kept)),
        "foreground_intensity_properties_per_channel": {
            str(channel): _statistics(np.concatenate(values))
            for channel, values in enumerate(intensities)
        },
    }


def _body_sample(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from skimage.filters import threshold_otsu

    voxels = image.ravel()
    if voxels.min() < voxels.max():
        voxels = voxels[voxels > threshold_otsu(voxels)]
    return generator.choice(voxels, min(_SAMPLES_PER_CASE, voxels.size), replace=False)


def _statistics(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
    return {
        "mean": float(values.mean()),
        "median": float(median),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_00_5": float(low),
        "percentile_99_5": float(high),
    }


def preprocess(nnunet: Path, cases: Sequence[CaseFiles], emit: Emit) -> list[str]:
    """Crop, normalise and resample the images, each once; returns the geometries (JSON) in the
    order of `cases`.

    Cases that are already there are left as they are. The label file beside each image holds 0
    inside the image's non-zero mask and -1 outside: the mask comes from the image, never from
    annotation.
    """
    folders = Folders(nnunet)
    folders.images.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folders.images)  # of a run that was killed
    geometries = []
    for index, case in enumerate(cases):
        geometries.append(_preprocess_case(folders, case).to_json())
        emit(
            Event(
                "progress",
                {"phase": "preprocess", "done": index + 1, "total": len(cases), "unit": "cases"},
            )
        )
    return geometries


def _preprocess_case(folders: Folders, case: CaseFiles) -> CaseGeometry:
    plans, configuration, dataset = load_plans(folders)
    if not is_prepared(folders, case.name):
        data, mask, properties = preprocess_image(
            case.name, case.images, plans, configuration, dataset
        )
        write_case(folders, case.name, data, mask, properties, configuration.patch_size)
    properties = read_properties(folders, case.name)
    return CaseGeometry.from_properties(
        case.name,
        properties["raw_shape"],
        plans.transpose_forward,
        properties,
        properties["grid_shape"],
    )


def preprocess_image(
    name: str, files: Sequence[Path], plans: Any, configuration: Any, dataset: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Crop, normalize and resample an image; returns it (C, k, j, i), its mask, and what leads
    back to its voxels.

    Raises:
        InputError: it cannot be normalized.
    """
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    image, properties = read_image(files)
    properties["raw_shape"] = tuple(image.shape[1:])
    data, mask, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image, None, properties, plans, configuration, dataset
    )
    _check_normalized(name, image, data)
    properties["grid_shape"] = tuple(int(n) for n in data.shape[1:])
    return data, mask, properties


def _check_normalized(name: str, image: np.ndarray, data: np.ndarray) -> None:
    """Refuse what a network cannot learn from: values that are not finite, or all equal where the
    image's are not.

    One voxel of 1e38 is enough: the mean or the deviation overflows.
    """
    for raw, channel in zip(image, data, strict=True):
        flat = raw.min() < raw.max() and channel.min() == channel.max()
        if flat or not np.isfinite(channel).all():
            raise InputError(
                f"Case '{name}' cannot be normalized: its values reach from {raw.min():.3g} to "
                f"{raw.max():.3g}.",
                "Replace such values in the image (often a mark for 'no data'), or leave the case "
                "out.",
            )


def load_plans(folders: Folders) -> tuple[Any, Any, dict[str, Any]]:
    """nnU-Net's PlansManager, the manager of the 2D configuration, and dataset.json.

    Raises:
        InputError: the plan names another network than a planner of nnU-Net.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_plans(folders))
    dataset = json.loads(folders.dataset_json.read_text(encoding="utf-8"))
    return plans, plans.get_configuration(CONFIGURATION), dataset


def read_plans(folders: Folders) -> dict[str, Any]:
    """Return nnU-Net's plan, plain values.

    nnU-Net imports and calls what a plan names as network and as its parts, so that a plan may name
    networks and layers alone.

    Raises:
        InputError: it names anything else.
    """
    content: dict[str, Any] = json.loads(folders.plans.read_text(encoding="utf-8"))
    for configuration in content["configurations"].values():
        network = configuration.get("architecture", {})
        kwargs = network.get("arch_kwargs", {})
        parts = [kwargs.get(key) for key in network.get("_kw_requires_import", ())]
        named = [(_NETWORK, network.get("network_class_name"))]
        for form, name in [*named, *((_LAYER, part) for part in parts)]:
            if name is not None and not form.fullmatch(str(name)):
                raise InputError(
                    f"{folders.plans} names '{name}', which is no part of a network.",
                    "Use the project that was planned here.",
                )
    return content
