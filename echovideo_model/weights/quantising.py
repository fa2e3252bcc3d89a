"""Writing quantised weights: in ComfyUI's form, each matrix with its scales and a mark, `comfy_quant`, that says how,
or in a GGUF's types.

What quantised.py reads. Only the matrices that fp8 narrows are quantised (loading.BULK), where their sizes fit the
form; everything else is kept in bfloat16, and in a GGUF everything but matrices in float32, as its readers expect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from . import blocks
from .gguf_files import find_packed_shape, pack
from .quantised import FORMATS
from .writing import Planned, Read

FORMS = {
    "fp8_scaled": "float8_e4m3fn",
    "int8": "int8_tensorwise",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
}
"""{what the command line calls it: ComfyUI's name}."""
GGUF_FORMS = {"q8_0": "Q8_0", "q4_0": "Q4_0"}
"""{what the command line calls it: GGUF's name}."""
MARK, SCALE, SECOND_SCALE = "comfy_quant", "weight_scale", "weight_scale_2"


def scale(weight: Tensor, form: str) -> Tensor:
    """weight [rows, columns] float32 -> the scale by which stored values are multiplied when they are read.

    "fp8_scaled" has one, of its largest magnitude; "int8" one a row, [rows, 1]; "mxfp8" and "nvfp4" one a block, in
    tiles (blocks.py), the latter besides one of all.
    """
    if form in blocks.SIZES:
        return blocks.to_tiles(blocks.find_block_scales(weight, form))
    if form == "int8":
        return (weight.abs().amax(1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return weight.abs().amax() / torch.finfo(FORMATS[FORMS[form]]).max


def narrow(weight: Tensor, form: str) -> Tensor:
    """weight [rows, columns] float32 -> what is stored of it, rounded to the nearest."""
    if form in blocks.SIZES:
        return blocks.narrow(weight, form)
    scaled = weight / scale(weight, form)
    return scaled.round().to(torch.int8) if form == "int8" else scaled.to(FORMATS[FORMS[form]])


def plan_quantised(planned: Planned, form: str, is_bulk: Callable[[str], bool]) -> Planned:
    """`planned` with the matrices of the bulk narrowed, each with its scale and mark beside it."""
    mark = _mark(form)
    result: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for name, (shape, dtype) in planned.items():
        if not is_bulk(name) or (form in blocks.SIZES and not blocks.fits(shape, form)):
            result[name] = shape, dtype
            continue
        layer = name.removesuffix("weight")
        result[layer + MARK] = tuple(mark.shape), torch.uint8
        if form in blocks.SIZES:
            result[name] = blocks.find_held_shape(shape, form), blocks.HELD[form]
            result[layer + SCALE] = blocks.find_scales_shape(shape, form), blocks.SCALES[form]
            if form == "nvfp4":
                result[layer + SECOND_SCALE] = (), torch.float32
        else:
            result[name] = shape, FORMATS[FORMS[form]]
            result[layer + SCALE] = ((shape[0], 1) if form == "int8" else ()), torch.float32
    return result


def read_quantised(weights: Read, again: Read, form: str, plan: Planned) -> Read:
    """Yields what plan_quantised has planned. `weights` reads a matrix to store it, `again` reads it for its scales,
    which are elsewhere in the file, so that memory stays at one matrix."""

    def read(wanted: Iterable[str]) -> Iterator[Tensor]:
        for name in wanted:
            layer, _, part = name.rpartition(".")
            if part == MARK:
                yield _mark(form)
            elif part in (SCALE, SECOND_SCALE):
                (weight,) = again([f"{layer}.weight"])
                yield scale(weight, form) if part == SCALE else blocks.find_global_scale(weight)
            else:
                (weight,) = weights([name])
                quantised = part == "weight" and f"{layer}.{MARK}" in plan
                yield narrow(weight, form) if quantised else weight

    return read


def plan_gguf(
    planned: Planned, form: str, is_bulk: Callable[[str], bool]
) -> dict[str, tuple[tuple[int, ...], str]]:
    """{name: (shape in the file, GGUF's type)}: the bulk packed, other layers' weights bfloat16, the rest float32."""
    kind = GGUF_FORMS[form]
    result: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, (shape, _) in planned.items():
        held = find_packed_shape(shape, kind) if is_bulk(name) else None
        if held is not None:
            result[name] = held, kind
        else:
            result[name] = shape, "BF16" if len(shape) > 1 and name.endswith(".weight") else "F32"
    return result


def read_packed(weights: Read, plan: dict[str, tuple[tuple[int, ...], str]]) -> Iterator[Tensor]:
    """The tensors of `plan` as they are stored, one at a time."""
    for (_, kind), weight in zip(plan.values(), weights(plan), strict=True):
        if kind in GGUF_FORMS.values():
            yield pack(weight, kind)
        else:
            yield weight.to(torch.bfloat16 if kind == "BF16" else torch.float32)


def _mark(form: str) -> Tensor:
    return torch.tensor(list(json.dumps({"format": FORMS[form]}).encode()), dtype=torch.uint8)
