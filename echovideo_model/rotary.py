"""Rotary positions of the video tokens (golden/rope.safetensors is the judge).

A head is 64 wide: 16 numbers turn with time, 24 with height, 24 with width, in interleaved pairs, theta 10000.
Space is measured on the 30 x 45 grid of the base model's 480 x 720 pictures: the real grid is scaled to fit
inside it with its aspect kept, centred and rounded, and its rows and columns are spread evenly over that crop.
ComfyUI's own CogVideoX class and diffusers after 0.31 place them differently wherever the crop starts off 0.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from einops import rearrange, repeat
from torch import Tensor

BASE_ROWS, BASE_COLUMNS = 30, 45
THETA = 10_000.0


def crop_region(rows: int, columns: int) -> tuple[int, int, int, int]:
    """Where a grid of `rows` x `columns` patches lies on the base grid: (top, left, bottom, right)."""
    if rows / columns > BASE_ROWS / BASE_COLUMNS:
        fitted_rows, fitted_columns = BASE_ROWS, round(BASE_ROWS / rows * columns)
    else:
        fitted_rows, fitted_columns = round(BASE_COLUMNS / columns * rows), BASE_COLUMNS
    top, left = round((BASE_ROWS - fitted_rows) / 2), round((BASE_COLUMNS - fitted_columns) / 2)
    return top, left, top + fitted_rows, left + fitted_columns


def rotary_table(
    frames: int, rows: int, columns: int, head_width: int = 64, device: torch.device | str = "cpu"
) -> Tensor:
    """Unit complex numbers [frames * rows * columns, head_width / 2], complex64; the last few tables are kept, so
    read only.

    Tokens run frame by frame, row by row. Angles are computed in float64 on the CPU and rounded once, since at
    position 44 a float32 angle is already off by 4e-6. `frames` counts latent frames.
    """
    if torch.compiler.is_compiling():  # a trace looks through the cache, and warns of it
        return _make_table(frames, rows, columns, head_width, device)
    return _keep_table(frames, rows, columns, head_width, device)


@lru_cache(maxsize=4)  # of 5.3 MB at 480 x 848, 49 frames
@torch.inference_mode(False)  # gradients cannot pass through what was made for inference
def _keep_table(frames: int, rows: int, columns: int, head_width: int, device: torch.device | str) -> Tensor:
    return _make_table(frames, rows, columns, head_width, device)


def _make_table(frames: int, rows: int, columns: int, head_width: int, device: torch.device | str) -> Tensor:
    top, left, bottom, right = crop_region(rows, columns)
    time_width, space_width = head_width // 4, head_width * 3 // 8
    time = _angles(0, frames, frames, time_width)  # [t, 8]
    height = _angles(top, bottom, rows, space_width)  # [h, 12]
    width = _angles(left, right, columns, space_width)  # [w, 12]
    angles = torch.cat(
        [
            repeat(time, "t d -> (t h w) d", h=rows, w=columns),
            repeat(height, "h d -> (t h w) d", t=frames, w=columns),
            repeat(width, "w d -> (t h w) d", t=frames, h=rows),
        ],
        dim=-1,
    )
    return torch.polar(torch.ones_like(angles), angles).to(device, torch.complex64)


def _angles(start: int, stop: int, count: int, width: int) -> Tensor:
    """Angles [count, width / 2] of `count` positions from `start` towards `stop`, the end excluded."""
    positions = start + (stop - start) / count * torch.arange(count, dtype=torch.float64, device="cpu")
    speeds = THETA ** -(torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width)
    return torch.outer(positions, speeds)


def rotate_(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair of x [B, N, heads, head width] by table [N, head width / 2], in place, in float32."""
    pairs = torch.view_as_complex(rearrange(x.float(), "b n h (d two) -> b n h d two", two=2))
    pairs *= rearrange(table, "n d -> n 1 d")
    if x.dtype == torch.float32:  # then `pairs` is a view of x itself
        return x
    return x.copy_(rearrange(torch.view_as_real(pairs), "b n h d two -> b n h (d two)"))
