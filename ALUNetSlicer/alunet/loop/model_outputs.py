"""The model's answers to a strategy's questions, computed when asked for and at most once."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from alunet.errors import EngineError
from alunet.model.interface import PoolSamples, TrainedModel
from alunet.model.settings import ScoringSettings
from alunet.pool import Pool
from alunet.query import Factors, Heads, McScores, Streams, Truth
from alunet.storage.files import atomic_path


class ComputedOutputs:
    """`alunet.query.ModelOutputs` of the candidates `ids` (and the `labelled` ids), by the model of
    the last round.

    Monte Carlo scores are kept in `cache`, named by everything they depend on: strategies that
    share a model, as all do in the first round, share them too.
    """

    def __init__(
        self,
        model: TrainedModel,
        weights: Path,
        pool: Pool,
        ids: np.ndarray,
        labelled: np.ndarray,
        streams: Streams,
        settings: ScoringSettings,
        cache: Path,
    ) -> None:
        self._model, self._weights, self._pool = model, weights, pool
        self._ids, self._labelled, self._settings = ids, labelled, settings
        self._noise = tuple(int(word) for word in streams.sequence("mc-dropout").generate_state(4))
        self._cache = cache
        self._mc: dict[Path, McScores] = {}
        self._one_pass_variance: np.ndarray | None = None

    def entropy(self) -> np.ndarray:
        """(n,) mean pixel entropy of one deterministic pass, bits."""
        return self._model.entropy(self._chosen())

    def class_entropy(self) -> np.ndarray:
        """(n, K) mean over the pixels of each class's probability times the entropy, bits."""
        return self._model.class_entropy(self._chosen())

    def one_pass_variance(self) -> np.ndarray:
        """(n, K) mean over the pixels of p (1 - p) of each class in one deterministic pass."""
        if self._one_pass_variance is None:
            self._one_pass_variance = self._model.one_pass_variance(self._chosen())
        return self._one_pass_variance

    def predicted(self) -> Truth:
        """What the model predicts of the candidates, in the form of hidden labels."""
        return Truth(*self._model.predicted_pixels(self._chosen()))

    def mc(self, dropout: float | None = None, passes: int | None = None) -> McScores:
        """Monte Carlo dropout scores of all candidates; with the recipe's rate and passes where
        None.
        """
        settings = replace(
            self._settings,
            dropout=dropout or self._settings.dropout,
            passes=passes or self._settings.passes,
        )
        file = self._cache / f"mc-{self._key(settings)}.npz"
        if file not in self._mc:
            found = _kept(file)
            if found is None:
                self._compute(file, settings)
                found = _kept(file)
            if found is None:
                raise EngineError(f"{file} cannot be read.", "Look whether its disk is sound.")
            self._mc[file] = found
        return self._mc[file]

    def _compute(self, file: Path, settings: ScoringSettings) -> None:
        passes = settings.dropout, settings.passes
        found = self._model.monte_carlo(self._chosen(), *passes, self._noise)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            np.savez(part, var=found.var, std=found.std, bald=found.bald)

    def _key(self, settings: ScoringSettings) -> str:
        others = ("mirroring", "engine")  # they change no pass with dropout
        values = {name: value for name, value in asdict(settings).items() if name not in others}
        digest = hashlib.sha256(self._weights.read_bytes())
        digest.update(self._ids.tobytes())
        digest.update(json.dumps([values, self._noise], sort_keys=True).encode())
        return digest.hexdigest()[:24]

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(m, d) encoder features of the candidates at `rows`; of all where None."""
        return self._model.features(self._chosen(rows))

    def labelled_features(self) -> np.ndarray:
        """(l, d) encoder features of the labelled samples, by the same model."""
        return self._model.features(PoolSamples(self._pool, self._labelled))

    def bottleneck(self, rows: np.ndarray, heads: Heads = "training") -> Factors:
        """Gradient factors of the bottleneck convolution of the candidates at `rows`."""
        return Factors(*self._model.bottleneck(self._chosen(rows), heads))

    def fisher(self, rows: np.ndarray, heads: Heads = "training") -> np.ndarray:
        """(P,) mean over `rows` of the squared decoder gradients."""
        return self._model.fisher(self._chosen(rows), heads)

    def decoder_gradients(
        self, rows: np.ndarray, coordinates: np.ndarray, heads: Heads = "training"
    ) -> np.ndarray:
        """(m, d) decoder gradients of the candidates at `rows`, at the chosen parameters."""
        return self._model.decoder_gradients(self._chosen(rows), coordinates, heads)

    def last_layer_gradients(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(m, d) gradients of the training loss, predictions as labels, at the last layer."""
        return self._model.last_layer_gradients(self._chosen(rows))

    def _chosen(self, rows: np.ndarray | None = None) -> PoolSamples:
        return PoolSamples(self._pool, self._ids if rows is None else self._ids[rows])


def _kept(file: Path) -> McScores | None:
    """Return scores that were kept; None where there are none, or none that can be trusted."""
    try:
        with np.load(file, allow_pickle=False) as content:  # compares the checksums of its parts
            return McScores(content["var"], content["std"], content["bald"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
