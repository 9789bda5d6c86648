"""A project may ask people for whole slices: strategies pick tiles, and each pick asks for all of
its slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from nearest_mean import NearestMean
from planned_project import geometry
from small import RECIPE

from alunet.errors import InputError
from alunet.loop import Loop
from alunet.loop.oracle import Oracle
from alunet.loop.setup import Setup, create
from alunet.loop.tiles import Tiling
from alunet.pool import Pool
from alunet.project import Project
from alunet.schema import SLICE, TILE

LABELS = {"background": 0, "organ": 1, "tumor": 2}
SHAPE = (5, 28, 36)  # 3 x 4 tiles of 16 x 16 a slice


def add(project: Project, folder: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros(SHAPE, np.uint8)
    label[:, 6:22, 5:30], label[1:4, 10:14, 8 : 12 + seed % 5] = 1, 2
    image = (100 * label + rng.normal(100, 25, SHAPE)).astype(np.float32)
    files = [folder / f"{name}{kind}.nrrd" for kind in ("", "_label")]
    for array, file in zip((image, label), files, strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    project.cases.import_case(name, files[:1], files[1])


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Project.create(
        tmp_path / "p", name="p", labels=LABELS, channels=["MRI"], unit=SLICE
    ) as project:
        for seed, name in enumerate("cd"):
            add(project, tmp_path, name, seed)
        yield Loop(
            project,
            RECIPE.for_seconds(60),
            seed=1,
            device="cpu",
            threads=1,
            framework=NearestMean(),
        )


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 60), st.integers(1, 60)),
    patch=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_a_whole_slice_is_one_sample_and_holds_all_of_its_tiles(shape, patch):
    case = geometry("a", shape)
    whole, tiles = Pool.build([case], patch, whole_slices=True), Pool.build([case], patch)
    assert len(whole) == shape[0] and whole.slice_raw.tolist() == list(range(shape[0]))
    boxes = [[[k, k + 1], [0, shape[1]], [0, shape[2]]] for k in range(shape[0])]
    assert whole.raw_box.tolist() == boxes
    if shape[1] <= patch[0] and shape[2] <= patch[1]:
        assert whole == tiles, "slices that are one tile anyway"


def test_each_tile_is_of_the_sample_of_its_slice_whatever_was_added_or_removed_since(
    loop, tmp_path
):
    project = loop.project
    loop.prepare()
    for seed, name in ((7, "b"), (8, "e")):  # one before those there are, by its name
        add(project, tmp_path, name, seed)
    loop.prepare()
    project.case_changes.remove("c")
    pool, tiles = project.pool, Tiling.of(project)
    assert pool.cases == ("c", "d", "b", "e") and len(pool) == 4 * SHAPE[0]
    assert len(tiles.pool) == 12 * len(pool)
    for column in ("case", "slice", "slice_raw"):
        ours, theirs = getattr(pool, column), getattr(tiles.pool, column)
        assert np.array_equal(ours[tiles.sample], theirs)
    box, own = pool.raw_box[tiles.sample], tiles.pool.raw_box
    assert (box[:, :, 0] <= own[:, :, 0]).all() and (own[:, :, 1] <= box[:, :, 1]).all()
    assert tiles.of_samples([3, 1]).tolist() == [*range(12, 24), *range(36, 48)]


def test_a_batch_has_each_slice_once_with_what_was_said_of_its_first_tile():
    tiles = Tiling(Pool.build([geometry("a", SHAPE)], (16, 16)), np.repeat(np.arange(5), 12))
    assert tiles.enough(2, 1) == 3 * 12 - 2
    picks = {"ids": [13, 12, 50, 14, 1, 30], "gains": [6, 5, 4, 3, 2, 1], "reasons": list("abcdef")}
    found = tiles.asked_for({**picks, "uncertainty": None, "diagnostics": {}}, 3)
    assert found["ids"] == [1, 4, 0] and found["gains"] == [6, 4, 2]
    assert found["reasons"] == ["a", "c", "e"] and found["uncertainty"] is None


@pytest.mark.slow
def test_rounds_ask_for_slices_and_the_budget_counts_them(loop):
    project = loop.project
    loop.prepare()
    loop.next_round("spread", 2, ahead=1)
    seen: set[int] = set()
    for strategy, budget in (("entropy", 2), ("core-set", 2), ("random-fg66", 1)):
        number = loop.current()
        rows = project.worklist.rows(number)
        batch = [row.sample for row in rows if not row.ahead]
        assert len(batch) == (2 if number < 3 else 1) and not seen & set(batch)
        assert all(row.box[1:] == [[0, SHAPE[1]], [0, SHAPE[2]]] for row in rows)
        assert len({(row.case, row.slice) for row in rows}) == len(rows)
        seen |= set(batch)
        Oracle(project).reveal(np.array(batch), number)
        assert loop.next_round(strategy, budget).record is not None
    assert project.annotations.costs().voxels == len(seen) * SHAPE[1] * SHAPE[2]


def test_the_unit_is_chosen_once(tmp_path):
    about = {"name": "p", "labels": LABELS, "channels": ["MRI"], "setup": Setup()}
    with create(tmp_path / "p", unit=SLICE, **about) as made:
        assert made.settings.unit == SLICE
    with create(tmp_path / "p", unit=SLICE, **about) as again:
        assert again.settings.unit == SLICE
    with pytest.raises(InputError, match="There is a project"):
        create(tmp_path / "p", **about)
    with pytest.raises(InputError, match="no unit 'volume'. Use one of tile, slice"):
        create(tmp_path / "q", unit="volume", **about)
    assert not (tmp_path / "q").exists()
    with create(tmp_path / "usual", **about) as usual:
        assert usual.settings.unit == TILE
