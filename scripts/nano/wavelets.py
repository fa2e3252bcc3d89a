"""Where a new autoencoder begins: as wavelets in and a smooth enlargement out, instead of as noise.

Residual branches begin at zero (Fixup, arXiv 1901.09321), each downsampling as Haar wavelets (averages and
differences of 2 x 2 pixels), each upsampling as linear interpolation. Of the wavelets the encoder's last convolution
makes the principal components of real clips, and the decoder makes of those what fits the clips best.

SiLU(x) - SiLU(-x) = x: what is to pass a norm and its SiLU unbent passes twice, with both signs, beside a constant
that keeps the norm from dividing by the picture's own contrast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from echovideo_model.vae.autoencoder import LATENT_SCALE, CogVideoXVAE
from echovideo_model.vae.layers import Downsample, ResnetBlock, SpatialNorm, Upsample
from echovideo_model.vae.whole_chunks import WholeChunk

LATENT_DEVIATION = 1 / LATENT_SCALE
"""Of every latent channel, so that what the transformer sees, LATENT_SCALE times as much, has deviation 1."""
LOG_VARIANCE = -6.0  # of the posterior, everywhere: a deviation of 0.05
CONSTANT = 2.0
BANDS = {"LL": ((1, 1), (1, 1)), "LH": ((1, -1), (1, -1)), "HL": ((1, 1), (-1, -1)), "HH": ((1, -1), (-1, 1))}
DETAILS = ("LH", "HL", "HH")
SLOTS = [slot for slot in range(32) if slot % 8 != 7]  # of the wavelets among the encoder's 64 last channels


@torch.no_grad()
def initialise(vae: CogVideoXVAE, clips: Tensor, generator: torch.Generator) -> None:
    """Fills in every parameter. For 16 latents, 4 groups, and 4 levels of at least 16, 32, 64 and 64 channels.

    clips [B, 3, T, H, W] in -1..1: of the kind that it is to learn, a few dozen.
    """
    for module in vae.modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.fill_(1)
            module.bias.zero_()
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            values = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(values * module.weight[0].numel() ** -0.5)
            module.bias.zero_()  # type: ignore[union-attr]
    for module in vae.modules():
        if isinstance(module, ResnetBlock):
            module.conv2.conv.weight.zero_()
            if hasattr(module, "conv_shortcut"):
                nn.init.dirac_(module.conv_shortcut.weight)
        elif isinstance(module, SpatialNorm):
            module.conv_y.conv.weight.zero_()
            module.conv_y.conv.bias.fill_(1)
            module.conv_b.conv.weight.zero_()
    _begin_encoder(vae, clips)
    _begin_decoder(vae, clips)


def _begin_encoder(vae: CogVideoXVAE, clips: Tensor) -> None:
    encoder = vae.encoder
    first = encoder.conv_in.conv.weight  # [16, 3, 3, 3, 3]: red, green, blue, and how brightness changes
    first[:4] = 0
    first[range(3), range(3), 2, 1, 1] = 1
    first[3, :, 2, 1, 1], first[3, :, 1, 1, 1] = 1 / 3, -1 / 3
    downs = [module.conv for module in encoder.modules() if isinstance(module, Downsample)]
    low = [(source, "LL") for source in range(16)]
    details = [(source, band) for band in DETAILS for source in range(4)]
    _set_bands(downs[0], range(16), low[:4] + details)
    _set_bands(downs[1], range(32), low + details + [(source, "LH") for source in range(4, 8)])
    _set_bands(downs[2], SLOTS, low[:4] + details + [(source, "LL") for source in range(16, 28)])
    downs[2].weight[32:64] = -downs[2].weight[:32]
    downs[2].bias[7:32:8], downs[2].bias[39:64:8] = CONSTANT, -CONSTANT

    features = rearrange(_features(encoder, clips), "b c t h w -> (b t h w) c")
    norm, size = (
        encoder.norm_out,
        rearrange(features.square().mean(0), "(g c) -> g c", g=vae.sizes.groups).mean(1),
    )
    norm.weight.copy_(size.sqrt().repeat_interleave(norm.num_channels // norm.num_groups))
    seen = rearrange(norm(_features(encoder, clips)), "b c t h w -> (b t h w) c")[:, :32]
    mean = seen.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(seen.T).double())
    components = (directions / variances.clamp(min=1e-8).sqrt()).float().T.flip(0)[:16] * LATENT_DEVIATION
    last = encoder.conv_out.conv  # [32, 64, 3, 3, 3]
    last.weight.zero_()
    last.weight[:16, :32, 2, 1, 1], last.weight[:16, 32:64, 2, 1, 1] = components, -components
    last.bias[:16], last.bias[16:] = -components @ mean, LOG_VARIANCE


def _set_bands(conv: nn.Conv2d, outputs: Sequence[int], plan: list[tuple[int, str]]) -> None:
    """plan: of which input channel each of the outputs is which band."""
    conv.weight.zero_()
    for output, (source, band) in zip(outputs, plan, strict=True):
        conv.weight[output, source, :2, :2] = torch.tensor(BANDS[band]) / 4


def _begin_decoder(vae: CogVideoXVAE, clips: Tensor) -> None:
    decoder = vae.decoder
    decoder.conv_in.conv.weight.zero_()
    decoder.conv_in.conv.weight[range(16), range(16), 2, 1, 1] = 1
    row = torch.tensor([0.25, 0.5, 0.25])
    for module in decoder.modules():
        if isinstance(module, Upsample):
            smooth = torch.eye(module.conv.out_channels)[:, :, None, None] * row.outer(row)
            module.conv.weight.copy_(smooth)

    latents, _ = vae.encode(clips)
    last_level = decoder.up_blocks[-1].resnets[0]
    enlarged = rearrange(_features(decoder, latents, until=last_level), "b c t h w -> (b t h w) c")[:, :16]
    inputs = torch.cat([enlarged, torch.ones(len(enlarged), 1)], 1)
    colours = rearrange(clips, "b c t h w -> (b t h w) c")
    fit = torch.linalg.lstsq(inputs.double(), colours.double()).solution.float().T  # [3, 16 + 1]
    shortcut, last = last_level.conv_shortcut, decoder.conv_out.conv
    shortcut.weight[:12] = 0
    last.weight.zero_()
    for colour in range(3):  # red, -red, a constant and its negative: one group of the last norm
        for slot, sign in ((4 * colour, 1), (4 * colour + 1, -1)):
            shortcut.weight[slot, :16, 0, 0, 0], shortcut.bias[slot] = (
                sign * fit[colour, :16],
                sign * fit[colour, 16],
            )
            last.weight[colour, slot, 2, 1, 1] = (
                sign * ((colours[:, colour].square().mean() + CONSTANT**2) / 2).sqrt()
            )
        shortcut.bias[4 * colour + 2], shortcut.bias[4 * colour + 3] = CONSTANT, -CONSTANT


def _features(network: nn.Module, clips: Tensor, until: nn.Module | None = None) -> Tensor:
    """What reaches the layer `until`, or the last norm, of the encoder or decoder."""
    chunk = WholeChunk(clips, True, {})
    x = chunk.convolve(network.conv_in, clips)  # type: ignore[arg-type]
    for layer in network.layers():  # type: ignore[operator]
        if layer is until:
            break
        x = chunk.apply(layer, x)
    return x
