"""What leaves a trained project: segmentations, uncertainty maps, labels and the model, exact
and whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small import RECIPE

from alunet.errors import Cancelled, InputError
from alunet.imaging.grids import Grid
from alunet.imaging.reading import grid_of
from alunet.imaging.writing import WRITTEN_ENDINGS
from alunet.loop import Loop, outputs
from alunet.model import score, uncertainty
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.model.settings import MEASURES
from alunet.pool import CaseGeometry
from alunet.project import Project
from alunet.query import Streams
from alunet.query.weights import class_weights
from alunet.schema import NOT_ANNOTATED, ignore_events

EXACT = replace(RECIPE, scoring=replace(RECIPE.scoring, precision="fp32"))


def written(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


@pytest.fixture
def loop(started):
    with Project.open(started, read_only=True) as project:
        yield Loop(project, EXACT, seed=4, threads=1)


def names_of(loop: Loop, role: str) -> list[str]:
    return [case.name for case in loop.project.cases.all(role)]


@pytest.mark.slow
class TestLabels:
    def test_classes_where_annotated_and_the_ignore_value_elsewhere(self, loop, tmp_path):
        project = loop.project
        for ending in WRITTEN_ENDINGS:
            files = outputs.export_labels(project, [], tmp_path / "new" / "folder", ending)
            assert [file.name for file in files] == [
                f"{name}{ending}" for name in project.annotations.cases()
            ]
        for case in project.cases.all("pool"):
            if case.name not in project.annotations.cases():
                continue
            for ending in WRITTEN_ENDINGS:
                image = written(tmp_path / "new" / "folder" / f"{case.name}{ending}")
                array = sitk.GetArrayFromImage(image)
                assert (
                    np.array_equal(array, project.annotations.read(case.name))
                    and array.max() == NOT_ANNOTATED
                )
                assert Grid.of(image) == grid_of(case.images[0])

    def test_what_is_not_there(self, loop, tmp_path):
        project, untouched = loop.project, names_of(loop, "test")[0]
        with pytest.raises(InputError, match=f"Nothing is annotated in case '{untouched}'"):
            outputs.export_labels(project, [untouched], tmp_path, ".nrrd")
        with pytest.raises(
            InputError, match="Files .xyz cannot be written. Use .nii.gz, .nrrd or .mha"
        ):
            outputs.export_labels(project, [], tmp_path, ".xyz")
        with (
            Project.create(
                tmp_path / "p", name="p", labels=project.labels, channels=["MRI"]
            ) as empty,
            pytest.raises(InputError, match="Nothing is annotated yet"),
        ):
            outputs.export_labels(empty, [], tmp_path, ".nrrd")


@pytest.mark.slow
class TestPredictions:
    def test_pool_and_test_cases_on_their_own_grid(self, loop, tmp_path):
        names = [names_of(loop, "pool")[0], names_of(loop, "test")[0]]
        events = []
        loop.emit = events.append
        files = outputs.predict(loop, [*names, names[0]], tmp_path, ".nii.gz")
        assert files == [tmp_path / f"{name}.nii.gz" for name in names]
        assert [event.data["done"] for event in events if event.data.get("phase") == "predict"] == [
            0,
            1,
            2,
        ]
        assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "dataset.json"])
        images = {case.name: case.images[0] for case in loop.project.cases.all()}
        for name, file in zip(names, files, strict=True):
            segmentation = sitk.GetArrayFromImage(written(file))
            assert grid_of(file) == grid_of(images[name]) and set(np.unique(segmentation)) <= {
                0,
                1,
                2,
            }
        other = outputs.predict(loop, names[:1], tmp_path, ".nrrd")[0]
        assert np.array_equal(
            sitk.GetArrayFromImage(written(other)), sitk.GetArrayFromImage(written(files[0]))
        )

    def test_cancelled_leaves_nothing(self, loop, tmp_path):
        cancel = threading.Event()
        loop.emit, loop.cancel = lambda event: cancel.set(), cancel
        (tmp_path / "kept.txt").write_text("mine", encoding="utf-8")
        with pytest.raises(Cancelled):
            outputs.predict(loop, [], tmp_path, ".nrrd")
        assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]

    def test_bad_input_is_one_clear_line(self, loop, tmp_path):
        name = names_of(loop, "pool")[0]
        with pytest.raises(
            InputError, match=f"no case '{name}x' in the project. Did you mean {name}"
        ):
            outputs.predict(loop, [f"{name}x"], tmp_path, ".nrrd")
        with pytest.raises(InputError, match="Files .png cannot be written"):
            outputs.predict(loop, [name], tmp_path, ".png")
        with pytest.raises(InputError, match="no measure 'varianz'. Choose one of: variance, std"):
            outputs.uncertainty(loop, name, tmp_path / "a.nrrd", "varianz")
        with pytest.raises(InputError, match="without an ending cannot be written"):
            outputs.uncertainty(loop, name, tmp_path / "a", "bald")
        with pytest.raises(InputError, match="from a zip file, not from model.tar"):
            outputs.export_model(loop, tmp_path / "model.tar")
        (tmp_path / "file").write_text("", encoding="utf-8")
        with pytest.raises(InputError, match="file cannot be written"):
            outputs.predict(loop, [name], tmp_path / "file", ".nrrd")
        assert [file.name for file in tmp_path.iterdir()] == ["file"]

    def test_a_case_that_was_added_later(self, started, tmp_path):
        with Project.open(started) as project:
            project.fork(tmp_path / "run").close()
        with Project.open(tmp_path / "run") as project:
            project._db.execute("UPDATE cases SET geometry = NULL WHERE role = 'test'")
            loop = Loop(project, EXACT, seed=4, threads=1)
            with pytest.raises(InputError, match="is not preprocessed yet. Plan the project first"):
                outputs.predict(loop, names_of(loop, "test"), tmp_path, ".nrrd")

    def test_before_the_first_model(self, real_data, tmp_path):
        source = real_data / "Task04_Hippocampus"
        labels = {"background": 0, "Anterior": 1, "Posterior": 2}
        with Project.create(tmp_path / "p", name="p", labels=labels, channels=["MRI"]) as project:
            project.cases.import_dataset(source, limit=1)
            untrained = Loop(project, EXACT, seed=1)
            for call in (
                lambda: outputs.predict(untrained, [], tmp_path, ".nrrd"),
                lambda: outputs.uncertainty(
                    untrained, project.cases.all()[0].name, tmp_path / "u.nrrd", "bald"
                ),
                lambda: outputs.export_model(untrained, tmp_path / "m.zip"),
            ):
                with pytest.raises(InputError, match="no model yet"):
                    call()


@pytest.mark.slow
class TestUncertainty:
    @pytest.mark.parametrize("measure", MEASURES)
    def test_a_samples_score_is_the_mean_of_its_map(self, loop, tmp_path, measure):
        """No resampling in this set, and most slices have one tile: the map holds exactly what
        is averaged.
        """
        project, case = loop.project, loop.project.cases.all("pool")[1]
        file = outputs.uncertainty(loop, case.name, tmp_path / "map.nii.gz", measure)
        assert grid_of(file) == grid_of(case.images[0])
        values = sitk.GetArrayFromImage(written(file))
        assert values.dtype == np.float32 and np.isfinite(values).all()
        pool, ids = project.pool, project.pool.samples_of(case.name)
        alone = np.array([i for i in ids if (pool.slice[ids] == pool.slice[i]).sum() == 1])
        means = [values[pool.raw_slices(int(i))].mean(dtype=np.float64) for i in alone]
        assert len(alone) > 5 and min(means) > 0
        assert means == pytest.approx(self.scores(loop, alone, measure).tolist(), rel=2e-5)

    @staticmethod
    def scores(loop: Loop, ids: np.ndarray, measure: str) -> np.ndarray:
        project, scoring = loop.project, loop.recipe.scoring
        model = Model(project.nnunet_dir, loop.weights(0), "cpu")
        reader = TileReader(Folders(project.nnunet_dir), project.pool)
        if measure == "entropy":
            return score.entropy(model, reader, ids, scoring, ignore_events)
        noise = tuple(
            int(word) for word in Streams(loop.seed, 1).sequence("mc-dropout").generate_state(4)
        )
        found = score.monte_carlo(model, reader, ids, scoring, noise, ignore_events)
        weights = class_weights(project.annotations.class_voxels())
        return {"variance": found.var @ weights, "std": found.std.mean(1), "bald": found.bald}[
            measure
        ]

    def test_overlapping_tiles_crop_and_transpose_come_back_to_their_voxels(
        self, loop, monkeypatch
    ):
        """A measure that is the image itself must come back as the image: exactly, or through
        linear resampling.
        """
        case, nnunet = loop.project.cases.all("pool")[0], loop.project.nnunet_dir
        model = Model(nnunet, None, "cpu")
        name, raw = case.name, case.shape
        whole = CaseGeometry(name, raw, (0, 1, 2), tuple((0, n) for n in raw), raw)
        monkeypatch.setattr(model, "patch", (24, 16))  # several tiles a slice
        monkeypatch.setattr(uncertainty, "entropy_bits", lambda probabilities: probabilities[:, 0])
        monkeypatch.setattr(model, "full_resolution", lambda precision: _Same())
        given = (np.zeros(3), RECIPE.scoring, (1,), ignore_events)
        show = lambda geometry, slices=None: uncertainty.uncertainty_map(  # noqa: E731
            nnunet, model, geometry, "entropy", *given, slices
        )
        import blosc2

        image = blosc2.open(str(Folders(nnunet).images / f"{name}.b2nd"), mode="r")[:][0]
        plain = show(whole)
        assert np.allclose(plain, image, rtol=1e-6, atol=1e-6)
        larger = (raw[2] + 5, raw[0] + 3, raw[1] + 4)  # as if nnU-Net had transposed and cropped
        crop = ((1, raw[0] + 1), (2, raw[1] + 2), (3, raw[2] + 3))
        geometry = CaseGeometry(name, larger, (1, 2, 0), crop, raw)
        moved = show(geometry)
        expected = np.zeros(larger, np.float32)
        expected[3 : raw[2] + 3, 1 : raw[0] + 1, 2 : raw[1] + 2] = plain.transpose(2, 0, 1)
        assert moved.shape == larger and np.array_equal(moved, expected)
        alone = show(geometry, [2, 5])  # slices of the crop, across the image's second axis
        assert np.array_equal(alone, expected[:, [3, 6]])
        finer = (raw[0], 2 * raw[1], 2 * raw[2])
        resampled = show(CaseGeometry(name, finer, (0, 1, 2), tuple((0, n) for n in finer), raw))
        assert resampled.shape == finer
        assert resampled.mean() == pytest.approx(plain.mean(), rel=1e-3)
        alone = show(CaseGeometry(name, finer, (0, 1, 2), tuple((0, n) for n in finer), raw), [4])
        assert np.allclose(alone, resampled[4:5], rtol=1e-5, atol=1e-5)


class _Same(torch.nn.Module):
    """Answers with the image, which then passes for probabilities."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return _Kept(image)


class _Kept(torch.Tensor):
    """A tensor that softmax leaves as it is."""

    def softmax(self, axis: int) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


@pytest.mark.slow
class TestModel:
    def test_nnunet_alone_installs_it_and_predicts_the_same_voxels(self, loop, tmp_path):
        """nnU-Net's own installer and predictor, in a process of their own that cannot import
        alunet.
        """
        file = outputs.export_model(loop, tmp_path / "model.zip")
        case = loop.project.cases.all("test")[0]
        place = {
            name: str(tmp_path / name)
            for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        }
        source = tmp_path / "images"
        for folder in (*map(Path, place.values()), source):
            folder.mkdir()
        image = sitk.ReadImage(str(case.images[0]))
        sitk.WriteImage(image, str(source / f"{case.name}_0000.nii.gz"))
        with zipfile.ZipFile(file) as archive:
            dataset = archive.namelist()[0].split("/")[0]
        environment = {
            **os.environ,
            **place,
            "PYTHONPATH": "",
            "nnUNet_def_n_proc": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.call(environment, "model_sharing.entry_points:install_from_zip_entry_point", str(file))
        self.call(
            environment,
            "inference.predict_from_raw_data:predict_entry_point",
            "-d",
            dataset,
            "-c",
            "2d",
            "-f",
            "0",
            "-i",
            str(source),
            "-o",
            str(tmp_path / "theirs"),
            "-device",
            "cpu",
            "-npp",
            "0",
            "-nps",
            "0",
        )
        ours = written(outputs.predict(loop, [case.name], tmp_path, ".nii.gz")[0])
        theirs = written(tmp_path / "theirs" / f"{case.name}.nii.gz")
        assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        assert np.unique(sitk.GetArrayFromImage(ours)).size > 1, (
            "an empty segmentation would show nothing"
        )

    @staticmethod
    def call(environment: dict[str, str], entry: str, *arguments: str) -> None:
        module, name = entry.split(":")
        code = (
            f"import sys; from nnunetv2.{module} import {name}; sys.modules['alunet'] = None; "
            f"{name}()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def test_what_is_in_it(self, loop, tmp_path):
        file = outputs.export_model(loop, tmp_path / "model.zip")
        again = outputs.export_model(loop, tmp_path / "again" / "model.zip")
        assert file.read_bytes() == again.read_bytes()
        with zipfile.ZipFile(file) as archive:
            content = {name.split("/", 2)[2]: archive.read(name) for name in archive.namelist()}
            archive.extractall(tmp_path / "results")
        dataset = json.loads(content["dataset.json"])
        assert dataset["labels"] == {"background": 0, "Anterior": 1, "Posterior": 2}
        assert dataset["file_ending"] == ".nii.gz" and dataset["channel_names"] == {"0": "MRI"}
        assert dataset["numTraining"] == len(loop.project.annotations.cases())
        about = json.loads(content["alunet.json"])
        assert (
            about["dice"] == loop.rounds()[-1].metrics["dice"]
            and about["hashes"]["weights"]
            and about["round"] == 0
        )
        assert (
            "nnUNetv2_install_pretrained_model_from_zip model.zip" in content["README.md"].decode()
        )
        # plain values alone
        checkpoint = torch.load(next((tmp_path / "results").rglob("*.pth")), weights_only=True)
        assert checkpoint["trainer_name"] == "nnUNetTrainer"
        # trained without mirroring, so used without
        assert checkpoint["inference_allowed_mirroring_axes"] is None
        everything = b"".join(content.values())
        for secret in (*(case.name for case in loop.project.cases.all()), str(loop.project.root)):
            assert secret.encode() not in everything, (
                f"{secret} of a patient or of this computer is in the file"
            )
