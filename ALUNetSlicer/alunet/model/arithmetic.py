"""Choose how a device computes: floating-point type, memory format and allocator. The only place
that decides.

bfloat16 halves the time of a step on processors with bfloat16 units (AVX512-BF16, AMX) and
multiplies it by ten on all others, where it is emulated (docs/performance.md). So what a device can
do decides, and the network is timed, once for a project and computer, only to reject bfloat16 where
it is clearly slower. Times must not choose between candidates that are nearly equal: noise would,
and the same seed would give another batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alunet.model.environment import resolve_device
from alunet.model.hardware import OPENVINO
from alunet.schema import Emit

if TYPE_CHECKING:
    import torch

_CLEARLY_SLOWER = 1.15  # times float32
_BLOCKS = 3
_LARGEST_SIDE = 128  # pixels of the patches that are timed
# where there is no plan: hippocampus size
_REFERENCE = {"stages": 4, "patch": (64, 64), "classes": 3}

Candidate = tuple[str, str]
"""Floating-point type and memory format."""

FLOAT32: Candidate = ("fp32", "contiguous")
# with bfloat16 units; channels-last takes 0.89 to 1.1 times as long
TRAINING: Candidate = ("bf16", "contiguous")
# with bfloat16 units; contiguous takes 0.92 to 1.24 times as long
SCORING: Candidate = ("bf16", "channels_last")


@dataclass(frozen=True)
class Arithmetic:
    """What was chosen for a device, and why.

    Attributes:
        machine: `hardware.describe` of the computer; on another one the choice is made anew.
        device: "cpu", "cuda" or "mps".
        training, scoring: "fp32" or "bf16"; "native" is nnU-Net's own mixed precision on a GPU.
        training_format, scoring_format: "contiguous" or "channels_last", how the network's tensors
            are stored.
        seconds: of one step or pass, of what was timed.
        pixel_seconds: of a pixel of an image in a "training" step and in a "scoring" pass as they
            were chosen, on one thread of a processor.
        reason: one line for a person.
        engine: of passes without dropout: "torch" or "openvino".
    """

    machine: str
    device: str
    training: str = "fp32"
    training_format: str = "contiguous"
    scoring: str = "fp32"
    scoring_format: str = "contiguous"
    seconds: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    pixel_seconds: dict[str, float] = field(default_factory=dict)
    engine: str = "torch"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def has_bfloat16_units() -> tuple[bool, str]:
    """Return whether this processor computes in bfloat16 itself, as far as torch may use it, and
    what was found.

    ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA, which limit a capable processor, are respected.
    """
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability.startswith(("AVX", "DEFAULT", "NO AVX")):
        units = [
            name
            for name, probe in (
                ("AVX512-BF16", "_is_avx512_bf16_supported"),
                ("AMX", "_is_amx_tile_supported"),
            )
            if getattr(torch.cpu, probe, bool)()
        ]
        allowed = capability.startswith("AVX512") and _library_allows_bfloat16()
        if units and not allowed:
            return False, f"{capability}; {' and '.join(units)} switched off"
        return bool(units), f"{capability}, {' and '.join(units) or 'no bfloat16 units'}"
    return _library_allows_bfloat16(), capability


def _library_allows_bfloat16() -> bool:
    import torch

    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def decide(nnunet: str | None, device: str, machine: str, emit: Emit) -> dict[str, Any]:
    """Choose for `device` by what it supports; bfloat16 is timed against float32 on the plan's
    network.

    Args:
        nnunet: folder of a planned project; None: a network of the size of the hippocampus set's.
        device: "auto", "cpu", "cuda" or "mps".
        machine: `hardware.describe` of this computer.

    Returns:
        `Arithmetic.to_json`.
    """
    place = resolve_device(device)
    if place == "mps":
        reason = "Apple GPU: float32; bfloat16 was not measured there"
        return Arithmetic(machine, place, "native", reason=reason).to_json()
    native, found = _gpu_has_bfloat16() if place == "cuda" else has_bfloat16_units()
    seconds: dict[str, float] = {}
    scoring = FLOAT32
    training = ("native", "contiguous") if place == "cuda" else FLOAT32
    trial = Trial(Path(nnunet) if nnunet else None, place)
    if native:
        if place == "cpu":
            training = _unless_slower(TRAINING, "training", trial.training, seconds)
        scoring = _unless_slower(SCORING, "scoring", trial.scoring, seconds)
    reason = f"{found}: training in {_name(training)}, scoring in {_name(scoring)}"
    pixels = {"scoring": trial.scoring(*scoring) / trial.pixels}
    if place == "cpu":
        pixels["training"] = trial.training(*training) / trial.pixels
    engine = "torch"
    if place == "cpu" and scoring == FLOAT32 and find_spec(OPENVINO):  # bfloat16 is quicker
        engine = OPENVINO
        reason += ", without dropout by OpenVINO"
    chosen = Arithmetic(machine, place, *training, *scoring, seconds, reason, pixels, engine)
    return chosen.to_json()


def _unless_slower(
    candidate: Candidate, kind: str, timed: Callable[[str, str], float], seconds: dict[str, float]
) -> Candidate:
    """Return the candidate, or float32 where the candidate is clearly slower; both times are
    added to `seconds`.
    """
    times = dict.fromkeys((FLOAT32, candidate), math.inf)
    for _ in range(_BLOCKS):  # in turn, so that what else the computer does meets both
        times = {each: min(least, timed(*each)) for each, least in times.items()}
    seconds.update({f"{kind} {_name(each)}": value for each, value in times.items()})
    return FLOAT32 if times[candidate] > _CLEARLY_SLOWER * times[FLOAT32] else candidate


def _gpu_has_bfloat16() -> tuple[bool, str]:
    import torch

    capability = torch.cuda.get_device_capability()
    return capability >= (
        8,
        0,
    ), f"{torch.cuda.get_device_name()}, compute capability {capability[0]}.{capability[1]}"


def _name(candidate: Candidate) -> str:
    precision, layout = candidate
    word = {"fp32": "float32", "bf16": "bfloat16", "native": "nnU-Net's mixed precision"}[precision]
    return word if layout == "contiguous" else f"{word}, channels-last"


class Trial:
    """A network of the plan's architecture with random weights, and a small random batch.

    Processors are timed in CPU seconds of one thread, so that other programs on a busy computer
    count less.
    """

    def __init__(self, nnunet: Path | None, device: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.device = torch.device(device)
        self.network, channels, patch = _network(nnunet)
        self.network.to(self.device)
        sides = trial_sides(patch, 2 ** len(self.network.decoder.stages))
        self.images = torch.randn(2, channels, *sides, device=self.device)
        self.pixels = len(self.images) * math.prod(sides)

    def training(self, precision: str, layout: str) -> float:
        """Seconds of one forward and backward pass."""
        import torch

        network, images = self._prepared(layout)
        network.train().requires_grad_(True)

        def step() -> None:
            network.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                heads = network(images)
            sum(head.float().square().mean() for head in heads).backward()

        return self._timed(step)

    def scoring(self, precision: str, layout: str) -> float:
        """Seconds of one pass without gradients, by a network that was converted as
        `Model.full_resolution` does it.
        """
        import torch

        network, images = self._prepared(layout)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        network = network.eval().requires_grad_(False).to(dtype)

        def look() -> None:
            with torch.inference_mode():
                network(images.to(dtype))

        return self._timed(look)

    def _prepared(self, layout: str) -> tuple[torch.nn.Module, torch.Tensor]:
        import copy

        stored = memory_format(layout)
        return copy.deepcopy(self.network).to(memory_format=stored), self.images.contiguous(
            memory_format=stored
        )

    def _timed(self, work: Callable[[], None]) -> float:
        """The best of three, after one that is not counted."""
        work()
        return min(self._once(work) for _ in range(3))

    def _once(self, work: Callable[[], None]) -> float:
        import torch

        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        start = clock()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return round(clock() - start, 5)


def trial_sides(patch: Sequence[int], stride: int) -> list[int]:
    """Return the sides of the images of a trial: about `_LARGEST_SIDE`, and no larger than the
    patch.

    Each is a multiple of the network's whole stride, and twice that at least, because normalization
    in training needs more than one pixel at the lowest resolution; a smaller patch stays as it is.
    """
    wanted = max(_LARGEST_SIDE // stride, 2) * stride
    return [max(min(side, wanted) // stride * stride, stride) for side in patch]


def memory_format(layout: str) -> torch.memory_format:
    """Return torch's name for "contiguous" or "channels_last"."""
    import torch

    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def _network(nnunet: Path | None) -> tuple[Any, int, tuple[int, ...]]:
    """A network, its number of channels and its patch."""
    if nnunet is None:
        from dynamic_network_architectures.architectures.unet import PlainConvUNet
        from torch import nn

        stages = _REFERENCE["stages"]
        features = [32 * 2**stage for stage in range(stages)]
        strides = [1] + [2] * (stages - 1)
        network = PlainConvUNet(
            1,
            stages,
            features,
            nn.Conv2d,
            3,
            strides,
            2,
            _REFERENCE["classes"],
            2,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"affine": True},
            nonlin=nn.LeakyReLU,
            deep_supervision=True,
        )
        return network, 1, _REFERENCE["patch"]
    from alunet.model.network import Model  # it imports this module

    model = Model(nnunet, None, "cpu")
    return model.network, len(model.dataset["channel_names"]), model.patch
