"""Passes and gradients of the network, part of Scripts/bench.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench_registry import Row, Size, benchmark, cpu_seconds, in_turn


@dataclass(frozen=True)
class Plan:
    """A network as nnU-Net plans it.

    Attributes:
        patch: (rows, columns) of a slice.
        features: of the stages.
        classes: background included.
        bar: of the pass against the matrix product; None where none is set.
    """

    patch: tuple[int, int]
    features: tuple[int, ...]
    classes: int
    bar: float | None


PLANS = {
    "hippocampus": Plan((56, 40), (32, 64, 128, 256), 3, 0.9),
    "acdc": Plan((256, 224), (32, 64, 128, 256, 512, 512), 4, 0.8),
    "ct": Plan((512, 512), (32, 64, 128, 256, 512, 512, 512, 512), 8, None),
}


def model_of(plan: Plan) -> Any:
    """A `Model` of that size, random weights."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    from alunet.model.network import Model

    torch.manual_seed(0)
    stages = len(plan.features)
    model = object.__new__(Model)
    model.network = PlainConvUNet(
        1,
        stages,
        list(plan.features),
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        n_conv_per_stage=2,
        num_classes=plan.classes,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"affine": True},
        dropout_op=nn.Dropout,
        dropout_op_kwargs={"p": 0.01},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
    )
    model.network.eval().requires_grad_(False)
    model.device, model.classes = torch.device("cpu"), plan.classes
    return model


class RandomTiles:
    """Stands in for `TileReader`: slices of noise from memory; batches as a CPU takes them."""

    def __init__(self, count: int, patch: tuple[int, int] = (56, 40), batch: int = 0) -> None:
        import numpy as np

        from alunet.model.reader import _BATCH_PIXELS

        shape = (count, 1, *patch)
        self.images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        self.batch = batch or max(1, _BATCH_PIXELS["cpu"] // (patch[0] * patch[1]))

    def batches(self, ids: Any) -> Any:
        """As `TileReader.batches`."""
        import numpy as np

        from alunet.model.reader import Tiles

        for start in range(0, len(ids), self.batch):
            images = self.images[ids[start : start + self.batch]]
            valid = np.ones((len(images), *images.shape[2:]), bool)
            yield Tiles(np.arange(start, start + len(images)), images, valid)


def operations(network: Any, image: Any) -> float:
    """Floating-point operations of the convolutions of a pass over one image."""
    import torch
    from torch import nn

    total = 0.0

    def count(layer: Any, given: Any, output: Any) -> None:
        nonlocal total
        pixels = (given[0] if isinstance(layer, nn.ConvTranspose2d) else output)[0, 0].numel()
        total += 2.0 * pixels * layer.weight.numel()

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    layers = {layer for layer in network.modules() if isinstance(layer, kinds)}
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    return total


@benchmark("model-pass", "hippocampus", "acdc", "ct")
def product_pass(size: Size) -> list[Row]:
    """A pass of the product over slices, in the arithmetic that it chooses, against a float32
    matrix product of as many operations.
    """
    import numpy as np
    import torch

    from alunet.model.arithmetic import FLOAT32, decide
    from alunet.model.hardware import describe_computer
    from alunet.model.score import entropy
    from alunet.model.settings import ScoringSettings
    from alunet.schema import ignore_events

    plan = PLANS[size.scale]
    model, chosen = model_of(plan), decide(None, "cpu", describe_computer("cpu"), ignore_events)
    count = {"hippocampus": 64, "acdc": 4, "ct": 2}[size.scale]
    tiles, ids = RandomTiles(count, plan.patch), np.arange(count)
    plain = model.full_resolution(ScoringSettings(precision="fp32"))
    work = count * operations(plain.network, torch.from_numpy(tiles.images[:1]))
    side = 1024
    left, right = torch.randn(side, side), torch.randn(side, side)
    own = (chosen["scoring"], chosen["scoring_format"])
    rows = []
    for precision, layout in dict.fromkeys((FLOAT32, own)):
        settings = ScoringSettings(precision=precision, memory_format=layout)

        def ours() -> None:
            entropy(model, tiles, ids, settings, ignore_events)  # noqa: B023

        seconds, product = in_turn(ours, lambda: torch.mm(left, right), 3 if size.quick else 5)
        product *= work / (2.0 * side**3)
        bar = plan.bar if (precision, layout) == own else None
        where = f"{plan.patch[0]} x {plan.patch[1]}, {precision}, {layout}"
        note = f"{1e3 * seconds / count:.3g} ms a slice, {work / seconds / 1e9:.0f} GFLOP/s"
        ratio = product / seconds
        what = f"pass / float32 product, {where}"
        rows.append(Row(what, seconds, product, ratio, bar, note=note, operations=work))
    return rows


@benchmark("model-dropout")
def dropout_passes(size: Size) -> list[Row]:
    """Ten dropout passes of hippocampus slices: batches, common masks, bfloat16, against one
    slice at a time.
    """
    import numpy as np
    import torch

    from alunet.model.arithmetic import decide, has_bfloat16_units
    from alunet.model.hardware import describe_computer
    from alunet.model.score import monte_carlo
    from alunet.model.settings import ScoringSettings
    from alunet.schema import ignore_events

    plan = PLANS["hippocampus"]
    model, count, few = model_of(plan), 32 if size.quick else 96, 4
    tiles, ids = RandomTiles(count), np.arange(count)
    rows = []

    def naive() -> None:
        model.network.train()
        with torch.no_grad():
            for image in torch.from_numpy(tiles.images[:few]):
                passes = [model.network(image[None])[0].softmax(1) for _ in range(10)]
                torch.stack(passes).var(0).mean()
        model.network.eval()

    slow = cpu_seconds(naive) / few * 1e3
    work = 10 * operations(model.network, torch.from_numpy(tiles.images[:1]))
    chosen = decide(None, "cpu", describe_computer("cpu"), ignore_events)["scoring"] == "bf16"
    ways = (("fp32", "contiguous", 1.8), ("bf16", "channels_last", 5.0 if chosen else None))
    for precision, layout, bar in ways[: 2 if has_bfloat16_units()[0] else 1]:
        settings = ScoringSettings(precision=precision, memory_format=layout)
        ours = cpu_seconds(lambda: monte_carlo(model, tiles, ids, settings, (0,), ignore_events))  # noqa: B023
        seconds, ours = ours, ours * 1e3 / count
        note = "ms a slice" + ("" if bar else "; not chosen here: float32 is faster")
        what = f"Dropout, 10 passes, {precision}"
        rows.append(Row(what, ours, slow, slow / ours, bar, False, note, seconds, count * work))
    return rows


@benchmark("model-masks")
def kept_masks(size: Size) -> list[Row]:
    """Dropout masks that are kept, against masks that are drawn again for each batch."""
    import numpy as np

    from alunet.model import dropout
    from alunet.model.score import monte_carlo
    from alunet.model.settings import ScoringSettings
    from alunet.schema import ignore_events

    model, count = model_of(PLANS["hippocampus"]), 16 if size.quick else 64
    tiles, ids, found = RandomTiles(count, batch=8), np.arange(count), {}

    def passes(room: int) -> None:
        usual, dropout._KEPT_ELEMENTS = dropout._KEPT_ELEMENTS, room
        settings = ScoringSettings(precision="fp32")
        found[room] = monte_carlo(model, tiles, ids, settings, (0,), ignore_events).var
        dropout._KEPT_ELEMENTS = usual

    room = dropout._KEPT_ELEMENTS
    kept, drawn = in_turn(lambda: passes(room), lambda: passes(0))
    error = float(np.abs(found[room] - found[0]).max() / np.abs(found[0]).max())
    what = f"Dropout, 10 passes of {count} slices"
    return [
        Row(f"{what}, masks kept / drawn again", kept, drawn, drawn / kept),
        Row(f"{what}, difference of the two", error, 0, error, 1e-5, True, "relative", kept),
    ]


@benchmark("model-gradients")
def sample_gradients(size: Size) -> list[Row]:
    """Gradients of each sample, batched, against the one-sample loop: a backward pass through the
    whole network, of which a layer's gradient is taken.
    """
    import numpy as np
    import torch

    from alunet.model import gradients
    from alunet.schema import ignore_events

    model, count, few = model_of(PLANS["hippocampus"]), 32 if size.quick else 64, 4
    reader = gradients.GradientReader(
        model, RandomTiles(count, batch=16), "training", ignore_events
    )
    ids = np.arange(count)
    coordinates = np.sort(np.random.default_rng(0).choice(580_000, 10_000, False))
    parameters = [(value, value.clone()) for value in model.network.parameters()]

    def loop(layers: list[Any]) -> list[Any]:
        own = list(model.network.parameters())
        found = []
        model.network.requires_grad_(True)
        for image in torch.from_numpy(reader.reader.images[:few]):
            loss = reader._loss(model.network(image[None]), torch.ones(1, *image.shape[1:]))
            of = dict(zip(own, torch.autograd.grad(loss, own, allow_unused=True), strict=True))
            found.append(torch.cat([of[layer.weight].flatten() for layer in layers]).numpy())
        model.network.requires_grad_(False)
        return found

    def bottleneck() -> Any:
        delta, inputs = gradients.bottleneck_factors(reader, ids)
        few_ = (torch.from_numpy(part[:few]) for part in (inputs, delta))
        return lambda: gradients.weight_gradients(*few_, (3, 3)).numpy()

    def decoder() -> Any:
        found = gradients.decoder_gradients(reader, ids, coordinates)
        return lambda: found[:few]

    def last() -> Any:
        found = gradients.last_layer_gradients(reader, ids)
        return lambda: found[:few]

    ways = (
        ("last decoder convolution", reader.last, last, 3.5, slice(None)),
        ("bottleneck", reader.bottleneck, bottleneck, 2.0, slice(None)),
        ("decoder at 10,000 places", reader.decoder, decoder, 1.0, coordinates),
    )
    rows = []
    for name, layers, run, bar, columns in ways:
        seconds, slow = in_turn(run, lambda: loop(layers))  # noqa: B023
        ours, slow = seconds / count * 1e3, slow / few * 1e3
        exact = np.stack(loop(layers))[:, columns]
        error = float(np.abs(run()() - exact).max() / np.abs(exact).max())
        touched = any(not torch.equal(now, then) for now, then in parameters)
        what = f"Gradients, {name}"
        note = "ms a slice" + ("; PARAMETERS CHANGED" if touched else "")
        ratio = float("nan") if touched else slow / ours
        rows.append(Row(what, ours, slow, ratio, bar, False, note, seconds))
        rows.append(Row(f"{what}, error", error, 0, error, 1e-4, True, "relative", seconds))
    return rows
