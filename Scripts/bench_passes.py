"""Ways to compute one deterministic pass of nnU-Net's U-Net in float32 on one thread, against the
rate of this processor's float32 matrix product in the same run; as it is and limited to AVX2.

Each processor is measured in a process of its own, because torch and OpenVINO read their limits
when they are loaded.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from timing import Measured

PROCESSORS = {
    "as it is": {},
    "limited to AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # of the matrix product
    },
}
REPEATS = 3
WORK = 15.0  # GFLOP of a repetition, at least


@dataclass(frozen=True)
class Size:
    """A network of nnU-Net's plan, and how many slices a pass looks at.

    Attributes:
        bar: GFLOP/s of the pass as a share of those of the matrix product.
    """

    features: tuple[int, ...]
    patch: tuple[int, int]
    batch: int
    bar: float


SIZES = {
    "Hippocampus": Size((32, 64, 128, 256), (56, 40), 16, 0.9),
    "ACDC": Size((32, 64, 128, 256, 512, 512), (256, 224), 2, 0.8),
}


def measure(quick: bool) -> Measured:
    """GFLOP/s of the product's pass, and of the matrix product, in each processor."""
    rows: Measured = []
    for name, limits in PROCESSORS.items():
        command = [sys.executable, __file__, "quick" if quick else "all"]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **_allocator(), **limits}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=variables)
        found = json.loads(done.stdout.splitlines()[-1])
        for size, rates in found.items():
            note = ", ".join(
                f"{way} {rate:.0f}"
                for way, rate in rates.items()
                if way not in ("product", "bound")
            )
            label = f"pass at {size} size, processor {name} (bar {SIZES[size].bar})"
            rows.append((label, rates["product"], rates["bound"], f"GFLOP/s; {note}"))
    return rows


def _allocator() -> dict[str, str]:
    from alunet.model.hardware import allocator_variables

    return allocator_variables()


def network_of(size: Size) -> Any:
    """nnU-Net's network of that size with random weights, which gives the finest head alone."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    torch.manual_seed(0)
    stages = len(size.features)
    return (
        PlainConvUNet(
            1,
            stages,
            size.features,
            nn.Conv2d,
            3,
            [1] + [2] * (stages - 1),
            2,
            4,
            2,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        .eval()
        .requires_grad_(False)
    )


def rates(size: Size, quick: bool) -> dict[str, float]:
    """GFLOP/s of each way, the best of some repetitions, the ways in turn."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network, images = network_of(size), torch.randn(size.batch, 1, *size.patch)
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        expected = network(images)
    work = counter.get_total_flops() / 1e9
    count = math.ceil(WORK / work)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    ways: dict[str, tuple[Callable[[], Any], float]] = {
        "bound": (lambda: [left @ right for _ in range(8)], 8 * 2 * 1024**3 / 1e9)
    }
    for name, run in passes(network, images, quick).items():
        with torch.inference_mode():
            error = float((run() - expected).abs().max() / expected.abs().max())
        if error > (0.1 if name == "product" else 1e-4):  # which may be in bfloat16
            raise SystemExit(f"{name}: wrong by {error:.1e}")
        ways[name] = ((lambda run=run: [run() for _ in range(count)]), count * work)
    best = dict.fromkeys(ways, 0.0)
    for _ in range(2 if quick else REPEATS):
        for name, (run, amount) in ways.items():
            start = time.process_time()
            with torch.inference_mode():
                run()
            best[name] = max(best[name], amount / (time.process_time() - start))
    return best


def passes(network: Any, images: Any, quick: bool) -> dict[str, Callable[[], Any]]:
    """The ways, by name."""
    import copy

    import torch

    from alunet.model import inference
    from alunet.model.network import computed
    from alunet.model.settings import ScoringSettings

    own = product(copy.deepcopy(network))
    found: dict[str, Callable[[], Any]] = {
        "product": lambda: own(images),
        "eager": lambda: network(images),
    }
    if quick:
        return found
    stored = copy.deepcopy(network).to(memory_format=torch.channels_last)
    picture = images.contiguous(memory_format=torch.channels_last)
    found["channels-last"] = lambda: stored(picture)
    frozen = torch.jit.optimize_for_inference(
        torch.jit.freeze(torch.jit.trace(network, images)), other_methods=None
    )
    found["frozen"] = lambda: frozen(images)
    if os.environ.get("BENCH_COMPILE") and shutil.which("g++"):
        compiled = torch.compile(copy.deepcopy(network))
        found["compiled"] = lambda: compiled(images)
    settings, place = ScoringSettings(), torch.device("cpu")
    plain = computed(copy.deepcopy(network), settings, place)
    found["group norms"] = lambda: plain(images)
    last = computed(copy.deepcopy(network), replace(settings, memory_format="channels_last"), place)
    found["both"] = lambda: last(images)
    if importlib.util.find_spec("openvino"):
        inference._WORTH = 0  # compiled at once
        read = inference.Inference(network)
        found["OpenVINO"] = lambda: read(images)
    return found


def product(network: Any) -> Callable[[Any], Any]:
    """The pass without dropout as a project on this computer computes it."""
    import torch

    from alunet.loop.recipe import preset
    from alunet.model import hardware, inference
    from alunet.model.arithmetic import Arithmetic, decide
    from alunet.model.network import without_dropout
    from alunet.schema import ignore_events

    inference._WORTH = 0  # compiled at once
    machine, place = hardware.describe_computer("cpu"), torch.device("cpu")
    chosen = Arithmetic(**decide(None, "cpu", machine, ignore_events))
    settings = preset("cpu").computed_with(chosen).scoring
    return without_dropout(network, settings, place)


def main(quick: bool) -> None:
    """Measure this processor, and print JSON."""
    import torch

    torch.set_num_threads(1)
    found = {}
    for name, size in SIZES.items():
        found[name] = rates(size, quick)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] == "quick")
