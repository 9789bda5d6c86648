"""The version of the contract: which of two sides to update where they differ.

Viewer, agent and engine each name theirs. Where they differ nothing is sent: what a person
annotates stays in the outbox, or in the viewer, until both sides speak the same.
"""

from __future__ import annotations

from pathlib import Path

import alunet
from alunet.errors import AlunetError
from alunet.schema import API

OLDEST_API, NEWEST_API = API, API


class WrongVersion(AlunetError):
    """Two sides do not speak the same version of the contract."""

    code = "wrong_version"


def check_engine(version: int | None, place: str) -> None:
    """Raise `WrongVersion` where an engine's version of the contract is out of range.

    Args:
        version: what the engine says; None where it says none.
        place: the engine's computer or environment, as a person knows it.
    """
    if version is not None and OLDEST_API <= version <= NEWEST_API:
        return
    update = "ALUNet on this computer (in 3D Slicer, the extension ALUNetSlicer)"
    if version is not None and version < OLDEST_API:
        update = f"ALUNet there ({place}) and start its service anew"
    raise WrongVersion(
        f"The engine ({place}) speaks {_words(version)} of the contract, "
        f"ALUNet on this computer {_known()}.",
        f"Update {update}. What is annotated meanwhile waits on this computer, and is sent then.",
    )


def check_viewer(version: int | None) -> None:
    """Raise `WrongVersion` where the version that the viewer names, if it does, is out of range."""
    if version is None or OLDEST_API <= version <= NEWEST_API:
        return
    own = Path(alunet.__file__).parent
    raise WrongVersion(
        f"The viewer speaks {_words(version)} of the contract, ALUNet in {own} {_known()}.",
        f"Update ALUNet in {own} on this computer."
        if version > NEWEST_API
        else "Update the viewer on this computer; in 3D Slicer, the extension ALUNetSlicer.",
    )


def _words(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _known() -> str:
    known = f"{OLDEST_API} to {NEWEST_API}" if OLDEST_API < NEWEST_API else f"{NEWEST_API}"
    return f"version {known}"
