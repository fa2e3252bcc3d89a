"""Writes weight files: one .safetensors, or a released folder of shards with its index.

Streams, so that it takes the memory of one tensor, and writes all or nothing.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidRequest
from ..files import write_atomically
from .reading import NAMES_OF_DTYPES

SHARD_BYTES = 10 * 1000**3  # the released transformer comes as one shard of 10 GB and the rest
Planned = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
Read = Callable[[Iterable[str]], Iterator[Tensor]]
"""Yields the tensors of these names, one at a time and in their order."""


def write_file(path: Path, planned: Planned, read: Read, metadata: Mapping[str, str]) -> None:
    """One .safetensors of what `planned` says, {name: (shape, dtype)}: written beside its place, then renamed."""
    # Widest first, as the library does it, so that every tensor is aligned to its own elements.
    planned = dict(sorted(planned.items(), key=lambda item: -item[1][1].itemsize))
    with write_atomically(path) as temporary, open(temporary, "wb") as out:
        out.write(_header(planned, metadata))
        for tensor in read(planned):
            out.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def write_folder(folder: Path, stem: str, planned: Planned, read: Read, config: Mapping[str, Any]) -> Path:
    """A folder in the released layout: config.json, shards of at most SHARD_BYTES, their index; returns the index.

    The folder has to be new or empty, so that no shard of another model stays between these. The index is
    written last; if anything fails before, nothing is left.
    """
    if os.path.isdir(folder) and any(folder.iterdir()):
        raise InvalidRequest(f"the folder {folder} is not empty: choose a new one")
    groups = _split(planned)
    index = folder / f"{stem}.safetensors.index.json"
    weight_map: dict[str, str] = {}
    with write_atomically(index) as temporary, ExitStack() as undo:
        for number, group in enumerate(groups, 1):
            file = folder / f"{stem}-{number:05}-of-{len(groups):05}.safetensors"
            write_file(file, group, read, {"format": "pt"})
            undo.callback(file.unlink)
            weight_map |= dict.fromkeys(group, file.name)
        if config:
            with write_atomically(folder / "config.json") as beside:
                beside.write_bytes(_json(config))
            undo.callback((folder / "config.json").unlink)
        total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in planned.values())
        temporary.write_bytes(_json({"metadata": {"total_size": total}, "weight_map": weight_map}))
        undo.pop_all()  # complete: keep it
    return index


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _header(planned: Planned, metadata: Mapping[str, str]) -> bytes:
    """The safetensors header: 8 bytes of its length, then JSON padded with spaces to a multiple of 8."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (shape, dtype) in planned.items():
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES_OF_DTYPES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _split(planned: Planned) -> list[dict[str, tuple[tuple[int, ...], torch.dtype]]]:
    """Consecutive groups of at most SHARD_BYTES each."""
    groups: list[dict[str, tuple[tuple[int, ...], torch.dtype]]] = [{}]
    filled = 0
    for name, (shape, dtype) in planned.items():
        size = math.prod(shape) * dtype.itemsize
        if groups[-1] and filled + size > SHARD_BYTES:
            groups.append({})
            filled = 0
        groups[-1][name] = shape, dtype
        filled += size
    return groups
