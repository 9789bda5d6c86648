"""A small real project: six hippocampus scans, planned, partly annotated and briefly trained,
once for all tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small import INITIAL, RECIPE

from alunet.imaging.dataset import read_dataset_description
from alunet.loop import Loop
from alunet.model import child, environment
from alunet.model.interface import SHIPPED
from alunet.pool import CaseGeometry, Pool
from alunet.project import Project
from alunet.simulation.rounds import play_first_round

LABELS = {"background": 0, "Anterior": 1, "Posterior": 2}
SETTINGS = {
    "epochs": 2,
    "iterations": 30,
    "check_iterations": 1,
    "batch_size": 8,
    "optimizer": "adamw",
}


@dataclass(frozen=True)
class Trained:
    """A planned data set with a network trained for a moment on every fourth slice."""

    root: Path
    nnunet: Path
    pool: Pool
    truth: dict[str, np.ndarray]
    annotations: dict[str, np.ndarray]
    weights: Path

    @property
    def ids(self) -> np.ndarray:
        return np.arange(len(self.pool))

    def learn(
        self, out: Path, weights_in: Path | None = None, seed: int = 3, **changes: object
    ) -> dict:
        """Train in a child process as the loop does."""
        annotated = {
            case: {
                "file": str(self.root / f"{case}.nrrd"),
                "slices": int((a != 3).any((1, 2)).sum()),
            }
            for case, a in self.annotations.items()
        }
        settings = SETTINGS | {"learning_rate": 1e-3} | changes
        return child.run(
            "alunet.loop.steps:learn",
            {
                "framework": SHIPPED,
                "folder": str(self.nnunet),
                "labels": str(self.root / "labels"),
                "annotated": annotated,
                "tests": [],
                "structures": {},
                "training": settings,
                "scoring": {},
                "weights_in": str(weights_in) if weights_in else None,
                "weights_out": str(out),
                "seed": seed,
                "device": "cpu",
                "threads": 1,
            },
            environment=environment.variables(self.nnunet, out.parent / "training", 1),
            log=out.parent / "train.log",
        )


@pytest.fixture(scope="session")
def trained(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Six real scans; every fourth slice of four of them is annotated."""
    root = tmp_path_factory.mktemp("trained")
    source = real_data / "Task04_Hippocampus"
    files = sorted((source / "imagesTr").glob("*.nii.gz"))[:6]
    cases = [{"name": file.name[:-7], "images": [str(file)]} for file in files]
    nnunet = root / "nnunet"
    found = child.run(
        "alunet.loop.steps:prepare",
        {
            "framework": SHIPPED,
            "folder": str(nnunet),
            "plan_cases": cases,
            "cases": cases,
            "labels": LABELS,
            "channels": ["MRI"],
            "dropout": 0.01,
        },
        environment=environment.variables(nnunet, root, 1),
        log=root / "prepare.log",
    )
    pool = Pool.build(
        [CaseGeometry.from_json(text) for text in found["geometries"]], found["patch"]
    )
    truth = {
        c["name"]: sitk.ReadImage(str(source / "labelsTr" / f"{c['name']}.nii.gz"), sitk.sitkUInt8)
        for c in cases
    }
    annotations = {}
    for name in list(truth)[:4]:
        reference = sitk.GetArrayFromImage(truth[name])
        annotations[name] = np.full_like(reference, 3)
        annotations[name][::4] = reference[::4]
        image = sitk.GetImageFromArray(annotations[name])
        image.CopyInformation(truth[name])
        sitk.WriteImage(image, str(root / f"{name}.nrrd"))
    arrays = {name: sitk.GetArrayFromImage(image) for name, image in truth.items()}
    made = Trained(root, nnunet, pool, arrays, annotations, root / "weights.pth")
    made.learn(made.weights)
    return made


@pytest.fixture(scope="session")
def started(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of six real scans, two of them for testing, after round 0; tests that go on do
    so with a fork.
    """
    source = real_data / "Task04_Hippocampus"
    root = tmp_path_factory.mktemp("loop") / "projet d'été"  # a blank and letters beyond ASCII
    description = read_dataset_description(source)
    with Project.create(
        root, name="h", labels=description.labels, channels=description.channels
    ) as project:
        project.cases.import_dataset(source, limit=6)
        project.cases.set_role([case.name for case in project.cases.all()][-2:], "test")
        play_first_round(Loop(project, RECIPE, seed=4, threads=1), INITIAL)
    return root
