"""One corpus of all forms of files that are read, and one way to spoil them.

A spoiled file is given to `alunet add` or `alunet annotate`, as a person would, in a child process:
a reader that crashes ends the child alone. Run more of them than the tests do:

    python ALUNetSlicer/Testing/engine/fuzzing.py 500
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
for _folder in (HERE, HERE.parent, HERE.parents[1]):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

import hostile  # noqa: E402
import numpy as np  # noqa: E402
from fuzz_corpus import ENTRIES, Entry, make_corpus  # noqa: E402

SLOW = 20.0  # seconds of a processor for one file
_PATIENCE = 120.0  # seconds until a child that says nothing is ended; a busy computer is slow
_MEMORY = 8 << 30  # bytes for a child
_ODD = (b"0", b"-1", b"nan", b"inf", b"1e38", b"65536", b"99999999999", b"", b"0.0000001", b"a")
_HEADER = 400  # bytes in which most of the changes are


@dataclass(frozen=True)
class Outcome:
    """What became of a spoiled file.

    Attributes:
        kind: "taken", "refused", or what must not be: "crash", "hang", "defect", "changed", "bad",
            "foreign".
        words: the last line, or the reason.
    """

    seed: int
    entry: str
    file: str
    kind: str
    words: str = ""

    @property
    def fine(self) -> bool:
        """Whether it was read, or refused in one line."""
        return self.kind in ("taken", "refused")


# --- what is spoiled ------------------------------------------------------------------------------


def mutant(content: bytes, rng: np.random.Generator, first: int = 0) -> bytes:
    """Some bytes or numbers changed, cut out, doubled or cut off, mostly where the header is.

    Args:
        first: nothing before this byte is changed.
    """
    made = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if len(made) < first + 8:
            break
        end = min(len(made), first + _HEADER) if rng.random() < 0.7 else len(made)
        place = int(rng.integers(first, end))
        kind = int(rng.integers(0, 7))
        if kind == 0:
            made[place] = int(rng.integers(0, 256))
        elif kind == 1:
            made[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            del made[place : place + int(rng.integers(1, 12))]
        elif kind == 3:
            made[place:place] = made[place : place + int(rng.integers(1, 40))]
        elif kind == 4:
            _another_number(made, rng)
        elif kind == 5:
            extreme = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f")
            made[place : place + 4] = extreme[int(rng.integers(0, 4))]
        elif rng.random() < 0.3:
            del made[place:]
    return bytes(made)


def _another_number(made: bytearray, rng: np.random.Generator) -> None:
    """Put an odd value in place of a number that is written in letters."""
    found = list(re.finditer(rb"(?<![\w.])-?\d+(\.\d+)?", bytes(made[:4096])))
    if found:
        match = found[int(rng.integers(0, len(found)))]
        made[match.start() : match.end()] = _ODD[int(rng.integers(0, len(_ODD)))]


def spoil(folder: Path, entry: Entry, rng: np.random.Generator) -> str:
    """Change one file of an entry; returns its name."""
    name = entry.spoiled[int(rng.integers(0, len(entry.spoiled)))]
    file = folder / name
    content = file.read_bytes()
    if name.endswith(".gz") and rng.random() < 0.7:
        content = gzip.compress(mutant(gzip.decompress(content), rng), 1)
    else:
        content = mutant(content, rng, 128 if name.endswith(".dcm") else 0)
    file.write_bytes(content)
    return name


# --- one file -------------------------------------------------------------------------------------


def try_one(corpus: Path, work: Path, seed: int) -> Outcome:
    """Spoil a file and give it to the command; see `Outcome`."""
    entry, rng = ENTRIES[seed % len(ENTRIES)], np.random.default_rng(seed)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    given = shutil.copytree(corpus / entry.name, work / entry.name)
    project = shutil.copytree(corpus / "project", work / "project")
    name, before = spoil(given, entry, rng), project_content(project)
    words = ["add", str(project), str(given / entry.given)]
    if entry.label:
        words = ["annotate", *words[1:], "--case", "base", "--all-slices"]
    start = time.process_time()
    code, text = run_command(words)
    kind, said = judge(code, text, project, before)
    if time.process_time() - start > SLOW:
        kind, said = "hang", f"{time.process_time() - start:.0f} s"
    return Outcome(seed, entry.name, name, kind, said)


def try_hostile(corpus: Path, work: Path, number: int) -> Outcome:
    """Give a hostile file to `alunet add` (even numbers) or `alunet annotate`; see `Outcome`."""
    place = corpus / "hostile"
    files = json.loads((place / "files.json").read_text(encoding="utf-8"))
    file = place / files[number // 2]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    project = shutil.copytree(corpus / "project", work / "project")
    before = project_content(project)
    words = ["add", str(project), str(file)]
    if number % 2:
        words = ["annotate", *words[1:], "--case", "base", "--all-slices"]
    code, text = run_command(words)
    kind, said = judge(code, text, project, before)
    if hostile.holds_secret(project) or hostile.SECRET.decode() in text:
        kind, said = "foreign", "bytes of another file came back"
    return Outcome(number, words[0], files[number // 2], kind, said)


def make_hostile(corpus: Path) -> int:
    """Write the hostile files into the corpus; return how many attempts they are."""
    place = corpus / "hostile"
    place.mkdir()
    files = hostile.hostile_files(place, hostile.make_canary(place))
    names = [file.relative_to(place).as_posix() for file in files]
    (place / "files.json").write_text(json.dumps(names), encoding="utf-8")
    return 2 * len(files)


def run_command(words: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process; its exit code, and all that it says."""
    from unittest import mock

    from alunet.cli import main

    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["alunet", *words]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        return main(), said.getvalue()


def judge(code: int, text: str, project: Path, before: dict[str, bytes]) -> tuple[str, str]:
    """Say what became of a file: kind and words of `Outcome`."""
    last = text.strip().splitlines()[-1] if text.strip() else ""
    if code == 0:
        wrong = _wrong_in(project)
        return ("bad", wrong) if wrong else ("taken", last)
    if code != 2 or "Traceback" in text or text.count("alunet: ") != 1:
        log = re.search(r"The whole story is in (\S+)", text)
        story = Path(log.group(1)).read_text(encoding="utf-8") if log else text
        return "defect", f"[{code}] {story[-1500:]}"
    if not last.startswith("alunet: "):
        return "defect", text[-500:]
    after = project_content(project)
    if after != before:
        changed = {n for n in {*after, *before} if after.get(n) != before.get(n)}
        return "changed", f"{sorted(changed)}: {last}"
    return "refused", last


def project_content(project: Path) -> dict[str, bytes]:
    """All files of a project but its lock, and what the database keeps beside itself."""
    passing = ("lock", "project.db-wal", "project.db-shm")
    return {
        str(file.relative_to(project)): file.read_bytes() if file.is_file() else b""
        for file in sorted(project.rglob("*"))
        if file.name not in passing and file.name != "locks" and file.suffix != ".lock"
    }


def _wrong_in(project: Path) -> str:
    """What is wrong with a project that took a file; empty where nothing is."""
    import SimpleITK as sitk

    from alunet.imaging.reading import read_image
    from alunet.project import Project

    with Project.open(project) as opened:
        for case in opened.cases.all():
            for image in case.images:
                if not np.isfinite(sitk.GetArrayFromImage(read_image(image))).all():
                    return f"{image.name} has voxels that are not finite"
        values = set(np.unique(opened.annotations.read("base")).tolist())
        return "" if values <= {0, 1, 2, 255} else f"annotated values {sorted(values)}"


# --- many -----------------------------------------------------------------------------------------


def run_many(corpus: Path, work: Path, seeds: range, what: str = "mutant") -> Iterator[Outcome]:
    """Try one mutant for each seed in child processes; a child that crashes or hangs is replaced.

    Args:
        what: "mutant", or "hostile": then the seeds are numbers of `try_hostile`.

    Yields:
        Their outcomes, in order.
    """
    left = seeds
    while left:
        with _Child(corpus, work, left, what) as child:
            while left:
                line = child.line()
                if line is None:
                    yield _crashed(child, left[0], what)
                else:
                    yield Outcome(**json.loads(line))
                left = left[1:]
                if line is None:
                    break


def _crashed(child: _Child, seed: int, what: str) -> Outcome:
    name = ENTRIES[seed % len(ENTRIES)].name if what == "mutant" else what
    code = child.end()
    if code is None:
        return Outcome(seed, name, "", "hang", f"nothing in {_PATIENCE:g} s")
    return Outcome(seed, name, "", "crash", f"the process ended with {code}")


class _Child:
    """A process that tries seeds one after the other, a line of JSON for each."""

    def __init__(self, corpus: Path, work: Path, seeds: range, what: str) -> None:
        words = [sys.executable, __file__, "--child", corpus, work, seeds.start, seeds.stop, what]
        self._process = subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def line(self) -> str | None:
        """Return the next line; None where there is none within the time."""
        try:
            return self._lines.get(timeout=_PATIENCE)
        except queue.Empty:
            return None

    def end(self) -> int | None:
        """Return the exit code; None where it had to be ended."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *details: object) -> None:
        self.end()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _child(corpus: Path, work: Path, seeds: range, what: str) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    attempt = try_one if what == "mutant" else try_hostile
    for seed in seeds:
        _say(json.dumps(asdict(attempt(corpus, work, seed))))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(words: Sequence[str]) -> int:
    """Try so many seeds, and print what must not be."""
    if words[0] == "--child":
        _child(Path(words[1]), Path(words[2]), range(int(words[3]), int(words[4])), words[5])
        return 0
    first = int(words[1]) if len(words) > 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder) / "corpus")
        counts: dict[str, int] = {}
        for outcome in run_many(corpus, Path(folder) / "work", range(first, first + int(words[0]))):
            counts[outcome.kind] = counts.get(outcome.kind, 0) + 1
            if not outcome.fine:
                _say(f"{outcome.seed} {outcome.entry} {outcome.file}: {outcome.kind}")
                _say(f"    {outcome.words}")
    _say(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return int(any(kind not in ("taken", "refused") for kind in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
