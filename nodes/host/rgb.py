"""What the sampling preview needs: how sixteen latent channels look as red, green and blue.

These numbers are not copied from anywhere. They are fitted to the VAE at hand when it is loaded: a small picture of
soft random colours is encoded, and a linear map is fitted from its latents to its colours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...echovideo_model.vae.autoencoder import LATENT_SCALE
from .model import EchoVideoLatent

SIDE = 12  # patches of 8 x 8 pixels: 144 examples for 17 unknowns
RIDGE = 1e-3


def learn_colours(vae: Any) -> None:
    """From now on the host previews EchoVideo's latents in the colours of this VAE.

    They are kept on the latent format's class, which all runs share, because the host offers no other place: it asks
    the MODEL's latent format for them as sampling begins, before it looks at the conditioning, and no graph tells a
    MODEL which VAE will decode. Only previews look at them, and show the colours of the VAE loaded last; there is only
    one CogVideoX VAE, and decoding is not affected.
    """
    factors, bias = fit_colours(vae)
    EchoVideoLatent.latent_rgb_factors = factors.tolist()
    EchoVideoLatent.latent_rgb_factors_bias = bias.tolist()


def fit_colours(vae: Any) -> tuple[Tensor, Tensor]:
    """Factors [16, 3] and bias [3] from latents as the sampler has them (scaled by 0.7) to colours in -1..1."""
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        patches = torch.rand(1, 3, SIDE, SIDE, generator=generator)
        image = F.interpolate(patches, scale_factor=8, mode="bilinear", align_corners=False)
        latents = vae.encode(image.movedim(1, -1)).float().cpu()  # [1, 16, 1, SIDE, SIDE]
        colours = F.avg_pool2d(image, 8)[0].flatten(1).T * 2 - 1  # [SIDE^2, 3]
        known = latents[0, :, 0].flatten(1).T * LATENT_SCALE  # [SIDE^2, 16]
        known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
        square = known.T @ known
        solved = torch.linalg.solve(
            square + RIDGE * square.diagonal().mean() * torch.eye(len(square)), known.T @ colours
        )
    return solved[:-1], solved[-1]
