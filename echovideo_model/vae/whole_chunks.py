"""The autoencoder on whole chunks [B, C, T, H, W], for training: the layers of layers.py called as they are.

Frame by frame saves memory and multiplications but writes in place; a recorded gradient keeps every activation
anyway, and a batch of whole chunks is what convolutions are fast on. Same parameters, same function, same history
from one chunk to the next.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from .layers import CausalConv3d, Downsample, ResnetBlock, SpatialNorm, Upsample

History = dict[nn.Module, Tensor]


class WholeChunk:
    """One chunk of a batch on its way through the encoder or the decoder."""

    def __init__(self, chunk: Tensor, first: bool, history: History) -> None:
        """chunk: pixels [B, 3, T, H, W] or latents [B, 16, t, h, w]; `history` holds the last two frames that each
        causal convolution has seen."""
        self.chunk, self.first, self.history = chunk, first, history

    def through(self, network: Any) -> Tensor:
        """The chunk through an Encoder or a Decoder, [B, C out, T', H', W']."""
        x = self.convolve(network.conv_in, self.chunk)
        for layer in network.layers():
            x = self.apply(layer, x)
        return self.convolve(network.conv_out, self.activate(network.norm_out, x))

    def apply(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, ResnetBlock):
            hidden = self.convolve(layer.conv1, self.activate(layer.norm1, x))
            hidden = self.convolve(layer.conv2, self.activate(layer.norm2, hidden))
            return hidden + (layer.conv_shortcut(x) if hasattr(layer, "conv_shortcut") else x)
        if isinstance(layer, Downsample):
            return self.downsample(layer, x)
        assert isinstance(layer, Upsample)
        return self.upsample(layer, x)

    def convolve(self, layer: CausalConv3d, x: Tensor) -> Tensor:
        past = self.history.get(layer)
        if past is None:
            past = repeat(x[:, :, 0], "b c h w -> b c two h w", two=2)
        x = torch.cat([past, x], 2)
        self.history[layer] = x[:, :, -2:]
        return layer.conv(x)

    def activate(self, norm: nn.Module, x: Tensor) -> Tensor:
        if not isinstance(norm, SpatialNorm):
            return F.silu(norm(x))
        gain, bias = (self.enlarge(conv.conv(self.chunk), x) for conv in (norm.conv_y, norm.conv_b))
        return F.silu(torch.addcmul(bias, norm.norm_layer(x), gain))

    def enlarge(self, latents: Tensor, like: Tensor) -> Tensor:
        """latents [B, C, t, h, w] in the size of `like`, nearest neighbour; the clip's first frame has the first
        latent to itself."""
        size = like.shape[2:]
        if self.first and latents.shape[2] > 1:
            head = F.interpolate(latents[:, :, :1], (1, *size[1:]))
            return torch.cat([head, F.interpolate(latents[:, :, 1:], (size[0] - 1, *size[1:]))], 2)
        return F.interpolate(latents, tuple(size))

    def downsample(self, layer: Downsample, x: Tensor) -> Tensor:
        if layer.time:
            alone = 1 if self.first else 0
            pairs = reduce(x[:, :, alone:], "b c (t two) h w -> b c t h w", "mean", two=2)
            x = torch.cat([x[:, :, :alone], pairs], 2)
        images = F.pad(rearrange(x, "b c t h w -> (b t) c h w"), (0, 1, 0, 1))
        return rearrange(layer.conv(images), "(b t) c h w -> b c t h w", t=x.shape[2])

    def upsample(self, layer: Upsample, x: Tensor) -> Tensor:
        images = F.interpolate(rearrange(x, "b c t h w -> (b t) c h w"), scale_factor=2.0)
        x = rearrange(layer.conv(images), "(b t) c h w -> b c t h w", t=x.shape[2])
        if not layer.time:
            return x
        alone = 1 if self.first else 0
        pairs = repeat(x[:, :, alone:], "b c t h w -> b c (t two) h w", two=2)
        return torch.cat([x[:, :, :alone], pairs], 2)
