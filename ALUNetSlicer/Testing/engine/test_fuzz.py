"""Spoiled files of all forms: each is taken, or refused in one line with nothing changed."""

from __future__ import annotations

from pathlib import Path

import fuzzing
import pytest
from fuzz_corpus import ENTRIES, Entry, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("fuzz") / "corpus")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_untouched_corpus_is_taken(corpus, tmp_path, monkeypatch, entry):
    monkeypatch.setattr(fuzzing, "spoil", lambda *untouched: "")
    seed = ENTRIES.index(entry)
    assert fuzzing.try_one(corpus, tmp_path / "work", seed).kind == "taken"


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(48), id="short"),
        pytest.param(range(48, 500), id="long", marks=pytest.mark.slow),
    ],
)
def test_a_mutant_is_taken_or_refused(corpus, tmp_path, seeds):
    outcomes = list(fuzzing.run_many(corpus, tmp_path / "work", seeds))
    assert [outcome.seed for outcome in outcomes] == list(seeds)
    assert [outcome for outcome in outcomes if not outcome.fine] == []
    assert {outcome.kind for outcome in outcomes} == {"taken", "refused"}


@pytest.mark.parametrize("given", ["image.mha", "labels.mha"])
def test_a_file_without_a_voxel_is_refused(corpus, tmp_path, monkeypatch, given):
    def empty(folder: Path, entry: Entry, rng: object) -> str:
        file = folder / entry.given
        file.write_bytes(file.read_bytes().replace(b"DimSize = 7 5 3", b"DimSize = 7 0 3"))
        return file.name

    monkeypatch.setattr(fuzzing, "spoil", empty)
    seed = [entry.name for entry in ENTRIES].index(given)
    outcome = fuzzing.try_one(corpus, tmp_path / "work", seed)
    assert outcome.kind == "refused"
    assert "holds no voxels (7 x 0 x 3)" in outcome.words


def test_a_child_that_crashes_is_reported_and_the_others_go_on(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "__file__", str(tmp_path / "child.py"))
    (tmp_path / "child.py").write_text(
        f"import os, sys; sys.path.insert(0, {str(fuzzing.HERE)!r})\n"
        "import fuzzing\n"
        "whole = fuzzing.try_one\n"
        "def fatal(corpus, work, seed):\n"
        "    return os.abort() if seed == 1 else whole(corpus, work, seed)\n"
        "fuzzing.try_one = fatal\n"
        "fuzzing.main(sys.argv[1:])\n",
        encoding="utf-8",
    )
    outcomes = list(fuzzing.run_many(corpus, tmp_path / "work", range(3)))
    assert [outcome.kind == "crash" for outcome in outcomes] == [False, True, False]


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (2, "alunet: c.nii is cut off. Copy it again.\n", "refused"),
        (2, "12:00:01 a note\nalunet: c.nii is cut off. Copy it again.\n", "refused"),
        (2, "alunet: c.nii is cut off:\nmore of it\n", "defect"),
        (2, "", "defect"),
        (1, "alunet: unexpected error, a defect of alunet (KeyError).\n", "defect"),
    ],
)
def test_only_one_line_counts_as_refused(corpus, code, text, kind):
    project = corpus / "project"
    before = fuzzing.project_content(project)
    assert fuzzing.judge(code, text, project, before)[0] == kind
    if kind == "refused":
        assert fuzzing.judge(code, text, project, before | {"images/x": b""})[0] == "changed"
