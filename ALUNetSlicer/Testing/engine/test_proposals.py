"""Proposals: of small cases whole, of large ones the asked slices alone; in slabs, and equal to
what nnU-Net gives for all slices at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small import RECIPE

from alunet.imaging.reading import read_labels
from alunet.loop import Loop, outputs, proposals
from alunet.loop.proposal_files import proposal_file, proposed, some_proposal, whole_proposal
from alunet.model import predict, uncertainty
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.plan import preprocess_image
from alunet.model.predict import Predictor
from alunet.model.prepared import open_image, read_properties
from alunet.model.settings import ScoringSettings
from alunet.pool import CaseGeometry
from alunet.project import Project
from alunet.schema import NOT_ANNOTATED, Event, ignore_events
from alunet.serve.cases import newest_proposal

PLAIN = ScoringSettings(mirroring=False, dropout=0.1, passes=2)


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return Model(trained.nnunet, trained.weights, "cpu")


@pytest.fixture
def finer(real_data: Path, tmp_path: Path) -> list[Path]:
    """A real scan whose pixels are said to be smaller: it is resampled in plane, and back."""
    source = next(iter(sorted((real_data / "Task04_Hippocampus/imagesTr").glob("*.nii.gz"))))
    image = sitk.ReadImage(str(source))
    image.SetSpacing((0.81, 0.73, 1.0))
    sitk.WriteImage(image, str(tmp_path / "finer.nii.gz"))
    return [tmp_path / "finer.nii.gz"]


def all_at_once(predictor: Predictor, data: np.ndarray, properties: dict) -> np.ndarray:
    """As nnU-Net does it: logits of the whole volume, resampled, brought back by its own export."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as convert,
    )

    model = predictor.model
    with torch.inference_mode():
        logits = predictor._predictor.predict_sliding_window_return_logits(torch.from_numpy(data))
    return convert(logits, model.plans, model.configuration, model.labels, properties)


def test_slabs_give_what_nnunet_gives_for_the_whole_volume(model, trained, finer, monkeypatch):
    predictor = Predictor(Path(trained.nnunet), model, PLAIN)
    data, _, properties = preprocess_image(
        "finer", finer, model.plans, model.configuration, model.dataset
    )
    assert data.shape[2:] != tuple(properties["shape_before_cropping"][1:]), "it is resampled"
    whole = all_at_once(predictor, data.astype(np.float32), properties)
    assert len(np.unique(whole)) > 1
    for values in (1, 50_000, 1 << 24):
        monkeypatch.setattr(predict, "_LOGITS", values)
        some = Predictor(Path(trained.nnunet), model, PLAIN)
        assert np.array_equal(some.segment_files(finer), whole)


def test_asked_slices_are_those_of_the_whole_and_cost_their_passes_alone(model, trained):
    predictor = Predictor(Path(trained.nnunet), model, PLAIN)
    case = trained.pool.cases[0]
    whole = predictor.segment(case)
    passes = []
    predictor._predictor.network.register_forward_hook(lambda *_: passes.append(1))
    first = read_properties(Folders(Path(trained.nnunet)), case)["bbox_used_for_cropping"][0][0]
    axis = model.plans.transpose_forward[0]
    tiles = int((trained.pool.slice[trained.pool.samples_of(case)] == 0).sum())
    for slices in ([0], [3, 4, 5], [1, 7, 20]):
        passes.clear()
        found = predictor.segment(case, slices)
        expected = np.take(whole, [first + number for number in slices], axis)
        assert np.array_equal(found, expected)
        assert len(passes) == tiles * len(slices)


def test_an_uncertainty_map_in_slabs_is_the_same(model, trained, finer, monkeypatch):
    """On a grid that is resampled in plane, which is what slabs could change."""
    name = trained.pool.cases[0]
    shape = open_image(Folders(Path(trained.nnunet)), name).shape[1:]
    own = read_properties(Folders(Path(trained.nnunet)), name)
    raw = (shape[0], shape[1] + 7, shape[2] + 5)
    order = tuple(model.plans.transpose_forward)
    geometry = CaseGeometry(
        name, tuple(np.array(raw)[np.argsort(order)]), order, tuple((0, n) for n in raw), shape
    )
    monkeypatch.setattr(uncertainty, "read_properties", lambda *_: own)

    def made() -> np.ndarray:
        given = (geometry, "entropy", np.ones(3), PLAIN, (1, 2), ignore_events)
        return uncertainty.uncertainty_map(Path(trained.nnunet), model, *given)

    whole = made()
    monkeypatch.setattr(uncertainty, "_RESAMPLED", 1)
    assert whole.max() > 0 and np.array_equal(made(), whole)


def test_too_little_memory_is_said_before_in_one_line(model, trained, monkeypatch):
    said: list[Event] = []
    monkeypatch.setattr(predict, "memory_free", lambda: 1 << 20)
    predictor = Predictor(Path(trained.nnunet), model, PLAIN, said.append)
    name = trained.pool.cases[0]
    whole = Predictor(Path(trained.nnunet), model, PLAIN).segment(name)
    assert np.array_equal(predictor.segment(name), whole), "it is tried, a slice at a time"
    text = said[0].data["text"]
    assert text.startswith(f"Segmenting {name} takes about ") and text.endswith("1 MiB are free.")
    assert len(said) == 1


# --- of a project ---------------------------------------------------------------------------------


@pytest.fixture
def loop(started: Path, tmp_path: Path) -> Iterator[Loop]:
    """After round 0, every case counts as a large one; see the tests."""
    with Project.open(started) as project, project.fork(tmp_path / "own") as own:
        yield Loop(own, RECIPE, seed=4, threads=1)


@pytest.mark.slow
def test_of_a_large_case_the_slices_of_the_batch_are_proposed(loop, monkeypatch):
    project, folder = loop.project, loop.folder()
    name = project.samples.pool.cases[0]
    samples = [int(sample) for sample in project.samples.pool.samples_of(name)]
    places = [project.samples.place(sample).slices for sample in samples]
    monkeypatch.setattr(proposals, "WHOLE_VOXELS", 0)
    proposals.propose(loop, [samples[2], samples[9]])
    file = some_proposal(folder, name)
    assert proposal_file(folder, name) == file
    assert proposed(folder, name) == [2, 9]
    described = json.loads((file.parent / "dataset.json").read_text(encoding="utf-8"))
    assert described["labels"]["ignore"] == NOT_ANNOTATED, "others are open, not background"
    labels = read_labels(file)
    assert (labels == NOT_ANNOTATED).all((1, 2)).sum() == len(labels) - 2

    stamp = file.stat().st_mtime_ns
    proposals.propose(loop, [samples[2]])
    assert file.stat().st_mtime_ns == stamp, "what is there is not made again"
    proposals.propose(loop, [samples[2], samples[5]])
    assert proposed(folder, name) == [2, 5, 9]
    file.with_suffix(".npy").write_bytes(b"\x93NUMPY broken")
    assert proposed(folder, name) == [], "it is made again"
    proposals.propose(loop, [samples[2], samples[5], samples[9]])
    assert proposed(folder, name) == [2, 5, 9]

    whole = outputs.predict(loop, [name], project.root / "whole", ".mha", proposals=True)[0]
    labels, expected = read_labels(file), read_labels(whole)
    for number in (2, 5, 9):
        assert np.array_equal(labels[places[number]], expected[places[number]])
    round_ = loop.current() - 1
    assert newest_proposal(project, name, 5) == (round_, file)
    assert newest_proposal(project, name, 6) is None, "no proposal is made up"

    monkeypatch.undo()
    proposals.propose(loop, [samples[6]])
    whole = whole_proposal(folder, name)
    assert proposal_file(folder, name) == whole and whole.is_file()
    assert newest_proposal(project, name, 6) == (round_, whole)
