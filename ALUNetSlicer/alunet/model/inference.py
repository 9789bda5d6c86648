"""Deterministic float32 passes of a network on a processor through OpenVINO, an optional package.

It fuses normalizations and activations into the convolutions, which torch computes one after the
other (docs/performance.md); the results are torch's to rounding. The network is read by OpenVINO's
frontend for torch, not by its converter, which reports to its makers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_WORTH = 4_000_000
"""Pixels after which reading and compiling the network, some seconds, has paid for itself. They are
counted and not timed, so that the same images give the same numbers.
"""


class Inference(nn.Module):
    """A network that was not compiled for its first images, and is for all others.

    Args:
        network: on the CPU, float32, one tensor in and one out, without gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._pixels = 0
        self._model: Any = None
        self._requests: dict[tuple[int, ...], Any] = {}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (b, C, H, W)."""
        if self._pixels < _WORTH:
            self._pixels += images.numel() // images.shape[1]
            found: torch.Tensor = self.network(images)
            return found
        request = self._requests.get(tuple(images.shape))
        if request is None:
            request = self._requests[tuple(images.shape)] = self._compiled(images)
        # the buffers of the request are used again by the next pass
        return torch.from_numpy(request.infer([images.contiguous().numpy()])[0].copy())

    def _compiled(self, images: torch.Tensor) -> Any:
        """A request for images of this shape, on as many threads as torch has."""
        from openvino import Core

        if self._model is None:
            self._model = _read(self.network, images)
        model = self._model.clone()
        model.reshape(list(images.shape))
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        return Core().compile_model(model, "CPU", options).create_infer_request()


def _read(network: nn.Module, images: torch.Tensor) -> Any:
    """The network as OpenVINO's model."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    reader = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(network, example_input=(images,))  # kept until it is read
    return reader.convert(reader.load(decoder))
