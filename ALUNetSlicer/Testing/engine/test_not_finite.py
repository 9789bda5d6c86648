"""A training that goes wrong says so: the case is named, the round stays open, the last good
model stays.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
from small import RECIPE

from alunet.errors import EngineError, InputError
from alunet.loop import Loop
from alunet.loop.oracle import Oracle
from alunet.model.environment import Folders
from alunet.project import Project
from alunet.storage.files import sha256_file

pytestmark = pytest.mark.slow


def poison(nnunet: Path, case: str) -> None:
    """Make every voxel of a preprocessed image infinite, as a preparation that goes wrong might."""
    folders = Folders(nnunet)
    file = folders.images / f"{case}.b2nd"
    image = blosc2.open(str(file), mode="r")[:]
    file.unlink()
    blosc2.asarray(np.full_like(image, np.inf), urlpath=str(file))
    properties = folders.preprocessed / "properties" / f"{case}.properties.json"
    content = json.loads(properties.read_text(encoding="utf-8"))
    content["sha256"][file.name] = sha256_file(file)
    properties.write_text(json.dumps(content), encoding="utf-8")


def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_case(trained, tmp_path):
    nnunet = shutil.copytree(trained.nnunet, tmp_path / "nnunet")
    bad = sorted(trained.annotations)[1]
    poison(nnunet, bad)
    broken = type(trained)(
        trained.root, nnunet, trained.pool, trained.truth, trained.annotations, trained.weights
    )
    with pytest.raises(EngineError, match=f"loss is not finite.*'{bad}'"):
        broken.learn(tmp_path / "out" / "weights.pth")
    assert not (tmp_path / "out" / "weights.pth").exists()


def test_the_round_stays_open_and_the_last_good_model_stays(started, tmp_path):
    root = shutil.copytree(started, tmp_path / "copy")
    with Project.open(root) as project:
        loop = Loop(project, RECIPE, seed=4, threads=1)
        before = sha256_file(loop.weights(0))
        batch = [entry.sample for entry in loop.suggest("random", 6)]
        Oracle(project).reveal(np.array(batch, np.int64), 1)
        prepared = Folders(project.nnunet_dir).preprocessed
        healthy = shutil.copytree(prepared, tmp_path / "healthy")
        for case in project.annotations.cases():
            poison(project.nnunet_dir, case)
        with pytest.raises(EngineError, match="not finite"):
            loop.learn()
        assert loop.current() == 1
        assert [entry.sample for entry in project.worklist.suggestions(1)] == batch
        assert sha256_file(loop.weights(0)) == before
        assert not loop.weights(1).exists()
        shutil.copytree(healthy, prepared, dirs_exist_ok=True)
        assert loop.learn().number == 1


@pytest.mark.parametrize("value", [-3.4e38, 1e38])
def test_an_image_with_one_impossible_voxel_is_refused_by_name(real_data, tmp_path, value):
    source = real_data / "Task04_Hippocampus" / "imagesTr" / "hippocampus_001.nii.gz"
    image = sitk.ReadImage(str(source), sitk.sitkFloat32)
    image[0, 0, 0] = value
    file = tmp_path / "spoiled.nrrd"
    sitk.WriteImage(image, str(file))
    with Project.create(
        tmp_path / "project", name="p", labels={"background": 0, "a": 1}, channels=["MRI"]
    ) as project:
        with pytest.raises(InputError, match=r"has the voxel .* at 0, 0, 0 \(i, j, k\)"):
            project.cases.import_case("spoiled", [file])
        assert project.cases.all() == []
