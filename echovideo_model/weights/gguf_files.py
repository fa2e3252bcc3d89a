"""GGUF files, through the `gguf` package: what is in one, the numbers that its blocks stand for, and writing one.

Names in a GGUF are the released ones, except T5's, for which llama.cpp has its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import DependencyMissing, WrongModelFile
from ..files import write_atomically
from .headers import NAMED_GGUF, recognise

PLAIN = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
# What the package raises for files that are cut short, damaged or of another version.
_NOT_GGUF = (ValueError, LookupError, OSError, ArithmeticError, TypeError, MemoryError)

_BLOCK = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_AROUND = {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm", "output": "lm_head"}
_T5_SIGN = "enc.output_norm.weight"


class Stored(NamedTuple):
    """One tensor: its type by GGUF's name, its shape in numbers and in the file (bytes a row where it is packed)."""

    kind: str
    shape: tuple[int, ...]
    held: tuple[int, ...]
    start: int


def read_gguf(file: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """{name: Stored} and the texts in the header. Raises WrongModelFile, DependencyMissing."""
    if (what := recognise(file)) != NAMED_GGUF:
        raise WrongModelFile(f"{file} is not a GGUF file{f' but {what}' if what else ''}: download it again")
    gguf = _package(file)
    try:
        reader = gguf.GGUFReader(file)
        texts = {
            key: str(bytes(field.parts[field.data[0]]), "utf-8")
            for key, field in reader.fields.items()
            if field.types == [gguf.GGUFValueType.STRING]
        }
    except _NOT_GGUF as error:
        raise WrongModelFile(
            f"{file} ({file.stat().st_size} bytes) is not a complete GGUF file ({error}): it may be "
            "truncated; download it again"
        ) from error
    tensors = {
        one.name: Stored(
            one.tensor_type.name,
            tuple(int(size) for size in reversed(one.shape)),
            tuple(one.data.shape),
            int(one.data_offset),
        )
        for one in reader.tensors
    }
    if _T5_SIGN in tensors:
        tensors = {to_released_name(name, tensors): one for name, one in tensors.items()}
    return tensors, texts


def to_released_name(name: str, names: Iterable[str]) -> str:
    """The released name of what llama.cpp calls `name` in a T5 that holds these `names`; others stay as they are."""
    found = re.fullmatch(r"enc\.blk\.(\d+)\.(\w+)\.weight", name)
    if found is not None and found[2] in _BLOCK:
        gated = f"enc.blk.{found[1]}.ffn_gate.weight" in names
        part = _BLOCK[found[2]] if gated else _BLOCK[found[2]].replace("wi_1", "wi")
        return f"encoder.block.{found[1]}.{part}.weight"
    layer = name.removesuffix(".weight")
    if layer in _AROUND:
        return f"{_AROUND[layer]}.weight"
    return f"decoder.{name.removeprefix('dec.')}" if name.startswith("dec.") else name


def to_llama_name(name: str) -> str:
    """What llama.cpp calls the parameter `name` of a T5 encoder."""
    around = {ours: theirs for theirs, ours in _AROUND.items()} | {"encoder.embed_tokens": "token_embd"}
    parts = {ours: theirs for theirs, ours in _BLOCK.items()} | {"layer.1.DenseReluDense.wi": "ffn_up"}
    layer = name.removesuffix(".weight")
    if layer in around:
        return f"{around[layer]}.weight"
    found = re.fullmatch(r"encoder\.block\.(\d+)\.(.+)", layer)
    return f"enc.blk.{found[1]}.{parts[found[2]]}.weight" if found and found[2] in parts else name


def unpack(stored: Tensor, kind: str, file: Path) -> Tensor:
    """uint8 [..., bytes a row] of a GGUF type -> the numbers, float32. Raises WrongModelFile for an unknown type."""
    gguf = _package(file)
    try:
        wide = gguf.quants.dequantize(stored.numpy(), gguf.GGMLQuantizationType[kind])
    except NotImplementedError as error:
        raise WrongModelFile(
            f"{file} is packed as {kind}, which this gguf package does not support: choose a Q8_0 file, "
            "or update the package"
        ) from error
    return torch.from_numpy(wide)


def pack(weight: Tensor, kind: str) -> Tensor:
    """weight [rows, columns] -> uint8 [rows, bytes a row] of a GGUF type."""
    gguf = _package(None)
    return torch.from_numpy(gguf.quants.quantize(weight.float().numpy(), gguf.GGMLQuantizationType[kind]))


def find_packed_shape(shape: tuple[int, ...], kind: str) -> tuple[int, ...] | None:
    """The shape in bytes of a matrix of this shape; None if its rows are not a whole number of blocks."""
    gguf = _package(None)
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return None if shape[-1] % block else (*shape[:-1], shape[-1] // block * size)


def write_gguf(
    path: Path,
    architecture: str,
    planned: Mapping[str, tuple[tuple[int, ...], str]],
    tensors: Iterable[Tensor],
    texts: Mapping[str, str],
) -> None:
    """One GGUF of what `planned` says, {name: (shape in the file, type)}, and `tensors` yields in that order: beside
    its place, then renamed. bfloat16 goes in as it is, packed tensors as uint8. Raises DependencyMissing."""
    import numpy as np

    gguf = _package(None)
    with write_atomically(path) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        for key, text in texts.items():
            writer.add_string(key, text)
        for name, (shape, kind) in planned.items():
            wide = PLAIN.get(kind)
            held = shape if wide is None else (*shape[:-1], shape[-1] * wide.itemsize)
            writer.add_tensor_info(
                name, held, np.dtype(np.uint8), int(np.prod(held)), gguf.GGMLQuantizationType[kind]
            )
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in tensors:
                writer.write_tensor_data(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        finally:
            writer.close()


def _package(file: Path | None) -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        what = f"{file.name} is a GGUF file, which" if file else "a GGUF file"
        raise DependencyMissing(
            f'{what} needs the gguf package: "{sys.executable}" -m pip install gguf'
        ) from error
    return gguf
