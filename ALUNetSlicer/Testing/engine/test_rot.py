"""A bit that flips on a disk is found before it is used, and goes no further."""

from __future__ import annotations

import random
import shutil
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest
from attacks import assert_holds, rot
from recorded import facts

from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.imaging.writing import write_like
from alunet.loop import outputs
from alunet.project import Project
from alunet.project.backup import back_up
from alunet.project.checking import check
from alunet.project.identity import content_of
from alunet.project.kept_files import NotAsStored, forget_digests
from alunet.project.repairing import repair
from alunet.project.seals import corrected
from alunet.schema import NOT_ANNOTATED, ignore_events
from alunet.storage.locks import InUse

SHORT = 12
RECORDED = Path(facts.__file__).parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A project after a round of the second framework."""
    with rot._children_know_the_framework():
        return rot.make_project(tmp_path_factory.mktemp("rot"))


@pytest.fixture
def root(whole, tmp_path) -> Path:
    forget_digests()
    return shutil.copytree(whole, tmp_path / "project")


def flip(file: Path, seed: int = 0) -> None:
    rot._flip(random.Random(seed), [file], file.parent)


def told(project: Project) -> list[str]:
    return [event.data["text"] for _, event in project.events.after() if event.kind == "repaired"]


def names(project: Project) -> list[str]:
    return [damage.name for damage in check(project, ignore_events).damages]


def test_flipped_bits_are_found_and_label_maps_healed(tmp_path):
    assert_holds(rot.attack(SHORT, 0, tmp_path))


def test_a_project_that_nothing_happened_to_is_sound(root):
    with Project.open(root, read_only=True) as project:
        found = check(project, ignore_events)
    assert found.damages == () and found.notes == () and found.files > 20 and found.rows > 20


def test_what_is_being_changed_is_not_called_damaged(root, tmp_path):
    """The label maps of a change of the structures move one after the other."""
    with Project.open(root, shared=True) as project:
        project.settings.change = {"state": "moving"}
        for begin in (
            lambda: check(project, ignore_events),
            lambda: back_up(project, tmp_path / "b.zip", ignore_events),
        ):
            with pytest.raises(InUse, match="The structures are being changed"):
                begin()
        project.settings.change = None
        assert check(project, ignore_events).damages == ()


def test_what_is_written_into_a_label_map_by_hand_goes(root, caplog):
    """No version claims it; how much it is is said."""
    with Project.open(root) as project:
        file = project.annotations.file("a")
        before = project.annotations.read("a")
        drawn = before.copy()
        drawn[before == NOT_ANNOTATED] = 2
        write_like(drawn, project.cases.row("a").image, file)
        assert np.array_equal(project.annotations.read("a"), before)
        assert np.array_equal(read_labels(file), before), "the file too, not this answer alone"
        count = np.count_nonzero(before == NOT_ANNOTATED)
        assert f"{count:,} voxels that no version claims are gone" in told(project)[0]
        assert told(project)[0] in caplog.text
    assert np.array_equal(read_labels(root / "damaged" / file.name), drawn)


def test_a_label_map_that_is_gone_is_rebuilt(root):
    with Project.open(root) as project:
        before = {case: project.annotations.read(case) for case in project.annotations.cases()}
        for case in before:
            project.annotations.file(case).unlink()
        for case, labels in before.items():
            assert np.array_equal(project.annotations.read(case), labels)


def test_a_reader_sees_what_was_stored_and_writes_nothing(root):
    with Project.open(root, read_only=True) as project:
        before = project.annotations.read("a")
        flip(project.annotations.file("a"))
        content = project.annotations.file("a").read_bytes()
        assert np.array_equal(project.annotations.read("a"), before)
        assert project.annotations.file("a").read_bytes() == content


def test_a_label_map_with_all_its_witnesses_damaged_is_refused_in_one_line(root):
    with Project.open(root) as project:
        for file in (root / "annotations").rglob("a.mha"):
            flip(file)
        with pytest.raises(
            NotAsStored, match=r"a\.mha is damaged, and so is what it could be rebuilt"
        ):
            project.annotations.read("a")
        assert "annotations/a.mha" in names(project)


def test_damage_that_a_repair_heals_and_damage_that_it_names(root):
    with Project.open(root) as project:
        sample = int(np.flatnonzero(project.samples.labelled())[-1])
        version = project.annotations.versions.file(
            sample, project.annotations.versions.last(sample)
        )
        copy = next((root / "annotations" / "copies").rglob("b.mha"))
        healed = [project.annotations.file("a"), copy]
        lost = [next((root / "images").iterdir()), root / "rounds" / "000" / "weights.pth"]
        for number, file in enumerate([*healed, *lost]):
            flip(file, number)
        version.unlink(missing_ok=True)
        damaged = set(names(project))
        assert {path.relative_to(root).as_posix() for path in [*healed, *lost]} <= damaged
        found = repair(project, ignore_events)
        left = {damage.name for damage in found.left}
        assert {path.relative_to(root).as_posix() for path in lost} <= left
        assert not left & {path.relative_to(root).as_posix() for path in healed}
        assert all(damage.hint for damage in found.left)
        assert set(names(project)) == left


def test_an_image_is_copied_again_from_where_it_was_added(root, tmp_path):
    with Project.open(root) as project:
        file = next((root / "images").iterdir())
        source = project.cases.sources(file.name.split("_")[0])[0]
        shutil.copyfile(file, source)
        try:
            flip(file)
            assert [damage.name for damage in repair(project, ignore_events).done] == [
                f"images/{file.name}"
            ]
            assert file.read_bytes() == source.read_bytes() and not names(project)
        finally:
            source.unlink()


def test_a_training_whose_start_is_damaged_starts_anew(root):
    """It is said, and nothing is predicted with such weights."""
    weights = root / "rounds" / "000" / "weights.pth"
    flip(weights)
    with Project.open(root) as project:
        loop, heard = rot.loop_of(project), []
        loop.emit = heard.append
        with pytest.raises(NotAsStored, match="train the next round, which then starts anew"):
            outputs.predict(loop, [], root.parent / "out", ".mha")
        rot._next_annotation(loop, root)
        rot._read_to_train(loop, root)
        assert any("this training starts anew" in event.data.get("text", "") for event in heard)
        assert project.rounds.anew(1)


@pytest.mark.parametrize("table", ["annotations", "versions"])
def test_every_single_bit_of_a_row_is_found_and_turned_back(root, table):
    with Project.open(root) as project:
        row = project.seals._rows(table)[0]
        assert row.sound
        for index, value in enumerate(row.own):
            for other in rot._with_a_bit_flipped(value, random.Random(index)), None:
                if other is None and value is None:
                    continue
                own = (*row.own[:index], other, *row.own[index + 1 :])
                changed = type(row)(table, row.number, own, row.place, row.checksum)
                assert not changed.sound
                if other is not None:
                    assert corrected(changed, project.seals.place) == row


def test_more_than_a_bit_in_a_row_is_refused_in_one_line(root):
    with Project.open(root) as project:
        case = project.seals._rows("annotations")[0].own[2].decode()
        project._db.execute("UPDATE annotations SET author = 'Eve' WHERE id = 1")
        with pytest.raises(NotAsStored, match=f"annotations of case '{case}' is damaged"):
            project.annotations.read(case)
        assert repair(project, ignore_events).left[0].name == "annotations 1"


# --- projects that were made before there were hashes ---------------------------------------------


@pytest.fixture
def older(tmp_path) -> Path:
    forget_digests()
    with zipfile.ZipFile(RECORDED / "project-a4f7862.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "annotating"


def versioned(root: Path) -> tuple[str, tuple[slice, ...]]:
    """A case, and the box of a labeled slice in it that was submitted."""
    database = sqlite3.connect(root / "project.db")
    case, *box = database.execute(
        "SELECT case_name, k_lo, k_hi, j_lo, j_hi, i_lo, i_hi FROM samples WHERE state = 'labelled'"
        " AND id IN (SELECT sample_id FROM versions WHERE status = 'done' AND NOT conflict)"
    ).fetchone()
    database.close()
    return case, tuple(slice(*box[axis : axis + 2]) for axis in (0, 2, 4))


def damaged_map(root: Path) -> tuple[str, tuple[slice, ...], np.ndarray]:
    """Change the label map of a case in the box of a submitted slice; the case, the box, and the
    label map as it was.
    """
    case, box = versioned(root)
    file = root / "annotations" / f"{case}.mha"
    sound = read_labels(file)
    damaged = sound.copy()
    damaged[box] = np.where(sound[box] == 1, 2, 1)
    write_like(damaged, file, file)
    return case, box, sound


def test_an_older_project_gets_hashes_for_what_its_versions_say(older):
    """What spread from a flipped bit is put right where a version says so, and said."""
    case, box, sound = damaged_map(older)
    with Project.open(older) as project:
        assert np.array_equal(project.annotations.read(case)[box], sound[box])
        assert "were not what its versions say" in told(project)[0]
        assert not [name for name in names(project) if not name.startswith("rounds/")]


def test_an_older_project_whose_image_is_gone_opens_all_the_same(older):
    """Its label map is put right on its own grid; the image is missed where it is used."""
    case, box, sound = damaged_map(older)
    for image in (older / "images").glob(f"{case}_*"):
        image.unlink()
    with Project.open(older) as project:
        assert np.array_equal(project.annotations.read(case)[box], sound[box])
        assert "were not what its versions say" in told(project)[0]
        with pytest.raises(NotAsStored, match="is missing"):
            project.cases.files.check_case(case, project.cases.all()[0].images)


def test_an_image_of_an_older_project_is_compared_with_the_voxels_that_were_added(older):
    """Its hash is not that of what happens to be there."""
    image = sorted((older / "images").iterdir())[0]
    case = image.name.removesuffix("_0000.nii.gz")
    voxels, added = read_labels(image), content_of([image])
    voxels[0, 0, 0] ^= 1
    write_like(voxels.astype(np.uint16), image, image)
    with Project.open(older) as project:
        project._db.execute("UPDATE cases SET content = ? WHERE name = ?", (added, case))
        with pytest.raises(InputError, match="not those that were added"):
            project.cases.files.check_case(case, [image])
        assert any(case in name for name in names(project))
