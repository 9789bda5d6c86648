"""What the model can tell a strategy of the candidates, and who may ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from alunet.errors import EngineError

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
        """(l, d) the same of the labeled samples; l may be 0."""

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


def part_of(outputs: ModelOutputs, rows: Ints) -> ModelOutputs:
    """The model's answers about the candidates at `rows` alone; see `Query.only`."""
    return _Part(outputs, rows)
