"""Where a new transformer begins: as one that changes nothing and lets the text through, instead of as noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..operations import Conv2d, LayerNorm, Linear
from ..transformer import EchoVideoTransformer


@torch.no_grad()
def initialise(network: EchoVideoTransformer, generator: torch.Generator) -> None:
    """Fills in every parameter; layers are built without values (see operations).

    As in DiT (Peebles and Xie 2023, section 3.2): matrices are Xavier's, modulations and the last layer are zero, so
    that every block passes its input on. IITF's two layers over the token axis begin as what they stand in front of:
    face tokens and text tokens go through in their places, and what is mixed into them is random.
    """
    for module in network.modules():
        if isinstance(module, LayerNorm):
            module.weight.fill_(1)
            _zero(module.bias)
        elif isinstance(module, (Linear, Conv2d)):
            rows, columns = module.weight.shape[0], module.weight[0].numel()
            _draw(module.weight, (2 / (rows + columns)) ** 0.5, generator)
            _zero(module.bias)
    for name, parameter in network.named_parameters():
        if name.endswith((".norm1.linear.weight", ".norm2.linear.weight")):
            _zero(parameter)
    _zero(network.norm_out.linear.weight)
    _zero(network.proj_out.weight)
    resampler = network.face_prj_wofc
    _draw(resampler.latents, resampler.latents.shape[-1] ** -0.5, generator)
    _pass_through(network.face_info_proj, generator)
    _pass_through(network.text_proj, generator)


def _pass_through(linear: nn.Linear, generator: torch.Generator) -> None:
    """The last inputs become the outputs; the first ones, which are mixed in, come with random weights."""
    rows, columns = linear.weight.shape
    mixed = columns - rows
    _draw(linear.weight, mixed**-0.5, generator)
    linear.weight[:, mixed:] = torch.eye(rows)


def _draw(parameter: Tensor, deviation: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)


def _zero(parameter: Tensor | None) -> None:
    if parameter is not None:
        parameter.zero_()
