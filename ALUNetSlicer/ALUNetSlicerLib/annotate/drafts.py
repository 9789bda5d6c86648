"""Half-done slices on this computer's disk: they outlive a crash of Slicer, with or without a
network.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from alunet.schema import Status
from ALUNetSlicerLib.annotate.worklist import Slice
from ALUNetSlicerLib.engine.failure import Failure
from ALUNetSlicerLib.mrml.slice_geometry import Box
from ALUNetSlicerLib.ports.i18n import tr as _
from ALUNetSlicerLib.ports.protocols import Timer

KEEPING = "draft"
"""What is tried where a draft is kept; see `Failure.about`."""
DRAFT_SECONDS = 10.0
"""How often what is painted is kept on disk while a slice is worked on."""


@dataclass(frozen=True)
class Draft:
    """What somebody painted in a slice and has not handed in yet.

    Attributes:
        labels: of the slice's box, (k, j, i), uint8 or uint16.
        base: version that it corrects, 0 where there was none.
        seconds: spent on it so far.
        item: the slice, by which it is found again when it is in no worklist any more.
        at: when it was painted, seconds since 1970; 0 where that is not known.
    """

    labels: np.ndarray
    base: int
    seconds: float
    item: Slice
    at: float = 0.0


class Autosave:
    """Does something again and again, from `start` to `stop`.

    Args:
        timer: of the main thread.
        save: what is done.
    """

    def __init__(self, timer: Timer, save: Callable[[], None]) -> None:
        self._timer, self._save = timer, save
        self._call_off: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin; the first time is after a while."""
        self.stop()
        self._call_off = self._timer.later(DRAFT_SECONDS, self._again)

    def stop(self) -> None:
        """End it, also where it was not begun."""
        self._call_off()

    def _again(self) -> None:
        self.start()  # first: what fails once is tried again
        self._save()


class Drafts:
    """The drafts of one project.

    Args:
        folder: of all drafts; made where it is missing.
        engine, project: whose; any text.
    """

    def __init__(self, folder: Path, engine: str, project: str) -> None:
        name = hashlib.sha256(f"{engine}\n{project}".encode()).hexdigest()[:16]
        self._folder = folder / name
        self._folder.mkdir(parents=True, exist_ok=True)

    def _file(self, sample: int) -> Path:
        return self._folder / f"{sample}.npz"

    def keep(self, sample: int, draft: Draft) -> None:
        """On disk, whole or not at all, when this returns.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        packed = io.BytesIO()
        about = json.dumps(asdict(draft.item))
        numbers = {"base": draft.base, "seconds": draft.seconds, "at": draft.at}
        np.savez_compressed(packed, labels=draft.labels, item=about, **numbers)
        part = self._folder / f"tmp-{uuid.uuid4().hex}"
        try:
            with part.open("wb") as stream:
                stream.write(packed.getvalue())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self._file(sample))
        finally:
            part.unlink(missing_ok=True)

    def find(self, sample: int) -> Draft | None:
        """The draft of a slice; None where there is none, or none that can be read."""
        try:
            with np.load(self._file(sample), allow_pickle=False) as content:
                base, seconds, item = (
                    int(content["base"]),
                    float(content["seconds"]),
                    json.loads(str(content["item"])),
                )
                at = float(content["at"]) if "at" in content else 0.0
                read = {"box": Box.of(**item["box"]), "status": Status(item["status"])}
                return Draft(content["labels"], base, seconds, Slice(**{**item, **read}), at)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def drop(self, sample: int) -> None:
        """Forget it; where there is none nothing happens."""
        with contextlib.suppress(OSError):
            self._file(sample).unlink(missing_ok=True)

    def mark(self, items: list[Slice]) -> list[Slice]:
        """A worklist with what was begun here, behind the others also what is in no batch any
        more.
        """
        drafts, known = self.samples(), {item.sample for item in items}
        kept = [
            draft.item for draft in map(self.find, sorted(set(drafts) - known)) if draft is not None
        ]
        last = max((item.rank for item in items), default=-1)
        marked = [
            replace(item, status=Status.IN_PROGRESS)
            if item.sample in drafts and item.status == Status.TODO
            else item
            for item in items
        ]
        return marked + [
            replace(
                item, rank=last + place, ahead=True, status=Status.IN_PROGRESS, sent=True, owner=""
            )
            for place, item in enumerate(
                (item for item in kept if item.status != Status.SKIPPED), 1
            )
        ]

    def samples(self) -> list[int]:
        """The slices with a draft, the newest last."""
        files = sorted(self._folder.glob("[0-9]*.npz"), key=lambda file: file.stat().st_mtime_ns)
        return [int(file.stem) for file in files]


def not_kept(error: OSError) -> Failure:
    """Say that a draft could not be kept."""
    message = _("The draft cannot be kept: {why}.").format(why=error.strerror)
    return Failure("disk", message, _("Free space there."), about=KEEPING)
