"""Take back what was annotated in slices of a case, or undo that, and say what follows."""

from __future__ import annotations

from collections.abc import Sequence

from alunet.errors import InputError
from alunet.loop.slices import pool_case, samples_of_slices
from alunet.project import Project


def take_back(
    project: Project,
    name: str,
    slices: Sequence[int],
    *,
    all_slices: bool = False,
    undo: bool = False,
    author: str,
) -> list[str]:
    """Take annotations of a pool case back, or bring them back, see `alunet.project.taking_back`.

    Args:
        slices: voxel indices along the slice axis; all samples of each.
        all_slices: all slices that are annotated, or that were taken back.

    Returns:
        What was done and what follows, sentences for people.

    Raises:
        InputError: there is no such case or slice, or nothing to take back or to undo.
    """
    case = pool_case(project, name)
    if bool(slices) == all_slices:
        raise InputError(
            "Slices and all slices are asked for." if slices else "No slice is named.",
            "Name slices, or all of them.",
        )
    labelled, taken = project.samples.labelled(), project.taking_back.taken_back()
    everything = project.pool.samples_of(name).tolist()
    asked = everything if all_slices else samples_of_slices(project, case, slices)
    fits = [sample for sample in asked if (sample in taken if undo else labelled[sample])]
    numbers = {sample: int(project.pool.slice_raw[sample]) for sample in asked}
    missing = sorted(set(numbers.values()) - {numbers[sample] for sample in fits})
    if not fits or (missing and not all_slices):
        which = f"Slice {missing[0]} of {name}" if not all_slices else f"Nothing of {name}"
        if undo:
            word = "was not taken back" if not all_slices else "was taken back"
            raise InputError(f"{which} {word}.", "There is nothing to undo.")
        word = "is not annotated" if not all_slices else "is annotated"
        raise InputError(f"{which} {word}.", "There is nothing to take back.")
    change = project.taking_back.undo if undo else project.taking_back.take_back
    change(fits, author)
    count = len({numbers[sample] for sample in fits})
    words = "1 slice is" if count == 1 else f"{count} slices are"
    done = f"{words} annotated again" if undo else f"{words} open again"
    return [f"{name}: {done}.", *project.taking_back.says(fits)]
