"""Per-sample gradients, batched (docs/method.md, 2.5 and 5.3), of the losses of
`alunet.model.losses`.

One backward of the batch's summed loss yields, at each chosen convolution, its input `a` and the
gradient `delta` of its output; a sample's weight gradient is delta_b (x) a_b summed over positions.
That is exact, because samples do not interact (instance norm). Biases are left out: instance norm
makes their gradients zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from alunet.model.losses import Loss, log_likelihood
from alunet.model.network import Model
from alunet.model.reader import TileReader, Tiles
from alunet.model.score import TimedProgress
from alunet.schema import Emit

_FEW = 0.2  # share of a layer's entries up to which each is computed for itself


class GradientReader:
    """Runs the network over tiles and hands out, per batch, `a` and `delta` of chosen 3x3
    convolutions.

    Args:
        heads: weights of the deep-supervision heads, see `Model.head_weights`.
        loss: of one head.
    """

    def __init__(
        self, model: Model, reader: TileReader, heads: str, emit: Emit, loss: Loss = log_likelihood
    ) -> None:
        self.model = model
        self.reader = reader
        self.weights = model.head_weights(heads)
        self.emit = emit
        self.loss = loss

    @property
    def bottleneck(self) -> list[nn.Conv2d]:
        """The second convolution of the last encoder stage."""
        return [_convolutions(self.model.network.encoder.stages[-1])[-1]]

    @property
    def decoder(self) -> list[nn.Conv2d]:
        """All 3x3 convolutions of the decoder, low to high resolution; no transposed ones, no
        heads.
        """
        return [
            layer for stage in self.model.network.decoder.stages for layer in _convolutions(stage)
        ]

    @property
    def last(self) -> list[nn.Conv2d]:
        """The last 3x3 convolution of the decoder, in front of the finest head."""
        return self.decoder[-1:]

    def sweep(
        self, ids: np.ndarray, layers: list[nn.Conv2d], phase: str
    ) -> Iterator[tuple[Tiles, list[torch.Tensor], list[torch.Tensor]]]:
        """Yield (tiles, inputs, deltas) of each batch; inputs[l] (b, C_in, h, w), deltas[l] (b,
        C_out, h, w).
        """
        pace = TimedProgress(phase, len(ids), self.emit)
        for tiles in self.reader.batches(ids):
            inputs, deltas = self._backward(tiles, layers)
            yield tiles, inputs, deltas
            pace.report(int(tiles.rows[-1]) + 1)

    def _backward(
        self, tiles: Tiles, layers: list[nn.Conv2d]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        caught: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

        def catch(place: int) -> Callable[..., torch.Tensor]:
            def hook(
                _: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor
            ) -> torch.Tensor:
                # The parameters need no gradient, so autograd starts here: nothing before the first
                # layer is kept.
                output = output if output.requires_grad else output.detach().requires_grad_(True)
                caught[place] = (arguments[0].detach(), output)
                return output

            return hook

        hooks = [layer.register_forward_hook(catch(place)) for place, layer in enumerate(layers)]
        try:
            with torch.enable_grad():
                images = torch.from_numpy(tiles.images).to(self.model.device, self.model.dtype)
                loss = self._loss(
                    self.model.network(images), torch.from_numpy(tiles.valid).to(self.model.device)
                )
            deltas = torch.autograd.grad(loss, [caught[place][1] for place in range(len(layers))])
        finally:
            for hook in hooks:
                hook.remove()
        return [caught[place][0] for place in range(len(layers))], list(deltas)

    def _loss(self, heads: list[torch.Tensor], valid: torch.Tensor) -> torch.Tensor:
        total = heads[0].new_zeros(())
        for weight, logits in zip(self.weights, heads, strict=True):
            if weight == 0:
                continue
            inside = functional.adaptive_max_pool2d(
                valid[:, None].to(logits.dtype), logits.shape[2:]
            )[:, 0]
            total = total + weight * self.loss(logits, inside).sum()
        return total


def _convolutions(stage: nn.Module) -> list[nn.Conv2d]:
    found = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return list(dict.fromkeys(found))


def bottleneck_factors(gradients: GradientReader, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`delta` (n, C_out, h, w) and `inputs` (n, C_in, h, w) of the bottleneck convolution,
    float32.
    """
    delta, inputs = [], []
    for _, entering, deltas in gradients.sweep(ids, gradients.bottleneck, "embed: bottleneck"):
        delta.append(deltas[0].cpu().numpy())
        inputs.append(entering[0].cpu().numpy())
    return np.concatenate(delta), np.concatenate(inputs)


def weight_gradients(
    inputs: torch.Tensor, delta: torch.Tensor, kernel: tuple[int, ...]
) -> torch.Tensor:
    """Weight gradient of each sample of a stride-1, same-padded convolution: (b, C_out * C_in * k *
    k).

    A small map is unfolded and multiplied; a large one goes through the grouped convolution that
    autograd itself uses, which never keeps the k*k-fold copy of the input.
    """
    batch, channels_in, height, width = inputs.shape
    channels_out = delta.shape[1]
    padding = tuple(k // 2 for k in kernel)
    if height * width <= 1024:
        columns = functional.unfold(inputs, kernel, padding=padding)
        return torch.bmm(delta.flatten(2), columns.transpose(1, 2)).flatten(1)
    shape = (batch * channels_out, channels_in, *kernel)
    grouped: torch.Tensor = conv2d_weight(
        inputs.reshape(1, batch * channels_in, height, width),
        shape,
        delta.reshape(1, batch * channels_out, height, width),
        padding=padding,
        groups=batch,
    )
    return grouped.reshape(batch, -1)


def gradients_at(
    inputs: torch.Tensor, delta: torch.Tensor, kernel: tuple[int, ...], entries: np.ndarray
) -> torch.Tensor:
    """Entries of the weight gradient of each sample of a stride-1, same-padded convolution: (b, d).

    On a CPU a few of many entries are computed alone, each the dot product of two maps, which takes
    a third of the time of all of them; elsewhere, and where many are wanted, all are computed.

    Args:
        entries: (d,) places in the flat weight (C_out, C_in, k, k).
    """
    size = delta.shape[1] * inputs.shape[1] * kernel[0] * kernel[1]
    if delta.device.type != "cpu" or len(entries) > _FEW * size:
        wanted = torch.from_numpy(entries).to(inputs.device)
        return weight_gradients(inputs, delta, kernel)[:, wanted]
    from alunet.model._dots import shifted_dots  # numba is slow to import

    # Rows of both maps get the same length; where one ends, zeros of `delta` meet the padding.
    vertical, horizontal = kernel[0] // 2, kernel[1] // 2
    width = inputs.shape[3] + 2 * horizontal
    padded = functional.pad(inputs, (horizontal, horizontal, vertical, vertical)).flatten(2)
    padded = functional.pad(padded, (0, 2 * horizontal))
    flat = functional.pad(delta, (0, 2 * horizontal)).flatten(2)
    shape = (delta.shape[1], inputs.shape[1], *kernel)
    of_delta, of_inputs, down, right = np.unravel_index(entries, shape)
    found = torch.empty((len(delta), len(entries)), dtype=delta.dtype)
    shift = down * width + right
    shifted_dots(flat.numpy(), padded.numpy(), of_delta, of_inputs, shift, found.numpy())
    return found


def fisher_diagonal(gradients: GradientReader, ids: np.ndarray) -> np.ndarray:
    """F_j = mean over `ids` of the squared decoder gradient (docs/method.md, 2.6): (P,) float64,
    order of `decoder`.
    """
    layers = gradients.decoder
    sums = [torch.zeros(layer.weight.numel(), dtype=torch.float64) for layer in layers]
    for _, inputs, deltas in gradients.sweep(ids, layers, "embed: Fisher"):
        for place, layer in enumerate(layers):
            squares = weight_gradients(inputs[place], deltas[place], layer.kernel_size).square()
            sums[place] += squares.sum(0).cpu().double()
    return torch.cat(sums).numpy() / len(ids)


def decoder_gradients(
    gradients: GradientReader, ids: np.ndarray, coordinates: np.ndarray
) -> np.ndarray:
    """Gradients at `coordinates` of the concatenated decoder weights: (n, d) float32, columns as
    `coordinates`.
    """
    layers = gradients.decoder
    result = np.empty((len(ids), len(coordinates)), np.float32)
    wanted, begin = [], 0
    for layer in layers:
        end = begin + layer.weight.numel()
        columns = np.flatnonzero((coordinates >= begin) & (coordinates < end))
        wanted.append((columns, coordinates[columns] - begin))
        begin = end
    for tiles, inputs, deltas in gradients.sweep(ids, layers, "embed: decoder"):
        for place, (columns, entries) in enumerate(wanted):
            if len(columns):
                kernel = layers[place].kernel_size
                values = gradients_at(inputs[place], deltas[place], kernel, entries)
                result[np.ix_(tiles.rows, columns)] = values.cpu().numpy()
    return result


def last_layer_gradients(gradients: GradientReader, ids: np.ndarray) -> np.ndarray:
    """Gradients of the decoder's last 3x3 convolution: (n, C_out * C_in * 9) float32."""
    layer = gradients.last[0]
    result = np.empty((len(ids), layer.weight.numel()), np.float32)
    for tiles, inputs, deltas in gradients.sweep(ids, [layer], "embed: last layer"):
        result[tiles.rows] = weight_gradients(inputs[0], deltas[0], layer.kernel_size).cpu().numpy()
    return result
