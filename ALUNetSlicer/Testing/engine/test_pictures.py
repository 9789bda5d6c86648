"""True 2D images are cases of one slice; label values with gaps are renumbered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.reading import read_labels
from alunet.model import child, environment
from alunet.model.interface import SHIPPED
from alunet.project import Project
from alunet.schema import Event

GREY = np.random.default_rng(0).integers(1, 250, (20, 30)).astype(np.uint8)
CELLS = np.where(GREY > 100, 255, 0).astype(np.uint8)
LABELS = {"background": 0, "cell": 255}


def stored(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture
def new(tmp_path: Path):
    made: list[Project] = []

    def create(channels: int = 1) -> Project:
        names = [f"channel {index}" for index in range(channels)]
        made.append(
            Project.create(tmp_path / f"p{len(made)}", name="p", labels=LABELS, channels=names)
        )
        return made[-1]

    yield create
    for project in made:
        project.close()


@pytest.mark.parametrize(
    "name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.nii.gz", "a.nrrd", "a.mha"]
)
def test_grey_images_of_any_form_become_one_slice(new, tmp_path: Path, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(GREY), str(tmp_path / name))
    sitk.WriteImage(sitk.GetImageFromArray(CELLS), str(tmp_path / f"label_{name}"))
    project = new()
    project.cases.import_case("case", [tmp_path / name], tmp_path / f"label_{name}")
    (case,) = project.cases.all()
    assert case.images[0].name == "case_0000.mha"
    assert case.shape == (1, 20, 30)
    assert np.array_equal(stored(case.images[0])[0], GREY)
    assert np.array_equal(read_labels(case.label)[0], CELLS > 0)


def test_sixteen_bits_and_a_resolution_are_kept(new, tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "b.tif", dpi=(254, 254))
    project = new()
    project.cases.import_case("deep", [tmp_path / "a.png"])
    project.cases.import_case("fine", [tmp_path / "b.tif"])
    first, second = project.cases.all()
    assert np.array_equal(stored(first.images[0])[0], deep)
    assert second.spacing[1:] == pytest.approx((0.1, 0.1))


def test_colours_are_three_channels(new, tmp_path: Path) -> None:
    colours = np.stack([GREY, GREY // 2, 255 - GREY], -1)
    opaque = np.full_like(GREY, 255)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([colours, opaque])).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([colours, GREY])).save(tmp_path / "transparent.png")
    project = new(channels=3)
    project.cases.import_case("rgb", [tmp_path / "rgb.png"])
    project.cases.import_case("rgba", [tmp_path / "rgba.png"])
    for case in project.cases.all():
        assert np.array_equal(np.stack([stored(file)[0] for file in case.images], -1), colours)
    with pytest.raises(InputError, match="transparent in parts"):
        project.cases.import_case("x", [tmp_path / "transparent.png"])
    with pytest.raises(InputError, match="3 components, but the project has 1 channel"):
        new().cases.import_case("x", [tmp_path / "rgb.png"])


def test_labels_in_colours_are_refused(new, tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "image.png")
    palette = Image.fromarray(CELLS // 255).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.dstack([CELLS, CELLS, GREY])).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([CELLS] * 3)).save(tmp_path / "grey in colours.png")
    project = new()
    for name in ("palette.png", "rgb.png"):
        with pytest.raises(
            InputError, match=r"Label .* has 3 components .* Store one number a voxel"
        ):
            project.cases.import_case("case", [tmp_path / "image.png"], tmp_path / name)
    assert project.cases.all() == []
    project.cases.import_case("case", [tmp_path / "image.png"], tmp_path / "grey in colours.png")
    assert np.array_equal(read_labels(project.cases.all()[0].label)[0], CELLS > 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
def test_pictures_that_are_cut_off(new, tmp_path: Path, capfd, name: str, keep: float) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match="cut off|cannot be read"):
        new().cases.import_case("case", [tmp_path / name])
    assert capfd.readouterr().err == ""


def picture_set(
    folder: Path, count: int = 3, labels: dict | None = None, **content: object
) -> Path:
    for index in range(count):
        rng = np.random.default_rng(index)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "labels").mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 60, (96, 80)) + 20
        cell = np.zeros((96, 80), bool)
        cell[20:60, 10 + index : 50] = True
        Image.fromarray((noise + 100 * cell).astype(np.uint8)).save(
            folder / "images" / f"c{index}.png"
        )
        Image.fromarray((cell * 255).astype(np.uint8)).save(folder / "labels" / f"c{index}.png")
    about = {
        "name": "Cells",
        "channel_names": {"0": "microscope"},
        "labels": labels or LABELS,
        **content,
    }
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def test_values_with_gaps_keep_their_meaning_and_are_said(tmp_path: Path) -> None:
    folder = picture_set(tmp_path / "set")
    found = read_dataset_description(folder)
    assert (found.labels, found.values) == ({"background": 0, "cell": 1}, (0, 255))
    events: list[Event] = []
    with Project.create(
        tmp_path / "p", name="p", labels=found.labels, channels=found.channels
    ) as project:
        assert project.cases.import_dataset(folder, emit=events.append) == ["c0", "c1", "c2"]
        assert set(np.unique(read_labels(project.cases.all()[0].label))) == {0, 1}
        assert project.cases.structures.values == (0, 255)
    notes = [event.data["text"] for event in events if event.kind == "message"]
    assert notes == ["Values in label files: 255 cell."]


def test_the_background_is_first_whatever_its_value(tmp_path: Path) -> None:
    folder = picture_set(tmp_path / "set", labels={"background": 255, "membrane": 0})
    found = read_dataset_description(folder)
    assert (found.labels, found.values) == ({"background": 0, "membrane": 1}, (255, 0))
    with Project.create(
        tmp_path / "p", name="p", labels={"background": 255, "membrane": 0}, channels=["x"]
    ) as project:
        assert project.cases.structures.values == (255, 0)
        project.cases.import_dataset(folder)
        label = read_labels(project.cases.all()[0].label)[0]
    assert np.array_equal(label == 1, np.array(Image.open(folder / "labels" / "c0.png")) == 0)


def test_a_value_that_no_label_has(tmp_path: Path) -> None:
    folder = picture_set(tmp_path / "set", labels={"background": 0, "cell": 254})
    with Project.create(
        tmp_path / "p", name="p", labels={"background": 0, "cell": 254}, channels=["x"]
    ) as project:
        with pytest.raises(
            InputError, match="holds the value 255, which .*dataset.json does not name"
        ):
            project.cases.import_dataset(folder)
        assert project.cases.all() == []


def prepared(folder: Path, root: Path, limit: int | None = None) -> dict:
    found = read_dataset_description(folder)
    with Project.create(root, name="p", labels=found.labels, channels=found.channels) as project:
        project.cases.import_dataset(folder, limit=limit)
        cases = [
            {"name": case.name, "images": [str(file) for file in case.images]}
            for case in project.cases.all()
        ]
        done = child.run(
            "alunet.loop.steps:prepare",
            {
                "framework": SHIPPED,
                "folder": str(project.nnunet_dir),
                "plan_cases": cases,
                "cases": cases,
                "labels": project.labels,
                "channels": project.channels,
                "dropout": 0.0,
            },
            environment=environment.variables(project.nnunet_dir, root, 1),
            log=root / "prepare.log",
        )
    return {**done, "geometries": [json.loads(text) for text in done["geometries"]]}


def test_planning_slices_across_the_single_slice(tmp_path: Path) -> None:
    done = prepared(picture_set(tmp_path / "set"), tmp_path / "p")
    assert [geometry["transpose"] for geometry in done["geometries"]] == [[0, 1, 2]] * 3
    assert [geometry["grid_shape"] for geometry in done["geometries"]] == [[1, 96, 80]] * 3
    assert done["patch"] == [96, 80]


@pytest.mark.slow
def test_electron_microscopy(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "em"
    folder.mkdir()
    for name in ("image", "label"):
        (folder / name).mkdir()
        for file in (real_data / "EM_membrane_2D" / name).iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
    about = {"channel_names": {"0": "EM"}, "labels": LABELS}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    done = prepared(folder, tmp_path / "p")
    assert [geometry["grid_shape"] for geometry in done["geometries"]] == [[1, 512, 512]] * 24
    assert done["patch"] == [512, 512]
