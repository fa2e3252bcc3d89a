"""Quantised weights: the numbers stored beside a weight, such as its scale, become part of its entry.

It reads scaled fp8 (`scaled_fp8`, `scale_weight`, `scale_input`, and their later names `weight_scale` and
`input_scale`) and what ComfyUI 0.26.0 marks with `comfy_quant`, or in `_quantization_metadata`, as float8_e4m3fn,
float8_e5m2 or int8_tensorwise: weight = stored * scale, with the scale a single number or one a row. With "convrot"
every group of a row was multiplied by a regular Hadamard matrix, which is its own inverse (ConvRot, arXiv 2512.03673).
Its nvfp4 and mxfp8 have scales for every block of a row (blocks.py); so have the types of a GGUF, inside the weight.
Input scales serve arithmetic in fp8; here a weight is widened before it is used, so they are not needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import WrongModelFile
from . import blocks
from .gguf_files import unpack
from .reading import Entry, TensorFile, read_entry

METADATA = "_quantization_metadata"
FORMATS = {
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "int8_tensorwise": torch.int8,
}
READ = (*FORMATS, *blocks.SIZES)
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_MARK, _SCALES, _INPUT_SCALES = (
    "comfy_quant",
    ("weight_scale", "scale_weight"),
    ("input_scale", "scale_input"),
)
_SETTINGS = {
    "format",
    "full_precision_matrix_mult",
    "convrot",
    "convrot_groupsize",
    "orig_dtype",
    "orig_shape",
    "params",
}


def fold_scales(opened: TensorFile) -> TensorFile:
    """`opened` with every scale in the entry of its weight, and the marks and input scales that are understood gone.

    What is not understood stays, as an entry that no network expects. Raises WrongModelFile for a format that is not
    read, and for a scale that does not fit its weight.
    """
    entries = {
        name: entry for name, entry in opened.entries.items() if name.rpartition(".")[2] != "scaled_fp8"
    }
    marks = _marks(opened)
    for name in [name for name, mark in marks.items() if mark.get("format") in blocks.SIZES]:
        _fold_blocks(opened, name, entries, marks.pop(name))
    scales = {name: _first(entries, name, _SCALES) for name in entries if name.endswith(".weight")}
    scales = {name: scale for name, scale in scales.items() if scale is not None or name in marks}
    values = _small(opened, [scale for scale in scales.values() if scale is not None])
    for name, scale in scales.items():
        if scale is None:
            raise WrongModelFile(
                f"{opened.path} says that {name} is quantised but lacks its scale: download it again"
            )
        entries[name] = _set_scale(opened, name, entries[name], values[scale], marks.get(name))
        for gone in (scale, _beside(name, _MARK), *(_beside(name, one) for one in _INPUT_SCALES)):
            entries.pop(gone, None)
    metadata = {key: value for key, value in opened.metadata.items() if key != METADATA}
    return TensorFile(opened.path, entries, metadata)


def widen(stored: Tensor, entry: Entry) -> Tensor:
    """The values of a quantised weight, float32; the tensor itself if it is not quantised."""
    if entry.blocks is not None:
        wide = blocks.widen(stored, read_entry(entry.blocks), entry.packed)
        return wide if entry.scale is None else wide * entry.scale
    if entry.packed:
        return unpack(stored, entry.packed, entry.file)
    if entry.scale is None:
        return stored
    wide = stored.float() * entry.scale
    if entry.rotated:
        grouped = wide.unflatten(-1, (-1, entry.rotated))  # [rows, groups, size of a group]
        wide = (grouped @ _hadamard(entry.rotated)).flatten(1)
    return wide


def _hadamard(size: int) -> Tensor:
    """The regular Hadamard matrix [size, size] of unit rows, for a power of 4: symmetric, and its own inverse."""
    four = torch.ones(4, 4) - 2 * torch.eye(4).flip(0)
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, four)
    return matrix / size**0.5


def _beside(name: str, what: str) -> str:
    return f"{name.removesuffix('weight')}{what}"


def _first(entries: Mapping[str, Entry], name: str, kinds: tuple[str, ...]) -> str | None:
    return next((found for kind in kinds if (found := _beside(name, kind)) in entries), None)


def _small(opened: TensorFile, names: list[str]) -> dict[str, Tensor]:
    """The few numbers under these names, copied out of the file."""
    return {name: tensor.clone() for name, tensor in opened.tensors(names)}


def _marks(opened: TensorFile) -> dict[str, dict[str, Any]]:
    """{weight: what its mark says}, out of tensors that hold JSON as bytes or out of the header."""
    names = [name for name in opened.entries if name.endswith(f".{_MARK}")]
    texts: dict[str, bytes | str] = {
        name.removesuffix(_MARK) + "weight": bytes(tensor.flatten().view(torch.uint8).tolist())
        for name, tensor in _small(opened, names).items()
    }
    texts |= _header_marks(opened)
    marks = {}
    for name, text in texts.items():
        try:
            marks[name] = dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise WrongModelFile(
                f"{opened.path} marks {name} as quantised, but the mark cannot be read "
                f"({type(error).__name__}): download it again"
            ) from error
    return marks


def _header_marks(opened: TensorFile) -> dict[str, str]:
    if METADATA not in opened.metadata:
        return {}
    try:
        layers = json.loads(opened.metadata[METADATA])["layers"]
        marks = {f"{layer}.weight": json.dumps(mark) for layer, mark in layers.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WrongModelFile(
            f"{METADATA} in the header of {opened.path} cannot be read ({type(error).__name__}): "
            "download it again"
        ) from error
    if absent := [name for name in marks if name not in opened.entries]:
        raise WrongModelFile(
            f"{opened.path} says that {absent[0]} is quantised but does not hold it: download it again"
        )
    return marks


def _fold_blocks(opened: TensorFile, name: str, entries: dict[str, Entry], mark: Mapping[str, Any]) -> None:
    """Puts the scales of a weight's blocks into its entry. Raises WrongModelFile unless they fit."""
    form = mark["format"]
    if unknown := sorted(mark.keys() - _SETTINGS):
        raise WrongModelFile(_explain_unread(opened, name, f"{form} with {', '.join(unknown)}"))
    parts = {
        part: _beside(name, part) for part in ("weight_scale", "weight_scale_2")[: 1 + (form == "nvfp4")]
    }
    if absent := [part for part, beside in parts.items() if beside not in entries]:
        raise WrongModelFile(
            f"{opened.path} says that {name} is quantised but lacks its {absent[0]}: download it again"
        )
    stored, scales = entries[name], entries.pop(parts["weight_scale"])
    shape = stored.shape if form == "mxfp8" else (*stored.shape[:-1], 2 * stored.shape[-1])
    if (
        stored.dtype != blocks.HELD[form]
        or not blocks.fits(shape, form)
        or scales.dtype not in (blocks.SCALES[form], torch.uint8)
        or scales.shape != blocks.find_scales_shape(shape, form)
    ):
        raise WrongModelFile(
            f"{opened.path} says that {name} is {form} but holds {_short(stored.dtype)} "
            f"{list(stored.shape)} with {list(scales.shape)} scales: download it again"
        )
    scale = None
    if form == "nvfp4":
        second = parts["weight_scale_2"]
        scale = _check_scale(opened, name, _small(opened, [second])[second])
        entries.pop(second)
    for gone in (_MARK, *_INPUT_SCALES):
        entries.pop(_beside(name, gone), None)
    entries[name] = replace(
        stored,
        shape=shape,
        held=stored.shape,
        packed=form,
        scale=scale,
        blocks=replace(scales, dtype=blocks.SCALES[form]),
    )


def _set_scale(
    opened: TensorFile, name: str, entry: Entry, scale: Tensor, mark: Mapping[str, Any] | None
) -> Entry:
    """The entry of a quantised weight. Raises WrongModelFile unless it, its scale and its mark fit each other."""
    rotated = 0
    if mark is not None:
        rotated = _check_mark(opened, name, entry, mark)
    elif entry.dtype not in _FLOAT8:
        raise WrongModelFile(
            f"{opened.path} holds a scale for {name}, which is {_short(entry.dtype)} in an unspecified "
            "format: choose a file in bf16, fp8 or scaled fp8"
        )
    if scale.numel() != 1 and tuple(scale.shape) != (*entry.shape[:1], *(1 for _ in entry.shape[1:])):
        raise WrongModelFile(
            f"{opened.path} scales {name} {list(entry.shape)} with {list(scale.shape)} numbers, which "
            "is not supported: choose a file in bf16, fp8 or scaled fp8"
        )
    return replace(entry, scale=_check_scale(opened, name, scale), rotated=rotated)


def _check_scale(opened: TensorFile, name: str, scale: Tensor) -> Tensor:
    """float32, [] or [rows, 1]. Raises WrongModelFile if it cannot be a scale."""
    scale = scale.float() if scale.numel() != 1 else scale.float().reshape(())
    if not scale.isfinite().all() or not scale.all():
        raise WrongModelFile(
            f"{opened.path} scales {name} by zero, NaN or infinity: it is damaged; download it again"
        )
    return scale


def _check_mark(opened: TensorFile, name: str, entry: Entry, mark: Mapping[str, Any]) -> int:
    """The size of the groups that are rotated, 0 for none. Raises WrongModelFile for what is not read here."""
    kind, nested = mark.get("format"), mark.get("params") or {}
    unknown = sorted(mark.keys() - _SETTINGS)
    if kind not in FORMATS or unknown or not isinstance(nested, dict) or nested.keys() - _SETTINGS:
        what = f"{kind} with {', '.join(unknown)}" if unknown else str(kind)
        raise WrongModelFile(_explain_unread(opened, name, what))
    if entry.dtype != FORMATS[kind]:
        raise WrongModelFile(
            f"{opened.path} says that {name} is {kind} but holds it as {_short(entry.dtype)}: download "
            "it again"
        )
    settings = {**nested, **mark}
    if not settings.get("convrot", False):
        return 0
    size = settings.get("convrot_groupsize", 256)
    sound = isinstance(size, int) and size in (4, 16, 64, 256, 1024, 4096) and len(entry.shape) == 2
    if kind != "int8_tensorwise" or not sound or entry.shape[1] % size:
        raise WrongModelFile(
            f"{opened.path} holds {name} rotated in groups of {size}, which do not fit it: download it again"
        )
    return int(size)


def _explain_unread(opened: TensorFile, name: str, what: str) -> str:
    return (
        f"{opened.path} holds {name} quantised as {what}, which is not supported ({', '.join(READ)} "
        "are): choose a file in bf16, fp8 or scaled fp8"
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
