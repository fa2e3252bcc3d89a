"""The denoiser: CogVideoX's transformer over [text, video] tokens, with IITF's parts inside it.

Parameter names are the released ones (diffusers spelling), so released files and CogVideoX LoRAs load unchanged.
Text and video tokens live in one tensor throughout; each operation that treats them apart works on its slice,
where the diffusers implementation splits and concatenates the whole sequence several times per block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from . import operations as plain_operations
from .errors import WrongModelFile
from .iitf import IITF, IITFSizes, Shapes
from .operations import Attend, scaled_dot_product_attention
from .rotary import rotary_table, rotate_


@dataclass(frozen=True)
class TransformerSizes:
    """Every size of the network; `TransformerSizes()` is the released one."""

    blocks: int = 42
    heads: int = 48
    head_width: int = 64
    time_width: int = 512
    in_channels: int = 32  # 16 of the video + 16 of the face latent
    out_channels: int = 16
    patch: int = 2
    iitf: IITFSizes = field(default_factory=IITFSizes)

    @property
    def width(self) -> int:
        return self.heads * self.head_width

    @classmethod
    def read(cls, shapes: Shapes) -> TransformerSizes:
        """Sizes of a state dict given as {parameter name: shape}. Raises WrongModelFile if blocks have the released
        width but not the released number: a sign of an unfinished copy."""
        width, in_channels, patch, _ = shapes["patch_embed.proj.weight"]
        head_width = shapes["transformer_blocks.0.attn1.norm_q.weight"][0]
        blocks = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("transformer_blocks."))
        if width == cls.heads * cls.head_width and blocks != cls.blocks:
            raise WrongModelFile(
                f"it has {blocks} blocks, but EchoVideo has {cls.blocks}: it is incomplete, or another "
                "model; download it again"
            )
        return cls(
            blocks=blocks,
            heads=width // head_width,
            head_width=head_width,
            time_width=shapes["time_embedding.linear_1.weight"][0],
            in_channels=in_channels,
            out_channels=shapes["proj_out.weight"][0] // patch**2,
            patch=patch,
            iitf=IITFSizes.read(shapes),
        )


class PatchEmbed(nn.Module):
    def __init__(self, sizes: TransformerSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        patch = sizes.patch
        self.proj = operations.Conv2d(sizes.in_channels, sizes.width, patch, stride=patch, **kwargs)
        self.text_proj = operations.Linear(sizes.iitf.text_width, sizes.width, **kwargs)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, C, T, H, W], context [B, n, text width] -> tokens [B, n + T * H/2 * W/2, width]."""
        patches = self.proj(rearrange(x, "b c t h w -> (b t) c h w"))
        video = rearrange(patches, "(b t) c h w -> b (t h w) c", b=len(x))
        return torch.cat([self.text_proj(context), video], dim=1)


class TimeEmbedding(nn.Module):
    def __init__(self, width: int, time_width: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = operations.Linear(width, time_width, **kwargs)
        self.linear_2 = operations.Linear(time_width, time_width, **kwargs)

    def forward(self, timesteps: Tensor, dtype: torch.dtype) -> Tensor:
        """timesteps [B] in 0..999 -> [B, time width]: a sinusoid, cosine first, through linear - SiLU - linear."""
        half = self.width // 2
        steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angles = timesteps.float()[:, None] * torch.exp(-math.log(10_000) / half * steps)  # [B, width / 2]
        wave = torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)
        return self.linear_2(F.silu(self.linear_1(wave)))


class ModulatedNorm(nn.Module):
    """adaLN-zero: one LayerNorm, and a shift, scale and gate of their own for video and for text."""

    def __init__(self, sizes: TransformerSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.linear = operations.Linear(sizes.time_width, 6 * sizes.width, **kwargs)
        self.norm = operations.LayerNorm(sizes.width, eps=1e-5, **kwargs)

    def forward(self, tokens: Tensor, n_text: int, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tokens [B, N, width], time = SiLU(time embedding) [B, time width]
        -> modulated tokens [B, N, width], text gate and video gate [B, 1, width]."""
        shift, scale, gate, text_shift, text_scale, text_gate = self.linear(time)[:, None].chunk(6, dim=-1)
        normed = self.norm(tokens)
        normed[:, :n_text].mul_(1 + text_scale).add_(text_shift)
        normed[:, n_text:].mul_(1 + scale).add_(shift)
        return normed, text_gate, gate


class Attention(nn.Module):
    """Full attention over the joint sequence; queries and keys are normalised per head, video ones turned."""

    def __init__(self, sizes: TransformerSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.norm_q = operations.LayerNorm(sizes.head_width, eps=1e-6, **kwargs)
        self.norm_k = operations.LayerNorm(sizes.head_width, eps=1e-6, **kwargs)
        self.to_q = operations.Linear(width, width, **kwargs)
        self.to_k = operations.Linear(width, width, **kwargs)
        self.to_v = operations.Linear(width, width, **kwargs)
        self.to_out = nn.ModuleList([operations.Linear(width, width, **kwargs)])

    def forward(self, tokens: Tensor, n_text: int, rotary: Tensor | None, attend: Attend) -> Tensor:
        """tokens [B, N, width] -> [B, N, width]; without `rotary`, `attend` turns queries and keys itself."""
        q = self.norm_q(self.split_heads(self.to_q(tokens)))
        k = self.norm_k(self.split_heads(self.to_k(tokens)))
        v = self.split_heads(self.to_v(tokens))
        if rotary is not None:
            rotate_(q[:, n_text:], rotary)
            rotate_(k[:, n_text:], rotary)
        return self.to_out[0](attend(*(rearrange(x, "b n h d -> b h n d") for x in (q, k, v))))

    def split_heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (h d) -> b n h d", h=self.heads)


class GELU(nn.Module):
    def __init__(self, width: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(width, 4 * width, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.proj(x)
        if torch.is_grad_enabled():
            return F.gelu(wide, approximate="tanh")
        return torch.ops.aten.gelu_(wide, approximate="tanh")  # in place: it is the block's largest tensor


class FeedForward(nn.Module):
    def __init__(self, width: int, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        wide, narrow = GELU(width, operations, **kwargs), operations.Linear(4 * width, width, **kwargs)
        self.net = nn.ModuleList([wide, nn.Identity(), narrow])  # 1 is the dropout of the released names

    def forward(self, tokens: Tensor) -> Tensor:
        wide, _, narrow = self.net
        return narrow(wide(tokens))


class Block(nn.Module):
    def __init__(self, sizes: TransformerSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.norm1 = ModulatedNorm(sizes, operations, **kwargs)
        self.attn1 = Attention(sizes, operations, **kwargs)
        self.norm2 = ModulatedNorm(sizes, operations, **kwargs)
        self.ff = FeedForward(sizes.width, operations, **kwargs)

    def forward(
        self, tokens: Tensor, n_text: int, time: Tensor, rotary: Tensor | None, attend: Attend
    ) -> Tensor:
        """tokens [B, N, width], the first n_text of them text -> the same, changed in place without gradients."""
        normed, *gates = self.norm1(tokens, n_text, time)
        tokens = _add_gated(tokens, n_text, self.attn1(normed, n_text, rotary, attend), *gates)
        normed, *gates = self.norm2(tokens, n_text, time)
        return _add_gated(tokens, n_text, self.ff(normed), *gates)


def _add_gated(tokens: Tensor, n_text: int, update: Tensor, text_gate: Tensor, gate: Tensor) -> Tensor:
    """tokens + update * gate [B, N, width]: in place, unless the norm before needs its input for a gradient."""
    if torch.is_grad_enabled():
        tokens = tokens.clone()
    tokens[:, :n_text].addcmul_(update[:, :n_text], text_gate)
    tokens[:, n_text:].addcmul_(update[:, n_text:], gate)
    return tokens


class FinalNorm(nn.Module):
    def __init__(self, sizes: TransformerSizes, operations: Any, **kwargs: Any) -> None:
        super().__init__()
        self.linear = operations.Linear(sizes.time_width, 2 * sizes.width, **kwargs)
        self.norm = operations.LayerNorm(sizes.width, eps=1e-5, **kwargs)

    def forward(self, video: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.linear(time)[:, None].chunk(2, dim=-1)
        return self.norm(video) * (1 + scale) + shift


class EchoVideoTransformer(IITF):
    """The released transformer: `fuse` makes the context, once per prompt; `forward` predicts v, once per step."""

    def __init__(
        self, sizes: TransformerSizes, operations: ModuleType | type = plain_operations, **kwargs: Any
    ) -> None:
        """`operations` supplies the layers; kwargs (dtype, device) go to each of them."""
        super().__init__(sizes.iitf, operations, **kwargs)
        ops: Any = operations
        self.sizes = sizes
        self.patch_embed = PatchEmbed(sizes, ops, **kwargs)
        self.time_embedding = TimeEmbedding(sizes.width, sizes.time_width, ops, **kwargs)
        self.transformer_blocks = nn.ModuleList(Block(sizes, ops, **kwargs) for _ in range(sizes.blocks))
        self.norm_final = ops.LayerNorm(sizes.width, eps=1e-5, **kwargs)
        self.norm_out = FinalNorm(sizes, ops, **kwargs)
        self.proj_out = ops.Linear(sizes.width, sizes.patch**2 * sizes.out_channels, **kwargs)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        face_latent: Tensor | None = None,
        attend: Attend = scaled_dot_product_attention,
        riflex: bool = False,
        **more: Any,
    ) -> Tensor:
        """Predicted v [B, 16, T, H, W] for noisy latents x [B, 16, T, H, W] (scaled by 0.7) at timesteps [B].

        context [B, n, 4096] comes from `fuse`; n is 226 in training. face_latent [B, 16, 1, H, W] (scaled by 0.7)
        is what frame 0 of the second 16 channels shows; without it they are zero. H and W are even. attend takes
        q, k, v [B, heads, N, head width] and returns [B, N, width]. riflex: see `rotary_table`. Computes in x's
        dtype. `more` is for an override of `through_blocks`.
        """
        patch, n_text = self.sizes.patch, context.shape[1]
        grid = x.shape[2], x.shape[3] // patch, x.shape[4] // patch
        tokens = self.patch_embed(self.with_face_latent(x, face_latent), context)
        time = F.silu(self.time_embedding(timesteps, x.dtype))
        rotary = rotary_table(*grid, self.sizes.head_width, x.device, riflex)
        tokens = self.through_blocks(tokens, n_text, time, rotary, attend, **more)
        return self.unpatch(tokens[:, n_text:], time, grid)

    def through_blocks(
        self, tokens: Tensor, n_text: int, time: Tensor, rotary: Tensor, attend: Attend, **more: Any
    ) -> Tensor:
        """Tokens [B, N, width] after all blocks; the one method to override for what happens around or between them.

        The first n_text tokens are text. time [B, time width] is SiLU(time embedding), rotary [N - n_text,
        head width / 2] the video tokens' own rows of the table: a part of the sequence goes through with its own
        n_text and rows, where `attend` brings the parts together. Tokens may be changed in place where no
        gradient is recorded.
        """
        for block in self.transformer_blocks:
            tokens = block(tokens, n_text, time, rotary, attend)
        return tokens

    def with_face_latent(self, x: Tensor, face_latent: Tensor | None) -> Tensor:
        """x [B, 16, T, H, W] -> [B, 32, T, H, W]: the face latent in frame 0 of the new channels, zeros after."""
        batch, channels, *grid = x.shape
        extended = x.new_zeros(batch, self.sizes.in_channels, *grid)
        extended[:, :channels] = x
        if face_latent is not None:
            extended[:, channels:, :1] = face_latent
        return extended

    def unpatch(self, video: Tensor, time: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """video tokens [B, t * h * w, width] of the grid (t, h, w) -> v [B, 16, t, 2 h, 2 w]."""
        patches = self.proj_out(self.norm_out(self.norm_final(video), time))
        (t, h, w), p = grid, self.sizes.patch
        return rearrange(patches, "b (t h w) (c p q) -> b c t (h p) (w q)", t=t, h=h, w=w, p=p, q=p)
