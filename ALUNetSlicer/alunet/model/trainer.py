"""nnU-Net's trainer on sparse slices (docs/method.md, 1.5): what differs from nnU-Net, and nothing
else.

Only annotated cases are sampled, in proportion to their annotated slices, because nnU-Net would
draw unlabelled cases and learn their padding as background. Padding is ignored, not background. The
final checkpoint is the model; nnU-Net's "best" one, chosen on the test cases, is kept where the
settings ask for it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from alunet.errors import EngineError, InputError
from alunet.model import batches, stored
from alunet.model.arithmetic import memory_format
from alunet.model.labels import LabelFolder
from alunet.model.schedules import RateSchedule, WeightAverage
from alunet.model.score import TimedProgress
from alunet.model.settings import TrainingSettings
from alunet.schema import Emit, Event, ignore_events
from alunet.storage.files import atomic_path

_STATES = "alunet"  # key of what our checkpoints hold besides nnU-Net's
_TIMED_SECONDS = 2.0  # at least, to know how long a step takes
_TOLD_SECONDS = 2.0  # how often a long epoch says how far it is
_CHECKPOINT_SECONDS = 60.0  # an interrupted training repeats at most this much


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
        self._pace: TimedProgress | None = None
        self._average: WeightAverage | None = None

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
            tests: the test cases, on which the best checkpoint is chosen where the settings ask for
                that.

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
        self.weights_of_cases = {
            case: 1 if uniform else count for case, count in sorted(cases.items())
        }
        self.tests = sorted(tests)
        self.num_epochs = settings.epochs
        self.num_iterations_per_epoch = settings.iterations
        self.num_val_iterations_per_epoch = settings.check_iterations
        self.initial_lr = settings.learning_rate
        self.weight_decay = settings.weight_decay

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.num_epochs * self.num_iterations_per_epoch

    def initialize(self) -> None:
        """Build as nnU-Net does, and store the weights in the settings' memory format."""
        super().initialize()
        self.network.to(memory_format=memory_format(self.settings.memory_format))
        if self.settings.average:
            self._average = WeightAverage(
                self.network.parameters(), self.settings.average * self.steps
            )

    def _build_loss(self) -> Any:
        """nnU-Net's loss; it leaves out the lowest resolution, so where that is the only one, the
        weights would be 0 / 0.
        """
        with np.errstate(invalid="ignore"):
            loss = super()._build_loss()
        if len(loss.weight_factors) == 1:
            loss.weight_factors = (1.0,)
        return loss

    def _set_batch_size_and_oversample(self) -> None:
        super()._set_batch_size_and_oversample()
        if self.settings.batch_size is not None:
            self.batch_size = self.settings.batch_size
        if self.settings.batch_pixels is not None:
            fitting = self.settings.batch_pixels // int(
                np.prod(self.configuration_manager.patch_size)
            )
            self.batch_size = max(2, min(self.batch_size, fitting))
        if self.settings.memory_share < 1:
            self.batch_size = max(2, int(self.batch_size * self.settings.memory_share))
        self.oversample_foreground_percent = self.settings.foreground

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, RateSchedule]:
        """Return nnU-Net's SGD or AdamW, and the schedule of the rate, stepped with each
        iteration.
        """
        parameters, rate, decay = self.network.parameters(), self.initial_lr, self.weight_decay
        optimizer: torch.optim.Optimizer
        if self.settings.optimizer == "adamw":
            # one pass over the weights instead of a dozen
            fused = self.device.type in ("cpu", "cuda")
            optimizer = torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
        else:
            optimizer = torch.optim.SGD(
                parameters, rate, weight_decay=decay, momentum=0.99, nesterov=True
            )
        return optimizer, RateSchedule(
            optimizer, rate, self.steps, self.settings.schedule, self.settings.warmup
        )

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(
        self,
    ) -> tuple[Any, bool, Any, tuple[int, ...]]:
        """As nnU-Net, with the rotation and mirroring of the settings."""
        rotation, dummy, cut, mirror = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.settings.rotation is not None:
            angle = math.radians(self.settings.rotation)
            rotation = (-angle, angle)
        return rotation, dummy, cut, mirror if self.settings.mirroring else ()

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return an augmented loader over the annotated cases, and a plain one for the pseudo Dice.

        The latter is over the same cases, or, where the best checkpoint is wanted, over the test
        cases.
        """
        patch = self.configuration_manager.patch_size
        scales = self._get_deep_supervision_scales()
        checked = (
            dict.fromkeys(self.tests, 1)
            if self.settings.checkpoint == "best"
            else self.weights_of_cases
        )
        training = self._augmented(patch)
        if self.settings.growth:
            small = self._augmented(self._half(patch))
            training = batches.InTurn(
                small, training, round(self.settings.growth * self.steps), self._done()
            )
        return training, self._feed(checked, patch, patch, self.get_validation_transforms(scales))

    def _done(self) -> int:
        return self.current_epoch * self.num_iterations_per_epoch

    def _half(self, patch: Sequence[int]) -> list[int]:
        """Half the sides of a patch, rounded up to what the network can halve in each of its
        stages.
        """
        strides = np.prod(self.configuration_manager.pool_op_kernel_sizes, axis=0)
        return [
            min(side, math.ceil(side / 2 / step) * step)
            for side, step in zip(patch, strides, strict=True)
        ]

    def _augmented(self, patch: Sequence[int]) -> Any:
        rotation, dummy, cut, mirror = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        whole = self.configuration_manager.patch_size
        cut = [math.ceil(c * p / w) for c, p, w in zip(cut, patch, whole, strict=True)]
        transforms = self.get_training_transforms(
            patch,
            rotation,
            self._get_deep_supervision_scales(),
            mirror,
            dummy,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
        )
        return self._feed(self.weights_of_cases, cut, patch, batches.repeatable(transforms))

    def _feed(self, weights: dict[str, int], cut: Any, patch: Any, transforms: Any) -> Any:
        cases = batches.AnnotatedCases(
            Path(self.preprocessed_dataset_folder), self.labels, list(weights)
        )
        kept = batches.keep_padding_out(transforms, self.label_manager.ignore_label)
        source = batches.loader(
            cases,
            weights,
            self.batch_size,
            cut,
            patch,
            self.label_manager,
            self.oversample_foreground_percent,
            kept,
        )
        workers = self.settings.workers if self.settings.memory_share == 1 else 0
        return batches.feed(source, workers, self.device.type == "cuda")

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take one step as nnU-Net does, at the rate of its number.

        Raises:
            EngineError: the loss or a gradient is not finite; on a CPU the weights are as before
                the step then.
        """
        done = self._done() + self._iteration
        self.lr_scheduler.step(done)
        self._pace.report(done)
        self._iteration += 1
        result = (
            self._step_on_cpu(batch) if self.device.type == "cpu" else super().train_step(batch)
        )
        if not np.isfinite(result["loss"]):
            raise self._not_finite(batch, done)
        if self._average is not None:
            self._average.update()
        return result

    def time_steps(self, clock: Callable[[], float]) -> float:
        """Return the mean time of a step, batch included: of at least three steps and one
        second, after two others.
        """
        for _ in range(2):
            self.train_step(next(self.dataloader_train))
        start, count = clock(), 0
        while count < 3 or clock() - start < _TIMED_SECONDS:
            self.train_step(next(self.dataloader_train))
            count += 1
        return (clock() - start) / count

    def _step_on_cpu(self, batch: dict[str, Any]) -> dict[str, Any]:
        """nnU-Net's step in the settings' precision and memory format (nnU-Net: mixed precision
        on CUDA only).
        """
        images = batch["data"].contiguous(memory_format=memory_format(self.settings.memory_format))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16"):
            output = self.network(images)
        loss = self.loss([head.float() for head in output], batch["target"])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        if not torch.isfinite(norm):
            return {"loss": np.float32(np.nan)}
        self.optimizer.step()
        return {"loss": loss.detach().numpy()}

    def _not_finite(self, batch: dict[str, Any], step: int) -> EngineError:
        """The error of a training that cannot go on; names the case whose image is not finite,
        or the most extreme.
        """
        extremes = {}
        for case, image in zip(batch["keys"], batch["data"], strict=True):
            extreme = float(image.abs().max())
            extremes[str(case)] = math.inf if math.isnan(extreme) else extreme
        case = max(extremes, key=extremes.__getitem__)
        return EngineError(
            f"The training stopped at step {step + 1}: the loss is not finite. "
            f"The most extreme values are in case '{case}' (up to {extremes[case]:.3g} after "
            f"normalization).",
            "Look at this image and leave the case out, or train at a lower rate. The last good "
            "model stays.",
        )

    def on_train_epoch_start(self) -> None:
        """As in nnU-Net, but the learning rate is stepped with each iteration: short rounds have
        few epochs.
        """
        self.network.train()
        self._iteration = 0
        if self._pace is None:
            self._pace = TimedProgress(
                "train", self.steps, self.emit, "steps", self._done(), _TOLD_SECONDS
            )
        self.logger.log("lrs", self.optimizer.param_groups[0]["lr"], self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        """As nnU-Net, on the averaged weights where there are any."""
        self._swap_average()
        super().on_validation_epoch_start()

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """As nnU-Net; then the weights of the last step come back."""
        super().on_validation_epoch_end(val_outputs)
        self._swap_average()

    def _swap_average(self) -> None:
        if self._average is not None:
            self._average.swap()

    def on_train_end(self) -> None:
        """As nnU-Net, after the averaged weights have become the network's."""
        self._swap_average()
        super().on_train_end()
        self.end_batches()

    def end_batches(self) -> None:
        """End the processes that augment."""
        batches.finish(self.dataloader_train)
        batches.finish(self.dataloader_val)

    def on_epoch_end(self) -> None:
        """Tell the listener, keep the best weights where they are wanted, and a checkpoint to
        resume from; no plot.
        """
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
        """nnU-Net's rule: the epoch with the largest moving average (0.9 old, 0.1 new) of the
        mean pseudo Dice.
        """
        if not self.best or not self._best_ema >= average:
            self._best_ema = average
            weights = {name: value.cpu() for name, value in self.network.state_dict().items()}
            # One copy of the whole: the decoder's and the encoder's entries for one tensor stay
            # one, as in other files.
            self.best = {"epoch": self.current_epoch + 1, "weights": copy.deepcopy(weights)}

    def save_checkpoint(self, filename: str) -> None:
        """As in nnU-Net, but a kill leaves the previous checkpoint whole, and it holds tensors and
        plain values alone, so that reading it runs nothing.

        Random states and the best weights so far lie in the same file: of two, a kill could leave
        one of each age.
        """
        states = {**stored.random_states(), "best": self.best}
        if self._average is not None:
            states["average"] = self._average.state()
        with atomic_path(Path(filename)) as part:
            torch.save(stored.plain({**stored.checkpoint_of(self), _STATES: states}), part)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """As in nnU-Net, with what `save_checkpoint` added; a file is read as numbers alone."""
        content = filename_or_checkpoint
        if isinstance(content, str):
            content = stored.load_tensors(Path(content))
        stored.restore_trainer(self, content)
        states = content[_STATES]
        stored.restore_random_states(states)
        self.best = states["best"]
        if self._average is not None:
            self._average.restore(states["average"])

    def plot_network_architecture(self) -> None:
        """Not drawn: the plan says what the network is."""

    def _save_debug_information(self) -> None:
        """Not written: the manifest of the round records versions and settings."""
