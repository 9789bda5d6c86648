"""`alunet check`, `repair`, `backup` and `restore`: a project that stays what was stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alunet.cli.project import PROJECT
from alunet.errors import EngineError, InputError

if TYPE_CHECKING:
    from alunet.project import Project
    from alunet.project.checking import Damage

CHECK = """Compare all of a project with what was stored: the database, what it says of annotations,
and every image, reference, label map, version and weight with its hash.

    alunet check liver

The exit code is 0 where all is as it was stored, 1 where something is damaged. Nothing is
repaired. Others may work in the project meanwhile; an engine checks its projects by itself
("alunet serve --check-every").

    alunet check liver --json
"""

REPAIR = """Put right what "alunet check" finds, where something else still holds it.

A label map is rebuilt from its versions, a version from the label map, an image from the file that
it was added from; of a row of the database a single wrong bit is turned back. Only what is proven
by its hash is put there, and what was damaged is kept in the folder "damaged" of the project. What
cannot be repaired is named, with what to do.

    alunet repair liver

[bold]Only say what would be done:[/bold]

    alunet repair liver --dry-run
"""

BACKUP = """Write a project into one file. It may be in use, and annotations may come in meanwhile.

    alunet backup liver liver-2026-11-30.zip

In it are the database, images, references, label maps, all versions, the plan, and the weights of
the newest model: all that is needed to go on, without training anew. Left out is what is computed
again: preprocessed images, proposals, caches, files of jobs, and the weights of earlier rounds.
"""

RESTORE = """Make the project of a backup in a new folder.

    alunet restore liver-2026-11-30.zip liver

    alunet check liver

"alunet plan" preprocesses its images again.
"""


def check(
    project: PROJECT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Compare a project with what was stored; `CHECK` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.project.checking import check as check_project

    with at_work() as emit, _opened(project) as opened:
        found = check_project(opened, emit)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1, ensure_ascii=False))
        return 1 if found.damages else 0
    for damage in found.damages:
        typer.echo(f"{damage.text} {_what_to_do(damage, project)}")
    for note in found.notes:
        typer.echo(f"Note: {note}")
    count = len(found.damages)
    verdict = "all as it was stored" if not count else f"{count} damaged"
    typer.echo(f"{project}: {found.files:,} files and {found.rows:,} rows; {verdict}.")
    return 1 if count else 0


def repair(
    project: PROJECT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
) -> int:
    """Put right what is damaged; `REPAIR` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.project import Project
    from alunet.project.checking import check as check_project
    from alunet.project.repairing import repair as repair_project

    if dry_run:
        with at_work() as emit, _opened(project) as opened:
            found = check_project(opened, emit).damages
        for damage in found:
            typer.echo(f"{damage.text} {_what_to_do(damage, project, 'It would be: ')}")
        typer.echo(f"{sum(bool(damage.remedy) for damage in found)} of {len(found)} repairable.")
        return 1 if found else 0
    _check_database(project)
    with at_work() as emit, Project.open(project) as opened:
        done = repair_project(opened, emit)
    for damage in done.done:
        typer.echo(f"{damage.text} Repaired: {damage.remedy or 'it is sound again'}.")
    for damage in done.left:
        typer.echo(f"{damage.text} It cannot be repaired. {damage.hint}")
    typer.echo(f"{project}: {len(done.done)} repaired, {len(done.left)} left.")
    return 1 if done.left else 0


def _what_to_do(damage: Damage, project: Path, words: str = "") -> str:
    if not damage.remedy:
        return damage.hint
    return f"{words}{damage.remedy}." if words else f'Type: alunet repair "{project}"'


def backup(
    project: PROJECT,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file to write.")],
) -> None:
    """Write a project into one file; `BACKUP` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.project.backup import back_up

    with at_work() as emit, _opened(project) as opened:
        made = back_up(opened, file, emit)
    typer.echo(f"{made.file}: {made.files:,} files, {made.size / 1e6:,.1f} MB.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file of a backup.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
) -> None:
    """Make the project of a backup; `RESTORE` is what `--help` shows."""
    from alunet.cli.progress import at_work
    from alunet.project.backup import restore as restore_project

    with at_work() as emit, restore_project(file, folder, emit) as made:
        cases = len(made.cases.all())
    typer.echo(f"Project {made.name} in {folder}: {cases} cases.")


def _check_database(folder: Path) -> None:
    """Raise EngineError where SQLite finds the database damaged: nothing it says counts then."""
    from alunet.project.checking import database_damage
    from alunet.storage.database import is_sound

    if (folder / "project.db").is_file() and not is_sound(folder / "project.db"):
        damage = database_damage(folder)
        raise EngineError(damage.text, damage.hint)


@contextmanager
def _opened(folder: Path) -> Iterator[Project]:
    """A project beside others that use it; where it cannot be written, for reading only.

    Raises:
        EngineError: its database is damaged.
    """
    from alunet.project import Project

    _check_database(folder)

    try:
        opened = Project.open(folder, shared=True)
    except (InputError, OSError):
        opened = Project.open(folder, read_only=True)
    with opened:
        yield opened
