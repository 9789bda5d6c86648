"""nnU-Net's trainer on sparse slices (specification 1.5): what differs from nnU-Net, and nothing else.

Only annotated cases are sampled, in proportion to their annotated slices, because nnU-Net would draw unlabelled cases
and learn their padding as background. Padding is ignored, not background. The final checkpoint is the model; nnU-Net's
"best" one, chosen on the test cases, is kept where the settings ask for it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from alunet.errors import InputError
from alunet.model.arithmetic import memory_format
from alunet.model.labels import OUTSIDE, OUTSIDE_IGNORED, PADDING, LabelFolder
from alunet.model.score import Pace
from alunet.model.settings import TrainingSettings
from alunet.project.files import atomic_path
from alunet.schema import Emit, Event, ignore_events

_CACHE_BYTES = 1 << 30  # decompressed cases kept in memory by the loader of one training
_STATES = "alunet"  # key of what our checkpoints hold besides nnU-Net's
_TOLD_SECONDS = 2.0  # how often a long epoch says how far it is
_CHECKPOINT_SECONDS = 60.0  # an interrupted training repeats at most this much


class AnnotatedCases(nnUNetDatasetBlosc2):
    """The annotated cases: images shared with every other run, labels of this line of annotation."""

    def __init__(self, images: Path, labels: LabelFolder, cases: list[str]) -> None:
        super().__init__(str(images), list(cases))
        self._labels = labels
        self._cache: dict[str, tuple[Any, Any, None, dict[str, Any]]] = {}
        self._room = _CACHE_BYTES

    def load_case(self, identifier: str) -> tuple[Any, Any, None, dict[str, Any]]:
        """Image, labels, no previous stage, and the class locations, as nnU-Net's loader wants them."""
        if identifier in self._cache:
            return self._cache[identifier]
        import blosc2

        image = blosc2.open(str(Path(self.source_folder) / f"{identifier}.b2nd"), mode="r")
        labels, locations = self._labels.load(identifier)
        size = int(np.prod(image.shape)) * 6  # float32 image and int16 labels
        if size <= self._room:
            self._room -= size
            image, labels = image[:], labels[:]
        self._cache[identifier] = (image, labels, None, {"class_locations": locations})
        return self._cache[identifier]


class WarmCosine:
    """Learning rate that rises linearly over a tenth of the steps (20 at most) and falls to 0 along a cosine."""

    def __init__(self, optimizer: torch.optim.Optimizer, rate: float, steps: int) -> None:
        self._optimizer, self._rate, self._steps = optimizer, rate, steps
        self._rise = max(1, min(20, steps // 10))

    def step(self, number: int) -> None:
        """Set the rate of step `number`, 0 … steps-1."""
        fall = max(0, number - self._rise) / max(1, self._steps - self._rise)
        rate = self._rate * min((number + 1) / self._rise, 0.5 * (1 + math.cos(math.pi * fall)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate


class SparseTrainer(nnUNetTrainer):
    """`nnUNetTrainer` with the differences named above; the settings arrive through `configure`."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cpu"),  # noqa: B008  the base reads its own signature, so repeat it
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = TrainingSettings()
        self.labels: LabelFolder | None = None
        self.weights_of_cases: dict[str, int] = {}
        self.tests: list[str] = []
        self.best: dict[str, Any] = {}
        self.emit: Emit = ignore_events
        self._saved = time.monotonic()
        self._pace: Pace | None = None

    def configure(
        self,
        settings: TrainingSettings,
        labels: LabelFolder,
        cases: dict[str, int],
        emit: Emit,
        tests: Sequence[str] = (),
    ) -> None:
        """Set what nnU-Net's constructor has no argument for.

        Args:
            cases: annotated case -> number of its annotated slices.
            tests: the test cases, on which the best checkpoint is chosen where the settings ask for that.

        Raises:
            InputError: the best checkpoint is asked for, but there is no test case.
        """
        if settings.checkpoint == "best" and not tests:
            raise InputError(
                "The best checkpoint is chosen on labelled test cases, and there are none.",
                "Train with checkpoint=final, or add test cases with labels.",
            )
        self.settings, self.labels, self.emit = settings, labels, emit
        uniform = settings.cases == "uniform"
        self.weights_of_cases = {case: 1 if uniform else count for case, count in sorted(cases.items())}
        self.tests = sorted(tests)
        self.num_epochs = settings.epochs
        self.num_iterations_per_epoch = settings.iterations
        self.num_val_iterations_per_epoch = settings.check_iterations
        self.initial_lr = settings.learning_rate
        self.weight_decay = settings.weight_decay

    def initialize(self) -> None:
        """Build as nnU-Net does, and store the weights in the settings' memory format."""
        super().initialize()
        self.network.to(memory_format=memory_format(self.settings.memory_format))

    def _set_batch_size_and_oversample(self) -> None:
        super()._set_batch_size_and_oversample()
        if self.settings.batch_size is not None:
            self.batch_size = self.settings.batch_size
        if self.settings.batch_pixels is not None:
            fitting = self.settings.batch_pixels // int(np.prod(self.configuration_manager.patch_size))
            self.batch_size = max(2, min(self.batch_size, fitting))

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """nnU-Net's SGD with its polynomial decay, or AdamW with warm-up and cosine; stepped with each iteration."""
        parameters, rate, decay = self.network.parameters(), self.initial_lr, self.weight_decay
        steps = self.num_epochs * self.num_iterations_per_epoch
        if self.settings.optimizer == "adamw":
            adamw = torch.optim.AdamW(parameters, rate, weight_decay=decay)
            return adamw, WarmCosine(adamw, rate, steps)
        sgd = torch.optim.SGD(parameters, rate, weight_decay=decay, momentum=0.99, nesterov=True)
        return sgd, PolyLRScheduler(sgd, rate, steps)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """One augmented loader over the annotated cases, and one plain loader for the pseudo Dice: over the same cases,
        or, where the best checkpoint is wanted, over the test cases.
        """
        rotation, dummy, initial_patch, mirror = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        scales = self._get_deep_supervision_scales()
        patch = self.configuration_manager.patch_size
        ignore = self.label_manager.ignore_label
        masked = self.configuration_manager.use_mask_for_norm
        axes = mirror if self.settings.mirroring else ()
        augment = self.get_training_transforms(patch, rotation, scales, axes, dummy, use_mask_for_norm=masked)
        training = _repeatable(augment)
        plain = self.get_validation_transforms(scales)
        checked = dict.fromkeys(self.tests, 1) if self.settings.checkpoint == "best" else self.weights_of_cases
        return (
            self._feed(self.weights_of_cases, initial_patch, _keep_padding_out(training, ignore)),
            self._feed(checked, patch, _keep_padding_out(plain, ignore)),
        )

    def _feed(self, weights: dict[str, int], initial_patch: Any, transforms: ComposeTransforms) -> Any:
        cases = AnnotatedCases(Path(self.preprocessed_dataset_folder), self.labels, list(weights))
        counts = np.array([weights[case] for case in cases.identifiers], dtype=float)
        loader = nnUNetDataLoader(
            cases,
            self.batch_size,
            initial_patch,
            self.configuration_manager.patch_size,
            self.label_manager,
            oversample_foreground_percent=self.oversample_foreground_percent,
            sampling_probabilities=counts / counts.sum(),
            transforms=transforms,
        )
        workers = self.settings.workers
        if workers == 0:
            return SingleThreadedAugmenter(loader, None)
        # Seeded and asked in turn: unlike nnU-Net's own choice, the same seed gives the same batches.
        seeds = [int(seed) for seed in np.random.randint(2**31, size=workers)]
        return MultiThreadedAugmenter(loader, None, workers, 2, seeds, pin_memory=self.device.type == "cuda")

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take one step as nnU-Net does; on a CPU in the settings' precision (nnU-Net: CUDA only) and memory format."""
        done = self.current_epoch * self.num_iterations_per_epoch + self._iteration
        self.lr_scheduler.step(done)
        self._pace.report(done)
        self._iteration += 1
        if self.device.type != "cpu":
            return super().train_step(batch)
        images = batch["data"].contiguous(memory_format=memory_format(self.settings.memory_format))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16"):
            output = self.network(images)
        loss = self.loss([head.float() for head in output], batch["target"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        return {"loss": loss.detach().numpy()}

    def on_train_epoch_start(self) -> None:
        """As in nnU-Net, but the learning rate is stepped with each iteration: short rounds have few epochs."""
        self.network.train()
        self._iteration = 0
        if self._pace is None:
            epoch = self.num_iterations_per_epoch
            begun, steps = self.current_epoch * epoch, self.num_epochs * epoch
            self._pace = Pace("train", steps, self.emit, "steps", begun, _TOLD_SECONDS)
        self.logger.log("lrs", self.optimizer.param_groups[0]["lr"], self.current_epoch)

    def on_epoch_end(self) -> None:
        """Tell the listener, keep the best weights where they are wanted, and a checkpoint to resume from; no plot."""
        self.logger.log("epoch_end_timestamps", time.time(), self.current_epoch)
        seconds = np.subtract(
            self.logger.get_value("epoch_end_timestamps", step=None),
            self.logger.get_value("epoch_start_timestamps", step=None),
        )
        left = self.num_epochs - self.current_epoch - 1
        dice = float(self.logger.get_value("mean_fg_dice", step=-1))
        data = {
            "epoch": self.current_epoch + 1,
            "epochs": self.num_epochs,
            "loss": round(float(self.logger.get_value("train_losses", step=-1)), 4),
            "dice": None if np.isnan(dice) else round(dice, 4),
            "seconds_left": round(float(np.mean(seconds[-5:])) * left, 1),
        }
        if self.settings.checkpoint == "best":
            self._keep_best(float(self.logger.get_value("ema_fg_dice", step=-1)))
        self.emit(Event("epoch", data))
        if left and time.monotonic() - self._saved > _CHECKPOINT_SECONDS:
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
            self._saved = time.monotonic()
        self.current_epoch += 1

    def _keep_best(self, average: float) -> None:
        """nnU-Net's rule: the epoch with the largest moving average (0.9 old, 0.1 new) of the mean pseudo Dice."""
        if not self.best or not self._best_ema >= average:
            self._best_ema = average
            weights = {name: value.cpu() for name, value in self.network.state_dict().items()}
            # One copy of the whole: the decoder's and the encoder's entries for one tensor stay one, as in other files.
            self.best = {"epoch": self.current_epoch + 1, "weights": copy.deepcopy(weights)}

    def save_checkpoint(self, filename: str) -> None:
        """As in nnU-Net, but a kill leaves the previous checkpoint whole.

        Random states and the best weights so far lie in the same file: of two, a kill could leave one of each age.
        """
        states = {"numpy": np.random.get_state(), "torch": torch.get_rng_state(), "best": self.best}
        with atomic_path(Path(filename)) as part:
            super().save_checkpoint(str(part))
            torch.save({**torch.load(part, weights_only=False), _STATES: states}, part)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """As in nnU-Net, with what `save_checkpoint` added."""
        super().load_checkpoint(filename_or_checkpoint)
        content = filename_or_checkpoint
        if isinstance(content, str):
            content = torch.load(content, map_location="cpu", weights_only=False)
        states = content[_STATES]
        np.random.set_state(states["numpy"])
        torch.set_rng_state(states["torch"])
        self.best = states["best"]

    def plot_network_architecture(self) -> None:
        """Not drawn: the plan says what the network is."""

    def _save_debug_information(self) -> None:
        """Not written: the manifest of the round records versions and settings."""


def _repeatable(transforms: ComposeTransforms) -> ComposeTransforms:
    """Without nnU-Net's stop watch: it blurs in the way that was quicker, so pixels depend on how busy a machine is."""
    for transform in transforms.transforms:
        blur = getattr(transform, "transform", transform)
        if isinstance(blur, GaussianBlurTransform):
            blur.benchmark = False
    return transforms


def _keep_padding_out(transforms: ComposeTransforms, ignore: int) -> ComposeTransforms:
    """Replace nnU-Net's "-1 becomes background" by the codes of `alunet.model.labels`."""
    meaning = {PADDING: ignore, OUTSIDE: 0, OUTSIDE_IGNORED: ignore}
    codes = [RemoveLabelTansform(code, value) for code, value in meaning.items()]
    kept: list[Any] = []
    for transform in transforms.transforms:
        kept.extend(codes if isinstance(transform, RemoveLabelTansform) else [transform])
    return ComposeTransforms(kept)
