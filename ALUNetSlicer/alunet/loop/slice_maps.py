"""Maps of the newest model's uncertainty for single slices, each written as soon as it is computed;
whole cases take minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alunet.errors import InputError
from alunet.loop.loop import Loop
from alunet.loop.outputs import open_model, preprocessed
from alunet.model.settings import MEASURES
from alunet.pool import CaseGeometry
from alunet.project.importing import counted
from alunet.query import Streams
from alunet.query.weights import class_weights
from alunet.schema import Emit
from alunet.storage.files import atomic_path


def slice_map(folder: Path, measure: str, case: str, sample: int) -> Path:
    """Return where the map of a sample is, below the folder of a round."""
    return folder / "uncertainty" / measure / "slices" / str(sample) / f"{case}.npy"


def make_slice_maps(loop: Loop, samples: Sequence[int], measure: str) -> list[Path]:
    """Write how unsure the newest model is of each voxel of samples' boxes, (k, j, i) float32, in
    their order; those that are there stay.

    The values are those of `outputs.uncertainty` for the same voxels.

    Raises:
        InputError: a sample is unknown, there is no model, or there is no such measure.
    """
    if measure not in MEASURES:
        raise InputError(
            f"There is no measure '{measure}'.", f"Choose one of: {', '.join(MEASURES)}."
        )
    weights, project = loop.newest_weights(), loop.project
    files = {
        sample: slice_map(loop.folder(), measure, project.samples.place(sample).case, sample)
        for sample in samples
    }
    missing = [
        _described(loop, sample, file) for sample, file in files.items() if not file.exists()
    ]
    noise = Streams(loop.seed, loop.last() + 1).sequence("mc-dropout").generate_state(4)
    if missing:
        loop.run_child(
            "alunet.loop.slice_maps:map_samples",
            weights.with_name("uncertainty.log"),
            samples=missing,
            measure=measure,
            weights_of_classes=class_weights(project.annotations.class_voxels()).tolist(),
            weights=str(weights),
            scoring=loop.scoring,
            noise=[int(word) for word in noise],
            device=loop.device,
            threads=loop.threads,
        )
    return list(files.values())


def _described(loop: Loop, sample: int, file: Path) -> dict[str, Any]:
    """What the child must know of a sample."""
    place, pool = loop.project.samples.place(sample), loop.project.samples.pool
    case = preprocessed(loop, [place.case])[0]
    return {
        "file": str(file),
        "geometry": case.geometry.to_json() if case.geometry else "",
        "slice": int(pool.slice[sample]),
        "box": [list(edges) for edges in place.box],
    }


# --- inside the child -----------------------------------------------------------------------------


def map_samples(
    framework: str,
    folder: str,
    samples: list[dict[str, Any]],
    measure: str,
    weights_of_classes: list[float],
    weights: str,
    scoring: dict[str, Any],
    noise: list[int],
    device: str,
    threads: int,
    emit: Emit,
) -> None:
    """Write the maps of `samples` [{"file", "geometry", "slice", "box"}], one after the other."""
    model = open_model(framework, folder, weights, scoring, device, threads, _silent)
    class_weights = np.array(weights_of_classes)
    for sample, _ in counted(samples, "map", emit, "slices"):
        case, file = CaseGeometry.from_json(sample["geometry"]), Path(sample["file"])
        given = (case, measure, class_weights, tuple(noise), [sample["slice"]])
        values, box = model.uncertainty(*given), [slice(*edges) for edges in sample["box"]]
        box[case.transpose[0]] = slice(0, 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            np.save(part, np.ascontiguousarray(values[tuple(box)], np.float32))


def _silent(_event: object) -> None:
    """Ignore the progress of a single slice, which takes a moment."""
