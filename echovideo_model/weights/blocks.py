"""Numbers in blocks, each with a scale of its own: NVIDIA's nvfp4 and OCP's mxfp8, as ComfyUI 0.26.0 stores them.

nvfp4: blocks of 16 in a row; fp4 (e2m1), two a byte with the first in the high half; a scale in fp8 (e4m3) for each
block, and one in float32 for all. mxfp8: blocks of 32; fp8 (e4m3); a power of two for each block, its exponent + 127 as
a byte (e8m0). Scales lie in the order that cuBLAS wants ("1D block scaling factors layout"): tiles of 128 rows by 4
blocks, filled up with zeros.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

SIZES = {"nvfp4": 16, "mxfp8": 32}
"""{form: numbers in a block}."""
HELD = {"nvfp4": torch.uint8, "mxfp8": torch.float8_e4m3fn}
SCALES = {"nvfp4": torch.float8_e4m3fn, "mxfp8": torch.uint8}
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_FP4_MAX, _FP8_MAX = 6.0, 448.0
# Halfway between two FP4 values the one with an even code wins: below or at, and from, these.
_DOWN, _UP = (0.25, 1.25, 2.5, 5.0), (0.75, 1.75, 3.5)
_BIAS = 127
_TILE = 128, 4


def fits(shape: tuple[int, ...], form: str) -> bool:
    """Whether a matrix of this shape can be stored without padding."""
    return len(shape) == 2 and not shape[0] % SIZES[form] and not shape[1] % SIZES[form]


def find_held_shape(shape: tuple[int, ...], form: str) -> tuple[int, int]:
    """[rows, columns] -> the shape of what is stored."""
    return (shape[0], shape[1] // 2) if form == "nvfp4" else (shape[0], shape[1])


def find_scales_shape(shape: tuple[int, ...], form: str) -> tuple[int, int]:
    """[rows, columns] -> the shape of the scales of its blocks, whole tiles of them."""
    rows, columns = shape[0], shape[1] // SIZES[form]
    return -(-rows // _TILE[0]) * _TILE[0], -(-columns // _TILE[1]) * _TILE[1]


def find_global_scale(weight: Tensor) -> Tensor:
    """nvfp4's one scale [] float32: the largest block's own scale is then the largest of fp8."""
    return weight.abs().amax().float() / (_FP8_MAX * _FP4_MAX)


def find_block_scales(weight: Tensor, form: str) -> Tensor:
    """weight [rows, columns] float32 -> the scales [rows, blocks] as they are stored, before they are put in tiles."""
    largest = weight.unflatten(1, (-1, SIZES[form])).abs().amax(2)  # [rows, blocks]
    if form == "mxfp8":
        exponents = torch.ceil(torch.log2(largest / _FP8_MAX)) + _BIAS  # of zeros -inf
        return exponents.clamp(0, 254).to(torch.uint8)
    scales = largest / _FP4_MAX / find_global_scale(weight)
    return scales.nan_to_num().clamp(max=_FP8_MAX).to(torch.float8_e4m3fn)


def narrow(weight: Tensor, form: str) -> Tensor:
    """weight [rows, columns] float32 -> what is stored of it, to the nearest."""
    wide = _wide_scales(find_block_scales(weight, form), form)[..., None]
    if form == "nvfp4":
        wide = wide * find_global_scale(weight)
    scaled = (weight.unflatten(1, (-1, SIZES[form])) / wide).nan_to_num(0, 0, 0).flatten(1)
    return scaled.to(torch.float8_e4m3fn) if form == "mxfp8" else _to_fp4(scaled)


def widen(stored: Tensor, tiles: Tensor, form: str) -> Tensor:
    """What is stored and its scales in tiles -> [rows, columns] float32, of nvfp4 without its one scale."""
    numbers = stored.float() if form == "mxfp8" else _from_fp4(stored)
    rows, columns = numbers.shape
    scales = from_tiles(tiles, rows, columns // SIZES[form])
    blocks = numbers.unflatten(1, (-1, SIZES[form])) * _wide_scales(scales, form)[..., None]
    return blocks.flatten(1)


def to_tiles(scales: Tensor) -> Tensor:
    """scales [rows, blocks], one byte each -> whole tiles of them, the same shape except for padding."""
    rows, columns = scales.shape
    padded = torch.zeros(-(-rows // 128) * 128, -(-columns // 4) * 4, dtype=torch.uint8)
    padded[:rows, :columns] = scales.view(torch.uint8)
    tiles = rearrange(padded, "(r a b) (c d) -> (r c b a d)", a=4, b=32, d=4)
    return tiles.view(padded.shape).view(scales.dtype)


def from_tiles(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """The scales [rows, columns] in tiles."""
    flat = tiles.view(torch.uint8).flatten()
    r, c = tiles.shape[0] // 128, tiles.shape[1] // 4
    padded = rearrange(flat, "(r c b a d) -> (r a b) (c d)", r=r, c=c, a=4, b=32, d=4)
    return padded[:rows, :columns].contiguous().view(tiles.dtype)


def _wide_scales(scales: Tensor, form: str) -> Tensor:
    return scales.float() if form == "nvfp4" else torch.exp2(scales.float() - _BIAS)


def _to_fp4(numbers: Tensor) -> Tensor:
    """float32 [rows, columns] -> codes, two a byte, uint8 [rows, columns / 2]."""
    size = numbers.abs()
    codes = torch.zeros_like(numbers, dtype=torch.uint8)
    for bound in _DOWN:
        codes += size > bound
    for bound in _UP:
        codes += size >= bound
    codes |= (numbers < 0).to(torch.uint8) << 3
    return codes[:, ::2] << 4 | codes[:, 1::2]


def _from_fp4(codes: Tensor) -> Tensor:
    values = torch.tensor([*FP4, *(-one for one in FP4)])
    return values[torch.stack([codes >> 4, codes & 15], 2).flatten(1).long()]
