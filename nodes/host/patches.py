"""The patches that other packs put on a MODEL, called as the host's own Flux, Qwen Image and Lumina call them.

| patch | is given | may change |
|---|---|---|
| `post_input` | the tokens before the first block, with their positions | them; of the video's, not their number |
| `attn1_patch` | q, k, v of every block, normalised and not yet turned by their positions | them, `pe`, `attn_mask` |
| `attn1_output_patch` | what the attention gives, before its output layer | it |
| `double_block` | the tokens after every block | them |

All other patches were made for U-Nets or other networks: `refuse_foreign` and `warn_of_idle` say so.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from comfy.ldm.flux.math import apply_rope
from comfy.ldm.modules import attention
from einops import rearrange
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest
from ...echovideo_model.rotary import rotate_
from ...echovideo_model.transformer import Block

log = logging.getLogger(__name__)
ATTENTION = ("attn1_patch", "attn1_output_patch")
ACTING = (*ATTENTION, "post_input", "double_block")
Grid = tuple[int, int, int]


def refuse_foreign(options: dict[str, Any]) -> None:
    """Raises InvalidRequest for an attention patch that does not have Flux's form: U-Nets pass x, context and value to
    theirs, Wan a dictionary."""
    for patch in options.get("patches", {}).get("attn1_patch", []):
        try:
            inspect.signature(patch).bind(0, 0, 0, pe=0, attn_mask=0, extra_options=0)
        except TypeError as error:
            name = getattr(patch, "__name__", type(patch).__name__)
            raise InvalidRequest(
                f"remove the node that adds the attention patch {name}, which is made for another network (such as a "
                "U-Net) and cannot act on EchoVideo; docs/compatibility.md lists those that act"
            ) from error


def warn_of_idle(options: dict[str, Any]) -> None:
    """Names, in a run's first step, the patches that EchoVideo's network has no place for."""
    idle = [name for name in options.get("patches", {}) if name not in ACTING]
    idle += [f"{kind} replacement" for kind in options.get("patches_replace", {}) if kind != "dit"]
    idle += ["rope_options"] if options.get("rope_options") else []
    schedule, sigmas = options.get("sample_sigmas"), options.get("sigmas")
    if idle and schedule is not None and sigmas is not None and sigmas.max() >= schedule[0]:
        log.warning(
            "%s: EchoVideo cannot apply this, so the node that adds it does nothing; "
            "docs/compatibility.md lists those that act",
            ", ".join(idle),
        )


def patch_input(tokens: Tensor, n_text: int, grid: Grid, options: dict[str, Any]) -> tuple[Tensor, int]:
    """Tokens [B, N, width] through `post_input`, and how many of them are text then.

    Raises InvalidRequest if the video's tokens are not those of the grid (t, h, w) any more, or text is gone.
    """
    patches = options.get("patches", {}).get("post_input", [])
    if not patches:
        return tokens, n_text
    img, txt = tokens[:, n_text:], tokens[:, :n_text]
    img_ids = list_positions(grid, tokens.device).expand(len(tokens), -1, -1)
    txt_ids = img_ids.new_zeros(len(tokens), n_text, 3)
    given = {"img": img, "txt": txt, "img_ids": img_ids, "txt_ids": txt_ids, "transformer_options": options}
    for patch in patches:
        given = {**given, **patch(dict(given))}
    kept = given["img"].shape == img.shape and given["img_ids"] is img_ids
    if not kept or given["txt"].shape[1] < n_text:
        raise InvalidRequest(
            "remove the node that adds a post_input patch: it removes tokens, or adds or moves video tokens, which "
            "EchoVideo cannot follow"
        )
    return join(tokens, img, txt, given), given["txt"].shape[1]


def list_positions(grid: Grid, device: torch.device) -> Tensor:
    """[1, t * h * w, 3]: frame, row and column of every video token."""
    axes = [torch.arange(count, dtype=torch.float32, device=device) for count in grid]
    return torch.cartesian_prod(*axes)[None]


def join(tokens: Tensor, img: Tensor, txt: Tensor, out: dict[str, Any]) -> Tensor:
    """Tokens [B, N, width] of what a patch returned; `tokens` itself if it is their views img, txt."""
    new_img, new_txt = out.get("img", img), out.get("txt", txt)
    return tokens if new_img is img and new_txt is txt else torch.cat([new_txt, new_img], dim=1)


def patch_output(tokens: Tensor, n_text: int, x: Tensor, rest: dict[str, Any]) -> Tensor:
    """Tokens [B, N, width] after a block, through `double_block`; x [B, 16, T, H, W] are the noisy latents."""
    options = rest["transformer_options"]
    for patch in options.get("patches", {}).get("double_block", []):
        img, txt = tokens[:, n_text:], tokens[:, :n_text]
        given = {"img": img, "txt": txt, "x": x, "block_index": options["block_index"], **rest}
        tokens = join(tokens, img, txt, patch(given))
    return tokens


def run_block(
    block: Block,
    tokens: Tensor,
    n_text: int,
    time: Tensor,
    rotary: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> Tensor:
    """One block over tokens [B, N, width], with the attention patches in `options`; see Block.forward."""
    if any(name in options.get("patches", {}) for name in ATTENTION):

        def patched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend_with_patches(q, k, v, n_text, rotary, mask, options)

        return block(tokens, n_text, time, None, patched)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_in_host(q, k, v, mask, options)

    return block(tokens, n_text, time, rotary, attend)


def attend_in_host(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    """q, k, v [B, heads, N, D] -> [B, N, heads * D] by whichever attention the user chose for the host."""
    return attention.optimized_attention(
        q, k, v, heads=q.shape[1], mask=mask, skip_reshape=True, transformer_options=options
    )


def attend_with_patches(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    n_text: int,
    rotary: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> Tensor:
    """q, k, v [B, heads, N, D], not yet turned -> [B, N, heads * D]."""
    patches = options["patches"]
    extra = {**options, "img_slice": [n_text, q.shape[2]]}
    own = pe = as_flux(rotary, n_text) if patches.get("attn1_patch") else None
    for patch in patches.get("attn1_patch", []):
        out = patch(q, k, v, pe=pe, attn_mask=mask, extra_options=extra)
        q, k, v = (out.get(name, one) for name, one in (("q", q), ("k", k), ("v", v)))
        pe, mask = out.get("pe", pe), out.get("attn_mask", mask)
    if pe is own:
        q, k = turn(q, n_text, rotary), turn(k, n_text, rotary)
    elif pe is not None:
        q, k = apply_rope(q, k, pe)
    out = attend_in_host(q, k, v, mask, options)
    for patch in patches.get("attn1_output_patch", []):
        out = patch(out, extra)
    return out


def as_flux(rotary: Tensor, n_text: int) -> Tensor:
    """The table [N - n_text, D / 2] as Flux's `pe` [1, 1, N, D / 2, 2, 2]: a rotation matrix a pair, text unturned."""
    table = torch.cat([rotary.new_ones(n_text, rotary.shape[1]), rotary])
    cos, sin = table.real, table.imag
    return rearrange([cos, -sin, sin, cos], "(i j) n d -> 1 1 n d i j", i=2)


def turn(x: Tensor, n_text: int, rotary: Tensor) -> Tensor:
    """A copy of x [B, heads, N, D], which a patch may have kept, with its video tokens turned."""
    x = x.clone() if x.stride(-1) == 1 else x.contiguous()
    rotate_(rearrange(x, "b h n d -> b n h d")[:, n_text:], rotary)
    return x
