"""Writing quantised weights in ComfyUI's form: each matrix with its scale and a mark, `comfy_quant`, that says how.

What quantised.py reads; ComfyUI reads both forms from 0.8 on. Only the matrices that fp8 narrows are quantised
(loading.BULK), everything else is kept in bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from .quantised import FORMATS
from .writing import Planned, Read

FORMS = {"fp8_scaled": "float8_e4m3fn", "int8": "int8_tensorwise"}
"""{what the command line calls it: ComfyUI's name}."""
MARK, SCALE = "comfy_quant", "weight_scale"


def quantise(weight: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """weight [rows, columns] -> what is stored of it, and the scale by which that is multiplied again.

    "fp8_scaled" has one scale, of its largest magnitude; "int8" one a row, [rows, 1], rounded to nearest.
    """
    weight = weight.float()
    if form == "int8":
        scale = (weight.abs().amax(1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        return (weight / scale).round().to(torch.int8), scale
    narrow = FORMATS[FORMS[form]]
    scale = weight.abs().amax() / torch.finfo(narrow).max
    return (weight / scale).to(narrow), scale


def plan_quantised(planned: Planned, form: str, is_bulk: Callable[[str], bool]) -> Planned:
    """`planned` with the matrices of the bulk narrowed, each with its scale and mark beside it."""
    mark = _mark(form)
    result: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for name, (shape, dtype) in planned.items():
        if not is_bulk(name):
            result[name] = shape, dtype
            continue
        layer = name.removesuffix("weight")
        result[name] = shape, FORMATS[FORMS[form]]
        result[layer + SCALE] = ((shape[0], 1) if form == "int8" else ()), torch.float32
        result[layer + MARK] = tuple(mark.shape), torch.uint8
    return result


def read_quantised(weights: Read, again: Read, form: str, is_bulk: Callable[[str], bool]) -> Read:
    """Yields what plan_quantised plans. `weights` reads a matrix to be stored, `again` the same for its scale, which
    stands elsewhere in the file: so memory stays at one matrix."""

    def read(wanted: Iterable[str]) -> Iterator[Tensor]:
        for name in wanted:
            layer, _, part = name.rpartition(".")
            if part == MARK:
                yield _mark(form)
            elif part == SCALE:
                (weight,) = again([f"{layer}.weight"])
                yield quantise(weight, form)[1]
            else:
                (weight,) = weights([name])
                yield quantise(weight, form)[0] if is_bulk(name) else weight

    return read


def _mark(form: str) -> Tensor:
    return torch.tensor(list(json.dumps({"format": FORMS[form]}).encode()), dtype=torch.uint8)
