"""255 means "not annotated" in stored label maps and versions; earlier versions used the highest
class + 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned_project import drop_latest_columns
from test_hand import planned

from alunet.errors import InputError
from alunet.imaging.dataset import number_labels
from alunet.imaging.writing import write_like
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.schema import NOT_ANNOTATED

OLD = 3  # of a project with two structures


def as_before(project: Project) -> None:
    """Write the project's labels as versions before the sixth schema did."""
    for case in project.cases.all("pool"):
        file = project.annotations.file(case.name)
        if file.is_file():
            labels = project.annotations.read(case.name)
            write_like(
                np.where(labels == NOT_ANNOTATED, OLD, labels).astype(np.uint8),
                case.images[0],
                file,
            )
    for file in (project.annotations_dir / "history").glob("*.npz"):
        with np.load(file) as content:
            labels = content["labels"]
        np.savez_compressed(
            file, labels=np.where(labels == NOT_ANNOTATED, OLD, labels).astype(np.uint16)
        )
    drop_latest_columns(project._db)
    project._db.execute("PRAGMA user_version = 5")


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_labels_of_earlier_versions_mean_the_same(
    tmp_path_factory: pytest.TempPathFactory, data
) -> None:
    folder = tmp_path_factory.mktemp("old")
    with planned(folder / "p", folder / "source") as project:
        chosen = data.draw(
            st.lists(st.integers(0, len(project.pool) - 1), min_size=1, max_size=6, unique=True)
        )
        rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
        for sample in chosen:
            labels = rng.choice(
                np.array([0, 1, 2, NOT_ANNOTATED], np.uint8), project.samples.place(sample).shape
            )
            project.annotations.submit(sample, Submission(labels, 0, "ann"))
        maps = {case.name: project.annotations.read(case.name) for case in project.cases.all()}
        versions = {sample: project.annotations.version(sample)[1] for sample in chosen}
        voxels = project.annotations.class_voxels().tolist()
        as_before(project)
        root = project.root
    with Project.open(root) as project:
        assert project.annotations.class_voxels().tolist() == voxels
        for name, labels in maps.items():
            np.testing.assert_array_equal(project.annotations.read(name), labels)
            assert project.annotations.read(name).dtype == np.uint8
        for sample, labels in versions.items():
            np.testing.assert_array_equal(project.annotations.version(sample)[1], labels)


def test_a_migration_that_was_stopped_half_way_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alunet.project import relabeling

    with planned(tmp_path / "p", tmp_path / "source") as project:
        for sample in (0, 7):
            labels = np.full(project.samples.place(sample).shape, NOT_ANNOTATED, np.uint8)
            labels[:, :5] = 2
            project.annotations.submit(sample, Submission(labels, 0, "ann"))
        wanted = {case.name: project.annotations.read(case.name) for case in project.cases.all()}
        as_before(project)
        root, replaced = project.root, []

    def stop(file: Path, old: int, relabel=relabeling._relabel_map) -> None:
        if replaced:
            raise KeyboardInterrupt
        relabel(file, old)
        replaced.append(file)

    with monkeypatch.context() as patched:
        patched.setattr(relabeling, "_relabel_map", stop)
        with pytest.raises(KeyboardInterrupt):
            Project.open(root)
    assert len(replaced) == 1
    with Project.open(root) as project:
        for name, labels in wanted.items():
            np.testing.assert_array_equal(project.annotations.read(name), labels)


def test_the_old_value_is_no_label_any_more(tmp_path: Path) -> None:
    with planned(tmp_path / "p", tmp_path / "source") as project:
        labels = np.full(project.samples.place(0).shape, OLD, np.uint8)
        with pytest.raises(InputError, match="value 3.*Use 0 to 2, or 255"):
            project.annotations.submit(0, Submission(labels, 0, "ann"))


def test_there_are_at_most_254_structures() -> None:
    labels = {"background": 0, **{f"structure {value}": value for value in range(1, 255)}}
    assert len(number_labels(labels)[0]) == 255
    with pytest.raises(InputError, match="255 structures.*at most 254"):
        number_labels({**labels, "one more": 255})
