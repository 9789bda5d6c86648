"""No patient on both sides: who says which cases are of one patient, how a study splits them,
and what it records.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alunet
from alunet import cli
from alunet.errors import InputError
from alunet.imaging.dataset import read_dataset_description
from alunet.imaging.patients import (
    PatientsUnclear,
    by_patient,
    group_cases,
    guess_patients,
    same_patients,
)
from alunet.loop import preset
from alunet.project import Project
from alunet.simulation import config
from alunet.simulation.phantom import make_phantom
from alunet.simulation.split import Split

FOLDS = range(5)
QUICK = {"rounds": 1, "budget": 2, "initial": 4, "epochs": 1, "iterations": 2}
SHORT = [
    "--strategy",
    "random",
    "--rounds",
    "1",
    "--initial",
    "4",
    "--budget",
    "2",
    "--iterations",
    "2",
]


@pytest.fixture(scope="session")
def acdc(real_data: Path) -> Path:
    """Heart MR: two frames of each of 20 patients, named patient001_frame01 and so on."""
    return real_data / "ACDC_cardiac_MR"


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made set of 5 patients with two cases each: heart01_ED, heart01_ES, ..."""
    folder = make_phantom(tmp_path_factory.mktemp("frames") / "set", cases=10)
    new = [f"heart{patient:02d}_{phase}" for patient in range(1, 6) for phase in ("ED", "ES")]
    rename(
        folder, dict(zip([f"phantom_{number:03d}" for number in range(1, 11)], new, strict=True))
    )
    return folder


def rename(folder: Path, names: dict[str, str]) -> None:
    text = (folder / "dataset.json").read_text(encoding="utf-8")
    for old, new in names.items():
        for part in ("imagesTr", "labelsTr"):
            (folder / part / f"{old}.nii.gz").rename(folder / part / f"{new}.nii.gz")
        text = text.replace(f"{old}.nii.gz", f"{new}.nii.gz")
    (folder / "dataset.json").write_text(text, encoding="utf-8")


def saying(folder: Path, target: Path, groups: object) -> Path:
    """A copy of a data set whose dataset.json says how cases group."""
    shutil.copytree(folder, target)
    file = target / "dataset.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), "groups": groups}),
        encoding="utf-8",
    )
    return target


def names_of(folder: Path) -> list[str]:
    return [name for name, _, _ in read_dataset_description(folder).cases]


def command(monkeypatch, capfd, *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["alunet", *map(str, words)])
    capfd.readouterr()
    code = cli.main()
    return code, capfd.readouterr().err


# --- folds ----------------------------------------------------------------------------------------


def test_split_by_case_six_of_seven_test_patients_of_acdc_are_in_the_pool_too(acdc: Path) -> None:
    """What this file is about: the split that nnU-Net makes of the case names."""
    names = names_of(acdc)
    tests = config.splits(names, [0])[0]
    pool = {name.split("_")[0] for name in names if name not in tests}
    tested = {name.split("_")[0] for name in tests}
    assert (len(tested), len(tested & pool)) == (7, 6)


def test_no_patient_of_acdc_is_on_both_sides_of_any_fold(acdc: Path) -> None:
    split = Split.of(read_dataset_description(acdc), None, r"(patient\d+)")
    tests = split.tests(FOLDS)
    for fold in FOLDS:
        pool = {name.split("_")[0] for name in split.pool if name not in tests[fold]}
        tested = {name.split("_")[0] for name in tests[fold]}
        assert (len(tested), len(pool), len(tested & pool)) == (4, 16, 0)
        assert len(tests[fold]) == 8
    assert sorted(name for fold in FOLDS for name in tests[fold]) == names_of(acdc), (
        "each case is tested on once"
    )


def test_patients_are_split_as_nnunet_splits_names(acdc: Path) -> None:
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    split = Split.of(read_dataset_description(acdc), None, r"(patient\d+)")
    theirs = generate_crossval_split(list(by_patient(split.patients)), seed=12345, n_splits=5)
    ours = split.tests(FOLDS)
    assert [sorted({name.split("_")[0] for name in ours[fold]}) for fold in FOLDS] == [
        [str(patient) for patient in fold["val"]] for fold in theirs
    ]


@pytest.mark.parametrize("group", [None, "none", r"(hippocampus_\d+)", r"\d+"])
def test_folds_of_one_case_a_patient_are_exactly_those_of_nnunet(
    real_data: Path, group: str | None
) -> None:
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    hippocampus = read_dataset_description(real_data / "Task04_Hippocampus")
    names = [name for name, _, _ in hippocampus.cases]
    theirs = generate_crossval_split(names, seed=12345, n_splits=5)
    split = Split.of(hippocampus, None, group)
    assert str(split) == "by case"
    ours = split.tests(FOLDS)
    assert [ours[fold] for fold in FOLDS] == [
        [str(name) for name in fold["val"]] for fold in theirs
    ]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abc01_", min_size=1, max_size=6), st.sampled_from("PQRSTUVW"), min_size=5
    )
)
def test_whatever_the_groups_no_patient_is_on_both_sides(patients: dict[str, str]) -> None:
    if len(set(patients.values())) < 5:
        with pytest.raises(
            InputError,
            match=r"cases of \d patients? are too few for 5 folds. Use 5 or more patients",
        ):
            config.splits(list(patients), FOLDS, patients)
        return
    tests = config.splits(list(patients), FOLDS, patients)
    for fold in FOLDS:
        pool = {patients[name] for name in patients if name not in tests[fold]}
        assert pool
        assert tests[fold]
        assert not pool & {patients[name] for name in tests[fold]}
    assert sorted(name for cases in tests.values() for name in cases) == sorted(patients)


# --- who says it ----------------------------------------------------------------------------------

NAMES = ["a_ED", "a_ES", "b_ED", "b_ES"]
TABLE = {"a": ["a_ED", "a_ES"], "b": ["b_ED", "b_ES"]}
PATIENTS = {"a_ED": "a", "a_ES": "a", "b_ED": "b", "b_ES": "b"}


@pytest.mark.parametrize("said", [TABLE, r"^(\w)_", "^[ab]", "^.", r"^(\w)_(E.)"])
def test_a_table_or_what_a_pattern_finds_is_the_patient(said: object) -> None:
    assert group_cases(NAMES, said, "--group") == PATIENTS


@pytest.mark.parametrize("said", ["none", "None", " NONE "])
def test_none_says_that_each_case_is_another_patient(said: str) -> None:
    assert group_cases(NAMES, said, "--group") == {name: name for name in NAMES}


def test_a_patient_is_the_same_in_capitals() -> None:
    assert group_cases(["P01_x", "p01_y"], r"^([Pp]\d+)", "--group") == {
        "P01_x": "P01",
        "p01_y": "P01",
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "(a",
            "--group '(a' is no regular expression (missing ), unterminated subpattern at "
            "position 0). Correct it.",
        ),
        ("[[a", "--group '[[a' is no regular expression"),
        (r"a\q", r"--group 'a\q' is no regular expression (bad escape \q at position 1)"),
        ("x\ny", r"--group 'x\ny' finds no patient in the case name 'a_ED'"),
        (
            "",
            "--group '' finds no patient in the case name 'a_ED'. It must find the patient in "
            "every case name",
        ),
        ("^(a)", "--group '^(a)' finds no patient in the case name 'b_ED'."),
        ("^(a)|b", "--group '^(a)|b' finds no patient in the case name 'b_ED'."),
        (
            {**TABLE, "c": ["c_ED"]},
            "--group names the case 'c_ED', which is not there. Name all cases",
        ),
        (
            {"a": TABLE["a"]},
            "--group does not name the case 'b_ED'. Name all cases of the data set",
        ),
        ({**TABLE, "c": ["a_ED"]}, "--group names the case 'a_ED' twice. Name each case once."),
        ({"a": "a_ED"}, "--group: 'a' has the cases 'a_ED'. Give a table"),
        ({"a": [1]}, "--group: 'a' has the case 1. Give a table"),
        ({" ": NAMES}, "--group: ' ' has the cases ['a_ED', "),
        ([NAMES], "--group cannot be [['a_ED', "),
        (5, "--group cannot be 5. Give a table"),
    ],
)
def test_a_grouping_that_does_not_fit_is_refused_in_one_line(said: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        group_cases(NAMES, said, "--group")
    assert words in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


HEARTS = {f"heart{n:02d}": [f"heart{n:02d}_ED", f"heart{n:02d}_ES"] for n in range(1, 6)}


@pytest.mark.parametrize("groups", [r"(heart\d+)", HEARTS])
def test_a_data_set_may_say_it(frames: Path, tmp_path: Path, groups: object) -> None:
    split = Split.of(read_dataset_description(saying(frames, tmp_path / "set", groups)), None, None)
    assert [len(cases) for cases in by_patient(split.patients).values()] == [2] * 5
    assert str(split).startswith("by patient (5 patients, 10 cases, ")


def test_the_person_has_the_last_word(frames: Path, tmp_path: Path) -> None:
    said = read_dataset_description(saying(frames, tmp_path / "set", r"(heart\d+)"))
    assert Split.of(said, None, "none").is_by_case
    silent = read_dataset_description(saying(frames, tmp_path / "other", "none"))
    assert Split.of(silent, None, None).is_by_case, "a data set may say, too, that names mislead"
    assert not Split.of(silent, None, r"(heart\d+)").is_by_case


# --- what names suggest ---------------------------------------------------------------------------


def test_of_the_real_sets_acdc_alone_looks_like_several_cases_of_a_patient(
    real_data: Path, acdc: Path
) -> None:
    guess = guess_patients(names_of(acdc))
    assert guess is not None
    assert (guess.pattern, guess.counts) == (r"(patient\d+)", "40 cases, 20 patients")
    assert guess.groups["patient001"] == ["patient001_frame01", "patient001_frame12"]
    for name in ("Task04_Hippocampus", "Abdomen_CT_8organ", "Task09_Spleen_one", "EM_membrane_2D"):
        assert guess_patients(names_of(real_data / name)) is None, name


def each(form: str, patients: object, *cases: object) -> list[str]:
    return [form.format(patient, case) for patient in patients for case in cases or ("",)]


SEVERAL = {
    "phases": (each("patient{:03d}_{}", range(20), "ED", "ES"), 20, r"(patient\d+)"),
    "frames": (each("p{:02d}_frame{:02d}", range(9), 1, 12), 9, r"(p\d+)"),
    "time points": (each("P{:03d}_{:02d}", range(20), 1, 2), 20, r"(P\d+)"),
    "from zero": (each("liver{}_{}", range(12), 0, 1), 12, r"(liver\d+)"),
    "BIDS": (each("sub-{:02d}_ses-{}_T1w", range(8), 1, 2), 8, r"(sub-\d+)"),
    "sides": (each("hip_{:03d}_{}", range(30), "left", "right"), 30, r"(hip_\d+)"),
    "sides, joined": (each("Image_{:02d}{}", range(14), "L", "R"), 14, r"(Image_\d+)"),
    "letters": (each("case{}-{}", range(14), "a", "b"), 14, r"(case\d+)"),
    "letters, joined": (each("case{}{}", range(14), "a", "b"), 14, r"(case\d+)"),
    "visits, joined": (each("P{:02d}T{}", range(12), 1, 2), 12, r"(P\d+)"),
    "one came back": ([*each("P{:03d}{}", range(20), ""), "P003_2"], 20, r"(P\d+)"),
    "dates": (each("P{:03d}_{}", range(20), 20190312, 20200411), 20, r"(P\d+)"),
    "dates in front": (each("{1}_P{0:03d}", range(20), 20190312, 20200411), 20, r"(P\d+)"),
    "phases in front": (each("{1}_patient{0:03d}", range(20), "ED", "ES"), 20, r"(patient\d+)"),
    "sequences in front": (each("{1}_{0:03d}", range(20), "T1", "T2"), 20, r"(\d+)$"),
    "slices of volumes": (each("volume_{}_slice_{}", range(10), *range(155)), 10, r"(volume_\d+)"),
    "five with many": (each("patient{}_{:03d}", range(5), *range(40)), 5, r"(patient\d+)"),
    "two sites": (each("{}_v{}", each("site{1}_P{0:02d}", range(20), "A", "B"), 1, 2), 40, None),
    "ADNI": (
        [
            f"{s:03d}_S_{n:04d}_{y}0919"
            for s in (2, 5)
            for n in range(s, s + 9)
            for y in (2006, 2007)
        ],
        18,
        None,
    ),
    "BRATS 2015": (
        [
            *each("brats_2013_pat{:04d}_1", range(20)),
            *each("brats_tcia_pat{:03d}_{}", range(99, 130), 1, 2, 3),
        ],
        51,
        None,
    ),
    "first names": (
        each("{} {}", ["Anna", "Bea", "Carl", "Dora", "Emil"], "before", "after"),
        5,
        None,
    ),
    "in capitals": ([*each("P{:02d}_1", range(9)), *each("p{:02d}_2", range(9))], 9, None),
}


@pytest.mark.parametrize("scheme", SEVERAL)
def test_names_that_look_like_several_cases_of_a_patient(scheme: str) -> None:
    names, patients, pattern = SEVERAL[scheme]
    guess = guess_patients(names)
    assert guess is not None
    assert len(guess.groups) == patients
    assert guess.pattern == (pattern or guess.pattern)
    found = group_cases(names, guess.pattern, "--group")
    assert sorted(by_patient(found).values()) == sorted(guess.groups.values()), (
        "the pattern finds what is shown"
    )


RANDOM = np.random.default_rng(0)
DISTINCT = {
    "one number": each("hippocampus_{:03d}", range(1, 300, 2)),
    "one number, joined": each("img{:04d}", range(40)),
    "numbers alone": each("{:02d}", range(1, 30)),
    "BraTS": each("BraTS_{:03d}", range(40)),
    "BraTS 2021": each("BraTS2021_{:05d}", range(0, 1600, 3)),
    "BraTS 2019": [
        *each("BraTS19_2013_{}_1", range(30)),
        *each(
            "BraTS19_CBICA_{}_1",
            ["AAB", "AAG", "AAL", "AAP", "ABB", "ABE", "ABM", "ABN", "ABO", "ABY"],
        ),
        *each("BraTS19_TCIA01_{}_1", range(131, 499, 11)),
        *each("BraTS19_TCIA02_{}_1", range(117, 700, 17)),
    ],
    "LiTS": each("volume-{}", range(131)),
    "LIDC": each("LIDC-IDRI-{:04d}", range(50)),
    "FLARE": each("FLARE22_Tr_{:04d}", range(50)),
    "DRIVE": each("{}_training", range(21, 41)),
    "T2 of each": each("ProstateX-{:04d}_T2", range(20)),
    "BIDS, one each": each("sub-{:02d}_ses-1_T1w", range(20)),
    "two organs": each("{}_{:03d}", ["liver", "spleen"], *range(40)),
    "two parts": each("{}_{:03d}", ["train", "val"], *range(40)),
    "a word that counts": each("scan{}", range(20)),
    "CT alone": each("CT_{}", range(20)),
    "UID": each("1.3.6.1.4.1.14519.5.2.1.6279.6001.{}", RANDOM.integers(10**15, 10**16, 60)),
    "UUID": [str(uuid.UUID(bytes=RANDOM.bytes(16))) for _ in range(300)],
    "hash": [hashlib.md5(str(number).encode()).hexdigest() for number in range(300)],
    "short hash": [hashlib.md5(str(number).encode()).hexdigest()[:8] for number in range(300)],
    "one": ["spleen_2"],
    "two": ["a_1", "a_2"],
    "none": [],
}


@pytest.mark.parametrize("scheme", DISTINCT)
def test_names_that_look_like_another_patient_each(scheme: str) -> None:
    assert guess_patients(DISTINCT[scheme]) is None


@settings(deadline=None)
@given(
    st.from_regex(r"[A-Za-z]{1,8}[_-]?", fullmatch=True),
    st.sets(st.integers(0, 9999)),
    st.integers(1, 4),
)
def test_numbering_alone_never_looks_like_several_cases_of_a_patient(
    stem: str, numbers: set[int], width: int
) -> None:
    assert guess_patients([f"{stem}{number:0{width}d}" for number in numbers]) is None


@settings(deadline=None)
@given(
    st.from_regex(r"[A-Za-z]{2,8}[_-]?", fullmatch=True),
    st.sets(st.integers(0, 999), min_size=2),
    st.sampled_from(
        [
            ("_ED", "_ES"),
            ("_01", "_02"),
            ("-a", "-b"),
            ("L", "R"),
            ("_frame01", "_frame12"),
            ("_0", "_1"),
        ]
    ),
)
def test_two_cases_of_each_number_are_always_found(
    stem: str, numbers: set[int], ends: tuple[str, str]
) -> None:
    guess = guess_patients([f"{stem}{number:03d}{end}" for number in numbers for end in ends])
    assert guess is not None
    assert len(guess.groups) == len(numbers)
    assert guess.pattern is not None


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=12))
def test_any_names_can_be_looked_at(names: list[str]) -> None:
    guess = guess_patients(names)
    if guess:
        assert sorted(case for cases in guess.groups.values() for case in cases) == sorted(names)


# --- asked, or refused ----------------------------------------------------------------------------


def test_where_nothing_says_it_a_script_is_refused_with_what_to_say(
    acdc: Path, tmp_path, monkeypatch, capfd
) -> None:
    code, err = command(
        monkeypatch, capfd, "simulate", acdc, "--strategy", "random", "--out", tmp_path / "out"
    )
    assert code == 2
    assert err == (
        "alunet: 'patient001_frame01' and 'patient001_frame12' look like one patient (40 cases, "
        "20 patients). "
        'Give --group "(patient\\d+)" to keep a patient\'s cases together, or --group none if '
        "each case is another "
        "one.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_from_python_too(acdc: Path, tmp_path: Path) -> None:
    with pytest.raises(PatientsUnclear, match="look like one patient"):
        alunet.simulate(acdc, tmp_path / "out", ["random"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "split"), [("\n", "by patient (5 patients, 10 cases, "), ("n\n", "by case")]
)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")
def test_a_person_is_asked(frames: Path, tmp_path: Path, answer: str, split: str) -> None:
    import pty

    out = tmp_path / "out"
    words = [
        sys.executable,
        "-m",
        "alunet",
        "simulate",
        str(frames),
        "--out",
        str(out),
        "--epochs",
        "1",
        *SHORT,
    ]
    leader, follower = pty.openpty()
    place = Path(alunet.__file__).parents[1]
    process = subprocess.Popen(
        words, stdin=follower, stderr=follower, stdout=subprocess.DEVNULL, cwd=place
    )
    os.close(follower)
    os.write(leader, answer.encode())
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait() == 0, shown.decode()
    assert b"heart01 (heart01_ED, heart01_ES), heart02 (" in shown
    assert b"Keep the cases of each of these patients together? [Y/n]" in shown
    assert json.loads((out / "study.json").read_text(encoding="utf-8"))["fixed"][
        "split"
    ].startswith(split)


# --- a test set -----------------------------------------------------------------------------------


def described(*names: str, patients: dict[str, str] | None = None):
    from alunet.imaging.dataset import DatasetDescription

    cases = [(name, [Path(name)], Path(name)) for name in sorted(names)]
    return DatasetDescription("d", {"background": 0, "heart": 1}, ["MRI"], cases, (0, 1), patients)


def test_a_patient_cannot_be_in_the_pool_and_in_the_test_set() -> None:
    pool, test = described("p1_ED", "p2_ED", "p3_ED"), described("p2_ES", "p4_ES")
    with pytest.raises(
        InputError, match=r"1 patient .* data set and in the test set, e.g. 'p2' \(case 'p2_ES'\)"
    ):
        Split.of(pool, test, r"(p\d)")
    with pytest.raises(PatientsUnclear, match="'p2_ED' and 'p2_ES' look like one patient"):
        Split.of(pool, test, None)
    assert Split.of(pool, test, "none").tests([0]) == {0: ["p2_ES", "p4_ES"]}


def test_several_cases_of_a_patient_on_one_side_matter_to_no_test_set() -> None:
    split = Split.of(
        described("p1_ED", "p1_ES", "p2_ED", "p2_ES"), described("p3_ED", "p3_ES"), None
    )
    assert split.tests([0]) == {0: ["p3_ED", "p3_ES"]}


def test_what_both_sets_say_of_their_cases_counts() -> None:
    pool = described("x1", "x2", patients={"x1": "Anna", "x2": "Bea"})
    with pytest.raises(InputError, match="'bea'"):
        Split.of(pool, described("y1", patients={"y1": "bea"}), None)
    assert Split.of(pool, described("y1", patients={"y1": "Carl"}), None).is_by_case


@pytest.mark.parametrize("test", [["hippocampus_002"], ["other_001"], ["late"]])
def test_a_test_set_numbered_on_is_no_question(test: list[str]) -> None:
    assert same_patients([f"hippocampus_{number:03d}" for number in (1, 3, 4)], test) is None


# --- what is recorded -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studied(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two folds by patient, with hardly any training."""
    out = tmp_path_factory.mktemp("studied") / "out"
    result = alunet.simulate(frames, out, ["random"], folds=[0, 3], group=r"(heart\d+)", **QUICK)
    assert result.splits_json == out / "splits.json"
    return out


@pytest.mark.slow
def test_a_study_records_its_split(studied: Path) -> None:
    splits = json.loads((studied / "splits.json").read_text(encoding="utf-8"))
    fixed = json.loads((studied / "study.json").read_text(encoding="utf-8"))["fixed"]
    assert splits["split"] == fixed["split"]
    assert fixed["split"].startswith("by patient (5 patients, 10 cases, ")
    assert splits["patients"]["heart02"] == ["heart02_ED", "heart02_ES"]
    assert list(splits["folds"]) == ["0", "3"]
    for fold, sides in splits["folds"].items():
        assert len(sides["test patients"]) == 1
        assert len(sides["pool patients"]) == 4
        assert set(sides["test cases"]) == {
            f"{sides['test patients'][0]}_{phase}" for phase in ("ED", "ES")
        }
        assert len(sides["pool cases"]) == 8
        with Project.open(
            studied / "runs" / f"fold{fold}_seed0" / "random", read_only=True
        ) as project:
            assert [case.name for case in project.cases.all("test")] == sides["test cases"]
            assert [case.name for case in project.cases.all("pool")] == sides["pool cases"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "now"), [("none", "by case"), (r"heart0([1-4]|5)", "by patient"), (None, None)]
)
def test_a_study_goes_on_with_its_own_split_alone(
    frames: Path, studied: Path, group: str | None, now: str
) -> None:
    before = {path: path.read_bytes() for path in studied.glob("*.json")}
    with pytest.raises(InputError) as caught:
        alunet.simulate(frames, studied, ["random"], group=group, **QUICK)
    assert f"and {now}" in str(caught.value) or isinstance(caught.value, PatientsUnclear)
    assert {path: path.read_bytes() for path in studied.glob("*.json")} == before


@pytest.mark.slow
def test_the_same_split_in_other_words_goes_on(frames: Path, studied: Path) -> None:
    alunet.simulate(frames, studied, ["random"], folds=[0], group=HEARTS, **QUICK)
    assert list(json.loads((studied / "splits.json").read_text(encoding="utf-8"))["folds"]) == [
        "0",
        "3",
    ]


def test_a_study_of_before_was_split_by_case(tmp_path: Path) -> None:
    fixed = {
        "dataset": {"name": "d"},
        "test set": None,
        "recipe": preset("cpu").to_json(),
        "budget": 100,
    }
    old = config.Study(fixed, ("random",), 3, (0,), (0,))
    config.save(tmp_path, old)
    (tmp_path / "runs").mkdir()
    by_case = config.Study({**fixed, "split": "by case"}, ("usimf",), 3, (0,), (0,))
    assert config.merge(tmp_path, by_case).strategies == ("random", "usimf")
    with pytest.raises(InputError, match=r"split is by case there and by patient \(20"):
        config.merge(
            tmp_path,
            config.Study({**fixed, "split": "by patient (20 …)"}, ("usimf",), 3, (0,), (0,)),
        )


# --- a project by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize("pool_first", [True, False])
def test_adding_cases_of_one_patient_to_both_sides_warns(
    frames: Path, tmp_path: Path, monkeypatch, capfd, pool_first: bool
) -> None:
    root, files = tmp_path / "project", frames / "imagesTr"
    assert command(monkeypatch, capfd, "init", root, "--like", frames)[0] == 0
    for name in ("heart01_ED", "heart02_ED", "heart03_ED"):
        role = [] if pool_first else ["--test"]
        assert command(monkeypatch, capfd, "add", root, files / f"{name}.nii.gz", *role) == (0, "")
    role = ["--test"] if pool_first else []
    assert command(monkeypatch, capfd, "add", root, files / "heart04_ES.nii.gz", *role) == (0, "")
    code, err = command(monkeypatch, capfd, "add", root, files / "heart02_ES.nii.gz", *role)
    assert code == 0
    test, pool = ("heart02_ES", "heart02_ED") if pool_first else ("heart02_ED", "heart02_ES")
    assert f"'{test}' (to evaluate on) and '{pool}' (to learn from) look like one patient" in err
    assert err.count("\n") == 1
