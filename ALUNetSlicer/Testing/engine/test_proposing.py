"""Which proposal a slice begins with: of the model, or of the drawn slices beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from planned_project import plan

from alunet.errors import InputError
from alunet.loop.proposing import ModelFile, propose
from alunet.project import Project
from alunet.proposals.expected import ENOUGH, MODEL_UNMEASURED, RATE, Accuracy, fit_accuracy
from alunet.proposals.neighbors import Neighbors
from alunet.schema import ProposalSource

SHAPE = (30, 24, 26)
LABELS = {"background": 0, "organ": 1}


def disc(radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[1], : SHAPE[2]]
    return ((rows - 12) ** 2 + (columns - 12) ** 2 <= radius**2).astype(np.uint8)


def tube() -> np.ndarray:
    """A structure that swells and shrinks."""
    return np.stack([disc(6 + 3 * np.sin(number / 5)) for number in range(SHAPE[0])])


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "p", name="p", labels=LABELS, channels=["CT"]) as made:
        image = np.random.default_rng(0).integers(1, 99, SHAPE).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / "a.nrrd"))
        made.cases.import_case("a", [tmp_path / "a.nrrd"])
        yield plan(made)


def draw(project: Project, *numbers: int) -> None:
    entries = [(number, tube()[number : number + 1]) for number in numbers]
    project.annotations.annotate("a", entries, round=0, author="ada")


def model_of(folder: Path, value: int) -> ModelFile:
    file = folder / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, value, np.uint8)), str(file))
    return ModelFile(2, file)


def test_a_slice_between_drawn_ones_begins_with_what_they_say(project, tmp_path):
    draw(project, 4, 7)
    found, version = propose(project, 5, None, model_of(tmp_path, 1))
    wanted = Neighbors({4: tube()[4], 7: tube()[7]}, (1.0, 1.0, 1.0), SHAPE[0]).at(5)
    assert (found.source, version) == (ProposalSource.NEIGHBORS, 0)
    assert np.array_equal(found.labels, wanted[None])
    assert found.quality is not None and found.quality > MODEL_UNMEASURED


def test_far_from_drawn_slices_the_model_is_better(project, tmp_path):
    draw(project, 0, 29)
    found, version = propose(project, 14, None, model_of(tmp_path, 1))
    assert (found.source, version) == (ProposalSource.MODEL, 2)
    assert (found.labels == 1).all() and found.quality == MODEL_UNMEASURED


def test_beyond_the_drawn_slices_neighbors_speak_only_when_asked(project, tmp_path):
    draw(project, 4, 7)
    assert propose(project, 8, None, model_of(tmp_path, 1))[0].source is ProposalSource.MODEL
    asked, _ = propose(project, 8, ProposalSource.NEIGHBORS, None)
    assert asked.source is ProposalSource.NEIGHBORS and asked.labels.any()


def test_every_source_can_be_asked_for(project, tmp_path):
    draw(project, 4, 6)
    model = model_of(tmp_path, 1)
    assert (propose(project, 5, ProposalSource.MODEL, model)[0].labels == 1).all()
    assert not propose(project, 5, ProposalSource.EMPTY, model)[0].labels.any()
    with pytest.raises(InputError, match="no proposal for this slice yet"):
        propose(project, 5, ProposalSource.MODEL, None)


def test_where_nothing_is_drawn_and_no_model_is_there_it_is_said(project):
    with pytest.raises(InputError, match="no proposal for this slice yet"):
        propose(project, 5, None, None)
    with pytest.raises(InputError, match="No slice of this case is drawn yet"):
        propose(project, 5, ProposalSource.NEIGHBORS, None)


def test_a_slice_that_is_drawn_in_part_says_nothing(project, tmp_path):
    part = tube()[6:7].copy()
    part[0, :3] = 255
    draw(project, 4)
    project.annotations.annotate("a", [(6, part)], round=0, author="ada")
    assert propose(project, 5, None, model_of(tmp_path, 1))[0].source is ProposalSource.MODEL


def test_the_next_slice_drawn_changes_the_proposal_without_training(project):
    draw(project, 2, 10)
    before, _ = propose(project, 5, ProposalSource.NEIGHBORS, None)
    draw(project, 6)
    now, _ = propose(project, 5, ProposalSource.NEIGHBORS, None)
    assert before.quality is not None and now.quality is not None and now.quality > before.quality
    assert (now.labels[0] != tube()[5]).sum() < (before.labels[0] != tube()[5]).sum()


def test_drawn_slices_that_foretell_each_other_well_raise_what_is_expected():
    regular = Neighbors({n: tube()[n] for n in range(0, 30, 3)}, (1.0, 1.0, 1.0), 30)
    assert fit_accuracy(regular, 10).rate < RATE
    rng = np.random.default_rng(0)
    jumping = {n: np.roll(disc(4), rng.integers(-7, 7, 2), (0, 1)) for n in range(0, 30, 3)}
    assert fit_accuracy(Neighbors(jumping, (1.0, 1.0, 1.0), 30), 10).rate > RATE
    few = Neighbors({n: tube()[n] for n in range(ENOUGH + 1)}, (1.0, 1.0, 1.0), 30)
    assert fit_accuracy(few, 10) == Accuracy()


@given(st.floats(0, 5), st.floats(0, 5))
def test_the_farther_the_drawn_slices_the_less_is_expected(one, other):
    near, far = sorted((one, other))
    quality = Accuracy().quality
    assert 0 <= quality(far) <= quality(near) <= 1
    assert quality(None) is None
