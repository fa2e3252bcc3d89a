"""The layers of the CogVideoX video autoencoder.

Inside the autoencoder a clip is a list of frames [H, W, C]: channels last, as the fast convolutions of CPUs and
GPUs want it, and one tensor per frame, which is freed as soon as nothing needs that frame any more. A layer takes
over the list that it is given. Normalised activations exist only for the frames that a convolution is looking at.
A clip passes through in chunks of a few frames; what one chunk leaves for the next stands in a `Stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .convolution import EnlargedConvolution, TimeConvolution

NORM_EPSILON = 1e-6
Frames = list[Tensor]


@dataclass
class Stream:
    """Where a clip stands on its way through the network, and what its earlier chunks left behind."""

    chunk: Tensor
    """What enters the network now: pixels [T, H, W, 3], or latents [t, h, w, 16], which also steer the norms."""
    first: bool = True
    """Whether this is the clip's first chunk: its first frame is handled by itself, all others in pairs."""
    last: bool = True
    """Whether this is the last chunk, so that nothing has to be remembered."""
    history: dict[nn.Module, Frames] = field(default_factory=dict)
    """The last two frames that each causal convolution has seen."""


class CausalConv3d(nn.Module):
    """3 x 3 x 3 convolution over the frame itself and the two before it; before the first stands the first."""

    def __init__(self, c_in: int, c_out: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.conv = operations.Conv3d(c_in, c_out, 3, padding=(0, 1, 1), **kwargs)

    def forward(self, frames: Frames | Activated, stream: Stream) -> Frames:
        """T frames [H, W, C] -> T frames [H, W, C out]."""
        return list(self.convolve(frames, stream))

    def convolve(self, frames: Frames | Activated, stream: Stream) -> Iterator[Tensor]:
        """The results as they come; each frame is asked for shortly before it is needed."""
        convolution, coming = TimeConvolution(self.conv, stream.chunk), iter(frames)
        seen = stream.history.pop(self, [])
        for length in convolution.runs(len(frames)):
            seen += islice(coming, length)
            if len(seen) == length:  # the clip begins here
                seen[:0] = [seen[0], seen[0]]
            yield from convolution(seen)
            del seen[:-2]
        if not stream.last:
            stream.history[self] = seen


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
    return rearrange(conv(rearrange(x, "t h w c -> 1 c t h w")), "1 c t h w -> t h w c")


class Activated:
    """The frames of SiLU(norm(x)), each computed as the iteration comes to it.

    In x it then gives way to left(frame): to nothing, unless something of it will be needed again. Every norm
    comes down to x * scale + shift. The spatial norm's two are computed at the latents' resolution and spread
    over the frame as they are used, which is the same as enlarging the latents first.
    """

    def __init__(
        self, x: Frames, norm: nn.Module, stream: Stream, left: Callable[[Tensor], Any] = lambda frame: None
    ) -> None:
        self.x, self.left, self.first = x, left, stream.first
        if isinstance(norm, SpatialNorm):
            scale, shift = measure_norm(x, norm.norm_layer)  # [C] each
            gain, bias = norm(stream.chunk)
            self.scale, self.shift = scale * gain, shift * gain + bias  # [t, h, w, C] each
        else:
            self.scale, self.shift = (v.expand(1, 1, 1, -1) for v in measure_norm(x, norm))

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.take, range(len(self.x)))

    def take(self, index: int) -> Tensor:
        """Frame `index` [H, W, C]; float32 until the last step."""
        frame, source = self.x[index], self._source(index)
        self.x[index] = self.left(frame)
        rows, columns, _ = self.scale[source].shape
        tiles = rearrange(frame, "(h y) (w x) c -> h y w x c", h=rows, w=columns)  # y x x pixels a latent
        scale, shift = (rearrange(v[source], "h w c -> h 1 w 1 c") for v in (self.scale, self.shift))
        activated = F.silu((tiles * scale).add_(shift), inplace=True)
        return rearrange(activated, "h y w x c -> (h y) (w x) c").to(frame.dtype)

    def _source(self, index: int) -> int:
        """The latent frame that steers frame `index`: the clip's first frame has the first one to itself."""
        frames, latents = len(self.x), len(self.scale)
        if self.first and index > 0 and latents > 1:
            return 1 + (index - 1) * (latents - 1) // (frames - 1)
        return 0 if self.first else index * latents // frames


def measure_norm(x: Frames, norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift [C], float32, that make `norm`'s group norm of the whole chunk x."""
    groups = norm.num_groups
    moments = zip(*map(_measure_moments, x), strict=True)
    means, variances = (rearrange(list(v), "t (g c) -> t g c", g=groups) for v in moments)
    # all parts are of one size: the whole's variance is the mean of theirs plus the variance of their means
    variance = variances.mean((0, 2)) + means.var((0, 2), correction=0)  # [groups]
    weight, bias = (rearrange(v.to(variance), "(g c) -> g c", g=groups) for v in (norm.weight, norm.bias))
    scale = weight * (variance + norm.eps).rsqrt()[:, None]  # [groups, C / groups]
    return scale.flatten(), (bias - scale * means.mean((0, 2))[:, None]).flatten()


def _measure_moments(frame: Tensor) -> tuple[Tensor, Tensor]:
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

    def forward(self, x: Frames, stream: Stream) -> Frames:
        """Frames [H, W, C in] -> frames [H, W, C out]."""
        hidden = self.conv1(Activated(x, self.norm1, stream, left=self.shortcut), stream)
        results = self.conv2.convolve(Activated(hidden, self.norm2, stream), stream)
        return [frame.add_(x.pop(0)) for frame in results]  # which frees each frame of x once it is added

    def shortcut(self, frame: Tensor) -> Tensor:
        return (
            convolve_pointwise(self.conv_shortcut, frame[None])[0]
            if hasattr(self, "conv_shortcut")
            else frame
        )


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

    def forward(self, x: Frames, stream: Stream) -> Frames:
        """T frames -> T/2 of half the size, the clip's first frame kept alone; without `time`, T stays."""
        if self.time:
            alone = 1 if stream.first else 0
            x[alone:] = [(a + b).div_(2) for a, b in zip(x[alone::2], x[alone + 1 :: 2], strict=True)]
        return [self.halve(frame) for frame in x]

    def halve(self, frame: Tensor) -> Tensor:
        image = F.pad(rearrange(frame, "h w c -> 1 c h w"), (0, 1, 0, 1))
        return rearrange(self.conv(image), "1 c h w -> h w c")


class Upsample(nn.Module):
    """Doubles height and width, nearest neighbour, and convolves; with `time`, doubles the frames as well."""

    def __init__(self, channels: int, time: bool, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.time = time
        self.conv = operations.Conv2d(channels, channels, 3, padding=1, **kwargs)

    def forward(self, x: Frames, stream: Stream) -> Frames:
        """T frames -> 2T of twice the size, the clip's first frame never doubled; without `time`, T stays."""
        convolution, larger = EnlargedConvolution(self.conv, stream.chunk), Frames()
        for index, frame in enumerate(x):
            alone = stream.first and index == 0
            larger += [convolution(frame)] * (2 if self.time and not alone else 1)
        return larger
