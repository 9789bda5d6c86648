"""The phantom data set: what it promises to the demo and to the tests that train on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.simulation.phantom import LABELS, SHAPE, SPACING, make_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phäntom data") / "set", cases=14, seed=0)


def pairs(folder: Path) -> list[tuple[sitk.Image, sitk.Image]]:
    training = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    return [
        tuple(sitk.ReadImage(str(folder / case[part])) for part in ("image", "label"))
        for case in training
    ]


def arrays(folder: Path) -> list[np.ndarray]:
    return [sitk.GetArrayFromImage(image) for pair in pairs(folder) for image in pair]


def test_the_layout_is_that_of_the_decathlon(phantom):
    description = json.loads((phantom / "dataset.json").read_text(encoding="utf-8"))
    assert description["labels"] == {"0": "background", "1": "organ", "2": "lesion"}
    assert description["modality"] == {"0": "MRI"}
    assert description["numTraining"] == len(description["training"]) == 14
    assert sorted(path.name for path in phantom.iterdir()) == [
        "dataset.json",
        "imagesTr",
        "labelsTr",
    ]
    assert (
        len(list((phantom / "imagesTr").iterdir()))
        == len(list((phantom / "labelsTr").iterdir()))
        == 14
    )


def test_image_and_label_share_one_grid(phantom):
    for image, label in pairs(phantom):
        assert image.GetSize() == label.GetSize() == SHAPE[::-1]
        for read in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
            assert read(image) == pytest.approx(read(label), abs=1e-5)
        assert image.GetSpacing() == pytest.approx(SPACING[::-1])
        assert image.GetPixelID() == sitk.sitkInt16
        assert label.GetPixelID() == sitk.sitkUInt8


def test_orientations_are_straight_flipped_and_oblique(phantom):
    directions = [np.reshape(image.GetDirection(), (3, 3)) for image, _ in pairs(phantom)]
    straight = [np.allclose(d, np.eye(3), atol=1e-5) for d in directions]
    oblique = [not np.allclose(abs(d), np.eye(3), atol=1e-3) for d in directions]
    flipped = [np.linalg.det(d) < 0 for d in directions]
    assert any(straight)
    assert any(oblique)
    assert any(flipped)
    assert all(np.allclose(d @ d.T, np.eye(3), atol=1e-4) for d in directions)


def test_the_organ_is_common_and_the_lesion_rare(phantom):
    labels = [sitk.GetArrayFromImage(label) for _, label in pairs(phantom)]
    organ = np.array([(label == LABELS["organ"]).any(axis=(1, 2)).sum() for label in labels])
    lesion = np.array([(label == LABELS["lesion"]).any(axis=(1, 2)).sum() for label in labels])
    assert (organ >= 8).all()
    assert (organ < SHAPE[0]).all()
    assert [int(count > 0) for count in lesion] == [int(index % 3 > 0) for index in range(14)]
    assert lesion.sum() < 0.2 * 14 * SHAPE[0]
    assert all(set(np.unique(label)) <= set(LABELS.values()) for label in labels)


def test_air_is_zero_and_everything_labelled_lies_in_the_body(phantom):
    for image, label in pairs(phantom):
        image, label = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(label)
        assert (image[label > 0] > 0).all()
        assert 0.2 < (image == 0).mean() < 0.8


def test_a_lesion_cannot_be_found_by_a_threshold(phantom):
    """Its intensities are found elsewhere in the body too, so a network has to learn its place."""
    image, label = (sitk.GetArrayFromImage(volume) for volume in pairs(phantom)[1])
    low, high = np.percentile(image[label == LABELS["lesion"]], [10, 90])
    elsewhere = (image >= low) & (image <= high) & (label != LABELS["lesion"])
    assert elsewhere.sum() > 10 * (label == LABELS["lesion"]).sum()


def test_the_seed_decides_everything(tmp_path):
    first, again, other = (
        arrays(make_phantom(tmp_path / name, cases=3, seed=seed))
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(
        np.array_equal(one, two)
        for one, two in zip(first, other, strict=True)
        if one.dtype == np.int16
    )


def test_more_cases_leave_the_first_ones_as_they_were(tmp_path):
    few, more = (
        arrays(make_phantom(tmp_path / str(cases), cases=cases, seed=1)) for cases in (2, 4)
    )
    assert all(np.array_equal(one, two) for one, two in zip(few, more, strict=False))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"cases": 1}, "1 cases"), ({"cases": -3}, "-3 cases"), ({"seed": -1}, "-1")],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        make_phantom(tmp_path / "set", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="not empty"):
            make_phantom(taken, cases=2)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "precious"


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    written = []

    def stop_at_the_third(image, path):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(sitk, "WriteImage", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "set", cases=2)
    assert list(tmp_path.iterdir()) == []
