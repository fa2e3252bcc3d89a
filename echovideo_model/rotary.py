"""Rotary positions of the video tokens (golden/rope.safetensors is the judge).

A head is 64 wide: 16 numbers turn with time, 24 with height, 24 with width, in interleaved pairs, theta 10000.
Space is measured on the 30 x 45 grid of the base model's 480 x 720 pictures: the real grid is scaled to fit
inside it with its aspect kept, centred and rounded, and its rows and columns are spread evenly over that crop.
ComfyUI's own CogVideoX class and diffusers after 0.31 place them differently wherever the crop starts off 0.
"""

from __future__ import annotations

import torch
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


def rotary_table(frames: int, rows: int, columns: int, head_width: int = 64) -> Tensor:
    """Unit complex numbers [frames * rows * columns, head_width / 2], complex64 on the CPU.

    Tokens run frame by frame, row by row. Angles are computed in float64 and rounded once, since at
    position 44 a float32 angle is already off by 4e-6. `frames` counts latent frames.
    """
    top, left, bottom, right = crop_region(rows, columns)
    time_width, space_width = head_width // 4, head_width * 3 // 8
    time = _angles(0, frames, frames, time_width)  # [t, 8]
    height = _angles(top, bottom, rows, space_width)  # [h, 12]
    width = _angles(left, right, columns, space_width)  # [w, 12]
    grid = (frames, rows, columns, -1)
    angles = torch.cat(
        [
            time[:, None, None, :].expand(grid),
            height[None, :, None, :].expand(grid),
            width[None, None, :, :].expand(grid),
        ],
        dim=-1,
    ).flatten(0, 2)  # [t * h * w, 32]
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def _angles(start: int, stop: int, count: int, width: int) -> Tensor:
    """Angles [count, width / 2] of `count` positions from `start` towards `stop`, the end excluded."""
    positions = start + (stop - start) / count * torch.arange(count, dtype=torch.float64, device="cpu")
    speeds = THETA ** -(torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width)
    return torch.outer(positions, speeds)


def rotate_(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair of x [B, N, heads, head width] by table [N, head width / 2], in place, in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))  # [B, N, heads, head width / 2]
    pairs *= table[:, None, :]
    if x.dtype == torch.float32:  # then `pairs` is a view of x itself
        return x
    return x.copy_(torch.view_as_real(pairs).flatten(-2))
