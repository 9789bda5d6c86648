"""How long to train and how closely to look: the same for every strategy of a study."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from alunet.errors import InputError
from alunet.model.arithmetic import Arithmetic
from alunet.model.settings import ScoringSettings, TrainingSettings

_WEEK = 7 * 24 * 3600.0

T = TypeVar("T", TrainingSettings, ScoringSettings)


@dataclass(frozen=True)
class Recipe:
    """Training and scoring of all rounds.

    Attributes:
        first: the training from scratch on the initial set (round 0).
        later: the training of each later round.
        scoring: how the pool is scored and the test cases are predicted.
        train_for: seconds that a round's training may take where people annotate; None: the steps
            of `first` and `later`. Studies always train for the steps, equal for all strategies.
        mode: "finetune" starts a later round from all weights of the round before; "scratch" from
            none, with `first`.
        dropout: rate of the network's dropout modules while training (a property of the plan).
        width: features of each stage, as a share of nnU-Net's; below 1 half of it for large
            patches, see `alunet.model.plan.features` (a property of the plan, too).
    """

    name: str
    first: TrainingSettings
    later: TrainingSettings
    scoring: ScoringSettings
    train_for: float | None = None
    mode: str = "finetune"
    dropout: float = 0.01
    width: float = 1.0

    def __post_init__(self) -> None:
        for training in (self.first, self.later):
            for what, value in (("epochs", training.epochs), ("iterations", training.iterations)):
                if value < 1:
                    raise InputError(
                        f"{value} {what} train nothing.", f"Give at least 1 of --{what}."
                    )
        if self.scoring.passes < 2:
            raise InputError(
                f"{self.scoring.passes} dropout passes have no variance.",
                "Use at least 2, usually 10.",
            )
        if self.mode not in ("finetune", "scratch"):
            raise InputError(f"Unknown training mode '{self.mode}'.", "Choose finetune or scratch.")

    def with_length(self, epochs: int | None = None, iterations: int | None = None) -> Recipe:
        """Return the same recipe, trained for its steps: each training `epochs` long, an epoch
        of `iterations`.
        """
        given = {
            name: value
            for name, value in (("epochs", epochs), ("iterations", iterations))
            if value is not None
        }
        change = {**given, "seconds": None}
        first, later = (replace(training, **change) for training in (self.first, self.later))
        return replace(self, train_for=None, first=first, later=later)

    def for_seconds(self, seconds: float) -> Recipe:
        """Return the same recipe with every training about `seconds` long.

        Raises:
            InputError: less than a second, or more than a week.
        """
        check_seconds(seconds)
        return replace(
            self,
            train_for=seconds,
            first=replace(self.first, seconds=seconds),
            later=replace(self.later, seconds=seconds),
        )

    def as_published(self) -> Recipe:
        """The same recipe with the habits of the published experiments' code (docs/fidelity.md),
        not its length.

        Segmentation heads start anew in each round, the model is the best checkpoint as measured on
        the test cases, and annotated cases are drawn uniformly. An epoch is checked as nnU-Net does
        it: one batch for five of training.
        """
        return replace(self, first=_as_published(self.first), later=_as_published(self.later))

    def training(self, round_number: int) -> TrainingSettings:
        """The training of round `round_number`."""
        return self.first if round_number == 0 or self.mode == "scratch" else self.later

    def computed_with(self, chosen: Arithmetic) -> Recipe:
        """Return the same recipe with the choices of a computer in place of "auto": precision
        and memory format.
        """
        training = {"precision": chosen.training, "memory_format": chosen.training_format}
        scoring = {
            "precision": chosen.scoring,
            "memory_format": chosen.scoring_format,
            "engine": chosen.engine,
        }
        return replace(
            self,
            first=_filled(self.first, training),
            later=_filled(self.later, training),
            scoring=_filled(self.scoring, scoring),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote, here or in an earlier version: what that one did not
        know is the default.
        """
        first, later = (_known(TrainingSettings, content[name]) for name in ("first", "later"))
        scoring = _known(ScoringSettings, content["scoring"])
        return cls(**{**content, "first": first, "later": later, "scoring": scoring})


def check_seconds(seconds: float) -> None:
    """Raise InputError for a time that no training can take: less than a second, or more than a
    week.
    """
    if not 1 <= seconds <= _WEEK:
        raise InputError(
            f"A training of {seconds:g} s is not possible.", "Train between 1 second and 7 days."
        )


def _as_published(training: TrainingSettings) -> TrainingSettings:
    checks = max(1, training.iterations // 5)
    return replace(
        training,
        heads="reset",
        checkpoint="best",
        cases="uniform",
        check_iterations=checks,
        average=0.0,
    )


def _filled(settings: T, chosen: dict[str, str]) -> T:
    return replace(settings, **chosen) if settings.precision == "auto" else settings


def _known(kind: type[T], content: dict[str, Any]) -> T:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in content.items() if name in names})


# Found by experiment at equal CPU seconds on three data sets: docs/performance.md, "The CPU
# recipe".
_CPU = TrainingSettings(
    epochs=20,
    iterations=50,
    check_iterations=1,
    batch_size=6,
    batch_pixels=200_000,  # three of 256 x 224; a second or so a step, however large the patch
    optimizer="adamw",
    learning_rate=4e-3,
    schedule="cosine",
    warmup=0.05,
    weight_decay=1e-2,
    average=0.1,
    growth=0.6,
    rotation=15.0,  # nnU-Net's 180 degrees turn left into right and front into back
    mirroring=False,
)
_ON_CPU = Recipe(
    "cpu",
    first=_CPU,
    later=replace(_CPU, epochs=10, learning_rate=2e-3),
    scoring=ScoringSettings(passes=5, precision="auto", mirroring=False),
    train_for=5 * 60.0,
    width=0.5,
)
_ON_GPU = TrainingSettings(epochs=40, batch_size=None, workers=8)

PRESETS: dict[str, Recipe] = {
    "quick": replace(
        _ON_CPU,
        name="quick",
        first=replace(_CPU, epochs=10),
        later=replace(_ON_CPU.later, epochs=5),
        train_for=60.0,
    ),
    "cpu": _ON_CPU,
    "gpu": Recipe("gpu", _ON_GPU, _ON_GPU, ScoringSettings(precision="auto"), train_for=10 * 60.0),
    "paper": Recipe(
        "paper", TrainingSettings(workers=8), TrainingSettings(workers=8), ScoringSettings()
    ),
}
"""By the names of `alunet.schema.PRESET_PURPOSES`, which says what each is for."""


def preset(name: str) -> Recipe:
    """The recipe of that name; raises InputError for an unknown one."""
    if name not in PRESETS:
        raise InputError(f"Unknown preset '{name}'.", f"Choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
