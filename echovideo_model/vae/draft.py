"""TAEHV's decoder for CogVideoX's latents (taecvx): small and quick, for previews and drafts.

Names and shapes are those of the published weights (github.com/madebyollin/taehv), whose encoder is not used: the face
latent is a sample of the large VAE's posterior, and that encoder has none. It takes the latents that the large VAE
gives, not the transformer's, which are LATENT_SCALE times as large (so its author's notebook, TAECVX_T2I_Demo).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .. import operations as plain_operations
from .autoencoder import OnChunk

LATENT_CHANNELS = 16
WIDTHS = (256, 128, 64, 64)
FRAMES = (1, 2, 2)  # that each level makes of one, at twice the height and width
EXTRA = 3  # frames before the first: the first latent frame stands for only one
SIGNS = ("decoder.22.bias", "decoder.3.conv.0.weight")
"""Parameters by which such a file is known; TAEHV's for HunyuanVideo and Wan have the same ones, with the same
shapes."""
Memory = dict[int, Tensor]
"""The frame before, of every block that looks at it."""


class Remembering(nn.Module):
    """Three convolutions over a frame and the one before it, around which the frame itself goes."""

    def __init__(self, width: int, operations: Any, **place: Any) -> None:
        super().__init__()
        widths = (2 * width, width, width, width)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [operations.Conv2d(fan_in, fan_out, 3, padding=1, **place), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Both [n, width, h, w]."""
        return F.relu(self.conv(torch.cat([x, before], 1)) + x)


class Grow(nn.Module):
    """Makes several frames of each."""

    def __init__(self, width: int, frames: int, operations: Any, **place: Any) -> None:
        super().__init__()
        self.width = width
        self.conv = operations.Conv2d(width, width * frames, 1, bias=False, **place)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, h, w] -> [n frames, width, h, w]."""
        return rearrange(self.conv(x), "n (f c) h w -> (n f) c h w", c=self.width)


class Bound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class DraftDecoder(nn.Module):
    """Latents [B, 16, t, h, w] to pixels, one latent frame at a time."""

    def __init__(self, operations: ModuleType | Any = plain_operations, **place: Any) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            Bound(),
            operations.Conv2d(LATENT_CHANNELS, WIDTHS[0], 3, padding=1, **place),
            nn.ReLU(),
        ]
        for (width, narrower), frames in zip(pairwise(WIDTHS), FRAMES, strict=True):
            layers += [Remembering(width, operations, **place) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), Grow(width, frames, operations, **place)]
            layers.append(operations.Conv2d(width, narrower, 3, padding=1, bias=False, **place))
        layers += [nn.ReLU(), operations.Conv2d(WIDTHS[-1], 3, 3, padding=1, **place)]
        self.decoder = nn.Sequential(*layers)

    def decode(self, latents: Tensor, on_chunk: OnChunk | None = None) -> Tensor:
        """latents [B, 16, t, h, w], as the large VAE gives them -> pixels [B, 3, 4 (t - 1) + 1, 8h, 8w] in -1..1."""
        memory: Memory = {}
        parts = []
        for done, frame in enumerate(latents.unbind(2), 1):
            pixels = rearrange(self._run(frame, memory), "(b f) c h w -> b c f h w", b=len(latents))
            parts.append(pixels if done > 1 else pixels[:, :, EXTRA:])
            if on_chunk is not None:
                on_chunk(done, latents.shape[2])
        return torch.cat(parts, 2).clamp(0, 1) * 2 - 1

    def _run(self, x: Tensor, memory: Memory) -> Tensor:
        """One latent frame [B, 16, h, w] -> its four [B 4, 3, 8h, 8w]; keeps what the next one needs in `memory`."""
        batch = len(x)
        for place, layer in enumerate(self.decoder):
            if not isinstance(layer, Remembering):
                x = layer(x)
                continue
            frames = rearrange(x, "(b f) c h w -> b f c h w", b=batch)
            last = memory.get(place, torch.zeros_like(frames[:, 0]))
            before = torch.cat([last[:, None], frames[:, :-1]], 1)
            memory[place] = frames[:, -1]
            x = layer(x, rearrange(before, "b f c h w -> (b f) c h w"))
        return x


def is_draft(names: Mapping[str, Any]) -> bool:
    """Whether weights of these names are a TAEHV's of this size."""
    return all(sign in names for sign in SIGNS)
