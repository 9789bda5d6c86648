"""Studies: what may be asked, what is shared between runs, what is written, and how a study goes
on.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planned_project import plan
from rich.console import Console

import alunet
from alunet import query
from alunet.errors import Cancelled, EngineError, InputError
from alunet.imaging.dataset import DatasetDescription
from alunet.loop import RoundRecord, preset
from alunet.model import metrics
from alunet.proposals.effort import TimeModel, effort_of
from alunet.schema import Event
from alunet.schema.durations import duration
from alunet.simulation import config, grid, plots, tables
from alunet.simulation.phantom import make_phantom
from alunet.simulation.progress import Board, LiveDisplay, PlainDisplay, render

ENGINE = Path(alunet.__file__).parents[1]
QUICK = {"rounds": 1, "budget": 10, "initial": 10, "epochs": 1, "iterations": 2}


def manifest(number, samples, dice, strategy="random", **more):
    return {
        "number": number,
        "strategy": strategy,
        "labelled_samples": samples,
        "labelled_slices": samples,
        "labelled_voxels": 1000 * samples,
        "fraction": samples / 1000,
        "metrics": {"dice": {"anterior": dice + 0.1, "posterior": None, "mean": dice}},
        "diagnostics": {},
        "seconds": {"refresh labels": 1.0, "train": 60.0},
        "peak_memory_mb": {"train": 900.0},
        **more,
    }


def runs(**dice):
    """Runs of two seeds; every strategy ends with its own Dice, the second seed 0.02 above the
    first.
    """
    found = []
    for strategy, last in dice.items():
        for seed in (0, 1):
            end = last + 0.02 * seed
            samples = 1000 if strategy == "full" else 200
            rounds = [
                manifest(0, 100, 0.5),
                manifest(1, samples, end, strategy, diagnostics={"query_size": 50}),
            ]
            found.append(tables.RunRounds(0, seed, strategy, rounds))
    return found


# --- tables ---------------------------------------------------------------------------------------


def test_curves_have_the_promised_columns_and_round_0_for_every_strategy():
    curves = tables.curves_table("Hippocampus", runs(random=0.7, usimf=0.8))
    assert list(curves.columns) == [
        "dataset",
        "strategy",
        "fold",
        "seed",
        "round",
        "labelled_samples",
        "labelled_slices",
        "labelled_voxels",
        "fraction",
        *tables.EFFORT,
        "label",
        "dice",
    ]
    first = curves[(curves["round"] == 0) & (curves["label"] == "mean")]
    assert sorted(first["strategy"].unique()) == ["random", "usimf"]
    assert (first["dice"] == 0.5).all()
    assert set(curves["label"]) == {"anterior", "posterior", "mean"}
    assert curves[curves["label"] == "posterior"]["dice"].isna().all(), (
        "a label that no test case has is no zero"
    )


def test_the_effort_adds_up_over_the_rounds_and_gets_a_picture_of_its_own(tmp_path):
    final = np.zeros((9, 9), np.uint8)
    final[2:6, 2:6] = 1
    efforts = [effort_of(start, final, (1, 1)).to_json() for start in (np.zeros_like(final), final)]
    rounds = [manifest(n, 100 * (n + 1), 0.5, effort=own) for n, own in enumerate(efforts)]
    curves = tables.curves_table("d", [tables.RunRounds(0, 0, "random", rounds)])
    mean = curves[curves["label"] == "mean"].set_index("round")
    assert mean["added_1"].tolist() == [12, 12] and mean["accepted"].tolist() == [0, 0.5]
    assert mean["minutes"].tolist() == pytest.approx([6.8 / 60, 11.8 / 60])
    shorter = tables.curves_table("d", [tables.RunRounds(0, 0, "random", rounds)], TimeModel(0, 1))
    assert shorter[shorter["label"] == "mean"]["minutes"].tolist() == pytest.approx([0.2, 0.2])
    drawn = plots.plot_curves(curves, tmp_path)
    assert list(drawn) == ["dice", "effort"] and drawn["effort"][0].is_file()
    axes = plots.draw_curves(curves, over=plots.MINUTES).axes[0]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([6.8 / 60, 11.8 / 60])
    unmeasured = tables.curves_table(
        "d", [tables.RunRounds(0, 0, "random", [{**rounds[0], "effort": None}, rounds[1]])]
    )
    assert unmeasured["minutes"].isna().all()


def with_distance(runs, values):
    """The same runs, in which a second metric was measured, too: of each strategy, in the last
    round.
    """
    for run in runs:
        distance = {"anterior": None, "posterior": None, "mean": values[run.strategy] + run.seed}
        last = {**run.rounds[-1], "metrics": {**run.rounds[-1]["metrics"], "distance": distance}}
        yield replace(run, rounds=[*run.rounds[:-1], last])


def test_another_metric_is_a_column_behind_dice_and_changes_none_before():
    plain = tables.curves_table("d", runs(random=0.7, usimf=0.8))
    curves = tables.curves_table(
        "d", with_distance(runs(random=0.7, usimf=0.8), {"random": 3.0, "usimf": 2.0})
    )
    pd.testing.assert_frame_equal(curves[list(plain.columns)], plain)
    assert list(curves.columns[len(plain.columns) :]) == ["distance"]
    mean = curves[curves["label"] == "mean"]
    assert mean[mean["round"] == 0]["distance"].isna().all(), (
        "a round of an earlier version did not measure it"
    )
    summary = tables.summary_table(curves)
    pd.testing.assert_frame_equal(summary.iloc[:, :8], tables.summary_table(plain))
    assert list(summary.columns[8:]) == ["distance_mean", "distance_std"]
    assert list(summary["distance_mean"]) == [2.5, 3.5]


def test_each_metric_has_a_picture_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(
        metrics._REGISTRY, "distance", metrics.Metric("distance", "Distance", "mm", False, 0.0, len)
    )
    curves = tables.curves_table(
        "d", with_distance(runs(random=0.6, usimf=0.8), {"random": 2.0, "usimf": 3.0})
    )
    drawn = plots.plot_curves(curves, tmp_path)
    assert [path.name for path in drawn["distance"]] == [
        "curves_distance.png",
        "curves_distance.svg",
    ]
    assert all(path.is_file() for paths in drawn.values() for path in paths)
    axes = plots.draw_curves(curves, "distance").axes[0]
    assert axes.get_ylabel() == "Mean foreground Distance (mm) on the test cases"
    order = [text.get_text() for text in axes.get_legend().get_texts()]
    assert order == ["random", "usimf"], "a small distance is better"
    first, second = runs(random=0.7)
    assert list(plots.pictures(tables.curves_table("d", [first, second]), tmp_path)) == ["dice"]


def test_rounds_tell_costs_once_and_leave_empty_what_a_strategy_has_not():
    table = tables.rounds_table("Hippocampus", runs(random=0.7, usimf=0.8))
    assert list(table.columns) == [
        "dataset",
        "strategy",
        "fold",
        "seed",
        "round",
        "query_size",
        "elbow",
        "batch_uncertainty",
        "seconds_refresh_labels",
        "seconds_train",
        "peak_memory_mb_refresh_labels",
        "peak_memory_mb_train",
    ]
    assert len(table) == 2 * (1 + 2), "round 0 once for each fold and seed"
    assert (table["strategy"] == "initial").sum() == 2
    assert table["elbow"].isna().all()


@pytest.mark.parametrize(
    ("budget", "dice", "area"),
    [
        ([0, 0.5, 1], [0.5, 0.7, 0.8], 0.675),
        ([100, 200, 400], [0.6, 0.6, 0.6], 0.6),
        ([0, 10, 20], [0, 1, 1], 0.75),
    ],
)
def test_area_under_the_budget_curve(budget, dice, area):
    assert tables.area_under_budget_curve(budget, dice) == pytest.approx(area)


def test_a_single_point_has_no_area():
    assert pd.isna(tables.area_under_budget_curve([100], [0.5]))


def test_summary_puts_the_best_first_and_the_reference_last():
    summary = tables.summary_table(tables.curves_table("d", runs(full=0.9, random=0.6, usimf=0.8)))
    assert list(summary["strategy"]) == ["usimf", "random", "full"]
    best = summary.iloc[0]
    assert (best["runs"], best["labelled_samples"]) == (2, 200)
    assert best["dice_mean"] == pytest.approx(0.81)
    assert best["dice_std"] == pytest.approx(0.02 / 2**0.5)
    assert best["aubc_mean"] == pytest.approx((0.5 + 0.81) / 2)
    assert pd.isna(summary.iloc[2]["aubc_mean"])


def test_means_are_taken_over_rounds_that_all_runs_have_finished():
    begun, ahead = runs(random=0.7)
    ahead = replace(ahead, rounds=[*ahead.rounds, manifest(2, 300, 0.99)])
    waiting = tables.RunRounds(0, 2, "random", [manifest(0, 100, 0.1)])
    row = tables.summary_table(tables.curves_table("d", [begun, ahead, waiting])).iloc[0]
    assert (row["runs"], row["round"]) == (2, 1)
    assert row["dice_mean"] == pytest.approx(0.71)


def test_a_study_without_a_finished_round_has_empty_tables():
    curves = tables.curves_table("d", [])
    assert (
        len(curves) == len(tables.rounds_table("d", [])) == len(tables.summary_table(curves)) == 0
    )


def test_a_table_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "curves.csv"
    for size in (3, 1):
        assert tables.write_csv(pd.DataFrame({"dice": [0.123456789] * size}), file)
    assert file.read_bytes() == b"dice\n0.123457\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_table_that_another_program_holds_open_does_not_end_the_study(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert not tables.write_csv(pd.DataFrame({"dice": [1]}), tmp_path / "curves.csv")
    assert list(tmp_path.iterdir()) == []


# --- picture --------------------------------------------------------------------------------------


def test_the_picture_is_written_twice_and_the_same_data_give_the_same_svg(tmp_path):
    curves = tables.curves_table("Ünïcode", runs(random=0.6, usimf=0.8, full=0.9))
    png, svg = plots.plot_curves(curves, tmp_path)["dice"]
    assert png.read_bytes()[:4] == b"\x89PNG"
    text = svg.read_text(encoding="utf-8")
    assert "<svg" in text
    assert "<dc:date>" not in text


def test_the_picture_says_in_words_what_it_shows():
    curves = tables.curves_table("d", runs(random=0.6, usimf=0.8, full=0.9))
    axes = plots.draw_curves(curves).axes[0]
    assert axes.get_xlabel() == "Labelled slices"
    assert axes.get_ylabel() == "Mean foreground Dice on the test cases"
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "full (all 1,000 labelled)",
        "usimf",
        "random",
    ]
    assert legend.get_title().get_text() == "mean of 2 runs,\nband: worst to best run"
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 1


def test_colours_belong_to_strategies_not_to_their_order():
    names = ["usimf:eta=10", "usimf", "random", "usimc:eta=2"]
    first, second = plots.styles(names), plots.styles(reversed(names))
    assert [first[name] for name in names] == [second[name] for name in names]
    assert len({first[name] for name in names}) == len(names)


def test_a_picture_of_nothing_is_still_a_picture(tmp_path):
    plots.plot_curves(tables.curves_table("d", []), tmp_path)


# --- what may be asked ----------------------------------------------------------------------------


def test_folds_are_those_of_nnunet():
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    names = [f"case_{number:03d}" for number in range(201)]
    theirs = generate_crossval_split(names, seed=12345, n_splits=5)
    ours = config.splits(list(reversed(names)), range(5))
    assert [ours[fold] for fold in range(5)] == [
        [str(name) for name in fold["val"]] for fold in theirs
    ]


@pytest.mark.parametrize(("count", "folds"), [(4, [0]), (20, [5]), (20, [-1]), (20, [])])
def test_impossible_folds_are_refused(count, folds):
    with pytest.raises(InputError, match="fold"):
        config.splits([str(number) for number in range(count)], folds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("random", "random"),
        (" usimf:eta=1.0 ", "usimf"),
        ("usimf:elbow=kneedle,eta=10", "usimf:elbow=kneedle,eta=10"),
        ("usimf:eta=10.0, elbow=kneedle", "usimf:elbow=kneedle,eta=10"),
    ],
)
def test_a_strategy_has_one_name_however_it_is_written(text, expected):
    assert query.canonical(text) == expected
    assert query.canonical(expected) == expected


@pytest.mark.parametrize("name", ["usimf:eta=10,elbow=kneedle", "random-fg66"])
def test_a_strategy_names_a_folder_on_any_system(name):
    assert not set(config.folder_name(name)) & set('<>:"/\\|?* ')


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0},
        {"initial": 0},
        {"rounds": 0},
        {"jobs": 0},
        {"limit": 0},
        {"seeds": []},
        {"seeds": [-1]},
        {"strategies": []},
        {"strategies": "random"},
        {"strategies": ["randm"]},
        {"strategies": ["usimf:etta=1"]},
        {"preset": "fast"},
        {"epochs": 0},
        {"iterations": 0},
        {"device": "tpu"},
        {"folds": [7]},
        {"test": "nowhere"},
    ],
    ids=str,
)
def test_impossible_options_are_refused_before_anything_is_written(phantom, tmp_path, options):
    with pytest.raises(InputError) as caught:
        alunet.simulate(phantom, tmp_path / "out", **{"strategies": ["random"], **options})
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_fold_and_a_test_set_exclude_each_other(phantom, other_phantom, tmp_path):
    with pytest.raises(InputError, match="--fold or --test"):
        alunet.simulate(phantom, tmp_path / "out", ["random"], folds=[1], test=other_phantom)


def test_a_case_cannot_be_in_the_pool_and_in_the_test_set(phantom, tmp_path):
    with pytest.raises(InputError, match="in the data set and in the test set"):
        alunet.simulate(phantom, tmp_path / "out", ["random"], test=phantom)


def test_pool_and_test_set_must_speak_of_the_same_things():
    ours = DatasetDescription(
        "a", {"background": 0, "liver": 1}, ["CT"], [("a1", [Path("a1.nii")], Path("l"))]
    )
    theirs = DatasetDescription(
        "b", {"background": 0, "spleen": 1}, ["CT"], [("b1", [Path("b1.nii")], Path("l"))]
    )
    with pytest.raises(InputError, match="spleen"):
        config.check_test_set(ours, theirs)
    with pytest.raises(InputError, match="MRI"):
        config.check_test_set(ours, replace(theirs, labels=ours.labels, channels=["MRI"]))


def test_a_case_without_a_label_is_named(phantom, tmp_path):
    description = json.loads((phantom / "dataset.json").read_text(encoding="utf-8"))
    description["training"] = [{"image": entry["image"]} for entry in description["training"]]
    folder = tmp_path / "unlabelled"
    (folder / "imagesTr").mkdir(parents=True)
    for file in (phantom / "imagesTr").iterdir():
        (folder / "imagesTr" / file.name).write_bytes(file.read_bytes())
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(InputError, match=r"6 of 6 cases .* have no label"):
        alunet.simulate(folder, tmp_path / "out", ["random"])


def test_data_that_cannot_be_read_leave_nothing_behind(phantom, tmp_path):
    folder = tmp_path / "damaged"
    for file in (file for file in phantom.rglob("*") if file.is_file()):
        target = folder / file.relative_to(phantom)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes()
        target.write_bytes(content if "005" not in file.name else content[: len(content) // 2])
    with pytest.raises(InputError, match="005"):
        alunet.simulate(folder, tmp_path / "out", ["random"])
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_not_touched(phantom, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="holds something, but no study"):
        alunet.simulate(phantom, tmp_path, ["random"])


# --- a study that goes on -------------------------------------------------------------------------


def study(**change):
    recipe = preset("cpu").with_length(epochs=4)
    fixed = {"dataset": {"name": "d"}, "test set": None, "split": "by case", "budget": 100}
    fixed["recipe"] = recipe.to_json()
    fixed = {**fixed, **change.pop("fixed", {})}
    return replace(config.Study(fixed, ("random",), 3, (0,), (0,)), **change)


def test_runs_may_be_added_later(tmp_path):
    config.save(tmp_path, study())
    (tmp_path / "runs").mkdir()
    both = config.merge(tmp_path, study(strategies=("usimf",), rounds=2, seeds=(0, 5)))
    assert (both.strategies, both.rounds, both.folds, both.seeds) == (
        ("random", "usimf"),
        3,
        (0,),
        (0, 5),
    )


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    config.save(tmp_path, study())
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match=r"budget is 100 there and 50 now"):
        config.merge(tmp_path, study(fixed={"budget": 50}))
    with pytest.raises(InputError, match=r"recipe first epochs is 4 there and 8 now"):
        config.merge(
            tmp_path, study(fixed={"recipe": preset("cpu").with_length(epochs=8).to_json()})
        )
    published = preset("cpu").with_length(epochs=4).as_published()
    with pytest.raises(InputError, match=r"recipe first heads is keep there and reset now"):
        config.merge(tmp_path, study(fixed={"recipe": published.to_json()}))


def test_a_study_of_before_the_options_of_fidelity_goes_on(tmp_path):
    recipe = study().fixed["recipe"]
    for training in (recipe["first"], recipe["later"]):
        for name in ("heads", "checkpoint", "cases"):
            del training[name]
    del recipe["train_for"]
    recipe["scoring"]["heads"] = "training"
    config.save(tmp_path, study(fixed={"recipe": recipe}))
    (tmp_path / "runs").mkdir()
    assert config.merge(tmp_path, study()).fixed == study().fixed


def test_before_the_first_run_only_the_data_must_stay(tmp_path):
    config.save(tmp_path, study())
    assert config.merge(tmp_path, study(fixed={"budget": 50})).fixed["budget"] == 50
    with pytest.raises(InputError, match="dataset name is d there and e now"):
        config.merge(tmp_path, study(fixed={"dataset": {"name": "e"}}))


@pytest.mark.parametrize("content", ["", "{}", '{"version": 99, "fixed": {}, "runs": {}}'])
def test_a_damaged_study_is_named(tmp_path, content):
    (tmp_path / "study.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"study\.json"):
        config.merge(tmp_path, study())


# --- the order of runs, with a loop that only pretends to train -----------------------------------


class PretendedLoop:
    """Finishes rounds as `alunet.loop.Loop` does, and does nothing else."""

    played: list = []
    broken: tuple = ()

    def __init__(self, project, recipe, *, seed, emit, cancel, **_):
        self.project, self.seed, self.recipe, self.emit, self.cancel = (
            project,
            seed,
            recipe,
            emit,
            cancel,
        )

    def rounds(self):
        return [RoundRecord.from_json(entry.record) for entry in self.project.rounds.finished()]

    def play(self, strategy, size):
        if strategy in self.broken:
            raise EngineError("No memory left.", "Use a smaller batch.")
        number = len(self.rounds())
        self.played.append((self.seed, strategy, number))
        samples = size * (number + 1)
        entries = manifest(number, samples, 0.5 + 0.1 * number, strategy)
        record = RoundRecord(
            **entries,
            seed=self.seed,
            budget=size,
            pool_samples=1000,
            class_voxels=[],
            selected={},
            recipe={},
            training={},
            hashes={},
        )
        self.project.rounds.begin(strategy, size)
        self.project.rounds.finish(number, asdict(record))
        self.emit(
            Event(
                "step",
                {"name": "round", "state": "finished", "number": number, "dice": record.mean()},
            )
        )
        return record

    def prepare(self):
        if self.project.samples.known_pool() is None:
            plan(self.project)


@pytest.fixture
def pretended(monkeypatch):
    from alunet.simulation import study as study_module

    monkeypatch.setattr(grid, "Loop", PretendedLoop)
    monkeypatch.setattr(
        grid, "play_first_round", lambda loop, initial: loop.play("initial", initial)
    )
    monkeypatch.setattr(
        grid, "play_round", lambda loop, strategy, budget: loop.play(strategy, budget)
    )
    monkeypatch.setattr(study_module, "Loop", PretendedLoop)
    monkeypatch.setattr(PretendedLoop, "played", [])
    monkeypatch.setattr(PretendedLoop, "broken", ())
    return PretendedLoop


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return make_phantom(tmp_path_factory.mktemp("data") / "Phantom ä", cases=6)


@pytest.fixture(scope="module")
def other_phantom(tmp_path_factory):
    folder = make_phantom(tmp_path_factory.mktemp("data") / "other", cases=2, seed=1)
    for file in [file for file in folder.rglob("*.gz")]:
        file.rename(file.with_name("other_" + file.name))
    description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for entry in description["training"]:
        for what in ("image", "label"):
            path = Path(entry[what])
            entry[what] = (path.parent / f"other_{path.name}").as_posix()
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def test_as_published_is_in_the_strategies_and_in_the_recipe(phantom, tmp_path, pretended):
    chosen = ["usimf", "usimc:eta=10", "random"]
    result = alunet.simulate(
        phantom, tmp_path, chosen, rounds=1, budget=5, initial=5, as_published=True
    )
    study = config.Study.load(tmp_path / "study.json")
    assert study.strategies == ("usimf:published", "usimc:published,eta=10", "random")
    assert study.fixed["recipe"] == preset("cpu").with_length().as_published().to_json()
    assert set(result.summary["strategy"]) == set(study.strategies)
    with pytest.raises(InputError, match="heads is reset there and keep now"):
        alunet.simulate(phantom, tmp_path, chosen, rounds=1, budget=5, initial=5)


@pytest.mark.parametrize("jobs", [1, 3])
def test_strategies_of_a_fold_and_seed_share_round_0(phantom, tmp_path, pretended, jobs):
    out = tmp_path / "out"
    names = ["random", "usimf"]
    result = alunet.simulate(
        phantom, out, names, rounds=2, budget=10, initial=10, seeds=[0, 1], jobs=jobs
    )
    wanted = [
        (seed, name, number)
        for seed in (0, 1)
        for name, number in [("initial", 0), *((s, k) for s in names for k in (1, 2))]
    ]
    assert sorted(pretended.played) == sorted(wanted)
    if jobs == 1:
        assert pretended.played == wanted
    assert len(result.curves) == 2 * 2 * 3 * 3
    assert result.curves_csv.is_file()
    assert all(picture.is_file() for picture in result.pictures)
    assert pd.read_csv(result.curves_csv).shape == result.curves.shape


def test_each_fold_tests_on_its_own_cases_and_never_labels_them(phantom, tmp_path, pretended):
    from alunet.project import Project

    out = tmp_path / "out"
    alunet.simulate(phantom, out, ["random"], rounds=1, budget=5, initial=5, folds=[0, 3])
    for fold in (0, 3):
        with Project.open(out / "runs" / f"fold{fold}_seed0" / "random") as project:
            everyone = [case.name for case in project.cases.all()]
            assert [case.name for case in project.cases.all("test")] == config.splits(
                everyone, [fold]
            )[fold]
            assert len(project.cases.all("pool")) + len(project.cases.all("test")) == 6


def test_a_test_set_leaves_the_whole_data_set_in_the_pool(
    phantom, other_phantom, tmp_path, pretended
):
    from alunet.project import Project

    out = tmp_path / "out"
    alunet.simulate(phantom, out, ["random"], rounds=1, budget=5, initial=5, test=other_phantom)
    with Project.open(out / "runs" / "fold0_seed0" / "random") as project:
        assert len(project.cases.all("pool")) == 6
        assert [case.name[:5] for case in project.cases.all("test")] == ["other", "other"]


def test_the_same_call_plays_nothing_again_and_more_is_added(phantom, tmp_path, pretended):
    arguments = {"rounds": 1, "budget": 10, "initial": 10}
    alunet.simulate(phantom, tmp_path, ["random"], **arguments)
    pretended.played.clear()
    alunet.simulate(phantom, tmp_path, ["random"], **arguments)
    assert pretended.played == []
    result = alunet.simulate(phantom, tmp_path, ["usimf:eta=10"], **{**arguments, "rounds": 2})
    assert pretended.played == [(0, "usimf:eta=10", 1), (0, "usimf:eta=10", 2)]
    assert set(result.curves["strategy"]) == {"random", "usimf:eta=10"}, (
        "earlier runs stay in the tables"
    )


def test_a_failed_run_does_not_stop_the_others(phantom, tmp_path, pretended, monkeypatch):
    monkeypatch.setattr(pretended, "broken", ("entropy",))
    arguments = {"rounds": 1, "budget": 10, "initial": 10}
    with pytest.raises(EngineError, match=r"fold 0, seed 0, entropy\): No memory left") as caught:
        alunet.simulate(phantom, tmp_path, ["entropy", "random"], **arguments)
    assert "the same command goes on" in caught.value.hint
    assert (0, "random", 1) in pretended.played
    monkeypatch.setattr(pretended, "broken", ())
    result = alunet.simulate(phantom, tmp_path, ["entropy", "random"], **arguments)
    assert set(result.summary["round"]) == {1}


def test_more_labels_than_the_pool_has_are_refused(phantom, tmp_path, pretended):
    with pytest.raises(
        InputError, match=r"10 initial samples and 9 rounds of 10 are 100, but the pool .* has 80"
    ):
        alunet.simulate(phantom, tmp_path, ["random"], rounds=9, budget=10, initial=10, limit=5)
    assert pretended.played == []
    alunet.simulate(phantom, tmp_path, ["random"], rounds=7, budget=10, initial=10, limit=5)
    assert len(pretended.played) == 8


def test_ctrl_c_ends_a_study_with_what_is_finished(phantom, tmp_path, pretended, monkeypatch):
    def interrupt(self, strategy, budget):
        raise KeyboardInterrupt

    monkeypatch.setattr(grid, "play_round", interrupt)
    with pytest.raises(Cancelled, match="the same command goes on from here"):
        alunet.simulate(phantom, tmp_path, ["random"], rounds=1, budget=10, initial=10)
    assert len(pd.read_csv(tmp_path / "curves.csv")) == 3


def test_a_study_is_played_by_one_process_at_a_time(phantom, tmp_path, pretended):
    alunet.simulate(phantom, tmp_path, ["random"], rounds=1, budget=10, initial=10)
    from alunet.storage.files import FolderLock

    lock = FolderLock(tmp_path)
    try:
        with pytest.raises(InputError, match="another process"):
            alunet.simulate(phantom, tmp_path, ["random"], rounds=1, budget=10, initial=10)
    finally:
        lock.release()


# --- what a person sees ---------------------------------------------------------------------------

USIMF = {"fold": 0, "seed": 1, "strategy": "usimf"}


def tell(listener, kind, at, **data):
    listener(Event(kind, data, at))


def test_the_board_tells_phase_and_time_left():
    board = Board()
    tell(board.take, "progress", 0, phase="check", done=3, total=6, unit="cases")
    assert "check 3/6 cases" in shown(render(board, 0, 20))
    tell(board.take, "progress", 0, phase="study", done=0, total=4, unit="rounds", jobs=1)
    assert board.seconds_left(0) is None
    tell(board.take, "step", 0, name="round", state="started", number=2, **USIMF)
    tell(
        board.take, "epoch", 30, epoch=3, epochs=8, loss=0.414, dice=None, seconds_left=70, **USIMF
    )
    text = shown(render(board, 30, 20))
    assert "round 2 · training epoch 3/8 · loss 0.41" in text
    assert board.seconds_left(30) == pytest.approx(4 * 100 - 30)
    tell(board.take, "step", 80, name="round", state="finished", number=2, dice=0.8, **USIMF)
    assert board.seconds_left(80) == pytest.approx(3 * 80)
    assert "0.800" in shown(render(board, 80, 20))


def test_rounds_found_finished_say_nothing_about_speed():
    board = Board()
    tell(board.take, "progress", 0, phase="study", done=0, total=4, unit="rounds", jobs=1)
    tell(board.take, "step", 0, name="round", state="reused", number=0, dice=0.5, **USIMF)
    assert board.done == 1
    assert board.seconds_left(1) is None


def test_many_runs_fit_the_screen_and_those_that_run_are_shown():
    board = Board(total=100)
    for seed in range(50):
        state = "started" if seed == 40 else "reused"
        tell(
            board.take,
            "step",
            0,
            name="round",
            state=state,
            number=0,
            fold=0,
            seed=seed,
            strategy="random",
        )
    text = shown(render(board, 0, 10))
    assert "and 40 more runs" in text
    assert " 40 " in text


def test_plain_lines_come_once_for_a_finished_step():
    stream = io.StringIO()
    listener = PlainDisplay(Console(file=stream, width=60))
    for epoch in range(50):
        tell(
            listener,
            "epoch",
            0,
            epoch=epoch,
            epochs=50,
            loss=0.4,
            dice=None,
            seconds_left=1,
            **USIMF,
        )
    tell(listener, "step", 0, name="train", state="started", **USIMF)
    assert stream.getvalue() == ""
    tell(listener, "step", 0, name="train", state="finished", seconds=83, peak_memory_mb=1, **USIMF)
    tell(listener, "step", 0, name="round", state="finished", number=2, dice=0.8123, **USIMF)
    lines = [line[9:] for line in stream.getvalue().splitlines()]
    assert lines == [
        "fold 0, seed 1, usimf: train finished in 83 s",
        "fold 0, seed 1, usimf: round 2 finished, Dice 0.812",
    ]


def test_the_live_display_takes_events_from_threads_and_ends_tidily():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=12)
    with LiveDisplay(console) as listener:
        tell(listener, "progress", 0, phase="study", done=0, total=4, unit="rounds", jobs=1)
        tell(listener, "step", 0, name="round", state="started", number=0, **USIMF)
        tell(listener, "message", 0, text="curves.csv is open")
    assert "curves.csv is open" in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (754, "13 min"), (11100, "3 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def shown(renderable):
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


# --- the real thing -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process")
def test_a_killed_study_goes_on_with_the_same_command(phantom, tmp_path):
    """Ctrl-C in the middle of the first training, then the same command: one line each, nothing
    is lost.
    """
    out = tmp_path / "öut folder"
    options = [f"--{name}={value}" for name, value in QUICK.items()]
    words = ["simulate", str(phantom), "--strategy=random", *options, "--out", str(out)]
    command = [sys.executable, "-m", "alunet", *words]
    process = subprocess.Popen(
        command,
        cwd=ENGINE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # ignored where tests run in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if "train finished" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert "Traceback" not in rest
    assert (
        "alunet: Stopped. Everything finished is kept: the same command goes on from here." in rest
    )
    done = subprocess.run(command, cwd=ENGINE, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "random" in done.stdout
    curves = pd.read_csv(out / "curves.csv")
    assert list(curves["round"].unique()) == [0, 1]
    assert list(curves["labelled_samples"].unique()) == [10, 20]
    assert curves["dice"].between(0, 1).all()
