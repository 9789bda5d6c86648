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
from alunet.loop.annotation_loop import Setup, create
from alunet.project import Project
from alunet.project.refusals import ChannelsFixed
from alunet.schema import Code, ProjectInfo, ProjectRequest
from alunet.serve.catalog import Catalog, describe
from alunet.serve.problems import Refused
from alunet.serve.settings import ServiceSettings
from alunet.serve.status import status
from alunet.storage.locks import InUse

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_NAME_LENGTH = 100
_PATIENCE_SECONDS = 10.0


class Projects:
    """All projects of a service, by id.

    Args:
        settings: of the service.

    Attributes:
        catalog: what is known of them without opening each.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._making = threading.Lock()
        self.catalog = Catalog(settings.root)

    def ids(self) -> list[str]:
        """Ids of the projects, sorted."""
        with os.scandir(self._settings.root) as entries:
            found = [entry for entry in entries if _ID.fullmatch(entry.name)]
        return sorted(entry.name for entry in found if Path(entry.path, "project.db").is_file())

    def folder(self, project: str) -> Path:
        """Folder of a project; raises Refused where there is none."""
        folder = self._settings.root / project
        if not _ID.fullmatch(project) or not (folder / "project.db").is_file():
            raise Refused(
                Code.NOT_FOUND,
                f"There is no project '{project[:60]}'.",
                "See the list of projects.",
            )
        return folder

    @contextlib.contextmanager
    def open(self, project: str) -> Iterator[Project]:
        """The project for short work beside others (see `Project.open`, `shared`)."""
        opened = Project.open(self.folder(project), shared=True)
        with opened:
            yield opened

    @contextlib.contextmanager
    def own(self, project: str) -> Iterator[Project]:
        """The project for work that nobody else may do meanwhile; raises Refused where a job has
        it.
        """
        with self._wait(self.folder(project)) as opened:
            yield opened

    def _wait(self, folder: Path) -> Project:
        """Opens a project that other requests may have for a moment, and jobs for long."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return Project.open(folder)
            except InUse as error:
                if time.monotonic() > end:
                    hint = "Wait until its job has ended, or cancel that."
                    raise Refused(
                        Code.BUSY, f"The project '{folder.name}' is at work.", hint
                    ) from error
            time.sleep(0.05)

    def create(self, request: ProjectRequest) -> tuple[ProjectInfo, bool]:
        """The project of that request, and whether it is new.

        Raises:
            Refused: another project has the name, or there are too many.
            InputError: labels, channels or recipe are impossible.
        """
        _check(request)
        with self._making:
            known = self._named(request.name, identifiers := self.ids())
            if known is None and len(identifiers) >= self._settings.limits.projects:
                raise Refused(
                    Code.TOO_MANY,
                    "The service has too many projects.",
                    "Move some of them elsewhere.",
                )
            name = known or identity(request.name)
            with self._made(self._settings.root / name, request, known is None) as project:
                return describe_project(name, project), known is None

    def _named(self, name: str, identifiers: list[str]) -> str | None:
        """Id of the project that has this name."""
        for identifier in identifiers:
            own = self.catalog.name(identifier)
            if own is None:
                with self.open(identifier) as project:
                    own = project.name
            if own == name:
                return identifier
        return None

    def listed(self) -> list[ProjectInfo]:
        """All projects, by id."""
        return [self._described(identifier) for identifier in self.ids()]

    def _described(self, identifier: str) -> ProjectInfo:
        if (known := self.catalog.find(identifier)) is not None:
            return known.info
        with self.open(identifier) as project:
            return describe_project(identifier, project)

    def _made(self, folder: Path, request: ProjectRequest, fresh: bool) -> Project:
        labels = {
            "background": 0,
            **{label: value for value, label in enumerate(request.labels, 1)},
        }
        setup = Setup(
            request.preset,
            request.epochs,
            request.iterations,
            request.seed,
            self._settings.device,
            request.train_for,
        )
        if not fresh:
            with Project.open(folder, shared=True) as project:
                known = (
                    project.name,
                    project.labels,
                    project.channels,
                    asdict(Setup(**(project.settings.annotation or {}))),
                    project.settings.unit,
                )
            if known[2] != request.channels and known[1] == labels:
                raise ChannelsFixed(request.name, known[2], request.channels)
            if known != (
                request.name,
                labels,
                request.channels,
                asdict(setup),
                request.unit,
            ):
                hint = "Open that one, or choose another name."
                raise Refused(Code.EXISTS, f"There is another project '{request.name}'.", hint)
            return Project.open(folder, shared=True)
        try:
            return create(
                folder,
                name=request.name,
                labels=labels,
                channels=request.channels,
                setup=setup,
                unit=request.unit,
            )
        except BaseException:  # whatever happened, no half project stays
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _check(request: ProjectRequest) -> None:
    if not request.name.strip() or len(request.name) > _NAME_LENGTH:
        raise InputError(
            "A project needs a name.", f"Give one of at most {_NAME_LENGTH} characters."
        )
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
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))[:48].strip("-") or "p"
    return f"{words}-{secrets.token_hex(4)}"


def describe_project(identifier: str, project: Project, whole: bool = False) -> ProjectInfo:
    """A project as clients see it; its status where `whole` is set."""
    # before its status: what happens meanwhile is told twice rather than never
    info = describe(identifier, project.settings, project.events, project.cases.structures)
    return replace(info, status=status(project)) if whole else info
