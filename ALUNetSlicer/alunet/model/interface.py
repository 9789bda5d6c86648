"""What `alunet.loop` needs of a model: prepare, train, score, gradients, predict, export.

`Framework` makes models, `TrainedModel` answers with one; plain values go in and come out. The loop
names a framework "module:Class" (`name_of`), so that a child process can make the same
(`load_framework`). Importing that module and making the class is light: what is heavy is imported
by the methods that need it, and those run in child processes.

Arrays of images are (k, j, i), slowest axis first, as SimpleITK gives them; K counts classes,
background included.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from alunet.model.arithmetic import Arithmetic
from alunet.model.settings import ScoringSettings, TrainingSettings
from alunet.pool import CaseGeometry, Pool
from alunet.schema import Emit

SHIPPED = "alunet.model.nnunet:NnUnet"
"""The framework of every project."""

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class CaseFiles:
    """A case before it is preprocessed: its name, and one image file for each channel."""

    name: str
    images: tuple[Path, ...]


@dataclass(frozen=True)
class Prepared:
    """What preprocessing tells the loop.

    Attributes:
        geometries: of the cases, in their order: the grid on which samples are counted, and where
            it is in the image.
        patch: (rows, columns) of a sample on that grid.
    """

    geometries: list[CaseGeometry]
    patch: tuple[int, int]


@dataclass(frozen=True)
class TrainingData:
    """What a training learns from.

    Attributes:
        folder: of the framework, with the preprocessed cases.
        labels: folder of the label maps that `Framework.refresh_labels` wrote.
        samples: annotated case -> number of its annotated samples, at least 1.
        tests: cases with label maps there on which the best checkpoint is chosen, where the
            settings ask for that.
    """

    folder: Path
    labels: Path
    samples: Mapping[str, int]
    tests: Sequence[str] = ()


@dataclass(frozen=True)
class Trained:
    """What a training tells of itself; kept in the record of the round.

    Attributes:
        loss: of the last epoch.
        dice: on the annotated slices (on the test cases, where the best checkpoint is chosen): the
            mean over the structures, and `class_dice`, in the order of their values; None or NaN
            where it was not measured.
        parameters: how many numbers are trained.
        batch_size: samples in a step.
        sha256: of the model's file.
        best_epoch, final_sha256: with the best checkpoint: its epoch, and the hash of the final
            weights.
    """

    loss: float
    dice: float | None
    class_dice: list[float | None]
    parameters: int
    batch_size: int
    sha256: str
    best_epoch: int | None = None
    final_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; those of the best checkpoint only where it is the model."""
        best = ("best_epoch", "final_sha256")
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in best or value is not None
        }


@dataclass(frozen=True)
class PoolSamples:
    """Samples of a pool, `ids` (n,) ascending; the padding of a patch is no part of them."""

    pool: Pool
    ids: Ints


@dataclass(frozen=True)
class MonteCarloMoments:
    """Of T dropout passes, mean over the valid pixels of a sample; float32, rows in the order of
    the ids.

    Attributes:
        var: (n, K) unbiased variance of the softmax over the passes.
        std: (n, K) its square root, averaged after the root.
        bald: (n,) mutual information H(mean p) - mean H(p), in bits.
    """

    var: np.ndarray
    std: np.ndarray
    bald: np.ndarray


class TrainedModel(Protocol):
    """A trained model, loaded, in a child process. Long calls emit "progress" events.

    Deterministic: the same samples and the same seed give the same numbers, whatever was asked
    before. `heads` weighs the outputs of coarser resolutions in a loss: "training", "full-res" or
    "all-equal"; a model that has one output alone takes no notice of it.

    Raises:
        InputError: the model cannot give what is asked, which excludes the strategies that need it.
    """

    # --- score ------------------------------------------------------------------------------------

    def entropy(self, samples: PoolSamples) -> Floats:
        """(n,) float32: mean entropy of the pixels in one pass without dropout, bits."""

    def class_entropy(self, samples: PoolSamples) -> Floats:
        """(n, K) float32: mean of each class's probability times the entropy; adds up to it."""

    def one_pass_variance(self, samples: PoolSamples) -> Floats:
        """(n, K) float32: mean of p (1 - p) of each class's probability in one pass."""

    def predicted_pixels(self, samples: PoolSamples) -> tuple[Ints, Ints]:
        """(n, K) int64: pixels of each class that one pass predicts; those on its border."""

    def monte_carlo(
        self, samples: PoolSamples, dropout: float, passes: int, seed: tuple[int, ...]
    ) -> MonteCarloMoments:
        """Moments of `passes` (2 or more) thinned models, the same for all samples.

        Args:
            seed: draws the thinned models.
            dropout: share of the activations that a pass leaves out.
        """

    def features(self, samples: PoolSamples) -> Floats:
        """(n, d) float32: what the model makes of each sample; n may be 0, d is 0 then."""

    # --- gradients, of a sample's loss against the model's own prediction -------------------------

    def bottleneck(self, samples: PoolSamples, heads: str) -> tuple[Floats, Floats]:
        """`delta` (n, C_out, h, w), `inputs` (n, C_in, h, w), float32; see `query.Factors`."""

    def fisher(self, samples: PoolSamples, heads: str) -> Floats:
        """(P,) float64: mean over the samples of the squared gradient of each decoder parameter."""

    def decoder_gradients(self, samples: PoolSamples, coordinates: Ints, heads: str) -> Floats:
        """(n, d) float32: gradients at `coordinates` (d,), places in the order of `fisher`."""

    def last_layer_gradients(self, samples: PoolSamples) -> Floats:
        """(n, d) float32: gradients of the training loss at the last layer before the output."""

    # --- predict ----------------------------------------------------------------------------------

    def segment(self, case: str, slices: Sequence[int] | None = None) -> np.ndarray:
        """(k, j, i) uint8 or uint16: classes of a preprocessed case, on its image's grid; `slices`
        as of `uncertainty`.
        """

    def segment_files(self, images: Sequence[Path]) -> np.ndarray:
        """As `segment`, of an image that is no case: one 3D file for each channel, on one grid.

        Raises:
            InputError: the image cannot be used.
        """

    def uncertainty(
        self,
        geometry: CaseGeometry,
        measure: str,
        class_weights: np.ndarray,
        seed: tuple[int, ...],
        slices: Sequence[int] | None = None,
    ) -> np.ndarray:
        """(k, j, i) float32: how unsure the model is of each voxel, on its image's grid.

        Args:
            geometry: of a preprocessed case.
            measure: one of `alunet.model.settings.MEASURES`; "entropy" and "bald" are in bits.
            class_weights: (K,), for "variance".
            seed: of the dropout passes; with that of `monte_carlo` a sample's score is the mean of
                its voxels here.
            slices: of the preprocessed image, ascending; the result has these alone across its
                sliced axis. Without: all.
        """


class Framework(Protocol):
    """A way to segment: plans, preprocesses, trains, opens what it trained. It holds no state.

    `folder` is the framework's own below a project: what it planned and preprocessed, in any form.
    Runs of a study share it, so only `plan` and `preprocess` write there. `emit` hears events
    "progress" with phase, done and total.
    """

    # --- in any process ---------------------------------------------------------------------------

    def resolve_device(self, device: str) -> str:
        """The device that "auto" means here, or the named one; may be slow the first time.

        Raises:
            InputError: there is no such device.
        """

    def variables(self, folder: Path, results: Path, threads: int) -> dict[str, str]:
        """Environment variables of a child process that uses at most so many threads.

        Args:
            results: where a training keeps what it goes on from; the loop removes it after the
                round.
        """

    def plan_file(self, folder: Path) -> Path:
        """The file that is there when the cases are planned; equal plans have equal bytes."""

    # --- in a child process: prepare --------------------------------------------------------------

    def limit_threads(self, threads: int) -> None:
        """Let this process compute with so many threads."""

    def choose_arithmetic(
        self, folder: Path | None, device: str, machine: str, emit: Emit
    ) -> Arithmetic:
        """Choose precision and memory format for a device, once for a project and computer.

        Args:
            folder: with a plan; None: for a network of a usual size.
            machine: `alunet.model.hardware.describe_computer` of this computer.
        """

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
        """Choose grid, patch and network from the images, once; annotation never changes that.

        Args:
            labels: structure -> number of the project, background 0; there may be gaps.
            channels: names, like "CT" or "MRI".
            dropout: rate while training.
            width: features of each stage, as a share of the usual ones.

        Raises:
            InputError: a case cannot be used.
        """

    def use_structures(self, folder: Path, labels: Mapping[str, int]) -> None:
        """Take these structures from now on; called before every step in a child process, so it is
        light, and does nothing where they are those of before.

        Outputs are counted in their order; label maps that come in and go out hold their numbers. A
        model that was trained with others gives a new one no probability. A training that goes on
        from it keeps all that fits. The plan and the preprocessed images stay as they are.

        Args:
            labels: structure -> number of the project, ascending, background 0; there may be gaps.
        """

    def unprepared(self, folder: Path, names: Sequence[str]) -> list[str]:
        """Which of these cases `preprocess` would prepare; light, called in any process."""

    def preprocess(self, folder: Path, cases: Sequence[CaseFiles], emit: Emit) -> Prepared:
        """Bring the images onto the plan's grid; those that are there are left as they are.

        Raises:
            InputError: a case cannot be used.
        """

    # --- train ------------------------------------------------------------------------------------

    def refresh_labels(self, folder: Path, labels: Path, files: Mapping[str, Path]) -> None:
        """Bring the label files of these cases onto the grid, those that changed since the last
        time.

        Args:
            labels: folder to write to, one of each project.
            files: on the grid of the image file; `alunet.schema.NOT_ANNOTATED` where nothing is
                known.
        """

    def seconds_per_step(
        self, data: TrainingData, settings: TrainingSettings, device: str
    ) -> float:
        """Time real steps of such a training on throw-away weights; nothing is left of it."""

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
        """Train on the annotated voxels alone; what was interrupted goes on. The same seed gives
        the same model.

        Args:
            weights_in: a model to go on from; None: from scratch.
            weights_out: file of the model, in any form, written at the end and whole. Another one
                is at `settings.final_weights(weights_out)` where the settings ask for the best
                checkpoint.
        """

    # --- use --------------------------------------------------------------------------------------

    def open(
        self, folder: Path, weights: Path, device: str, settings: ScoringSettings, emit: Emit
    ) -> TrainedModel:
        """Load a model that `train` wrote."""

    def export(
        self,
        folder: Path,
        weights: Path,
        file: Path,
        ending: str,
        mirroring: bool,
        about: dict[str, Any],
    ) -> None:
        """Write a model with which the framework predicts without this program; whole, without
        names of cases.

        Args:
            ending: of the image files that it is for, like ".nii.gz".
            mirroring: whether a prediction may mirror images.
            about: where the model comes from, see `alunet.loop.outputs.export_model`.
        """


def load_framework(name: str = SHIPPED) -> Framework:
    """Make a framework by its name, "module:Class"."""
    module, kind = name.split(":")
    framework: Framework = getattr(importlib.import_module(module), kind)()
    return framework


def name_of(framework: Framework) -> str:
    """The name by which `load_framework` makes the same in another process."""
    return f"{type(framework).__module__}:{type(framework).__qualname__}"
