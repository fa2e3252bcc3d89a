"""The CogVideoX video autoencoder: pixels to latents, 8 x smaller in space and 4 x in time, and back.

Parameter names are the released ones (diffusers spelling). Frame 0 is encoded by itself, and each further latent frame
stands for four frames: T = 4 (t - 1) + 1. Convolutions look back in time only, but each norm sees the chunk it
is given, so chunks are cut as in training: 2 latent frames (8 pixel frames), the first one with the remainder.
Where the reference is right (odd t) this is the same function; for even t it doubles frame 0, this one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .. import operations as plain_operations
from ..errors import InvalidRequest, WrongModelFile
from .layers import Activated, CausalConv3d, Downsample, Frames, ResnetBlock, Stream, Upsample, make_norm
from .whole_chunks import History, WholeChunk

LATENT_SCALE = 0.7
"""What the transformer sees is LATENT_SCALE x the latents of `encode` and `decode`."""
LATENT_FRAMES_PER_CHUNK = 2
PIXEL_FRAMES_PER_CHUNK = 8
TIME_LEVELS = 2  # levels that also halve the frame rate

OnChunk = Callable[[int, int], None]
Cuts = list[tuple[int, int]]


@dataclass(frozen=True)
class VAESizes:
    """Sizes of the network; the defaults are the released one's."""

    channels: tuple[int, ...] = (128, 256, 256, 512)  # one per level, from the pixels inwards
    layers: int = 3  # residual blocks per level of the encoder; the decoder has one more
    pixel_channels: int = 3
    latent_channels: int = 16
    groups: int = 32  # of every group norm

    @property
    def shrink(self) -> int:
        """Pixels per latent, in height and in width: 8."""
        return 2 ** (len(self.channels) - 1)

    def config(self) -> dict[str, Any]:
        """The released file's config.json, from which diffusers' AutoencoderKLCogVideoX is made."""
        levels = len(self.channels)
        return {
            "_class_name": "AutoencoderKLCogVideoX",
            "_diffusers_version": "0.31.0",
            "act_fn": "silu",
            "block_out_channels": self.channels,
            "down_block_types": ["CogVideoXDownBlock3D"] * levels,
            "force_upcast": True,
            "in_channels": self.pixel_channels,
            "latent_channels": self.latent_channels,
            "layers_per_block": self.layers,
            "norm_eps": 1e-06,
            "norm_num_groups": self.groups,
            "out_channels": self.pixel_channels,
            "sample_height": 480,
            "sample_width": 720,
            "scaling_factor": LATENT_SCALE,
            "temporal_compression_ratio": 4,
            "up_block_types": ["CogVideoXUpBlock3D"] * levels,
            "use_post_quant_conv": False,
            "use_quant_conv": False,
        }

    @classmethod
    def read(cls, shapes: Mapping[str, Sequence[int]], groups: int | None = None) -> VAESizes:
        """Sizes of a state dict given as {parameter name: shape}.

        The number of groups leaves no trace in shapes: `groups` is what the configuration says (norm_num_groups);
        without one it is the released 32. Raises WrongModelFile where that cannot divide the channels.
        """
        levels = sum(
            name.startswith("encoder.down_blocks.") and name.endswith(".resnets.0.conv1.conv.weight")
            for name in shapes
        )
        channels = tuple(
            shapes[f"encoder.down_blocks.{level}.resnets.0.conv1.conv.weight"][0] for level in range(levels)
        )
        groups = cls.groups if groups is None else groups
        if not isinstance(groups, int) or groups < 1 or any(count % groups for count in channels):
            raise WrongModelFile(
                f"norms over {', '.join(map(str, channels))} channels cannot have {groups} groups: put "
                "the config.json that sets norm_num_groups beside the file"
            )
        return cls(
            channels=channels,
            layers=sum(
                name.startswith("encoder.down_blocks.0.resnets.") and name.endswith(".conv1.conv.weight")
                for name in shapes
            ),
            pixel_channels=shapes["encoder.conv_in.conv.weight"][1],
            latent_channels=shapes["decoder.conv_in.conv.weight"][1],
            groups=groups,
        )


class Level(nn.Module):
    """Residual blocks at one resolution, then the step to the next, if there is one.

    A level is walked through, not called, so that what passes through has one owner.
    """

    def __init__(
        self, resnets: list[ResnetBlock], down: Downsample | None = None, up: Upsample | None = None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if down is not None:
            self.downsamplers = nn.ModuleList([down])
        if up is not None:
            self.upsamplers = nn.ModuleList([up])

    def __iter__(self) -> Iterator[nn.Module]:
        for layers in self.children():
            yield from layers  # type: ignore[misc]


class Encoder(nn.Module):
    def __init__(self, sizes: VAESizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        channels, last = sizes.channels, len(sizes.channels) - 1

        def resnet(c_in: int, c_out: int) -> ResnetBlock:
            return ResnetBlock(c_in, c_out, sizes.groups, None, operations, **kwargs)

        self.conv_in = CausalConv3d(sizes.pixel_channels, channels[0], operations, **kwargs)
        self.down_blocks = nn.ModuleList()
        for level, c_out in enumerate(channels):
            c_in = channels[max(level - 1, 0)]
            resnets = [resnet(c_in if layer == 0 else c_out, c_out) for layer in range(sizes.layers)]
            down = Downsample(c_out, level < TIME_LEVELS, operations, **kwargs) if level < last else None
            self.down_blocks.append(Level(resnets, down=down))
        self.mid_block = Level([resnet(channels[-1], channels[-1]) for _ in range(2)])
        self.norm_out = make_norm(channels[-1], sizes.groups, None, operations, **kwargs)
        self.conv_out = CausalConv3d(channels[-1], 2 * sizes.latent_channels, operations, **kwargs)

    def layers(self) -> Iterator[nn.Module]:
        """What stands between conv_in and norm_out, in order."""
        return chain(*self.down_blocks, self.mid_block)

    def forward(self, stream: Stream) -> Frames:
        """The stream's chunk of pixels [T, H, W, 3] -> t frames of mean and log variance [h, w, 2 x 16]."""
        x = self.conv_in(list(stream.chunk), stream)
        for layer in self.layers():
            x = layer(x, stream)
        return self.conv_out(Activated(x, self.norm_out, stream), stream)


class Decoder(nn.Module):
    def __init__(self, sizes: VAESizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        channels, last = sizes.channels[::-1], len(sizes.channels) - 1

        def resnet(c_in: int, c_out: int) -> ResnetBlock:
            return ResnetBlock(c_in, c_out, sizes.groups, sizes.latent_channels, operations, **kwargs)

        self.conv_in = CausalConv3d(sizes.latent_channels, channels[0], operations, **kwargs)
        self.mid_block = Level([resnet(channels[0], channels[0]) for _ in range(2)])
        self.up_blocks = nn.ModuleList()
        for level, c_out in enumerate(channels):
            c_in = channels[max(level - 1, 0)]
            resnets = [resnet(c_in if layer == 0 else c_out, c_out) for layer in range(sizes.layers + 1)]
            up = Upsample(c_out, level < TIME_LEVELS, operations, **kwargs) if level < last else None
            self.up_blocks.append(Level(resnets, up=up))
        self.norm_out = make_norm(channels[-1], sizes.groups, sizes.latent_channels, operations, **kwargs)
        self.conv_out = CausalConv3d(channels[-1], sizes.pixel_channels, operations, **kwargs)

    def layers(self) -> Iterator[nn.Module]:
        """What stands between conv_in and norm_out, in order."""
        return chain(self.mid_block, *self.up_blocks)

    def forward(self, stream: Stream) -> Frames:
        """The stream's chunk of latents [t, h, w, 16] -> T frames of pixels [H, W, 3]."""
        x = self.conv_in(list(stream.chunk), stream)
        for layer in self.layers():
            x = layer(x, stream)
        return self.conv_out(Activated(x, self.norm_out, stream), stream)


class CogVideoXVAE(nn.Module):
    """The whole autoencoder. Latents here are the network's own, without LATENT_SCALE.

    Where a gradient is recorded, `encode` and `decode` compute the same on whole batches; for inference, call
    them under torch.no_grad or inference_mode, or freeze the parameters, as load_vae does.
    """

    def __init__(
        self, sizes: VAESizes, operations: ModuleType | type = plain_operations, **kwargs: Any
    ) -> None:
        """`operations` supplies the layers; kwargs (dtype, device) go to each of them."""
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes, operations, **kwargs)
        self.decoder = Decoder(sizes, operations, **kwargs)

    def encode(self, pixels: Tensor, on_chunk: OnChunk | None = None) -> tuple[Tensor, Tensor]:
        """pixels [B, 3, T, H, W] in -1..1 -> mean and log variance (-30..20) of the latents, [B, 16, t, h, w].

        T is 4n + 1; H and W are multiples of 8, else InvalidRequest. Computes in the dtype of `pixels`.
        `on_chunk(done, total)` is called after each chunk and may raise to stop.
        """
        frames, height, width = pixels.shape[2:]
        if frames % 4 != 1 or height % self.sizes.shrink or width % self.sizes.shrink:
            raise InvalidRequest(
                "clips must have 4n + 1 frames and a width and height that are multiples of "
                f"{self.sizes.shrink}, not {frames} frames at {width} x {height}"
            )
        moments = _run(self.encoder, pixels, PIXEL_FRAMES_PER_CHUNK, on_chunk)
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def decode(self, latents: Tensor, on_chunk: OnChunk | None = None) -> Tensor:
        """latents [B, 16, t, h, w] -> pixels [B, 3, 4 (t - 1) + 1, 8h, 8w], about -1..1, not clamped.

        Computes in the dtype of `latents`. `on_chunk(done, total)` is called after each chunk and may raise
        to stop.
        """
        return _run(self.decoder, latents, LATENT_FRAMES_PER_CHUNK, on_chunk)


def _run(network: nn.Module, clips: Tensor, size: int, on_chunk: OnChunk | None) -> Tensor:
    """clips [B, C, T, H, W] through the encoder or decoder: frame by frame, or in whole chunks for a gradient."""
    learns = clips.requires_grad or any(parameter.requires_grad for parameter in network.parameters())
    walk = _run_whole_chunks if learns and torch.is_grad_enabled() else _run_frames
    return walk(
        network, clips, list(_cut_chunks(clips.shape[2], size)), on_chunk or (lambda done, total: None)
    )


def _run_whole_chunks(network: nn.Module, clips: Tensor, cuts: Cuts, on_chunk: OnChunk) -> Tensor:
    """All clips together, chunk by chunk, in a way that gradients can go back."""
    results, history = [], History()
    for done, (start, stop) in enumerate(cuts, 1):
        results.append(WholeChunk(clips[:, :, start:stop], start == 0, history).through(network))
        on_chunk(done, len(cuts))
    return torch.cat(results, 2)


def _run_frames(network: nn.Module, clips: Tensor, cuts: Cuts, on_chunk: OnChunk) -> Tensor:
    """Clip by clip, chunk by chunk, frame by frame: the fewest multiplications, the least memory."""
    done, results = 0, []
    for clip in rearrange(clips, "b c t h w -> b t h w c"):
        frames = Frames()
        history: dict[nn.Module, Frames] = {}
        for start, stop in cuts:
            chunk = clip[start:stop].contiguous()
            stream = Stream(chunk, first=start == 0, last=stop == len(clip), history=history)
            frames += network(stream)
            done += 1
            on_chunk(done, len(cuts) * len(clips))
        results.append(rearrange(frames, "t h w c -> c t h w"))
    return torch.stack(results).contiguous()


def _cut_chunks(frames: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each chunk of `size` frames; the first one takes the remainder as well."""
    stop = min(size + frames % size, frames)
    yield 0, stop
    for start in range(stop, frames, size):
        yield start, start + size
