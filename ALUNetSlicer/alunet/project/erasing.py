"""Erase a case for good: its files first, then what the database says of it.

A mark in the database comes before everything else, and the record that a case was erased after
everything else. What a crash left is finished when the project is opened for writing. Rows of
samples stay, because arrays are indexed by them; they hold numbers of slices and boxes alone.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alunet.project.annotations import Annotations
from alunet.project.cases import Cases
from alunet.project.events import Events
from alunet.project.learned import Learned
from alunet.project.redaction import Redaction
from alunet.project.samples import Samples
from alunet.storage.database import Database
from alunet.storage.files import atomic_path, written_name
from alunet.storage.locks import InUse

Copies = Callable[[Sequence[str]], None]
"""Removes copies outside of the project; gets the uploads that the case came from."""
_TEXTS = (".json", ".log", ".txt", ".csv", ".md", ".html")
_NAMED_BY_CASE = ("images", "labels", "annotations", "nnunet", "proposals", "uncertainty", "locks")
"""Folders whose files are named by cases."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Erased:
    """What is left of an erased case.

    Attributes:
        name: the neutral one.
        says: sentences for people.
    """

    name: str
    says: list[str]


class Erasing:
    """Erases cases of the project in `root`, which is open for this process alone.

    Args:
        data: the folder that holds images/, labels/ and nnunet/; what is another project's stays.
    """

    def __init__(
        self,
        database: Database,
        root: Path,
        data: Path,
        cases: Cases,
        samples: Samples,
        annotations: Annotations,
        learned: Learned,
        events: Events,
    ) -> None:
        self._db, self._root, self._data, self._own = database, root, data, data == root
        self._cases, self._samples = cases, samples
        self._annotations, self._learned, self._events = annotations, learned, events
        self._rewrite_seconds = 20.0

    def erase(self, name: str, author: str, copies: Copies) -> Erased:
        """Erase a case and everything made of it; when this returns it is gone from the disk.

        Args:
            copies: called when the case is not given out any more.

        Returns:
            The neutral name that stands for it from now on, and what a person should know.

        Raises:
            InUse: another program reads the database all the time; it is finished later.
            InputError: there is no such case.
        """
        self._db.check_writable()
        self._cases.row(name)
        self._db.execute(
            "UPDATE cases SET state = 'erasing', changed = ?, changed_by = ? WHERE name = ?",
            (time.time(), author or None, name),
        )
        request = self._db.value("SELECT value FROM meta WHERE key = ?", (f"case {name}",))
        copies(_uploads(None if request is None else json.loads(str(request))))
        learned = self._learned.of_case(name)
        neutral, exports = self._erase(name, self._rewrite_seconds)
        return Erased(neutral, self._says(neutral, exports, learned))

    def _says(self, neutral: str, exports: int, learned: int) -> list[str]:
        says = [f"The case is erased for good; the record of that calls it '{neutral}'."]
        if exports:
            says.append(f"{exports} exports kept here that held it were removed.")
        if not self._own:
            says.append(f"The images belong to {self._data}: erase it there, too.")
        says.append("Backups, copies of the project and downloads still have it: erase it there.")
        if learned:
            says.append(
                "Models that learned from it keep what they learned; the next training starts anew."
            )
        return says

    def finish(self) -> None:
        """Finish what a crash interrupted; where others read the database, the next time."""
        for (name,) in self._db.rows("SELECT name FROM cases WHERE state = 'erasing'"):
            with contextlib.suppress(InUse):
                self._erase(name, seconds=0.5)

    def _erase(self, name: str, seconds: float) -> tuple[str, int]:
        neutral, exports = name, 0
        if self._db.value("SELECT images FROM cases WHERE name = ?", (name,)) != "[]":
            neutral = self._neutral_name()
            redaction = self._redaction(name, neutral)
            with self._annotations.case_lock(name):
                exports = self._remove_files(redaction)
                self._redact_texts(redaction)
            lock = self._root / "locks" / f"{name}.lock"
            lock.unlink(missing_ok=True)
            self._redact_rows(redaction)
            lock.unlink(missing_ok=True)  # of those who waited for it until now
            self._samples.forget_pool()
        # what was deleted is still in the free parts of the database and of its log
        self._db.rewrite(seconds)
        with self._db.transaction():
            author = self._db.value("SELECT changed_by FROM cases WHERE name = ?", (neutral,))
            self._db.execute("UPDATE cases SET state = 'erased' WHERE name = ?", (neutral,))
            rows = self._db.rows(
                "SELECT id FROM samples WHERE case_name = ? ORDER BY id", (neutral,)
            )
            data = {"case": neutral, "state": "erased", "author": author or ""}
            self._events.add("case", {**data, "samples": [sample for (sample,) in rows]})
        return neutral, exports

    def _neutral_name(self) -> str:
        taken = {name.casefold() for (name,) in self._db.rows("SELECT name FROM cases")}
        return next(
            name for name in (f"erased-{i}" for i in range(1, len(taken) + 2)) if name not in taken
        )

    def _redaction(self, name: str, neutral: str) -> Redaction:
        columns = "content, stamp, dicom, source"
        row = self._db.rows(f"SELECT {columns} FROM cases WHERE name = ?", (name,))[0]
        others = [own for (own,) in self._db.rows("SELECT name FROM cases")]
        return Redaction(name, neutral, _texts_of(row), others)

    # --- files ------------------------------------------------------------------------------------

    def _remove_files(self, redaction: Redaction) -> int:
        name = redaction.name
        images, label = self._db.rows("SELECT images, label FROM cases WHERE name = ?", (name,))[0]
        if self._own:
            for file in json.loads(images):
                (self._root / "images" / file).unlink(missing_ok=True)
            if label is not None:
                (self._root / "labels" / label).unlink(missing_ok=True)
        rows = self._db.rows("SELECT id FROM samples WHERE case_name = ?", (name,))
        samples = {str(sample) for (sample,) in rows}
        for file in (self._annotations.maps.folder / "history").glob("*.npz"):
            if (written_name(file) or file.name).partition("-")[0] in samples:
                file.unlink(missing_ok=True)
        for folder in _NAMED_BY_CASE:
            for place in (self._root / folder, *(self._root / "rounds").glob(f"*/{folder}")):
                for file in _files(place):
                    name = written_name(file) or file.name
                    if redaction.owns(name) and file.suffix != ".lock":
                        file.unlink(missing_ok=True)
        self._remove_derived(redaction.name)
        return self._remove_outputs(redaction)

    def _remove_derived(self, name: str) -> None:
        """Remove what is made of all cases together and can be made again."""
        for derived in ("cache", "damaged"):
            shutil.rmtree(self._root / derived, ignore_errors=True)
        for file in [
            *self._root.glob("rounds/*/pool.npz"),
            *self._root.glob("rounds/*/question.npz"),
        ]:
            file.unlink(missing_ok=True)
        learned = self._db.value(
            "SELECT 1 FROM learned WHERE sample_id IN (SELECT id FROM samples WHERE case_name = ?)",
            (name,),
        )
        for folder in self._root.glob("rounds/*/training") if learned else ():
            shutil.rmtree(folder, ignore_errors=True)

    def _remove_outputs(self, redaction: Redaction) -> int:
        """Remove files of jobs that hold the case; return how many."""
        jobs, removed = self._root / "jobs", 0
        for folder in [path for path in jobs.glob("*") if path.is_dir()]:
            shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed
        for file in _files(jobs):
            if file.suffix in (*_TEXTS, ".lock") or not _holds(file, redaction):
                continue
            file.unlink(missing_ok=True)
            self._db.execute("UPDATE jobs SET result = NULL WHERE result = ?", (file.name,))
            removed += 1
        return removed

    def _redact_texts(self, redaction: Redaction) -> None:
        for file in _files(self._root):
            if file.suffix not in _TEXTS:
                continue
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
            new = redaction.document(text) if file.suffix == ".json" else redaction.text(text)
            if new != text:
                with atomic_path(file) as part:
                    part.write_text(new, encoding="utf-8", errors="surrogateescape", newline="")

    # --- rows -------------------------------------------------------------------------------------

    def _redact_rows(self, redaction: Redaction) -> None:
        """Take the case out of the database: all of it or nothing."""
        name, neutral = redaction.name, redaction.neutral
        with self._db.transaction():
            self._db.execute("PRAGMA defer_foreign_keys = ON")
            own = "sample_id IN (SELECT id FROM samples WHERE case_name = ?)"
            for table in ("suggestions", "skipped", "annotations", "versions", "work", "leases"):
                self._db.execute(f"DELETE FROM {table} WHERE {own}", (name,))
            for table in ("files", "painted"):
                self._db.execute(f"DELETE FROM {table} WHERE case_name = ?", (name,))
            self._db.execute(
                "UPDATE samples SET state = 'unlabelled', case_name = ? WHERE case_name = ?",
                (neutral, name),
            )
            geometry = self._db.value("SELECT geometry FROM cases WHERE name = ?", (name,))
            if geometry is not None:
                geometry = json.dumps({**json.loads(str(geometry)), "case": neutral})
            self._db.execute(
                "UPDATE cases SET name = ?, images = '[]', label = NULL, voxels = NULL, source = "
                "NULL, content = NULL, stamp = NULL, notes = '[]', dicom = NULL, outdated = 0, "
                "unseen = 0, planning = '[]', learn = 0, silent = '[]', map = NULL, copy = NULL, "
                "geometry = ? WHERE name = ?",
                (neutral, geometry, name),
            )
            self._db.execute("DELETE FROM meta WHERE key = ?", (f"case {name}",))
            self._change("meta", "value", redaction.document, "WHERE key = 'pool'")
            self._change("suggestions", "reason", redaction.text)
            for table, column in (
                ("cases", "notes"),
                ("rounds", "query"),
                ("rounds", "record"),
                ("jobs", "config"),
                ("jobs", "progress"),
                ("jobs", "error"),
                ("events", "data"),
                ("answers", "answer"),
            ):
                self._change(table, column, redaction.document)

    def _change(
        self, table: str, column: str, change: Callable[[str], str], where: str = ""
    ) -> None:
        rows = self._db.rows(f"SELECT rowid, {column} FROM {table} {where}")
        changed = [(change(text), number) for number, text in rows if text is not None]
        old = {number: text for number, text in rows}
        self._db.many(
            f"UPDATE {table} SET {column} = ? WHERE rowid = ?",
            [row for row in changed if row[0] != old[row[1]]],
        )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _uploads(request: Any) -> list[str]:
    if not isinstance(request, dict):
        return []
    return [*request.get("images", []), *([request["label"]] if request.get("label") else [])]


def _texts_of(value: Any) -> Iterator[str]:
    """All texts in the columns of a case, of JSON those within."""
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except ValueError:
            inner = value
        if isinstance(inner, str | int | float) or inner is None:
            yield value
        else:
            yield from _texts_of(inner)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_of(item)


def _holds(file: Path, redaction: Redaction) -> bool:
    """Whether a file that a job made names the case or one of its secrets."""
    if redaction.owns(file.name):
        return True
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename
                if redaction.text(name) != name:
                    return True
                if name.endswith(_TEXTS):
                    text = archive.read(member).decode("utf-8", "replace")
                    if redaction.document(text) != text:
                        return True
    marks = [secret.encode() for secret in redaction.secrets]
    overlap = max(map(len, marks), default=0)
    with file.open("rb") as stream:
        rest = b""
        while block := stream.read(_BLOCK):
            if any(mark in rest + block for mark in marks):
                return True
            rest = block[-overlap:] if overlap else b""
    return False
