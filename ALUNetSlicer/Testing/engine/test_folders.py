"""What of a folder becomes a case: images by their content, whatever they are called and
wherever they are.
"""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.project import Project
from alunet.schema import Event
from alunet.schema.names import CASE, usable_name

LABELS = {"background": 0, "lesion": 1}


def scan(seed: int = 0) -> sitk.Image:
    rng = np.random.default_rng(seed)
    return sitk.GetImageFromArray(rng.normal(100, 20, (6, 16, 18)).astype(np.float32))


def mask() -> sitk.Image:
    array = np.zeros((6, 16, 18), np.uint8)
    array[2:4, 3:9, 4:12] = 1
    return sitk.GetImageFromArray(array)


def save(image: sitk.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def project(tmp_path: Path):
    with Project.create(tmp_path / "project", name="p", labels=LABELS, channels=["MRI"]) as project:
        yield project


@pytest.fixture
def added(project: Project) -> Callable[..., tuple[list[str], list[str]]]:
    """Import a folder; gives the names of the new cases and what was said."""

    def add(folder: Path, **options: object) -> tuple[list[str], list[str]]:
        events: list[Event] = []
        names = project.cases.import_dataset(folder, emit=events.append, **options)
        return names, [event.data["text"] for event in events if event.kind == "message"]

    return add


# --- masks, hidden files, names -------------------------------------------------------------------


def test_label_maps_beside_images_are_no_cases_and_are_named(tmp_path: Path, added) -> None:
    save(scan(), tmp_path / "in/p9.nii.gz")
    save(mask(), tmp_path / "in/p9_seg.nii.gz")
    save(mask(), tmp_path / "in/p9-label.nrrd")
    save(mask(), tmp_path / "in/p9.seg.nrrd")
    save(scan(1), tmp_path / "in/._p9.nii.gz")
    names, said = added(tmp_path / "in")
    assert names == ["p9"]
    for file in ("p9_seg.nii.gz", "p9-label.nrrd", "p9.seg.nrrd"):
        assert any(text.startswith(f"{file} was left out") for text in said)
    assert not any("._p9" in text for text in said)


@pytest.mark.parametrize("folder", ["pyradiomics_lesions", "SpinalCord_one"])
def test_label_maps_beside_real_images(real_data: Path, folder: str) -> None:
    found = read_dataset_description(real_data / folder, 1)
    names = [name for name, _, _ in found.cases]
    assert len(names) == len(found.left_out) == 3
    assert not any("label" in name or "seg" in name for name in names)


def test_images_with_few_values_are_images_where_no_other_is_on_their_grid(
    tmp_path: Path, added
) -> None:
    save(mask(), tmp_path / "in/a.nii.gz")
    assert added(tmp_path / "in")[0] == ["a"]


def test_two_unicode_forms_are_one_name(tmp_path: Path, project: Project, added) -> None:
    apart, composed = (unicodedata.normalize(form, "Müller") for form in ("NFD", "NFC"))
    save(scan(), tmp_path / f"in/imagesTr/{apart}.nii.gz")
    save(mask(), tmp_path / f"in/labelsTr/{composed}.NII.GZ".replace(".NII.GZ", ".nii.gz"))
    assert added(tmp_path / "in")[0] == [composed]
    assert project.cases.all()[0].label is not None


@pytest.mark.parametrize("ending", [".NII.GZ", ".Nrrd"])
def test_the_ending_of_a_label_may_be_in_capitals(
    tmp_path: Path, project: Project, added, ending: str
) -> None:
    save(scan(), tmp_path / "in/imagesTr/u.nii.gz")
    lower = save(mask(), tmp_path / f"in/labelsTr/other{ending.lower()}")
    lower.rename(lower.with_name(f"u{ending}"))
    assert added(tmp_path / "in")[0] == ["u"]
    assert project.cases.all()[0].label is not None


@pytest.mark.parametrize("name", ["con", "NUL", "Com1", "lpt9", "aux.v2"])
def test_names_that_windows_reserves_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="Windows reserves it"):
        usable_name(name, CASE)


def test_numbered_patients_are_no_channels(tmp_path: Path, added) -> None:
    for number in (0, 1, 2):
        save(scan(number), tmp_path / f"in/imagesTr/amos_{number:04d}.nii.gz")
        save(mask(), tmp_path / f"in/labelsTr/amos_{number:04d}.nii.gz")
    names, _ = added(tmp_path / "in")
    assert names == ["amos_0000", "amos_0001", "amos_0002"]


def test_numbered_files_are_channels_where_the_project_has_as_many(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for channel in (0, 1):
            save(scan(channel), tmp_path / f"in/{name}_{channel:04d}.nii.gz")
    two = read_dataset_description(tmp_path / "in", 2)
    assert [(name, len(files)) for name, files, _ in two.cases] == [("a", 2), ("b", 2)]
    one = read_dataset_description(tmp_path / "in", 1)
    assert [name for name, _, _ in one.cases] == ["a_0000", "a_0001", "b_0000", "b_0001"]


def test_one_odd_file_costs_no_label(tmp_path: Path, project: Project, added) -> None:
    for number in (1, 2):
        save(scan(number), tmp_path / f"in/imagesTr/c{number}_0000.nii.gz")
        save(mask(), tmp_path / f"in/labelsTr/c{number}.nii.gz")
    save(scan(3), tmp_path / "in/imagesTr/odd.nii.gz")
    save(mask(), tmp_path / "in/labelsTr/none.nii.gz")
    names, said = added(tmp_path / "in")
    assert names == ["c1", "c2", "odd"]
    assert [case.label is not None for case in project.cases.all()] == [True, True, False]
    assert "none.nii.gz was left out: a label without an image." in said


def test_linked_data_sets_are_read(tmp_path: Path, added) -> None:
    image, label = (
        save(scan(), tmp_path / "disk/x.nii.gz"),
        save(mask(), tmp_path / "disk/y.nii.gz"),
    )
    for folder, file in (("imagesTr/c_0000.nii.gz", image), ("labelsTr/c.nii.gz", label)):
        link = tmp_path / "links" / folder
        link.parent.mkdir(parents=True)
        link.symlink_to(file)
    (tmp_path / "listed").mkdir()
    entry = {"images": [str(image)], "label": "../disk/y.nii.gz"}
    about = {"channel_names": {"0": "MRI"}, "labels": LABELS}
    (tmp_path / "links/dataset.json").write_text(json.dumps(about))
    (tmp_path / "listed/dataset.json").write_text(json.dumps({**about, "dataset": {"d": entry}}))
    assert added(tmp_path / "links")[0] == ["c"]
    names, said = added(tmp_path / "listed")
    assert names == ["d"]
    assert said == ["'d' is the same scan as 'c' (pool): one of them is too many."]


def test_links_and_paths_of_every_kind_in_a_list(tmp_path: Path, project, monkeypatch) -> None:
    """Absolute, relative, through a variable of the environment as nnU-Net takes it, or a link."""
    files = [save(scan(n), tmp_path / f"disk/{n}.nii.gz") for n in range(4)]
    save(mask(), tmp_path / "disk/label.nii.gz")
    monkeypatch.setenv("SCANS", str(tmp_path / "disk"))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "here.nii.gz").symlink_to(files[3])
    images = (str(files[0]), "../disk/1.nii.gz", "$SCANS/2.nii.gz", "here.nii.gz")
    listed = {f"c{n}": {"images": [path]} for n, path in enumerate(images)}
    listed["c2"]["label"] = "${SCANS}/label.nii.gz"
    about = {"channel_names": {"0": "MRI"}, "labels": LABELS, "dataset": listed}
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    linked = tmp_path / "link to the set"
    linked.symlink_to(folder)
    assert project.cases.import_dataset(linked) == ["c0", "c1", "c2", "c3"]
    cases = project.cases.all()
    assert [case.label is not None for case in cases] == [False, False, True, False]
    for case, file in zip(cases, files, strict=True):
        assert not case.images[0].is_symlink()
        kept, given = (sitk.ReadImage(str(path)) for path in (case.images[0], file))
        assert np.array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(given))


def test_a_link_to_a_missing_file_is_named(tmp_path: Path, project: Project, added) -> None:
    save(scan(), tmp_path / "in/imagesTr/a.nii.gz")
    for place in ("imagesTr/b.nii.gz", "labelsTr/a.nii.gz"):
        link = tmp_path / "in" / place
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / "never fetched")
    with pytest.raises(InputError, match=r"a: .*labelsTr/a.nii.gz.*link.*missing|no file"):
        added(tmp_path / "in")
    (tmp_path / "in/labelsTr/a.nii.gz").unlink()
    names, said = added(tmp_path / "in")
    assert names == ["a"]
    assert said == ["b.nii.gz was left out: a link to a file that is missing."]


# --- identity is content --------------------------------------------------------------------------


def test_a_path_with_other_voxels_is_refused_and_nothing_changes(
    tmp_path: Path, project: Project, added
) -> None:
    for number in (0, 1):
        save(scan(number), tmp_path / f"in/c{number}.nii.gz")
    added(tmp_path / "in")
    assert added(tmp_path / "in") == ([], [])
    save(scan(7), tmp_path / "in/c1.nii.gz")
    save(scan(8), tmp_path / "in/c2.nii.gz")
    with pytest.raises(InputError, match="Case 'c1' changed since it was added"):
        added(tmp_path / "in")
    assert [case.name for case in project.cases.all()] == ["c0", "c1"]
    kept = sitk.GetArrayFromImage(sitk.ReadImage(str(project.cases.all()[1].images[0])))
    assert np.array_equal(kept, sitk.GetArrayFromImage(scan(1)))


def test_images_that_moved_are_recognized_and_new_ones_are_added(tmp_path: Path, added) -> None:
    for number in (0, 1):
        save(scan(number), tmp_path / f"here/c{number}.nii.gz")
    added(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    save(scan(5), tmp_path / "there/c5.nii.gz")
    assert added(tmp_path / "there") == (["c5"], [])


def test_the_same_scan_to_learn_from_and_to_evaluate_on_is_said_or_refused(
    tmp_path: Path, added
) -> None:
    save(scan(), tmp_path / "pool/a.nii.gz")
    save(scan(), tmp_path / "test/b.nrrd")
    save(scan(), tmp_path / "again/a.nii.gz")
    added(tmp_path / "pool")
    names, said = added(tmp_path / "test", role="test")
    assert names == ["b"]
    assert said == ["'b' is the same scan as 'a' (pool): one of them is too many."]
    with pytest.raises(InputError, match="'a' is in the project already, as a pool case"):
        added(tmp_path / "again", role="test")


@pytest.mark.parametrize("kind", ["uint16", "float32", "float64", "int32"])
def test_a_scan_is_the_same_in_every_type_of_voxels(
    tmp_path: Path, project: Project, added, kind: str
) -> None:
    whole = sitk.Cast(sitk.Round(scan() + 500), sitk.sitkInt16)
    other = sitk.GetImageFromArray(sitk.GetArrayFromImage(whole).astype(kind))
    other.CopyInformation(whole)
    save(whole, tmp_path / "pool/a.nii.gz")
    save(other, tmp_path / "test/b.nrrd")
    added(tmp_path / "pool")
    said = added(tmp_path / "test", role="test")[1]
    assert said == ["'b' is the same scan as 'a' (pool): one of them is too many."]
    assert project.cases.notes() == {"b": said}


def test_scans_of_projects_of_before_are_recognized_too(
    tmp_path: Path, project: Project, added
) -> None:
    for number, content in ((0, None), (1, "5b1f"), (2, None)):
        save(scan(number), tmp_path / f"in/c{number}.nii.gz")
        added(tmp_path / "in")
        project._db.execute(
            "UPDATE cases SET content = ?, stamp = NULL WHERE name = ?", (content, f"c{number}")
        )
    damaged = project.cases.all()[2].images[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    for number in (0, 1):
        save(scan(number), tmp_path / f"test/t{number}.nii.gz")
    names, said = added(tmp_path / "test", role="test")
    assert names == ["t0", "t1"]
    assert [text.split(":")[0] for text in said] == [
        "'t0' is the same scan as 'c0' (pool)",
        "'t1' is the same scan as 'c1' (pool)",
    ]


def test_a_label_that_changed_is_said(tmp_path: Path, project: Project, added) -> None:
    save(scan(), tmp_path / "in/imagesTr/a.nii.gz")
    added(tmp_path / "in")
    save(mask(), tmp_path / "in/labelsTr/a.nii.gz")
    names, said = added(tmp_path / "in")
    assert (names, said) == ([], ["a is in the project without a label; a.nii.gz was not taken."])


def test_a_segmentation_is_never_an_image(tmp_path: Path, project: Project) -> None:
    with pytest.raises(InputError, match="is a segmentation, no image"):
        project.cases.import_case("a", [save(mask(), tmp_path / "a.seg.nrrd")])


# --- voxels that poison ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-3.4e38, 1e38, 2e8])
def test_voxels_that_are_no_measurement_are_refused_with_their_place(
    tmp_path: Path, project, value: float
) -> None:
    image = scan()
    image[3, 2, 1] = value
    with pytest.raises(InputError, match=r"has the voxel .* at 3, 2, 1 \(i, j, k\)"):
        project.cases.import_case("a", [save(image, tmp_path / "a.nrrd")])
    assert project.cases.all() == []


def test_an_image_of_one_value_is_refused(tmp_path: Path, project: Project) -> None:
    with pytest.raises(InputError, match="the value 7 everywhere"):
        project.cases.import_case("a", [save(scan() * 0 + 7, tmp_path / "a.nrrd")])


def test_a_voxel_far_from_all_others_is_said_and_stays_in_the_project(
    tmp_path: Path, project: Project
) -> None:
    image, events = scan(), []
    image[3, 2, 1] = 1e7
    project.cases.import_case("a", [save(image, tmp_path / "a.nrrd")], emit=events.append)
    said = [event.data["text"] for event in events if event.kind == "message"]
    assert len(said) == 1 and "voxel 1e+07 at 3, 2, 1 (i, j, k)" in said[0]
    assert project.cases.notes() == {"a": said}
