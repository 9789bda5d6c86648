"""The oracle's effort in a simulated round, from the model's proposal to the reference labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nearest_mean import NearestMean
from small import RECIPE
from test_model_interface import LABELS, picture

from alunet.imaging.reading import EXACT_ENDING, read_labels
from alunet.loop import Loop, outputs
from alunet.loop.oracle import read_reference
from alunet.project import Project
from alunet.proposals.effort import Effort, effort_of, total_of
from alunet.simulation.rounds import play_first_round, play_round


@pytest.mark.slow
def test_the_oracle_corrects_what_the_model_proposes(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Project.create(tmp_path / "p", name="p", labels=LABELS, channels=["MRI"]) as project:
        for seed, name in enumerate("abcde"):
            files = [tmp_path / f"{name}{kind}.nrrd" for kind in ("", "_label")]
            for array, file in zip(picture(seed), files, strict=True):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
            project.cases.import_case(name, files[:1], files[1])
        project.cases.set_role(["e"], "test")
        recipe = RECIPE.for_seconds(60)
        loop = Loop(project, recipe, seed=1, device="cpu", threads=1, framework=NearestMean())
        first = play_first_round(loop, 6)
        names = list("abcd")
        outputs.predict(loop, names, tmp_path / "seen", EXACT_ENDING, proposals=True)
        second = play_round(loop, "random", 5)
        truth = {case.name: read_reference(case) for case in project.cases.all("pool")}
        start = {name: read_labels(tmp_path / "seen" / f"{name}{EXACT_ENDING}") for name in names}
        pool = project.pool

        def effort(sample: int, begin: dict[str, np.ndarray]) -> Effort:
            name, place = pool.case_name(sample), pool.raw_slices(sample)
            return effort_of(begin[name][place][0], truth[name][place][0], (1.0, 1.0))

        empty = {name: np.zeros_like(labels) for name, labels in truth.items()}
        for record, begin in ((first, empty), (second, start)):
            wanted = total_of(effort(sample, begin) for sample in record.selected["ids"])
            assert Effort.from_json(record.effort) == wanted
        kept = json.loads((project.rounds_dir / "001" / "effort.json").read_text("utf-8"))
        assert set(kept) == {str(sample) for sample in second.selected["ids"]}
        assert not (project.rounds_dir / "001" / "proposals").exists()
