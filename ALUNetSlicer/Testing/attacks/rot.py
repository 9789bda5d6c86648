"""Flip single bits in a project's files and rows, and use it as a person would."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import nearest_mean
import numpy as np
import SimpleITK as sitk
from nearest_mean import NearestMean
from small import RECIPE

from alunet.errors import InputError
from alunet.imaging.reading import read_labels
from alunet.loop import Loop, outputs
from alunet.project import Project
from alunet.project.annotations import Submission
from alunet.project.checking import check
from alunet.project.kept_files import forget_digests
from alunet.schema import ignore_events
from attacks import Finding

COUNT = 100
CASES = ("a", "b", "c")
LABELS = {"background": 0, "organ": 1, "tumor": 2}
SHAPE = (6, 28, 36)
BATCH = 12
Use = Callable[[Loop, Path], "list[int] | None"]


def attack(count: int, seed: int, work: Path) -> list[Finding]:
    """Flip one bit `count` times, each in a copy of the same project."""
    chance = random.Random(seed)
    with _children_know_the_framework():
        whole = make_project(work)
        truth = label_maps(whole)
        wrong: dict[str, list[str]] = {"missed": [], "not healed": [], "spread": []}
        kinds: Counter[str] = Counter()
        for number in range(count):
            kind = list(KINDS)[number % len(KINDS)]
            kinds[kind] += 1
            root = work / "copy"
            shutil.copytree(whole, root)
            what = KINDS[kind](root, chance)
            told = f"{kind}, try {number}: {what}"
            for problem in play(root, kind, truth, chance, work / "out"):
                wrong[problem].append(told)
            shutil.rmtree(root)
    parts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    missed, unhealed, spread = (wrong[name] for name in ("missed", "not healed", "spread"))
    healable = sum(kinds[kind] for kind in HEALED)
    found, healed = count - len(missed), healable - len(unhealed)
    return [
        Finding(f"found at the next use, of {parts}", found, count, "", True, _said(missed)),
        Finding("label maps and rows healed", healed, healable, "", True, _said(unhealed)),
        Finding("label maps wrong afterwards", len(spread), 0, "", False, _said(spread)),
    ]


def _said(lines: list[str]) -> str:
    return "; ".join(lines[:3])


@contextlib.contextmanager
def _children_know_the_framework() -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(nearest_mean.__file__).parent)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


# --- the project ----------------------------------------------------------------------------------


def loop_of(project: Project) -> Loop:
    """The loop with which it was made and is used."""
    recipe = RECIPE.for_seconds(60)
    return Loop(project, recipe, seed=1, device="cpu", threads=1, framework=NearestMean())


def make_project(work: Path) -> Path:
    """A project after a round: labels from files, submitted, corrected and taken back."""
    root = work / "project"
    with Project.create(root, name="rot", labels=LABELS, channels=["MRI"]) as project:
        for number, name in enumerate(CASES):
            rng = np.random.default_rng(number)
            label = np.zeros(SHAPE, np.uint8)
            label[:, 6:22, 5:30], label[1:4, 10:14, 8 : 12 + number] = 1, 2
            image = (100 * label + rng.normal(100, 25, SHAPE)).astype(np.float32)
            files = [work / f"{name}{kind}.nrrd" for kind in ("", "_label")]
            for array, file in zip((image, label), files, strict=True):
                sitk.WriteImage(sitk.GetImageFromArray(array), str(file), True)
            project.cases.import_case(name, files[:1], files[1])
            for file in files:
                file.unlink()  # so that nothing is copied again from there
        loop = loop_of(project)
        loop.prepare()
        loop.suggest("spread", BATCH)
        samples = [entry.sample for entry in project.worklist.suggestions(0)]
        for place, sample in enumerate(samples):
            draw(project, sample, place, by_hand=place % 3 == 0)
        draw(project, samples[1], 99)
        project.taking_back.take_back([samples[2]], "Ben")
        loop.learn()
    return root


def draw(project: Project, sample: int, seed: int, by_hand: bool = False) -> None:
    """Annotate a sample: as a viewer does, or as from a file."""
    case, rng = project.pool.case_name(sample), np.random.default_rng(seed)
    shape = project.annotations.read(case)[project.pool.raw_slices(sample)].shape
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    if by_hand:
        round_ = project.rounds.of_new_labels()
        project.annotations.annotate(case, [(sample, labels)], round=round_, author="Ada")
        return
    base = project.annotations.versions.last(sample)
    project.annotations.submit(sample, Submission(labels, base, "Ada", 7.5))


def label_maps(root: Path) -> dict[str, np.ndarray]:
    """What the files of the label maps hold, read without the program's care."""
    return {file.stem: read_labels(file) for file in sorted((root / "annotations").glob("*.mha"))}


# --- the flips ------------------------------------------------------------------------------------


def _flip(chance: random.Random, files: list[Path], root: Path) -> str:
    """Flip a bit of one of the files, and leave its times as they were."""
    file = chance.choice(sorted(files))
    content, about = bytearray(file.read_bytes()), file.stat()
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    return f"bit {bit} of {file.relative_to(root)}"


def _label_map(root: Path, chance: random.Random) -> str:
    return _flip(chance, list((root / "annotations").glob("*.mha")), root)


def _version(root: Path, chance: random.Random) -> str:
    return _flip(chance, list((root / "annotations" / "history").glob("*.npz")), root)


def _image(root: Path, chance: random.Random) -> str:
    return _flip(chance, list((root / "images").iterdir()), root)


def _reference(root: Path, chance: random.Random) -> str:
    return _flip(chance, list((root / "labels").iterdir()), root)


def _weights(root: Path, chance: random.Random) -> str:
    return _flip(chance, [root / "rounds" / "000" / "weights.pth"], root)


_COLUMNS = {
    "annotations": ("sample_id", "case_name", "round", "author", "seconds", "time", "checksum"),
    "versions": (
        *("sample_id", "number", "base", "conflict", "derived", "author", "seconds", "status"),
        *("time", "voxels", "checksum"),
    ),
}


def _row(root: Path, chance: random.Random) -> str:
    """Flip a bit in a row of the annotations."""
    database = sqlite3.connect(root / "project.db")
    try:
        while True:
            table = chance.choice(sorted(_COLUMNS))
            column = chance.choice(_COLUMNS[table])
            rows = database.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
            number, value = chance.choice(rows)
            other = _with_a_bit_flipped(value, chance)
            if other is None:
                continue
            as_text = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
            with contextlib.suppress(sqlite3.IntegrityError):
                with database:
                    database.execute(
                        f"UPDATE {table} SET {column} = {as_text} WHERE rowid = ?", (other, number)
                    )
                return f"{column} of row {number} of {table}: {value!r} became {other!r}"
    finally:
        database.close()


def _with_a_bit_flipped(value: object, chance: random.Random) -> object:
    if isinstance(value, int):
        return value ^ (1 << chance.randrange(62))
    if isinstance(value, float):
        packed = struct.unpack(">Q", struct.pack(">d", value))[0] ^ (1 << chance.randrange(64))
        found = struct.unpack(">d", struct.pack(">Q", packed))[0]
        return None if found != found else found  # SQLite holds no NaN
    if isinstance(value, str) and value:
        content = bytearray(value.encode())
        bit = chance.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        return bytes(content)
    return None


KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "label map": _label_map,
    "annotation row": _row,
    "version": _version,
    "image": _image,
    "weights": _weights,
    "reference": _reference,
}
HEALED = ("label map", "annotation row")


# --- the uses -------------------------------------------------------------------------------------


def _next_annotation(loop: Loop, out: Path) -> list[int]:
    """Draw what is open, once in every case; return the samples."""
    labelled, pool = loop.project.samples.labelled(), loop.project.pool
    drawn = [int(next(i for i in pool.samples_of(name) if not labelled[i])) for name in CASES]
    for sample in drawn:
        draw(loop.project, sample, 7)
    return drawn


def _export_labels(loop: Loop, out: Path) -> None:
    outputs.export_labels(loop.project, [], out, ".mha")


def _read_to_train(loop: Loop, out: Path) -> None:
    """Do what a training does before it starts its child process."""
    with contextlib.suppress(_Reached):
        loop.run_child = _stop  # type: ignore[method-assign]
        loop.learn()


class _Reached(Exception):
    """The training would start now."""


def _stop(*arguments: object, **options: object) -> None:
    raise _Reached


def _predict(loop: Loop, out: Path) -> None:
    outputs.predict(loop, [], out, ".mha")


def _look_at_versions(loop: Loop, out: Path) -> None:
    """Open every slice, and every version of it, as a viewer does."""
    for sample in np.flatnonzero(loop.project.samples.labelled()):
        last = loop.project.annotations.versions.last(int(sample))
        for number in range(1, last + 1):
            loop.project.annotations.version(int(sample), number)
    for sample in loop.project.taking_back.taken_back():
        loop.project.taking_back.undo([sample], "Ben")
    for file in (loop.project.root / "annotations" / "history").iterdir():
        sample, number = map(int, file.stem.split("-"))
        loop.project.annotations.version(sample, number)


def _simulate(loop: Loop, out: Path) -> None:
    """Let the references answer."""
    from alunet.loop.oracle import Oracle

    Oracle(loop.project).counts(loop.project.pool)


USES: dict[str, tuple[Use, ...]] = {
    "label map": (_next_annotation, _export_labels, _read_to_train),
    "annotation row": (_next_annotation, _export_labels, _read_to_train),
    "version": (_look_at_versions,),
    "image": (_next_annotation, _export_labels, _read_to_train),
    "weights": (_predict,),
    "reference": (_simulate,),
}


def play(
    root: Path, kind: str, truth: dict[str, np.ndarray], chance: random.Random, out: Path
) -> list[str]:
    """Use a project with a flipped bit; return what went wrong."""
    forget_digests()  # a bit flips while nobody looks: a process that starts afterwards reads it
    use, refused, drawn = chance.choice(USES[kind]), False, None
    with Project.open(root) as project:
        before = project.events.newest()
        try:
            drawn = use(loop_of(project), out)
        except InputError:
            refused = True
        events = [event for _, event in project.events.after(before) if event.kind == "repaired"]
        problems = [] if refused or events else ["missed"]
        if kind in HEALED and (refused or check(project, ignore_events).damages):
            problems.append("not healed")
        new = {name: np.zeros(SHAPE, bool) for name in truth}
        for sample in drawn or ():
            new[project.pool.case_name(sample)][project.pool.raw_slices(sample)] = True
    now = label_maps(root)
    wrong = any((now[name] != truth[name])[~new[name]].any() for name in truth if not refused)
    if wrong and use is not _look_at_versions:  # that brings back what was taken back
        problems.append("spread")
    shutil.rmtree(out, ignore_errors=True)
    return problems
