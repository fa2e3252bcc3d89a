"""The layers of the CogVideoX video autoencoder.

Inside the autoencoder a clip is [T, H, W, C]: one clip at a time, channels last, so that a frame or a run of
frames is one contiguous piece of memory, in the layout that the fast convolutions of CPUs and GPUs want.
A clip passes through in chunks of a few frames; what one chunk leaves for the next stands in a `Stream`.
Normalised activations exist for the few frames that a convolution is looking at, never for a whole chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import EnlargedConvolution, TimeConvolution

NORM_EPSILON = 1e-6


@dataclass
class Stream:
    """Where a clip stands on its way through the network, and what its earlier chunks left behind."""

    chunk: Tensor
    """What enters the network now: pixels [T, H, W, 3], or latents [t, h, w, 16], which also steer the norms."""
    first: bool = True
    """Whether this is the clip's first chunk: its first frame stands alone, all others go in pairs."""
    last: bool = True
    """Whether no chunk follows, so that nothing need be remembered."""
    history: dict[nn.Module, Tensor] = field(default_factory=dict)
    """The last two frames [2, H, W, C] that each causal convolution has seen."""


class CausalConv3d(nn.Module):
    """3 x 3 x 3 convolution over the frame itself and the two before it; before the first stands the first."""

    def __init__(self, c_in: int, c_out: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.conv = operations.Conv3d(c_in, c_out, 3, padding=(0, 1, 1), **kwargs)

    def forward(self, frames: Sequence[Tensor], stream: Stream, into: Tensor | None = None) -> Tensor:
        """T frames [H, W, C] -> [T, H, W, C out].

        Each frame is asked for once, shortly before it is needed. The result is written to `into` where that is
        given; it may be what the frames are made from, since a frame is overwritten only after it was asked for.
        """
        convolution, result = TimeConvolution(self.conv, stream.chunk), into
        seen = list(stream.history.pop(self, []))
        for start, stop in convolution.runs(len(frames)):
            seen += [frames[t] for t in range(start, stop)]
            if len(seen) == stop - start:  # nothing comes before
                seen[:0] = [seen[0], seen[0]]
            if result is None:
                result = seen[0].new_empty(len(frames), *seen[0].shape[:2], self.conv.out_channels)
            convolution(seen, result[start:stop])
            del seen[:-2]
        if not stream.last:
            stream.history[self] = torch.stack(seen)
        assert result is not None
        return result


class SpatialNorm(nn.Module):
    """Group norm whose scale and shift depend on the latents at the same place (arXiv 2209.09002)."""

    def __init__(
        self, channels: int, latent_channels: int, groups: int, operations: Any, **kwargs: Any
    ) -> None:
        super().__init__()
        self.norm_layer = operations.GroupNorm(groups, channels, eps=NORM_EPSILON, **kwargs)
        self.conv_y = PointwiseConv3d(latent_channels, channels, operations, **kwargs)
        self.conv_b = PointwiseConv3d(latent_channels, channels, operations, **kwargs)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """latents [t, h, w, 16] -> scale and shift [t, h, w, C], to be applied to the group norm's result."""
        return self.conv_y(latents), self.conv_b(latents)


class PointwiseConv3d(nn.Module):
    """1 x 1 x 1 convolution, [T, H, W, C] -> [T, H, W, C out]."""

    def __init__(self, c_in: int, c_out: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.conv = operations.Conv3d(c_in, c_out, 1, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return convolve_pointwise(self.conv, x)


def convolve_pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    return conv(x.permute(3, 0, 1, 2)[None])[0].permute(1, 2, 3, 0)


class Activated(Sequence[Tensor]):
    """The frames of SiLU(norm(x)), each computed when it is asked for.

    Every norm comes down to x * scale + shift. The spatial norm's two are computed at the latents' resolution
    and spread over the frame as they are used, which is the same as enlarging the latents first.
    """

    def __init__(self, x: Tensor, norm: nn.Module, stream: Stream) -> None:
        self.x, self.first = x, stream.first
        if isinstance(norm, SpatialNorm):
            scale, shift = standardisation(x, norm.norm_layer)  # [C] each
            gain, bias = norm(stream.chunk)
            self.scale, self.shift = scale * gain, shift * gain + bias  # [t, h, w, C] each
        else:
            self.scale, self.shift = (v.expand(1, 1, 1, -1) for v in standardisation(x, norm))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        """Frame `index` [H, W, C], in float32 until the last step."""
        source = self._source(index)
        rows, columns, _ = self.scale[source].shape
        tiles = self.x[index].unflatten(1, (columns, -1)).unflatten(0, (rows, -1))  # [h, H/h, w, W/w, C]
        scale, shift = (v[source][:, None, :, None] for v in (self.scale, self.shift))  # [h, 1, w, 1, C]
        activated = F.silu((tiles * scale).add_(shift), inplace=True)
        return activated.flatten(2, 3).flatten(0, 1).to(self.x.dtype)

    def _source(self, index: int) -> int:
        """The latent frame that steers frame `index`: the clip's first frame has the first one to itself."""
        frames, latents = len(self.x), len(self.scale)
        if self.first and index > 0 and latents > 1:
            return 1 + (index - 1) * (latents - 1) // (frames - 1)
        return 0 if self.first else index * latents // frames


def standardisation(x: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift [C], float32, that make `norm`'s group norm of the whole chunk x [T, H, W, C]."""
    groups = (norm.num_groups, -1)
    moments = (torch.stack(v).unflatten(1, groups) for v in zip(*map(_moments, x), strict=True))
    means, variances = moments  # [T, groups, C / groups] each
    # all parts are of one size: the whole's variance is the mean of theirs plus the variance of their means
    variance = variances.mean((0, 2)) + means.var((0, 2), correction=0)  # [groups]
    weight, bias = (v.to(variance).unflatten(0, groups) for v in (norm.weight, norm.bias))
    scale = weight * (variance + norm.eps).rsqrt()[:, None]  # [groups, C / groups]
    return scale.flatten(), (bias - scale * means.mean((0, 2))[:, None]).flatten()


def _moments(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C], float32, of a frame [H, W, C]; the mean goes first, for precision's sake."""
    frame = frame.float()
    mean = frame.mean((0, 1))
    return mean, (frame - mean).square_().mean((0, 1))


class ResnetBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a shortcut. With latent_channels, the norms are spatial ones."""

    def __init__(
        self, c_in: int, c_out: int, groups: int, latent_channels: int | None, operations: Any, **kwargs: Any
    ) -> None:
        super().__init__()
        self.norm1 = make_norm(c_in, groups, latent_channels, operations, **kwargs)
        self.conv1 = CausalConv3d(c_in, c_out, operations, **kwargs)
        self.norm2 = make_norm(c_out, groups, latent_channels, operations, **kwargs)
        self.conv2 = CausalConv3d(c_out, c_out, operations, **kwargs)
        if c_in != c_out:
            self.conv_shortcut = operations.Conv3d(c_in, c_out, 1, **kwargs)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[T, H, W, C in] -> [T, H, W, C out]. Besides x, one tensor of the result's size exists at a time."""
        hidden = self.conv1(Activated(x, self.norm1, stream), stream)
        hidden = self.conv2(Activated(hidden, self.norm2, stream), stream, into=hidden)
        if not hasattr(self, "conv_shortcut"):
            return hidden.add_(x)
        for frame, source in zip(hidden.split(1), x.split(1), strict=True):
            frame.add_(convolve_pointwise(self.conv_shortcut, source))
        return hidden


def make_norm(
    channels: int, groups: int, latent_channels: int | None, operations: Any, **kwargs: Any
) -> nn.Module:
    if latent_channels is None:
        return operations.GroupNorm(groups, channels, eps=NORM_EPSILON, **kwargs)
    return SpatialNorm(channels, latent_channels, groups, operations, **kwargs)


class Downsample(nn.Module):
    """Halves height and width; with `time`, averages pairs of frames first."""

    def __init__(self, channels: int, time: bool, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.time = time
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, **kwargs)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[T, H, W, C] -> [T/2, H/2, W/2, C], the clip's first frame kept alone; without `time`, T stays."""
        if self.time:
            alone = 1 if stream.first else 0
            pairs = x[alone:].unflatten(0, (-1, 2)).mean(1)
            x = torch.cat([x[:alone], pairs])
        frames = F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1))  # [T, C, H + 1, W + 1]
        return self.conv(frames).permute(0, 2, 3, 1)


class Upsample(nn.Module):
    """Doubles height and width, nearest neighbour, and convolves; with `time`, doubles the frames as well."""

    def __init__(self, channels: int, time: bool, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.time = time
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, **kwargs)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """[T, H, W, C] -> [2T, 2H, 2W, C], the clip's first frame never doubled; without `time`, T stays."""
        copies = [2 if self.time else 1] * len(x)
        if stream.first:
            copies[0] = 1
        _, height, width, channels = x.shape
        larger = x.new_empty(sum(copies), 2 * height, 2 * width, channels)
        convolution = EnlargedConvolution(self.conv, x)
        for frame, targets in zip(x, larger.split(copies), strict=True):
            convolution(frame, targets[0])
            targets[1:] = targets[0]
        return larger
