"""The engine on the person's own computer, which reads and writes the person's own files: one
command of it as a child process.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from alunet.agent.connections.starting import own_environment
from alunet.agent.http_transport import Cancel
from alunet.agent.install import run_with_parent
from alunet.agent.transfer import Progress
from alunet.errors import Cancelled, EngineError, InputError
from alunet.schema import (
    IMAGE_ENDINGS,
    ConvertedImage,
    FolderListing,
    WrittenSegmentations,
    from_json,
)
from alunet.schema.processes import module_command

Answer = TypeVar("Answer")
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class LocalCommands:
    """How the engine on this computer is started: arguments of each call that needs it.

    Attributes:
        local_python: of its environment; empty for the agent's own.
        local_environment: variables for it; None: those of the agent.
    """

    local_python: str = ""
    local_environment: dict[str, str] | None = field(default=None, repr=False)

    def read_folder(
        self, folder: Path, channels: int, series: str, progress: Progress, cancel: Cancel
    ) -> FolderListing:
        """List the cases of a folder; see `alunet folder --help`.

        Raises:
            AlunetError: it cannot be read, with the reason; or it was stopped.
        """
        words = ["folder", "--channels", str(channels), "--series", series, "--", str(folder)]
        return self._ask(FolderListing, words, progress, cancel)

    def convert(
        self, image: Path, target: Path, progress: Progress, cancel: Cancel
    ) -> ConvertedImage:
        """Write an image that a service does not take as one that it takes; DICOM is one."""
        words = ["convert", "--", str(image), str(target)]
        return self._ask(ConvertedImage, words, progress, cancel)

    def write_segmentations(
        self, package: Path, source: Path, folder: Path, progress: Progress, cancel: Cancel
    ) -> WrittenSegmentations:
        """Write DICOM SEG objects; see `alunet dicom-seg --help`."""
        words = ["dicom-seg", "--source", str(source), "--out", str(folder), "--", str(package)]
        return self._ask(WrittenSegmentations, words, progress, cancel)

    def _ask(
        self, kind: type[Answer], words: Sequence[str], progress: Progress, cancel: Cancel
    ) -> Answer:
        """Run a command that prints lines of JSON; its last one is the answer."""
        python = self.local_python or sys.executable
        command = module_command(python, run_with_parent.__name__, "alunet")
        try:
            child = subprocess.Popen(
                [*command, words[0], "--json", *words[1:]],
                stdin=subprocess.PIPE,  # the child ends when it is closed
                stdout=subprocess.PIPE,
                env=self.local_environment or own_environment(python),
            )
        except OSError as error:
            raise EngineError(
                f"{python} cannot be started: {error.strerror}.", "Choose the engine's Python."
            ) from error
        with child:
            try:
                result = _result(child, progress, cancel)
            finally:
                child.kill()
        try:
            return from_json(kind, result)
        except ValueError as error:
            raise EngineError(
                f"The engine on this computer is of another version: {error}.", "Update it."
            ) from error


def is_taken(file: Path) -> bool:
    """Whether a service takes an image file as it is."""
    return file.name.lower().endswith(IMAGE_ENDINGS)


def _result(child: subprocess.Popen[bytes], progress: Progress, cancel: Cancel) -> Any:
    """What the child answers.

    Raises:
        AlunetError: it gives an error, or ends without an answer; or it was stopped.
    """
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(child.stdout, lines.put), daemon=True).start()
    words = "it says nothing"
    while True:
        if cancel.event.is_set():
            raise Cancelled("Stopped.", "Nothing was changed.")
        try:
            line = lines.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            continue
        if not line:
            raise EngineError(
                f"The engine on this computer gave no answer: {words}",
                "Install it again, or choose its environment.",
            )
        kind, data = _said(line)
        if kind == "error":
            raise InputError(str(data.get("message")), str(data.get("hint")))
        if kind == "result":
            return data
        if kind == "progress":
            total = data.get("total") or 0
            progress(str(data.get("phase")), int(data.get("done") or 0), int(total))
        elif not kind and line.strip() and not line.startswith(run_with_parent.EXIT.encode()):
            words = line.decode("utf-8", "replace").strip()


def _read(stream: IO[bytes], put: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            put(line)
    put(b"")


def _said(line: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and content of a line; no kind for what a library or Python itself prints."""
    try:
        content = json.loads(line)
        return str(content["kind"]), dict(content["data"])
    except (ValueError, LookupError, TypeError):
        return "", {}
