"""What a strategy is given and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from alunet.errors import EngineError, InputError
from alunet.query.random_streams import Streams

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
# weights of the deep-supervision heads in the gradient loss
Heads = Literal["training", "full-res", "all-equal"]


class Need(str, Enum):
    """What a strategy asks of the model or the simulation; nothing else is computed for it."""

    NOTHING = "nothing"
    ENTROPY = "entropy"
    CLASS_ENTROPY = "entropy of each class"
    PREDICTION = "predicted structures"
    MC = "Monte-Carlo dropout"
    ONE_PASS = "variance of one pass"
    FEATURES = "encoder features"
    BOTTLENECK = "bottleneck gradients"
    DECODER = "decoder gradients"
    LAST_LAYER = "last layer's gradients"
    TRUTH = "hidden labels (simulation only)"


@dataclass(frozen=True)
class McScores:
    """Monte-Carlo dropout scores of n candidates and K classes (docs/method.md, 2.2), float32.

    Attributes:
        var: (n, K) pixel mean of the unbiased variance over the passes.
        std: (n, K) pixel mean of the standard deviation over the passes.
        bald: (n,) mutual information in bits.
    """

    var: Floats
    std: Floats
    bald: Floats


@dataclass(frozen=True)
class Factors:
    """A 3x3 stride-1 zero-padded convolution's gradient, as its two factors, of m samples on maps
    of h x w, float32.

    The weight gradient of sample b is ``g[o, i, ky, kx] = sum_yx delta[b, o, y, x] * inputs[b, i,
    y+ky-1, x+kx-1]``.

    Attributes:
        delta: (m, Cout, h, w) derivative of the sample's loss with respect to the convolution's
            output.
        inputs: (m, Cin, h, w) the convolution's input.
    """

    delta: Floats
    inputs: Floats


class ModelOutputs(Protocol):
    """What the model can tell of the candidates; computed when asked for. `rows` are positions
    in `Query.ids`.
    """

    def entropy(self) -> Floats:
        """(n,) mean pixel entropy of one deterministic pass, bits."""

    def class_entropy(self) -> Floats:
        """(n, K) mean of the probability of each class times the entropy of one pass, bits."""

    def predicted(self) -> Truth:
        """The labels that one deterministic pass predicts, counted as hidden ones are."""

    def mc(self, dropout: float | None = None, passes: int | None = None) -> McScores:
        """Monte-Carlo dropout scores of all candidates; rate and number of passes are the
        recipe's where None.
        """

    def one_pass_variance(self) -> Floats:
        """(n, K) mean pixel p (1 - p) of each class in one deterministic pass, float32."""

    def features(self, rows: Ints | None = None) -> Floats:
        """(m, d) encoder features of the candidates (all where `rows` is None), float32."""

    def labelled_features(self) -> Floats:
        """(l, d) the same of the labelled samples; l may be 0."""

    def bottleneck(self, rows: Ints, heads: Heads = "training") -> Factors:
        """Gradient factors of the bottleneck convolution."""

    def fisher(self, rows: Ints, heads: Heads = "training") -> Floats:
        """(P,) mean over `rows` of the squared decoder gradients, one value a parameter."""

    def decoder_gradients(self, rows: Ints, coordinates: Ints, heads: Heads = "training") -> Floats:
        """(m, d) decoder gradients at the chosen parameters."""

    def last_layer_gradients(self, rows: Ints | None = None) -> Floats:
        """(m, d) training-loss gradients of the last 3x3 decoder convolution (all where `rows`
        is None), float32.
        """


@dataclass(frozen=True)
class Truth:
    """Labels of the candidates: hidden ones (in simulation only), or those that are predicted.

    Attributes:
        voxels: (n, K) voxels of each class in a box; of hidden ones, the box of the nearest center.
        border: (n, K) of these, the ones on the border of their class.
    """

    voxels: Ints
    border: Ints

    def only(self, rows: Ints) -> Truth:
        """The same of the candidates at `rows` alone."""
        return Truth(self.voxels[rows], self.border[rows])


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
        outputs = _Part(self.outputs, rows)
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


class Guard:
    """Model outputs that answer only what a strategy has declared.

    Raises:
        EngineError: on any other question: the strategy's declaration is wrong.
    """

    _NEEDS = {
        "entropy": Need.ENTROPY,
        "class_entropy": Need.CLASS_ENTROPY,
        "predicted": Need.PREDICTION,
        "mc": Need.MC,
        "one_pass_variance": Need.ONE_PASS,
        "features": Need.FEATURES,
        "labelled_features": Need.FEATURES,
        "bottleneck": Need.BOTTLENECK,
        "fisher": Need.DECODER,
        "decoder_gradients": Need.DECODER,
        "last_layer_gradients": Need.LAST_LAYER,
    }

    def __init__(self, outputs: ModelOutputs, needs: frozenset[Need]) -> None:
        self._outputs = outputs
        self._allowed = needs

    def __getattr__(self, name: str) -> Any:
        need = self._NEEDS.get(name)
        if need is None:
            raise AttributeError(name)
        if need not in self._allowed:
            raise EngineError(
                f"The strategy asks for {need.value} but does not declare it.",
                f"Add Need.{need.name} to its registration.",
            )
        return getattr(self._outputs, name)


class _Part:
    """Model outputs about some of the candidates; `rows` of a question are positions among
    these.
    """

    def __init__(self, outputs: ModelOutputs, rows: Ints) -> None:
        self._outputs, self._rows = outputs, rows

    def entropy(self) -> Floats:
        return self._outputs.entropy()[self._rows]

    def class_entropy(self) -> Floats:
        return self._outputs.class_entropy()[self._rows]

    def predicted(self) -> Truth:
        return self._outputs.predicted().only(self._rows)

    def mc(self, dropout: float | None = None, passes: int | None = None) -> McScores:
        scores = self._outputs.mc(dropout, passes)
        return McScores(scores.var[self._rows], scores.std[self._rows], scores.bald[self._rows])

    def one_pass_variance(self) -> Floats:
        return self._outputs.one_pass_variance()[self._rows]

    def features(self, rows: Ints | None = None) -> Floats:
        return self._outputs.features(self._chosen(rows))

    def labelled_features(self) -> Floats:
        return self._outputs.labelled_features()

    def bottleneck(self, rows: Ints, heads: Heads = "training") -> Factors:
        return self._outputs.bottleneck(self._chosen(rows), heads)

    def fisher(self, rows: Ints, heads: Heads = "training") -> Floats:
        return self._outputs.fisher(self._chosen(rows), heads)

    def decoder_gradients(self, rows: Ints, coordinates: Ints, heads: Heads = "training") -> Floats:
        return self._outputs.decoder_gradients(self._chosen(rows), coordinates, heads)

    def last_layer_gradients(self, rows: Ints | None = None) -> Floats:
        return self._outputs.last_layer_gradients(self._chosen(rows))

    def _chosen(self, rows: Ints | None) -> Ints:
        return self._rows if rows is None else self._rows[rows]


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
