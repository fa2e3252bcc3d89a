"""Ulysses (DeepSpeed, arXiv 2309.14509): each rank has a part of the tokens, and in attention a part of the heads.

Text and video are one sequence here, cut into equal parts without regard to where text ends; the last part is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..operations import Attend
from ..transformer import EchoVideoTransformer
from .ranks import Ranks


@contextmanager
def share_tokens(network: EchoVideoTransformer, team: Ranks) -> Iterator[None]:
    """In here the ranks of `team` share the tokens of `network`, which each of them calls with the same input.

    The team's size divides the number of heads.
    """
    if team.size == 1:
        yield
        return
    network.through_blocks = partial(_through_blocks, network, team)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del network.through_blocks


def _through_blocks(
    network: EchoVideoTransformer,
    team: Ranks,
    tokens: Tensor,
    n_text: int,
    time: Tensor,
    rotary: Tensor,
    attend: Attend,
    **more: Any,
) -> Tensor:
    """EchoVideoTransformer.through_blocks: whole tokens [B, N, width] in and, on every rank, whole tokens out."""
    whole = tokens.shape[1]
    part = -(-whole // team.size)  # rounded up
    padding = part * team.size - whole
    start = team.rank * part
    own = F.pad(tokens, (0, 0, 0, padding))[:, start : start + part].contiguous()
    own_text = min(max(n_text - start, 0), part)
    own_rows = F.pad(rotary, (0, 0, 0, padding))[max(start - n_text, 0) :][: part - own_text]
    spread = partial(_attend, team, whole, attend)
    own = EchoVideoTransformer.through_blocks(network, own, own_text, time, own_rows, spread, **more)
    return rearrange(team.gather(own), "r b n c -> b (r n) c")[:, :whole]


def _attend(team: Ranks, whole: int, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v [B, heads, part, D] of this rank's tokens -> [B, part, heads * D].

    In between, `attend` sees all tokens [B, heads / size, whole, D] of this rank's heads, and no padding.
    """
    q, k, v = (_take_heads(team, x)[:, :, :whole] for x in (q, k, v))
    attended = attend(q, k, v)  # [B, whole, heads / size * D]
    part = -(-whole // team.size)
    attended = F.pad(attended, (0, 0, 0, part * team.size - whole))
    received = team.exchange(rearrange(attended, "b (r n) c -> r b n c", r=team.size))  # r: whose heads
    return rearrange(received, "r b n c -> b n (r c)")


def _take_heads(team: Ranks, x: Tensor) -> Tensor:
    """x [B, heads, part, D] of this rank's tokens -> [B, heads / size, part * size, D] of this rank's heads."""
    received = team.exchange(rearrange(x, "b (r h) n d -> r b h n d", r=team.size))  # r: whose tokens
    return rearrange(received, "r b h n d -> b h (r n) d")
