"""Training on sparse slices (docs/method.md, 1.5, 1.6): nnU-Net for real, in child processes."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
import torch

from alunet.errors import Cancelled, EngineError, InputError
from alunet.model import child, environment
from alunet.model.environment import Folders
from alunet.model.interface import SHIPPED
from alunet.model.labels import OUTSIDE, OUTSIDE_IGNORED, LabelFolder, _mark_outside
from alunet.model.network import Model
from alunet.model.settings import TrainingSettings

pytestmark = pytest.mark.slow


def trainer_of(trained, tmp_path, monkeypatch, counts, **settings):
    """The real trainer over the cases of `counts`, in this process."""
    for name, value in environment.variables(trained.nnunet, tmp_path, 1).items():
        monkeypatch.setenv(name, value)
    from alunet.model.trainer import SparseTrainer

    folders = Folders(trained.nnunet)
    plans = json.loads(folders.plans.read_text(encoding="utf-8")) | {"continue_training": False}
    dataset = json.loads(folders.dataset_json.read_text(encoding="utf-8"))
    trainer = SparseTrainer(plans, "2d", 0, dataset, torch.device("cpu"))
    labels = LabelFolder(trained.root / "labels", trained.nnunet)
    trainer.configure(TrainingSettings(batch_size=16, **settings), labels, counts, print)
    trainer.initialize()
    return trainer


def test_only_annotated_cases_are_drawn_by_weight_and_padding_is_ignored(
    trained, tmp_path, monkeypatch
):
    names = sorted(trained.annotations)
    trainer = trainer_of(trained, tmp_path, monkeypatch, {names[0]: 9, names[1]: 1})
    feed, plain = trainer.get_dataloaders()
    drawn = [str(key) for _ in range(20) for key in next(feed)["keys"]]
    assert set(drawn) <= set(names[:2])
    assert drawn.count(names[0]) > 4 * drawn.count(names[1])
    for _ in range(5):
        batch = next(plain)
        finest = batch["target"][0][:, 0].numpy()
        image = batch["data"][:, 0].numpy()
        assert set(np.unique(finest)) <= {0, 1, 2, 3}
        # runs of exact zeros: not in a normalised scan
        padded = (image == 0) & (np.roll(image, 1, axis=-1) == 0)
        assert (finest[padded] == 3).mean() > 0.99
        assert (finest != 3).any((1, 2)).all(), "a patch without any annotated pixel"


def test_cases_are_drawn_alike_where_the_published_code_is_followed(trained, tmp_path, monkeypatch):
    """C16."""
    names = sorted(trained.annotations)[:2]
    trainer = trainer_of(
        trained, tmp_path, monkeypatch, dict(zip(names, (19, 1), strict=True)), cases="uniform"
    )
    feed, _ = trainer.get_dataloaders()
    drawn = [str(key) for _ in range(20) for key in next(feed)["keys"]]
    assert 0.4 < drawn.count(names[0]) / len(drawn) < 0.6


def test_labels_on_the_grid_are_the_annotation(trained):
    """No resampling in this set: exact. Slices nobody annotated carry the ignore label alone."""
    folder = LabelFolder(trained.root / "labels", trained.nnunet)
    for name, annotation in trained.annotations.items():
        labels, locations = folder.load(name)
        assert np.array_equal(labels[:][0], annotation)
        annotated = (-1, 0, 1, 2)
        assert set(np.unique(locations[annotated][:, 1])) <= set(range(0, annotation.shape[0], 4))


def test_outside_of_the_mask_is_background_only_where_annotated():
    labels, mask = np.array([0, 0, 3, 3, 2]), np.array([0, -1, 0, -1, -1])
    assert _mark_outside(labels, mask, 3).tolist() == [0, OUTSIDE, 3, OUTSIDE_IGNORED, 2]


def test_a_round_leaves_images_and_plan_as_they_were(trained, tmp_path):
    folder = Folders(trained.nnunet).preprocessed
    before = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    trained.learn(tmp_path / "weights.pth", trained.weights, epochs=1, iterations=2)
    assert {
        file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    } == before


def test_warm_start_carries_all_weights_heads_included(trained, tmp_path):
    first = json.loads(json.dumps(trained.learn(tmp_path / "a" / "w.pth")))["training"]
    on = trained.learn(
        tmp_path / "b" / "w.pth",
        tmp_path / "a" / "w.pth",
        epochs=1,
        iterations=10,
        learning_rate=1e-6,
    )
    assert on["training"]["loss"] < first["loss"] + 0.1, (
        "the loss jumped: something was not carried over"
    )
    old, new = (torch.load(tmp_path / part / "w.pth", weights_only=True) for part in ("a", "b"))
    heads = [name for name in old if ".seg_layers." in name]
    assert heads and all(torch.allclose(old[name], new[name], atol=1e-3) for name in heads)


def test_heads_can_start_anew(trained, tmp_path, monkeypatch):
    """C12: everything is carried over but the segmentation heads, which are random, and another
    for another seed.
    """
    from alunet.model.train import load_weights

    old = torch.load(trained.weights, weights_only=True)
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        trainer = trainer_of(trained, tmp_path, monkeypatch, dict.fromkeys(trained.annotations, 1))
        load_weights(trainer.network, trained.weights, "reset")
        networks.append(
            {name: value.clone() for name, value in trainer.network.state_dict().items()}
        )
    heads = [name for name in old if ".seg_layers." in name and name.endswith("weight")]
    assert len(heads) == 3
    for name in heads:
        assert not torch.allclose(old[name], networks[0][name], atol=1e-3)
        assert not torch.equal(networks[0][name], networks[1][name])
    others = [name for name in old if ".seg_layers." not in name]
    assert all(torch.equal(old[name], network[name]) for name in others for network in networks)


def test_a_training_with_new_heads_starts_worse(trained, tmp_path):
    """T20 the other way round: the jump of the loss that the published code lives with."""
    losses = {
        heads: trained.learn(
            tmp_path / heads / "w.pth",
            trained.weights,
            epochs=1,
            iterations=5,
            learning_rate=1e-6,
            heads=heads,
        )["training"]["loss"]
        for heads in ("keep", "reset")
    }
    assert losses["reset"] > losses["keep"] + 0.1


def test_the_same_seed_trains_the_same_network(trained, tmp_path):
    one, two, other = (
        trained.learn(tmp_path / name / "w.pth", epochs=1, iterations=4, seed=seed)["training"][
            "sha256"
        ]
        for name, seed in (("one", 5), ("two", 5), ("other", 6))
    )
    weights = [
        torch.load(tmp_path / name / "w.pth", weights_only=True) for name in ("one", "two", "other")
    ]
    assert all(
        torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True)
    )
    assert one == two != other


def test_network_without_weights_of_another_shape(trained, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(RuntimeError, match="Missing key"):
        Model(trained.nnunet, tmp_path / "w.pth", "cpu")


def test_frozen_statistics_do_not_see_annotation(trained):
    content = json.loads(Folders(trained.nnunet).fingerprint.read_text(encoding="utf-8"))
    statistics = content["foreground_intensity_properties_per_channel"]["0"]
    assert statistics["percentile_00_5"] < statistics["mean"] < statistics["percentile_99_5"]
    plans = json.loads(Folders(trained.nnunet).plans.read_text(encoding="utf-8"))
    architecture = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
    assert architecture["dropout_op"] == "torch.nn.Dropout" and architecture[
        "dropout_op_kwargs"
    ] == {"p": 0.01}


class TestChild:
    def start(self, trained, tmp_path, cancel, events, iterations=2000):
        arguments = {
            "framework": SHIPPED,
            "folder": str(trained.nnunet),
            "labels": str(trained.root / "labels"),
            "annotated": {
                name: {"file": str(trained.root / f"{name}.nrrd"), "slices": 5}
                for name in trained.annotations
            },
            "tests": [],
            "structures": {},
            "training": {
                "epochs": 50,
                "iterations": iterations,
                "check_iterations": 1,
                "batch_size": 4,
            },
            "scoring": {},
            "weights_in": None,
            "weights_out": str(tmp_path / "w.pth"),
            "seed": 1,
            "device": "cpu",
            "threads": 1,
        }
        variables = environment.variables(trained.nnunet, tmp_path / "training", 1)
        return child.run(
            "alunet.loop.steps:learn",
            arguments,
            environment=variables,
            log=tmp_path / "log",
            emit=events.append,
            cancel=cancel,
        )

    def test_cancel_ends_the_training_at_once(self, trained, tmp_path):
        cancel, events = threading.Event(), []

        def stop_soon() -> None:
            while not any(event.data.get("name") == "train" for event in events):
                time.sleep(0.05)
            cancel.set()

        threading.Thread(target=stop_soon, daemon=True).start()
        before = {p.pid for p in psutil.Process().children(recursive=True)}
        with pytest.raises(Cancelled):
            self.start(trained, tmp_path, cancel, events)
        assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
        assert not (tmp_path / "w.pth").exists()

    def test_a_killed_child_is_an_error_with_its_last_words(self, trained, tmp_path):
        def kill_soon() -> None:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                for process in psutil.Process().children():
                    if "alunet.model.child" in process.cmdline():
                        time.sleep(1)
                        process.kill()
                        return
                time.sleep(0.05)

        threading.Thread(target=kill_soon, daemon=True).start()
        with pytest.raises(EngineError, match="exit code"):
            self.start(trained, tmp_path, None, [])

    def test_bad_input_is_told_from_failure(self, trained, tmp_path):
        variables = environment.variables(trained.nnunet, tmp_path, 1)
        blank = tmp_path / "blank.nrrd"
        sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(blank))
        case = [{"name": "blank", "images": [str(blank)]}]
        plan = {"framework": SHIPPED, "folder": str(tmp_path), "plan_cases": case, "cases": case}
        with pytest.raises(InputError, match="'blank' has no voxel other than 0"):
            child.run(
                "alunet.loop.steps:prepare",
                {**plan, "labels": {"background": 0, "a": 1}, "channels": ["MRI"], "dropout": 0.01},
                environment=variables,
                log=tmp_path / "log",
            )
        with pytest.raises(InputError, match="'tpu' is not available"):
            environment.resolve_device("tpu")
        with pytest.raises(EngineError, match="ModuleNotFoundError"):
            child.run("alunet.nowhere:nothing", {}, environment=variables, log=tmp_path / "log")


def test_the_childs_variables_do_not_reach_this_process():
    assert "nnUNet_raw" not in os.environ


def test_predictor_segments_on_the_raw_grid(trained):
    from alunet.model.predict import Predictor
    from alunet.model.settings import ScoringSettings

    model = Model(trained.nnunet, trained.weights, "cpu")
    name = sorted(trained.truth)[0]
    found = Predictor(Path(trained.nnunet), model, ScoringSettings(mirroring=False)).segment(name)
    assert found.shape == trained.truth[name].shape
    assert set(np.unique(found)) <= {0, 1, 2}


def test_no_augmentation_is_chosen_by_a_stop_watch(trained, tmp_path, monkeypatch):
    """Else the same seed trains another network on a busy machine."""
    trainer = trainer_of(trained, tmp_path, monkeypatch, dict.fromkeys(trained.annotations, 3))
    loader, _ = trainer.get_dataloaders()
    transforms = [
        getattr(one, "transform", one) for one in loader.data_loader.transforms.transforms
    ]
    blurs = [one for one in transforms if type(one).__name__ == "GaussianBlurTransform"]
    assert len(blurs) == 1 and not blurs[0].benchmark


@pytest.mark.parametrize(
    "more", [{}, {"average": 0.3, "growth": 0.5, "warmup": 0.2}], ids=["plain", "averaged"]
)
def test_an_interrupted_training_ends_like_an_undisturbed_one(trained, tmp_path, monkeypatch, more):
    from alunet.model import train, trainer

    def run(name: str) -> dict:
        for variable, value in environment.variables(trained.nnunet, tmp_path / name, 1).items():
            monkeypatch.setenv(variable, value)
        short = {"epochs": 3, "iterations": 3, "check_iterations": 1, "batch_size": 4}
        settings = TrainingSettings(**short, optimizer="adamw", **more)
        out = tmp_path / f"{name}.pth"
        arguments = (
            trained.nnunet,
            trained.root / "labels",
            dict.fromkeys(trained.annotations, 3),
            settings,
        )
        return train.train(*arguments, None, out, 11, "cpu", interrupt)

    def interrupt(event) -> None:
        if event.kind == "epoch" and event.data["epoch"] == stop_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    stop_at = None
    whole = run("whole")
    stop_at = 3  # after the checkpoint of epoch 2, before the end of epoch 3
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    assert not (tmp_path / "broken.pth").exists()
    stop_at = None
    assert run("broken")["sha256"] == whole["sha256"]


class TestBestCheckpoint:
    """C13: the model is the epoch with the best moving average on the test cases; training goes
    on from the last.
    """

    def prepared(self, trained) -> list[str]:
        """Two cases that nobody annotates, with their reference labels on the grid."""
        names = [name for name in sorted(trained.truth) if name not in trained.annotations][:2]
        labels = LabelFolder(trained.root / "labels", trained.nnunet)
        for name in names:
            labels.refresh(name, trained.truth[name])
        return names

    def train(self, trained, out, monkeypatch, emit, **changes):
        from alunet.model import train

        for variable, value in environment.variables(
            trained.nnunet, out.with_suffix(""), 1
        ).items():
            monkeypatch.setenv(variable, value)
        settings = {
            "epochs": 4,
            "iterations": 4,
            "check_iterations": 2,
            "batch_size": 4,
            "optimizer": "adamw",
        }
        chosen = TrainingSettings(**settings, **changes)
        arguments = (
            trained.nnunet,
            trained.root / "labels",
            dict.fromkeys(trained.annotations, 3),
            chosen,
        )
        return train.train(*arguments, None, out, 11, "cpu", emit, self.prepared(trained))

    def test_it_is_the_epoch_of_the_best_average_and_the_final_weights_lie_beside_it(
        self, trained, tmp_path, monkeypatch
    ):
        from alunet.model import trainer

        averages, states, original = [], [], trainer.SparseTrainer._keep_best

        def seen(self, average):
            averages.append(average)
            states.append(
                {name: value.clone() for name, value in self.network.state_dict().items()}
            )
            original(self, [0.2, 0.5, 0.4, 0.5][len(averages) - 1])

        monkeypatch.setattr(trainer.SparseTrainer, "_keep_best", seen)
        best = tmp_path / "best.pth"
        found = self.train(trained, best, monkeypatch, lambda event: None, checkpoint="best")
        assert found["best_epoch"] == 2 and len(averages) == 4
        for file, state in ((best, states[1]), (tmp_path / "final_best.pth", states[3])):
            written = torch.load(file, weights_only=True)
            assert all(torch.equal(written[name], state[name]) for name in state)
        assert found["sha256"] != found["final_sha256"]
        assert (
            best.stat().st_size
            == (tmp_path / "final_best.pth").stat().st_size
            == trained.weights.stat().st_size
        )

    def test_it_is_chosen_on_the_test_cases_alone(self, trained, tmp_path, monkeypatch):
        names = self.prepared(trained)
        for variable, value in environment.variables(trained.nnunet, tmp_path, 1).items():
            monkeypatch.setenv(variable, value)
        trainer = trainer_of(trained, tmp_path, monkeypatch, dict.fromkeys(trained.annotations, 3))
        settings = TrainingSettings(batch_size=8, checkpoint="best")
        labels = LabelFolder(trained.root / "labels", trained.nnunet)
        trainer.configure(settings, labels, dict.fromkeys(trained.annotations, 3), print, names)
        feed, check = trainer.get_dataloaders()
        assert {str(key) for _ in range(10) for key in next(check)["keys"]} == set(names)
        assert not {str(key) for _ in range(10) for key in next(feed)["keys"]} & set(names)

    def test_the_choice_follows_nnunets_average(self, trained, tmp_path, monkeypatch):
        dice = []

        def listen(event):
            if event.kind == "epoch":
                dice.append(event.data["dice"])

        found = self.train(trained, tmp_path / "w.pth", monkeypatch, listen, checkpoint="best")
        averages = [dice[0]]
        for value in dice[1:]:
            averages.append(0.9 * averages[-1] + 0.1 * value)
        assert found["best_epoch"] == 1 + int(np.argmax(averages))

    def test_an_interrupted_training_ends_alike(self, trained, tmp_path, monkeypatch):
        from alunet.model import trainer

        def interrupt(event) -> None:
            if event.kind == "epoch" and event.data["epoch"] == stop_at:
                raise KeyboardInterrupt

        monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
        stop_at = None
        whole = self.train(
            trained, tmp_path / "whole.pth", monkeypatch, interrupt, checkpoint="best"
        )
        stop_at = 4
        with pytest.raises(KeyboardInterrupt):
            self.train(trained, tmp_path / "broken.pth", monkeypatch, interrupt, checkpoint="best")
        assert not list(tmp_path.glob("*broken.pth"))
        stop_at = None
        assert (
            self.train(trained, tmp_path / "broken.pth", monkeypatch, interrupt, checkpoint="best")
            == whole
        )

    def test_without_test_cases_it_is_refused(self, trained, tmp_path):
        with pytest.raises(InputError, match="there are none"):
            trained.learn(tmp_path / "w.pth", epochs=1, iterations=1, checkpoint="best")


def test_augmenting_in_worker_processes_is_repeatable(trained, tmp_path):
    shas = [
        trained.learn(tmp_path / name / "w.pth", epochs=1, iterations=3, workers=2)["training"][
            "sha256"
        ]
        for name in ("one", "two")
    ]
    assert shas[0] == shas[1]
