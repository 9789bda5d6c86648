"""Map between the outputs of the network and the structures of the project; no other file does.

nnU-Net counts its classes 0, 1, … without gaps. The project's numbers of structures stay for good,
so they have gaps where one was removed. ``dataset.json`` says which number each class has now
("numbers"; without: its own), ``structures.json`` beside the weights what it was when they were
trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from alunet.schema import NOT_ANNOTATED
from alunet.storage.files import write_json

if TYPE_CHECKING:
    import torch

_HEADS = ".seg_layers."
_NEVER = -30.0  # bias of the output for a structure that a model does not know: e^-30 of the others
_BESIDE = "structures.json"


def describe(labels: Mapping[str, int]) -> dict[str, Any]:
    """Return what ``dataset.json`` says of structures, name to number of the project."""
    names = sorted(labels, key=lambda name: labels[name])
    classes = {name: index for index, name in enumerate(names)}
    numbers = [labels[name] for name in names]
    return {"labels": {**classes, "ignore": len(names)}, **_gaps(numbers)}


def _gaps(numbers: Sequence[int]) -> dict[str, list[int]]:
    return {} if list(numbers) == list(range(len(numbers))) else {"numbers": list(numbers)}


def numbers_of(dataset: Mapping[str, Any]) -> list[int]:
    """Return the project's number of each class."""
    classes = sum(name != "ignore" for name in dataset["labels"])
    return list(dataset.get("numbers", range(classes)))


def use_structures(files: Iterable[Path], labels: Mapping[str, int]) -> None:
    """Let these files ``dataset.json`` know the structures of now; those that do are left alone."""
    wanted = describe(labels)
    for file in files:
        if not file.is_file():
            continue
        known = json.loads(file.read_text(encoding="utf-8"))
        kept = {name: value for name, value in known.items() if name not in ("labels", "numbers")}
        said = {name: known[name] for name in ("labels", "numbers") if name in known}
        # in order, too: equal dictionaries may name the classes in another one
        if json.dumps(said) != json.dumps(wanted):
            write_json(file, {**kept, **wanted})


def to_classes(labels: npt.NDArray[Any], numbers: Sequence[int]) -> npt.NDArray[np.int16]:
    """Return the class of each voxel of a label map of the project; open ones get nnU-Net's
    ignore label, the highest class + 1.
    """
    table = np.full(NOT_ANNOTATED + 1, len(numbers), np.int16)
    table[list(numbers)] = np.arange(len(numbers))
    return np.asarray(table[labels])


def to_numbers(classes: npt.NDArray[Any], numbers: Sequence[int]) -> npt.NDArray[Any]:
    """Return the project's number of each voxel of a segmentation."""
    return np.asarray(numbers, np.uint8)[classes] if _gaps(numbers) else classes


# --- weights --------------------------------------------------------------------------------------


def note_numbers(weights: Path, numbers: Sequence[int]) -> None:
    """Say which structures the outputs of the weights are that will be in this file."""
    beside, gaps = weights.with_name(_BESIDE), _gaps(numbers)
    if gaps:
        write_json(beside, gaps)
    else:
        beside.unlink(missing_ok=True)


def known_numbers(file: Path, weights: Mapping[str, torch.Tensor]) -> list[int]:
    """Return the project's number of each output of the weights in a file."""
    beside = file.with_name(_BESIDE)
    if beside.is_file():
        found: list[int] = json.loads(beside.read_text(encoding="utf-8"))["numbers"]
        return found
    outputs = next((len(value) for name, value in weights.items() if _HEADS in name), 0)
    return list(range(outputs))


def fit(
    weights: Mapping[str, torch.Tensor],
    known: Sequence[int],
    wanted: Sequence[int],
    fresh: Mapping[str, torch.Tensor] | None = None,
) -> Mapping[str, torch.Tensor]:
    """Return the weights with one output for each structure of `wanted`: those of structures that
    the model knows are its own.

    Args:
        known: number of each output of the weights.
        fresh: where the others come from; None: they say that the structure is never there.
    """
    if list(known) == list(wanted):
        return weights
    return {
        name: _outputs(value, known, wanted, None if fresh is None else fresh[name], name)
        if _HEADS in name
        else value
        for name, value in weights.items()
    }


def _outputs(
    value: torch.Tensor,
    known: Sequence[int],
    wanted: Sequence[int],
    fresh: torch.Tensor | None,
    name: str,
) -> torch.Tensor:
    if fresh is not None:
        new = fresh.detach().clone().to(value)
    else:
        never = _NEVER if name.endswith(".bias") else 0.0
        new = value.new_full((len(wanted), *value.shape[1:]), never)
    for place, number in enumerate(wanted):
        if number in known:
            new[place] = value[list(known).index(number)]
    return new
