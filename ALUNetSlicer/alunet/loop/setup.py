"""What is chosen once for a project that people annotate, and how it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alunet.errors import InputError
from alunet.loop.recipe import Recipe, preset
from alunet.model.interface import load_framework
from alunet.project import Project
from alunet.project.refusals import ChannelsFixed
from alunet.schema import TILE
from alunet.schema.names import PROJECT, STRUCTURE, composed, usable_name


@dataclass(frozen=True)
class Setup:
    """What is chosen once for a project.

    Attributes:
        preset: recipe of training and scoring: "quick", "cpu", "gpu" or "paper".
        epochs, iterations: another length of every training than the preset's.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        train_for: seconds that the training of a round may take; None: the preset's, where it has
            such a time.
    """

    preset: str = "cpu"
    epochs: int | None = None
    iterations: int | None = None
    seed: int = 0
    device: str = "auto"
    train_for: float | None = None

    def recipe(self) -> Recipe:
        """Training and scoring of all rounds; raises InputError for values that cannot be."""
        recipe, steps = preset(self.preset), self.epochs is not None or self.iterations is not None
        if steps and self.train_for is not None:
            message = (
                f"A training time ({self.train_for:g} s) is given beside epochs or iterations."
            )
            raise InputError(message, "Give one or the other.")
        if steps:
            return recipe.with_length(self.epochs, self.iterations)
        seconds = self.train_for if self.train_for is not None else recipe.train_for
        return recipe if seconds is None else recipe.for_seconds(seconds)


def create(
    root: Path,
    *,
    name: str,
    labels: dict[str, int],
    channels: Sequence[str],
    setup: Setup,
    unit: str = TILE,
) -> Project:
    """Make a project and open it; one that was made just so is opened as it is.

    Args:
        unit: what people are asked for, one of `UNITS`; it cannot be changed later.

    Raises:
        InputError: something about it is impossible, or another project is there.
    """
    if not (Path(root) / "project.db").is_file():
        usable_name(name, PROJECT)
        for label in labels:
            usable_name(label, STRUCTURE)
    name, kept = composed(name), {composed(label): value for label, value in labels.items()}
    labels = kept if len(kept) == len(labels) else labels
    setup.recipe()
    if setup.seed < 0:
        raise InputError(f"{setup.seed} cannot be a seed.", "Give a whole number from 0 on.")
    if setup.device != "auto":
        load_framework().resolve_device(setup.device)
    try:
        return Project.create(
            root,
            name=name,
            labels=labels,
            channels=channels,
            annotation=asdict(setup),
            unit=unit,
        )
    except InputError:
        if not (Path(root) / "project.db").is_file():
            raise
        project = Project.open(root)
        asked = (name, sorted(labels, key=labels.__getitem__), list(channels), asdict(setup), unit)
        chosen = asdict(Setup(**(project.settings.annotation or {}))), project.settings.unit
        structures = list(project.labels)
        if (project.name, structures, project.channels, *chosen) == asked:
            return project
        project.close()
        if structures == asked[1] and project.channels != asked[2]:
            raise ChannelsFixed(project.name, project.channels, channels) from None
        raise
