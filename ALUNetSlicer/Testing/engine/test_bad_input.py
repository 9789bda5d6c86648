"""Data, options and machines that fail: one clear line, exit code 2, and everything as it was
before.

Each row of the tables spoils a good data set, or gives a wrong command; the command `alunet` runs
as from a terminal.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from alunet import cli
from alunet.imaging.dataset import read_dataset_description
from alunet.project import Project
from alunet.simulation.config import splits
from alunet.simulation.phantom import make_phantom
from alunet.storage.files import FolderLock

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small labelled data set that can be used."""
    return make_phantom(tmp_path_factory.mktemp("good") / "set", cases=5, seed=0)


@pytest.fixture
def alunet(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs the command in this process; returns exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alunet", *map(str, words)])
        capfd.readouterr()
        code = cli.main()
        out, err = capfd.readouterr()
        return code, out, err

    return run


def content(*folders: Path) -> dict[str, str]:
    """All files and folders, with a hash of each file; locks and SQLite's own files tell
    nothing.
    """
    found = {}
    for folder in folders:
        for path in sorted([folder, *folder.rglob("*")]):
            if not {"lock", "locks"} & {path.name, path.parent.name} and not path.name.endswith(
                ("-wal", "-shm")
            ):
                found[str(path)] = (
                    hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                )
    return found


def assert_one_line(result: tuple[int, str, str], words: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert err.startswith("alunet: "), err
    assert err.count("\n") == 1, err
    assert words in err
    assert "Traceback" not in err
    assert re.search(r"[.:)] \S.*\S\n$", err.removeprefix("alunet: ")), (
        f"what to do next is missing: {err}"
    )
    assert out == ""


def placed(command: str, **places: Path) -> list[str]:
    """The words of a command, with real paths for the names in capitals."""
    return [
        re.sub("|".join(places), lambda found: str(places[found.group()]), word)
        for word in command.split()
    ]


# --- how a data set is spoilt ---------------------------------------------------------------------


def image(folder: Path, index: int = 1) -> Path:
    return sorted((folder / "imagesTr").iterdir())[index]


def label(folder: Path, index: int = 1) -> Path:
    return sorted((folder / "labelsTr").iterdir())[index]


def describe(**changes: object) -> Spoil:
    """Changes dataset.json; None removes a key."""

    def spoil(folder: Path) -> None:
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8")) | changes
        about = {key: value for key, value in about.items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")

    return spoil


def text(words: str, encoding: str = "utf-8") -> Spoil:
    return lambda folder: (folder / "dataset.json").write_text(words, encoding=encoding)


def nnunet_form(folder: Path) -> None:
    describe(training=None, modality=None, channel_names={"0": "MRI"}, file_ending=".nii.gz")(
        folder
    )


def two_channels(folder: Path) -> None:
    describe(
        training=None, modality=None, channel_names={"0": "T1", "1": "T2"}, file_ending=".nii.gz"
    )(folder)
    for file in list((folder / "imagesTr").iterdir()):
        for channel in range(2):
            shutil.copyfile(
                file, file.with_name(file.name.replace(".nii.gz", f"_{channel:04d}.nii.gz"))
            )
        file.unlink()
    image(folder, 3).unlink()


def cut(path: Callable[[Path], Path], keep: float) -> Spoil:
    def spoil(folder: Path) -> None:
        file = path(folder)
        file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])

    return spoil


def voxels(path: Callable[[Path], Path], value: float) -> Spoil:
    """Puts one voxel of a value into a file."""

    def spoil(folder: Path) -> None:
        whole = sitk.ReadImage(str(path(folder)))
        array = sitk.GetArrayFromImage(whole).astype(np.float32)
        array[2, 2, 2] = value
        changed = sitk.GetImageFromArray(array)
        changed.CopyInformation(whole)
        sitk.WriteImage(changed, str(path(folder)))

    return spoil


def changed(
    path: Callable[[Path], Path], change: Callable[[sitk.Image], sitk.Image | None]
) -> Spoil:
    def spoil(folder: Path) -> None:
        whole = sitk.ReadImage(str(path(folder)))
        sitk.WriteImage(change(whole) or whole, str(path(folder)))

    return spoil


def replaced(ending: str, keep: float) -> Spoil:
    """An image in another form, cut off: ITK prints lines of its own for these."""

    def spoil(folder: Path) -> None:
        nnunet_form(folder)
        file = image(folder)
        target = file.with_name(file.name.replace(".nii.gz", ending))
        sitk.WriteImage(sitk.ReadImage(str(file)), str(target), ending != ".tif")
        file.unlink()
        target.write_bytes(target.read_bytes()[: int(keep * target.stat().st_size)])

    return spoil


def same_stem(folder: Path) -> None:
    nnunet_form(folder)
    file = image(folder)
    sitk.WriteImage(
        sitk.ReadImage(str(file)), str(file.with_name(file.name.replace(".nii.gz", ".nrrd")))
    )


def two_labels(folder: Path) -> None:
    nnunet_form(folder)
    file = label(folder)
    sitk.WriteImage(
        sitk.ReadImage(str(file)), str(file.with_name(file.name.replace(".nii.gz", ".nrrd")))
    )


def only_in_case(folder: Path) -> None:
    nnunet_form(folder)
    file = image(folder)
    shutil.copyfile(file, file.with_name(file.name.upper().replace(".NII.GZ", ".nii.gz")))
    if len(list((folder / "imagesTr").iterdir())) == 5:
        pytest.skip("this file system does not tell names apart that differ in case only")


def twice(folder: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    describe(training=[*about["training"], about["training"][0]])(folder)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


PROBLEMS: dict[str, tuple[Spoil, str]] = {
    "missing folder": (shutil.rmtree, "There is no folder "),
    "empty folder": (empty, "holds no image. Images end in .nii.gz"),
    "folder without images": (lambda f: shutil.rmtree(f / "imagesTr"), "there is no file "),
    "no images in nnU-Net's form": (
        lambda f: (nnunet_form(f), shutil.rmtree(f / "imagesTr")),
        "imagesTr. Put the images there",
    ),
    "empty file": (cut(image, 0), "is empty (0 bytes). Copy the file again."),
    "gzip cut off early": (cut(image, 0.02), "is cut off: "),
    "gzip cut off": (cut(image, 0.5), "is cut off: "),
    "gzip without its last bytes": (cut(image, 0.9999), "do not fit their checksum"),
    "label cut off": (cut(label, 0.5), "is cut off: "),
    "text": (lambda f: image(f).write_text("no image"), "is cut off: 8 of 348 bytes"),
    "longer text": (
        lambda f: image(f).write_text("no image " * 99),
        "its content is no image of that form",
    ),
    "text, compressed": (
        lambda f: image(f).write_bytes(gzip.compress(b"no image" * 99)),
        "its content is no image of that form",
    ),
    "MetaImage cut off": (
        replaced(".mha", 0.5),
        "cannot be read: its content is no image of that form",
    ),
    "NRRD cut off": (replaced(".nrrd", 0.5), ".nrrd is cut off: "),
    "TIFF cut off": (replaced(".tif", 0.5), ".tif is cut off: page "),
    "GIPL cut off": (replaced(".gipl", 0.5), ".gipl is cut off: "),
    "NaN": (voxels(image, np.nan), "has 1 voxels that are NaN or infinite. Replace them"),
    "infinite": (voxels(image, -np.inf), "has 1 voxels that are NaN or infinite. Replace them"),
    "nothing but zeros": (
        changed(image, lambda i: i * 0),
        "holds nothing but zeros. Leave this case out.",
    ),
    "four dimensions": (
        changed(image, lambda i: sitk.JoinSeries([i, i])),
        "is 4D (64 x 64 x 20 x 2)",
    ),
    "label of another size": (
        changed(label, lambda i: sitk.ConstantPad(i, (1, 0, 0))),
        "does not fit its image: size ",
    ),
    "label of another spacing": (
        changed(label, lambda i: i.SetSpacing((2, 3, 4))),
        "fit its image: spacing 2 x 3 x 4",
    ),
    "label in another place": (
        changed(label, lambda i: i.SetOrigin((9, 9, 9))),
        "fit its image: origin 9 x 9 x 9",
    ),
    "label turned": (
        changed(label, lambda i: i.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))),
        "does not fit its image: direction ",
    ),
    "label of four dimensions": (
        changed(label, lambda i: sitk.JoinSeries([i, i])),
        "has 4 dimensions. Store",
    ),
    "label outside": (voxels(label, 7), "holds the value 7, which "),
    "negative label": (voxels(label, -1), "holds the value -1, which "),
    "broken label": (voxels(label, 1.5), "holds the value 1.5, which is no whole number"),
    "NaN label": (voxels(label, np.nan), "has 1 voxels that are NaN or infinite"),
    "no label": (
        lambda f: (nnunet_form(f), label(f).unlink()),
        "have no label (phantom_002). A simulation",
    ),
    "missing label": (lambda f: label(f).unlink(), "Case phantom_002: there is no file "),
    "missing channel": (two_channels, "has 1 image file(s) for 2 channel(s). Name the files"),
    "listed twice": (twice, "holds the case 'phantom_001' twice. Give every case its own name."),
    "name differs in case only": (only_in_case, "twice. Give every case its own name."),
    "one name, two endings": (same_stem, "twice (phantom_002.nii.gz, phantom_002.nrrd). Keep one"),
    "one label, two endings": (
        two_labels,
        "holds the label of 'phantom_002' twice (phantom_002.nii.gz, ",
    ),
    "JSON: empty": (text(""), "dataset.json cannot be read: "),
    "JSON: cut off": (text('{"labels": {"backgr'), "dataset.json cannot be read: "),
    "JSON: another encoding": (
        text('{"name": "Bücher"}', "latin-1"),
        "dataset.json cannot be read: 'utf-8' codec",
    ),
    "JSON: UTF-16": (text('{"name": "x"}', "utf-16"), "dataset.json cannot be read: "),
    "JSON: a list": (text("[1, 2]"), "dataset.json holds no JSON object. Correct the file"),
    "JSON: null": (text("null"), "dataset.json holds no JSON object"),
    "JSON: nothing in it": (text("{}"), "dataset.json has no labels. Add "),
    "JSON: a key twice": (
        text('{"labels": {}, "labels": {}}'),
        "cannot be read: 'labels' is there twice",
    ),
    "JSON: a label twice": (
        text('{"labels": {"a": 0, "a": 1}}'),
        "cannot be read: 'a' is there twice",
    ),
    "JSON: too deep": (text("[" * 100_000), "dataset.json cannot be read: "),
    "JSON: no labels": (describe(labels=None), "has no labels. Add "),
    "JSON: a list of labels": (describe(labels=["background", "organ"]), "has no labels. Add "),
    "JSON: a label that is text": (
        describe(labels={"background": 0, "organ": "one"}),
        "'organ' has the value 'one'",
    ),
    "JSON: a label that is broken": (
        describe(labels={"background": 0, "organ": 1.5}),
        "has the value 1.5. Use one",
    ),
    "JSON: a label that is null": (
        describe(labels={"background": 0, "organ": None}),
        "has the value None. Use one",
    ),
    "JSON: regions": (
        describe(labels={"background": 0, "organ": [1, 2]}),
        "regions are not supported",
    ),
    "JSON: no background": (
        describe(labels={"organ": 1, "lesion": 2}),
        'lack "background". Add it',
    ),
    "JSON: background alone": (
        describe(labels={"background": 0}),
        "no label but the background. Add a structure",
    ),
    "JSON: a value twice": (
        describe(labels={"background": 0, "a": 1, "b": 1}),
        "share a value. Give every structure",
    ),
    "JSON: no channels": (describe(modality=None), "does not name its channels as 0, 1, …. Add "),
    "JSON: channels that are no table": (
        describe(modality=["MRI"]),
        "does not name its channels as 0, 1, …. Add ",
    ),
    "JSON: channels with a gap": (
        describe(modality={"0": "T1", "2": "T2"}),
        "does not name its channels",
    ),
    "JSON: training that is text": (
        describe(training="all"),
        "training entry 'all' names no image. Correct it.",
    ),
    "JSON: training of numbers": (
        describe(training=[1]),
        "training entry 1 names no image. Correct it.",
    ),
    "JSON: image that is a list": (
        describe(training=[{"image": ["a"]}]),
        "names ['a'], which is no file. Correct it",
    ),
    "JSON: image outside": (
        describe(training=[{"image": "../x.nii.gz"}]),
        "Case x: there is no file ",
    ),
    "JSON: dataset that is a list": (
        describe(dataset=[]),
        '"dataset" is no list of cases by name. Correct it',
    ),
    "JSON: groups that are no pattern": (
        describe(groups="(phantom"),
        "groups\" '(phantom' is no regular",
    ),
    "JSON: groups that find no patient": (
        describe(groups="heart"),
        "\"groups\" 'heart' finds no patient in the case",
    ),
    "JSON: groups that are a list": (
        describe(groups=[["phantom_001"]]),
        "\"groups\" cannot be [['phantom_001']].",
    ),
    "JSON: a group of no list": (
        describe(groups={"a": "phantom_001"}),
        "'a' has the cases 'phantom_001'. Give a",
    ),
    "JSON: a group of an unknown case": (
        describe(groups={"a": ["phantom_009"]}),
        "'phantom_009', which is not there.",
    ),
    "JSON: a case in no group": (
        describe(groups={"a": ["phantom_001"]}),
        "does not name the case 'phantom_002'. Name",
    ),
    "JSON: a case in two groups": (
        describe(groups={"a": ["phantom_001"], "b": ["phantom_001"]}),
        "names the case 'phantom_001' twice. Name each case once.",
    ),
    "JSON is a folder": (
        lambda f: ((f / "dataset.json").unlink(), (f / "dataset.json").mkdir()),
        "dataset.json cannot be read: ",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_data_that_cannot_be_used(alunet, good: Path, tmp_path: Path, problem: str) -> None:
    spoil, words = PROBLEMS[problem]
    folder = tmp_path / "Ein schöner Satz"
    shutil.copytree(good, folder)
    spoil(folder)
    before = content(tmp_path)
    assert_one_line(
        alunet("simulate", folder, "--strategy", "random", "--out", tmp_path / "out"), words
    )
    assert content(tmp_path) == before


@pytest.mark.parametrize("problem", [name for name in PROBLEMS if name not in ("no label",)])
def test_data_that_cannot_be_added_to_a_project(
    alunet, good: Path, tmp_path: Path, problem: str
) -> None:
    """The same data, brought to a project that has cases already: nothing of it changes, and it
    opens as before.
    """
    spoil, words = PROBLEMS[problem]
    folder, root = tmp_path / "Ein schöner Satz", tmp_path / "Projekt ä"
    shutil.copytree(good, folder)
    channels = ["T1", "T2"] if spoil is two_channels else ["MRI"]
    labels = {"background": 0, "organ": 1, "lesion": 2}
    with Project.create(root, name="p", labels=labels, channels=channels) as project:
        project.cases.import_case("first", [image(good)] * len(channels), label(good))
    spoil(folder)
    # it may be a file too
    words = "There is no image file " if problem == "missing folder" else words
    before = content(tmp_path)
    assert_one_line(alunet("add", root, folder), words)
    assert content(tmp_path) == before
    with Project.open(root) as project:
        assert [case.name for case in project.cases.all()] == ["first"]


# --- commands -------------------------------------------------------------------------------------

INIT = "init OUT --label liver --channel CT"
MISTAKES: dict[str, tuple[str, str]] = {
    "unknown strategy": ("simulate SET --strategy usimg --out OUT", "Did you mean 'usim"),
    "strategy in capitals": ("simulate SET --strategy Randm --out OUT", "Did you mean 'random'"),
    "unknown option of a strategy": ("simulate SET --strategy usimf:etta=1 --out OUT", "etta"),
    "value of an option": (
        "simulate SET --strategy usimf:eta=high --out OUT",
        "usimf:eta cannot be 'high'.",
    ),
    "option that is misspelt": (
        "simulate SET --strategy random --out OUT --bugdet 5",
        "No such option: --bugdet",
    ),
    "command that is misspelt": (
        "simulat SET",
        "No such command 'simulat'. Did you mean 'simulate'",
    ),
    "nothing to simulate": ("simulate", "Missing argument 'DATASET'. See: alunet simulate --help"),
    "number that is none": (
        "simulate SET --strategy random --out OUT --budget many",
        "Invalid value for '--budget'",
    ),
    "budget 0": (
        "simulate SET --strategy random --out OUT --budget 0",
        "--budget 0 is not possible. Give 1 or more.",
    ),
    "budget below 0": (
        "simulate SET --strategy random --out OUT --budget -3",
        "--budget -3 is not possible.",
    ),
    "initial 0": (
        "simulate SET --strategy random --out OUT --initial 0",
        "--initial 0 is not possible.",
    ),
    "fold 5": (
        "simulate SET --strategy random --out OUT --fold 5",
        "There is no fold 5. nnU-Net's folds are 0 to 4.",
    ),
    "preset": ("simulate SET --strategy random --out OUT --preset fast", "Unknown preset 'fast'."),
    "mode": ("simulate SET --strategy random --out OUT --mode again", "again"),
    "epochs 0": ("simulate SET --strategy random --out OUT --epochs 0", "epochs"),
    "device": (
        "simulate SET --strategy random --out OUT --device tpu",
        "Device 'tpu' is not available.",
    ),
    "too few cases": (
        "simulate SET --strategy random --out OUT --limit 3",
        "3 cases are too few for 5 folds.",
    ),
    "too few patients": (
        "simulate SET --strategy random --out OUT --group phantom",
        "5 cases of 1 patient are too few for 5 folds. Use 5 or more patients, or give",
    ),
    "group that is no pattern": (
        "simulate SET --strategy random --out OUT --group (p",
        "'(p' is no regular",
    ),
    "group that finds nothing": (
        "simulate SET --strategy random --out OUT --group (heart)",
        "--group '(heart)' finds no patient in the case name 'phantom_001'. It must find the "
        "patient in every",
    ),
    "out is a file": (
        "simulate SET --strategy random --out FILE",
        "holds something, but no study. Give --out a folder",
    ),
    "out below a file": (
        "simulate SET --strategy random --out FILE/study",
        "file/study cannot be used: Not a directory.",
    ),
    "test set is the data set": (
        "simulate SET --strategy random --out OUT --test SET",
        "5 case names are in the data",
    ),
    "no project": ("status OUT", "There is no ALUNet project in "),
    "nothing said of the labels": ("init OUT --channel CT", "No --label is given. For instance"),
    "nothing said of the channels": (
        "init OUT --label liver",
        "No --channel is given. For instance",
    ),
    "a label twice": (
        "init OUT --label liver --label Liver --channel CT",
        "--label Liver is there twice.",
    ),
    "init like nothing": ("init OUT --like nowhere", "There is no folder nowhere."),
    "init on a file": ("init FILE --label liver --channel CT", "is a file."),
    "time and epochs": (
        f"{INIT} --train-for 5m --epochs 2",
        "A training time (300 s) is given beside epochs or iter",
    ),
    "time and iterations": (
        f"{INIT} --train-for 5m --iterations 2",
        "is given beside epochs or iterations. Give one",
    ),
    "time of a round": (
        "next-round OUT --train-for soon",
        "'soon' is no training time. Give for instance 90s",
    ),
    **{
        f"time {time}": (
            f"{INIT} --train-for {time}",
            f"'{time}' is no training time. Give for instance 90s, 5m",
        )
        for time in (
            "-1m",
            "nan",
            "inf",
            "1e3",
            "5d",
            "parsecs",
            "1h30",
            "30m1h",
            "1..5m",
            "١m",
            "h",
        )
    },
    **{
        f"time {time}": (
            f"{INIT} --train-for {time}",
            f"A training of {shown} s is not possible. Train between 1 s",
        )
        for time, shown in {
            "0": "0",
            "0.5s": "0.5",
            "0h0m0s": "0",
            "169h": "608400",
            "999999999h": "3.6e+12",
        }.items()
    },
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_commands_that_cannot_be_followed(
    alunet, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    words, expected = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    command = placed(words, SET=good, OUT=tmp_path / "out", FILE=tmp_path / "file")
    before = content(tmp_path)
    assert_one_line(alunet(*command), expected)
    assert content(tmp_path) == before


# --- projects -------------------------------------------------------------------------------------


@pytest.fixture
def project(alunet, good: Path, tmp_path: Path) -> Path:
    """A project with a case, not yet planned, in a folder with a difficult name."""
    root = tmp_path / "Leber & Milz ö"
    assert alunet("init", root, "--label", "organ", "--label", "lesion", "--channel", "MRI")[0] == 0
    assert alunet("add", root, image(good), "--name", "first", "--label-file", label(good))[0] == 0
    return root


def newer(root: Path) -> None:
    connection = sqlite3.connect(root / "project.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged(root: Path) -> None:
    (root / "project.db").write_bytes(b"no database at all" * 99)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (newer, "has schema version 99; this program knows"),
        (damaged, "is not a usable database"),
        (
            lambda root: (root / "project.db").write_bytes(b""),
            "was never completed. Create it again.",
        ),
        (lambda root: (root / "project.db").unlink(), "There is no ALUNet project in "),
    ],
)
@pytest.mark.parametrize("command", ["add", "plan", "suggest", "status"])
def test_projects_that_cannot_be_opened(
    alunet, good: Path, project: Path, command: str, spoil: Spoil, words: str
) -> None:
    spoil(project)
    before = content(project)
    assert_one_line(alunet(command, project, *([good] if command == "add" else [])), words)
    assert content(project) == before


@pytest.mark.parametrize("command", ["add", "plan", "suggest", "next-round"])
def test_a_second_process_waits_outside(alunet, good: Path, project: Path, command: str) -> None:
    before, lock = content(project), FolderLock(project)
    try:
        words = "is in use by another process. Wait until it ends"
        assert_one_line(alunet(command, project, *([good] if command == "add" else [])), words)
        assert alunet("status", project)[0] == 0
    finally:
        lock.release()
    assert content(project) == before


@pytest.fixture
def somebody(alunet, good: Path) -> Iterator[Path]:
    """A copy of the good set and a project, for a user who may not do everything: root becomes
    one for the test.
    """
    if sys.platform == "win32":
        pytest.skip("Windows knows other rights")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        place = Path(name)
        shutil.copytree(good, place / "set")
        Project.create(
            place / "p", name="p", labels={"background": 0, "a": 1}, channels=["MRI"]
        ).close()
        root = os.geteuid() == 0
        if root:
            # Once as root, because the other user may not be able to read Python's own modules.
            alunet("simulate", "nowhere", "--strategy", "random", "--out", "nowhere")
            alunet("init", place / "new", "--label", "a", "--channel", "CT")
            alunet("add", place / "new", place / "set" / "imagesTr" / "phantom_001.nii.gz")
            read_dataset_description(place / "set")
            splits(list("abcde"), [0])
            shutil.rmtree(place / "new")
            for path in (place, *place.rglob("*")):
                os.chown(path, 65534, 65534)
            os.seteuid(65534)
        yield place
        if root:
            os.seteuid(0)
        for path in (place, *place.iterdir()):
            path.chmod(0o700)


@pytest.mark.parametrize(
    ("closed", "command", "words"),
    [
        (
            "set/imagesTr/phantom_002.nii.gz",
            "simulate set --strategy random --out out",
            "Permission denied. It must",
        ),
        (
            "set/dataset.json",
            "simulate set --strategy random --out out",
            "cannot be read: Permission denied. It must",
        ),
        (
            "set/imagesTr",
            "simulate set --strategy random --out out",
            "Permission denied. Check the path and who",
        ),
        ("set", "simulate set --strategy random --out out", "Permission denied"),
        (
            ".",
            "simulate set --strategy random --out out",
            "Permission denied. Check the path and who",
        ),
        (
            ".",
            "init new --label a --channel CT",
            "Permission denied. Check the path and who may use it.",
        ),
        (
            "p",
            "add p set/imagesTr/phantom_001.nii.gz",
            "cannot be written: Permission denied. Open it for reading only",
        ),
    ],
)
def test_what_this_user_may_not_do(
    alunet, somebody: Path, monkeypatch: pytest.MonkeyPatch, closed: str, command: str, words: str
) -> None:
    monkeypatch.chdir(somebody)
    before = content(somebody)
    mode = 0o500 if closed in (".", "p") else 0
    (somebody / closed).chmod(mode)
    if closed == "p":
        (somebody / "p" / "lock").chmod(0o400)
    result = alunet(*command.split())
    (somebody / closed).chmod(0o700)
    assert_one_line(result, words)
    assert content(somebody) == before


@pytest.mark.slow
def test_the_loop_by_hand_refuses_what_it_cannot_use(
    alunet, good: Path, project: Path, tmp_path: Path
) -> None:
    """A planned project: budgets, strategies and labels that make no sense change nothing."""
    assert alunet("plan", project)[0] == 0
    assert alunet("suggest", project, "--strategy", "random", "--budget", "2")[0] == 0
    drawn = tmp_path / "drawn.nii.gz"
    spoilt = {
        "shape": (
            changed(lambda _: drawn, lambda i: sitk.ConstantPad(i, (1, 0, 0))),
            "does not fit its image: size ",
        ),
        "place": (
            changed(lambda _: drawn, lambda i: i.SetOrigin((9, 9, 9))),
            "does not fit its image: origin ",
        ),
        "value": (
            voxels(lambda _: drawn, 9),
            "holds the value 9, but the labels are 0 background, ",
        ),
        "broken": (voxels(lambda _: drawn, 0.5), "holds the value 0.5, which is no whole number"),
        "cut off": (cut(lambda _: drawn, 0.5), "is cut off: "),
    }
    before = content(project)
    for spoil, words in spoilt.values():
        shutil.copyfile(label(good), drawn)
        spoil(tmp_path)
        assert_one_line(alunet("annotate", project, drawn, "--case", "first"), words)
        assert content(project) == before
    shutil.copyfile(label(good), drawn)
    for command, words in {
        "annotate PROJECT DRAWN --case second": "There is no case 'second' in the project.",
        "annotate PROJECT DRAWN --case first --slice 999": "first has no slice 999.",
        "annotate PROJECT nothing.nii.gz --case first": "There is no image file nothing.nii.gz.",
        "annotate PROJECT DRAWN --case first --seconds -1": "-1 seconds are no time to spend on a "
        "label.",
        "skip PROJECT --case first --slice 999": "first has no slice 999.",
        "suggest PROJECT --budget 0": "budget",
        "suggest PROJECT --budget 99999": "budget",
        "suggest PROJECT --strategy usimg": "Did you mean 'usim",
        "predict PROJECT --out OUT": "model",
        "uncertainty PROJECT first --out OUT.nii.gz": "model",
        "export PROJECT model --out OUT.zip": "model",
        "export PROJECT labels --out OUT": "Nothing is annotated yet. Annotate a slice first.",
    }.items():
        parts = placed(command, PROJECT=project, DRAWN=drawn, OUT=tmp_path / "out")
        assert_one_line(alunet(*parts), words)
        assert content(project) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [drawn.name, project.name]
        )
    assert alunet("annotate", project, drawn, "--case", "first")[0] == 0


def test_names_with_blanks_and_letters_of_any_alphabet_work(
    alunet, good: Path, tmp_path: Path
) -> None:
    folder, root = tmp_path / "Сердце и 肝臓 ü", tmp_path / "проект 1 é"
    shutil.copytree(good, folder)
    assert alunet("init", root, "--like", folder)[0] == 0
    code, out, err = alunet("add", root, folder)
    assert (code, err) == (0, "")
    assert "5 new cases" in out
    assert alunet("status", root)[0] == 0
