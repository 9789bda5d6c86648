"""What the paper and its public code do differently, option by option (docs/method.md, 2 and 4;
docs/fidelity.md).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from test_strategies import ArrayOutputs, problem, same

from alunet.errors import InputError
from alunet.loop import Recipe, preset
from alunet.model.settings import TrainingSettings
from alunet.query import as_published, canonical, infos, parse
from alunet.query.elbow import query_size
from alunet.query.flqmi import maximise
from alunet.query.weights import class_weights, per_case_class_weights, usual_smoothing

DOCS = Path(__file__).parents[3] / "docs" / "fidelity.md"


def rows_of(query, batch) -> np.ndarray:
    return np.searchsorted(query.ids, batch.ids)


class TestPublished:
    """One word, and one switch, for all that the public code did."""

    @pytest.mark.parametrize("info", infos(), ids=lambda info: info.name)
    def test_the_values_are_possible_and_none_is_the_default(self, info) -> None:
        settings, default = parse(f"{info.name}:published").settings, parse(info.name).settings
        assert {name: settings[name] for name in info.published} == dict(info.published)
        assert set(info.published) == {name for name in settings if settings[name] != default[name]}
        for name, value in info.published.items():  # the same values, read from text
            assert parse(f"{info.name}:{name}={value}").settings[name] == value

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("usimf", "usimf:published"),
            ("usimf:published", "usimf:published"),
            ("usimf:eta=10", "usimf:published,eta=10"),
            ("usimf:elbow=chord", "usimf:published,elbow=chord"),
            ("random", "random"),
            ("core-set", "core-set"),
            ("bald", "bald:published"),
        ],
    )
    def test_given_options_stay(self, text, expected) -> None:
        assert as_published(text) == expected
        assert canonical(expected) == expected

    def test_the_shortest_name_is_taken(self) -> None:
        spelled = "mean-std:measure=var,dropout=0.1,passes=10"
        assert canonical(spelled) == "mean-std:published"
        assert canonical("mean-std:published,measure=std,dropout=0,passes=0") == "mean-std"
        assert canonical("random:published") == "random"

    def test_the_published_code_of_usimf(self) -> None:
        settings = parse("usimf:published").settings
        assert (
            settings
            | {
                "fisher": "first-sample",
                "damping": 0.0,
                "prefilter": 30_000,
                "heads": "all-equal",
                "weights": "per-case",
                "elbow": "kneedle",
                "optimizer": "published",
                "dropout": 0.1,
                "passes": 10,
                "measure": "var",
                "eta": 1.0,
                "coordinates": 10_000,
            }
            == settings
        )
        assert parse("usimc:published").settings["embedding"] == "first-10k"
        assert parse("usimc:published").settings["prefilter"] == 0

    def test_every_option_is_in_the_table(self) -> None:
        text = DOCS.read_text(encoding="utf-8")
        for info in infos():
            for name in info.published:
                assert f"`{name}" in text, f"docs/fidelity.md says nothing of {info.name}:{name}"
        for name in ("heads", "checkpoint", "cases"):
            assert name in {field.name for field in fields(TrainingSettings)}
            assert f"`{name}" in text


class TestPasses:
    @pytest.mark.parametrize(
        "name", ["bald", "mean-std", "stochastic-batches:measure=variance", "usimc", "usimf"]
    )
    def test_rate_and_number_are_the_recipes_unless_given(self, name) -> None:
        colon = "," if ":" in name else ":"
        for text, wanted in (
            (name, (None, None)),
            (f"{name}{colon}dropout=0.2,passes=7", (0.2, 7)),
        ):
            query = problem()
            parse(text).select(query)
            assert set(query.outputs.passes) == {wanted}

    @pytest.mark.parametrize(
        "option", ["dropout=1", "dropout=-0.1", "dropout=nan", "passes=1", "passes=-2"]
    )
    def test_impossible_passes(self, option) -> None:
        with pytest.raises(InputError, match=option.partition("=")[0]):
            parse(f"bald:{option}")

    def test_bald_kept_the_rate_of_the_training(self) -> None:
        """C6."""
        assert parse("bald:published").settings == {"dropout": 0.01, "passes": 10}
        assert parse("mean-std:published").settings["dropout"] == 0.1


class TestStochasticBatches:
    def test_a_short_rest_competes_and_rarely_wins(self) -> None:
        """C8: 1050 samples in batches of 100 are 10, or 11."""
        for groups, count, leftover in (("floor", 10, 50), ("ceil", 11, 0)):
            batch = parse(f"stochastic-batches:groups={groups}").select(problem(1050, 100))
            assert (batch.diagnostics["groups"], batch.diagnostics["leftover"]) == (count, leftover)

    def test_a_rest_that_wins_is_filled_up(self) -> None:
        query = problem(11, 4)
        rest = query.streams["stb-groups"].permutation(11)[8:]
        query.outputs.entropies[:] = 0.1
        query.outputs.entropies[rest] = 9.0
        batch = parse("stochastic-batches:groups=ceil").select(query)
        assert rows_of(query, batch)[:3].tolist() == rest.tolist()
        assert len(set(batch.ids.tolist())) == 4


class TestClassWeights:
    VOXELS, SIZES = np.array([[7, 900, 100], [7, 50, 150]]), np.array([10**6, 10**5])

    def test_the_example_of_the_specification(self) -> None:
        """2.3: the paper's rule and that of its code, on two cases of different size."""
        np.testing.assert_allclose(
            class_weights(self.VOXELS.sum(0), 0)[1:], [0.208, 0.792], atol=5e-4
        )
        np.testing.assert_allclose(
            per_case_class_weights(self.VOXELS, self.SIZES)[1:], [0.533, 0.467], atol=5e-4
        )

    def test_equal_cases_make_them_equal(self) -> None:
        same_size = per_case_class_weights(self.VOXELS, np.array([500, 500]))
        np.testing.assert_allclose(same_size, class_weights(self.VOXELS.sum(0), 0))

    def test_an_absent_class_gets_the_largest_weight_where_the_published_code_stops(self) -> None:
        """C9."""
        weights = per_case_class_weights(self.VOXELS * [1, 1, 0], self.SIZES)
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1)
        assert weights[2] > 0.99
        nothing = per_case_class_weights(np.zeros((0, 3)), np.zeros(0))
        np.testing.assert_allclose(nothing, [0, 0.5, 0.5])

    def test_without_smoothing_the_papers_weights_are_left(self) -> None:
        counts = np.array([10**6, 90_000, 10_000, 0])
        np.testing.assert_allclose(
            class_weights(counts[:3], usual_smoothing(counts[:3], 0))[1:], [0.1, 0.9], atol=1e-4
        )
        assert usual_smoothing(counts[:3]) == 500
        assert np.isfinite(class_weights(counts, usual_smoothing(counts, 0))).all()

    def test_strategies_take_the_weights_they_are_told(self) -> None:
        query = problem(
            60, 5, case_voxels=self.VOXELS, case_sizes=self.SIZES, class_voxels=self.VOXELS.sum(0)
        )
        found = {
            options: parse(f"usimf:{options}").select(query).diagnostics["class_weights"]
            for options in ("weights=voxels", "weights=per-case", "smoothing=0")
        }
        assert found["weights=per-case"] == pytest.approx([0, 0.533, 0.467], abs=5e-4)
        assert found["weights=voxels"] == pytest.approx(class_weights(self.VOXELS.sum(0)).tolist())
        assert found["smoothing=0"] == pytest.approx(class_weights(self.VOXELS.sum(0), 1).tolist())


class TestQuerySet:
    def test_the_variance_or_its_root(self) -> None:
        query = problem(300, 10)
        weights = class_weights(query.class_voxels)
        for measure, scores in (("var", query.outputs.var), ("std", np.sqrt(query.outputs.var))):
            found = parse(f"usimf:measure={measure},elbow=chord").select(query).diagnostics
            assert (found["query_size"], found["elbow"]) == query_size(scores @ weights, 10)

    def test_its_size_may_be_given(self) -> None:
        """A7; never more than there are candidates."""
        assert parse("usimf:query_size=33").select(problem(300, 10)).diagnostics["query_size"] == 33
        assert (
            parse("usimf:query_size=5000,draw=uniform")
            .select(problem(300, 10))
            .diagnostics["query_size"]
            == 300
        )

    def test_three_ways_to_draw_it(self) -> None:
        """A4: only the draws in proportion to the uncertainty repeat samples."""
        query = problem(300, 10)
        ways = ("proportional", "uniform", "max")
        found = {way: parse(f"usimf:draw={way}").select(query).diagnostics for way in ways}
        assert {notes["query_size"] for notes in found.values()} == {found["max"]["query_size"]}
        assert found["proportional"]["query_duplicates"] > 0
        assert found["uniform"]["query_duplicates"] == found["max"]["query_duplicates"] == 0

    def test_the_most_uncertain_are_the_query_set(self) -> None:
        query = problem(300, 10)
        uncertainty = query.outputs.var @ class_weights(query.class_voxels)
        most = np.argsort(-uncertainty)[:20]
        # then only members of the set count
        batch = parse("usimc:draw=max,query_size=20,eta=1000").select(query)
        assert set(rows_of(query, batch).tolist()) <= set(most.tolist())

    def test_a_uniform_query_set_is_uniform(self) -> None:
        outputs = ArrayOutputs(20)
        outputs.var[:10] *= 1e-9
        counts: Counter[int] = Counter()
        for seed in range(200):
            query = problem(20, 2, seed, outputs=outputs)
            batch = parse("usimf:draw=uniform,query_size=4,eta=1000").select(query)
            counts.update((rows_of(query, batch) < 10).tolist())
        assert 0.35 < counts[True] / 400 < 0.65


class TestPrefilter:
    def test_only_the_most_uncertain_are_candidates(self) -> None:
        """C10: the mean over all classes, background included."""
        query = problem(300, 10)
        kept = np.sort(np.argsort(-query.outputs.var.mean(axis=1))[:40])
        batch = parse("usimf:prefilter=40").select(query)
        assert batch.diagnostics["prefilter_ids"] == query.ids[kept].tolist()
        assert batch.diagnostics["prefilter_size"] == 40
        assert set(rows_of(query, batch).tolist()) <= set(kept.tolist())
        assert query.outputs.asked["decoder_gradients"] == 40
        assert batch.diagnostics["query_size"] <= 40

    @pytest.mark.parametrize("name", ["usimc", "usimf"])
    def test_it_is_the_same_question_about_fewer_candidates(self, name) -> None:
        query = problem(120, 8)
        kept = np.sort(np.argsort(-query.outputs.var.mean(axis=1))[:50])
        outputs = ArrayOutputs(120)
        for array in ("var", "entropies", "delta", "inputs", "gradients"):
            setattr(outputs, array, getattr(outputs, array)[kept])
        fewer = replace(
            query, ids=query.ids[kept], case=query.case[kept], outputs=outputs, truth=None
        )
        assert same(parse(f"{name}:prefilter=50").select(query), parse(name).select(fewer))

    @pytest.mark.parametrize("size", [300, 30_000])
    def test_a_pool_that_is_smaller_stays_whole(self, size) -> None:
        batch = parse(f"usimf:prefilter={size}").select(problem(300, 10))
        assert same(batch, parse("usimf").select(problem(300, 10)))
        assert batch.diagnostics["prefilter_size"] == 300
        assert "prefilter_ids" not in batch.diagnostics

    def test_the_budget_is_kept(self) -> None:
        assert len(parse("usimc:prefilter=3").select(problem(60, 7)).ids) == 7
        with pytest.raises(InputError, match="prefilter is -1"):
            parse("usimc:prefilter=-1")


class TestFisher:
    def asked(self, text: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Rows that the Fisher diagonal was asked of, and the query set's uncertainties."""
        query, seen = problem(300, 10, seed), []
        original = query.outputs.fisher
        query.outputs.fisher = lambda rows, heads: (seen.append(rows), original(rows, heads))[1]
        parse(text).select(query)
        return seen[0], query.outputs.var @ class_weights(query.class_voxels)

    def test_the_first_sample_alone_is_drawn_by_its_uncertainty(self) -> None:
        """C1: one sample's squared gradient, of those that the mean is taken over."""
        means, uncertainty = [], None
        for seed in range(60):
            alone, uncertainty = self.asked("usimf:fisher=first-sample", seed)
            whole, _ = self.asked("usimf", seed)
            assert len(alone) == 1 and len(whole) == 200
            assert alone[0] in whole
            means.append(uncertainty[alone[0]])
        # mean of u under draws in proportion to u
        expected = (uncertainty**2).sum() / uncertainty.sum()
        assert np.mean(means) == pytest.approx(expected, rel=0.4)
        assert np.mean(means) > 1.5 * uncertainty.mean()

    def test_a_subset_of_the_query_set_as_in_the_paper(self) -> None:
        """C31."""
        rows, uncertainty = self.asked(
            "usimf:fisher_set=query-set,draw=max,query_size=80,fisher_samples=30"
        )
        assert len(rows) == 30
        assert set(rows.tolist()) <= set(np.argsort(-uncertainty)[:80].tolist())

    def test_damping_and_its_absence_choose_otherwise(self) -> None:
        gains = [
            parse(f"usimf:damping={value}").select(problem(300, 10)).gains
            for value in (0, 1e-3, 1.0)
        ]
        assert gains[0][0] > gains[1][0] > gains[2][0]


@pytest.mark.parametrize("name", ["usimc", "usimc:embedding=first-10k", "usimf"])
@pytest.mark.parametrize("heads", ["training", "full-res", "all-equal"])
def test_the_heads_are_the_strategys_choice(name, heads) -> None:
    """C2."""
    query = problem()
    parse(f"{name}{',' if ':' in name else ':'}heads={heads}").select(query)
    assert query.outputs.heads == {heads}


@pytest.mark.parametrize(("candidates", "other"), [(999, "lazy"), (1000, "stochastic")])
def test_the_published_optimizer_is_exact_for_small_pools_alone(candidates, other) -> None:
    similarity = np.random.default_rng(0).random((candidates, 30)).astype(np.float32)
    found, wanted = (
        maximise(similarity, 20, optimizer=name, rng=np.random.default_rng(1))
        for name in ("published", other)
    )
    assert found.rows.tolist() == wanted.rows.tolist()


class TestSpread:
    """Nothing is known of the pool: every case has its share, and every part of a case."""

    def test_evenly_over_cases_and_along_them(self) -> None:
        case = np.repeat(np.arange(6), 30)
        query = problem(180, 24, case=case, truth=None)
        rows = np.sort(rows_of(query, parse("spread").select(query)))
        assert np.bincount(case[rows]).tolist() == [4] * 6
        for number in range(6):
            assert set(np.diff(rows[case[rows] == number] - 30 * number)) <= {7, 8}

    def test_small_cases_pass_their_turn_on(self) -> None:
        case = np.repeat(np.arange(3), [2, 50, 50])
        query = problem(102, 21, case=case, truth=None)
        counts = np.bincount(case[rows_of(query, parse("spread").select(query))])
        assert counts[0] == 2
        assert sorted(counts[1:].tolist()) == [9, 10]

    def test_fewer_than_there_are_cases(self) -> None:
        case = np.repeat(np.arange(20), 5)
        chosen = [
            case[rows_of(query, parse("spread").select(query))].tolist()
            for query in (problem(100, 4, seed, case=case, truth=None) for seed in range(30))
        ]
        assert all(len(set(cases)) == 4 for cases in chosen)
        assert len({number for cases in chosen for number in cases}) == 20

    def test_every_sample_of_a_case_can_come(self) -> None:
        queries = [problem(10, 2, seed, case=np.zeros(10, int), truth=None) for seed in range(200)]
        found = {
            row
            for query in queries
            for row in rows_of(query, parse("spread").select(query)).tolist()
        }
        assert found == set(range(10))


class TestRecipe:
    def test_as_published_changes_the_habits_not_the_length(self) -> None:
        """C12, C13, C16."""
        ours = preset("cpu")
        theirs = ours.as_published()
        for training in (theirs.first, theirs.later):
            assert (training.heads, training.checkpoint, training.cases) == (
                "reset",
                "best",
                "uniform",
            )
            assert training.check_iterations == training.iterations // 5
        habits = {"heads": "keep", "checkpoint": "final", "cases": "slices", "check_iterations": 1}
        assert replace(theirs.later, **habits, average=ours.later.average) == ours.later
        assert theirs.scoring == ours.scoring

    def test_what_was_written_is_read(self) -> None:
        for recipe in (preset("paper"), preset("cpu").as_published()):
            assert Recipe.from_json(recipe.to_json()) == recipe

    @pytest.mark.parametrize(
        ("name", "value"), [("heads", "new"), ("checkpoint", "last"), ("cases", "all")]
    )
    def test_unknown_habits_are_refused(self, name, value) -> None:
        with pytest.raises(InputError, match=f"{name} of a training is '{value}'"):
            TrainingSettings(**{name: value})
