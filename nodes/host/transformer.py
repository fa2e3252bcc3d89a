"""The library's transformer behind the host's call: its attention, its wrappers, its block patches."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest
from ...echovideo_model.operations import Attend
from ...echovideo_model.transformer import Block, EchoVideoTransformer, TransformerSizes
from ...echovideo_model.weights.loading import NARROW, storage_dtype
from .patches import patch_input, patch_output, refuse_foreign, run_block, warn_of_idle
from .quantised import refuse_unread

RIFLEX = "echovideo_riflex"  # in transformer_options: whether RIFLEx is wanted


class HostTransformer(EchoVideoTransformer):
    """EchoVideoTransformer as `BaseModel.diffusion_model`: every host feature for the inside of a DiT works in it."""

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
        self.in_channels = sizes.out_channels  # of x; the face latent has its own name. RenormCFG reads this
        if dtype in NARROW:  # only the bulk; norms, biases, embeddings, modulation and IITF stay as they are
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
        """x [B, 16, T, H, W] -> v of the same shape; what other packs wrap around a DiT call is wrapped here.

        Raises InvalidRequest for what does not work in this network: a ControlNet, or another network's attention
        patch.
        """
        if control is not None:
            raise InvalidRequest(
                "EchoVideo does not support ControlNet: remove the node that applies one to its prompt"
            )
        options = transformer_options or {}
        refuse_foreign(options)
        warn_of_idle(options)
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
        whole = pad_to_even(x)
        riflex = bool(options.get(RIFLEX))
        v = super().forward(
            whole, timesteps, context, face_latent, riflex=riflex, latents=whole, options=dict(options)
        )
        return v[..., :height, :width]

    def through_blocks(  # type: ignore[override]
        self,
        tokens: Tensor,
        n_text: int,
        time: Tensor,
        rotary: Tensor,
        attend: Attend,
        *,
        latents: Tensor,
        options: dict[str, Any],
    ) -> Tensor:
        """All blocks with the host's attention and other packs' patches, of which one may stand for a whole block."""
        options["total_blocks"], options["block_type"] = len(self.transformer_blocks), "double"
        grid = (latents.shape[2], *(side // self.sizes.patch for side in latents.shape[3:]))
        own, (tokens, n_text) = n_text, patch_input(tokens, n_text, grid, options)
        replaced = options.get("patches_replace", {}).get("dit", {})
        rest = {"vec": time, "pe": rotary, "transformer_options": options}
        for index, block in enumerate(self.transformer_blocks):
            options["block_index"] = index
            patch = replaced.get(("double_block", index))
            if patch is None:
                tokens = run_block(block, tokens, n_text, time, rotary, None, options)
            else:
                given = {"img": tokens[:, n_text:], "txt": tokens[:, :n_text], **rest}
                given |= {"attn_mask": None, "attention_mask": None}
                out = patch(given, {"original_block": partial(run_original_block, block=block)})
                tokens = torch.cat([out["txt"], out["img"]], dim=1)
            tokens = patch_output(tokens, n_text, latents, rest)
        return tokens[:, n_text - own :]  # without text that a patch may have put in front


def run_original_block(given: dict[str, Any], *, block: Block) -> dict[str, Tensor]:
    """One block in the form in which patches call it: img [B, N, width] and txt [B, n, width] in and out."""
    n_text = given["txt"].shape[1]
    tokens = torch.cat([given["txt"], given["img"]], dim=1)  # a copy, since the block works in place
    mask, options = given.get("attn_mask"), given["transformer_options"]
    tokens = run_block(block, tokens, n_text, given["vec"], given["pe"], mask, options)
    return {"img": tokens[:, n_text:], "txt": tokens[:, :n_text]}


def pad_to_even(x: Tensor) -> Tensor:
    """Height and width rounded up to a multiple of the patch, 2, by repeating the last row and column."""
    odd_rows, odd_columns = x.shape[-2] % 2, x.shape[-1] % 2
    if not (odd_rows or odd_columns):
        return x
    return F.pad(x, (0, odd_columns, 0, odd_rows, 0, 0), mode="replicate")
