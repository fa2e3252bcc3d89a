"""Convolution, batch norm and ReLU: to train, and as ONNX with the norm folded in and weights in half precision."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echovideo_model.tiny.graph import Graph


class Block(nn.Module):
    """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, skip: bool = False
    ) -> None:
        super().__init__()
        self.stride, self.pad, self.skip = stride, (kernel - stride + 1) // 2 if kernel > stride else 0, skip
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, self.pad, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=0.05)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        return x + y if self.skip else y

    def write(self, graph: Graph, x: str) -> str:
        """This block as nodes after `x`; returns the output's name."""
        gain = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        weight = self.conv.weight * gain[:, None, None, None]
        bias = self.norm.bias - self.norm.running_mean * gain
        y = write_conv(graph, x, weight, bias, self.stride, self.pad)
        y = graph.add("Relu", y)
        return graph.add("Add", x, y) if self.skip else y


def write_conv(graph: Graph, x: str, weight: Tensor, bias: Tensor, stride: int = 1, pad: int = 0) -> str:
    weights, biases = (half(graph, value) for value in (weight, bias))
    return graph.add("Conv", x, weights, biases, strides=[stride] * 2, pads=[pad] * 4)


def half(graph: Graph, weights: Tensor) -> str:
    """float16 in the file, float32 when it runs."""
    stored = graph.constant(weights.detach().numpy().astype(np.float16))
    return graph.add("Cast", stored, to=1)
