"""Weights by formula: a parameter's values follow from its name, its shape and a seed, on every machine.

No file holds them and no order of construction changes them, so a test, a demonstration and a recorded
number refer to the same network. The formula is the one in tests/golden/README.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def draw_parameter(name: str, shape: Iterable[int], seed: int = 0) -> Tensor:
    """The float32 values, on the CPU, of the parameter `name` (released spelling) with `shape` under `seed`.

    Matrices and kernels keep their input's variance; scales lie around 1, biases around 0 (deviation 0.1).
    """
    size = tuple(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
    values = torch.randn(size, generator=generator)
    if len(size) >= 2:
        return values / (values.numel() / size[0]) ** 0.5
    if name.endswith("weight"):
        return 1 + 0.1 * values
    return 0.1 * values


def draw_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A whole state dict for `network`, which may stand on the meta device: only names and shapes are read.

    Integer buffers are counters and start at zero; a running variance has to be positive: |0.1 r| + 0.5.
    """
    state = {}
    for name, entry in network.state_dict().items():
        if not entry.is_floating_point():
            state[name] = torch.zeros(entry.shape, dtype=entry.dtype)
        elif name.endswith("running_var"):
            state[name] = draw_parameter(name, entry.shape, seed).abs() + 0.5
        else:
            state[name] = draw_parameter(name, entry.shape, seed)
    return state
