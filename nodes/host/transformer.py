"""The library's transformer behind the host's call: its attention, its wrappers, its block patches."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from comfy.ldm.modules import attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ...echovideo_model.operations import Attend
from ...echovideo_model.transformer import Block, EchoVideoTransformer, TransformerSizes
from ...echovideo_model.weights.loading import NARROW, storage_dtype
from .quantised import refuse_unread


class HostTransformer(EchoVideoTransformer):
    """EchoVideoTransformer as `BaseModel.diffusion_model`: every host feature that works inside a DiT works in it."""

    def __init__(
        self,
        sizes: TransformerSizes,
        dtype: torch.dtype,
        device: Any = None,
        operations: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(sizes, operations, dtype=dtype, device=device)
        self.dtype = dtype
        self.in_channels = (
            sizes.out_channels
        )  # of x, the face latent comes by its own name; read by RenormCFG
        if (
            dtype in NARROW
        ):  # the bulk alone is stored so; norms, biases, embeddings, modulation and IITF are not
            for name, parameter in self.named_parameters():
                parameter.data = parameter.data.to(storage_dtype(name, dtype))

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().load_state_dict(state_dict, *args, **kwargs)
        refuse_unread(result.unexpected_keys, "this EchoVideo file")
        return result

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        face_latent: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """x [B, 16, T, H, W] -> v of the same shape; what other packs wrap around a DiT call is wrapped here."""
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, face_latent, options)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        face_latent: Tensor | None,
        options: dict[str, Any],
    ) -> Tensor:
        height, width = x.shape[-2:]
        face_latent = None if face_latent is None else pad_to_even(face_latent)
        attend = partial(host_attention, options=options)
        v = super().forward(pad_to_even(x), timesteps, context, face_latent, attend, options=options)
        return v[..., :height, :width]

    def through_blocks(
        self,
        tokens: Tensor,
        n_text: int,
        time: Tensor,
        rotary: Tensor,
        attend: Attend,
        *,
        options: dict[str, Any],
    ) -> Tensor:
        """All blocks, each one replaced by the patch that another pack registered for it, if any."""
        options["total_blocks"], options["block_type"] = len(self.transformer_blocks), "double"
        patches = options.get("patches_replace", {}).get("dit", {})
        for index, block in enumerate(self.transformer_blocks):
            options["block_index"] = index
            patch = patches.get(("double_block", index))
            if patch is None:
                tokens = block(tokens, n_text, time, rotary, attend)
                continue
            given = {"img": tokens[:, n_text:], "txt": tokens[:, :n_text], "vec": time, "pe": rotary}
            given |= {"attention_mask": None, "transformer_options": options}
            original = partial(original_block, block=block, attend=attend)
            out = patch(given, {"original_block": original})
            tokens = torch.cat([out["txt"], out["img"]], dim=1)
        return tokens


def original_block(given: dict[str, Any], *, block: Block, attend: Attend) -> dict[str, Tensor]:
    """One block in the form in which patches call it: img [B, N, width] and txt [B, n, width] in and out."""
    n_text = given["txt"].shape[1]
    tokens = torch.cat([given["txt"], given["img"]], dim=1)  # a copy, since the block works in place
    tokens = block(tokens, n_text, given["vec"], given["pe"], attend)
    return {"img": tokens[:, n_text:], "txt": tokens[:, :n_text]}


def host_attention(q: Tensor, k: Tensor, v: Tensor, *, options: dict[str, Any]) -> Tensor:
    """q, k, v [B, heads, N, D] -> [B, N, heads * D] by whichever attention the user chose for the host."""
    return attention.optimized_attention(
        q, k, v, heads=q.shape[1], skip_reshape=True, transformer_options=options
    )


def pad_to_even(x: Tensor) -> Tensor:
    """Height and width rounded up to a multiple of the patch, 2, by repeating the last row and column."""
    odd_rows, odd_columns = x.shape[-2] % 2, x.shape[-1] % 2
    if not (odd_rows or odd_columns):
        return x
    return F.pad(x, (0, odd_columns, 0, odd_rows, 0, 0), mode="replicate")
