"""Rotary positions of the video tokens, checked against golden/rope.safetensors.

A head is 64 wide: 16 numbers turn with time, 24 with height, 24 with width, in interleaved pairs, theta 10000.
Space is measured on the 30 x 45 grid of the base model's 480 x 720 pictures: the real grid is scaled to fit
inside it with its aspect kept, centred and rounded, and its rows and columns are spread evenly over that crop.
ComfyUI's own CogVideoX class and diffusers after 0.31 place them differently unless the crop starts at 0.

RIFLEx (arXiv 2502.15894) is for videos longer than the training's: of the frequencies in time, the one whose period is
nearest to the length at which a video begins to repeat itself (k = 2 for CogVideoX, that is period 19.9) is slowed
down, so that all frames lie within 90 % of one period of it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from einops import rearrange, repeat
from torch import Tensor

from .limits import FRAME_STEP, TRAINED_FRAMES

BASE_ROWS, BASE_COLUMNS = 30, 45
THETA = 10_000.0
TRAINED_LATENT_FRAMES = (TRAINED_FRAMES - 1) // FRAME_STEP + 1
RIFLEX_FREQUENCY = 1  # the paper's k = 2, which counts from 1


def crop_region(rows: int, columns: int) -> tuple[int, int, int, int]:
    """Where a grid of `rows` x `columns` patches lies on the base grid: (top, left, bottom, right)."""
    if rows / columns > BASE_ROWS / BASE_COLUMNS:
        fitted_rows, fitted_columns = BASE_ROWS, round(BASE_ROWS / rows * columns)
    else:
        fitted_rows, fitted_columns = round(BASE_COLUMNS / columns * rows), BASE_COLUMNS
    top, left = round((BASE_ROWS - fitted_rows) / 2), round((BASE_COLUMNS - fitted_columns) / 2)
    return top, left, top + fitted_rows, left + fitted_columns


def rotary_table(
    frames: int,
    rows: int,
    columns: int,
    head_width: int = 64,
    device: torch.device | str = "cpu",
    riflex: bool = False,
) -> Tensor:
    """Unit complex numbers [frames * rows * columns, head_width / 2], complex64; the last few tables are kept, so
    read only.

    Tokens run frame by frame, row by row. Angles are computed in float64 on the CPU and rounded once, since at
    position 44 a float32 angle is already off by 4e-6. `frames` counts latent frames. `riflex` slows one frequency
    down where there are more frames than in training (13), and changes nothing otherwise.
    """
    riflex = riflex and frames > TRAINED_LATENT_FRAMES
    if torch.compiler.is_compiling():  # a trace looks through the cache, and warns of it
        return _make_table(frames, rows, columns, head_width, device, riflex)
    return _keep_table(frames, rows, columns, head_width, device, riflex)


@lru_cache(maxsize=4)  # of 5.3 MB at 480 x 848, 49 frames
@torch.inference_mode(False)  # gradients cannot pass through what was made for inference
def _keep_table(
    frames: int, rows: int, columns: int, head_width: int, device: torch.device | str, riflex: bool
) -> Tensor:
    return _make_table(frames, rows, columns, head_width, device, riflex)


def _make_table(
    frames: int, rows: int, columns: int, head_width: int, device: torch.device | str, riflex: bool
) -> Tensor:
    top, left, bottom, right = crop_region(rows, columns)
    time_width, space_width = head_width // 4, head_width * 3 // 8
    time = _angles(0, frames, frames, time_width)  # [t, 8]
    if riflex:  # never faster than it was: up to 17 latent frames lie within its period as it is
        whole = 0.9 * 2 * math.pi / frames * torch.arange(frames, dtype=torch.float64, device="cpu")
        time[:, RIFLEX_FREQUENCY] = torch.minimum(time[:, RIFLEX_FREQUENCY], whole)
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
