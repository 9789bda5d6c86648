"""nnU-Net v2 as a `Framework`: each call goes to the file of this folder that does it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alunet.model import environment
from alunet.model.arithmetic import Arithmetic, decide
from alunet.model.interface import (
    CaseFiles,
    MonteCarloMoments,
    PoolSamples,
    Prepared,
    Trained,
    TrainingData,
)
from alunet.model.settings import ScoringSettings, TrainingSettings
from alunet.pool import CaseGeometry
from alunet.schema import Emit

if TYPE_CHECKING:
    from alunet.model.gradients import GradientReader
    from alunet.model.predict import Predictor
    from alunet.model.reader import TileReader


class NnUnet:
    """nnU-Net's 2D configuration, trained on sparse slices."""

    def resolve_device(self, device: str) -> str:
        """See `Framework.resolve_device`."""
        return environment.resolve_device(device)

    def variables(self, folder: Path, results: Path, threads: int) -> dict[str, str]:
        """See `Framework.variables`."""
        return environment.variables(folder, results, threads)

    def plan_file(self, folder: Path) -> Path:
        """See `Framework.plan_file`."""
        return environment.Folders(folder).plans

    def limit_threads(self, threads: int) -> None:
        """See `Framework.limit_threads`."""
        import torch

        torch.set_num_threads(threads)

    def choose_arithmetic(
        self, folder: Path | None, device: str, machine: str, emit: Emit
    ) -> Arithmetic:
        """See `Framework.choose_arithmetic`."""
        return Arithmetic(**decide(None if folder is None else str(folder), device, machine, emit))

    def plan(
        self,
        folder: Path,
        cases: Sequence[CaseFiles],
        labels: dict[str, int],
        channels: Sequence[str],
        dropout: float,
        width: float,
        emit: Emit,
    ) -> None:
        """See `Framework.plan`."""
        from alunet.model.plan import plan

        plan(folder, cases, labels, channels, dropout, emit, width)

    def use_structures(self, folder: Path, labels: Mapping[str, int]) -> None:
        """See `Framework.use_structures`."""
        from alunet.model.classes import use_structures

        folders = environment.Folders(folder)
        use_structures((folders.raw / "dataset.json", folders.dataset_json), labels)

    def unprepared(self, folder: Path, names: Sequence[str]) -> list[str]:
        """See `Framework.unprepared`."""
        from alunet.model.prepared import is_prepared

        folders = environment.Folders(folder)
        return [name for name in names if not is_prepared(folders, name)]

    def preprocess(self, folder: Path, cases: Sequence[CaseFiles], emit: Emit) -> Prepared:
        """See `Framework.preprocess`."""
        from alunet.model.plan import load_plans, preprocess

        geometries = [CaseGeometry.from_json(text) for text in preprocess(folder, cases, emit)]
        _, configuration, _ = load_plans(environment.Folders(folder))
        rows, columns = configuration.patch_size
        return Prepared(geometries, (int(rows), int(columns)))

    def refresh_labels(self, folder: Path, labels: Path, files: Mapping[str, Path]) -> None:
        """See `Framework.refresh_labels`."""
        from alunet.imaging.reading import read_labels
        from alunet.model.labels import LabelFolder

        refreshed = LabelFolder(labels, folder)
        for case, file in files.items():
            target = labels / f"{case}.npz"
            written = file.stat().st_mtime_ns
            sound = refreshed.is_sound(case)
            if not sound or target.stat().st_mtime_ns != written:
                refreshed.refresh(case, read_labels(file))
                os.utime(
                    target, ns=(written, written)
                )  # the case may be annotated meanwhile: that is for next time

    def seconds_per_step(
        self, data: TrainingData, settings: TrainingSettings, device: str
    ) -> float:
        """See `Framework.seconds_per_step`."""
        from alunet.model.train import seconds_per_step

        return seconds_per_step(data.folder, data.labels, dict(data.samples), settings, device)

    def train(
        self,
        data: TrainingData,
        settings: TrainingSettings,
        weights_in: Path | None,
        weights_out: Path,
        seed: int,
        device: str,
        emit: Emit,
    ) -> Trained:
        """See `Framework.train`."""
        from alunet.model.train import train

        samples = dict(data.samples)
        return Trained(
            **train(
                data.folder,
                data.labels,
                samples,
                settings,
                weights_in,
                weights_out,
                seed,
                device,
                emit,
                data.tests,
            )
        )

    def open(
        self, folder: Path, weights: Path, device: str, settings: ScoringSettings, emit: Emit
    ) -> NnUnetModel:
        """See `Framework.open`."""
        return NnUnetModel(folder, weights, self.resolve_device(device), settings, emit)

    def export(
        self,
        folder: Path,
        weights: Path,
        file: Path,
        ending: str,
        mirroring: bool,
        about: dict[str, Any],
    ) -> None:
        """See `Framework.export`: a zip file for nnU-Net's installer of pretrained models."""
        from alunet.model.export import export_model

        export_model(folder, weights, file, ending, mirroring, about)


class NnUnetModel:
    """A trained network in evaluation mode."""

    def __init__(
        self, folder: Path, weights: Path, device: str, settings: ScoringSettings, emit: Emit
    ) -> None:
        from alunet.model.network import Model

        self._folder, self._settings, self._emit, self._device = folder, settings, emit, device
        self._model = Model(folder, weights, device)
        self._last_reader: TileReader | None = None

    def entropy(self, samples: PoolSamples) -> np.ndarray:
        """See `TrainedModel.entropy`."""
        from alunet.model.score import entropy

        return entropy(self._model, self._reader(samples), samples.ids, self._settings, self._emit)

    def class_entropy(self, samples: PoolSamples) -> np.ndarray:
        """See `TrainedModel.class_entropy`."""
        from alunet.model.score import class_entropy

        reader = self._reader(samples)
        return class_entropy(self._model, reader, samples.ids, self._settings, self._emit)

    def one_pass_variance(self, samples: PoolSamples) -> np.ndarray:
        """See `TrainedModel.one_pass_variance`."""
        from alunet.model.score import one_pass_variance

        reader = self._reader(samples)
        return one_pass_variance(self._model, reader, samples.ids, self._settings, self._emit)

    def predicted_pixels(self, samples: PoolSamples) -> tuple[np.ndarray, np.ndarray]:
        """See `TrainedModel.predicted_pixels`."""
        from alunet.model.score import predicted_pixels

        reader = self._reader(samples)
        return predicted_pixels(self._model, reader, samples.ids, self._settings, self._emit)

    def monte_carlo(
        self, samples: PoolSamples, dropout: float, passes: int, seed: tuple[int, ...]
    ) -> MonteCarloMoments:
        """See `TrainedModel.monte_carlo`."""
        from alunet.model.score import monte_carlo

        settings = replace(self._settings, dropout=dropout, passes=passes)
        return monte_carlo(
            self._model, self._reader(samples), samples.ids, settings, seed, self._emit
        )

    def features(self, samples: PoolSamples) -> np.ndarray:
        """See `TrainedModel.features`: the output of the encoder's last activation, flattened."""
        from alunet.model.features import encoder_features

        return encoder_features(self._model, self._reader(samples), samples.ids, self._emit)

    def bottleneck(self, samples: PoolSamples, heads: str) -> tuple[np.ndarray, np.ndarray]:
        """See `TrainedModel.bottleneck`."""
        from alunet.model.gradients import bottleneck_factors

        return bottleneck_factors(self._gradients(samples, heads), samples.ids)

    def fisher(self, samples: PoolSamples, heads: str) -> np.ndarray:
        """See `TrainedModel.fisher`."""
        from alunet.model.gradients import fisher_diagonal

        return fisher_diagonal(self._gradients(samples, heads), samples.ids)

    def decoder_gradients(
        self, samples: PoolSamples, coordinates: np.ndarray, heads: str
    ) -> np.ndarray:
        """See `TrainedModel.decoder_gradients`."""
        from alunet.model.gradients import decoder_gradients

        return decoder_gradients(self._gradients(samples, heads), samples.ids, coordinates)

    def last_layer_gradients(self, samples: PoolSamples) -> np.ndarray:
        """See `TrainedModel.last_layer_gradients`: at the last 3x3 convolution of the decoder."""
        from alunet.model.gradients import GradientReader, last_layer_gradients
        from alunet.model.losses import dice_and_cross_entropy

        reader = GradientReader(
            self._model, self._reader(samples), "training", self._emit, dice_and_cross_entropy
        )
        return last_layer_gradients(reader, samples.ids)

    def segment(self, case: str, slices: Sequence[int] | None = None) -> np.ndarray:
        """See `TrainedModel.segment`."""
        return self._predictor.segment(case, slices)

    def segment_files(self, images: Sequence[Path]) -> np.ndarray:
        """See `TrainedModel.segment_files`."""
        return self._predictor.segment_files(images)

    def uncertainty(
        self,
        geometry: CaseGeometry,
        measure: str,
        class_weights: np.ndarray,
        seed: tuple[int, ...],
        slices: Sequence[int] | None = None,
    ) -> np.ndarray:
        """See `TrainedModel.uncertainty`."""
        from alunet.model.uncertainty import uncertainty_map

        return uncertainty_map(
            self._folder,
            self._model,
            geometry,
            measure,
            class_weights,
            self._settings,
            seed,
            self._emit,
            slices,
        )

    @cached_property
    def _predictor(self) -> Predictor:
        from alunet.model.predict import Predictor

        return Predictor(self._folder, self._model, self._settings, self._emit)

    def _reader(self, samples: PoolSamples) -> TileReader:
        from alunet.model.reader import TileReader

        if self._last_reader is None or self._last_reader.pool is not samples.pool:
            folders = environment.Folders(self._folder)
            about = self._settings.batch_size, self._device, self._settings.memory_share
            self._last_reader = TileReader(folders, samples.pool, *about)
        return self._last_reader

    def _gradients(self, samples: PoolSamples, heads: str) -> GradientReader:
        from alunet.model.gradients import GradientReader

        return GradientReader(self._model, self._reader(samples), heads, self._emit)
