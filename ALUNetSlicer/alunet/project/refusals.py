"""Why a slice cannot be chosen, taken or annotated: errors that clients tell apart."""

from __future__ import annotations

from collections.abc import Sequence

from alunet.errors import InputError
from alunet.schema import Lease


class NotPlanned(InputError):
    """The pool has no samples of the case yet."""

    def __init__(self, case: str) -> None:
        super().__init__(
            f"Case {case!r} is not planned yet.", "Plan the project first: a job of kind 'plan'."
        )


class AlreadyAnnotated(InputError):
    """The slice has labels, so that no one needs to be asked for them."""

    def __init__(self, case: str, number: int) -> None:
        super().__init__(f"Slice {number} of {case} is annotated already.", "Choose another one.")


class Leased(InputError):
    """Another person has the sample for a while."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.author} is working on this slice.", "Take another one.")
        self.lease = lease


class ChannelsFixed(InputError):
    """The images of a project would need other channels than they have."""

    def __init__(self, project: str, known: Sequence[str], asked: Sequence[str]) -> None:
        super().__init__(
            f"The project '{project}' has the channels {', '.join(known)}; they cannot become "
            f"{', '.join(asked)}, as images, plan and models are made for them.",
            "Make a new project from the same images with all channels, export the labels of this "
            "one, and annotate with them there.",
        )


class ChangedMeanwhile(InputError):
    """Another person annotated the sample since it was looked at.

    Attributes:
        version: the newest one.
    """

    def __init__(self, version: int) -> None:
        super().__init__(
            f"The slice was annotated meanwhile: it is at version {version}.", "Look at it first."
        )
        self.version = version


class StaleVersion(InputError):
    """Labels were based on another version than the newest one; they are kept, but count for
    nothing.

    Attributes:
        version: the newest one.
        kept: number of the version that was submitted.
    """

    def __init__(self, version: int, kept: int) -> None:
        super().__init__(
            f"Somebody else annotated this slice meanwhile: it is at version {version}.",
            "Get that version, correct it, and submit it again; yours is kept in the history.",
        )
        self.version, self.kept = version, kept
