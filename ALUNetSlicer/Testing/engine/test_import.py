"""Images of every form come in exactly, or are refused with one line that says why."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.grids import Grid, displacement
from alunet.imaging.reading import ENDINGS, EXACT_ENDING, PICTURE_ENDINGS, read_labels
from alunet.project import Project
from alunet.schema import Event

LABELS = {"background": 0, "one": 1, "two": 2}
VOLUMES = [ending for ending in ENDINGS if ending not in PICTURE_ENDINGS]


@pytest.fixture
def new(tmp_path: Path):
    """Makes projects; the one of a test is closed at its end."""
    made: list[Project] = []

    def create(labels: dict[str, int] | None = None, channels: int = 1) -> Project:
        names = [f"MRI {index}" for index in range(channels)]
        root = tmp_path / f"project {len(made)}"
        made.append(Project.create(root, name="p", labels=labels or LABELS, channels=names))
        return made[-1]

    yield create
    for project in made:
        project.close()


def picture(
    shape: tuple[int, ...] = (6, 9, 11), dtype: type = np.int16, seed: int = 0
) -> sitk.Image:
    """An oblique, anisotropic image whose numbers have no short decimal form."""
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(0, 200, shape).astype(dtype))
    angle = 0.3217
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]]
    )
    image.SetSpacing((1 / 3, 0.7123, 3.3000001))
    image.SetOrigin((-101.234567, 45.6789012, 7 / 9))
    image.SetDirection(rotation.ravel().tolist())
    return image


def labelled(image: sitk.Image, high: int = 3, dtype: type = np.uint8) -> sitk.Image:
    rng = np.random.default_rng(1)
    label = sitk.GetImageFromArray(rng.integers(0, high, image.GetSize()[::-1]).astype(dtype))
    label.CopyInformation(image)
    return label


def save(image: sitk.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def assert_same(first: sitk.Image, second: sitk.Image) -> None:
    """Voxels, their type, and geometry, to the last bit."""
    assert first.GetPixelID() == second.GetPixelID()
    assert np.array_equal(sitk.GetArrayViewFromImage(first), sitk.GetArrayViewFromImage(second))
    for attribute in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(first, attribute)() == getattr(second, attribute)()


def assert_readable_by_nnunet(files: tuple[Path, ...]) -> None:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    data, properties = SimpleITKIO().read_images([str(file) for file in files])
    assert data.shape[0] == len(files)
    assert np.isfinite(data).all()
    assert all(str(file).endswith(tuple(SimpleITKIO.supported_file_endings)) for file in files)
    assert min(properties["spacing"]) > 0


# --- forms of files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending", [ending for ending in VOLUMES if ending not in (".img", ".img.gz")]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_every_form_comes_in_without_loss(
    new: Callable[..., Project], tmp_path: Path, ending: str, dtype: type
) -> None:
    file = save(picture(dtype=dtype), tmp_path / "in" / f"ä x{ending}")
    label = save(labelled(sitk.ReadImage(str(file))), tmp_path / "in" / f"label{ending}")
    project = new()
    project.cases.import_case("case", [file], label)
    (case,) = project.cases.all()
    assert_same(sitk.ReadImage(str(case.images[0])), sitk.ReadImage(str(file)))
    drawn, kept = sitk.ReadImage(str(label)), sitk.ReadImage(str(case.label))
    assert np.array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(drawn))
    assert displacement(Grid.of(kept), Grid.of(drawn)) < 1e-6
    assert_readable_by_nnunet(case.images)
    assert case.shape == (6, 9, 11)
    assert case.spacing == pytest.approx((3.3000001, 0.7123, 1 / 3), rel=1e-6)
    # written anew in the one format that keeps every number: nothing else of the header survives
    assert case.images[0].name == f"case_0000{EXACT_ENDING}"
    assert (
        sitk.ReadImage(str(case.images[0])).GetSpacing() == sitk.ReadImage(str(file)).GetSpacing()
    )


def test_headers_that_point_to_another_file_are_refused(
    new: Callable[..., Project], tmp_path: Path
) -> None:
    save(picture(), tmp_path / "image.nhdr")
    save(picture(), tmp_path / "meta.mhd")
    nrrd = shutil.copyfile(tmp_path / "image.nhdr", tmp_path / "detached.nrrd")
    mha = shutil.copyfile(tmp_path / "meta.mhd", tmp_path / "detached.mha")
    project = new()
    for file in (nrrd, mha):
        assert "names another file" in refusal(project, "case", [file])
    for name, file in (("a", "image.nhdr"), ("b", "meta.mhd")):  # the pairs themselves are read
        project.cases.import_case(name, [tmp_path / file])


def test_channels_from_files_components_or_a_fourth_axis(
    new: Callable[..., Project], tmp_path: Path
) -> None:
    parts = [picture(seed=0), picture(seed=1)]
    files = [save(part, tmp_path / f"{i}.nii.gz") for i, part in enumerate(parts)]
    vector = save(sitk.Compose(parts), tmp_path / "vector.nrrd")
    series = save(sitk.JoinSeries(parts), tmp_path / "series.nrrd")
    project = new(channels=2)
    project.cases.import_case("files", files)
    project.cases.import_case("vector", [vector])
    project.cases.import_case("series", [series])
    for case in project.cases.all():
        assert len(case.images) == 2
        assert_readable_by_nnunet(case.images)
        for stored, part in zip(case.images, parts, strict=True):
            image = sitk.ReadImage(str(stored))
            assert np.array_equal(
                sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(part)
            )
            assert image.GetSpacing() == pytest.approx(part.GetSpacing(), rel=1e-6)
            assert image.GetDirection() == pytest.approx(part.GetDirection(), abs=1e-6)


def test_channels_that_differ_in_the_last_digit_get_one_geometry(
    new: Callable[..., Project], tmp_path: Path
) -> None:
    """nnU-Net refuses channels whose spacings differ at all; scanners and converters write such
    files.
    """
    first, second = picture(seed=0), picture(seed=1)
    second.SetSpacing([step * (1 + 1e-5) for step in first.GetSpacing()])
    files = [save(first, tmp_path / "0.nrrd"), save(second, tmp_path / "1.nrrd")]
    project = new(channels=2)
    project.cases.import_case("case", files)
    (case,) = project.cases.all()
    images = [sitk.ReadImage(str(file)) for file in case.images]
    assert images[0].GetSpacing() == images[1].GetSpacing()
    assert np.array_equal(sitk.GetArrayViewFromImage(images[1]), sitk.GetArrayViewFromImage(second))


def test_float_labels_with_whole_numbers_are_kept_as_integers(
    new: Callable[..., Project], tmp_path: Path
) -> None:
    image = picture()
    label = labelled(image, dtype=np.float32)
    project = new()
    project.cases.import_case(
        "case", [save(image, tmp_path / "i.nrrd")], save(label, tmp_path / "l.nii.gz")
    )
    (case,) = project.cases.all()
    assert sitk.ReadImage(str(case.label)).GetPixelID() == sitk.sitkUInt8
    assert read_labels(case.label).dtype == np.uint8
    assert np.array_equal(read_labels(case.label), sitk.GetArrayFromImage(label).astype(np.uint8))


# --- refusals -------------------------------------------------------------------------------------


def refusal(project: Project, *arguments: object) -> str:
    """The one line that a person sees; nothing was imported."""
    with pytest.raises(InputError) as caught:
        project.cases.import_case(*arguments)
    assert project.cases.all() == []
    assert list(project.images_dir.iterdir()) == []
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(".") >= 1
    return str(caught.value)


@pytest.mark.parametrize("ending", VOLUMES)
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.6, 0.98])
def test_cut_off_files_are_refused(
    new: Callable[..., Project], tmp_path: Path, ending: str, keep: float
) -> None:
    """ITK reads a NIfTI or GIPL file that is cut off, and invents the rest."""
    base = {".img": ".hdr", ".img.gz": ".hdr"}.get(ending, ending)
    file = save(picture((20, 30, 40)), tmp_path / f"x{base}")
    halves = {".hdr": ".img", ".nhdr": ".raw", ".mhd": ".raw", ".img": ".img"}
    victim = tmp_path / f"x{halves[base]}" if base in halves else file
    if ending == ".img.gz":
        victim = tmp_path / "x.img.gz"
        victim.write_bytes(gzip.compress((tmp_path / "x.img").read_bytes()))
        (tmp_path / "x.img").unlink()
    if not victim.exists():
        victim = tmp_path / "x.raw.gz"
    content = victim.read_bytes()
    victim.write_bytes(content[: int(len(content) * keep)])
    opened = victim if ending.startswith(".img") else file
    message = refusal(new(), "case", [opened])
    assert "cut off" in message or "empty" in message or "cannot be read" in message


def test_bytes_that_changed_inside_a_compressed_file_are_noticed(
    new: Callable[..., Project], tmp_path: Path
) -> None:
    file = save(picture((20, 30, 40)), tmp_path / "x.nii.gz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert "x.nii.gz" in refusal(new(), "case", [file])


def test_missing_and_unknown_files(new: Callable[..., Project], tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image", encoding="utf-8")
    disguised = tmp_path / "notes.nrrd"
    disguised.write_text("no image", encoding="utf-8")
    project = new()
    assert "no image file" in refusal(project, "case", [tmp_path / "nothing.nii.gz"])
    assert "Use one of" in refusal(project, "case", [text])
    assert "cannot be read" in refusal(project, "case", [disguised])
    assert "no image file" in refusal(project, "case", [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(
    new: Callable[..., Project], tmp_path: Path, bad: float
) -> None:
    array = sitk.GetArrayFromImage(picture(dtype=np.float32))
    array[2, 3, 4] = bad
    file = save(sitk.GetImageFromArray(array), tmp_path / "x.nrrd")
    assert "1 voxels that are NaN or infinite" in refusal(new(), "case", [file])


def test_images_that_cannot_be_learned_from(new: Callable[..., Project], tmp_path: Path) -> None:
    zeros = save(picture() * 0, tmp_path / "zeros.nrrd")
    series = save(sitk.JoinSeries([picture()] * 3), tmp_path / "series.nrrd")
    vector = save(sitk.Compose([picture()] * 3), tmp_path / "vector.nrrd")
    project = new()
    assert "nothing but zeros" in refusal(project, "case", [zeros])
    assert "4D (11 x 9 x 6 x 3)" in refusal(project, "case", [series])
    assert "3 components" in refusal(project, "case", [vector])
    assert "2 channel(s), but the project has 1" in refusal(
        project, "case", [save(picture(), tmp_path / "a.nrrd")] * 2
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda label: sitk.ConstantPad(label, (1, 0, 0)), "size 12 x 9 x 6 instead of 11 x 9 x 6"),
        (
            lambda label: sitk.GetImageFromArray(sitk.GetArrayFromImage(label).transpose(0, 2, 1)),
            "size 9 x 11 x 6",
        ),
        (lambda label: label.SetSpacing((0.34, 0.7123, 3.3)), "spacing 0.34 x"),
        (lambda label: label.SetOrigin((0, 0, 0)), "origin 0 x 0 x 0"),
        (lambda label: label.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1)), "direction 1 x 0"),
        (lambda label: label + 1, "value 3, but the labels are 0 background, 1"),
        (
            lambda label: sitk.Cast(label, sitk.sitkFloat32) + 0.5,
            "value 0.5, which is no whole number",
        ),
        (lambda label: sitk.Cast(label, sitk.sitkInt16) - 1, "value -1"),
    ],
)
def test_labels_that_do_not_fit(
    new: Callable[..., Project],
    tmp_path: Path,
    change: Callable[[sitk.Image], sitk.Image | None],
    words: str,
) -> None:
    image = picture()
    label = labelled(image)
    label = change(label) or label
    message = refusal(
        new(), "case", [save(image, tmp_path / "i.nrrd")], save(label, tmp_path / "l.nrrd")
    )
    assert words in message
    assert "l.nrrd" in message


def test_names_that_are_taken_or_impossible(new: Callable[..., Project], tmp_path: Path) -> None:
    file = save(picture(), tmp_path / "i.nrrd")
    project = new()
    for name in ("", "a/b", "a\\b", "..", "x.", " x", "a:b", "n\nl"):
        assert "cannot be the name of a case" in refusal(project, name, [file])
    project.cases.import_case("Löwe 1", [file])
    other = save(picture(seed=5), tmp_path / "other.nrrd")
    with pytest.raises(InputError, match="'Löwe 1' is another image in the project"):
        project.cases.import_case("löwe 1", [other])  # some file systems do not tell them apart


# --- data sets ------------------------------------------------------------------------------------


def decathlon(folder: Path, **changes: object) -> Path:
    """A small data set in the form of the Medical Segmentation Decathlon."""
    entries = []
    for index in range(3):
        image = picture(seed=index)
        save(image, folder / "imagesTr" / f"case_{index}.nii.gz")
        save(labelled(image), folder / "labelsTr" / f"case_{index}.nii.gz")
        name = f"case_{index}.nii.gz"
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "name": "Small",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "one", "2": "two"},
        "training": entries,
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def nnunet(folder: Path) -> Path:
    """A small data set in nnU-Net's form, two channels."""
    for index in range(2):
        for channel in range(2):
            save(
                picture(seed=10 * index + channel),
                folder / "imagesTr" / f"case_{index}_{channel:04d}.nrrd",
            )
        save(labelled(picture()), folder / "labelsTr" / f"case_{index}.nrrd")
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "one": 1, "two": 2, "ignore": 3},
        "numTraining": 2,
        "file_ending": ".nrrd",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_decathlon_form(new: Callable[..., Project], tmp_path: Path) -> None:
    folder = decathlon(tmp_path / "set")
    found = read_dataset_description(folder)
    assert (found.name, found.labels, found.channels) == ("Small", LABELS, ["MRI"])
    events: list[Event] = []
    project = new()
    assert project.cases.import_dataset(folder, limit=2, emit=events.append) == ["case_0", "case_1"]
    assert project.cases.import_dataset(folder, role="test", prefix="test ") == [
        "test case_0",
        "test case_1",
        "test case_2",
    ]
    assert [case.name for case in project.cases.all("pool")] == ["case_0", "case_1"]
    assert all(case.label.is_file() for case in project.cases.all())
    progress = [(event.data["phase"], event.data["done"], event.data["total"]) for event in events]
    steps = [0, 1, 2]
    assert progress == [(phase, step, 2) for phase in ("check", "import") for step in steps]
    assert {event.kind for event in events} == {"progress"}


def test_nnunet_form(new: Callable[..., Project], tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset001")
    found = read_dataset_description(folder)
    assert (found.name, found.labels, found.channels) == ("Dataset001", LABELS, ["T1", "T2"])
    project = new(channels=2)
    assert project.cases.import_dataset(folder) == ["case_0", "case_1"]
    assert [len(case.images) for case in project.cases.all()] == [2, 2]
    (folder / "imagesTr" / "case_1_0001.nrrd").unlink()
    with pytest.raises(InputError, match="case_1 in .* has 1 image file"):
        read_dataset_description(folder)


def test_nnunet_form_with_listed_files(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "set")
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    files = ["imagesTr/case_0_0000.nrrd", "imagesTr/case_1_0000.nrrd"]
    content["dataset"] = {"x": {"images": files, "label": "labelsTr/case_0.nrrd"}}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    (case,) = read_dataset_description(folder).cases
    assert case == ("x", [folder / file for file in files], folder / "labelsTr/case_0.nrrd")


def test_a_plain_folder_of_images(new: Callable[..., Project], tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.mhd", "c.hdr", "readme.txt"):
        if name.endswith("txt"):
            (tmp_path / "set" / name).write_text("hello", encoding="utf-8")
        else:
            save(picture(), tmp_path / "set" / name)
    found = read_dataset_description(tmp_path / "set")
    assert (found.name, found.labels, len(found.channels)) == ("set", {}, 1)
    assert [name for name, _, _ in found.cases] == ["a", "b", "c"]
    project = new()
    assert project.cases.import_dataset(tmp_path / "set") == ["a", "b", "c"]
    assert all(case.label is None for case in project.cases.all())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": {}}, "no labels"),
        ({"labels": {"background": 0, "one": 1, "two": 1}}, "share a value"),
        ({"labels": {"background": 0, "one": 1.5}}, "value 1.5"),
        ({"labels": {"one": 1, "two": 2}}, 'lack "background"'),
        ({"labels": {"0": "background"}}, "no label but the background"),
        ({"labels": {"background": 0, "one": [1, 2]}}, "regions are not supported"),
        ({"labels": {"0": "background", "1": "one", "2": "one"}}, "twice"),
        ({"modality": {}}, "channels"),
        ({"training": [{"label": "x"}]}, "names no image"),
        ({"training": [{"image": "../../secret.nii.gz"}]}, "there is no file"),
        ({"training": [{"image": "imagesTr/none.nii.gz"}]}, "no file"),
        ({"training": [{"image": "imagesTr/case_0.nii.gz"}] * 2}, "twice"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path: Path, changes: dict, words: str) -> None:
    folder = decathlon(tmp_path / "set", **changes)
    with pytest.raises(InputError, match=words):
        read_dataset_description(folder)


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        read_dataset_description(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no image"):
        read_dataset_description(tmp_path)
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        read_dataset_description(tmp_path)


def test_a_data_set_comes_in_whole_or_not_at_all(
    new: Callable[..., Project], tmp_path: Path
) -> None:
    folder = decathlon(tmp_path / "set")
    last = folder / "imagesTr" / "case_2.nii.gz"
    content = last.read_bytes()
    last.write_bytes(content[:500])
    project = new()
    with pytest.raises(InputError, match="case_2.nii.gz is cut off"):
        project.cases.import_dataset(folder)
    assert project.cases.all() == []
    assert list(project.images_dir.iterdir()) == []
    last.write_bytes(content)
    assert len(project.cases.import_dataset(folder)) == 3
    with pytest.raises(InputError, match="must agree"):
        new(labels={"background": 0, "one": 1}).cases.import_dataset(folder)
    with pytest.raises(InputError, match="has the channels"):
        new(channels=2).cases.import_dataset(folder)


# --- real images ----------------------------------------------------------------------------------


def test_hippocampus(real_data: Path, new: Callable[..., Project]) -> None:
    found = read_dataset_description(real_data / "Task04_Hippocampus")
    assert found.labels == {"background": 0, "Anterior": 1, "Posterior": 2}
    project = new(labels=found.labels)
    names = project.cases.import_dataset(real_data / "Task04_Hippocampus", limit=6)
    assert names == [name for name, _, _ in found.cases[:6]]
    originals = {name: (files, label) for name, files, label in found.cases}
    for case in project.cases.all():
        files, label = originals[case.name]
        assert_same(sitk.ReadImage(str(case.images[0])), sitk.ReadImage(str(files[0])))
        assert np.array_equal(
            read_labels(case.label), sitk.GetArrayFromImage(sitk.ReadImage(str(label)))
        )
        assert_readable_by_nnunet(case.images)
    assert {case.label.name for case in project.cases.all()} == {f"{name}.mha" for name in names}


@pytest.mark.slow
def test_all_of_hippocampus_comes_in_within_seconds(
    real_data: Path, new: Callable[..., Project]
) -> None:
    folder = real_data / "Task04_Hippocampus"
    project = new(labels=read_dataset_description(folder).labels)
    assert len(project.cases.import_dataset(folder)) == 201


def test_cardiac(real_data: Path, new: Callable[..., Project]) -> None:
    folder = real_data / "ACDC_cardiac_MR"
    project = new(labels=read_dataset_description(folder).labels)
    project.cases.import_dataset(folder, limit=2)
    for case in project.cases.all():
        assert case.spacing == pytest.approx((10.0, 1.5625, 1.5625))
        assert_readable_by_nnunet(case.images)


def test_two_channels(real_data: Path, new: Callable[..., Project]) -> None:
    folder = real_data / "BRATS2015_two_channel" / "brats_2013_pat0005_1"
    labels = {"background": 0, "necrosis": 1, "oedema": 2, "non-enhancing": 3, "enhancing": 4}
    project = new(labels=labels, channels=2)
    files = [folder / "Flair_subtrMeanDivStd.nii.gz", folder / "T1c_subtrMeanDivStd.nii.gz"]
    project.cases.import_case("pat0005", files, folder / "OTMultiClass.nii.gz")
    (case,) = project.cases.all()
    assert case.shape == (155, 240, 240)
    assert_readable_by_nnunet(case.images)


GEOMETRY_CASES = {
    "itksnap/MRIcrop-orig.gipl.gz": "exact",
    "itksnap/MRIcrop-seg.gipl.gz": "exact",
    "itksnap/img4d_11f.nii.gz": "is 4D (38 x 35 x 38 x 11), but the project has 1 channel(s). "
    "Store each time point",
    "itksnap/multi_chunk.nii.gz": "has 2 components, but the project has 1 channel(s)",
    "itksnap/nan.mha": "has 1592 voxels that are NaN or infinite. Replace them",
    "itksnap/nan_seg.mha": "exact",
    "itksnap/seg4d_11f.nii.gz": "is 4D",
    "itksnap/t1_chunk.nii.gz": "exact",
    "itksnap/t2_chunk.nii.gz": "exact",
    "nibabel/anatomical.nii": "exact",  # big-endian
    "nibabel/example4d.nii.gz": "is 4D",
    "nibabel/example_nifti2.nii.gz": "is a NIfTI-2 file. Store it as NIfTI-1",
    "nibabel/functional.nii": "is 4D",
    "nibabel/reoriented_anat_moved.nii": "exact",  # big-endian, float
    "nibabel/someones_anatomy.nii.gz": "exact",
    "nibabel/test.mgz": "is no image file that can be read. Use one of .nii.gz",
    "niivue-images/fmri_pitch.nii.gz": "exact",
}


def test_every_geometry_case_is_in_the_table(real_data: Path) -> None:
    folder = real_data / "geometry_cases"
    assert {path.relative_to(folder).as_posix() for path in folder.glob("*/*")} == set(
        GEOMETRY_CASES
    )


@pytest.mark.parametrize("file", GEOMETRY_CASES)
def test_odd_geometries_come_in_exactly_or_not_at_all(
    real_data: Path, new: Callable[..., Project], file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source, expected = real_data / "geometry_cases" / file, GEOMETRY_CASES[file]
    project = new()
    if expected != "exact":
        assert expected in refusal(project, "case", [source])
        assert capfd.readouterr().err == ""
        return
    project.cases.import_case("case", [source])
    (case,) = project.cases.all()
    assert_same(sitk.ReadImage(str(case.images[0])), sitk.ReadImage(str(source)))
    assert_readable_by_nnunet(case.images)


def test_a_real_label_of_four_dimensions(real_data: Path, new: Callable[..., Project]) -> None:
    folder = real_data / "geometry_cases" / "itksnap"
    words = refusal(new(), "case", [folder / "t1_chunk.nii.gz"], folder / "seg4d_11f.nii.gz")
    assert "seg4d_11f.nii.gz has 4 dimensions. Store one number a voxel" in words


def test_real_labels(real_data: Path, new: Callable[..., Project]) -> None:
    folder = real_data / "geometry_cases" / "itksnap"
    project = new(labels={name: i for i, name in enumerate(["background", *"abcdefgh"])})
    words = refusal(project, "chunks", [folder / "t1_chunk.nii.gz"], folder / "t2_chunk.nii.gz")
    assert "size 58 x 41 x 17 instead of 43 x 54 x 32" in words
    project.cases.import_case(
        "crop", [folder / "MRIcrop-orig.gipl.gz"], folder / "MRIcrop-seg.gipl.gz"
    )
    (case,) = project.cases.all()
    assert np.array_equal(
        read_labels(case.label),
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "MRIcrop-seg.gipl.gz"))),
    )


def test_two_components_are_two_channels(real_data: Path, new: Callable[..., Project]) -> None:
    source = real_data / "geometry_cases" / "itksnap" / "multi_chunk.nii.gz"
    project = new(channels=2)
    project.cases.import_case("case", [source])
    (case,) = project.cases.all()
    whole = sitk.ReadImage(str(source))
    for index, file in enumerate(case.images):
        assert_same(sitk.ReadImage(str(file)), sitk.VectorIndexSelectionCast(whole, index))
    assert_readable_by_nnunet(case.images)
