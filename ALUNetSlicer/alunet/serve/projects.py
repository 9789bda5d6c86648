"""The projects below a service's root: found, made, opened."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from alunet.errors import InputError
from alunet.loop.setup import Setup, create
from alunet.project import Project
from alunet.project.refusals import ChannelsFixed
from alunet.schema import Code, ProjectInfo, ProjectRequest
from alunet.schema.names import PROJECT, composed, usable_name
from alunet.serve.catalog import Catalog, describe
from alunet.serve.problems import Refused
from alunet.serve.settings import ServiceSettings
from alunet.serve.status import status
from alunet.serve.unusable import Known, holds_project, refusal
from alunet.storage.failures import Locked
from alunet.storage.files import sync_folder
from alunet.storage.locks import InUse

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PATIENCE_SECONDS = 10.0
_OPEN_SECONDS, _LIST_SECONDS = 2.0, 0.25
"""How long one request waits for a program that holds a project, and one that looks at all."""


class Projects:
    """All projects of a service, by id.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._making = threading.Lock()
        self.known = Known()
        self.catalog = Catalog(settings.root)

    def ids(self) -> list[str]:
        """Ids of the projects, sorted, also of those that cannot be opened."""
        with os.scandir(self._settings.root) as entries:
            names = [entry.name for entry in entries if _ID.fullmatch(entry.name)]
        return sorted(name for name in names if holds_project(self._settings.root / name))

    def folder(self, project: str) -> Path:
        """Folder of a project; raises Refused where there is none."""
        folder = self._settings.root / project
        if not _ID.fullmatch(project) or not holds_project(folder):
            raise Refused(
                Code.NOT_FOUND,
                f"There is no project '{project[:60]}'.",
                "See the list of projects.",
            )
        return folder

    @contextlib.contextmanager
    def open(self, project: str, wait: float = _OPEN_SECONDS) -> Iterator[Project]:
        """The project for short work beside others (see `Project.open`, `shared`); raises Refused
        where it cannot be opened.

        Args:
            wait: for a program that holds its database.
        """
        with self._open(project, shared=True, wait=wait) as opened:
            yield opened

    def _open(self, identifier: str, *, shared: bool, wait: float = _OPEN_SECONDS) -> Project:
        folder = self.folder(identifier)
        try:
            opened = Project.open(folder, shared=shared, wait=wait)
        except Exception as error:
            if isinstance(error, InUse) and not isinstance(error, Locked):
                raise
            refused = refusal(identifier, error)
            self.known.failed(identifier, refused.problem)
            raise refused from error
        self.known.opened(identifier, opened.name)
        return opened

    def listed(self) -> list[ProjectInfo]:
        """All projects, by id; one that cannot be opened says why, and troubles no other."""
        return [
            info for identifier in self.ids() if (info := self._described(identifier)) is not None
        ]

    def _described(self, identifier: str) -> ProjectInfo | None:
        seen = None if identifier in self.known.problems else self.catalog.find(identifier)
        if seen is not None:
            self.known.names[identifier] = seen.info.name
            return seen.info
        try:
            with self.open(identifier, wait=_LIST_SECONDS) as project:
                return describe_project(identifier, project)
        except Refused as error:
            problem = error.problem
        except Exception as error:  # noqa: BLE001  whatever it is, the others are listed
            problem = refusal(identifier, error).problem
            self.known.failed(identifier, problem)
        if problem.code is Code.NOT_FOUND:  # it went meanwhile
            return None
        name = self.known.names.get(identifier, identifier)
        return ProjectInfo(identifier, name, {}, [], problem=problem)

    @contextlib.contextmanager
    def own(self, project: str) -> Iterator[Project]:
        """The project for work that nobody else may do meanwhile; raises Refused where a job has
        it.
        """
        with self._wait(project) as opened:
            yield opened

    def _wait(self, identifier: str) -> Project:
        """Opens a project that other requests may have for a moment, and jobs for long."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._open(identifier, shared=False)
            except InUse as error:
                if time.monotonic() > end:
                    hint = "Wait until its job has ended, or cancel that."
                    raise Refused(
                        Code.BUSY, f"The project '{identifier}' is at work.", hint
                    ) from error
            time.sleep(0.05)

    def create(self, request: ProjectRequest) -> tuple[ProjectInfo, bool]:
        """The project of that request, and whether it is new.

        Raises:
            Refused: another project has the name, or there are too many.
            InputError: labels, channels or recipe are impossible.
        """
        with self._making:
            known = self._named(request.name, identifiers := self.ids())
            if known is None:
                _check(request)
            if known is None and len(identifiers) >= self._settings.limits.projects:
                raise Refused(
                    Code.TOO_MANY,
                    "The service has too many projects.",
                    "Move some of them elsewhere.",
                )
            name = known or identity(request.name)
            self._make(name, request, known is None)
            with self.open(name) as project:
                return describe_project(name, project), known is None

    def _named(self, name: str, identifiers: list[str]) -> str | None:
        """Id of the project that has this name.

        Raises:
            Refused: a project that may have it cannot be opened for the moment.
        """
        for identifier in identifiers:
            try:
                found = self.catalog.name(identifier)
                if found is None:
                    with self.open(identifier, wait=_LIST_SECONDS) as project:
                        found = project.name
            except Refused as error:
                found = self.known.names.get(identifier, "")
                passes = error.problem.code is Code.LOCKED and identifier[:-9] == _words(name)
                if passes or composed(found) == name:
                    raise
            if composed(found) == name:
                return identifier
        return None

    def clear_making(self) -> None:
        """Remove what is left of projects whose creation was killed."""
        with self._making:
            shutil.rmtree(self._place, ignore_errors=True)

    @property
    def _place(self) -> Path:
        return self._settings.own / "making"

    def _make(self, identifier: str, request: ProjectRequest, fresh: bool) -> None:
        """Make a project elsewhere and move it into place when it is whole; or compare it."""
        labels = {"background": 0, **{name: n for n, name in enumerate(request.labels, 1)}}
        length = request.epochs, request.iterations, request.seed
        setup = Setup(request.preset, *length, self._settings.device, request.train_for)
        if not fresh:
            self._compare(identifier, request, labels, setup)
            return
        shutil.rmtree(self._place, ignore_errors=True)  # of those that were killed
        self._place.mkdir(parents=True)
        try:
            made = create(
                self._place / identifier,
                name=request.name,
                labels=labels,
                channels=request.channels,
                setup=setup,
                unit=request.unit,
            )
            made.close()
            made.root.replace(self._settings.root / identifier)
            sync_folder(self._settings.root)
        finally:  # whatever happened, no half project stays
            shutil.rmtree(self._place, ignore_errors=True)

    def _compare(
        self, identifier: str, request: ProjectRequest, labels: dict[str, int], setup: Setup
    ) -> None:
        """Raise Refused where a project is another one than the one that is asked for."""
        with self.open(identifier) as project:
            chosen = asdict(Setup(**(project.settings.annotation or {}))), project.settings.unit
            name, own, channels = project.name, project.labels, project.channels
        if channels != request.channels and own == labels:
            raise ChannelsFixed(request.name, channels, request.channels)
        asked = (request.name, labels, request.channels, asdict(setup), request.unit)
        if (name, own, channels, *chosen) != asked:
            hint = "Open that one, or choose another name."
            raise Refused(Code.EXISTS, f"There is another project '{request.name}'.", hint)


def _check(request: ProjectRequest) -> None:
    usable_name(request.name, PROJECT)
    if len(request.labels) < 1:
        raise InputError(
            "A project needs at least one structure.", 'Name it, for instance "liver".'
        )
    if len(set(request.labels)) != len(request.labels) or "background" in request.labels:
        raise InputError(
            "The structures must have different names.", "Leave out background; it is there."
        )


def identity(name: str) -> str:
    """A new id for a project of that name: its letters and digits of ASCII, and some of chance.

    An id never comes twice: what a viewer has kept of a project that was removed must not be taken
    for a part of the next one of that name.
    """
    return f"{_words(name)}-{secrets.token_hex(4)}"


def _words(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))[:48].strip("-") or "p"


def describe_project(identifier: str, project: Project, whole: bool = False) -> ProjectInfo:
    """A project as clients see it; its status where `whole` is set."""
    # before its status: what happens meanwhile is told twice rather than never
    info = describe(identifier, project.settings, project.events, project.cases.structures)
    return replace(info, status=status(project)) if whole else info
