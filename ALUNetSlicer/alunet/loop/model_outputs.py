"""The model's answers to a strategy's questions, computed when asked for and at most once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from alunet.model import features, gradients, losses, score
from alunet.model.environment import Folders
from alunet.model.network import Model
from alunet.model.reader import TileReader
from alunet.model.settings import ScoringSettings
from alunet.pool import Pool
from alunet.query import Factors, Heads, McScores, Streams
from alunet.schema import Emit
from alunet.storage.files import atomic_path


class ComputedOutputs:
    """`alunet.query.ModelOutputs` of the candidates `ids` (and the `labelled` ids), by the model of the last round.

    Monte Carlo scores are kept in `cache`, named by everything they depend on: strategies that share a model, as all do
    in the first round, share them too.
    """

    def __init__(
        self,
        nnunet: Path,
        weights: Path,
        pool: Pool,
        ids: np.ndarray,
        labelled: np.ndarray,
        streams: Streams,
        settings: ScoringSettings,
        device: str,
        cache: Path,
        emit: Emit,
    ) -> None:
        self._model = Model(nnunet, weights, device)
        self._reader = TileReader(Folders(nnunet).images, pool, settings.batch_size, device)
        self._weights, self._ids, self._labelled = weights, ids, labelled
        self._settings, self._emit = settings, emit
        self._noise = tuple(int(word) for word in streams.sequence("mc-dropout").generate_state(4))
        self._cache = cache
        self._mc: dict[Path, McScores] = {}

    def entropy(self) -> np.ndarray:
        """(n,) mean pixel entropy of one deterministic pass, bits."""
        return score.entropy(self._model, self._reader, self._ids, self._settings, self._emit)

    def mc(self, dropout: float | None = None, passes: int | None = None) -> McScores:
        """Monte Carlo dropout scores of all candidates; with the recipe's rate and passes where None."""
        settings = replace(
            self._settings, dropout=dropout or self._settings.dropout, passes=passes or self._settings.passes
        )
        file = self._cache / f"mc-{self._key(settings)}.npz"
        if file not in self._mc:
            if not file.is_file():
                self._compute(file, settings)
            with np.load(file) as content:
                self._mc[file] = McScores(content["var"], content["std"], content["bald"])
        return self._mc[file]

    def _compute(self, file: Path, settings: ScoringSettings) -> None:
        found = score.monte_carlo(self._model, self._reader, self._ids, settings, self._noise, self._emit)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part:
            np.savez(part, var=found.var, std=found.std, bald=found.bald)

    def _key(self, settings: ScoringSettings) -> str:
        values = {name: value for name, value in asdict(settings).items() if name != "mirroring"}
        digest = hashlib.sha256(self._weights.read_bytes())
        digest.update(self._ids.tobytes())
        digest.update(json.dumps([values, self._noise], sort_keys=True).encode())
        return digest.hexdigest()[:24]

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(m, d) encoder features of the candidates at `rows`; of all where None."""
        return features.encoder_features(self._model, self._reader, self._chosen(rows), self._emit)

    def labelled_features(self) -> np.ndarray:
        """(l, d) encoder features of the labelled samples, by the same model."""
        return features.encoder_features(self._model, self._reader, self._labelled, self._emit)

    def bottleneck(self, rows: np.ndarray, heads: Heads = "training") -> Factors:
        """Gradient factors of the bottleneck convolution of the candidates at `rows`."""
        return Factors(*gradients.bottleneck_factors(self._gradients(heads), self._ids[rows]))

    def fisher(self, rows: np.ndarray, heads: Heads = "training") -> np.ndarray:
        """(P,) mean over `rows` of the squared decoder gradients."""
        return gradients.fisher_diagonal(self._gradients(heads), self._ids[rows])

    def decoder_gradients(self, rows: np.ndarray, coordinates: np.ndarray, heads: Heads = "training") -> np.ndarray:
        """(m, d) decoder gradients of the candidates at `rows`, at the chosen parameters."""
        return gradients.decoder_gradients(self._gradients(heads), self._ids[rows], coordinates)

    def last_layer_gradients(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(m, d) gradients of nnU-Net's training loss, predictions as labels, at the last 3x3 decoder convolution."""
        loss = losses.dice_and_cross_entropy
        reader = gradients.GradientReader(self._model, self._reader, "training", self._emit, loss)
        return gradients.last_layer_gradients(reader, self._chosen(rows))

    def _gradients(self, heads: Heads) -> gradients.GradientReader:
        return gradients.GradientReader(self._model, self._reader, heads, self._emit)

    def _chosen(self, rows: np.ndarray | None) -> np.ndarray:
        return self._ids if rows is None else self._ids[rows]
