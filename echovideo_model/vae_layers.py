"""The layers of the CogVideoX video autoencoder.

Inside the autoencoder a clip is [T, H, W, C]: one clip at a time, channels last, so that a frame or a run of
frames is one contiguous piece of memory, in the layout that the fast convolutions of CPUs and GPUs want.
A clip passes through in chunks of a few frames; what one chunk leaves for the next stands in a `Stream`.
Normalised activations exist for the few frames that a convolution is looking at, never for a whole chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .operations import cast

NORM_EPSILON = 1e-6


@dataclass
class Stream:
    """What the chunks of one clip share on their way through the network."""

    history: dict[nn.Module, list[Tensor]] = field(default_factory=dict)
    """The last two frames that each causal convolution has seen."""
    first: bool = True
    """Whether this is the clip's first chunk: its first frame stands alone, all others go in pairs."""
    latents: Tensor | None = None
    """The chunk's latents [t, h, w, 16] while decoding: they steer every norm of the decoder."""


class CausalConv3d(nn.Module):
    """3 x 3 x 3 convolution over the frame itself and the two before it; before the first stands the first."""

    def __init__(self, channels_in: int, channels_out: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.conv = operations.Conv3d(channels_in, channels_out, 3, padding=(0, 1, 1), **kwargs)

    def forward(self, frames: Sequence[Tensor], stream: Stream, onto: Tensor | None = None) -> Tensor:
        """T frames [H, W, C] -> [T, H, W, C out], added to `onto` in place where that is given."""
        past = stream.history.pop(self, None) or [frames[0], frames[0]]
        result = onto
        for start, stop in runs(len(frames), stream.first):
            seen = [*past, *(frames[t] for t in range(start, stop))]
            convolved = self.convolve(seen)
            if result is None:
                result = convolved.new_empty(len(frames), *convolved.shape[1:])
            if onto is None:
                result[start:stop] = convolved
            else:
                result[start:stop] += convolved
            past = seen[-2:]
        stream.history[self] = past
        assert result is not None
        return result

    def convolve(self, frames: list[Tensor]) -> Tensor:
        """n + 2 frames [H, W, C] -> [n, H, W, C out]."""
        clip = torch.stack(frames).permute(3, 0, 1, 2)[None]  # [1, C, n + 2, H, W]
        return self.conv(clip)[0].permute(1, 2, 3, 0)


def runs(frames: int, first: bool) -> Iterator[tuple[int, int]]:
    """(start, stop) of the pieces in which a chunk is worked on: pairs, after the clip's first frame if odd."""
    start = 0
    while start < frames:
        stop = start + (1 if (frames - start) % 2 else 2)
        yield start, stop
        start = stop


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

    def __init__(self, channels_in: int, channels_out: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.conv = operations.Conv3d(channels_in, channels_out, 1, **kwargs)

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
        self.x = x
        if isinstance(norm, SpatialNorm):
            assert stream.latents is not None
            scale, shift = standardisation(x, norm.norm_layer)  # [C] each
            gain, bias = norm(stream.latents)
            self.scale, self.shift = scale * gain, shift * gain + bias  # [t, h, w, C] each
        else:
            scale, shift = standardisation(x, norm)
            self.scale, self.shift = (v.expand(1, 1, 1, -1) for v in (scale, shift))
        self.first = stream.first

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Any:
        """Frame `index` [H, W, C]."""
        source = self._source(index)
        rows, columns, _ = self.scale[source].shape
        tiles = self.x[index].unflatten(1, (columns, -1)).unflatten(0, (rows, -1))  # [h, H/h, w, W/w, C]
        scale, shift = (v[source][:, None, :, None] for v in (self.scale, self.shift))  # [h, 1, w, 1, C]
        activated = F.silu(torch.addcmul(shift, tiles, scale), inplace=True)
        return activated.flatten(2, 3).flatten(0, 1).to(self.x.dtype)

    def _source(self, index: int) -> int:
        """The latent frame that steers frame `index`: the clip's first frame has the first one to itself."""
        frames, latents = len(self.x), len(self.scale)
        if self.first and index > 0 and latents > 1:
            return 1 + (index - 1) * (latents - 1) // (frames - 1)
        return 0 if self.first else index * latents // frames


def standardisation(x: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift [C], float32, that make `norm`'s group norm of the whole chunk x [T, H, W, C]."""
    spreads, means = zip(*(_moments(frame, norm.num_groups) for frame in x), strict=True)
    spread, mean = torch.stack(spreads), torch.stack(means)  # [T, groups] each
    variance = spread.mean(0) + mean.var(0, correction=0)  # frames are of one size: within plus between
    scale = (variance + norm.eps).rsqrt().repeat_interleave(x.shape[-1] // norm.num_groups)
    mean = mean.mean(0).repeat_interleave(x.shape[-1] // norm.num_groups)
    weight, bias = (cast(v, scale).to(x.device) for v in (norm.weight, norm.bias))  # type: ignore[union-attr]
    return scale * weight, bias - mean * scale * weight


def _moments(frame: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    return torch.var_mean(frame.float().unflatten(2, (groups, -1)), dim=(0, 1, 3), correction=0)


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
        """[T, H, W, C in] -> [T, H, W, C out]; x may be changed in place."""
        hidden = self.conv1(Activated(x, self.norm1, stream), stream)
        if hasattr(self, "conv_shortcut"):
            x = convolve_pointwise(self.conv_shortcut, x)
        return self.conv2(Activated(hidden, self.norm2, stream), stream, onto=x)


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
        larger = self.conv(F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2)).permute(0, 2, 3, 1)
        if not self.time:
            return larger
        alone = 1 if stream.first else 0
        return torch.cat([larger[:alone], larger[alone:].repeat_interleave(2, dim=0)])
