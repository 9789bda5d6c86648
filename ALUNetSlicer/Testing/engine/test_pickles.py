"""Nothing in a project's folder is ever executed, whoever made the folder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch
from small import BUDGET, RECIPE

from alunet.errors import AlunetError
from alunet.loop import Loop
from alunet.loop.outputs import export_model, predict, uncertainty
from alunet.model.environment import Folders
from alunet.model.plan import load_plans
from alunet.model.stored import load_tensors
from alunet.model.trainer import SparseTrainer
from alunet.project import Project

ENDINGS = (".pkl", ".pth", ".npz", ".npy", ".b2nd")


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def plant(root: Path, marker: Path) -> int:
    """Put a pickle into every file that could be taken for one; return into how many."""
    images = Folders(root / "nnunet").images
    for image in list(images.glob("*.b2nd")):
        if not image.name.endswith("_seg.b2nd"):
            image.with_suffix(".pkl").touch()  # where earlier versions had it
    (root / "cache").mkdir(exist_ok=True)
    (root / "rounds" / "001" / "training").mkdir(parents=True, exist_ok=True)
    (root / "rounds" / "001" / "training" / "checkpoint_latest.pth").touch()
    files = [file for file in root.rglob("*") if file.suffix in ENDINGS]
    for file in files:
        if file.suffix == ".pth":
            torch.save({"weight": Planted(marker)}, file)
        elif file.suffix in (".npz", ".npy"):
            array = np.empty(1, object)
            array[0] = Planted(marker)
            with file.open("wb") as stream:
                save = np.savez if file.suffix == ".npz" else np.save
                save(stream, array, allow_pickle=True)
        else:
            file.write_bytes(pickle.dumps(Planted(marker)))
    return len(files)


def use(root: Path, out: Path) -> list[str]:
    """Plan, train, score, predict and export; return what refused to."""
    refused = []
    with Project.open(root) as project:
        loop = Loop(project, RECIPE, seed=4, threads=1)
        for name, step in (
            ("plan", loop.prepare),
            ("suggest", lambda: loop.suggest("entropy", BUDGET)),
            ("learn", loop.learn),
            ("predict", lambda: predict(loop, [], out / "predicted", ".nii.gz")),
            ("uncertainty", lambda: uncertainty(loop, name_of(project), out / "u.mha", "entropy")),
            ("export", lambda: export_model(loop, out / "model.zip")),
        ):
            try:
                step()
            except AlunetError as error:
                refused.append(f"{name}: {error}")
    return refused


def name_of(project: Project) -> str:
    return project.cases.all()[0].name


def test_a_planted_pickle_runs_nowhere(started, tmp_path):
    root, marker = tmp_path / "copied", tmp_path / "executed"
    shutil.copytree(started, root)
    assert plant(root, marker) > 20
    refused = use(root, tmp_path)
    assert not marker.exists()
    assert refused, "planted weights were taken for weights"
    assert all("\n" not in line and "Traceback" not in line for line in refused), refused


def test_what_an_earlier_version_pickled_is_prepared_anew(started, tmp_path):
    """Its preprocessed images have their properties in pickles, which are not read."""
    root, marker = tmp_path / "older", tmp_path / "executed"
    shutil.copytree(started, root)
    folders = Folders(root / "nnunet")
    before = {file.name: blosc2.open(str(file), mode="r")[:] for file in folders.images.iterdir()}
    shutil.rmtree(folders.preprocessed / "properties")
    for name in before:
        if not name.endswith("_seg.b2nd"):
            properties = folders.images / name.replace(".b2nd", ".pkl")
            properties.write_bytes(pickle.dumps(Planted(marker)))
    assert use(root, tmp_path) == []
    assert not marker.exists()
    after = {file.name: blosc2.open(str(file), mode="r")[:] for file in folders.images.iterdir()}
    assert after.keys() == before.keys(), "the pickles are gone"
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_what_is_written_is_read_as_numbers_alone(started, tmp_path):
    with Project.open(started, read_only=True) as project:
        loop = Loop(project, RECIPE, seed=4, threads=1)
        assert all(
            isinstance(value, torch.Tensor)
            for value in load_tensors(loop.weights(loop.last())).values()
        )
    assert not [file for file in started.rglob("*") if file.suffix == ".pkl"]


def test_a_plan_names_networks_alone(started, tmp_path):
    """nnU-Net imports and calls what a plan names."""
    root = tmp_path / "copied"
    shutil.copytree(started / "nnunet", root)
    folders, marker = Folders(root), tmp_path / "executed"
    plans = json.loads(folders.plans.read_text(encoding="utf-8"))
    architecture = plans["configurations"]["2d"]["architecture"]
    for key, value in (
        ("network_class_name", "subprocess.Popen"),
        ("network_class_name", "dynamic_network_architectures.os.system"),
        ("nonlin", "builtins.open"),
    ):
        changed = {**architecture, "arch_kwargs": dict(architecture["arch_kwargs"])}
        (changed if key in changed else changed["arch_kwargs"])[key] = value
        content = {"2d": {**plans["configurations"]["2d"], "architecture": changed}}
        folders.plans.write_text(json.dumps({**plans, "configurations": content}), encoding="utf-8")
        with pytest.raises(AlunetError, match="no part of a network"):
            load_plans(folders)
    assert not marker.exists()


def test_a_stopped_training_goes_on_from_numbers_alone(tmp_path):
    """What nnU-Net's trainer keeps to go on from is read without running anything."""
    trainer = object.__new__(SparseTrainer)
    network = torch.nn.Conv2d(1, 2, 3)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    network(torch.ones(1, 1, 5, 5)).sum().backward()
    optimizer.step()
    logger = type("Logger", (), {"get_checkpoint": lambda self: {"losses": [np.float64(0.5)]}})()
    for name, value in {
        "network": network,
        "optimizer": optimizer,
        "grad_scaler": None,
        "logger": logger,
        "_best_ema": np.float32(0.25),
        "current_epoch": 3,
        "my_init_kwargs": {"device": torch.device("cpu"), "fold": 0},
        "inference_allowed_mirroring_axes": (0, 1),
        "best": {},
        "_average": None,
    }.items():
        setattr(trainer, name, value)
    np.random.seed(5)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    kept = load_tensors(tmp_path / "checkpoint_latest.pth")
    assert kept["logging"] == {"losses": [0.5]} and kept["_best_ema"] == 0.25
    kind, numbers, *rest = kept["alunet"]["numpy"]
    expected = np.random.random()
    np.random.set_state((kind, numbers.numpy(), *rest))
    assert np.random.random() == expected
