"""What a strategy is given and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alunet.errors import InputError
from alunet.query.model_outputs import Floats, Guard, Ints, ModelOutputs, Need, Truth, part_of
from alunet.query.random_streams import Streams


@dataclass(frozen=True)
class Query:
    """One round's question: which `budget` of these candidates should be labelled next?

    Attributes:
        ahead: how many more to choose behind the batch, for people who go on while the model
            trains. They never change the batch.
        ids: (n,) int64 sample ids of the unlabelled candidates, strictly ascending.
        budget: how many to choose, >= 1.
        case: (n,) index of each candidate's case.
        class_voxels: (K,) annotated voxels of each class in the pool's cases, background first.
        case_voxels: (M, K) the same of each case in which anything is annotated; None where nobody
            asks for it.
        case_sizes: (M,) voxels of these cases, annotated or not.
        memory: bytes that may be used; None for any number.
        outputs: the model's answers.
        streams: the round's randomness.
        truth: hidden labels; in simulation only.
        labels: (K,) names of the classes, background first; for the reasons given to people.
        device: torch device for the similarity.

    Raises:
        InputError: no candidates, budget below 1.
        ValueError: arrays that do not fit together, ids that do not ascend.
    """

    ids: Ints
    budget: int
    case: Ints
    class_voxels: Ints
    outputs: ModelOutputs
    streams: Streams
    truth: Truth | None = None
    labels: tuple[str, ...] = ()
    device: str = "cpu"
    case_voxels: Ints | None = None
    case_sizes: Ints | None = None
    ahead: int = 0
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise InputError(
                f"A budget of {self.budget} samples selects nothing.",
                "Give a budget of at least 1.",
            )
        if self.ahead < 0:
            raise InputError(f"{self.ahead} samples ahead cannot be chosen.", "Give 0 or more.")
        if len(self.ids) == 0:
            raise InputError(
                "No unlabelled sample is left.",
                "The whole pool is labelled: stop, or import more cases.",
            )
        if np.any(np.diff(self.ids) <= 0):
            raise ValueError("Query.ids must ascend strictly")
        if len(self.case) != len(self.ids):
            raise ValueError(f"{len(self.ids)} ids, but {len(self.case)} cases")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def total(self) -> int:
        """How many to choose in all: the batch and what is ahead, as far as there are
        candidates.
        """
        return min(self.budget + self.ahead, len(self))

    def label(self, index: int) -> str:
        """A class's name; "class 2" where names are not known."""
        return self.labels[index] if index < len(self.labels) else f"class {index}"

    def batch(
        self,
        rows: Ints,
        gains: Floats,
        reasons: list[str],
        scores: Floats | None = None,
        **diagnostics: Any,
    ) -> Batch:
        """The answer that takes the candidates at the positions `rows`, in that order.

        Args:
            scores: (n,) uncertainty of all candidates, in any unit, by which the strategy compares
                them.
        """
        uncertainty = None if scores is None else share_below(scores, rows)
        return Batch(
            self.ids[rows], np.asarray(gains, np.float64), reasons, diagnostics, uncertainty
        )

    def whole_pool(self, reason: str) -> Batch:
        """The answer that takes everything, by ascending id."""
        rows = np.arange(len(self))
        return self.batch(rows, np.zeros(len(self)), [reason] * len(self))

    def only(self, rows: Ints) -> Query:
        """The same question about the candidates at `rows` alone, which ascend."""
        truth = None if self.truth is None else self.truth.only(rows)
        outputs = part_of(self.outputs, rows)
        return replace(self, ids=self.ids[rows], case=self.case[rows], outputs=outputs, truth=truth)

    def behind(self, batch: Batch) -> Query:
        """The question of what is ahead, about the candidates that are not in the batch, with
        randomness of its own.
        """
        rows = np.flatnonzero(~np.isin(self.ids, batch.ids))
        rest = self.only(rows)
        return replace(
            rest, budget=self.total - len(batch.ids), ahead=0, streams=self.streams.ahead()
        )

    def guarded(self, needs: Iterable[Need]) -> Query:
        """The same question, where asking for anything but `needs` is an error."""
        needs = frozenset(needs)
        truth = self.truth if Need.TRUTH in needs else None
        return replace(self, outputs=Guard(self.outputs, needs), truth=truth)


@dataclass(frozen=True)
class Batch:
    """The samples chosen, in the order in which they were picked: the batch, then what is ahead.

    Attributes:
        ids: (b,) int64 sample ids.
        gains: (b,) what each added, in the strategy's own unit; zeros where it has none.
        reasons: a short sentence for each, for people.
        diagnostics: plain numbers, lists and strings (JSON) that the round's manifest keeps.
        uncertainty: (b,) the share of the other candidates that are less uncertain, see
            `share_below`; None where the strategy measures no uncertainty of a single sample, NaN
            for samples of which it knows none.
    """

    ids: Ints
    gains: Floats
    reasons: list[str]
    diagnostics: dict[str, Any] = field(default_factory=dict)
    uncertainty: Floats | None = None

    def only(self, places: Ints) -> Batch:
        """The picks at these places, in their order, with the same diagnostics."""
        return replace(
            self,
            ids=self.ids[places],
            gains=self.gains[places],
            reasons=[self.reasons[place] for place in places],
            uncertainty=None if self.uncertainty is None else self.uncertainty[places],
        )

    def followed_by(self, further: Batch) -> Batch:
        """The same batch with further samples behind it; the diagnostics stay those of the
        batch.
        """
        uncertainty = self.uncertainty
        if uncertainty is not None:
            unknown = np.full(len(further.ids), np.nan)
            own = unknown if further.uncertainty is None else further.uncertainty
            uncertainty = np.concatenate([uncertainty, own])
        return replace(
            self,
            ids=np.concatenate([self.ids, further.ids]),
            gains=np.concatenate([self.gains, further.gains]),
            reasons=[*self.reasons, *further.reasons],
            uncertainty=uncertainty,
        )


def share_below(scores: Floats, rows: Ints) -> Floats:
    """For the candidates at `rows` the share of the others with a smaller score, (b,) from 0 to 1.

    A rank and no amount: variances, entropies and bits have different ranges, and most samples of a
    pool crowd at the low end of each. The largest of different scores gets 1, the smallest 0, equal
    ones the same.
    """
    below = np.searchsorted(np.sort(scores), scores[rows], side="left")
    return below / max(1, len(scores) - 1)


def checked_scores(scores: Floats, ids: Ints, what: str) -> npt.NDArray[np.float64]:
    """The scores, first axis = candidates, as float64.

    Raises:
        InputError: NaN or infinite scores; the message names the first sample.
        ValueError: another number of scores than of candidates.
    """
    values = np.asarray(scores, np.float64)
    if values.shape[0] != len(ids):
        raise ValueError(f"{len(ids)} candidates, but {values.shape[0]} values of {what}")
    bad = ~np.isfinite(values.reshape(len(ids), -1)).all(axis=1)
    if bad.any():
        first = int(ids[int(np.argmax(bad))])
        raise InputError(
            f"{what} is not a finite number for {int(bad.sum())} samples, the first "
            f"is sample {first}.",
            "The network has probably diverged: train the round again, with a lower learning rate.",
        )
    return values
