"""A label never changes its meaning: files are read by what they say, and refused where they say
what is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from alunet.errors import InputError
from alunet.imaging.grids import SAME_PLACE, Grid, placement
from alunet.imaging.label_file import described_beside, write_description
from alunet.imaging.labels import Labels, LabelSource, Structures, outside_values
from alunet.schema import NOT_ANNOTATED

ORGANS = Structures(("background", "liver", "tumor"), (0, 1, 2))
GAPS = Structures(("background", "kidney", "liver"), (0, 2, 3))
SHAPE = (4, 6, 8)


@pytest.fixture
def image() -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-12.5, 40.0, 7.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    return image


def drawn(**boxes: tuple[int, int]) -> dict[str, np.ndarray]:
    """Masks of structures, each in some rows."""
    masks = {}
    for name, (low, high) in boxes.items():
        masks[name] = np.zeros(SHAPE, bool)
        masks[name][1:3, low:high, 2:5] = True
    return masks


def slicer_file(path: Path, like: sitk.Image, masks: dict[str, np.ndarray], **header: str) -> Path:
    """A .seg.nrrd as Slicer saves it: a layer for segments that do not overlap, cropped to what
    is drawn.
    """
    layers: list[np.ndarray] = []
    keys: dict[str, str] = {}
    for number, (name, mask) in enumerate(masks.items()):
        layer = next((n for n, own in enumerate(layers) if not (own & mask).any()), len(layers))
        if layer == len(layers):
            layers.append(np.zeros(SHAPE, np.uint8))
        value = int(layers[layer].max()) + 1
        layers[layer][mask] = value
        keys |= {
            f"Segment{number}_Name": name,
            f"Segment{number}_Layer": str(layer),
            f"Segment{number}_LabelValue": str(value),
        }
    parts = []
    for layer in layers or [np.zeros(SHAPE, np.uint8)]:
        part = sitk.GetImageFromArray(layer)
        part.CopyInformation(like)
        parts.append(part)
    image = parts[0] if len(parts) == 1 else sitk.Compose(parts)
    for key, value in {
        **keys,
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        **header,
    }.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), True)
    return path


def cropped(path: Path) -> Path:
    """The file without its empty margins, with the header that it had."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    ends = [(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(array)[:3]][::-1]
    part = sitk.RegionOfInterest(
        image, [high - low for low, high in ends], [low for low, _ in ends]
    )
    for key in image.GetMetaDataKeys():
        if key.startswith("Segment"):
            part.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(part, str(path), True)
    return path


def plain(path: Path, like: sitk.Image, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    sitk.WriteImage(image, str(path), True)
    return path


def read(path: Path, like: sitk.Image, structures: Structures = ORGANS, **said: object) -> Labels:
    return LabelSource(structures, **said).read(path, Grid.of(like))  # type: ignore[arg-type]


# --- segments of Slicer ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("liver", "tumor"), ("tumor", "liver"), ("Tumor", " LIVER ")])
@pytest.mark.parametrize("crop", [False, True])
def test_segments_are_what_they_are_named(tmp_path: Path, image, order, crop: bool) -> None:
    masks = drawn(liver=(0, 3), tumor=(3, 5))
    file = slicer_file(tmp_path / "a.seg.nrrd", image, {n: masks[n.strip().lower()] for n in order})
    found = read(cropped(file) if crop else file, image)
    assert np.array_equal(found.classes == 1, masks["liver"])
    assert np.array_equal(found.classes == 2, masks["tumor"])
    assert found.box == tuple((0, extent) for extent in SHAPE)


def test_the_second_structure_alone_stays_the_second(tmp_path: Path, image) -> None:
    masks = drawn(tumor=(1, 4))
    found = read(slicer_file(tmp_path / "a.seg.nrrd", image, masks), image).classes
    assert np.array_equal(found, masks["tumor"] * np.uint8(2))


def test_where_segments_overlap_the_larger_number_wins_and_is_said(tmp_path: Path, image) -> None:
    masks = drawn(liver=(0, 5), tumor=(2, 4))
    for order in (("liver", "tumor"), ("tumor", "liver")):
        found = read(
            slicer_file(tmp_path / "a.seg.nrrd", image, {n: masks[n] for n in order}), image
        )
        assert np.array_equal(found.classes == 2, masks["tumor"])
        assert np.array_equal(found.classes > 0, masks["liver"])
        assert found.notes == (
            "a.seg.nrrd: segments overlap in 12 voxels; the structure with the larger number was "
            "taken.",
        )


def test_a_segmentation_without_a_voxel_says_that_nothing_is_there(tmp_path: Path, image) -> None:
    file = slicer_file(tmp_path / "a.seg.nrrd", image, {})
    one = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    one.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    sitk.WriteImage(one, str(tmp_path / "one.seg.nrrd"))
    for each in (file, tmp_path / "one.seg.nrrd"):
        assert not read(each, image).classes.any()


def test_an_unknown_segment_is_refused_by_name_unless_it_is_empty(tmp_path: Path, image) -> None:
    masks = drawn(liver=(0, 2), Spleen=(3, 4))
    with pytest.raises(InputError, match=r"holds 'Spleen' \(6 voxels\).*'liver', 'tumor'"):
        read(slicer_file(tmp_path / "a.seg.nrrd", image, masks), image)
    masks["Spleen"][:] = False
    assert read(slicer_file(tmp_path / "a.seg.nrrd", image, masks), image).classes.any()


@pytest.mark.parametrize("header", [{"Segment0_LabelValue": "x"}, {"Segment0_Layer": "7"}])
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, image, header) -> None:
    with pytest.raises(InputError, match="Save the segmentation again"):
        read(slicer_file(tmp_path / "a.seg.nrrd", image, drawn(liver=(0, 2)), **header), image)


# --- descriptions beside the file -----------------------------------------------------------------


@pytest.mark.parametrize("place", ["labelsTr/c.nii.gz", "c.nii.gz"])
def test_a_dataset_json_beside_a_file_says_what_its_values_are(
    tmp_path: Path, image, place
) -> None:
    masks = drawn(kidney=(0, 2), liver=(3, 5))
    file = plain(
        tmp_path / place, image, (masks["kidney"] * 7 + masks["liver"] * 5).astype(np.uint8)
    )
    labels = {"background": 0, "liver": 5, "kidney": 7}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    found = read(file, image, GAPS).classes
    assert np.array_equal(found == 1, masks["kidney"])
    assert np.array_equal(found == 2, masks["liver"])


def test_itk_snap_describes_the_files_beside_it(tmp_path: Path, image) -> None:
    masks = drawn(kidney=(0, 2), liver=(3, 5))
    file = plain(
        tmp_path / "c.nii.gz", image, (masks["kidney"] * 4 + masks["liver"]).astype(np.uint8)
    )
    lines = [
        "# ITK-SnAP Label Description File",
        '    0     0    0    0        0  0  0    "Clear Label"',
        '    1   255    0    0        1  1  1    "Liver"',
        '    4     0  255    0        1  1  1    "kidney"',
    ]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    found = read(file, image, GAPS).classes
    assert np.array_equal(found == 1, masks["kidney"])
    assert np.array_equal(found == 2, masks["liver"])
    (tmp_path / "other.txt").write_text("\n".join(lines))
    with pytest.raises(InputError, match="several label descriptions"):
        described_beside(file)
    (tmp_path / "c.label").write_text("\n".join(lines))
    assert described_beside(file).source.endswith("c.label")


def test_a_value_that_the_description_does_not_name_is_refused(tmp_path: Path, image) -> None:
    file = plain(tmp_path / "c.nii.gz", image, np.full(SHAPE, 3, np.uint8))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    with pytest.raises(InputError, match="holds the value 3, which .*dataset.json does not name"):
        read(file, image)


def test_ignored_voxels_stay_open(tmp_path: Path, image) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[1], array[2] = 1, 3
    file = plain(tmp_path / "set/c.nii.gz", image, array)
    with pytest.raises(InputError, match="holds the value 3"):
        read(file, image)
    found = read(file, image, ignore=3)
    assert (found.classes[2] == NOT_ANNOTATED).all() and found.open_voxels == array[2].size
    labels = {"background": 0, "liver": 1, "tumor": 2, "ignore": 3}
    (tmp_path / "set/dataset.json").write_text(json.dumps({"labels": labels}))
    assert np.array_equal(read(file, image).classes, found.classes)
    with pytest.raises(InputError, match="The value 1 is 'liver'"):
        read(file, image, ignore=1)


# --- files that say nothing -----------------------------------------------------------------------


def test_a_mask_of_0_and_255_is_the_only_structure_or_is_refused(tmp_path: Path, image) -> None:
    mask = drawn(liver=(1, 4))["liver"]
    file = plain(tmp_path / "m.nii.gz", image, mask * np.uint8(255))
    only = Structures(("background", "liver"), (0, 1))
    found = read(file, image, only)
    assert np.array_equal(found.classes == 1, mask)
    assert found.notes == ("m.nii.gz: 255 was taken as 'liver', the only structure.",)
    with pytest.raises(InputError, match="holds the value 255"):
        read(file, image)


def test_where_two_numberings_are_possible_a_file_without_a_description_is_refused(
    tmp_path: Path, image
) -> None:
    mask = drawn(liver=(1, 4))["liver"]
    with pytest.raises(
        InputError, match="'kidney', as in the data set, or 'liver', as in proposals"
    ):
        read(plain(tmp_path / "a.nii.gz", image, mask * np.uint8(2)), image, GAPS)
    found = read(plain(tmp_path / "b.nii.gz", image, mask * np.uint8(3)), image, GAPS)
    assert np.array_equal(found.classes == 2, mask)
    with pytest.raises(InputError, match="holds the value 1"):
        read(
            plain(tmp_path / "c.nii.gz", image, np.where(mask, 1, 3).astype(np.uint8)), image, GAPS
        )


@given(values=st.lists(st.integers(1, 300), min_size=1, max_size=6, unique=True), data=st.data())
def test_what_leaves_comes_back_as_what_it_was(tmp_path_factory, values: list[int], data) -> None:
    structures = Structures(("background", *(f"s{n}" for n in range(len(values)))), (0, *values))
    classes = data.draw(
        st.lists(
            st.sampled_from([*range(len(values) + 1), NOT_ANNOTATED]), min_size=24, max_size=24
        )
    )
    array = np.array(classes, np.uint8).reshape(2, 3, 4)
    table, ignore = outside_values(structures.values, structures.numbers)
    like = sitk.GetImageFromArray(array)
    folder = tmp_path_factory.mktemp("out")
    file = plain(folder / "c.nrrd", like, table[array])
    write_description(folder, structures.in_files, ignore)
    assert np.array_equal(read(file, like, structures).classes, array)
    other = Structures(tuple(reversed(structures.names[1:])), tuple(range(len(values))))
    back = Structures(("background", *other.names), tuple(range(len(values) + 1)))
    again = read(file, like, back).classes
    for number, name in enumerate(structures.names):
        assert np.array_equal(again == back.find(name), array == number)


def test_a_description_of_others_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "liver": 2, "tumor": 1}})
    )
    with pytest.raises(InputError, match="another meaning"):
        write_description(tmp_path, ORGANS.in_files)


# --- where the voxels are -------------------------------------------------------------------------


@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.lists(st.booleans(), min_size=3, max_size=3),
    low=st.lists(st.integers(0, 2), min_size=3, max_size=3),
    shift=st.floats(-0.02, 0.02),
)
def test_a_file_with_other_axes_or_a_part_is_put_where_it_is(
    axes, flips, low, shift: float
) -> None:
    rng = np.random.default_rng(3)
    array = rng.integers(1, 4, SHAPE).astype(np.uint8)
    whole = sitk.GetImageFromArray(array)
    whole.SetSpacing((0.7, 0.8, 3.0))
    whole.SetOrigin((-12.5, 40.0, 7.0))
    size = [extent - start for extent, start in zip(whole.GetSize(), low, strict=True)]
    part = sitk.RegionOfInterest(whole, size, low)
    other = sitk.Flip(sitk.PermuteAxes(part, axes), flips)
    other.SetOrigin([value + shift * 0.7 for value in other.GetOrigin()])
    place = placement(Grid.of(whole), Grid.of(other))
    assert place is not None
    expected = np.zeros(SHAPE, np.uint8)
    inside = tuple(slice(start, None) for start in low[::-1])
    expected[inside] = array[inside]
    assert np.array_equal(place.place(sitk.GetArrayFromImage(other), Grid.of(whole)), expected)


@pytest.mark.parametrize("off", [0.01, 0.04, 0.06, 0.5])
def test_a_label_is_moved_to_the_nearest_voxels_below_a_twentieth_of_a_voxel(
    tmp_path: Path, image, off: float
) -> None:
    mask = drawn(liver=(1, 4))["liver"]
    moved = sitk.Image(image)
    moved.SetOrigin([value + off * 0.7 for value in image.GetOrigin()])
    file = plain(tmp_path / "m.nrrd", moved, mask.astype(np.uint8))
    if off < SAME_PLACE:
        assert np.array_equal(read(file, image).classes == 1, mask)
    else:
        with pytest.raises(
            InputError, match=f"up to {off * 0.7 / 0.7:.3g} voxels apart.*nearest-neighbor"
        ):
            read(file, image)
