"""IITF, the identity image-text fusion (paper section 3.2): face and sentence become one text context.

The ArcFace embedding, seen through a perceiver resampler, gives 16 tokens; with SigLIP's 196 they are mixed
down to 196 face tokens, widened to the text's width, put in front of the 226 text tokens and mixed down to 226.
Nothing here depends on the timestep: it runs once per prompt, not once per step as in the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from . import operations as plain_operations
from .limits import TEXT_TOKENS
from .operations import scaled_dot_product_attention

HEAD_WIDTH = 64
ID_COPIES = 144  # the id embedding enters the resampler this many times, as in training
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class IITFSizes:
    """Widths and token counts; `IITFSizes()` is the released network."""

    text_width: int = 4096  # of T5-XXL
    text_tokens: int = TEXT_TOKENS
    face_width: int = 768  # of SigLIP base
    face_tokens: int = 196  # 14 x 14 patches
    id_width: int = 512  # of ArcFace
    id_tokens: int = 16  # the resampler's latents
    width: int = 1024  # the resampler's own
    heads: int = 12  # each 64 wide
    layers: int = 4

    @classmethod
    def read(cls, shapes: Shapes) -> IITFSizes:
        """Sizes of a state dict given as {parameter name: shape}."""
        text_width, face_width = shapes["face_proj.weight"]
        face_tokens = shapes["face_info_proj.weight"][0]
        _, id_tokens, width = shapes["face_prj_wofc.latents"]
        layers = sum(name.endswith(".0.to_q.weight") and name.startswith("face_prj_wofc") for name in shapes)
        return cls(
            text_width=text_width,
            text_tokens=shapes["text_proj.weight"][0],
            face_width=face_width,
            face_tokens=face_tokens,
            id_width=shapes["face_prj_wofc.proj_in.weight"][1],
            id_tokens=id_tokens,
            width=width,
            heads=shapes["face_prj_wofc.layers.0.0.to_q.weight"][0] // HEAD_WIDTH,
            layers=layers,
        )


class ResamplerAttention(nn.Module):
    """The latents look at the inputs and at themselves."""

    def __init__(self, sizes: IITFSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        inner = sizes.heads * HEAD_WIDTH
        self.heads = sizes.heads
        self.norm1 = operations.LayerNorm(sizes.width, **kwargs)
        self.norm2 = operations.LayerNorm(sizes.width, **kwargs)
        self.to_q = operations.Linear(sizes.width, inner, bias=False, **kwargs)
        self.to_kv = operations.Linear(sizes.width, 2 * inner, bias=False, **kwargs)
        self.to_out = operations.Linear(inner, sizes.width, bias=False, **kwargs)

    def forward(self, inputs: Tensor, latents: Tensor) -> Tensor:
        """inputs [B, n, width], latents [B, m, width] -> [B, m, width]."""
        inputs, latents = self.norm1(inputs), self.norm2(latents)
        q = rearrange(self.to_q(latents), "b m (h d) -> b h m d", h=self.heads)
        both = self.to_kv(torch.cat([inputs, latents], dim=1))
        k, v = rearrange(both, "b n (two h d) -> two b h n d", two=2, h=self.heads)
        return self.to_out(scaled_dot_product_attention(q, k, v))


class FeedForward(nn.Sequential):
    def __init__(self, width: int, operations: Any, **kwargs: Any) -> None:
        super().__init__(
            operations.LayerNorm(width, **kwargs),
            operations.Linear(width, 4 * width, bias=False, **kwargs),
            nn.GELU(),
            operations.Linear(4 * width, width, bias=False, **kwargs),
        )


class IdentityResampler(nn.Module):
    """id embedding [B, 512] -> 16 tokens [B, 16, 768]."""

    def __init__(self, sizes: IITFSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(1, sizes.id_tokens, sizes.width, **kwargs))
        self.proj_in = operations.Linear(sizes.id_width, sizes.width, **kwargs)
        self.proj_out = operations.Linear(sizes.width, sizes.face_width, **kwargs)
        self.norm_out = operations.LayerNorm(sizes.face_width, **kwargs)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    ResamplerAttention(sizes, operations, **kwargs),
                    FeedForward(sizes.width, operations, **kwargs),
                ]
            )
            for _ in range(sizes.layers)
        )

    def forward(self, id_embedding: Tensor) -> Tensor:
        inputs = repeat(self.proj_in(id_embedding), "b d -> b n d", n=ID_COPIES)
        latents = repeat(self.latents.to(inputs), "1 m d -> b m d", b=len(inputs))
        for attention, feed_forward in (layer.children() for layer in self.layers):
            latents = latents + attention(inputs, latents)
            latents = latents + feed_forward(latents)
        return self.norm_out(self.proj_out(latents))


class IITF(nn.Module):
    """The fusion's four parts under their released names; the transformer inherits them, so names stay flat."""

    def __init__(
        self, sizes: IITFSizes, operations: ModuleType | type = plain_operations, **kwargs: Any
    ) -> None:
        super().__init__()
        ops: Any = operations
        self.iitf_sizes = sizes
        self.face_prj_wofc = IdentityResampler(sizes, ops, **kwargs)
        self.face_info_proj = ops.Linear(sizes.id_tokens + sizes.face_tokens, sizes.face_tokens, **kwargs)
        self.face_proj = ops.Linear(sizes.face_width, sizes.text_width, **kwargs)
        self.text_proj = ops.Linear(sizes.face_tokens + sizes.text_tokens, sizes.text_tokens, **kwargs)

    def fuse(self, text_tokens: Tensor, face_tokens: Tensor, id_embedding: Tensor) -> Tensor:
        """The context [B, 226, 4096] that the transformer attends to.

        text_tokens [B, 226, 4096] from T5, face_tokens [B, 196, 768] from SigLIP, id_embedding [B, 512] from
        ArcFace, un-normalised. The negative branch takes the negative prompt, the black picture's tokens and a
        zero embedding (reference: EchoVideoLDM.forward, golden/dit.safetensors).
        """
        id_tokens = self.face_prj_wofc(id_embedding)  # [B, 16, 768]
        face = _mix_tokens(self.face_info_proj, torch.cat([id_tokens, face_tokens], dim=1))  # [B, 196, 768]
        return _mix_tokens(self.text_proj, torch.cat([self.face_proj(face), text_tokens], dim=1))


def _mix_tokens(linear: nn.Module, tokens: Tensor) -> Tensor:
    """A linear layer over the token axis: [B, n, width] -> [B, m, width]."""
    return rearrange(linear(rearrange(tokens, "b n d -> b d n")), "b d m -> b m d")
