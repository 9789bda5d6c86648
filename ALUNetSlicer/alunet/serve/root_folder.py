"""The folder of all projects, which other users of the computer neither read nor change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from alunet.errors import InputError
from alunet.schema.private import close_to_others, open_to_others, private_folder

_WRITING = stat.S_IWGRP | stat.S_IWOTH


def prepare_root(root: Path) -> list[str]:
    """Make the folder of all projects where it is missing, and close what is in it to others.

    Who may write to it could put another folder in a project's place; who may enter a project reads
    its images and can hold its locks.

    Returns:
        What was repaired, a sentence each.

    Raises:
        InputError: others can write to it, or own a part of it, and that cannot be repaired.
    """
    close_to_others()
    try:
        root.mkdir(parents=True, exist_ok=True)
        said = [_without_writers(root), private_folder(root / ".alunet")]
        said += [_closed(database.parent) for database in root.glob("*/project.db")]
    except OSError as error:
        raise InputError(
            f"The folder {root} cannot be used: {error.strerror or error}.", "Choose another one."
        ) from error
    return [sentence for sentence in said if sentence]


def _without_writers(root: Path) -> str:
    """Take the right to write from others."""
    if os.name == "nt":
        return ""
    for parent in root.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise InputError(
                f"Everybody can write to {parent}, and so put another folder in the place of "
                f"{root}.",
                f"Choose another folder, or type: chmod o-w {parent}",
            )
    mode = root.stat().st_mode
    if not mode & _WRITING:
        return ""
    if mode & stat.S_ISVTX:
        raise InputError(
            f"{root} is a folder that many users write to.", "Choose a folder of its own."
        )
    try:
        root.chmod(stat.S_IMODE(mode) & ~_WRITING)
    except PermissionError:
        raise InputError(
            f"Other users can write to {root}.", f"Its owner can type: chmod go-w {root}"
        ) from None
    return f"Other users could write to {root}; they cannot now."


def _closed(project: Path) -> str:
    """Close a project to others."""
    if not open_to_others(project):
        return ""
    try:
        project.chmod(stat.S_IRWXU)
    except PermissionError:
        return f"Other users can enter the project {project.name}, which belongs to one of them."
    return f"Other users could enter the project {project.name}; it is closed now."
