"""The layers that every network here is built from: torch.nn's, without random initialisation, cast on use.

A network takes `operations` (this module by default) and builds each layer that owns parameters from it.
Weights may be stored narrower than the computation (float8_e4m3fn under bfloat16, say): a layer casts its
weights to its input's dtype in the call, so only one layer is ever widened at a time. In ComfyUI the host's
`comfy.ops` takes this module's place, which is what brings its offloading, LoRA patches and fp8 arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""An attention function, as scaled_dot_product_attention below."""


def cast(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    """`parameter` in the dtype of `like`; the parameter itself when nothing has to change."""
    return None if parameter is None else parameter.to(like.dtype)


class Linear(nn.Linear):
    def reset_parameters(self) -> None:
        """Weights come from a checkpoint: random ones would only cost time (minutes at 5.6e9 parameters)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype), cast(self.bias, input))


class Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        """See Linear."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, cast(self.weight, input), cast(self.bias, input))  # type: ignore[arg-type]


class Conv3d(nn.Conv3d):
    def reset_parameters(self) -> None:
        """See Linear."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, cast(self.weight, input), cast(self.bias, input))  # type: ignore[arg-type]


class LayerNorm(nn.LayerNorm):
    def reset_parameters(self) -> None:
        """See Linear."""

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = cast(self.weight, input), cast(self.bias, input)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class GroupNorm(nn.GroupNorm):
    def reset_parameters(self) -> None:
        """See Linear."""

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = cast(self.weight, input), cast(self.bias, input)
        return F.group_norm(input, self.num_groups, weight, bias, self.eps)


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention. q, k, v: [batch, heads, tokens, head width] -> [batch, tokens, heads * head width]."""
    if q.device.type == "cpu":  # PyTorch's kernel there is faster on heads that lie in one piece
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    attend = _attend_in_products if _is_slow_fused(q) else F.scaled_dot_product_attention
    return rearrange(attend(q, k, v), "b h n d -> b n (h d)")


def _is_slow_fused(q: Tensor) -> bool:
    """Training on a CPU in bfloat16, where the backward pass of PyTorch's kernel takes 1.7 to 2.4 times as long as
    the plain products' (PyTorch 2.13; 344 and 88 tokens)."""
    return q.requires_grad and q.device.type == "cpu" and q.dtype == torch.bfloat16


def _attend_in_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return weights.float().softmax(-1).to(v.dtype) @ v
